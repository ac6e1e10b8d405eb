"""Rows from an SQLite file: the demo, the tests, and trying the product without a SQL Server."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

from snapshot.errors import SourceError
from snapshot.sources.rows import check_row_count, split_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from snapshot.config import Source
    from snapshot.queries import Query


@contextlib.contextmanager
def open_sqlite(path: Path, source: Source) -> Iterator[SqliteSource]:
    """Open the file read-only and begin a read transaction, which sees one instant until it ends."""
    if not path.is_file():
        raise SourceError("unreachable", f"There is no SQLite file {path}.", remedy="Check source.path.")
    try:
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=source.lock_timeout_seconds,
        )
    except sqlite3.Error as error:
        raise SourceError("unreachable", f"{path} cannot be opened: {error}.", remedy="Check source.path.") from None
    # Bytes that are not UTF-8 become lone surrogates: a reject of one row, not a failed refresh.
    db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        with _translated(path):
            db.execute("BEGIN")
        yield SqliteSource(db, path, source)
    finally:
        db.close()


class SqliteSource:
    """An open SQLite file, inside a read transaction."""

    isolation = "snapshot"

    def __init__(self, db: sqlite3.Connection, path: Path, source: Source) -> None:
        self._db = db
        self._path = path
        self._source = source
        self.warnings: list[str] = []

    def read(self, query: Query) -> SqliteRows:
        """Send one query."""
        with _translated(self._path):
            if query.table:
                name = ".".join('"' + part.replace('"', '""') + '"' for part in split_name(query.table)[-1:])
                (counted,) = self._db.execute(f"SELECT COUNT(*) FROM {name}").fetchone()
                cursor = self._db.execute(f"SELECT * FROM {name}")
            else:
                counted = None
                if query.count_query:
                    (counted,) = self._db.execute(query.count_query, query.parameters).fetchone()
                cursor = self._db.execute(query.query, query.parameters)
        return SqliteRows(cursor, counted, self._source.fetch_rows, self._path, query.table or "the query")

    def columns(self, query: Query) -> tuple[str, ...]:
        """Return the columns that a query gives."""
        return self.read(query).columns


class SqliteRows:
    """The rows of one query."""

    def __init__(self, cursor: sqlite3.Cursor, counted: int | None, size: int, path: Path, what: str) -> None:
        self._cursor = cursor
        self._size = size
        self._path = path
        self._what = what
        self.columns = tuple(column[0] for column in cursor.description or ())
        self.expected = counted
        if not self.columns:
            raise SourceError("query", "The query gives no rows.", remedy="It has to be a SELECT.")

    def batches(self) -> Iterator[Sequence[tuple[Any, ...]]]:
        """Yield the rows; the count must be the one of COUNT(*) in the same transaction."""
        read = 0
        while True:
            with _translated(self._path):
                batch = self._cursor.fetchmany(self._size)
            if not batch:
                break
            read += len(batch)
            yield batch
        check_row_count(read=read, reported=None, counted=self.expected, what=self._what)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn what sqlite3 raises into a SourceError with a remedy."""
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning) as error:
        text = str(error)
        code, remedy = "query", "Check source.users."
        if text.startswith("no such table"):
            code, remedy = "missing_object", "Check source.users.table."
        elif text.startswith("no such column"):
            code, remedy = "missing_column", "Check the columns in source.users.query."
        elif "locked" in text or "busy" in text:
            code, remedy = "timeout", "Another program holds the file; it is read again at the next refresh."
        elif isinstance(error, sqlite3.DatabaseError) and "not a database" in text:
            code, remedy = "unreachable", "Check source.path."
        raise SourceError(code, f"{path.name}: {text}.", remedy=remedy) from None
