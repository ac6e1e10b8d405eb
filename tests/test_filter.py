"""Filter text to a tree: what is understood, what is refused and where."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.errors import FilterError
from snapshot.filter import And, Comparison, Not, Or, Present, ValuePath, parse_filter, parse_instant
from snapshot.scim import ENTERPRISE_1_1, ENTERPRISE_2_0, AttributePath, DecimalText

CUSTOM = "urn:okta:acme_hr_1:1.0:user:custom"


def compare(text: str) -> tuple[str, str, object]:
    tree = parse_filter(text, [CUSTOM])
    assert isinstance(tree, Comparison)
    return str(tree.path), tree.op, tree.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('userName eq "a.b@x.com"', ("userName", "eq", "a.b@x.com")),
        ('  USERNAME   EQ   "A"  ', ("userName", "eq", "A")),
        ('userName eq "O\\"Brien \\\\ \\u0141 %+\'"', ("userName", "eq", "O\"Brien \\ Ł %+'")),
        ("userName eq “a b”", ("userName", "eq", "a b")),
        ('userName eq "a”b"', ("userName", "eq", "a”b")),
        ('name.givenname eq "x"', ("name.givenName", "eq", "x")),
        ('email eq "x"', ("emails", "eq", "x")),
        ('EMAILS eq "x"', ("emails", "eq", "x")),
        ('emails.TYPE eq "work"', ("emails.type", "eq", "work")),
        ('groups.VALUE eq "x"', ("groups.value", "eq", "x")),
        ('Members.Display sw "x"', ("members.display", "sw", "x")),
        ('schemas eq "x"', ("schemas", "eq", "x")),
        ("active eq true", ("active", "eq", True)),
        ('active eq "False"', ("active", "eq", "False")),
        ("title eq null", ("title", "eq", None)),
        ("x eq -1.5e3", ("x", "eq", DecimalText("-1.5e3"))),
        ("x GE 1.50", ("x", "ge", DecimalText("1.50"))),
        ("x eq 12", ("x", "eq", 12)),
        ("x lt -12", ("x", "lt", -12)),
        ('meta.lastmodified gt "2026-01-01T00:00:00Z"', ("meta.lastModified", "gt", "2026-01-01T00:00:00Z")),
        ("meta.lastModified gt 2026-01-01T00:00:00.000Z", ("meta.lastModified", "gt", "2026-01-01T00:00:00.000Z")),
        ("meta.lastModified gt '2026-01-01T00:00:00Z'", ("meta.lastModified", "gt", "2026-01-01T00:00:00Z")),
        ("meta.lastModified gt \u20182026-01-01T00:00:00Z\u2019", ("meta.lastModified", "gt", "2026-01-01T00:00:00Z")),
        (f'{ENTERPRISE_2_0}:employeeNumber eq "1"', (f"{ENTERPRISE_2_0}:employeeNumber", "eq", "1")),
        (f'{ENTERPRISE_1_1}.employeenumber eq "1"', (f"{ENTERPRISE_2_0}:employeeNumber", "eq", "1")),
        (f'{ENTERPRISE_1_1}:manager.managerId eq "1"', (f"{ENTERPRISE_2_0}:manager.value", "eq", "1")),
        ('urn:ietf:params:scim:schemas:core:2.0:User:userName eq "a"', ("userName", "eq", "a")),
        (f'{ENTERPRISE_2_0.upper()}.MANAGER.managerid eq "1"', (f"{ENTERPRISE_2_0}:manager.value", "eq", "1")),
        ('URN:scim:schemas:core:1.0:name.familyname co "a"', ("name.familyName", "co", "a")),
        ('urn:ietf:params:scim:schemas:core:2.0:Group:displayname co "a"', ("displayName", "co", "a")),
        (f'{CUSTOM}:badge eq "1"', (f"{CUSTOM}:badge", "eq", "1")),
        (f'{CUSTOM.upper()}.badge eq "1"', (f"{CUSTOM}:badge", "eq", "1")),
    ],
)
def test_comparisons(text, expected):
    """Names and operators of any case, both spellings of URNs, and the quotes that people paste are understood."""
    assert expected == compare(text)


def test_a_plus_that_came_as_a_blank():
    """The date of a client that does not percent-encode its plus is the one that it meant."""
    _, _, value = compare('meta.lastModified gt "2026-01-02T03:04:05 02:00"')
    assert parse_instant("2026-01-02T01:04:05Z") == parse_instant(value)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05 02:00", "2026-01-02 03:04:05 02:00", "2026-01-02 03:04:05+0200", "2026-01-02 01:04:05",
        "2026-01-02 01:04:05.0Z", "2026-01-02t03:04:05.000 0200", "2026-01-02T01:04:05",
    ],
)  # fmt: skip
@pytest.mark.parametrize("quotes", ["{}", "'{}'", "\u2018{}\u2019", '"{}"'])
def test_dates_with_blanks(text, quotes):
    """A date with a blank for its T, or for a plus that was not percent-encoded, is one value in any quotes or none."""
    written = f"(x gt {quotes.format(text)}) and y pr"
    tree = parse_filter(written)
    assert (text, Present(AttributePath("y"), written.index("y pr"))) == (tree.left.value, tree.right)
    assert parse_instant("2026-01-02T01:04:05Z") == parse_instant(tree.left.value)


def test_precedence():
    """and binds more strongly than or; parentheses go before both."""
    a, b, c = (Comparison(AttributePath(name), "eq", 1, at) for name, at in (("a", 0), ("b", 10), ("c", 21)))
    assert Or(a, And(b, c)) == parse_filter("a eq 1 or b eq 1 and c eq 1")
    tree = parse_filter("(a eq 1 or b eq 1) AND c eq 1")
    assert isinstance(tree, And)
    assert isinstance(tree.left, Or)


def term(name: str, op: str, value: object, position: int = 0) -> Comparison:
    return Comparison(AttributePath(name), op, value, position)


def test_not_binds_most_strongly():
    """not stands before parentheses, in any case and without a blank, and goes before and."""
    a, b = term("a", "eq", 1, 5), term("b", "eq", 1, 17)
    assert And(Not(a, 0), b) == parse_filter("NOT (a eq 1) and b eq 1")
    assert Not(Not(term("a", "eq", 1, 8), 4), 0) == parse_filter("not(not(a eq 1))")


def test_value_paths():
    """Names within brackets are those of sub-attributes, also where a core attribute is called so."""
    emails = AttributePath("emails")
    inner = And(term("type", "eq", "work", 7), term("value", "co", "@x", 26))
    assert ValuePath(emails, inner, 0) == parse_filter('emails[Type eq "work" and VALUE co "@x"]')
    manager = AttributePath("manager", urn=ENTERPRISE_2_0)
    tree = parse_filter(f'{ENTERPRISE_1_1}:manager [managerId eq "1" or displayName pr]')
    assert isinstance(tree, ValuePath)
    assert manager == tree.path
    assert [AttributePath("value"), AttributePath("displayName")] == [tree.inner.left.path, tree.inner.right.path]


def test_a_sub_attribute_of_chosen_values():
    """emails[type eq "work"].value is what the values so chosen have: null if there is none."""
    emails, chosen = AttributePath("emails"), term("type", "eq", "work", 7)
    start = 'emails[type eq "work"].value'
    some = ValuePath(emails, And(chosen, term("value", "sw", "x")), 0)
    assert some == parse_filter(f'{start} sw "x"')
    present = ValuePath(emails, And(chosen, Present(AttributePath("value"), 0)), 0)
    assert present == parse_filter(f"{start} ne null")
    assert Not(present, 0) == parse_filter(f"{start} eq null")
    other = ValuePath(emails, And(chosen, term("value", "ne", "x")), 0)
    assert Or(other, Not(ValuePath(emails, chosen, 0), 0)) == parse_filter(f'{start} ne "x"')


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "SOMETHINGWITHOUTOPERATOR", "userName", "userName eq", 'userName eq "a', "userName eq a b", 'eq "a"',
        "userName like x", "userName eq 01", 'userName eq "\\x"', '(userName eq "a"', 'userName eq "a")', "()", "not",
        'userName eq "a" and', 'and userName eq "a"', 'urn:x:y:z eq "a"', '"userName" eq "a"', "a.b.c eq 1", "1a eq 1",
        "userName eq 'a'", 'emails[value eq "a"', "[", "a eq 2026-13-01",
        "a eq '2026-01-01", "a eq 2026-01-01'", "a eq ''", "a eq '", "a eq '2026-13-01'",
        'not userName eq "a"', "emails[]", 'emails[type eq "work"', 'emails[type eq "work")', 'emails[a[b eq "c"]]',
        'emails[emails.type eq "work"]', 'emails[type eq "work"].', 'emails[type eq "work"].value', '"pr"', 'a "pr"',
        'emails[type eq "work"].a.b pr', 'emails[type eq "work"] value pr', "a == 1", 'a "eq" 1', "a eq 2026-01-02 03:04:05 02:00 1", "a eq 2026-01-02 3", "a eq '2026-01-02 03:04:05",
        "a eq 2026-13-02 03:04:05", "a eq 2026-01-02 03:04:05x", "a eq +1", "a eq .5",
        'userName eq "\ud800"', 'a eq "\ud800" or b pr', "a eq true true", "a pr b", "a.b[c pr].d", "a eq “x",
    ],
)  # fmt: skip
def test_broken_filters(text):
    """A broken filter is a FilterError with a sentence."""
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    assert caught.value.detail.endswith(")") or caught.value.detail.endswith(".")


def test_the_position():
    """The place of the mistake is told, counted from 0."""
    with pytest.raises(FilterError, match="position 12") as caught:
        parse_filter("userName eq oops")
    assert 12 == caught.value.position
    for text, position in (('a eq "x" and', 12), ("a pr b", 5), ("a pr and (b xx 1)", 12), ('emails[type eq "w"', 18)):
        with pytest.raises(FilterError, match=f"position {position}") as caught:
            parse_filter(text)
        assert position == caught.value.position


def test_limits():
    """Length, nesting and number of comparisons are bounded; 1,000 ORed names need no deep recursion."""
    assert parse_filter(" or ".join(["a eq 1"] * 1000))
    assert parse_filter("(" * 40 + "a eq 1" + ")" * 40)
    assert parse_filter(" or ".join(["((a eq 1))"] * 1000))
    assert parse_filter(" or ".join(["not(a[b pr])"] * 1000))
    with pytest.raises(FilterError, match="more than 1000 comparisons"):
        parse_filter(" or ".join(["(not (a pr))"] * 1001))
    for text in (" or ".join(["a eq 1"] * 1001), "(" * 60 + "a eq 1" + ")" * 60, "a" * 20_000, "not (" * 3000):
        with pytest.raises(FilterError):
            parse_filter(text)
    assert parse_filter("a eq " + "9" * 5000)


@given(st.text(st.sampled_from('userName eq "a\\(]) [not or and.:1-“”{}\ud800'), max_size=40))
def test_any_text(text):
    """No text makes the parser raise anything but FilterError."""
    with contextlib.suppress(FilterError):
        parse_filter(text)


@given(st.text(max_size=20))
def test_any_value(value):
    """Any text, written as a JSON string, is read back as it is."""
    literal = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if value.isprintable():
        assert value == compare(f"userName eq {literal}")[2]


@given(st.datetimes(), st.integers(-14 * 60, 14 * 60))
def test_instants(moment, minutes):
    """A date-time with any offset is the instant that Python makes of it."""
    offset = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    since = moment - datetime(1970, 1, 1) - timedelta(minutes=minutes)
    assert since // timedelta(microseconds=1) == parse_instant(moment.isoformat() + offset)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01", 0), ("1970-01-01T00:00Z", 0), ("1970-01-01t00:00:01.5z", 1_500_000), ("1970-01-01 00:00:00", 0),
        ("1970-01-01T00:00:00.1234567Z", 123_456), ("1970-01-01T00:00:00,5Z", 500_000),
        ("1970-01-01T02:00:00 02:00", 0), ("1970-01-01T02:00:00.5 0200", 500_000), ("1970-01-01T02:00 01:30", 1_800_000_000),
        ("1970-01-01T00:00:00." + "1" * 400 + "Z", 111_111), ("1970-01-01T00:00:00.1234567891 01:00", -3_599_876_544),
        ("1970-01-01T00:00  02:00", None), ("1970-01-01T00:00 99:00", None), ("1970-01-01T00:00:00.Z", None),
        ("1970-01-01T0\u0660:00Z", None), ("", None), ("x", None),
        ("1970-02-30", None), ("1970-01-01T25:00", None), ("1970-01-01T00:00+99:00", None),
    ],
)  # fmt: skip
def test_forms_of_instants(text, expected):
    """Dates, blanks for T or for the plus, digits beyond microseconds, no zone (UTC) are read; anything else is none."""
    assert expected == parse_instant(text)
    if expected is not None:
        assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=expected)
