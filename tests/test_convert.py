"""Database values, as the drivers give them, to JSON-ready values."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.convert import make_converter, to_text
from snapshot.errors import RejectError
from snapshot.rule import Rule
from snapshot.scim import DecimalText

GUID = UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff")
REJECT = object()
# Every kind of value that pymssql or sqlite3 gives.
VALUES = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.decimals().filter(lambda value: not value.is_snan()), st.text(), st.binary(), st.uuids(), st.datetimes(),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-14))])), st.dates(), st.times(),
    st.text(st.characters(categories=["Cs"])),
    st.sampled_from(["1e999999999", "-1e999999999", "1e-999999999", "NaN", "Infinity", "sNaN", "", " ", "0x1", "1_0"]),
)  # fmt: skip
KINDS = ["string", "boolean", "integer", "decimal", "dateTime", "binary", "reference"]


def convert(value, kind="string", timezone="UTC", **rule):
    return make_converter(Rule(**rule), kind, name="a", timezone=timezone)(value)


def check(expected, value, kind="string", **options):
    if expected is REJECT:
        with pytest.raises(RejectError) as caught:
            convert(value, kind, **options)
        assert "a" == caught.value.attribute
    else:
        assert expected == convert(value, kind, **options)
        assert type(expected) is type(convert(value, kind, **options))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x", "x"), (" x \t", "x"), ("", None), ("   ", None), ("Łukasz 李 😀", "Łukasz 李 😀"), ("O'Brien\0", "O'Brien\0"),
        (5, "5"), (-0.0, "0"), (5.0, "5"), (5.5, "5.5"), (1e300, "1e+300"), (True, "true"), (False, "false"),
        (Decimal("12.50"), "12.5"), (Decimal("3.00"), "3"), (Decimal("1E+3"), "1000"), (Decimal("0E-9"), "0"),
        (GUID, "6f9619ff-8b86-d011-b42d-00c04fc964ff"), (b"\x00\xff", "AP8="), (b"", None),
        (date(2024, 2, 29), "2024-02-29"), (time(9, 5), "09:05:00"), (datetime(2024, 2, 29, 9, 5), "2024-02-29T09:05:00"),
    ],
)  # fmt: skip
def test_text(value, expected):
    """Any value has a text; padding is cut; blank text is no value."""
    check(expected, value)


def test_trim_and_case():
    """trim = false keeps blanks; lower and upper change the case of any script."""
    assert " x " == convert(" x ", trim=False)
    assert "łukasz@x.com" == convert("ŁUKASZ@X.com ", case="lower")
    assert "STRASSE" == convert("straße", case="upper")


@pytest.mark.parametrize(
    "true", [1, 1.0, Decimal("1.00"), True, "1", "Y", " yes ", "TRUE", "Active", "A", 512, "544", "on"]
)
def test_values_that_are_true_by_default(true):
    """What flag columns commonly hold for active is true without any configuration."""
    check(True, true, "boolean")


@pytest.mark.parametrize(
    "false", [0, 0.0, Decimal(0), False, "0", "N", "no", "FALSE", "Terminated", "left", 514, "546", "Off"]
)
def test_values_that_are_false_by_default(false):
    """What flag columns commonly hold for leavers is false: "N", "0", "Terminated" and 514 above all."""
    check(False, false, "boolean")


@pytest.mark.parametrize(
    "value", [2, -1, "T", "F", "L", "maybe", "nan", float("nan"), b"\x01", "1.0", datetime(2024, 1, 1), GUID]
)
def test_an_unmapped_boolean_is_a_reject(value):
    """A value in neither list is never guessed about."""
    check(REJECT, value, "boolean")


def test_stated_booleans():
    """Values stated for one side leave that side of the defaults; the other side's defaults stay."""
    rule = {"true_values": ("T", 7), "kind": "boolean"}
    assert [True, True, False, False] == [convert(value, **rule) for value in ("t ", 7.0, "N", "Terminated")]
    for value in ("Y", 1):
        check(REJECT, value, **rule)
    assert convert("terminated", "boolean", true_values=("Terminated",)) is True
    check(False, "x", "boolean", true_values=("A",), unmapped=False)
    check(None, "x", "boolean", unmapped="omit")
    check(None, " ", "boolean")
    table = {"1": True, "Gone": False}
    assert [True, False] == [convert(value, "boolean", values=table) for value in (True, "GONE")]
    check(REJECT, "Y", "boolean", values=table)


