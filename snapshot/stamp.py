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
from snapshot.store import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path


def stamped_files(directory: Path) -> tuple[str, ...]:
    """Return the names of the files of a generation that carry the time of publication."""
    return INDEX_NAME, *sorted(path.name for path in directory.glob("*.json") if path.name != MANIFEST)


def stamp_generation(directory: Path, provisional_ms: int, moment_ms: int) -> None:
    """Replace one time by another in every resource that carries it; `stamped_files` may change, no other."""
    provisional, moment = time_text(provisional_ms), time_text(moment_ms)
    with contextlib.closing(sqlite3.connect(directory / INDEX_NAME, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=OFF")
        # The generation has no name yet, or waits in quarantine: it is not durable before its files are synced anyway.
        db.execute("PRAGMA synchronous=OFF")
        for resource_type in _resource_types(db):
            query = f'SELECT ordinal, created = ? FROM "{resource_type}" WHERE last_modified = ? ORDER BY ordinal'
            for version in ScimVersion:
                body, offsets = body_name(resource_type, version), offsets_name(resource_type, version)
                if (directory / body).exists():
                    stamps = ((place, bool(new)) for place, new in db.execute(query, (provisional_ms, provisional_ms)))
                    stamp_bodies(directory / body, directory / offsets, stamps, provisional, moment)
            columns = {name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (resource_type,))}
            # Who is new or removed was modified just then: no scan of everybody.
            for column in (name for name in ("created", "removed") if name in columns):
                update = f'UPDATE "{resource_type}" SET {column} = ? WHERE last_modified = ? AND {column} = ?'
                db.execute(update, (moment_ms, provisional_ms, provisional_ms))
            update = f'UPDATE "{resource_type}" SET last_modified = ? WHERE last_modified = ?'
            db.execute(update, (moment_ms, provisional_ms))


def _resource_types(db: sqlite3.Connection) -> list[str]:
    """Return the resource types that an index holds; before format 3 there were users only."""
    try:
        return [name for (name,) in db.execute("SELECT DISTINCT type FROM attribute")]
    except sqlite3.OperationalError:
        return [USER]
