"""Rows mapped in blocks: the same users, rejects and index entries as row by row, whatever the database holds."""

from __future__ import annotations

import math
import sqlite3
import tomllib
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from snapshot.block import Block, block_of, pack, unpack
from snapshot.columnar import ColumnMapping
from snapshot.encode import Dresser, Encoded, encode, time_text, undress
from snapshot.errors import RejectError
from snapshot.fragments import json_texts
from snapshot.index import IndexWriter
from snapshot.layout import attributes_of
from snapshot.mapping import CompiledMapping
from snapshot.rules import read_mapping
from snapshot.scim import ScimVersion
from snapshot.strict import Reader

if TYPE_CHECKING:
    from snapshot.mapped import MappedBlock

COLUMNS = ("key", "login", "first", "last", "number", "flag", "moment", "day", "blob", "note", "boss")
CUSTOM = "urn:okta:acme_hr_1:1.0:user:custom"
MAPPINGS = {
    "simple": 'id = "key"\nuserName = "login"\nexternalId = "note"\n',
    "everything": f"""
        id = {{ column = "key", trim = false }}
        userName = {{ column = "login", case = "lower" }}
        externalId = {{ column = "number", type = "uniqueidentifier" }}
        name = {{ givenName = "first", familyName = "last", formatted = "{{first}} {{last}}" }}
        displayName = {{ template = "<{{first}}> {{last}}, {{number}}", case = "upper" }}
        nickName = {{ column = "note", default = "none" }}
        title = {{ column = "note", values = {{ D = "Developer", "1" = "One" }}, unmapped = "keep" }}
        userType = {{ constant = "Employee \\"1\\"" }}
        locale = {{ column = "last", values = {{ a = "de" }}, unmapped = "omit" }}
        active = {{ column = "flag", unmapped = true, default = true }}
        emails = [{{ value = "login", type = "work" }}, {{ value = "note", display = "first", type = "home", primary = true }}, {{ value = "boss" }}]
        phoneNumbers = [{{ value = "number", type = "mobile" }}]
        addresses = [{{ streetAddress = "note", locality = "last", type = "work", primary = true }}]
        photos = [{{ value = {{ column = "note", required = true }} }}]
        x509Certificates = [{{ value = "blob" }}]
        meta = {{ created = "moment" }}
        [enterprise]
        employeeNumber = {{ column = "number", trim = false }}
        department = {{ template = "{{last}}" }}
        manager = {{ value = "boss", displayName = "first" }}
        ["{CUSTOM}"]
        fte = {{ column = "number", type = "decimal" }}
        size = {{ column = "number", type = "integer" }}
        since = {{ column = "moment", type = "dateTime", timezone = "Europe/Paris" }}
        born = {{ column = "day", type = "dateTime" }}
        level = {{ constant = 1.5, type = "decimal" }}
        tags = [{{ column = "note", separator = ";" }}, "last"]
    """,
}
MAPPINGS["doubles"] = """
    id = "key"
    userName = "login"
    emails = [{ value = "first" }, { value = "last", type = "work" }, { value = "note", type = "work", display = "boss", primary = true }, { value = "boss", type = { column = "login" } }]
    phoneNumbers = [{ value = "first", type = "work" }, { value = "first", type = "home" }]
    ims = [{ value = "note", type = "x", primary = true }, { value = "first", type = "x" }, { value = "last", type = "x" }, { value = "note", type = "x" }]
    addresses = [{ locality = "first" }, { locality = "last", region = "note" }, { locality = "boss", type = { column = "note" }, primary = true }]
"""


def _is_quiet(number: Decimal) -> bool:
    """No database sends a signaling NaN, which Python does not even compare."""
    return not number.is_snan()


TEXTS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["", " ", '"', '",', ',"', '","', "\\", "\n", '",\n  "', "a;b; a", "D", "\ud800", "ß", "İ", "\0"]),
)
NUMBERS = st.one_of(st.integers(-(1 << 70), 1 << 70), st.floats(), st.decimals().filter(_is_quiet), st.booleans())
MOMENTS = st.one_of(
    st.datetimes(),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])),
    st.dates(),
    st.times(),
)
ANY = st.one_of(st.none(), TEXTS, NUMBERS, MOMENTS, st.uuids(), st.binary(max_size=20))


