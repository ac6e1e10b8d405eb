"""A configured mapping against columns and rows: every construct, with values as drivers give them."""

from __future__ import annotations

import tomllib
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.compiler import NULL_ID, RESERVED_ID
from snapshot.errors import MappingError, RejectError
from snapshot.mapping import CompiledMapping
from snapshot.rules import read_mapping
from snapshot.scim import ENTERPRISE_2_0, DecimalText
from snapshot.strict import Reader

CUSTOM = "urn:okta:acme_hr_1:1.0:user:custom"
BASE = 'id = "id"\nuserName = "login"\n'
FIXED = {"id": "1", "login": "al"}


def compiled(text: str, columns, *, timezone: str = "UTC") -> CompiledMapping:
    reader = Reader("c.toml", Path())
    mapping = read_mapping(reader, tomllib.loads(text))
    assert not reader.problems
    return CompiledMapping(mapping, tuple(columns), timezone=timezone, where="c.toml")


def user(text: str, *, timezone: str = "UTC", **row):
    row = {**FIXED, **row}
    return compiled(BASE + text, row, timezone=timezone)(tuple(row.values()))


def core(text: str, **row):
    """Return the core attributes but for those that everybody has."""
    left_out = {"id", "userName"} if "active" in text else {"id", "userName", "active"}
    return {key: value for key, value in user(text, **row).core.items() if key not in left_out}


def problems(text: str, *columns: str) -> list[str]:
    with pytest.raises(MappingError) as caught:
        compiled(text, columns)
    return str(caught.value).splitlines()


def test_a_person():
    """A row with all kinds of values becomes the user that the configuration draws."""
    text = f"""
        externalId = "number"
        name = {{ givenName = "first", familyName = "last", formatted = "{{first}} {{last}}" }}
        displayName = {{ template = "{{last}}, {{first}}", case = "upper" }}
        title = {{ column = "job", values = {{ D = "Developer" }}, unmapped = "keep" }}
        userType = {{ constant = "Employee" }}
        emails = [{{ column = "mail", case = "lower", type = "work" }}, {{ value = "home", type = "home" }}]
        phoneNumbers = [{{ value = "mobile", type = "mobile", primary = true }}, {{ value = "desk", type = "work" }}]
        addresses = [{{ locality = "city", country = {{ constant = "PL" }}, type = "work" }}]
        active = {{ column = "state", true = ["A"], false = ["T"] }}
        [enterprise]
        manager = "boss"
        department = "dept"
        ["{CUSTOM}"]
        hired = {{ column = "hired", type = "dateTime" }}
        rate = {{ column = "rate", type = "decimal" }}
        grade = {{ column = "grade", type = "integer" }}
        remote = {{ column = "remote", type = "boolean" }}
        guid = {{ column = "guid", type = "uniqueidentifier" }}
        photo = {{ column = "photo", type = "binary" }}
    """
    found = user(
        text,
        timezone="Europe/Warsaw",
        number=Decimal(17),
        first=" Łukasz ",
        last="O'Brien",
        job="D",
        mail="L@X.COM",
        home=None,
        mobile="",
        desk="+48 1",
        city="Łódź",
        state="T",
        boss=7,
        dept="R&D",
        hired=datetime(2024, 7, 1, 9),
        rate=Decimal("1234.50"),
        grade=Decimal("7.0"),
        remote=False,
        guid=UUID(int=5),
        photo=b"\x01",
    )
    assert {
        "id": "1",
        "externalId": "17",
        "userName": "al",
        "name": {"givenName": "Łukasz", "familyName": "O'Brien", "formatted": "Łukasz O'Brien"},
        "displayName": "O'BRIEN, ŁUKASZ",
        "title": "Developer",
        "userType": "Employee",
        "emails": [{"value": "l@x.com", "type": "work", "primary": True}],
        "phoneNumbers": [{"value": "+48 1", "type": "work", "primary": True}],
        "addresses": [{"locality": "Łódź", "country": "PL", "type": "work", "primary": True}],
        "active": False,
    } == found.core
    assert {
        ENTERPRISE_2_0: {"manager": {"value": "7"}, "department": "R&D"},
        CUSTOM: {
            "hired": "2024-07-01T07:00:00Z",
            "rate": DecimalText("1234.5"),
            "grade": 7,
            "remote": False,
            "guid": "00000000-0000-0000-0000-000000000005",
            "photo": "AQ==",
        },
    } == found.extensions
    assert ["id", "externalId", "userName", "name"] == list(found.core)[:4]
    assert (False, "al", "1") == (found.active, found.user_name, found.id)


