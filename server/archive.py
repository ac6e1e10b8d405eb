"""Archive: older generations that are still on disk, opened when a cursor names them.

Checked like any, off the loop, one at a time. Few are held, and none for long: Windows cannot delete a folder whose
files are mapped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snapshot.errors import StoreError
from snapshot.reader import open_generation
from snapshot.store import generation_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from snapshot.reader import Snapshot

log = logging.getLogger(__name__)

_LIMIT = 2
_IDLE_SECONDS = 60.0


@dataclass(slots=True)
class _Held:
    snapshot: Snapshot
    used_at: float


class Archive:
    """The snapshots of older generations that cursors have asked for lately."""

    def __init__(
        self,
        data_dir: Path,
        *,
        open_generation: Callable[[Path], Snapshot] = open_generation,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._data_dir = data_dir
        self._open_generation = open_generation
        self._clock = clock
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._opening = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._held)

    async def get(self, generation: int) -> Snapshot | None:
        """Return an older generation; None if it was pruned or cannot be opened."""
        if (found := self._find(generation)) is not None:
            return found
        async with self._opening:
            if (found := self._find(generation)) is not None:
                return found
            opened = await asyncio.to_thread(self._open, generation)
            if opened is not None:
                self._held[generation] = _Held(opened, self._clock())
                if len(self._held) > _LIMIT:
                    self._held.popitem(last=False)
            return opened

    def expire(self) -> None:
        """Let go of what no cursor asked for lately; the last request that uses a snapshot frees it."""
        oldest = self._clock() - _IDLE_SECONDS
        for generation in [number for number, held in self._held.items() if held.used_at <= oldest]:
            del self._held[generation]

    def _find(self, generation: int) -> Snapshot | None:
        held = self._held.get(generation)
        if held is None:
            return None
        held.used_at = self._clock()
        self._held.move_to_end(generation)
        return held.snapshot

    def _open(self, generation: int) -> Snapshot | None:
        directory = generation_directory(self._data_dir, generation)
        if not directory.is_dir():
            return None
        try:
            return self._open_generation(directory)
        except StoreError as error:
            if directory.is_dir():  # not pruned meanwhile: it is damaged
                facts = {"generation": generation, "cause": error.cause, "remedy": error.remedy}
                log.warning("older generation cannot be opened", extra={"facts": facts})
            return None
