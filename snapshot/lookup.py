"""Index: the read side of the SQLite index of one generation, which is never written again."""

from __future__ import annotations

import sqlite3
from array import array
from typing import TYPE_CHECKING

from snapshot.errors import CorruptGenerationError
from snapshot.layout import IndexedAttribute
from snapshot.scim import USER
from snapshot.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snapshot.filter import Filter

# (ordinal, id, fingerprint, created ms, last_modified ms, active, removed ms or None)
Known = tuple[int, str, bytes, int, int, int, int | None]


class Index:
    """The read side: look-ups in one finished index, which is never written again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        try:
            # immutable: no locks, no journal; the file of a generation never changes. Scans have a connection
            # of their own: SQLite serves one thread at a time, and a look-up must not wait for a scan.
            self._db = sqlite3.connect(self.uri, uri=True, check_same_thread=False)
            self._scans = sqlite3.connect(self.uri, uri=True, check_same_thread=False)
            columns = {row[1] for row in self._db.execute(f"PRAGMA table_info({USER})")}
            self.has_removed = "removed" in columns  # format 1 had no removed resources
            removed = "removed" if self.has_removed else "NULL"
            self._known = f"ordinal, id, fingerprint, created, last_modified, active, {removed}"
            self.attributes = {
                row[0].casefold(): IndexedAttribute(row[0], row[1], row[2], row[3], bool(row[4]))
                for row in self._db.execute("SELECT path, tbl, col, kind, indexed FROM attribute")
            }
        except sqlite3.Error as error:
            raise CorruptGenerationError(path, f"SQLite says: {error}") from None
        self._selection = Selection(self.attributes)

    def find(self, resource_id: str) -> int | None:
        """Return the ordinal of the resource with exactly this id."""
        try:
            row = self._db.execute(f"SELECT ordinal FROM {USER} WHERE id = ?", (resource_id,)).fetchone()
        except UnicodeEncodeError:
            return None
        except sqlite3.Error as error:
            raise CorruptGenerationError(self.path, f"SQLite says: {error}") from None
        return row[0] if row else None

    def known(self, resource_id: str) -> Known | None:
        """Return what is known of one resource."""
        query = f"SELECT {self._known} FROM {USER} WHERE id = ?"
        try:
            row: Known | None = self._db.execute(query, (resource_id,)).fetchone()
        except UnicodeEncodeError:
            return None  # the id of a rejected row may be no valid text
        return row

    def known_at(self, ordinal: int) -> Known:
        """Return what is known of the resource with this ordinal."""
        query = f"SELECT {self._known} FROM {USER} WHERE ordinal = ?"
        row: Known = self._db.execute(query, (ordinal,)).fetchone()
        return row

    def every(self) -> Iterator[Known]:
        """Yield what is known of every resource, in order."""
        return self._db.execute(f"SELECT {self._known} FROM {USER} ORDER BY ordinal")

    def select(self, tree: Filter) -> array[int]:
        """Return the ascending ordinals of the users that a filter selects; FilterError if it is not supported."""
        condition, values = self._selection.condition(tree)
        db = self._db if self.is_quick(tree) else self._scans
        try:
            rows = db.execute(f"SELECT ordinal FROM {USER} WHERE {condition} ORDER BY ordinal", values)
            return array("Q", (ordinal for (ordinal,) in rows))
        except UnicodeEncodeError:
            return array("Q")
        except sqlite3.Error as error:
            raise CorruptGenerationError(self.path, f"SQLite says: {error}") from None

    def is_quick(self, tree: Filter) -> bool:
        """Tell whether B-tree look-ups answer the filter, in microseconds."""
        return self._selection.is_quick(tree)

    def __del__(self) -> None:
        """Close the files with the last reference: whoever still answers from here keeps them open."""
        for name in ("_db", "_scans"):
            if (db := getattr(self, name, None)) is not None:
                db.close()