def test_no_value_is_left_out():
    """NULL and blank make no null, no empty text, no empty object, no empty extension."""
    text = 'title = "a"\nname = { givenName = "a" }\nemails = "a"\naddresses = [{ locality = "a" }]\n[enterprise]\nmanager = "a"'
    for value in (None, "", "  "):
        found = user(text, a=value)
        assert {"id": "1", "userName": "al", "active": True} == found.core
        assert {} == found.extensions
        assert found.active


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("Al", "Bo", {"title": "Al (Bo)"}),
        (" Al ", "Bo", {"title": "Al (Bo)"}),
        ("Al", None, {"title": "Al ()"}),
        (None, None, {}),
        ("", " ", {}),
        (0, False, {"title": "0 (false)"}),
    ],
)
def test_templates_with_nulls(first, last, expected):
    """NULL columns leave no double blank; all NULL is no value, so that nobody is called "None None"."""
    assert expected == core('title = "{f} ({l})"', f=first, l=last)


def test_a_gap_in_a_template():
    """Around a missing part the blanks are closed up and cut."""
    text = 'displayName = "{a} {b} {c}"'
    assert {"displayName": "A C"} == core(text, a="A", b=None, c="C")
    assert {"displayName": "C"} == core(text, a=None, b="", c="C")
    assert {"displayName": "A  B C"} == core('displayName = "{a} {b}"', a="A  B", b="C")


def test_defaults():
    """A default stands in for NULL and for a missing optional column, in the form of its attribute."""
    assert {"title": "5"} == core('title = { column = "a", default = 5 }', a=None)
    assert {"title": "x"} == core('title = { column = "b", optional = true, default = "x" }')
    assert {"active": False} == core('active = { column = "b", optional = true, default = false }')
    text = f'["{CUSTOM}"]\na = {{ column = "a", type = "decimal", default = 2 }}'
    assert {"a": DecimalText("2.0")} == user(text, a=None).extensions[CUSTOM]
    text = f'["{CUSTOM}"]\na = {{ column = "a", type = "dateTime", default = "2024-01-02" }}'
    assert {"a": "2024-01-02T00:00:00Z"} == user(text, a=None).extensions[CUSTOM]


def test_constants():
    """A constant has the form of its attribute; one that cannot have it is a problem."""
    assert {"title": "5", "active": True} == core("title = { constant = 5 }\nactive = { constant = true }")
    text = f'["{CUSTOM}"]\na = {{ constant = "tomorrow", type = "dateTime" }}'
    (line,) = problems(BASE + text, "id", "login")
    assert (
        f'c.toml: mapping.{CUSTOM}:a.constant: found "tomorrow" (string); '
        "expected a value (the text is not a date of the expected format)" == line
    )


@pytest.mark.parametrize("value", [None, " ", "maybe"])
def test_unknown_active_is_a_reject(value):
    """A person whose active is NULL or unmapped is rejected by name of the attribute, not guessed about."""
    with pytest.raises(RejectError) as caught:
        user('active = "a"', a=value)
    assert "active" == caught.value.attribute
    assert "maybe" not in str(caught.value)


def test_rejects():
    """Missing id, missing userName, a required attribute and a value that does not fit are rejects with a reason."""
    reasons = []
    for row in ({"id": None}, {"id": "  "}, {"login": None}, {"r": None}, {"h": "x"}):
        with pytest.raises(RejectError) as caught:
            user(
                f'title = {{ column = "r", required = true }}\n["{CUSTOM}"]\nh = {{ column = "h", type = "dateTime" }}',
                **{"r": "r", "h": None, **row},
            )
        reasons.append((caught.value.attribute, caught.value.reason))
    assert [
        ("id", NULL_ID),
        ("id", NULL_ID),
        ("userName", "the value is NULL or blank"),
        ("title", "the value is NULL or blank"),
        (f"{CUSTOM}:h", "the text is not a date of the expected format"),
    ] == reasons


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, "7"), (7.0, "7"), (Decimal("7.00"), "7"), (" a ", "a"), (UUID(int=1), str(UUID(int=1))), (True, "true"),
     (date(2024, 1, 2), "2024-01-02")],
)  # fmt: skip
def test_ids(value, expected):
    """An id of any column type is one stable text."""
    assert expected == user("", id=value).id


PRIMARY = """emails = [
    {{ value = "a", type = "work"{} }},
    {{ value = "b", type = "home"{} }},
    {{ value = "c", type = "other" }},
]"""


@pytest.mark.parametrize(
    ("first", "second", "row", "primary"),
    [
        ("", "", "abc", "a"),
        ("", "", " bc", "b"),
        ("", "", "  c", "c"),
        ("", ", primary = true", "abc", "b"),
        ("", ", primary = true", "a c", "a"),
        (", primary = false", "", "abc", "a"),
    ],
)
def test_one_primary(first, second, row, primary):
    """Exactly one value is primary: the stated one, else the first that the row has."""
    emails = core(PRIMARY.format(first, second), **dict(zip("abc", row, strict=True)))["emails"]
    assert [primary] == [entry["value"] for entry in emails if entry.get("primary")]
    assert row.replace(" ", "") == "".join(entry["value"] for entry in emails)


