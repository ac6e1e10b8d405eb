"""What the generation before knew: unchanged users keep their times, changed ones get a new lastModified.

`meta.lastModified` is when *we* first published this content, never a time of the database: a row
committed before an import but published after it would else be lost for ever.
"""

from __future__ import annotations

import contextlib
import time
from enum import IntEnum
from typing import TYPE_CHECKING

from snapshot.errors import StoreError
from snapshot.scim import USER
from snapshot.store import GENERATIONS, generation_directory, list_numbers, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snapshot.lookup import Known
    from snapshot.previous import Previous

# How far ahead the sequential walk may skip (removed users) before a look-up by id is cheaper.
_MAX_SKIPPED = 64

# A slow disk and a slow processor; twice, for the writer and the server.
_CHECKED_BYTES_PER_SECOND = 100e6


def publication_ms(data_dir: Path) -> int:
    """Return the time of the generation to be published, in ms since 1970: now, but later than each before.

    Times grow over generations even when the clock of the machine steps back, or the newest one is damaged.
    """
    now = time.time_ns() // 1_000_000
    known = [now - 1]
    for number in list_numbers(data_dir / GENERATIONS):
        with contextlib.suppress(StoreError):
            known.append(read_manifest(generation_directory(data_dir, number)).created_ms)
    return max(known) + 1


def stamp_ms(data_dir: Path, *, body_bytes: int, poll_seconds: float) -> int:
    """Return the time to stamp on new and changed users: when the last import that misses them can have begun.

    Between the stamp and the moment when the server serves the generation lie checksums, the publish, a
    poll of the server and its checksums. An incremental import that begins in that time sees the old generation
    and later asks for what is newer than itself, so the stamp lies ahead of the clock by as much. An import
    right after the swap may get these users a second time, which is harmless.
    """
    ahead_seconds = 2 * poll_seconds + 2 * body_bytes / _CHECKED_BYTES_PER_SECOND
    return publication_ms(data_dir) + int(ahead_seconds * 1000)


class Seen(IntEnum):
    """What this refresh has seen of a user of the generation before."""

    NOTHING = 0
    REJECT = 1
    ROW = 2


class History:
    """Answers, user by user, what the generation before knew, and remembers who has been asked for.

    Users mostly come in the same order as last time, so the answer is usually the next row of a
    sequential walk; only otherwise is it looked up by id.
    """

    def __init__(self, previous: Previous | None, moment_ms: int, resource_type: str = USER) -> None:
        known = previous.count(resource_type) if previous else 0
        # An older generation may hold no resource of this type, and its index no table of them.
        self._index = previous.index if previous and known else None
        self._resource_type = resource_type
        self._moment_ms = moment_ms
        self._is_stale = previous is not None and previous.is_stale
        self._walk: Iterator[Known] = iter(())
        self._next: Known | None = None
        # One byte a user of the generation before, by ordinal.
        self._seen = bytearray(known)
        if self._index is not None:
            self._walk = self._index.every(resource_type)
            self._advance()

    def _advance(self) -> None:
        self._next = next(self._walk, None)

    def times(self, resource_id: str, fingerprint: bytes) -> tuple[int, int]:
        """Return (created ms, last_modified ms): the old ones if the content is what it was."""
        known = self._known(resource_id) if self._index is not None else None
        if known is None:
            return self._moment_ms, self._moment_ms
        ordinal, _, old_fingerprint, created, modified, _, removed = known
        self._seen[ordinal] = Seen.ROW
        # Somebody who had no row and has one again is told of, whatever the content.
        same = old_fingerprint == fingerprint and removed is None and not self._is_stale
        return created, modified if same else self._moment_ms

    def note_reject(self, resource_id: str, *, lost_row: bool = False) -> None:
        """Note that a row of this user was rejected; `lost_row`: after `times` had been asked for it."""
        known = self._index.known(resource_id, self._resource_type) if self._index is not None else None
        if known is not None and (lost_row or self._seen[known[0]] == Seen.NOTHING):
            self._seen[known[0]] = Seen.REJECT

    def rowless(self) -> Iterator[tuple[int, Seen]]:
        """Yield (ordinal, NOTHING or REJECT) of each user of the generation before that no accepted row stands for."""
        for ordinal, seen in enumerate(self._seen):
            if seen != Seen.ROW:
                yield ordinal, Seen(seen)

    def _known(self, resource_id: str) -> Known | None:
        ahead = self._next
        if ahead is not None and ahead[1] == resource_id:
            self._advance()
            return ahead
        assert self._index is not None  # noqa: S101 (for the type checker; times() checked it)
        found = self._index.known(resource_id, self._resource_type)
        if found is not None and ahead is not None and 0 < found[0] - ahead[0] <= _MAX_SKIPPED:
            for _ in range(found[0] - ahead[0] + 1):
                self._advance()
        return found
