"""IndexWriter: the SQLite index of one generation, built while resources stream by.

Tables:
    attribute       type, path -> table, column, kind: what a reader may filter on, and how it compares
    User, Group …   one row a resource: ordinal, id, fingerprint, times, a column a single-valued attribute
    User_emails …   one row a value of a multi-valued attribute
    Group_members   a view: the other side of User_groups
"""

from __future__ import annotations

import contextlib
import sqlite3
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from orjson import loads

from snapshot.layout import FIXED, FIXED_OF_USERS, MEMBERS_VIEW, IndexedAttribute, attributes_of
from snapshot.scim import GROUP, USER
from snapshot.stored import STORED, plural_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from snapshot.config import Config
    from snapshot.encode import Encoded
    from snapshot.mapped import MappedBlock

_BATCH = 2_000
_ROWS_AT_ONCE = 100
_CACHE_KIB = 32_768
# Subgroups stand in a table of their own; who else is a member follows from the groups of the users.
_SUBGROUPS = "Group_subgroups"


class IndexWriter:
    """Writes the index of one generation, first in the order in which resources arrive."""

    def __init__(self, path: Path, config: Config, *, before: str | None = None) -> None:
        """Begin; `before` is the URI of an index with the same tables that `copy` takes users from."""
        self._db = sqlite3.connect(path, isolation_level=None, uri=True)
        for pragma in (
            "journal_mode=OFF",
            "synchronous=OFF",
            "locking_mode=EXCLUSIVE",
            f"cache_size=-{_CACHE_KIB}",
            "temp_store=FILE",
        ):
            self._db.execute(f"PRAGMA {pragma}")
        if before is not None:
            self._db.execute("ATTACH DATABASE ? AS before", (before,))
        self.attributes = attributes_of(config)
        names = dict.fromkeys(item.resource_type for item in self.attributes)
        self._tables = {name: _Table(name, self.attributes) for name in names}
        self._users = self._tables[USER]
        columns = [(USER, self._users.columns[1:]), *((item.table, item.columns) for item in self._users.plurals)]
        self._copies = [
            f'INSERT INTO main."{table}"(ordinal, {", ".join(names)}) SELECT ordinal + ?, {", ".join(names)} '
            f'FROM before."{table}" WHERE ordinal >= ? AND ordinal < ? ORDER BY ordinal, rowid'
            for table, names in columns
        ]
        self._max_values = self._db.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        self._subgroups: list[tuple[int, str, str]] = []
        self._create()

    @property
    def related_types(self) -> list[str]:
        """The resource types beside User."""
        return [name for name in self._tables if name != USER]

    def _create(self) -> None:
        self._db.execute("BEGIN")
        self._db.execute(
            "CREATE TABLE attribute(type TEXT, path TEXT, tbl TEXT, col TEXT, kind TEXT, indexed INTEGER, "
            "PRIMARY KEY(type, path))"
        )
        self._db.executemany(
            "INSERT INTO attribute VALUES (?, ?, ?, ?, ?, ?)",
            [
                (item.resource_type, item.path, item.table, item.column, item.kind, item.indexed)
                for item in self.attributes
            ],
        )
        for table in self._tables.values():
            self._db.execute(f'CREATE TABLE "{table.name}"({_definition(table.columns)})')
            for plural in table.plurals:
                self._db.execute(f'CREATE TABLE "{plural.table}"(ordinal INTEGER, {", ".join(plural.columns)})')
        if GROUP in self._tables:
            self._db.execute(f'CREATE TABLE "{_SUBGROUPS}"(ordinal INTEGER, v_value, v_display)')

    def add(
        self, ordinal: int, encoded: Encoded, created_ms: int, modified_ms: int, removed_ms: int | None = None
    ) -> None:
        """Add one user; `removed_ms` says since when it has no row any more."""
        whole = loads(encoded.body)
        users = self._users
        users.rows.append(
            (
                ordinal,
                encoded.id,
                encoded.fingerprint,
                created_ms,
                modified_ms,
                removed_ms,
                encoded.active,
                encoded.user_name.casefold(),
                *[getter(whole) for getter in users.getters],
            )
        )
        for plural in users.plurals:
            plural.add(ordinal, whole)
        if len(users.rows) >= _BATCH:
            self._flush(users)

    def add_block(
        self,
        ordinals: Sequence[int],
        block: MappedBlock,
        fingerprints: Sequence[bytes],
        created_ms: Sequence[int],
        modified_ms: Sequence[int],
    ) -> None:
        """Add many users that have a row, with these ordinals."""
        users, indexed = self._users, block.indexed()
        self._flush(users)
        columns = (
            ordinals,
            block.ids,
            map(bytearray, fingerprints),  # sqlite3 takes these as they are, and asks an adapter for bytes
            created_ms,
            modified_ms,
            map(int, block.active),
            map(str.casefold, block.user_names),
            *indexed.keys,
        )
        self._insert(users.with_row, len(ordinals), columns)
        for plural, entries in zip(users.plurals, indexed.entries, strict=True):
            places, *values = entries
            self._insert(plural.target, len(places), (map(ordinals.__getitem__, places), *values))

    def _insert(self, target: _Target, count: int, columns: Sequence[Iterable[Any]]) -> None:
        """Insert `count` rows, given as columns: many in one statement, which costs a quarter less than one each."""
        values = list(chain.from_iterable(zip(*columns, strict=True)))
        width = len(target.columns)
        at_once = min(_ROWS_AT_ONCE, self._max_values // width)
        for first in range(0, count, at_once):
            rows = min(at_once, count - first)
            self._db.execute(target.statement(rows), values[first * width : (first + rows) * width])

    def copy(self, first: int, count: int, ordinal: int) -> None:
        """Take `count` users, from the ordinal `first` on, over from the index `before`; here they begin at another."""
        for statement in self._copies:
            self._db.execute(statement, (ordinal - first, first, first + count))

    def add_related(
        self, resource_type: str, ordinal: int, encoded: Encoded, created_ms: int, modified_ms: int
    ) -> None:
        """Add one resource of another type; who is a member of a group follows from the users."""
        table = self._tables[resource_type]
        whole = loads(b"{%b%b" % (encoded.core, encoded.tail))
        values = [getter(whole) for getter in table.getters]
        table.rows.append((ordinal, encoded.id, encoded.fingerprint, created_ms, modified_ms, *values))
        if len(table.rows) >= _BATCH:
            self._flush(table)

    def add_subgroups(self, ordinal: int, subgroups: Sequence[tuple[str, str]]) -> None:
        """Add the groups (id, display) that are members of the group with this ordinal."""
        rows = [(ordinal, id_, display.casefold()) for id_, display in subgroups]
        self._db.executemany(f'INSERT INTO "{_SUBGROUPS}" VALUES (?, ?, ?)', rows)

    def _flush(self, table: _Table) -> None:
        self._db.executemany(table.insert, table.rows)
        table.rows.clear()
        for plural in table.plurals:
            if plural.rows:
                self._db.executemany(plural.insert, plural.rows)
                plural.rows.clear()

    def duplicates(self, column: str) -> Iterator[list[tuple[int, str]]]:
        """Yield groups of (ordinal, id) of users whose `column` (id or user_name) is the same.

        Groups of ids are ordered by fingerprint, so that the choice does not depend on the order of
        the rows; groups of user names begin with the active user, then the smallest id.
        """
        self._flush(self._users)
        # That of the names stays; that of the ids is made once the order is known.
        name = f"{USER}_by_user_name" if column == "user_name" else f"check_{column}"
        self._db.execute(f"CREATE INDEX {name} ON {USER}({column})")
        order = "fingerprint, ordinal" if column == "id" else "active DESC, length(id), id"
        groups = self._db.execute(f"SELECT {column} FROM {USER} GROUP BY {column} HAVING COUNT(*) > 1")
        for (key,) in groups:
            members = f"SELECT ordinal, id FROM {USER} WHERE {column} = ? ORDER BY {order}"
            yield self._db.execute(members, (key,)).fetchall()

    def remove(self, ordinals: Sequence[int]) -> None:
        """Remove users again (they became rejects)."""
        for table in (USER, *(plural.table for plural in self._users.plurals)):
            self._db.executemany(f'DELETE FROM "{table}" WHERE ordinal = ?', [(ordinal,) for ordinal in ordinals])

    def has_user_name(self, user_name: str) -> bool:
        """Tell whether a user has this userName, compared without case. Only after `duplicates("user_name")`."""
        query = f"SELECT 1 FROM {USER} WHERE user_name = ?"
        return self._db.execute(query, (user_name.casefold(),)).fetchone() is not None

    def reorder(self, rowless_from: int) -> Iterator[int]:
        """Give ordinals anew, in id order, those from `rowless_from` on last; yield the old ones in the new order."""
        users = self._users
        self._flush(users)
        columns = ", ".join(users.columns[1:])
        # Names with an underscore are free: no resource type has one.
        # The first row has ordinal -1, so that SQLite numbers the next ones from 0.
        self._db.execute(
            f"CREATE TABLE users_ordered(ordinal INTEGER PRIMARY KEY, old INTEGER, {_definition(users.columns[1:])})"
        )
        self._db.execute("INSERT INTO users_ordered(ordinal) VALUES (-1)")
        self._db.execute(
            f"INSERT INTO users_ordered(old, {columns}) SELECT ordinal, {columns} FROM {USER} "
            "ORDER BY ordinal >= ?, length(id), id",
            (rowless_from,),
        )
        self._db.execute("DELETE FROM users_ordered WHERE ordinal = -1")
        self._db.execute("CREATE INDEX users_ordered_old ON users_ordered(old)")
        for plural in users.plurals:
            self._db.execute(f'ALTER TABLE "{plural.table}" RENAME TO users_unordered')
            self._db.execute(f'CREATE TABLE "{plural.table}"(ordinal INTEGER, {", ".join(plural.columns)})')
            listed = ", ".join(f"u.{name}" for name in plural.columns)
            self._db.execute(
                f'INSERT INTO "{plural.table}" SELECT o.ordinal, {listed} '
                "FROM users_unordered u JOIN users_ordered o ON o.old = u.ordinal ORDER BY u.rowid"
            )
            self._db.execute("DROP TABLE users_unordered")
        yield from (old for (old,) in self._db.execute("SELECT old FROM users_ordered ORDER BY ordinal"))
        self._db.execute(f"DROP TABLE {USER}")
        self._db.execute("DROP INDEX users_ordered_old")
        self._db.execute("ALTER TABLE users_ordered DROP COLUMN old")
        self._db.execute(f"ALTER TABLE users_ordered RENAME TO {USER}")

    def count_links(self, table: str, *, kind: str | None = None) -> int:
        """Return how many values a table such as `User_groups` has altogether, or how many of one type."""
        self._flush(self._users)
        where, values = ("", ()) if kind is None else (" WHERE v_type = ?", (kind.casefold(),))
        (count,) = self._db.execute(f'SELECT COUNT(*) FROM "{table}"{where}', values).fetchone()
        return int(count)

    def members(self, show: Callable[[int], tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
        """Yield (id of the group, id of the user, name to display) of each direct member, by group in id order.

        `show` returns the last two of an ordinal; it is asked once a user, however many groups the user is in. Members
        are in id order too: who is kept without a usable row comes last among the users, but the group is the same.
        """
        self._flush(self._users)
        table = next(plural for plural in self._users.plurals if plural.table == f"{USER}_groups")
        direct = "WHERE v_type = 'direct'" if "v_type" in table.columns else ""
        self._db.execute("CREATE TEMP TABLE shown(ordinal INTEGER PRIMARY KEY, id TEXT, display TEXT)")
        grouped = self._db.execute(f'SELECT DISTINCT ordinal FROM "{table.table}" {direct}')
        rows = ((ordinal, *show(ordinal)) for (ordinal,) in grouped)
        self._db.executemany("INSERT INTO shown VALUES (?, ?, ?)", rows)
        return self._db.execute(
            f'SELECT v_value, shown.id, shown.display FROM "{table.table}" JOIN shown USING (ordinal) {direct} '
            "ORDER BY length(v_value), v_value, length(shown.id), shown.id"
        )

    def finish(self) -> None:
        """Build the B-trees and close the file."""
        for table in self._tables.values():
            self._flush(table)
        self._db.execute("DROP INDEX IF EXISTS check_id")
        views = {MEMBERS_VIEW}
        for name in self._tables:
            self._db.execute(f'CREATE UNIQUE INDEX "{name}_by_id" ON "{name}"(id)')
            self._db.execute(f'CREATE INDEX "{name}_by_last_modified" ON "{name}"(last_modified)')
        for item in self.attributes:
            if item.indexed and item.column not in {"id", "last_modified"} and item.table not in views:
                self._db.execute(
                    f'CREATE INDEX IF NOT EXISTS "{item.table}_by_{item.column}" ON "{item.table}"({item.column})'
                )
        for plural in self._users.plurals:
            self._db.execute(f'CREATE INDEX "{plural.table}_by_ordinal" ON "{plural.table}"(ordinal)')
        if GROUP in self._tables:
            self._db.execute(f'CREATE INDEX "{_SUBGROUPS}_by_ordinal" ON "{_SUBGROUPS}"(ordinal)')
            self._db.execute(self._members_view())
        self._db.execute("COMMIT")
        self._db.close()

    def _members_view(self) -> str:
        """Return the view of the members of groups: users by their own groups, and subgroups."""
        columns = {item.path: item.column for item in self.attributes if item.table == USER}
        display = "u.user_name"
        for path in ("name.formatted", "displayName"):
            if path in columns:
                display = f"COALESCE(u.{columns[path]}, {display})"
        has_type = any(item.path == "groups.type" for item in self.attributes)
        direct = "WHERE m.v_type = 'direct'" if has_type else ""
        return f"""
            CREATE VIEW "{MEMBERS_VIEW}" AS
            SELECT g.ordinal AS ordinal, u.id AS v_value, {display} AS v_display, 'user' AS v_type
            FROM "{USER}_groups" AS m JOIN "{GROUP}" AS g ON g.id = m.v_value JOIN {USER} AS u ON u.ordinal = m.ordinal
            {direct}
            UNION ALL SELECT ordinal, v_value, v_display, 'group' FROM "{_SUBGROUPS}"
        """

    def discard(self) -> None:
        """Close without finishing."""
        self._db.close()


def count_users(path: Path) -> tuple[int, int, int]:
    """Return (users, of them active, of them removed) of a finished index."""
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        counts = f"SELECT COUNT(*), COALESCE(SUM(active), 0), COUNT(removed) FROM {USER}"
        total, active, removed = db.execute(counts).fetchone()
    return total, active, removed


class _Target:
    """A table and the columns that rows are inserted into."""

    def __init__(self, table: str, columns: Sequence[str]) -> None:
        self.columns = columns
        self._begun = f'INSERT INTO "{table}"({", ".join(columns)}) VALUES '
        self._row = f"({', '.join('?' * len(columns))})"
        self.statement = lru_cache(maxsize=2)(self._statement)  # a full one, and the last one of a block

    def _statement(self, rows: int) -> str:
        return self._begun + ", ".join([self._row] * rows)


class _Plural:
    """One table of the values of a multi-valued attribute."""

    def __init__(self, table: str, attributes: Sequence[IndexedAttribute]) -> None:
        self.table = table
        self.columns = [item.column for item in attributes]
        self.target = _Target(table, ["ordinal", *self.columns])
        self.insert = self.target.statement(1)
        self.rows: list[tuple[Any, ...]] = []
        self._keys = [(item.column.removeprefix("v_"), item.kind) for item in attributes]
        path = attributes[0].path
        self._urn, _, name = path.rpartition(":")
        self._name = name.partition(".")[0]

    def add(self, ordinal: int, whole: dict[str, Any]) -> None:
        """Take the values of one decoded resource."""
        if self._urn:
            texts = whole.get(self._urn, {}).get(self._name, ())
            self.rows += [(ordinal, text.casefold()) for text in texts]
            return
        for entry in whole.get(self._name, ()):
            self.rows.append((ordinal, *[plural_key(entry.get(sub), kind) for sub, kind in self._keys]))


class _Table:
    """The table of one resource type, and those of its multi-valued attributes."""

    def __init__(self, name: str, attributes: Sequence[IndexedAttribute]) -> None:
        self.name = name
        fixed = FIXED_OF_USERS if name == USER else FIXED
        singles = [item for item in attributes if item.table == name and item.column not in fixed]
        self.getters = [_single_getter(item) for item in singles]
        self.columns = [*fixed, *(item.column for item in singles)]
        self.insert = f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(self.columns))})'
        self.with_row = _Target(name, [column for column in self.columns if column != "removed"])
        self.rows: list[tuple[Any, ...]] = []
        tables: dict[str, list[IndexedAttribute]] = {}
        for item in attributes:
            if item.resource_type == name == USER and item.table != name:
                tables.setdefault(item.table, []).append(item)
        self.plurals = [_Plural(table, items) for table, items in tables.items()]


def _definition(columns: Sequence[str]) -> str:
    types = {"ordinal": " INTEGER PRIMARY KEY", "id": " TEXT"}
    return ", ".join(name + types.get(name, "") for name in columns)


def _single_getter(item: IndexedAttribute) -> Callable[[dict[str, Any]], Any]:
    """Return what fetches the stored form of one single-valued attribute from a decoded resource."""
    urn, _, name = item.path.rpartition(":")
    first, _, sub = name.partition(".")
    store = STORED[item.kind]

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
