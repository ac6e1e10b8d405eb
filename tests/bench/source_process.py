"""The process that stands in for SQL Server, and the bare loop that reads from it."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import people
import trustme
from place import ENVIRONMENT, HERE, Place, python

if TYPE_CHECKING:
    from types import TracebackType

# The product's own default of source.fetch_rows.
_FETCH_ROWS = 2000


@dataclass(frozen=True, slots=True)
class BareLoop:
    """Seconds of a bare loop: of connecting and reading, and of the whole command."""

    seconds: float
    command_seconds: float


class Source:
    """`source.py` with the rows of one size, as a context manager."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __enter__(self) -> Self:
        folder = self._place.folder
        rows = people.prepare(folder, self._place.count)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        pem = folder / "server.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
        self._process = subprocess.Popen(
            python(HERE / "source.py", rows, pem),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self.port = int(self._output.readline())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._input.close()
        self._process.wait(30)
        self._output.close()

    def change(self, count: int) -> int:
        """Change so many people; return how many were changed."""
        self._input.write(f"change {count}\n")
        self._input.flush()
        return int(self._output.readline())

    def bare_command(self) -> list[str]:
        """Return the command of the bare loop."""
        ca = self._place.folder / "ca.pem"
        return python(HERE / "bare_loop.py", "localhost", self.port, ca, people.QUERY, _FETCH_ROWS)

    def bare_loop(self) -> BareLoop:
        """Read everything and throw it away."""
        began = time.perf_counter()
        output = subprocess.run(self.bare_command(), env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout
        command_seconds = time.perf_counter() - began
        rows, seconds = output.split()
        if int(rows) != self._place.count:
            raise SystemExit(f"the bare loop read {rows} rows of {self._place.count}")
        return BareLoop(float(seconds), command_seconds)
