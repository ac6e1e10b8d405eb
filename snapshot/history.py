"""What the generation before knew: unchanged users keep their times, changed ones get a new lastModified.

`meta.lastModified` is when *we* first published this content, never a time of the database: a row
committed before an import but published after it would else be lost for ever.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import islice
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
    # Not ahead of the generation before: the times of refreshes in quick succession would run away from the clock.
    return max(time.time_ns() // 1_000_000 + int(ahead_seconds * 1000), publication_ms(data_dir))


class Seen(IntEnum):
    """What this refresh has seen of a user of the generation before."""

    NOTHING = 0
    REJECT = 1
    ROW = 2


@dataclass(frozen=True, slots=True)
class Times:
    """created and last_modified of many users, in ms.

    `known_from`: they are, one after the other, those of the generation before from this ordinal on; None if they are
    not. `same` tells of whom it said the same.
    """

    created: list[int]
    modified: list[int]
    known_from: int | None = None
    same: list[bool] = field(default_factory=list)


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
        # Those of the walk that were looked at and not passed yet.
        self._ahead: deque[Known] = deque()
        # One byte a user of the generation before, by ordinal.
        self._seen = bytearray(known)
        if self._index is not None:
            self._walk = self._index.every(resource_type)

    def _look_ahead(self, count: int) -> None:
        """Take users of the generation before from the walk until there are `count` ahead, or no more."""
        self._ahead.extend(islice(self._walk, max(count - len(self._ahead), 0)))

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

    def times_of_block(self, ids: list[str], fingerprints: list[bytes]) -> Times:
        """Return the same for many users, quickly if they come in the order of last time."""
        known = self._in_step(ids)
        if known is None:
            times = [self.times(*pair) for pair in zip(ids, fingerprints, strict=True)]
            return Times([created for created, _ in times], [modified for _, modified in times])
        first = known[0][0]
        self._seen[first : first + len(known)] = bytes([Seen.ROW]) * len(known)
        created = [item[3] for item in known]
        removed = any(item[6] is not None for item in known)
        if [item[2] for item in known] == fingerprints and not removed and not self._is_stale:
            return Times(created, [item[4] for item in known], first, [True] * len(known))
        same = [
            item[2] == fingerprint and item[6] is None and not self._is_stale
            for item, fingerprint in zip(known, fingerprints, strict=True)
        ]
        modified = [item[4] if is_same else self._moment_ms for item, is_same in zip(known, same, strict=True)]
        return Times(created, modified, first, same)

    def _in_step(self, ids: list[str]) -> list[Known] | None:
        """Return what is known of these users, if they are the next ones of the walk."""
        if self._index is None:
            return None
        self._look_ahead(len(ids))
        known = list(islice(self._ahead, len(ids)))
        if [item[1] for item in known] != ids:
            return None
        for _ in known:
            self._ahead.popleft()
        return known

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
        self._look_ahead(1)
        ahead = self._ahead[0] if self._ahead else None
        if ahead is not None and ahead[1] == resource_id:
            return self._ahead.popleft()
        assert self._index is not None  # noqa: S101 (for the type checker; times() checked it)
        found = self._index.known(resource_id, self._resource_type)
        if found is not None and ahead is not None and 0 < found[0] - ahead[0] <= _MAX_SKIPPED:
            skipped = found[0] - ahead[0] + 1
            self._look_ahead(skipped)
            for _ in range(skipped):
                self._ahead.popleft()
        return found
