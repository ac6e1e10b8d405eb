"""What the generation before knew: unchanged users keep their times, changed ones get a new lastModified.

`meta.lastModified` is when *we* first published this content, never a time of the database: a row
committed before an import but published after it would else be lost for ever.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

from snapshot.errors import CorruptGenerationError
from snapshot.index import NAME as INDEX_NAME
from snapshot.scim import USER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snapshot.reader import Snapshot

# How far ahead the sequential walk may skip (removed users) before a look-up by id is cheaper.
_MAX_SKIPPED = 64

# A slow disk and a slow processor; twice, for the writer and the server.
_CHECKED_BYTES_PER_SECOND = 100e6

ADDED, CHANGED, DEACTIVATED, REMOVED = "added", "changed", "deactivated", "removed"


def publication_ms(previous: Snapshot | None) -> int:
    """Return the time of the generation to be published, in ms since 1970: now, but later than the one before.

    Times grow over generations even when the clock of the machine steps back.
    """
    now = time.time_ns() // 1_000_000
    return now if previous is None else max(now, previous.manifest.created_ms + 1)


def stamp_ms(previous: Snapshot, *, body_bytes: int, poll_seconds: float) -> int:
    """Return the time to stamp on new and changed users: when the last import that misses them can have begun.

    Between the stamp and the moment when the server serves the generation lie checksums, the publish, a
    poll of the server and its checksums. An incremental import that begins in that time sees the old generation
    and later asks for what is newer than itself, so the stamp lies ahead of the clock by as much. An import
    right after the swap may get these users a second time, which is harmless.
    """
    ahead_seconds = 2 * poll_seconds + 2 * body_bytes / _CHECKED_BYTES_PER_SECOND
    return publication_ms(previous) + int(ahead_seconds * 1000)


class History:
    """Answers, user by user, what the generation before knew.

    Users mostly come in the same order as last time, so the answer is usually the next row of a
    sequential walk; only otherwise is it looked up by id.
    """

    def __init__(self, previous: Snapshot | None, moment_ms: int) -> None:
        self._index = previous.index if previous else None
        self._moment_ms = moment_ms
        self._walk: Iterator[tuple[int, str, bytes, int, int, int]] = iter(())
        self._next: tuple[int, str, bytes, int, int, int] | None = None
        if self._index is not None:
            self._walk = self._index.every()
            self._advance()

    def _advance(self) -> None:
        self._next = next(self._walk, None)

    def times(self, resource_id: str, fingerprint: bytes) -> tuple[int, int]:
        """Return (created ms, last_modified ms): the old ones if the content is what it was."""
        known = self._known(resource_id) if self._index is not None else None
        if known is None:
            return self._moment_ms, self._moment_ms
        old_fingerprint, created, modified, _ = known
        return created, modified if old_fingerprint == fingerprint else self._moment_ms

    def _known(self, resource_id: str) -> tuple[bytes, int, int, int] | None:
        ahead = self._next
        if ahead is not None and ahead[1] == resource_id:
            self._advance()
            return ahead[2:]
        assert self._index is not None  # noqa: S101 (for the type checker; times() checked it)
        found = self._index.known(resource_id)
        if found is None:
            return None
        if ahead is not None and 0 < found[0] - ahead[0] <= _MAX_SKIPPED:
            for _ in range(found[0] - ahead[0] + 1):
                self._advance()
        return found[1:]


_NEW_OR_CHANGED = """
    SELECT n.id,
        CASE WHEN o.id IS NULL THEN 'added' WHEN o.active AND NOT n.active THEN 'deactivated' ELSE 'changed' END
    FROM new.User AS n LEFT JOIN main.User AS o ON o.id = n.id WHERE n.last_modified = ?
    ORDER BY n.ordinal
"""
_REMOVED = """
    SELECT id FROM main.User AS o WHERE NOT EXISTS (SELECT 1 FROM new.User WHERE id = o.id) ORDER BY ordinal
"""


def changes(previous: Snapshot, new_index: Path, moment_ms: int) -> Iterator[tuple[str, str]]:
    """Yield (id, added | changed | deactivated | removed) of a finished index against the generation before."""
    uri = f"{(previous.directory / INDEX_NAME).absolute().as_uri()}?mode=ro&immutable=1"
    try:
        db = sqlite3.connect(uri, uri=True)
        try:
            db.execute("ATTACH DATABASE ? AS new", (str(new_index),))
            added = 0
            for resource_id, change in db.execute(_NEW_OR_CHANGED, (moment_ms,)):
                added += change == ADDED
                yield resource_id, change
            (total,) = db.execute("SELECT COUNT(*) FROM new.User").fetchone()
            if total - added < previous.count(USER):
                for (resource_id,) in db.execute(_REMOVED):
                    yield resource_id, REMOVED
        finally:
            db.close()
    except sqlite3.Error as error:
        raise CorruptGenerationError(previous.directory, f"SQLite says: {error}") from None
