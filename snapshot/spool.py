"""Keep what does not fit into memory on disk, in order, for a second pass."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Spool:
    """A file of batches, written and then read again by the same process; a context manager that removes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        """Open the file."""
        self._file = self._path.open("wb+")
        return self

    def __exit__(self, *_exception: object) -> None:
        """Remove the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def add(self, batch: list[Any]) -> None:
        """Append one batch."""
        pickle.dump(batch, self._file, protocol=pickle.HIGHEST_PROTOCOL)

    def __iter__(self) -> Iterator[list[Any]]:
        """Yield every batch, in order."""
        self._file.seek(0)
        while True:
            try:
                yield pickle.load(self._file)  # noqa: S301 (this process has written it)
            except EOFError:
                return
