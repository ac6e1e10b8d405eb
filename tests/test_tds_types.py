"""Every column type of the TDS test server, read by two independent clients: pymssql and python-tds."""

from __future__ import annotations

import contextlib
import datetime as dt
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tds_clients import (
    CLIENTS,
    GUID,
    plain_freetds_conf,
    rows_of,
    via_pymssql,
    via_pytds,
)
from tds_server import Column, Result, TdsServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_freetds_conf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FREETDSCONF", plain_freetds_conf(tmp_path))


UTF8 = "Latin1_General_100_CI_AS_SC_UTF8"
CYRILLIC = "Cyrillic_General_CI_AS"
INDIA = dt.timezone(dt.timedelta(hours=5, minutes=30))

TYPES: list[tuple[str, list[Any]]] = [
    ("tinyint", [0, 255]),
    ("smallint", [-(2**15), 2**15 - 1]),
    ("int", [-(2**31), 2**31 - 1]),
    ("bigint", [-(2**63), 2**63 - 1]),
    ("bit", [True, False]),
    ("real", [1.5, -0.25]),
    ("float", [0.1, -1e308]),
    ("money", [Decimal("922337203685477.5807"), Decimal("-922337203685477.5808"), Decimal("-0.0001")]),
    ("smallmoney", [Decimal("-214748.3648"), Decimal("214748.3647")]),
    ("decimal(4,2)", [Decimal("0.80"), Decimal("-99.99")]),
    ("decimal(19,0)", [Decimal(10**18)]),
    ("decimal(28,10)", [Decimal("-123456789012345678.0123456789")]),
    ("decimal(38,10)", [Decimal("1234567890123456789012345678.0123456789")]),
    ("numeric(28,28)", [Decimal("0.1")]),
    ("char(5)", ["é€xyz"]),
    ("varchar(10)", ["é€'x", ""]),
    ("varchar(max)", ["é" * 70_000, ""]),
    ("nchar(4)", ["añ語x"]),
    ("nvarchar(50)", ["😀中文 é", "", "اسم"]),
    ("nvarchar(max)", ["😀" * 50_000, ""]),
    ("binary(2)", [b"\0\xff"]),
    ("varbinary(10)", [b"\xff\0", b""]),
    ("varbinary(max)", [b"\0\1" * 100_000, b""]),
    ("rowversion", [b"\0\0\0\0\0\0\x07\xd1"]),
    ("date", [dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(2020, 2, 29)]),
    ("time(0)", [dt.time(23, 59, 59)]),
    ("time(3)", [dt.time(1, 2, 3, 456_000)]),
    ("time(7)", [dt.time(0), dt.time(23, 59, 59, 999_999)]),
    ("smalldatetime", [dt.datetime(1900, 1, 1), dt.datetime(2079, 6, 6, 23, 59)]),
    ("datetime", [dt.datetime(1753, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 997_000)]),
    ("datetime", [dt.datetime(2014, 9, 12, 11, 15, 6, 967_000), dt.datetime(2014, 9, 12, 11, 15, 6, 3_000)]),
    ("datetime2(0)", [dt.datetime(2020, 2, 29, 23, 59, 59)]),
    ("datetime2(3)", [dt.datetime(1, 1, 1, 0, 0, 0, 1_000)]),
    ("datetime2(7)", [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999_999)]),
    ("datetimeoffset(0)", [dt.datetime(1, 1, 1, tzinfo=dt.UTC)]),
    ("datetimeoffset(7)", [dt.datetime(2020, 1, 1, 0, 0, 0, 123_456, tzinfo=INDIA)]),
    (
        "datetimeoffset(3)",
        [dt.datetime(9999, 12, 31, 15, 59, 59, tzinfo=dt.timezone(dt.timedelta(hours=-8)))],
    ),
    ("uniqueidentifier", [GUID, uuid.UUID(int=0)]),
    ("xml", ["<a>é</a>"]),
]


