"""What the TDS test server does with T-SQL: SQLite behind it, procedures, transactions."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import sqlite3
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pymssql
import pytds
import pytest
from tds_clients import (
    CLIENTS,
    GUID,
    make_people,
    number_of,
    plain_freetds_conf,
    rows_of,
    via_pymssql,
    via_pytds,
)
from tds_server import Column, Count, Info, Result, TdsServer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_freetds_conf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FREETDSCONF", plain_freetds_conf(tmp_path))


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return make_people(tmp_path)


@pytest.mark.parametrize("client", CLIENTS)
def test_sqlite_rows_have_the_declared_types(client: str, people: Path) -> None:
    """A table made with SQL Server's types is served with them, whatever SQLite stores."""
    with TdsServer(people) as server, contextlib.closing(CLIENTS[client](server)) as connection:
        first, second, third = rows_of(connection, "SELECT * FROM [HR].[dbo].[Users]")
        changed = dt.datetime(2014, 6, 30, 1, 2, 3, 456_000)
        expected = (GUID, "zoë 😀", Decimal("0.80"), dt.date(2009, 1, 14), changed, True, 5, b"\0\1")
        assert expected == tuple(first)
        assert dt.date(1, 1, 1) == second[3]
        assert (uuid.UUID(int=3), *[None] * 7) == tuple(third)
        assert "" == "".join(log.failure for log in server.sessions)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT COUNT_BIG(*) FROM [dbo].[Users]", [(3,)]),
        ("SELECT COUNT_BIG(*) FROM (SELECT login, fte FROM dbo.Users WHERE active = 1) AS q", [(1,)]),
        ("SELECT TOP (1) u.[login] FROM dbo.Users AS u WHERE u.login = N'o''brien'", [("o'brien",)]),
        ("SELECT TOP 1 ISNULL(login, N'nobody') AS who FROM Users ORDER BY login", [("nobody",)]),
        ("SELECT LEN(login) FROM Users WHERE login LIKE N'o%'", [(7,)]),
        ("SELECT CONVERT(nvarchar(10), hired, 23) FROM Users WHERE manager = 5", [("2009-01-14",)]),
        ("SELECT CAST(manager AS bigint) FROM Users WHERE manager IS NOT NULL", [(5,)]),
        ("SELECT login + N'@x' AS mail FROM Users WITH (NOLOCK) WHERE manager = 5", [("zoë 😀@x",)]),
        ("SELECT MAX(hired) AS latest FROM Users", [(dt.date(2009, 1, 14),)]),
        ("SELECT d.name FROM hr.Department d JOIN dbo.Users u ON u.manager = 5", [("Sales",)]),
        ("SELECT name FROM [hr].[Department] -- comment\nWHERE id = 1", [("Sales",)]),
        ("WITH x AS (SELECT manager FROM Users) SELECT manager FROM x WHERE manager > 1", [(5,)]),
        ("SELECT login FROM Users ORDER BY login OFFSET 1 ROWS FETCH NEXT 1 ROWS ONLY", [("o'brien",)]),
        (
            "SELECT CASE WHEN active = 1 THEN N'yes' ELSE N'no' END AS a FROM Users WHERE manager = 5",
            [("yes",)],
        ),
        ("SELECT CAST(0x0000000000000007 AS bigint)", [(7,)]),
        ("SELECT UPPER(login) FROM Users WHERE manager = 5", [("ZOË 😀",)]),
        (
            "SELECT name FROM INFORMATION_SCHEMA.TABLES AS t JOIN Users u ON 1 = 0 CROSS JOIN hr.Department",
            [],
        ),
        ("SELECT 1 AS one; SELECT 2 AS two", [(1,)]),
        ("DECLARE @m int = 5 SELECT login FROM Users WHERE manager = @m", [("zoë 😀",)]),
    ],
)
def test_simple_t_sql_is_translated(sql: str, expected: list[tuple[Any, ...]], people: Path) -> None:
    """Brackets, schemas, TOP, N'' literals, functions, hints, CTEs and paging work on SQLite."""
    with TdsServer(people) as server, contextlib.closing(via_pymssql(server)) as connection:
        assert expected == rows_of(connection, sql)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("sql", "number", "words"),
    [
        ("SELECT * FROM [dbo].[Persons]", 208, "Invalid object name 'dbo.Persons'."),
        ("SELECT u.nmae FROM dbo.Users u", 207, "Invalid column name 'nmae'."),
        ('SELECT "nmae" FROM dbo.Users', 207, "Invalid column name 'nmae'."),
        ("SELECT id FROM Users, hr.Department", 209, "Ambiguous column name 'id'."),
        ("SELECT SOUNDEXX(login) FROM Users", 195, "'SOUNDEXX' is not a recognized built-in function name."),
        ("SELEC 1", 102, "Incorrect syntax near 'SELEC'."),
        ("EXEC dbo.Missing", 2812, "Could not find stored procedure 'dbo.Missing'."),
        ("SELECT @nobody", 137, 'Must declare the scalar variable "@nobody".'),
        ("DELETE FROM dbo.Users", 3906, 'Failed to update database "HR" because the database is read-only.'),
        ("COMMIT TRAN", 3902, "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION."),
        ("SELECT CAST(N'x' AS int) AS n", 245, "Conversion failed when converting the varchar value 'x'"),
    ],
)
def test_errors_have_sql_servers_numbers(client: str, sql: str, number: int, words: str, people: Path) -> None:
    """What SQLite complains about reaches the client with SQL Server's number and words."""
    with TdsServer(people) as server, contextlib.closing(CLIENTS[client](server)) as connection:
        with pytest.raises(Exception, match=re.escape(words)) as caught:
            rows_of(connection, sql)
        assert number == number_of(caught.value)
        assert number == server.sessions[0].statements[-1].error
        assert 3 == rows_of(connection, "SELECT COUNT(*) FROM Users")[0][0]