def usual(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return mostly values of one kind, as a column has them, and now and then NULL or something else."""
    return st.one_of(kind, kind, kind, st.none(), ANY)


ROWS = st.lists(
    st.tuples(
        usual(TEXTS), usual(TEXTS), usual(TEXTS), usual(TEXTS), usual(NUMBERS), usual(st.booleans()), usual(MOMENTS),
        usual(st.dates()), usual(st.binary(max_size=8)), usual(TEXTS), usual(TEXTS),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@dataclass
class Both:
    """One mapping, compiled for rows and for blocks."""

    by_row: CompiledMapping
    by_block: ColumnMapping
    config: Any


def both(text: str) -> Both:
    reader = Reader("c.toml", Path())
    mapping = read_mapping(reader, tomllib.loads(text))
    assert not reader.problems, reader.problems
    config = SimpleNamespace(mapping=mapping, groups=None, entitlements=())
    by_row = CompiledMapping(mapping, COLUMNS, timezone="UTC", where="c.toml")
    attributes = attributes_of(config)
    return Both(
        by_row,
        ColumnMapping(mapping, COLUMNS, attributes, by_row=by_row, timezone="UTC", where="c.toml"),
        config,
    )


@pytest.fixture(scope="module", params=MAPPINGS)
def mapped(request):
    return both(MAPPINGS[request.param])


def row_by_row(mapping: Both, rows: list[tuple[Any, ...]]) -> tuple[list[Encoded], list[tuple[int, str, str, str]]]:
    """Return the users, and the rejects as (place, id, attribute, reason)."""
    users, rejects = [], []
    for place, row in enumerate(rows):
        try:
            users.append(Encoded(encode(mapping.by_row(row))))
        except RejectError as error:
            rejects.append((place, mapping.by_row.identify(row), error.attribute, error.reason))
    return users, rejects


def dump(config: Any, fill) -> list[Any]:
    """Return the content of an index as `fill` makes it, but for the version of SQLite."""
    writer = _memory_index(config)
    fill(writer)
    db = writer._db
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    return [(name, db.execute(f'SELECT * FROM "{name}" ORDER BY rowid').fetchall()) for name in tables]


def _memory_index(config: Any) -> IndexWriter:
    return IndexWriter(":memory:", config)


def check(mapping: Both, rows: list[tuple[Any, ...]], block: Block) -> None:
    users, rejects = row_by_row(mapping, rows)
    found: MappedBlock = mapping.by_block(block)
    assert rejects == [(item.place, item.id, item.attribute, item.reason) for item in found.rejects]
    assert len(users) == found.size
    assert [(item.id, item.user_name, item.active) for item in users] == list(
        zip(found.ids, found.user_names, found.active, strict=True)
    )
    if not users:
        return
    undressed = undress(found)
    assert [item.core for item in users] == list(undressed.core)
    assert [item.tail for item in users] == list(undressed.tail)
    assert [item.urns for item in users] == list(undressed.urns)
    assert [item.fingerprint for item in users] == undressed.fingerprints
    assert [item.created for item in users] == (found.created or [None] * found.size)
    created, modified = [time_text(1)] * found.size, [time_text(place) for place in range(found.size)]
    for version in ScimVersion:
        dresser = Dresser(version, "https://h/scim")
        one_by_one = [dresser.dress(*parts) for parts in zip(users, created, modified, strict=True)]
        assert one_by_one == dresser.dress_block(undressed, created, modified)

    def fill_row_by_row(writer: IndexWriter) -> None:
        for ordinal, user in enumerate(users):
            writer.add(ordinal + 7, user, ordinal, ordinal + 1)
        writer._flush(writer._users)

    def fill_by_block(writer: IndexWriter) -> None:
        places = range(found.size)
        writer.add_block(
            range(7, 7 + found.size), found, undressed.fingerprints, list(places), [place + 1 for place in places]
        )

    assert dump(mapping.config, fill_row_by_row) == dump(mapping.config, fill_by_block)


@settings(max_examples=150, deadline=None)
@given(rows=ROWS)
@example(rows=[("1", "a", None, None, None, None, None, None, None, None, None)])
@example(
    rows=[
        (key, "a", *[None] * 3, True, *[None] * 3, "n", None) for key in ("1", ".search", "xbulkIdx", ".", "..", "...")
    ]
)
@example(rows=[(None, None, None, None, None, None, None, None, None, None, None)])
def test_blocks_and_rows_give_the_same(mapped, rows):
    """Bytes in both versions, fingerprints, index entries and rejects of a block are those of its single rows."""
    check(mapped, rows, block_of(rows))


FEW = st.sampled_from(["a", "a", "A", "work", None])


@settings(max_examples=300, deadline=None)
@given(rows=st.lists(st.tuples(*[FEW] * 4, *[st.none()] * 5, FEW, FEW), min_size=1, max_size=8))
@example(rows=[("1", "work", "a", "a", None, None, None, None, None, "a", "a")])
def test_blocks_and_rows_leave_out_the_same(rows):
    """What a row says twice is left out of a block as it is row by row, and the same entry is primary."""
    rows = [(str(place), row[1] or "x", *row[2:]) for place, row in enumerate(rows)]
    check(both(MAPPINGS["doubles"]), rows, block_of(rows))


@settings(max_examples=150, deadline=None)
@given(rows=ROWS)
def test_packed_blocks_give_the_same(mapped, rows):
    """What went through the pipe between the processes is what was read; a uniqueidentifier is its text there."""
    block = unpack(pack(rows))
    texts = [
        tuple(str(value) if place in block.uuids and value is not None else value for place, value in enumerate(row))
        for row in rows
    ]
    check(mapped, texts, block)


@given(rows=st.lists(st.tuples(ANY, ANY), min_size=1, max_size=8))
def test_packing_keeps_types(rows):
    """Values come back with their types and every digit; only a column of uniqueidentifiers comes as text."""
    block = unpack(pack(rows))
    for place, column in enumerate(zip(*rows, strict=True)):
        wanted = [str(value) if place in block.uuids and value is not None else value for value in column]
        assert [type(value) for value in wanted] == [type(value) for value in block.columns[place]]
        assert all(
            value == back or (math.isnan(value) and math.isnan(back))
            for value, back in zip(wanted, block.columns[place], strict=True)
        )


@pytest.mark.parametrize(
    "column",
    [
        [uuid.UUID(int=1), None, uuid.UUID(int=(1 << 128) - 1)],
        [Decimal("1.10"), Decimal("-0"), None, Decimal("1E+3")],
        [datetime(2026, 1, 2, 3, 4, 5, 6), None],
        [datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-3))), None],
        [date.min, date.max, None],
        [time(1, 2, 3)],
        [uuid.UUID(int=1), "text", 1],
    ],
    ids=str,
)
def test_columns_of_each_type(column):
    """Each type that a driver gives survives the pipe, NULLs between."""
    block = unpack(pack([(value,) for value in column]))
    text = [str(value) if value is not None and block.uuids else value for value in column]
    assert [repr(value) for value in text] == [repr(value) for value in block.columns[0]]


@given(values=st.lists(st.one_of(st.none(), st.text(max_size=5), st.integers(-(1 << 60), 1 << 60), st.booleans())))
@example(values=['",\n  "', '",', "a"])
def test_json_of_many_values(values):
    """Many values written at once are each written as if alone: no text can look like the border between two."""
    alone = [None if value is None else orjson.dumps(value) for value in values]
    assert alone == json_texts(values)


EQUAL = [0.0, -0.0, Decimal("0.0"), Decimal("-0.00"), 1, True, 1.0, Decimal("1.00"), Decimal("1.0"), Decimal(1), "1"]


@pytest.mark.parametrize("values", [EQUAL, EQUAL[::-1], [Decimal("1.0"), Decimal("1.00")], [-0.0, 0.0], [1, True]])
@pytest.mark.parametrize("at_once", [1, 2, 11])
def test_values_that_are_equal_and_not_the_same(values, at_once):
    """What was converted before is not taken for another value that is equal to it and has another text."""
    mapped = both(
        'id = "key"\nuserName = "login"\nactive = { column = "flag", true = ["1", "true"], unmapped = false }\n'
        f'["{CUSTOM}"]\nfte = {{ column = "number", type = "decimal" }}\n'
    )
    rows = [(str(place), "a", None, None, value, value, *[None] * 5) for place, value in enumerate(values)]
    for first in range(0, len(rows), at_once):
        some = rows[first : first + at_once]
        check(mapped, some, block_of(some))


def test_a_row_that_only_a_block_refuses_is_no_silent_loss(mapped):
    """If block and row disagree about who can be a user, the refresh fails: nobody is left out without a reason."""
    row = ("1", "a", None, None, None, True, None, None, None, "n", None)
    with pytest.raises(AssertionError, match="by itself it can"):
        mapped.by_block._without(block_of([row]), [0])


def test_the_index_is_sqlite():
    """The comparison above looks into real tables."""
    mapping = both(MAPPINGS["simple"])
    found = mapping.by_block(block_of([("1", "A", None, None, None, True, None, None, None, "N", None)]))
    writer = _memory_index(mapping.config)
    writer.add_block(range(1), found, undress(found).fingerprints, [1], [2])
    assert isinstance(writer._db, sqlite3.Connection)
    assert [(0, "1", 1, 2, None, 1, "a", "N")] == writer._db.execute(
        "SELECT ordinal, id, created, last_modified, removed, active, user_name, a4 FROM User"
    ).fetchall()