@pytest.mark.parametrize("compressed", [True, False], ids=["nbcrow", "row"])
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("kind", "values"), TYPES, ids=[f"{kind}-{at}" for at, (kind, _) in enumerate(TYPES)])
def test_every_type_arrives_as_the_same_value(client: str, kind: str, values: list[Any], compressed: bool) -> None:
    """Both clients read each value of each type, and NULL in ROW and NBCROW, as the Python value it was."""
    nullable = Result([Column("a", kind), Column("b", "int")], [*((value, 1) for value in values), (None, 2)])
    fixed = Result([Column("a", kind, nullable=False), Column("b", "int")], [(value, 1) for value in values])
    with (
        TdsServer(compressed_rows=compressed) as server,
        contextlib.closing(CLIENTS[client](server)) as connection,
    ):
        server.answer("nullable", nullable)
        server.answer("fixed", fixed)
        read = [tuple(row) for row in rows_of(connection, "nullable")]
        assert [*((value, 1) for value in values), (None, 2)] == read
        assert [type(value) for value in values] == [type(row[0]) for row in read[:-1]]
        assert values == [row[0] for row in rows_of(connection, "fixed")]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("kind", "sent", "read"),
    [
        ("char(5)", "ab", "ab   "),
        ("nchar(4)", "añ", "añ  "),
        ("binary(4)", b"\1", b"\1\0\0\0"),
        ("time(7)", "23:59:59.9999999", dt.time(23, 59, 59, 999_999)),
        ("datetime2(7)", "2020-01-02 03:04:05.1234567", dt.datetime(2020, 1, 2, 3, 4, 5, 123_456)),
        ("datetime", "2014-09-12 11:15:06.968", dt.datetime(2014, 9, 12, 11, 15, 6, 967_000)),
        (
            "datetimeoffset(7)",
            "2020-06-01 12:00:00.1234567 -08:00",
            dt.datetime(2020, 6, 1, 20, 0, 0, 123_456, tzinfo=dt.UTC),
        ),
        ("decimal(4,2)", "0.8", Decimal("0.80")),
        ("varchar(10)", "😀", "??"),
    ],
)
def test_padding_and_truncation_are_those_of_sql_server(client: str, kind: str, sent: Any, read: Any) -> None:
    """Short char and binary are padded; what Python cannot hold is cut to microseconds, not rounded."""
    if kind == "varchar(10)":
        read = "?"
    with TdsServer() as server, contextlib.closing(CLIENTS[client](server)) as connection:
        server.answer("q", Result([Column("a", kind)], [(sent,)]))
        assert read == rows_of(connection, "q")[0][0]


@pytest.mark.parametrize(
    ("collation", "text", "clients"),
    [(UTF8, "é€中😀", ["pymssql"]), (CYRILLIC, "Привет", ["pymssql", "python-tds"])],
)
def test_varchar_is_encoded_by_its_collation(collation: str, text: str, clients: list[str]) -> None:
    """A varchar column uses the code page of its collation; python-tds does not know UTF-8 collations."""
    for client in clients:
        with TdsServer() as server, contextlib.closing(CLIENTS[client](server)) as connection:
            columns = [
                Column("a", "varchar(40)", collation=collation),
                Column("b", "varchar(max)", collation=collation),
            ]
            server.answer("q", Result(columns, [(text, text * 1000)]))
            assert (text, text * 1000) == tuple(rows_of(connection, "q")[0])


def test_sql_variant_reaches_pymssql_as_raw_bytes() -> None:
    """DATABASEPROPERTYEX returns sql_variant; pymssql hands over raw bytes unless the query converts it."""
    property_ = "DATABASEPROPERTYEX(DB_NAME(), 'Updateability')"
    with (
        TdsServer(updateability="READ_ONLY") as server,
        contextlib.closing(via_pymssql(server)) as connection,
    ):
        assert [(b"READ_ONLY",)] == rows_of(connection, f"SELECT {property_}")
        assert [("READ_ONLY",)] == rows_of(connection, f"SELECT CONVERT(nvarchar(20), {property_})")
    with TdsServer() as server, contextlib.closing(via_pytds(server)) as connection:
        assert "READ_WRITE" == rows_of(connection, f"SELECT {property_}")[0][0]


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[TdsServer, dict[str, Any], Any, Any]]:
    """One server and both clients for the property tests; the dictionary holds the next answer."""
    slot: dict[str, Any] = {}
    with TdsServer() as server:
        server.answer(lambda sql, _params, _log: slot.get(sql))
        with contextlib.closing(via_pymssql(server)) as one, contextlib.closing(via_pytds(server)) as other:
            yield server, slot, one, other


ROW = st.tuples(
    st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)),
    st.one_of(st.none(), st.decimals(-(10**11), 10**11, places=4)),
    st.one_of(st.none(), st.dates()),
    st.one_of(st.none(), st.datetimes()),
    st.one_of(st.none(), st.times()),
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    st.one_of(st.none(), st.binary(max_size=40)),
    st.one_of(st.none(), st.uuids()),
)
ROW_COLUMNS = [
    Column(f"c{at}", kind)
    for at, kind in enumerate(
        ["nvarchar(120)", "decimal(19,4)", "date", "datetime2(6)", "time(6)", "bigint", "varbinary(40)",
         "uniqueidentifier"]
    )
]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW, max_size=5))
def test_any_row_makes_the_round_trip(shared: Any, rows: list[tuple[Any, ...]]) -> None:
    """Whatever the row, both clients read what was sent."""
    _, slot, *connections = shared
    slot["q"] = Result(ROW_COLUMNS, rows)
    for connection in connections:
        assert rows == [tuple(row) for row in rows_of(connection, "q")]
