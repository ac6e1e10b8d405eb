"""IndexWriter: the SQLite index of one generation, built while resources stream by.

Tables, for the resource type User:
    attribute       path -> table, column, kind: what a reader may filter on, and how it compares
    User            one row a resource: ordinal, id, fingerprint, times, a column a single-valued attribute
    User_emails …   one row a value of a multi-valued attribute
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from orjson import loads

from snapshot.layout import IndexedAttribute, attributes_of
from snapshot.schema import BOOLEAN, DATE_TIME, DECIMAL, INTEGER
from snapshot.scim import USER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from snapshot.encode import Encoded
    from snapshot.rules import Mapping

# The columns that every index has, mapped or not.
_FIXED = ("ordinal", "id", "fingerprint", "created", "last_modified", "removed", "active", "user_name")
_BATCH = 2_000
_CACHE_KIB = 32_768


class IndexWriter:
    """Writes the index of the users of one generation, first in the order in which they arrive."""

    def __init__(self, path: Path, mapping: Mapping) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        for pragma in (
            "journal_mode=OFF",
            "synchronous=OFF",
            "locking_mode=EXCLUSIVE",
            f"cache_size=-{_CACHE_KIB}",
            "temp_store=FILE",
        ):
            self._db.execute(f"PRAGMA {pragma}")
        self.attributes = attributes_of(mapping)
        singles = [item for item in self.attributes if item.table == USER and item.column not in _FIXED]
        self._getters = [_single_getter(item) for item in singles]
        self._columns = [*_FIXED, *(item.column for item in singles)]
        self._plurals = _plural_tables(self.attributes)
        self._insert = f"INSERT INTO {USER} VALUES ({', '.join('?' * len(self._columns))})"
        self._rows: list[tuple[Any, ...]] = []
        self._values: dict[str, list[tuple[Any, ...]]] = {table: [] for table in self._plurals}
        self._keys = {
            table: [(item.column.removeprefix("v_"), item.kind) for item in self.attributes if item.table == table]
            for table in self._plurals
        }
        self._create()

    def _create(self) -> None:
        self._db.execute("BEGIN")
        self._db.execute(
            "CREATE TABLE attribute(path TEXT PRIMARY KEY, tbl TEXT, col TEXT, kind TEXT, indexed INTEGER)"
        )
        self._db.executemany(
            "INSERT INTO attribute VALUES (?, ?, ?, ?, ?)",
            [(item.path, item.table, item.column, item.kind, item.indexed) for item in self.attributes],
        )
        self._db.execute(f"CREATE TABLE {USER}({_definition(self._columns)})")
        for table, columns in self._plurals.items():
            self._db.execute(f"CREATE TABLE {table}(ordinal INTEGER, {', '.join(columns)})")

    def add(
        self, ordinal: int, encoded: Encoded, created_ms: int, modified_ms: int, removed_ms: int | None = None
    ) -> None:
        """Add one resource; `removed_ms` says since when it has no row any more."""
        whole = loads(encoded.body)
        self._rows.append(
            (
                ordinal,
                encoded.id,
                encoded.fingerprint,
                created_ms,
                modified_ms,
                removed_ms,
                encoded.active,
                encoded.user_name.casefold(),
                *[getter(whole) for getter in self._getters],
            )
        )
        for table, keys in self._keys.items():
            name = table.removeprefix(f"{USER}_")
            for entry in whole.get(name, ()):
                self._values[table].append((ordinal, *[_plural_key(entry.get(sub), kind) for sub, kind in keys]))
        if len(self._rows) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        self._db.executemany(self._insert, self._rows)
        self._rows.clear()
        for table, values in self._values.items():
            if values:
                marks = ", ".join("?" * (len(self._plurals[table]) + 1))
                self._db.executemany(f"INSERT INTO {table} VALUES ({marks})", values)
                values.clear()

    def duplicates(self, column: str) -> Iterator[list[tuple[int, str]]]:
        """Yield groups of (ordinal, id) whose `column` (id or user_name) is the same.

        Groups of ids are ordered by fingerprint, so that the choice does not depend on the order of
        the rows; groups of user names begin with the active user, then the smallest id.
        """
        self._flush()
        self._db.execute(f"CREATE INDEX check_{column} ON {USER}({column})")
        order = "fingerprint, ordinal" if column == "id" else "active DESC, length(id), id"
        groups = self._db.execute(f"SELECT {column} FROM {USER} GROUP BY {column} HAVING COUNT(*) > 1")
        for (key,) in groups:
            members = f"SELECT ordinal, id FROM {USER} WHERE {column} = ? ORDER BY {order}"
            yield self._db.execute(members, (key,)).fetchall()

    def remove(self, ordinals: Sequence[int]) -> None:
        """Remove resources again (they became rejects)."""
        for table in (USER, *self._plurals):
            self._db.executemany(f"DELETE FROM {table} WHERE ordinal = ?", [(ordinal,) for ordinal in ordinals])

    def has_user_name(self, user_name: str) -> bool:
        """Tell whether a resource has this userName, compared without case. Only after `duplicates("user_name")`."""
        query = f"SELECT 1 FROM {USER} WHERE user_name = ?"
        return self._db.execute(query, (user_name.casefold(),)).fetchone() is not None

    def reorder(self, rowless_from: int) -> Iterator[int]:
        """Give ordinals anew, in id order, those from `rowless_from` on last; yield the old ones in the new order."""
        self._flush()
        columns = ", ".join(self._columns[1:])
        # The first row has ordinal -1, so that SQLite numbers the next ones from 0.
        self._db.execute(
            f"CREATE TABLE ordered(ordinal INTEGER PRIMARY KEY, old INTEGER, {_definition(self._columns[1:])})"
        )
        self._db.execute("INSERT INTO ordered(ordinal) VALUES (-1)")
        self._db.execute(
            f"INSERT INTO ordered(old, {columns}) SELECT ordinal, {columns} FROM {USER} "
            "ORDER BY ordinal >= ?, length(id), id",
            (rowless_from,),
        )
        self._db.execute("DELETE FROM ordered WHERE ordinal = -1")
        self._db.execute("CREATE INDEX ordered_old ON ordered(old)")
        for table, names in self._plurals.items():
            self._db.execute(f"ALTER TABLE {table} RENAME TO unordered")
            self._db.execute(f"CREATE TABLE {table}(ordinal INTEGER, {', '.join(names)})")
            listed = ", ".join(f"u.{name}" for name in names)
            self._db.execute(
                f"INSERT INTO {table} SELECT o.ordinal, {listed} FROM unordered u JOIN ordered o ON o.old = u.ordinal"
            )
            self._db.execute("DROP TABLE unordered")
        yield from (old for (old,) in self._db.execute("SELECT old FROM ordered ORDER BY ordinal"))
        self._db.execute(f"DROP TABLE {USER}")
        self._db.execute("DROP INDEX ordered_old")
        self._db.execute("ALTER TABLE ordered DROP COLUMN old")
        self._db.execute(f"ALTER TABLE ordered RENAME TO {USER}")

    def count(self) -> tuple[int, int, int]:
        """Return (resources, of them active, of them removed)."""
        self._flush()
        counts = f"SELECT COUNT(*), COALESCE(SUM(active), 0), COUNT(removed) FROM {USER}"
        total, active, removed = self._db.execute(counts).fetchone()
        return total, active, removed

    def finish(self) -> None:
        """Build the B-trees and close the file."""
        self._flush()
        for column in ("id", "user_name"):
            self._db.execute(f"DROP INDEX IF EXISTS check_{column}")
        self._db.execute(f"CREATE UNIQUE INDEX {USER}_by_id ON {USER}(id)")
        self._db.execute(f"CREATE INDEX {USER}_by_last_modified ON {USER}(last_modified)")
        for item in self.attributes:
            if item.indexed and item.column not in {"id", "last_modified"}:
                self._db.execute(f"CREATE INDEX {item.table}_by_{item.column} ON {item.table}({item.column})")
        for table in self._plurals:
            self._db.execute(f"CREATE INDEX {table}_by_ordinal ON {table}(ordinal)")
        self._db.execute("COMMIT")
        self._db.close()

    def discard(self) -> None:
        """Close without finishing."""
        self._db.close()


def _definition(columns: Sequence[str]) -> str:
    types = {"ordinal": " INTEGER PRIMARY KEY", "id": " TEXT"}
    return ", ".join(name + types.get(name, "") for name in columns)


def _plural_tables(attributes: Sequence[IndexedAttribute]) -> dict[str, list[str]]:
    tables: dict[str, list[str]] = {}
    for item in attributes:
        if item.table != USER:
            tables.setdefault(item.table, []).append(item.column)
    return tables


def _single_getter(item: IndexedAttribute) -> Callable[[dict[str, Any]], Any]:
    """Return what fetches the stored form of one single-valued attribute from a decoded resource."""
    urn, _, name = item.path.rpartition(":")
    first, _, sub = name.partition(".")
    store = _STORED[item.kind]

    def of_extension(whole: dict[str, Any]) -> Any:
        holder = whole.get(urn)
        if holder is None:
            return None
        value = holder.get(first)
        if sub and value is not None:
            value = value.get(sub)
        return None if value is None else store(value)

    def of_complex(whole: dict[str, Any]) -> Any:
        holder = whole.get(first)
        value = None if holder is None else holder.get(sub)
        return None if value is None else store(value)

    def of_core(whole: dict[str, Any]) -> Any:
        value = whole.get(first)
        return None if value is None else store(value)

    return of_extension if urn else of_complex if sub else of_core


# kind -> how a value of a resource is stored
_STORED: dict[str, Callable[[Any], Any]] = {
    "text": str.casefold,
    "exact": str,
    BOOLEAN: int,
    INTEGER: int,
    DECIMAL: float,
    DATE_TIME: lambda text: text[:-1],
}


def _plural_key(value: Any, kind: str) -> Any:
    if kind == "text" and value is not None:
        return value.casefold()
    return int(value) if isinstance(value, bool) else value
