"""LiveSnapshot: watches CURRENT, opens a newer generation off the loop, swaps it in by one assignment.

Knows nothing of HTTP. A failed open is noted, logged once a generation and tried again with growing
pauses; what is served stays. The last request that holds an old snapshot frees it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snapshot.control import SchedulerStatus, read_status
from snapshot.errors import NoSnapshotError, SnapshotError, StoreError
from snapshot.logs import now_text
from snapshot.reader import Snapshot, open_previous_good, open_snapshot
from snapshot.store import read_current

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 2.0
_LAST_RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Folder:
    """How the data folder is read; tests put fakes here. Every function blocks."""

    read_current: Callable[[Path], int | None] = read_current
    open_newest: Callable[[Path], Snapshot] = open_snapshot
    open_previous: Callable[[Path, int], Snapshot | None] = open_previous_good
    read_status: Callable[[Path], SchedulerStatus | None] = read_status


@dataclass(frozen=True, slots=True)
class FailedOpen:
    """The newest generation cannot be opened. For administrators only: holds paths."""

    generation: int | None
    at: str
    cause: str
    remedy: str


class LiveSnapshot:
    """The newest snapshot, or None before the first one, and the scheduler's last word."""

    def __init__(
        self,
        data_dir: Path,
        *,
        folder: Folder | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.data_dir = data_dir
        self.current: Snapshot | None = None
        self.scheduler: SchedulerStatus | None = None
        self.failed: FailedOpen | None = None
        self.swaps = 0
        self.swapped_at = ""
        self._folder = folder or Folder()
        self._clock = clock
        self._pause_seconds = _FIRST_RETRY_SECONDS
        self._retry_at = 0.0

    async def poll(self) -> None:
        """Look once; open and swap if there is a newer generation. Never raises for what it finds."""
        try:
            number, self.scheduler = await asyncio.to_thread(self._look)
        except SnapshotError as error:
            self._note_failure(None, error)
            return
        except Exception:
            log.exception("poll failed")
            return
        if number is None:
            return
        if self.current is not None and number <= self.current.generation:
            if number == self.current.generation:
                self._note_success()
            return
        if self.failed is not None and self.failed.generation == number and self._clock() < self._retry_at:
            return
        await self._open(number)

    def _look(self) -> tuple[int | None, SchedulerStatus | None]:
        return self._folder.read_current(self.data_dir), self._folder.read_status(self.data_dir)

    async def _open(self, number: int) -> None:
        started = self._clock()
        try:
            opened = await asyncio.to_thread(self._folder.open_newest, self.data_dir)
        except NoSnapshotError:
            return
        except StoreError as error:
            self._note_failure(number, error)
            if self.current is None:
                await self._fall_back(number)
            return
        except Exception as error:
            log.exception("open failed", extra={"facts": {"generation": number}})
            self._note_failure(number, StoreError(f"{type(error).__name__} while opening generation {number}."))
            return
        if self.current is None or opened.generation > self.current.generation:
            self._swap(opened, self._clock() - started)
        self._note_success()

    async def _fall_back(self, number: int) -> None:
        """Serve the newest good generation before a broken one: better yesterday's people than none."""
        started = self._clock()
        opened = await asyncio.to_thread(self._folder.open_previous, self.data_dir, number)
        if opened is not None:
            self._swap(opened, self._clock() - started)

    def _swap(self, opened: Snapshot, seconds: float) -> None:
        previous = self.current.generation if self.current else None
        self.current = opened
        self.swaps += 1
        self.swapped_at = now_text()
        counts = {name: facts.count for name, facts in opened.manifest.resource_types.items()}
        facts = {
            "generation": opened.generation,
            "previous": previous,
            **counts,
            "seconds": round(seconds, 3),
        }
        log.info("swapped", extra={"facts": facts})

    def _note_success(self) -> None:
        """Note that what CURRENT names is what is served."""
        self.failed = None
        self._pause_seconds = _FIRST_RETRY_SECONDS

    def _note_failure(self, number: int | None, error: SnapshotError) -> None:
        known = self.failed
        if known is None or (known.generation, known.cause) != (number, error.cause):
            serving = self.current.generation if self.current else None
            facts = {"generation": number, "serving": serving, "cause": error.cause, "remedy": error.remedy}
            log.error("generation cannot be opened", extra={"facts": facts})
            self.failed = FailedOpen(generation=number, at=now_text(), cause=error.cause, remedy=error.remedy)
            if known is None or known.generation != number:
                self._pause_seconds = _FIRST_RETRY_SECONDS
        self._retry_at = self._clock() + self._pause_seconds
        self._pause_seconds = min(self._pause_seconds * 2, _LAST_RETRY_SECONDS)
