"""LiveSnapshot: watches CURRENT, opens a newer generation off the loop, swaps it in by one assignment.

Knows nothing of HTTP. A failed open is noted, logged once a generation and tried again with growing
pauses; what is served stays. The last request that holds an old snapshot frees it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.served import Note, Served, ServedFile, read_served, write_served
from snapshot.control import SchedulerStatus, read_status
from snapshot.errors import CorruptGenerationError, NoSnapshotError, SnapshotError, StoreError
from snapshot.logs import now_text
from snapshot.reader import Snapshot, open_previous_good, open_snapshot
from snapshot.store import (
    CURRENT,
    GENERATIONS,
    list_numbers,
    quarantine_directory,
    read_current,
    read_manifest,
    waiting_numbers,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 2.0
_LAST_RETRY_SECONDS = 60.0
# The first publication gives a generation its number a moment before CURRENT names it.
_PUBLICATION_SECONDS = 2.0


def list_generations(data_dir: Path) -> list[int]:
    """Return the numbers of the published generations, ascending; none if they cannot be listed."""
    try:
        return list_numbers(data_dir / GENERATIONS)
    except OSError:
        return []


def read_refused(data_dir: Path, number: int) -> tuple[str, ...] | None:
    """Return why the guard refused a generation; None if that cannot be read."""
    try:
        return read_manifest(quarantine_directory(data_dir, number)).refused
    except StoreError:
        return None


@dataclass(frozen=True, slots=True)
class Folder:
    """How the data folder is read; tests put fakes here. Every function blocks."""

    read_current: Callable[[Path], int | None] = read_current
    open_newest: Callable[[Path], Snapshot] = open_snapshot
    open_previous: Callable[[Path, int], Snapshot | None] = open_previous_good
    read_status: Callable[[Path], SchedulerStatus | None] = read_status
    list_generations: Callable[[Path], list[int]] = list_generations
    waiting_numbers: Callable[[Path], list[int]] = waiting_numbers
    read_refused: Callable[[Path, int], tuple[str, ...] | None] = read_refused
    read_served: Callable[[Path], tuple[Note, ...]] = read_served
    write_served: Callable[[Path, tuple[Note, ...]], None] = write_served


@dataclass(frozen=True, slots=True)
class FailedOpen:
    """The newest generation cannot be opened. For administrators only: holds paths."""

    generation: int | None
    at: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A generation in quarantine, newer than the published ones; `refused` is None while that cannot be read."""

    generation: int
    refused: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one look at the folder found: the number in CURRENT, or why it cannot be read.

    `lost`: CURRENT names nothing although generations are there.
    """

    number: int | None
    lost: bool
    error: SnapshotError | None
    scheduler: SchedulerStatus | None
    waiting: tuple[Waiting, ...]


def _older(number: int, served: int) -> StoreError:
    return StoreError(
        f"CURRENT names generation {number}, older than generation {served}, which is being served.",
        remedy="If the data folder was made anew or brought back from a backup, restart the server.",
    )


class LiveSnapshot:
    """The newest snapshot, or None before the first one, what waits in quarantine, the scheduler's last word."""

    def __init__(
        self,
        data_dir: Path,
        *,
        folder: Folder | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.data_dir = data_dir
        self.current: Snapshot | None = None
        self.scheduler: SchedulerStatus | None = None
        self.failed: FailedOpen | None = None
        self.waiting: tuple[Waiting, ...] = ()
        self.swaps = 0
        self.swapped_at = ""
        self._folder = folder or Folder()
        self._wall_clock = wall_clock
        self._served_file = ServedFile(data_dir, self._folder.read_served, self._folder.write_served)
        self.served = Served()
        self._clock = clock
        self._pause_seconds = _FIRST_RETRY_SECONDS
        self._retry_at = 0.0
        self._lost_at: float | None = None
        self._told_waiting = 0

    @property
    def serves_previous(self) -> bool:
        """Whether another generation is served than the one that CURRENT names, or should name."""
        return self.current is not None and self.failed is not None

    async def poll(self) -> None:
        """Look once; open and swap if there is a newer generation. Never raises for what it finds."""
        if not self._served_file.was_read:
            self.served = await asyncio.to_thread(self._served_file.read)
        self.served.see(self._now_ms())
        await self._follow()
        if not self._served_file.is_current:
            await asyncio.to_thread(self._served_file.write, self.served)

    async def _follow(self) -> None:
        try:
            seen = await asyncio.to_thread(self._look)
        except Exception:
            log.exception("poll failed")
            return
        self.scheduler = seen.scheduler
        self._note_waiting(seen.waiting)
        if seen.lost:
            await self._miss_current()
            return
        self._lost_at = None
        if seen.error is not None:
            await self._do_without_current(seen.error)
            return
        number = seen.number
        if not number:
            return
        if self.current is not None and number <= self.current.generation:
            if number == self.current.generation:
                self._note_success()
            elif self.failed is None or self.failed.generation != number:
                self._note_failure(number, _older(number, self.current.generation))
            return
        if self.failed is not None and self.failed.generation == number and self._clock() < self._retry_at:
            return
        await self._open(number)

    def _look(self) -> _Seen:
        """Read the folder's small files; runs in a thread."""
        number: int | None = None
        error: SnapshotError | None = None
        try:
            number = self._folder.read_current(self.data_dir)
        except SnapshotError as caught:
            error = caught
        served = self.current.generation if self.current is not None else 0
        named = bool(number) or error is not None
        there = [] if named else self._folder.list_generations(self.data_dir)
        return _Seen(
            number,
            not named and bool(there or served),
            error,
            self._folder.read_status(self.data_dir),
            self._look_for_waiting(max(number or 0, served, *there)),
        )

    def _look_for_waiting(self, published: int) -> tuple[Waiting, ...]:
        """Read why each newer generation was refused; what is known is not read again, for it never changes."""
        try:
            numbers = self._folder.waiting_numbers(self.data_dir)
        except (OSError, StoreError):
            return self.waiting
        known = {item.generation: item for item in self.waiting if item.refused is not None}
        newer = [number for number in numbers if number > published]
        return tuple(
            known.get(number) or Waiting(number, self._folder.read_refused(self.data_dir, number)) for number in newer
        )

    def _note_waiting(self, waiting: tuple[Waiting, ...]) -> None:
        self.waiting = waiting
        for item in waiting:
            if item.generation > self._told_waiting:  # numbers only grow
                self._told_waiting = item.generation
                facts = {"generation": item.generation, "refused": item.refused}
                log.warning("a generation waits in quarantine", extra={"facts": facts})

    async def _miss_current(self) -> None:
        """CURRENT is missing or 0 though something has been published: damage, unless it is about to be written."""
        if self._lost_at is None:
            self._lost_at = self._clock()
        if self._clock() - self._lost_at >= _PUBLICATION_SECONDS:
            error = CorruptGenerationError(self.data_dir / CURRENT, "it is missing or 0, but generations are there")
            await self._do_without_current(error)

    async def _do_without_current(self, error: SnapshotError) -> None:
        """CURRENT holds no number: what is served stays; at the start the newest good generation is served."""
        known = self.failed
        again = known is not None and (known.generation, known.cause) == (None, error.cause)
        if again and self._clock() < self._retry_at:
            return
        self._note_failure(None, error)
        if self.current is None:
            await self._fall_back(sys.maxsize)

    async def _open(self, number: int) -> None:
        started = self._clock()
        try:
            opened = await asyncio.to_thread(self._folder.open_newest, self.data_dir)
        except NoSnapshotError:
            return
        except StoreError as error:
            self._note_failure(number, error)
            if self.current is None:
                # An older one has been published; one above CURRENT was about to be.
                await self._fall_back(number)
            if self.current is None:
                await self._fall_back(sys.maxsize)
            return
        except Exception as error:
            log.exception("open failed", extra={"facts": {"generation": number}})
            self._note_failure(number, StoreError(f"{type(error).__name__} while opening generation {number}."))
            return
        if self.current is None or opened.generation > self.current.generation:
            self._swap(opened, self._clock() - started)
        self._note_success()

    async def _fall_back(self, before: int) -> None:
        """Serve the newest good generation below a number: better yesterday's people than none."""
        started = self._clock()
        try:
            opened = await asyncio.to_thread(self._folder.open_previous, self.data_dir, before)
        except Exception:  # whatever it is, the watch goes on
            log.exception("fall back failed")
            return
        if opened is not None:
            self._swap(opened, self._clock() - started)

    def note_older(self, snapshot: Snapshot) -> None:
        """Note that an import has begun a list on a generation older than the one being served."""
        if self.current is None:
            return
        created_ms, current_ms = snapshot.manifest.created_ms, self.current.manifest.created_ms
        if self.served.note_older(created_ms, current_ms, self._now_ms()):
            self._served_file.is_current = False  # until the next poll: requests do not wait for the disk

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)

    def _swap(self, opened: Snapshot, seconds: float) -> None:
        previous = self.current.generation if self.current else None
        self.current = opened
        # After it is served: who takes the time before that may still be answered from the one before.
        if self.served.note(opened.manifest.created_ms, self._now_ms()):
            self._served_file.is_current = False
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
