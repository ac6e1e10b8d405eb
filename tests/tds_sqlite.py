"""Answers T-SQL queries from an SQLite file with SQL Server's types and error messages."""

from __future__ import annotations

import contextlib
import itertools
import re
import sqlite3
from typing import TYPE_CHECKING, Any

from tds_functions import register
from tds_results import Result
from tds_sql import SqlError, Token
from tds_translate import Item, Select, quote, translate
from tds_types import Column, parse_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_PEEKED_ROWS = 100
_STORAGE_NAMES = frozenset({"", "ANY", "BLOB", "INT", "NUM", "REAL", "TEXT"})  # SQLite's own, for expressions
_INFORMATION = "TABLE_CATALOG nvarchar(128), TABLE_SCHEMA nvarchar(128), TABLE_NAME sysname"


class Database:
    """A read-only connection to the file, for one session and its thread.

    The file should be in WAL mode: then a transaction sees one instant while others write.
    """

    def __init__(
        self, path: Path | None, facts: Mapping[str, Callable[..., Any]], types: Mapping[str, str], name: str
    ) -> None:
        target = f"{path.resolve().as_uri()}?mode=ro" if path else ":memory:"
        self._sql = sqlite3.connect(target, uri=True, isolation_level=None, timeout=5)
        self._sql.execute("PRAGMA temp_store = MEMORY")
        self._types = {column.lower(): kind for column, kind in types.items()}
        self._error: SqlError | None = None
        self._name = name
        self._system: dict[str, Callable[[], tuple[str, list[tuple]]]] = {}
        register(self._sql, {**facts, "object_id": self._object_id}, self._keep)

    def close(self) -> None:
        self._sql.close()

    def add_system_table(self, name: str, make: Callable[[], tuple[str, list[tuple]]]) -> None:
        """Offer `sys.x`; `make` returns its column declarations and rows when a query asks for it."""
        self._system[name.lower()] = make

    # --- transactions ---

    def begin_instant(self) -> None:
        """Let all further reads see the instant of the first of them."""
        if not self._sql.in_transaction:
            self._sql.execute("BEGIN")

    def end_instant(self) -> None:
        if self._sql.in_transaction:
            self._sql.execute("COMMIT")

    # --- queries ---

    def query(self, tokens: list[Token], params: Mapping[str, Any]) -> tuple[Result, list[str]]:
        """Return the result, whose rows stream, and the names of the objects read."""
        select = translate(tokens, self._resolve)
        bound = {name.lstrip("@").lower(): _storable(value) for name, value in params.items()}
        declared = self._declared(select)
        cursor = self._guard(select, lambda: self._sql.execute(select.sql, bound))
        if cursor.description is None:
            raise SqlError(102, f"Incorrect syntax near '{tokens[0].text}'.", severity=15)
        names = [part[0] for part in cursor.description]
        items = _spread(select.items, len(names))
        head = self._guard(select, lambda: cursor.fetchmany(_PEEKED_ROWS))
        columns = [
            Column(
                name if item.name is None else item.name,
                self._types.get(name.lower())
                or item.type
                or _usable(kind, item)
                or _peeked([row[index] for row in head]),
            )
            for index, (name, item, kind) in enumerate(zip(names, items, declared, strict=True))
        ]
        return Result(columns, self._stream(select, head, cursor)), select.objects

    def _stream(self, select: Select, head: list[tuple], cursor: sqlite3.Cursor) -> Iterator[tuple]:
        try:
            yield from head
            while rows := self._guard(select, lambda: cursor.fetchmany(1000)):
                yield from rows
        finally:
            # A client that broke off leaves the stream to the garbage collector, after the database is closed.
            with contextlib.suppress(sqlite3.ProgrammingError):
                cursor.close()

    def scalar(self, tokens: list[Token], params: Mapping[str, Any]) -> Any:
        """Evaluate an expression, for IF."""
        result, _ = self.query([Token("word", "SELECT"), *tokens], params)
        return next(result.iterate())[0]

    def describe(self, tokens: list[Token]) -> list[Column]:
        """Return the columns of a query without running it."""
        select = translate(tokens, self._resolve)
        declared = self._declared(select)
        cursor = self._guard(select, lambda: self._sql.execute(f"SELECT * FROM ({select.shape}) LIMIT 0"))
        names = [part[0] for part in cursor.description]
        items = _spread(select.items, len(names))
        return [
            Column(
                name if item.name is None else item.name,
                self._types.get(name.lower()) or item.type or _usable(kind, item) or "nvarchar(4000)",
            )
            for name, item, kind in zip(names, items, declared, strict=True)
        ]

    def _declared(self, select: Select) -> list[str]:
        """Ask SQLite for the declared type of each column, through a view that is never read."""

        def ask() -> list[str]:
            self._sql.execute(f"CREATE TEMP VIEW tds_shape AS {select.shape}")
            try:
                return [row[2] for row in self._sql.execute("PRAGMA temp.table_info(tds_shape)")]
            finally:
                self._sql.execute("DROP VIEW temp.tds_shape")

        return self._guard(select, ask)

    # --- names ---

    def _tables(self) -> dict[str, str]:
        rows = self._sql.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        return {name.lower(): name for (name,) in rows}

    def _resolve(self, parts: list[str]) -> str:
        """Map `db.schema.table` to a table: a table named `schema.table` wins over a bare one."""
        dotted = ".".join(parts[-2:]).lower()
        if dotted in self._system or dotted.startswith("information_schema."):
            return self._make_system(dotted)
        tables = self._tables()
        return tables.get(dotted) or tables.get(parts[-1].lower(), ".".join(parts))

    def _object_id(self, name: str, _kind: str | None = None) -> int | None:
        parts = re.sub(r"[\[\]]", "", name).split(".")
        tables = sorted(self._tables())
        for candidate in (".".join(parts[-2:]).lower(), parts[-1].lower()):
            if candidate in tables:
                return 1000 + tables.index(candidate)
        return None

    def _make_system(self, dotted: str) -> str:
        make = self._system.get(dotted) or {
            "information_schema.columns": self._information_columns,
            "information_schema.tables": self._information_tables,
        }.get(dotted)
        if make is None:
            return dotted
        declarations, rows = make()
        self._sql.execute(f"DROP TABLE IF EXISTS temp.{quote(dotted)}")
        self._sql.execute(f"CREATE TEMP TABLE {quote(dotted)} ({declarations})")
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            for row in rows:
                self._sql.execute(f"INSERT INTO temp.{quote(dotted)} VALUES ({marks})", row)
        return dotted

    def _information_tables(self) -> tuple[str, list[tuple]]:
        rows = self._sql.execute("SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
        declarations = f"{_INFORMATION}, TABLE_TYPE varchar(10)"
        return declarations, [
            (self._name, *_schema_and_name(name), "VIEW" if kind == "view" else "BASE TABLE") for name, kind in rows
        ]

    def _information_columns(self) -> tuple[str, list[tuple]]:
        found = []
        for table in self._tables().values():
            for row in self._sql.execute(f"PRAGMA table_info({quote(table)})").fetchall():
                kind = _usable(row[2], Item()) or "nvarchar(4000)"
                nullable = "NO" if row[3] or row[5] else "YES"
                found.append(
                    (
                        self._name,
                        *_schema_and_name(table),
                        row[1],
                        row[0] + 1,
                        nullable,
                        parse_type(kind).name,
                    )
                )
        return (
            f"{_INFORMATION}, COLUMN_NAME nvarchar(128), "
            "ORDINAL_POSITION int, IS_NULLABLE varchar(3), DATA_TYPE nvarchar(128)"
        ), found

    # --- errors ---

    def _keep(self, error: SqlError) -> None:
        self._error = error

    def _guard(self, select: Select, act: Callable[[], Any]) -> Any:
        self._error = None
        try:
            return act()
        except sqlite3.Error as error:
            raise self._error or _server_error(str(error), select.objects) from error


def _schema_and_name(table: str) -> tuple[str, str]:
    schema, _, name = table.rpartition(".")
    return schema or "dbo", name


def _server_error(text: str, objects: list[str]) -> SqlError:
    """Turn SQLite's message into SQL Server's number and words."""
    name = text.rpartition(": ")[2]
    last = name.rpartition(".")[2]
    if text.startswith("no such table"):
        written = next((each for each in objects if each.lower().endswith(last.lower())), name)
        return SqlError(208, f"Invalid object name '{written}'.")
    if text.startswith("no such column"):
        return SqlError(207, f"Invalid column name '{last}'.")
    if text.startswith("ambiguous column name"):
        return SqlError(209, f"Ambiguous column name '{last}'.")
    if text.startswith("no such function"):
        return SqlError(195, f"'{name}' is not a recognized built-in function name.", severity=15, state=10)
    if found := re.match(r'near "(.*)": syntax error', text):
        return SqlError(102, f"Incorrect syntax near '{found[1]}'.", severity=15)
    if "binding" in text:
        variable = text.rpartition(":")[2].strip(" .")
        return SqlError(137, f'Must declare the scalar variable "@{variable}".', severity=15, state=2)
    if "locked" in text:
        return SqlError(1222, "Lock request time out period exceeded.", state=45)
    if "incomplete input" in text:
        return SqlError(102, "Incorrect syntax near the end of the batch.", severity=15)
    return SqlError(50000, f"SQLite: {text}")


def _spread(items: list[Item], count: int) -> list[Item]:
    """Give each result column its item of the select list; the columns of a star get an empty one."""
    stars = [index for index, item in enumerate(items) if item.star]
    if not stars:
        return items if len(items) == count else [Item()] * count
    if len(stars) > 1:
        return [Item()] * count
    before, after = items[: stars[0]], items[stars[0] + 1 :]
    return [*before, *itertools.repeat(Item(), count - len(before) - len(after)), *after]


def _usable(declared: str, item: Item) -> str | None:
    """Return the declared type if it is one of SQL Server's; SQLite invents one for some expressions."""
    if not declared or (declared in _STORAGE_NAMES and not item.column):
        return None
    try:
        parse_type(declared)
    except ValueError:
        return None
    return declared


def _peeked(cells: list[Any]) -> str:
    """Choose the type of an expression from its first values."""
    values = [cell for cell in cells if cell is not None]
    if values and all(isinstance(value, int) for value in values):
        return "int" if all(-(2**31) <= value < 2**31 for value in values) else "bigint"
    if values and all(isinstance(value, (int, float)) for value in values):
        return "float"
    if values and all(isinstance(value, bytes) for value in values):
        return "varbinary(8000)"
    return "nvarchar(max)" if any(len(str(value)) > 4000 for value in values) else "nvarchar(4000)"


def _storable(value: Any) -> Any:
    """Return a parameter in one of SQLite's storage classes."""
    if value is None or isinstance(value, (int, float, str, bytes)):
        return int(value) if isinstance(value, bool) else value
    if hasattr(value, "isoformat"):
        return value.isoformat(" ") if hasattr(value, "hour") and hasattr(value, "year") else value.isoformat()
    return str(value)
