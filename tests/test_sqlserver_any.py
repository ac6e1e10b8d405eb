"""Reads that hold on any SQL Server: always the TDS test server, and a real one when SCIM_TEST_SQLSERVER is set.

    SCIM_TEST_SQLSERVER='sqlserver://user:password@host:1433/database?verify=none' make test

The login has to be allowed to create and drop tables and procedures in that database; everything made
here has a random name and is dropped again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
import pymssql
import pytest
from sqlserver_fixtures import SETTINGS, Authority, refresh, source_of
from tds_server import TdsServer

from snapshot.config import Config, parse_config
from snapshot.reader import open_snapshot
from snapshot.scim import USER, ScimVersion
from snapshot.sources import open_source
from snapshot.sources.freetds import SERVER_NAME, write_conf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.sqlserver

URL = os.environ.get("SCIM_TEST_SQLSERVER", "")
URN = "urn:okta:acme_hr_1:1.0:user:custom"

# column, SQL Server type, T-SQL literal, the same for SQLite, SCIM type, expected JSON value
COLUMNS: list[tuple[str, str, str, Any, str, Any]] = [
    ("c_tinyint", "tinyint", "255", 255, "integer", 255),
    ("c_smallint", "smallint", "-32768", -32768, "integer", -32768),
    ("c_int", "int", "2147483647", 2147483647, "integer", 2147483647),
    ("c_bigint", "bigint", "-9223372036854775808", -9223372036854775808, "integer", -9223372036854775808),
    ("c_bit", "bit", "1", 1, "boolean", True),
    ("c_decimal", "decimal(9,4)", "12345.0600", "12345.06", "decimal", 12345.06),
    ("c_money", "money", "1234.5", "1234.5", "decimal", 1234.5),
    ("c_float", "float", "0.1", 0.1, "decimal", 0.1),
    ("c_char", "char(10)", "'ab'", "ab", "string", "ab"),
    ("c_varchar", "varchar(20)", "'O''Brien'", "O'Brien", "string", "O'Brien"),
    ("c_nchar", "nchar(5)", "N'Żół'", "Żół", "string", "Żół"),
    ("c_nvarchar", "nvarchar(20)", "N'山田 😀'", "山田 😀", "string", "山田 😀"),
    ("c_max", "[nvarchar(max)]", "REPLICATE(CAST(N'ä' AS nvarchar(max)), 20000)", "ä" * 20000, "string", "ä" * 20000),
    ("c_binary", "binary(4)", "0x00FF10AB", b"\x00\xff\x10\xab", "binary", "AP8Qqw=="),
    ("c_varbinary", "varbinary(8)", "0x01", b"\x01", "binary", "AQ=="),
    ("c_date", "date", "'2009-01-14'", "2009-01-14", "dateTime", "2009-01-14T00:00:00Z"),
    ("c_datetime", "datetime", "'2014-06-30T01:02:03.457'", "2014-06-30 01:02:03.457", "dateTime", "2014-06-30T01:02:03.457Z"),
    ("c_datetime2", "datetime2(7)", "'0001-01-01T00:00:00.1234567'", "0001-01-01 00:00:00.1234567", "dateTime", "0001-01-01T00:00:00.123456Z"),
    ("c_offset", "datetimeoffset(3)", "'2020-07-01T12:00:00.000+02:00'", "2020-07-01 12:00:00.000+02:00", "dateTime", "2020-07-01T10:00:00Z"),
    ("c_guid", "uniqueidentifier", "'6F9619FF-8B86-D011-B42D-00C04FC964FF'", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "uniqueidentifier", "6f9619ff-8b86-d011-b42d-00c04fc964ff"),
    ("c_null", "nvarchar(10)", "NULL", None, "string", None),
]  # fmt: skip

MAPPING: dict[str, Any] = {
    "id": "id",
    "userName": "login",
    "active": "c_bit",
    URN: {name: {"column": name, "type": kind} for name, _, _, _, kind, _ in COLUMNS},
}


class Target:
    """A database with one table of one row of every type, and a procedure that reads it."""

    def __init__(self, config: dict[str, Any], folder: Path, table: str, procedure: str) -> None:
        self.table, self.procedure = table, procedure
        self._source = config
        self._folder = folder

    def config(self, **source: Any) -> Config:
        tables = {
            "data_dir": "data",
            "source": {**self._source, "users": {"table": self.table}, **source},
            "mapping": MAPPING,
            "server": {"auth": [{"type": "none"}]},
        }
        return parse_config(tables, where="config.toml", base=self._folder)


@pytest.fixture(params=["tds", "real"])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    if request.param == "tds":
        with _tds_target(tmp_path) as made:
            yield made
        return
    if not URL:
        pytest.skip("SCIM_TEST_SQLSERVER is not set")
    with _real_target(tmp_path, monkeypatch) as made:
        yield made


@contextlib.contextmanager
def _tds_target(folder: Path) -> Iterator[Target]:
    path = folder / "any.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        declared = ", ".join(f"{name} {kind}" for name, kind, *_ in COLUMNS)
        database.execute(f"CREATE TABLE Everything (id int, login nvarchar(50), {declared})")
        marks = ", ".join("?" * (len(COLUMNS) + 2))
        database.execute(f"INSERT INTO Everything VALUES ({marks})", [1, "zoë", *(row[3] for row in COLUMNS)])
        database.commit()
    authority = Authority(folder)
    with TdsServer(path, certificate=authority.certificate(), **SETTINGS) as tds:
        tds.procedure("dbo.ReadEverything", "SET NOCOUNT OFF; SELECT * FROM dbo.Everything WHERE id = @id")
        yield Target(source_of(tds), folder, "dbo.Everything", "dbo.ReadEverything")
        assert [] == [log.failure for log in tds.sessions if log.failure]


@contextlib.contextmanager
def _real_target(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    parts = urlsplit(URL)
    source: dict[str, Any] = {
        "driver": "sqlserver",
        "server": parts.hostname,
        "port": parts.port or 1433,
        "database": parts.path.strip("/"),
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "tls": {name: values[-1] for name, values in parse_qs(parts.query).items()},
    }
    name = f"scim_snapshot_test_{secrets.token_hex(6)}"
    made = Target(source, folder, f"dbo.{name}", f"dbo.{name}_read")
    config = made.config()
    conf = folder / "conf"
    conf.mkdir()
    monkeypatch.setenv("FREETDSCONF", str(write_conf(config, conf)))
    connection = pymssql.connect(
        server=SERVER_NAME,
        port=str(source["port"]),
        user=source["username"],
        password=source["password"],
        database=source["database"],
        autocommit=True,
    )
    with contextlib.closing(connection), contextlib.closing(connection.cursor()) as cursor:
        declared = ", ".join(f"{column} {kind.strip('[]')}" for column, kind, *_ in COLUMNS)
        values = ", ".join(literal for _, _, literal, *_ in COLUMNS)
        cursor.execute(f"CREATE TABLE dbo.{name} (id int PRIMARY KEY, login nvarchar(50), {declared})")
        try:
            cursor.execute(f"INSERT INTO dbo.{name} VALUES (1, N'zoë', {values})")
            cursor.execute(
                f"CREATE PROCEDURE dbo.{name}_read @id int AS SET NOCOUNT OFF; SELECT * FROM dbo.{name} WHERE id = @id"
            )
            yield made
        finally:
            cursor.execute(f"DROP PROCEDURE IF EXISTS dbo.{name}_read")
            cursor.execute(f"DROP TABLE dbo.{name}")


def only_user(config: Config) -> dict[str, Any]:
    snapshot = open_snapshot(config.data_dir)
    assert 1 == snapshot.count(USER)
    return orjson.loads(bytes(snapshot.resources(USER, ScimVersion.V2_0, 0, 1)))


def test_every_type_arrives_as_its_scim_value(target: Target) -> None:
    """Each SQL Server type that a people table has becomes the JSON value that SCIM wants; NULL is left out."""
    config = target.config()
    outcome = refresh(config)
    assert ("published", "") == (outcome.state, outcome.reason)
    user = only_user(config)
    assert ("1", "zoë", True) == (user["id"], user["userName"], user["active"])
    assert {name: value for name, *_, value in COLUMNS if value is not None} == user[URN]


@pytest.mark.parametrize("kind", ["table", "query", "procedure"])
def test_table_query_and_procedure_give_the_same(target: Target, kind: str) -> None:
    """A table, a query with parameters and a stored procedure with parameters give the same user."""
    users: dict[str, dict[str, Any]] = {
        "table": {"table": target.table},
        "query": {
            "query": f"SELECT * FROM {target.table} WHERE id = @id AND login = @login",
            "parameters": {"id": 1, "login": "zoë"},
            "count_query": f"SELECT COUNT_BIG(*) FROM {target.table} WHERE id = @id AND login = @login",
        },
        "procedure": {"procedure": target.procedure, "parameters": {"id": 1}},
    }
    config = target.config(users=users[kind])
    outcome = refresh(config)
    assert ("published", "") == (outcome.state, outcome.reason)
    assert "zoë" == only_user(config)["userName"]


@pytest.mark.parametrize(
    ("users", "code"),
    [
        ({"table": "dbo.scim_snapshot_no_such_table"}, "missing_object"),
        ({"procedure": "dbo.scim_snapshot_no_such_procedure"}, "missing_object"),
        ({"query": "SELECT scim_snapshot_no_such_column FROM {table}"}, "missing_column"),
        ({"query": "SELEC 1"}, "query"),
    ],
)
def test_what_is_not_there_is_named(target: Target, users: dict[str, str], code: str) -> None:
    """A table, procedure or column that does not exist fails the refresh with its own code and a remedy."""
    named = {name: text.format(table=target.table) for name, text in users.items()}
    outcome = refresh(target.config(users=named))
    assert ("failed", code) == (outcome.state, outcome.code)
    assert outcome.remedy


def test_a_wrong_password_is_a_refused_login(target: Target) -> None:
    """SQL Server's refusal of the login is told as such."""
    outcome = refresh(target.config(password="certainly wrong"))
    assert ("failed", "login_refused") == (outcome.state, outcome.code)


def test_the_columns_are_known_without_reading(target: Target) -> None:
    """The check before the first refresh sees the columns and the isolation level, and reads no row."""
    config = target.config()
    with open_source(config) as source:
        assert ("id", "login", *(row[0] for row in COLUMNS)) == source.columns(config.source.users)
        assert source.isolation in {"snapshot", "read committed snapshot", "read committed", "read-only replica"}
