"""The SQLite index of one generation: build it while resources stream by; Filter -> ordinals.

Tables, for the resource type User:
    attribute       path -> table, column, kind: what a reader may filter on, and how it compares
    User            one row a resource: ordinal, id, fingerprint, times, a column a single-valued attribute
    User_emails …   one row a value of a multi-valued attribute

Text of attributes that are not caseExact is stored case-folded, so `=` is the comparison of SCIM.
Values of a filter are always bound parameters.
"""

from __future__ import annotations

import sqlite3
from array import array
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from orjson import loads

from snapshot.errors import CorruptGenerationError, FilterError
from snapshot.filter import And, Comparison, Filter, Not, Or, Present, ValuePath, parse_instant
from snapshot.schema import (
    BOOLEAN,
    DATE_TIME,
    DECIMAL,
    INTEGER,
    USER_ATTRIBUTES,
    find_attribute,
    known_user_attribute,
)
from snapshot.scim import ENTERPRISE_2_0, USER, AttributePath
from snapshot.strict import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from snapshot.encode import Encoded
    from snapshot.rules import Mapping

NAME = "index.sqlite"
# Attributes that clients look users up by; every other attribute is filtered by a scan.
_INDEXED = frozenset({"userName", "externalId", f"{ENTERPRISE_2_0}:employeeNumber"})
# The columns that every index has, mapped or not.
_FIXED = ("ordinal", "id", "fingerprint", "created", "last_modified", "removed", "active", "user_name")
# (ordinal, id, fingerprint, created ms, last_modified ms, active, removed ms or None)
Known = tuple[int, str, bytes, int, int, int, int | None]
_BATCH = 2_000
_CACHE_KIB = 32_768
_MICROSECONDS = 1_000


@dataclass(frozen=True, slots=True)
class IndexedAttribute:
    """Where the index keeps one attribute. kind: text (folded), exact, boolean, integer, decimal, dateTime."""

    path: str
    table: str
    column: str
    kind: str
    indexed: bool


def instant_key(microseconds: int) -> str:
    """Return the stored form of a dateTime: ISO text without Z, so that text order is the order of time."""
    try:
        moment = datetime(1970, 1, 1) + timedelta(microseconds=microseconds)  # noqa: DTZ001 (UTC throughout)
    except OverflowError:
        return ""  # an offset led out of the years 1 to 9999, where no stored value is
    text = moment.isoformat()
    return text.rstrip("0") if moment.microsecond else text


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


def attributes_of(mapping: Mapping) -> tuple[IndexedAttribute, ...]:
    """Return where the index keeps each mapped attribute."""
    found = [
        IndexedAttribute("id", USER, "id", "exact", indexed=True),
        IndexedAttribute("userName", USER, "user_name", "text", indexed=True),
        IndexedAttribute("meta.lastModified", USER, "last_modified", "published", indexed=True),
        IndexedAttribute("meta.created", USER, "created", "published", indexed=False),
    ]
    for target in mapping.singles:
        path = str(target.path)
        if path != "userName":
            kind = _kind(target.attribute.type, exact=target.attribute.case_exact)
            found.append(IndexedAttribute(path, USER, f"a{len(found)}", kind, path in _INDEXED))
    for plural in mapping.plurals:
        names = dict.fromkeys(target.path.sub for item in plural.items for target in item.targets)
        if any(item.type for item in plural.items):
            names["type"] = None
        names["primary"] = None
        for name in names:
            sub = plural.attribute.sub(name)
            kind = _kind(sub.type, exact=sub.case_exact) if sub else "text"
            path = f"{plural.attribute.name}.{name}"
            found.append(
                IndexedAttribute(path, f"{USER}_{plural.attribute.name}", f"v_{name}", kind, indexed=name == "value")
            )
    return tuple(found)


def _kind(attribute_type: str, *, exact: bool) -> str:
    if attribute_type in {BOOLEAN, INTEGER, DECIMAL, DATE_TIME}:
        return attribute_type
    return "exact" if exact else "text"


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


