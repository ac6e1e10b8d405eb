"""The index of a generation: filters select just the users that they should."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from people_folder import PeopleFolder, users_of

from snapshot.errors import FilterError
from snapshot.filter import parse_filter
from snapshot.scim import ENTERPRISE_1_1, ENTERPRISE_2_0, USER

CUSTOM = "urn:okta:acme_hr_1:1.0:user:custom"
COLUMNS = "id, login, first, mail, home, photo, dept, hired, rate, grade, remote, state"
ROWS = [
    ("1", "Al", "Ünal", "al@x.com", None, "http://x/A", "R&D", "2024-01-02 10:00:00", "1.50", 5, 1, 1),
    ("2", "bo", "O'Brien", None, "AL@X.COM", "http://x/a", None, "2024-01-02", "1.5", None, 0, 1),
    ("3", "straße", None, "c@x.com", "d@x.com", None, "100%", None, None, 7, None, 0),
    ("4", 'q"u\\o', "x", None, None, None, "R&D", None, "-2", -5, None, 0),
]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    folder = PeopleFolder(tmp_path_factory.mktemp("index"))
    folder.settings["mapping"] = {
        "id": "id",
        "userName": "login",
        "name": {"givenName": "first"},
        "emails": [{"value": "mail", "type": "work"}, {"value": "home", "type": "home"}],
        "photos": "photo",
        "active": "state",
        "enterprise": {"department": "dept", "manager": {"displayName": "dept", "managerId": "id"}},
        CUSTOM: {
            "hired": {"column": "hired", "type": "dateTime", "timezone": "Europe/Paris"},
            "rate": {"column": "rate", "type": "decimal"},
            "grade": {"column": "grade", "type": "integer"},
            "remote": {"column": "remote", "type": "boolean"},
        },
    }
    folder.fill(ROWS, COLUMNS).refresh()
    return folder.snapshot()


def select(snapshot, text: str) -> str:
    """Return the ids that a filter selects."""
    ordinals = snapshot.select(USER, parse_filter(text, [CUSTOM]))
    users = users_of(snapshot)
    assert sorted(ordinals) == list(ordinals)
    return "".join(users[ordinal]["id"] for ordinal in ordinals)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('id eq "1"', "1"), ('userName eq "AL"', "1"), ('userName eq "STRASSE"', "3"), ('userName eq "al%"', ""),
        ('userName eq "q\\"u\\\\o"', "4"), ('name.givenName eq "ÜNAL"', "1"), ('name.givenName eq "o\'brien"', "2"),
        ('emails eq "AL@x.com"', "12"), ('emails.value eq "al@x.com"', "12"), ('email eq "c@x.com" or email eq "d@x.com"', "3"),
        ('emails.type eq "WORK"', "13"), ("emails eq null", "4"), ("emails.primary eq true", "123"),
        ('photos eq "http://x/A"', "1"), ('photos eq "http://x/a"', "2"),
        ("active eq true", "12"), ('active eq "False"', "34"), ("active eq null", ""),
        (f'{ENTERPRISE_2_0}:department eq "r&d"', "14"), (f'{ENTERPRISE_1_1}.department eq "100%"', "3"),
        (f"{ENTERPRISE_2_0}:department eq null", "2"), (f'{ENTERPRISE_1_1}:manager.managerId eq "2"', "2"),
        (f'{ENTERPRISE_2_0}:manager eq "2"', "2"), (f'{ENTERPRISE_2_0}:manager.displayName eq "100%"', "3"),
        (f'{CUSTOM}:hired eq "2024-01-02T09:00:00Z"', "1"), (f'{CUSTOM}:hired eq "2024-01-02T10:00:00.000+01:00"', "1"),
        (f"{CUSTOM}:hired eq 2024-01-02", "2"), (f"{CUSTOM}:hired eq null", "34"),
        (f'{CUSTOM}:hired eq "0001-01-01T00:00:00+14:00"', ""), (f'{CUSTOM}:hired eq "9999-12-31T23:59:59-14:00"', ""),
        (f"{CUSTOM}:rate eq 1.5", "12"), (f"{CUSTOM}:rate eq -2", "4"), (f"{CUSTOM}:rate eq 1e999", ""),
        (f"{CUSTOM}:grade eq 5", "1"), (f"{CUSTOM}:grade eq 5.5", ""), (f"{CUSTOM}:grade eq 7.0", "3"),
        (f"{CUSTOM}:grade eq " + "9" * 400, ""), (f'{CUSTOM}:grade eq "-5"', "4"),
        (f"{CUSTOM}:remote eq true", "1"), (f"{CUSTOM}:remote eq null", "34"),
        ('title eq "x"', ""), ("title eq null", "1234"), ('meta.resourceType eq "User"', ""),
        ('active eq true and emails eq "al@x.com" or id eq "4"', "124"),
        ('active eq true and (emails eq "nobody" or id eq "2")', "2"),
        ('meta.lastModified gt "2000-01-01T00:00:00Z"', "1234"), ('meta.lastModified gt "2100-01-01"', ""),
        ('meta.created gt "0001-01-01T00:00:00+14:00"', "1234"), ('meta.lastModified gt "9999-12-31T23:59:59-14:00"', ""),
        ("id eq \"1' OR '1'='1\"", ""),
    ],
)  # fmt: skip
def test_filters(snapshot, text, expected):
    """Each filter selects exactly the users whose attribute has that value, as its type compares."""
    assert expected == select(snapshot, text)


@pytest.mark.parametrize(
    "text",
    [
        "title pr", 'not (id eq "1")', 'emails[type eq "work"]', 'userName co "a"', 'userName gt "a"', "emali eq null",
        f'{CUSTOM}:bagde eq "1"', 'meta.lastModified eq "2024-01-01"', 'meta.lastModified gt "x"',
        "active eq 2", f'{CUSTOM}:grade eq "x"', f'{CUSTOM}:rate eq "x"', f'{CUSTOM}:hired eq "x"', "name.first eq null",
    ],
)  # fmt: skip
def test_what_is_not_supported(snapshot, text):
    """Anything else is a FilterError with a sentence, never a wrong answer."""
    with pytest.raises(FilterError, match=r"\.$"):
        select(snapshot, text)


def test_surrogates(snapshot):
    """Text that cannot be in a snapshot is found in none."""
    assert snapshot.find(USER, "\ud800") is None


LITERALS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5).map(json.dumps),
    st.sampled_from(
        ["true", "null", "1", "1.5", "2024-01-01", '"2024-01-01T10:00:00-14:00"', '"0001-01-01T00:00+01:00"']
    ),
)
PATHS = st.sampled_from(["id", "userName", "emails", "emails.type", "active", "photos", "title", "meta.lastModified", f"{CUSTOM}:hired", f"{CUSTOM}:rate", f"{CUSTOM}:grade", "groups", "zzz"])  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(PATHS, st.sampled_from(["eq", "gt", "ne"]), LITERALS), min_size=1, max_size=4),
    st.sampled_from([" and ", " or "]),
)
def test_any_filter(snapshot, terms, word):
    """Any filter gives ordinals or a FilterError, nothing else."""
    try:
        found = select(snapshot, word.join(" ".join(term) for term in terms))
    except FilterError:
        return
    assert set(found) <= set("1234")


def test_quick_filters(snapshot):
    """Look-ups by id, userName and e-mail go through a B-tree, and are known to."""
    quick = {text: snapshot.is_quick(USER, parse_filter(text)) for text in (
        'id eq "1"', 'userName eq "1"', 'emails eq "1"', 'userName eq "1" or id eq "2"', 'name.givenName eq "x"',
        'id eq "1" and name.givenName eq "x"',
    )}  # fmt: skip
    assert [True, True, True, True, False, False] == list(quick.values())
    plan = snapshot.index._db.execute("EXPLAIN QUERY PLAN SELECT ordinal FROM User WHERE user_name = 'x'").fetchall()
    assert "USING" in plan[0][-1]


@pytest.mark.parametrize("number", [Decimal("12345678901234567890.123456789"), Decimal("0.1")])
def test_exact_decimals_are_found(folder, number):
    """A decimal is found by the digits that the JSON shows."""
    folder.settings["mapping"][CUSTOM] = {"rate": {"column": "rate", "type": "decimal"}}
    folder.fill([("1", "a", None, 1, str(number))], "id, login, mail, state, rate").refresh()
    assert "1" == select(folder.snapshot(), f"{CUSTOM}:rate eq {number}")
