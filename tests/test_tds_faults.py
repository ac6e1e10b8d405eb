"""How the TDS test server misbehaves on demand, and what each client makes of it."""

from __future__ import annotations

import contextlib
import time
from decimal import Decimal
from typing import TYPE_CHECKING

import pymssql
import pytest
from tds_clients import (
    CLIENTS,
    NUMBERS,
    connect_in_new_process,
    make_people,
    number_of,
    plain_freetds_conf,
    read_until_error,
    rows_of,
    via_pymssql,
    via_pytds,
)
from tds_server import Column, Fault, PreparedRows, Result, SqlError, TdsServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_freetds_conf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FREETDSCONF", plain_freetds_conf(tmp_path))


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return make_people(tmp_path)


@pytest.mark.parametrize("prepared", [False, True], ids=["rows", "prepared"])
@pytest.mark.parametrize(
    ("kind", "number"),
    [("error", 50000), ("deadlock", 1205), ("reset", 20047), ("close", 20017), ("done-error", None)],
)
def test_a_fault_after_a_thousand_rows(kind: str, number: int | None, prepared: bool) -> None:
    """Error, deadlock, RST and FIN in mid-result raise in pymssql; DONE with only the error bit does not."""
    with TdsServer() as server, contextlib.closing(via_pymssql(server)) as connection:
        rows = PreparedRows.encode(NUMBERS.columns, NUMBERS.iterate()) if prepared else NUMBERS
        server.answer("numbers", rows)
        server.fault(Fault(kind, query=1, after_rows=1000))
        count, error, rowcount = read_until_error(connection)
        if number is None:
            assert (1000, None, -1) == (count, error, rowcount)
        else:
            assert number == number_of(error)
            assert count <= 1000
        if kind in {"error", "deadlock", "done-error"}:
            assert (5000, None, 5000) == read_until_error(connection)


def test_a_deadlock_rolls_the_transaction_back() -> None:
    """Error 1205 ends the victim's transaction and reaches python-tds too."""
    with TdsServer() as server, contextlib.closing(via_pytds(server)) as connection:
        server.answer("numbers", NUMBERS)
        server.fault(Fault("deadlock", after_rows=10, times=1))
        connection.cursor().execute("BEGIN TRAN")
        count, error, _ = read_until_error(connection)
        assert (1205, 0) == (error.msg_no, server.sessions[0].depth)
        assert count <= 10
        assert 5000 == read_until_error(connection)[0]


@pytest.mark.parametrize(("after_rows", "number"), [(0, 20003), (1000, 20047)])
def test_silence_ends_with_the_clients_timeout(after_rows: int, number: int) -> None:
    """A stalled server blocks pymssql until its `timeout`: 20003 before the first row, 20047 behind it."""
    with TdsServer() as server:
        server.answer("numbers", NUMBERS)
        server.fault(Fault("silence", after_rows=after_rows))
        connection = via_pymssql(server, timeout=1)
        try:
            started = time.monotonic()
            count, error, _ = read_until_error(connection)
            assert number == number_of(error)
            assert b"20003" in error.args[1]
            assert 0.5 < time.monotonic() - started < 6
            assert count <= after_rows
        finally:
            connection.close()
        other = via_pymssql(server)
        other._conn.query_timeout = 0  # process-global in DB-Library
        other.close()


@pytest.mark.parametrize("kind", ["silent-login", "silent-prelogin", "close-login", "reset-login", "refuse-login"])
def test_faults_at_login(kind: str) -> None:
    """A login that is never answered ends with `login_timeout`; one that is cut or refused ends at once."""
    with TdsServer() as server:
        server.fault(Fault(kind, connection=1))
        started = time.monotonic()
        failure = connect_in_new_process(server, login_timeout=1)
        assert time.monotonic() - started < 8
        numbers = {"refuse-login": "18456 ", "silent-login": "20002 ", "reset-login": "20002 "}
        assert failure.startswith(numbers.get(kind, "20017 "))
        assert connect_in_new_process(server) == "ok"


def test_slowness_is_per_row() -> None:
    """A slow server sends the rows one by one; all arrive."""
    with TdsServer() as server, contextlib.closing(via_pymssql(server)) as connection:
        server.answer("few", Result([Column("n", "int")], [(at,) for at in range(5)]))
        server.fault(Fault("slow", after_rows=1, seconds=0.05))
        started = time.monotonic()
        assert 5 == len(rows_of(connection, "few"))
        assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize("delta", [-1, 1])
def test_a_count_may_be_wrong(delta: int) -> None:
    """DONE can count more or fewer rows than were sent; only rowcount shows it."""
    with TdsServer() as server, contextlib.closing(via_pymssql(server)) as connection:
        server.answer("numbers", NUMBERS)
        server.fault(Fault("wrong-count", count_delta=delta))
        assert (5000, None, 5000 + delta) == read_until_error(connection)