_WORDS: dict[type, str] = {Present: "pr", Not: "not", ValuePath: "a value path ([…])"}


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
        condition, values = self._condition(tree)
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
        if isinstance(tree, And):
            return self.is_quick(tree.left) and self.is_quick(tree.right)
        if isinstance(tree, Or):
            return self.is_quick(tree.left) and self.is_quick(tree.right)
        if isinstance(tree, Comparison) and tree.op == "eq":
            found = self.attributes.get(str(tree.path).casefold())
            return found is not None and found.indexed
        return False

    def _condition(self, tree: Filter) -> tuple[str, list[Any]]:
        if isinstance(tree, (And, Or)):
            left, left_values = self._condition(tree.left)
            right, right_values = self._condition(tree.right)
            word = "AND" if isinstance(tree, And) else "OR"
            return f"({left} {word} {right})", left_values + right_values
        if isinstance(tree, Comparison):
            return self._comparison(tree)
        raise FilterError(
            f"{_WORDS[type(tree)]} at position {tree.position} is not supported; "
            'supported are eq, and, or, and meta.lastModified gt "…".',
            position=tree.position,
        )

    def _comparison(self, comparison: Comparison) -> tuple[str, list[Any]]:
        found = self.attributes.get(str(comparison.path).casefold())
        if found is not None and found.kind == "published" and comparison.op == "gt":
            instant = parse_instant(comparison.value) if isinstance(comparison.value, str) else None
            if instant is None:
                raise FilterError(
                    f"{comparison.path} is compared with a dateTime such as 2026-01-02T03:04:05Z.",
                    position=comparison.position,
                )
            return f"{found.column} > ?", [_clamp(instant // _MICROSECONDS)]
        if comparison.op != "eq" or (found is not None and found.kind == "published"):
            raise FilterError(
                f"{comparison.path} {comparison.op} is not supported; "
                'supported are eq on mapped attributes, and, or, and meta.lastModified gt "…".',
                position=comparison.position,
            )
        if found is None:
            return self._unmapped(comparison)
        key = _literal_key(found.kind, comparison)
        if found.table == USER:
            return (f"{found.column} IS NULL", []) if key is None else (f"{found.column} = ?", [key])
        if key is None:
            return f"ordinal NOT IN (SELECT ordinal FROM {found.table} WHERE {found.column} IS NOT NULL)", []
        return f"ordinal IN (SELECT ordinal FROM {found.table} WHERE {found.column} = ?)", [key]

    def _unmapped(self, comparison: Comparison) -> tuple[str, list[Any]]:
        """An attribute of the schema that is not mapped has no value; a name of no schema is an error."""
        path = comparison.path
        if known_user_attribute(path) or self._has_children(path):
            return ("1", []) if comparison.value is None else ("0", [])
        hint = nearest(str(path), (item.path for item in self.attributes.values()))
        raise FilterError(f"{path} is not an attribute of a user{hint}.", position=comparison.position)

    def _has_children(self, path: AttributePath) -> bool:
        attribute = find_attribute(USER_ATTRIBUTES, path.name)
        return attribute is not None and not path.sub and bool(attribute.sub_attributes)

    def __del__(self) -> None:
        """Close the files with the last reference: whoever still answers from here keeps them open."""
        for name in ("_db", "_scans"):
            if (db := getattr(self, name, None)) is not None:
                db.close()


_INT64 = 1 << 63


def _clamp(number: int) -> int:
    return max(-_INT64, min(_INT64 - 1, number))


def _literal_key(kind: str, comparison: Comparison) -> Any:
    """Return the stored form of a filter's value; FilterError if the types cannot be compared."""
    value = comparison.value
    if value is None:
        return None
    if kind in {"text", "exact"}:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return text.casefold() if kind == "text" else text
    if kind == BOOLEAN:
        truth = {"true": True, "false": False}.get(str(value).casefold())
        if truth is None:
            raise FilterError(f"{comparison.path} is compared with true or false.", position=comparison.position)
        return int(truth)
    if kind == DATE_TIME:
        instant = parse_instant(value) if isinstance(value, str) else None
        if instant is None:
            raise FilterError(
                f"{comparison.path} is compared with a dateTime such as 2026-01-02T03:04:05Z.",
                position=comparison.position,
            )
        return instant_key(instant)
    try:
        if kind == DECIMAL or (isinstance(value, float) and not value.is_integer()):
            return float(value)
        return _clamp(int(value))
    except (ValueError, OverflowError):
        raise FilterError(f"{comparison.path} is compared with a number.", position=comparison.position) from None