@given(st.sampled_from([1, "N", "T", 514, True, 0.0, Decimal(1), "x"]))
def test_a_boolean_is_the_same_when_asked_again(value):
    """What the converter remembers of a value is what it said of it."""
    converter = make_converter(Rule(unmapped=False), "boolean", name="a", timezone="UTC")
    assert [converter(value)] * 3 == [converter(value), converter(value), converter(value)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5), (True, 1), (5.0, 5), (Decimal("5.00"), 5), (" 5 ", 5), ("-5", -5), ("1e3", 1000), ("", None),
        ((1 << 63) - 1, (1 << 63) - 1), (1 << 63, REJECT), (-(1 << 63), -(1 << 63)), (5.5, REJECT), ("x", REJECT),
        (float("nan"), REJECT), (float("inf"), REJECT), (b"5", REJECT), (date(2024, 1, 1), REJECT), (GUID, REJECT),
        ("1e999999999", REJECT), (Decimal("NaN"), REJECT),
    ],
)  # fmt: skip
def test_integers(value, expected):
    """Whole numbers of 64 bits, from any type that holds one exactly; all else is a reject, and quick."""
    check(expected, value, "integer")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("12345678901234567890.0100"), "12345678901234567890.01"), (Decimal(3), "3.0"), (0.1, "0.1"), (5, "5.0"),
        (" 1.50 ", "1.5"), ("-0.50", "-0.5"), (Decimal("1E+3"), "1000.0"), (True, "1.0"),
    ],
)  # fmt: skip
def test_decimals(value, expected):
    """Every digit is kept and there is one on each side of the period (RFC 7643 section 2.3.3)."""
    assert DecimalText(expected) == convert(value, "decimal")


@pytest.mark.parametrize("value", ["x", "1e999", "1e-999", float("nan"), float("inf"), Decimal("sNaN"), b"1", time(1)])
def test_no_decimals(value):
    """What JSON cannot carry is a reject."""
    check(REJECT, value, "decimal")
    assert convert(" ", "decimal") is None


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6))
def test_decimals_are_exact(number):
    """The text of a decimal is JSON and is the same number."""
    text = convert(number, "decimal").text
    assert re.fullmatch(r"-?\d+\.\d+", text)
    assert number == Decimal(text)


@pytest.mark.parametrize(
    ("zone", "value", "expected"),
    [
        ("UTC", datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05Z"),
        ("Europe/Paris", datetime(2024, 1, 2, 3, 4, 5, 120000), "2024-01-02T02:04:05.12Z"),
        ("Europe/Paris", datetime(2024, 7, 2, 3, 4, 5), "2024-07-02T01:04:05Z"),
        ("Europe/Paris", datetime(2024, 3, 31, 1, 59, 59), "2024-03-31T00:59:59Z"),
        ("Europe/Paris", datetime(2024, 3, 31, 3, 0), "2024-03-31T01:00:00Z"),
        ("Europe/Paris", datetime(2024, 3, 31, 2, 30), "2024-03-31T01:30:00Z"),  # in the hour that there is not
        ("Europe/Paris", datetime(2024, 10, 27, 2, 30), "2024-10-27T00:30:00Z"),  # the first of the two
        ("Europe/Paris", datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5))), "2023-12-31T19:00:00Z"),
        ("Europe/Paris", date(2024, 1, 2), "2024-01-02T00:00:00Z"),
        ("Europe/Paris", "2024-01-02", "2024-01-02T00:00:00Z"),
        ("Europe/Paris", "20240102", "2024-01-02T00:00:00Z"),
        ("Europe/Paris", " 2024-01-02 03:04:05.1234567 ", "2024-01-02T02:04:05.123456Z"),
        ("Europe/Paris", "2024-01-02 03:04:05.1234567 +01:00", "2024-01-02T02:04:05.123456Z"),
        ("Europe/Paris", "2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
        ("Europe/Paris", "", None),
        ("Europe/Paris", "02.01.2024", REJECT),
        ("Europe/Paris", "2024-02-30", REJECT),
        ("Europe/Paris", 20240102, REJECT),
        ("Europe/Paris", time(1), REJECT),
        ("Europe/Paris", datetime(1, 1, 1), REJECT),
        ("America/New_York", datetime.max, REJECT),
    ],
)
def test_dates(zone, value, expected):
    """A time of the source's zone becomes UTC with Z, across DST; a date without a time stays that date."""
    check(expected, value, "dateTime", timezone=zone)