def test_a_lone_surrogate_is_sent_as_it_is() -> None:
    """Invalid UTF-16 in one cell reaches the client: python-tds refuses it, pymssql silently replaces it."""
    with TdsServer() as server:
        server.answer("numbers", NUMBERS)
        server.fault(Fault("lone-surrogate", column="name", after_rows=2))
        with contextlib.closing(via_pytds(server)) as connection, pytest.raises(UnicodeDecodeError):
            rows_of(connection, "numbers")
        with contextlib.closing(via_pymssql(server)) as connection:
            cursor = connection.cursor()
            cursor.execute("numbers")
            row = cursor.fetchmany(3)[2]
            assert "bad" == row[1][:3]
            assert "bad \ud800 surrogate" != row[1]


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("bad \ud800 surrogate", "bad ? surrogate"), ("\udc00 first", "? first"), ("swapped \udc00\ud83d.", "swapped ??."),
        ("at the end \ud83d", "at the end "), ("typed ?", "typed ?"), ("stored \ufffd", "stored \ufffd"), ("\U0001f600", "\U0001f600"),
    ],
)  # fmt: skip
def test_what_pymssql_makes_of_broken_characters(sent: str, seen: str) -> None:
    """A lone surrogate cannot be told from a question mark, nor U+FFFD from one that is stored; see docs/sql-server.md."""
    with TdsServer() as server, contextlib.closing(via_pymssql(server)) as connection:
        server.answer("texts", Result([Column("name", "nvarchar(50)")], [(sent,)]))
        assert [(seen,)] == rows_of(connection, "texts")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_huge_cell_arrives_whole(client: str) -> None:
    """One cell of ten megabytes passes."""
    with TdsServer() as server, contextlib.closing(CLIENTS[client](server)) as connection:
        server.answer("few", Result([Column("n", "int"), Column("name", "nvarchar(9)")], [(1, "a"), (2, "b")]))
        server.fault(Fault("huge-cell", column="name", after_rows=1))
        assert [1, 5_000_000] == [len(row[1]) for row in rows_of(connection, "few")]


def test_a_column_may_vanish_or_change_between_connections(people: Path) -> None:
    """A vanished column is error 207, or missing under a star; a changed type arrives as that type."""
    with TdsServer(people) as server:
        server.fault(Fault("missing-column", column="fte", connection=2))
        server.fault(Fault("changed-type", column="manager", type="nvarchar(20)", connection=3))
        sql = "SELECT login, fte, manager FROM dbo.Users WHERE manager = 5"
        for expected in [("zoë 😀", Decimal("0.80"), 5), None, ("zoë 😀", Decimal("0.80"), "5")]:
            with contextlib.closing(via_pymssql(server)) as connection:
                if expected:
                    assert [expected] == rows_of(connection, sql)
                    continue
                with pytest.raises(pymssql.DatabaseError) as vanished:
                    rows_of(connection, sql)
                assert 207 == number_of(vanished.value)
                assert 7 == len(rows_of(connection, "SELECT * FROM dbo.Users")[0])


@pytest.mark.parametrize(
    ("kind", "number", "words"),
    [
        (
            "permission",
            229,
            b"The SELECT permission was denied on the object 'Users', database 'HR', schema 'dbo'.",
        ),
        ("snapshot-disallowed", 3952, b"Snapshot isolation transaction failed accessing database 'HR'"),
    ],
)
def test_a_query_may_be_refused(kind: str, number: int, words: bytes, people: Path) -> None:
    """Permission denied and snapshot not allowed are 229 and 3952; only the matching query is hit."""
    with TdsServer(people) as server, contextlib.closing(via_pymssql(server)) as connection:
        server.fault(Fault(kind, match=r"\bUsers\b"))
        connection.cursor().execute("SET TRANSACTION ISOLATION LEVEL SNAPSHOT")
        with pytest.raises(pymssql.DatabaseError) as refused:
            rows_of(connection, "SELECT login FROM [dbo].[Users]")
        assert number == number_of(refused.value)
        assert words in refused.value.args[1]
        assert [("Sales",)] == rows_of(connection, "SELECT name FROM hr.Department")


def test_cancel_is_acknowledged() -> None:
    """A client that stops reading sends Attention, gets its DONE, and the connection goes on."""
    endless = Result(
        [Column("n", "int"), Column("t", "nvarchar(200)")], lambda: ((at, "x" * 200) for at in range(10**7))
    )
    with TdsServer() as server:
        server.answer("endless", endless)
        server.answer("one", Result([Column("n", "int")], [(1,)]))
        for connect in (via_pymssql, via_pytds):
            with contextlib.closing(connect(server)) as connection:
                cursor = connection.cursor()
                cursor.execute("endless")
                assert 5 == len(cursor.fetchmany(5))
                cursor.cancel() if hasattr(cursor, "cancel") else connection._conn.cancel()
                assert 1 == rows_of(connection, "one")[0][0]
        assert all(log.attentions for log in server.sessions)


def test_an_error_may_come_from_the_rows() -> None:
    """A SqlError raised by the rows of a result, or given as a result, is an ERROR token there."""

    def rows() -> Iterator[tuple[int]]:
        yield (1,)
        raise SqlError(8134, "Divide by zero error encountered.")

    with TdsServer() as server, contextlib.closing(via_pymssql(server)) as connection:
        server.answer("half", Result([Column("n", "int")], rows))
        server.answer("none", [SqlError(8134, "Divide by zero error encountered.")])
        for sql in ("half", "none"):
            assert 8134 == number_of(read_until_error(connection, sql)[1])
