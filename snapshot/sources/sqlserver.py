"""Rows from SQL Server through pymssql: encrypted and verified, one transaction, counted, never cut short."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymssql
from pymssql import _mssql

from snapshot import __version__
from snapshot.errors import SourceError
from snapshot.sources.freetds import DEFAULT_PORT, SERVER_NAME, write_conf
from snapshot.sources.isolation import begin
from snapshot.sources.rows import check_row_count, split_name
from snapshot.sources.tds_errors import explain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from snapshot.config import Config, Source
    from snapshot.queries import Query

# Before this version pymssql ignored the demand for encryption (pymssql issue 924).
MIN_PYMSSQL = (2, 4, 3)
_LOOK_AT_LOG = "Nothing was published; look at the SQL Server error log."
# The isolation levels at which COUNT(*) and the rows are of the same instant.
_CONSISTENT = frozenset({"read-only replica", "snapshot"})


def check_driver() -> None:
    """Refuse a pymssql that would send everybody's data in clear."""
    if tuple(_mssql.VERSION[:3]) < MIN_PYMSSQL:
        raise SourceError(
            "driver",
            f"pymssql {'.'.join(map(str, _mssql.VERSION))} ignores the demand for encryption.",
            remedy="Install pymssql 2.4.3 or newer.",
        )


@contextlib.contextmanager
def open_sqlserver(config: Config) -> Iterator[SqlServerSource]:
    """Connect, begin the transaction at the best isolation level there is, roll back and close at the end."""
    check_driver()
    source = config.source
    with tempfile.TemporaryDirectory(prefix="scim-snapshot-") as folder, _translated(config):
        os.environ["FREETDSCONF"] = str(write_conf(config, Path(folder)))
        if source.keytab:
            os.environ["KRB5_CLIENT_KTNAME"] = str(config.path(source.keytab))
        login: dict[str, Any] = {}
        if source.auth == "sql":
            login = {"user": source.username, "password": source.password.reveal()}
        with _translated(config, login=True):
            connection = _connect(source, login)
        try:
            yield SqlServerSource(connection, config)
        finally:
            with contextlib.suppress(pymssql.Error):
                connection.close()


def _connect(source: Source, login: dict[str, Any]) -> Any:
    """Log in once; return the connection."""
    return pymssql.connect(
        # An `instance =` in freetds.conf is ignored; behind the server's name it is looked up (UDP 1434).
        server=f"{SERVER_NAME}\\{source.instance}" if source.instance else SERVER_NAME,
        # Its default of 1433 would override freetds.conf; with a named instance there must be none.
        port="" if source.instance else str(source.port or DEFAULT_PORT),
        database=source.database,
        login_timeout=source.login_timeout_seconds,
        timeout=source.query_timeout_seconds,
        appname=f"scim-snapshot/{__version__}",
        read_only=source.read_only,
        autocommit=True,
        tds_version=None,  # freetds.conf decides
        encryption=None,  # freetds.conf decides; the argument would turn strict into TDS 7.x
        **login,
    )


class SqlServerSource:
    """An open connection, inside its transaction."""

    def __init__(self, connection: Any, config: Config) -> None:
        self._connection = connection
        self._config = config
        with _translated(config):
            self.isolation, self.warnings = begin(connection, config.source)

    def read(self, query: Query) -> SqlServerRows:
        """Send one query. The answer streams: one query at a time."""
        config = self._config
        with _translated(config):
            counted = self._count(query)
            cursor = self._connection.cursor()
            cursor.execute(*_statement(query))
            # A procedure may send row counts and messages before its rows.
            while cursor.description is None and cursor.nextset():
                pass
            return SqlServerRows(cursor, config, counted, enforce=self.isolation in _CONSISTENT, query=query)

    def columns(self, query: Query) -> tuple[str, ...]:
        """Return the columns that a query gives, without running it where SQL Server can tell."""
        with _translated(self._config):
            cursor = self._connection.cursor()
            if query.table:
                cursor.execute(f"SELECT TOP (0) * FROM {_quoted(query.table)}")
                names = tuple(column[0] for column in cursor.description or ())
                cursor.fetchall()
                return names
        rows = self.read(query)
        rows.cancel()
        return rows.columns

    def _count(self, query: Query) -> int | None:
        """Return COUNT_BIG(*) of a table, or what the configured count_query gives; None without either."""
        if query.table:
            statement: tuple[Any, ...] = (f"SELECT COUNT_BIG(*) FROM {_quoted(query.table)}",)
        elif query.count_query:
            statement = _parametrised(query.count_query, query)
        else:
            return None
        cursor = self._connection.cursor()
        cursor.execute(*statement)
        row = cursor.fetchone()
        cursor.fetchall()
        if not row or not isinstance(row[0], int):
            if query.table:
                raise SourceError("truncated", f"COUNT_BIG(*) of {query.table} gave no number.", remedy=_LOOK_AT_LOG)
            raise SourceError("query", "count_query gave no number.", remedy="It has to be SELECT COUNT_BIG(*) FROM …")
        return int(row[0])