def test_parameters_reach_sp_executesql_with_their_types(people: Path) -> None:
    """python-tds sends sp_executesql by ProcID; each parameter arrives as the value it was."""
    values = [
        "é😀", 5, 2**40, True, dt.datetime(2020, 1, 2, 3, 4, 5), Decimal("1.25"), pytds.Binary(b"\0\1"), GUID,
        dt.date(2009, 1, 14),
    ]  # fmt: skip
    with TdsServer(people) as server, contextlib.closing(via_pytds(server)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT login FROM dbo.Users WHERE manager = %s AND id = %s", (5, GUID))
        assert "zoë 😀" == cursor.fetchone()[0]
        server.answer(re.compile("^probe"), Result([Column("a", "int")], [(1,)]))
        cursor.execute("probe " + "%s " * len(values), tuple(values))
        seen = list(server.sessions[0].statements[-1].params.values())
        assert values == [value.replace(tzinfo=None) if isinstance(value, dt.datetime) else value for value in seen]


def test_columns_of_a_query_are_described_without_running_it(people: Path) -> None:
    """sys.dm_exec_describe_first_result_set lists names and types, and a bad query as an error in a row."""
    ask = "SELECT name, system_type_name, error_number FROM sys.dm_exec_describe_first_result_set(%s, NULL, 0)"
    with TdsServer(people) as server, contextlib.closing(via_pymssql(server)) as connection:
        server.procedure("hr.People", "SELECT id, login FROM dbo.Users WHERE manager = @manager")
        cursor = connection.cursor()
        cursor.execute(ask, ("SELECT id, fte, MAX(hired) AS h, COUNT_BIG(*) AS n FROM dbo.Users WHERE login = N'x'",))
        assert [
            ("id", "uniqueidentifier", None),
            ("fte", "decimal(4,2)", None),
            ("h", "date", None),
            ("n", "bigint", None),
        ] == cursor.fetchall()
        cursor.execute(ask, ("SELECT nope FROM dbo.Users",))
        assert [(None, None, 207)] == cursor.fetchall()
        cursor.execute(ask, ("EXEC hr.People @manager = 5",))
        assert ["id", "login"] == [row[0] for row in cursor.fetchall()]


def test_unnamed_expressions_have_no_name(people: Path) -> None:
    """An expression without alias has an empty column name, as on SQL Server."""
    with TdsServer(people) as server, contextlib.closing(via_pymssql(server)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT COUNT(*), MAX(manager) AS m, login, 1 + 1 FROM Users")
        assert ["", "m", "login", ""] == [column[0] for column in cursor.description]
        cursor.fetchall()


# --- procedures, several results, counts ---


@pytest.mark.parametrize("how", ["rpc", "text", "positional", "python-tds"])
def test_procedures_run_by_rpc_and_by_exec(how: str, people: Path) -> None:
    """A registered procedure answers callproc and EXEC with its parameters by name or position."""
    with TdsServer(people) as server:
        server.procedure("[hr].[People]", "SELECT login FROM dbo.Users WHERE manager = @manager AND login LIKE @like")
        connect = via_pytds if how == "python-tds" else via_pymssql
        with contextlib.closing(connect(server)) as connection:
            cursor = connection.cursor()
            if how == "text":
                cursor.execute("EXEC [hr].[People] @manager = 5, @like = N'zo%'")
            elif how == "positional":
                cursor.execute("EXEC hr.People %s, %s", (5, "zo%"))
            else:
                cursor.callproc("hr.People", (5, "zo%"))
            assert ["zoë 😀"] == [row[0] for row in cursor.fetchall()]


def test_row_counts_may_come_before_the_rows() -> None:
    """A procedure without SET NOCOUNT ON sends counts first; pymssql goes straight to the first rows."""
    people = Result([Column("login", "nvarchar(20)")], [("ann",), ("bob",)])
    with TdsServer() as server, contextlib.closing(via_pymssql(server)) as connection:
        server.procedure("hr.Noisy", lambda _params, _log: [Info("working"), Count(7), people, people])
        cursor = connection.cursor()
        cursor.execute("EXEC hr.Noisy")
        seen = []
        while True:
            if cursor.description:
                seen.append(cursor.fetchall())
            if not cursor.nextset():
                break
        assert [[("ann",), ("bob",)], [("ann",), ("bob",)]] == [rows for rows in seen if rows]


def test_several_statements_answer_with_several_results(people: Path) -> None:
    """Statements of one batch, with or without semicolons, answer in order with the MORE bit between."""
    sql = "SET NOCOUNT OFF\nSELECT 1 AS a SELECT 2 AS b; SELECT login FROM Users WHERE manager = 5"
    for connect in (via_pymssql, via_pytds):
        with TdsServer(people) as server, contextlib.closing(connect(server)) as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            seen = []
            while True:
                if cursor.description:
                    seen.append(cursor.fetchall()[0][0])
                if not cursor.nextset():
                    break
            assert [1, 2, "zoë 😀"] == seen


@pytest.mark.parametrize(("nocount", "expected"), [("OFF", 3), ("ON", -1)])
def test_under_nocount_a_select_carries_no_count(nocount: str, expected: int, people: Path) -> None:
    """SET NOCOUNT ON takes the count from the DONE of a SELECT, so that pymssql's rowcount is -1."""
    with TdsServer(people) as server, contextlib.closing(via_pymssql(server)) as connection:
        cursor = connection.cursor()
        cursor.execute(f"SET NOCOUNT {nocount}")
        cursor.execute("SELECT login FROM Users")
        assert 3 == len(cursor.fetchall())
        assert expected == cursor.rowcount
        cursor.execute("SELECT @@ROWCOUNT")
        assert [(3,)] == cursor.fetchall()


# --- sessions, transactions, isolation ---


def test_session_settings_are_kept_and_logged(people: Path) -> None:
    """The statements a careful reader begins with are accepted, remembered and logged in order."""
    batch = (
        "SET NOCOUNT ON; SET XACT_ABORT ON; SET LOCK_TIMEOUT 30000; SET DEADLOCK_PRIORITY LOW;\n"
        "SET TRANSACTION ISOLATION LEVEL SNAPSHOT"
    )
    with TdsServer(people, read_committed_snapshot=True) as server:
        with contextlib.closing(via_pymssql(server)) as connection:
            ask = (
                "SELECT snapshot_isolation_state, is_read_committed_snapshot_on "
                "FROM sys.databases WHERE database_id = DB_ID()"
            )
            assert [(1, True)] == rows_of(connection, ask)
            cursor = connection.cursor()
            cursor.execute(batch)
            cursor.execute("BEGIN TRANSACTION")
            assert [(1,)] == rows_of(connection, "SELECT @@TRANCOUNT")
            rows_of(connection, "SELECT login FROM dbo.Users")
            cursor.execute("IF @@TRANCOUNT > 0 COMMIT TRAN")
            assert [(0,)] == rows_of(connection, "SELECT @@TRANCOUNT")
            assert "SQL Server 2022" in rows_of(connection, "SELECT @@VERSION")[0][0]
        log = server.sessions[0]
        assert ("30000", "LOW", "ON") == tuple(
            log.options[name] for name in ("LOCK_TIMEOUT", "DEADLOCK_PRIORITY", "XACT_ABORT")
        )
        assert [("SELECT login FROM dbo.Users", "SNAPSHOT", 1, 3)] == [
            (each.sql, each.isolation, each.depth, each.rows) for each in log.queries
        ]


@pytest.mark.parametrize(("level", "second"), [("SNAPSHOT", 3), ("READ COMMITTED", 4)])
def test_a_snapshot_transaction_sees_one_instant(level: str, second: int, people: Path) -> None:
    """At SNAPSHOT a write between two queries of a transaction is not seen; at READ COMMITTED it is."""
    with TdsServer(people) as server, contextlib.closing(via_pymssql(server)) as connection:
        cursor = connection.cursor()
        cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}; BEGIN TRAN")
        assert [(3,)] == rows_of(connection, "SELECT COUNT_BIG(*) FROM dbo.Users")
        with contextlib.closing(sqlite3.connect(people)) as writer:
            writer.execute("INSERT INTO Users (login) VALUES ('new')")
            writer.commit()
        assert [(second,)] == rows_of(connection, "SELECT COUNT_BIG(*) FROM dbo.Users")
        cursor.execute("COMMIT TRAN")
        assert [(4,)] == rows_of(connection, "SELECT COUNT_BIG(*) FROM dbo.Users")


def test_snapshot_needs_the_databases_leave(people: Path) -> None:
    """Under SNAPSHOT a database with state 0 answers 3952, and a transaction begun at another level 3951."""
    with TdsServer(people, snapshot_isolation_state=0) as server:
        with contextlib.closing(via_pymssql(server)) as connection:
            connection.cursor().execute("SET TRANSACTION ISOLATION LEVEL SNAPSHOT")
            with pytest.raises(pymssql.DatabaseError) as refused:
                rows_of(connection, "SELECT login FROM dbo.Users")
            assert 3952 == number_of(refused.value)
        server.settings.snapshot_isolation_state = 1
        with contextlib.closing(via_pymssql(server, autocommit=False)) as connection:  # BEGIN TRAN at connect
            connection.cursor().execute("SET TRANSACTION ISOLATION LEVEL SNAPSHOT")
            with pytest.raises(pymssql.DatabaseError) as late:
                rows_of(connection, "SELECT login FROM dbo.Users")
            assert 3951 == number_of(late.value)


def test_xact_abort_rolls_back(people: Path) -> None:
    """With XACT_ABORT an error ends the transaction; without, it stays open."""
    for setting, left in (("ON", 0), ("OFF", 1)):
        with TdsServer(people) as server, contextlib.closing(via_pymssql(server)) as connection:
            connection.cursor().execute(f"SET XACT_ABORT {setting}; BEGIN TRAN")
            with pytest.raises(pymssql.DatabaseError):
                rows_of(connection, "SELECT nope FROM Users")
            assert [(left,)] == rows_of(connection, "SELECT @@TRANCOUNT")


def test_python_tds_transactions_use_the_transaction_manager(people: Path) -> None:
    """Begin, commit and roll back by transaction manager request keep the depth right."""
    with TdsServer(people) as server, contextlib.closing(via_pytds(server, autocommit=False)) as connection:
        assert 1 == rows_of(connection, "SELECT @@TRANCOUNT")[0][0]
        connection.commit()
        connection.rollback()
        assert ["TM_BEGIN_XACT", "TM_COMMIT_XACT", "TM_BEGIN_XACT"] == [
            each.sql for each in server.sessions[0].statements if each.sql.startswith("TM_")
        ][:3]