@pytest.mark.parametrize("key", [".search", ".", "..", "bulkId", "bulkId:7", "xbulkIdx", "a\0b"])
def test_reserved_ids(key):
    """An id that SCIM keeps for itself, or that no path can name, is a reject with its own reason."""
    with pytest.raises(RejectError) as caught:
        user("", id=key)
    assert ("id", RESERVED_ID) == (caught.value.attribute, caught.value.reason)


@pytest.mark.parametrize("key", ["...", ".search.", "BULKID", "search", " ..x"])
def test_ids_that_look_reserved(key):
    """Other ids with dots, and other spellings, are ids like any."""
    assert key.strip() == user("", id=key).id


TWICE = """emails = [
    { value = "a", type = "work", display = "d" },
    { value = "b", type = "work", primary = true },
    { value = "c" },
    { value = "d", type = "home" },
]
"""


def test_the_same_is_sent_once():
    """The same type and value in two columns is one entry, the first with its display, and primary if either is."""
    once = {"value": "x", "type": "work", "display": "y", "primary": True}
    assert [once, {"value": "x"}, {"value": "y", "type": "home"}] == core(TWICE, a="x", b="x", c="x", d="y")["emails"]
    places = 'addresses = [{ locality = "a", region = "b" }, { locality = "c", region = "d" }]'
    assert [{"locality": "x", "region": "y", "primary": True}] == core(places, a="x", b="y", c="x", d="y")["addresses"]
    assert 2 == len(core(places, a="x", b="y", c="x", d=None)["addresses"])


@given(st.tuples(*[st.none() | st.text(max_size=3)] * 3), st.booleans())
def test_at_most_one_primary(values, stated):
    """Whatever a row lacks, there is one primary value, or no attribute at all."""
    found = core(PRIMARY.format("", ", primary = true" if stated else ""), **dict(zip("abc", values, strict=True)))
    given = [value.strip() for value in values if value and value.strip()]
    assert given == [entry["value"] for entry in found.get("emails", [])]
    assert bool(given) == (1 == sum(entry.get("primary", False) for entry in found.get("emails", [])))


def test_type_and_display_of_a_value():
    """Type and display may come from the row too, and make no entry without a value."""
    text = 'emails = [{ value = "v", type = { column = "t" }, display = "{v} ({t})" }]'
    assert [{"value": "x", "type": "home", "display": "x (home)", "primary": True}] == core(text, v="x", t="home")[
        "emails"
    ]
    assert [{"value": "x", "display": "x ()", "primary": True}] == core(text, v="x", t=None)["emails"]
    assert {} == core(text, v=None, t="home")


def test_the_names_of_columns():
    """A column is found by its exact name, else without case as SQL Server does."""
    assert "x" == compiled(BASE, ("ID", "Login"))(("x", "y")).id
    assert "x" == compiled(BASE, ("id", "ID", "login"))(("x", "z", "y")).id


def test_columns_that_are_not_there():
    """Every missing column is named with its attribute and the nearest column."""
    text = 'id = "emp_id"\nuserName = "login"\ntitle = "{jobb}"\nemails = [{ value = "zzz" }]'
    assert [
        'c.toml: mapping.id: found no column "emp_id"; expected a column of the source (did you mean employee_id?)',
        'c.toml: mapping.title: found no column "jobb"; expected a column of the source (did you mean job?)',
        'c.toml: mapping.emails.value: found no column "zzz"; expected a column of the source (employee_id, login, job)',
    ] == sorted(problems(text, "employee_id", "login", "job"), key=lambda line: "id title emails".find(line[16:18]))


@pytest.mark.parametrize("columns", [("id", "login", "id"), ("ID", "login", "iD")])
def test_two_columns_of_one_name(columns):
    """A query that gives a mapped name twice is refused: which one was meant is not guessed."""
    assert [
        "c.toml: mapping.id: found 2 columns named id; "
        "expected one column of that name: give the others aliases in the query"
    ] == problems(BASE, *columns)


def test_an_unmapped_name_may_stand_twice():
    """Columns that nothing is made of do not matter."""
    assert "1" == compiled(BASE, ("id", "login", "x", "x"))((1, "y", 2, 3)).id


def test_optional_columns():
    """A missing optional column leaves its attribute out, with a warning."""
    found = compiled(BASE + 'title = { column = "job", optional = true }', ("id", "login"))
    assert ("the source has no column job; title is left out",) == found.warnings
    assert {"id": "1", "userName": "al", "active": True} == found((1, "al")).core
    there = compiled(BASE + 'title = { column = "job", optional = true }', ("id", "login", "job"))
    assert ("x", ()) == (there((1, "al", "x")).core["title"], there.warnings)


def test_identify():
    """The id of a rejected row is given where it has one."""
    mapping = compiled(BASE, ("id", "login"))
    assert ["7", "", ""] == [mapping.identify(row) for row in ((7, None), (None, "a"), (" ", "a"))]
    guid = compiled('id = { column = "id", type = "uniqueidentifier" }\nuserName = "login"', ("id", "login"))
    assert "" == guid.identify(("x", "a"))