class SqlServerRows:
    """The rows of one query, streamed."""

    def __init__(self, cursor: Any, config: Config, counted: int | None, *, enforce: bool, query: Query) -> None:
        self._cursor = cursor
        self._config = config
        self._enforce = enforce
        self._query = query
        self.expected = counted
        self.columns = tuple(column[0] for column in cursor.description or ())
        if not self.columns:
            raise SourceError(
                "query",
                "The query gives no rows.",
                remedy="It has to be a SELECT, or a procedure that ends in one.",
            )

    def batches(self) -> Iterator[Sequence[tuple[Any, ...]]]:
        """Yield the rows; at the end the server's own count must be the number of rows read.

        A result that ends with nothing but an error bit looks like a clean end to the driver, but
        leaves no count. So no count is a failure too.
        """
        read = 0
        while True:
            with _translated(self._config):
                batch = self._cursor.fetchmany(self._config.source.fetch_rows)
            if not batch:
                break
            read += len(batch)
            yield batch
        what = self._query.table or self._query.procedure or "the query"
        reported = self._cursor.rowcount
        if reported < 0:
            remedy = _LOOK_AT_LOG
            if self._query.procedure:
                remedy = (
                    f"Put SET NOCOUNT OFF before the SELECT of {what}: "
                    "without a count a cut result cannot be told from a whole one."
                )
            raise SourceError("truncated", f"After {read} rows of {what} the server sent no row count.", remedy=remedy)
        counted = self.expected if self._enforce else None
        check_row_count(read=read, reported=reported, counted=counted, what=what)

    def cancel(self) -> None:
        """Let the rest of the answer go."""
        with contextlib.suppress(pymssql.Error):
            self._cursor.close()


def _quoted(name: str) -> str:
    """Quote a table or procedure name as T-SQL identifiers: [schema].[table]."""
    return ".".join("[" + part.replace("]", "]]") + "]" for part in split_name(name))


def _statement(query: Query) -> tuple[Any, ...]:
    """Return what cursor.execute takes."""
    if query.table:
        return (f"SELECT * FROM {_quoted(query.table)}",)
    if query.procedure:
        names = ", ".join(f"@{_parameter_name(name)} = %s" for name in query.parameters)
        text = f"EXEC {_quoted(query.procedure)} {names}".rstrip()
        return (text, tuple(query.parameters.values())) if names else (text,)
    return _parametrised(query.query, query)


def _parametrised(text: str, query: Query) -> tuple[Any, ...]:
    """Return a query with its @parameters for sp_executesql, so that SQL Server itself binds them."""
    if not query.parameters:
        return (text,)
    kinds = {bool: "bit", int: "bigint", float: "float", str: "nvarchar(4000)"}
    declared = ", ".join(f"@{_parameter_name(name)} {kinds[type(value)]}" for name, value in query.parameters.items())
    names = ", ".join(f"@{_parameter_name(name)} = %s" for name in query.parameters)
    return f"EXEC sp_executesql %s, %s, {names}", (text, declared, *query.parameters.values())


def _parameter_name(name: str) -> str:
    if not name.replace("_", "").isalnum() or not name.isascii():
        raise SourceError("query", f'"{name}" is not the name of a parameter.', remedy="Use letters, digits and _.")
    return name


@contextlib.contextmanager
def _translated(config: Config, *, login: bool = False) -> Iterator[None]:
    """Turn what pymssql raises into a SourceError: cause in one sentence, and what to do."""
    try:
        yield
    except (pymssql.Error, pymssql.Warning, _mssql.MSSQLException) as error:
        raise explain(error, config, login=login) from None
