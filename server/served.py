"""Served: since when which generation has been served, in memory and in the data folder.

The time stamped on new content lies ahead of the clock by a guess of how long it takes until the server serves it. The
server may be later than that: paused, unable to open the newest generation, started on an older one. Who began an
incremental import then was answered from the older generation, and asks next for what is newer than that instant. So
the server remembers what it served when, and answers from there.
"""

from __future__ import annotations

import contextlib
import logging
from bisect import bisect_right
from typing import TYPE_CHECKING

import msgspec

from snapshot.store import SERVED, replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

log = logging.getLogger(__name__)

# Three weeks of a generation each half an hour; some fifty bytes each.
_LIMIT = 1000
_MAX_BYTES = 1_000_000
# The end of the year 9999: no date is later.
_LATEST_MS = 253_402_300_799_999
_MICROSECONDS = 1000


class Note(msgspec.Struct, frozen=True, gc=False):
    """From this instant on (ms since 1970) nothing older was served than the generation published at `created_ms`."""

    at_ms: int
    created_ms: int


class Served:
    """The notes, both times strictly growing from one to the next: a later one never says less than an earlier one.

    Not to be used by two threads at once, but for `bound`.
    """

    def __init__(self, notes: Iterable[Note] = ()) -> None:
        self._notes: tuple[Note, ...] = ()
        self._latest_ms = 0
        for note in notes:
            known = self._notes[-1] if self._notes else Note(-1, -1)
            if known.at_ms < note.at_ms <= _LATEST_MS and known.created_ms < note.created_ms <= _LATEST_MS:
                self._notes = (*self._notes, note)

    @property
    def notes(self) -> tuple[Note, ...]:
        """Return the newest notes, oldest first."""
        return self._notes

    def see(self, now_ms: int) -> int:
        """Note what the clock says; return the latest that it ever said here: a clock may step back."""
        self._latest_ms = max(self._latest_ms, now_ms)
        return self._latest_ms

    def note(self, created_ms: int, now_ms: int) -> bool:
        """Note that from now on the generation published at `created_ms` is served; return whether that is news.

        An older one than before may be served again. Nobody knows which of the two an import was answered from that
        began before: it counts as the older one.
        """
        # Whoever takes the time in the same millisecond may still be answered from the one before.
        kept = list(self._notes)
        at_ms = self.see(now_ms) + bool(kept)
        while kept and kept[-1].created_ms > created_ms:
            at_ms = min(at_ms, kept.pop().at_ms)
        if kept and kept[-1].created_ms == created_ms:
            changed = len(kept) != len(self._notes)
        else:
            # Notes of a process whose clock was ahead of this one.
            at_ms = max([at_ms, *(note.at_ms for note in kept[-1:])])
            kept = [note for note in kept if note.at_ms < at_ms]
            kept.append(Note(at_ms, created_ms))
            changed = True
        self._notes = tuple(kept[-_LIMIT:])
        return changed

    def note_older(self, created_ms: int, current_ms: int, now_ms: int) -> bool:
        """Note that an import has begun a list now on an older generation than the one being served."""
        if created_ms >= current_ms:
            return False
        self.note(created_ms, now_ms)
        self.note(current_ms, now_ms)
        return True

    def bound(self, instant: int) -> int:
        """Return the instant after which is what an import that began at `instant` may have missed; both in µs.

        Nothing is known of the time before the first note: the instant itself.
        """
        notes = self._notes
        place = bisect_right(notes, instant, key=lambda note: note.at_ms * _MICROSECONDS)
        return min(instant, notes[place - 1].created_ms * _MICROSECONDS) if place else instant


def read_served(data_dir: Path) -> tuple[Note, ...]:
    """Read the notes of the data folder; a line that is none is left out. Raises OSError."""
    try:
        with (data_dir / SERVED).open("rb") as file:
            lines = file.read(_MAX_BYTES).splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    found = []
    for line in lines:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            found.append(msgspec.json.decode(line, type=Note))
    return tuple(found)


def write_served(data_dir: Path, notes: tuple[Note, ...]) -> None:
    """Replace the notes of the data folder in one step. Raises OSError."""
    replace_file(data_dir / SERVED, b"".join(msgspec.json.encode(note) + b"\n" for note in notes))


class ServedFile:
    """The notes as the data folder keeps them. What goes wrong is told once and harms nothing: people are served.

    `is_current` is False while the file lacks something; whoever writes it tries again. Blocking.
    """

    def __init__(
        self,
        data_dir: Path,
        read: Callable[[Path], tuple[Note, ...]] = read_served,
        write: Callable[[Path, tuple[Note, ...]], None] = write_served,
    ) -> None:
        self._data_dir = data_dir
        self._read = read
        self._write = write
        self._told = False
        self.was_read = False
        self.is_current = True

    def read(self) -> Served:
        """Return what an earlier process noted of what it served."""
        self.was_read = True
        try:
            return Served(self._read(self._data_dir))
        except OSError as error:
            self._tell("it cannot be read", error)
            return Served()

    def write(self, served: Served) -> None:
        """Write the notes for a process after this one."""
        self.is_current = True  # before the notes are taken: more may come while they are written
        try:
            self._write(self._data_dir, served.notes)
        except OSError as error:
            self.is_current = False
            self._tell("it cannot be written", error)
            return
        self._told = False

    def _tell(self, what: str, error: OSError) -> None:
        if not self._told:
            self._told = True
            cause = f"{what}: {error.strerror or type(error).__name__}"
            facts = {"file": str(self._data_dir / SERVED), "cause": cause}
            log.warning("what was served when is not kept", extra={"facts": facts})
