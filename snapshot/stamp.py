"""Put the time of publication into a finished generation, as late as possible.

An incremental import between the stamp and the publication would miss the changes for ever.

New and changed resources carry a provisional time of the same length until then, in the bodies and in the index.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from snapshot.bodies import stamp_bodies
from snapshot.encode import time_text
from snapshot.layout import NAME as INDEX_NAME
from snapshot.reader import body_name, offsets_name
from snapshot.scim import USER, ScimVersion

if TYPE_CHECKING:
    from pathlib import Path

STAMPED_FILES = (INDEX_NAME, *(body_name(USER, version) for version in ScimVersion))


def stamp_generation(directory: Path, provisional_ms: int, moment_ms: int) -> None:
    """Replace one time by another in every resource that carries it; STAMPED_FILES may change, no other."""
    provisional, moment = time_text(provisional_ms), time_text(moment_ms)
    with contextlib.closing(sqlite3.connect(directory / INDEX_NAME, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=OFF")
        # The generation has no name yet, or waits in quarantine: it is not durable before its files are synced anyway.
        db.execute("PRAGMA synchronous=OFF")
        query = f"SELECT ordinal, created = ? FROM {USER} WHERE last_modified = ? ORDER BY ordinal"
        for version in ScimVersion:
            stamps = ((ordinal, bool(new)) for ordinal, new in db.execute(query, (provisional_ms, provisional_ms)))
            body, offsets = body_name(USER, version), offsets_name(USER, version)
            stamp_bodies(directory / body, directory / offsets, stamps, provisional, moment)
        for column in ("created", "last_modified", "removed"):
            db.execute(f"UPDATE {USER} SET {column} = ? WHERE {column} = ?", (moment_ms, provisional_ms))