def test_formats():
    """Text is read by a stated format; one without a time of day gives a date, which no time zone moves."""
    paris = {"kind": "dateTime", "timezone": "Europe/Paris"}
    check("2024-01-02T00:00:00Z", "02.01.2024", format="%d.%m.%Y", **paris)
    check("2024-01-02T00:00:00Z", "02.01.2024 %H", format="%d.%m.%Y %%H", **paris)
    check("2024-01-02T02:04:00Z", "02.01.2024 03:04", format="%d.%m.%Y %H:%M", **paris)
    check("2024-01-01T22:04:00Z", "02.01.2024 03:04 +0500", format="%d.%m.%Y %H:%M %z", **paris)
    check(REJECT, "2024-01-02", format="%d.%m.%Y", **paris)


def test_a_zone_of_its_own():
    """A rule's time zone goes before the source's."""
    converter = make_converter(Rule(timezone="America/New_York"), "dateTime", name="a", timezone="Europe/Paris")
    assert "2024-01-02T08:00:00Z" == converter(datetime(2024, 1, 2, 3))


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1)))
def test_a_utc_instant_goes_round(moment):
    """A naive UTC time is the same instant when the text is read again."""
    text = convert(moment, "dateTime")
    assert moment == datetime.fromisoformat(text).replace(tzinfo=None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (GUID, str(GUID)), (GUID.bytes_le, str(GUID)), ("{6F9619FF-8B86-D011-B42D-00C04FC964FF} ", str(GUID)),
        ("  ", None), ("x", REJECT), (b"x", REJECT), (5, REJECT),
    ],
)  # fmt: skip
def test_uniqueidentifier(value, expected):
    """A uniqueidentifier is lower-case hex, from text and from the bytes of SQL Server too."""
    check(expected, value, type="uniqueidentifier")
    upper = expected.upper() if isinstance(expected, str) else expected
    check(upper, value, type="uniqueidentifier", case="upper")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"\x00\xff", "AP8="), (bytearray(b"a"), "YQ=="), (memoryview(b"a"), "YQ=="), (b"", None), (" YQ= =\n", "YQ=="),
     ("", None), ("x y z", REJECT), ("ä", REJECT), (5, REJECT)],
)  # fmt: skip
def test_binary(value, expected):
    """Bytes become base64; text has to be base64 already."""
    check(expected, value, "binary")


def test_value_maps():
    """A value is looked up as text without case and blanks; what is not there is a reject, kept or left out."""
    table = {"1": "Employee", " c ": "Contractor", "x": ""}
    options = {"values": table, "kind": "string"}
    expected = ["Employee", "Employee", "Employee", "Contractor", None, None]
    assert expected == [convert(value, **options) for value in (1, Decimal("1.0"), True, "C", "x", " ")]
    check(REJECT, "z", **options)
    check("Z", " z", unmapped="keep", case="upper", **options)
    check(None, "z", unmapped="omit", **options)
    check(7, "seven", "integer", values={"Seven": 7})
    check("2024-01-02T00:00:00Z", "a", "dateTime", values={"a": "2024-01-02"})


@given(VALUES, st.sampled_from(KINDS), st.sampled_from(["UTC", "Europe/Paris"]))
def test_any_value_of_any_driver(value, kind, zone):
    """Whatever a driver gives becomes a value of the stated kind, nothing, or a reject; never a crash."""
    try:
        result = make_converter(Rule(), kind, name="a", timezone=zone)(value)
    except RejectError:
        return
    types = {"boolean": bool, "integer": int, "decimal": DecimalText}
    assert result is None or type(result) is types.get(kind, str)
    assert result != ""


@given(VALUES)
def test_any_uniqueidentifier(value):
    """Whatever stands in a uniqueidentifier column is one, nothing, or a reject."""
    try:
        result = convert(value, type="uniqueidentifier")
    except RejectError:
        return
    assert result is None or result == str(UUID(result))


@given(VALUES.filter(lambda value: not isinstance(value, str)))
def test_any_text_is_json(value):
    """The text of any value but a string can be written as JSON."""
    assert orjson.loads(orjson.dumps(to_text(value))) == to_text(value)
