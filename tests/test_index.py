"""The index of a generation: filters select just the users that they should."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from people_folder import PeopleFolder, people, person, users_of

from snapshot.errors import FilterError, SortError
from snapshot.filter import Sort, known_urns, parse_filter, resolve_path
from snapshot.layout import instant_key
from snapshot.scim import ENTERPRISE_1_1, ENTERPRISE_2_0, GROUP, USER, USER_2_0

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
        ('title eq "x"', ""), ("title eq null", "1234"), ('title ne "x"', "1234"), ("title ne null", ""), ("title pr", ""),
        ('active eq true and emails eq "al@x.com" or id eq "4"', "124"),
        ('active eq true and (emails eq "nobody" or id eq "2")', "2"),
        ('meta.lastModified gt "2000-01-01T00:00:00Z"', "1234"), ('meta.lastModified gt "2100-01-01"', ""),
        ('meta.created gt "0001-01-01T00:00:00+14:00"', "1234"), ('meta.lastModified gt "9999-12-31T23:59:59-14:00"', ""),
        ("id eq \"1' OR '1'='1\"", ""), ("userName co \"' OR \"", ""),
        # ne and not: the exact complement, null included
        ('name.givenName ne "x"', "123"), ('not (name.givenName eq "x")', "123"), ('not (name.givenName ne "x")', "4"),
        ("name.givenName ne null", "124"), ("not (name.givenName pr)", "3"), ("NOT (not (name.givenName pr))", "124"),
        ('not (name.givenName co "n")', "34"), ('not (name.givenName gt "a" or id eq "3")', ""),
        ("not (active eq true and emails pr)", "34"), ("active ne true", "34"),
        # several values: any of them; none counts as null
        ('emails ne "al@x.com"', "34"), ('emails.type ne "work"', "234"), ('not (emails eq "al@x.com")', "34"),
        ("emails ne null", "123"), ("emails.type eq null", "4"), ("emails pr", "123"), ("not (emails pr)", "4"),
        ('emails co "X.C"', "123"), ('emails sw "d"', "3"), ('emails ew "L@X.com"', "12"), ('emails gt "c"', "3"),
        ('emails co "@" and not (emails sw "a")', "3"), ("emails.primary ne true", "34"), ("emails.primary pr", "123"), ("emails[primary eq false]", "3"), ('emails[type eq "home" and primary eq false]', "3"), ("emails.primary eq null", "4"),
        ("emails[primary eq null]", ""), ("emails.primary eq false", "3"), ("emails.display pr", ""),
        # value paths: one value fulfils all
        ('emails[type eq "home" and value co "al@"]', "2"), ('emails[type eq "work" and value eq "d@x.com"]', ""),
        ('emails [TYPE eq "work" and not (VALUE sw "a")]', "3"), ('emails[not (type eq "work")]', "23"),
        ("emails[primary ne true]", "3"), ("emails[display eq null]", "123"), ("emails[display pr]", ""),
        ('not (emails[type eq "home"])', "14"), ('emails[value eq "c@x.com" or value eq "al@x.com"]', "123"),
        ('emails[type eq "work"].value sw "a"', "1"), ('emails[type eq "home"].value ne "d@x.com"', "124"),
        ('emails[type eq "home"].value eq null', "14"), ('emails[type eq "home"].value ne null', "23"),
        ('addresses[locality eq "x"]', ""), ('not (addresses[locality eq "x"])', "1234"), ("roles[value pr].type pr", ""),
        ('name[givenName sw "o" and familyName eq null]', "2"), ('name[familyName ne "x"]', "124"),
        (f'{ENTERPRISE_1_1}:manager[managerId eq "2" or displayName eq "r&d"]', "124"),
        # text: folded, by code point
        ('userName co "SS"', "3"), ('userName co "ß"', "3"), ('userName sw "STRAẞ"', "3"), ('userName ew "SSE"', "3"),
        ('userName co ""', "1234"), ('title sw ""', ""), ('userName ew "U\\\\o"', "4"),
        ('userName gt "AL"', "234"), ('userName ge "AL"', "1234"), ('userName lt "bo"', "1"), ('userName le "BO"', "12"),
        ('userName sw "\U0010ffff"', ""), ('userName lt "\ud7ff"', "1234"), ('userName sw "\ud7ff"', ""),
        ('photos sw "http://x/"', "12"), ('photos co "X/A"', ""), ('photos ge "http://x/a"', "2"), ("id gt 2", "34"),
        ("id eq 1", "1"), ("id sw 1", "1"), ("id eq 1.0", ""), ('id eq true or userName eq "bo"', "2"),
        # other types
        (f"{CUSTOM}:grade gt 5", "3"), (f"{CUSTOM}:grade ge 5", "13"), (f"{CUSTOM}:grade lt 5.5", "14"),
        (f"{CUSTOM}:grade le -4.5", "4"), (f"{CUSTOM}:grade lt -5", ""), (f"{CUSTOM}:grade gt -5.5", "134"),
        (f"{CUSTOM}:grade ne 5.5", "1234"), (f"{CUSTOM}:grade ne 5", "234"), (f"{CUSTOM}:grade lt 1e999", "134"),
        (f"{CUSTOM}:grade gt -1e999", "134"), (f'{CUSTOM}:grade ge "7"', "3"), (f"{CUSTOM}:grade eq 70e-1", "3"),
        (f"{CUSTOM}:grade gt 4.{'9' * 400}", "13"), (f"{CUSTOM}:grade lt " + "9" * 400, "134"),
        (f"{CUSTOM}:grade le -9223372036854775809", ""), (f"{CUSTOM}:grade gt -9223372036854775809.5", "134"),
        (f"{CUSTOM}:rate ge 1.5", "12"), (f"{CUSTOM}:rate gt 1.5", ""), (f"{CUSTOM}:rate lt 0", "4"),
        (f"{CUSTOM}:rate lt " + "9" * 400, "124"), (f"{CUSTOM}:remote ne true", "234"), (f"{CUSTOM}:remote pr", "12"),
        (f"{CUSTOM}:hired gt 2024-01-02", "1"), (f"{CUSTOM}:hired ge 2024-01-02", "12"), (f"{CUSTOM}:hired pr", "12"),
        (f'{CUSTOM}:hired lt "2024-01-02T10:00:00.0000001+01:00"', "2"), (f"{CUSTOM}:hired ne 2024-01-02", "134"),
        (f'{CUSTOM}:hired lt "9999-12-31T23:59:59-14:00"', "12"), (f'{CUSTOM}:hired gt "0001-01-01T00:00:00+14:00"', "12"),
        # meta, schemas
        ('meta.lastModified ge "2000-01-01" and meta.lastModified lt "2100-01-01"', "1234"),
        ('meta.created le "2000-01-01"', ""), ('meta.lastModified eq "2024-01-01"', ""), ("meta.created eq null", ""),
        ('meta.created ne "2024-01-01T00:00:00.0005Z"', "1234"), ("meta pr", "1234"), ("meta.lastModified pr", "1234"),
        ('meta.resourceType eq "User"', "1234"), ('meta.resourceType eq "user"', ""), ("meta.resourceType pr", "1234"),
        ('META.resourcetype ne "Group"', "1234"), ('meta[resourceType sw "U"]', "1234"), ("meta.resourceType eq null", ""),
        (f'schemas eq "{ENTERPRISE_1_1}"', "1234"), (f'schemas eq "{CUSTOM.upper()}"', "1234"),
        ('schemas eq "urn:scim:schemas:core:1.0"', "1234"), (f'schemas eq "{USER_2_0}"', "1234"), ("schemas pr", "1234"),
        (f'schemas ne "{USER_2_0}"', "1234"), ('schemas eq "urn:x:y"', ""), ('schemas co "enterprise"', "1234"),
        ("groups pr", ""), ('groups eq "x"', ""), ('groups[display co "x"]', ""), ('groups.value ne "x"', "1234"),
        ("name pr", "124"), ("name eq null", "3"), ("name ne null", "124"), (f"{ENTERPRISE_2_0}:manager pr", "1234"),
        ("addresses pr", ""), ("addresses eq null", "1234"),
    ],
)  # fmt: skip
def test_filters(snapshot, text, expected):
    """Each filter selects exactly the users whose attribute has that value, as its type compares."""
    assert expected == select(snapshot, text)


@pytest.mark.parametrize(
    "text",
    [
        "emali eq null", "emali pr", 'emali[type eq "work"]', 'emails[tipe eq "work"]', 'addresses[locallity eq "x"]',
        f'{CUSTOM}:bagde eq "1"', 'meta.lastModified gt "x"', "meta.lastModified gt 5", "name.first eq null",
        "active eq 2", f'{CUSTOM}:grade eq "x"', f'{CUSTOM}:rate eq "x"', f'{CUSTOM}:hired eq "x"', f'{CUSTOM}:grade eq "1_0"',
        f"{CUSTOM}:grade eq true", f"{CUSTOM}:rate ge false", f"{CUSTOM}:hired eq 20240101", f'{CUSTOM}:grade eq "٣"',
        "active gt true", "active le false", f"{CUSTOM}:remote lt true", 'active co "t"', f"{CUSTOM}:grade co 1",
        f'{CUSTOM}:hired sw "2024"', 'meta.created ew "Z"', "userName gt null", "userName co null", "emails le null",
        'x509Certificates gt "a"', 'x509Certificates[value lt "a"]', "active[value eq true]", 'userName[value eq "x"]',
        'name eq "x"', 'addresses eq "x"', 'name co "x"', 'meta eq "x"', 'meta.version eq "x"', "meta.location pr",
        "meta[version pr]", f'{ENTERPRISE_2_0}:manager.$ref eq "x"', "groups.$ref pr", 'members eq "x"', "schemas gt null",
        'emails.value[type eq "x"]', f"{CUSTOM}:grade[value eq 5]", 'schemas[value eq "x"]', 'department eq "R&D"',
        " or ".join(['title co "x"'] * 101), "emails[" + " or ".join(['value co "x"'] * 101) + "]",
    ],
)  # fmt: skip
def test_what_has_no_meaning(snapshot, text):
    """What cannot be compared so is a FilterError with a sentence, never a wrong answer."""
    with pytest.raises(FilterError, match=r"\.$"):
        select(snapshot, text)


@pytest.mark.parametrize(
    ("text", "position", "hint"),
    [
        ('id pr and emali eq "x"', 10, "did you mean email"), ('emails[tpye eq "work"]', 7, "did you mean emails.type?"),
        (f"{CUSTOM}:bagde pr", 0, "grade"), ("id pr and active gt true", 10, "boolean"), ('id pr or meta.version eq "x"', 9, "meta.created"),
        ('id pr or members.$ref eq "x"', 9, "members.value"), ("name eq 5", 0, "sub-attributes"),
    ],
)  # fmt: skip
def test_where_and_why(snapshot, text, position, hint):
    """The refusal says where the comparison stands, and what was probably meant."""
    with pytest.raises(FilterError, match=rf"position {position}\)") as caught:
        select(snapshot, text)
    assert position == caught.value.position
    assert hint in caught.value.detail


def test_many_terms(snapshot):
    """Hundreds of looked-up values are found at once; what is scanned is bounded."""
    wanted = [f'emails eq "user{number}@x.com"' for number in range(200)]
    assert "12" == select(snapshot, " or ".join([*wanted, 'emails eq "al@x.com"']))
    assert "4" == select(snapshot, " or ".join(['id eq "9"'] * 899 + ['name.givenName sw "x"'] * 100))


@pytest.mark.parametrize(
    ("text", "ascending", "descending"),
    [
        ("userName", "1243", "3421"), ("id", "1234", "4321"), ("name.givenName", "2413", "3142"),
        ("emails", "1234", "4312"), ("emails.type", "2134", "4132"), ("photos", "1234", "3421"), ("active", "3412", "1234"),
        (f"{CUSTOM}:grade", "4132", "2314"), (f"{CUSTOM}:rate", "4123", "3124"), (f"{CUSTOM}:hired", "2134", "3412"),
        (f"{ENTERPRISE_1_1}:manager", "1234", "4321"), ("title", "1234", "1234"), ("addresses.locality", "1234", "1234"),
        ("meta.created", "1234", "1234"), ("meta.resourceType", "1234", "1234"), ("schemas", "1234", "1234"),
        ("roles", "1234", "1234"),
    ],
)  # fmt: skip
def test_order(snapshot, text, ascending, descending):
    """Sorted by stored form; absent values last, descending first; ties in ordinal order; the primary value counts."""
    users = users_of(snapshot)
    for expected, is_descending in ((ascending, False), (descending, True)):
        sort = Sort(resolve_path(text, known_urns([CUSTOM])), is_descending)
        assert expected == "".join(users[ordinal]["id"] for ordinal in snapshot.select(USER, None, sort))
        some = snapshot.select(USER, parse_filter('id ne "2"'), sort)
        assert expected.replace("2", "") == "".join(users[ordinal]["id"] for ordinal in some)


@pytest.mark.parametrize(
    "text", ["name", "addresses", "meta", "emali", "meta.version", "groups.$ref", f"{CUSTOM}:x", "a.b"]
)
def test_no_order(snapshot, text):
    """What has no value of its own, and what no schema knows, orders nothing: a SortError with a sentence."""
    with pytest.raises(SortError, match=r"\.$"):
        snapshot.select(USER, None, Sort(resolve_path(text, known_urns([CUSTOM]))))


def test_everybody(snapshot):
    """Without filter and sort everybody is selected, in order."""
    assert [0, 1, 2, 3] == list(snapshot.select(USER, None))


def test_surrogates(snapshot):
    """Text that cannot be in a snapshot is found in none."""
    assert snapshot.find(USER, "\ud800") is None


FRAGMENTS = (
    "id", "userName", "emails", "emails.type", "name", "active", "photos", "title", "meta.lastModified", f"{CUSTOM}:hired", f"{CUSTOM}:grade",
    "groups", "schemas", "zzz", "value", "type", "eq", "ne", "co", "gt", "le", "pr", "and", "or", "not", "(", ")", "[", "]", "].value", "true",
    "null", "1", "-1.5e3", "2024-01-01", '"0001-01-01T00:00+01:00"', '"work"', '"al"', '""', '"', "“x”", "'", "\\", "$ref", ".", ":",
)  # fmt: skip
USUAL = st.sampled_from((
    'id eq "1"', "emails pr", 'not (userName co "a")', 'emails[type eq "work"]', "active eq true", "title eq null", "and", "or", "and", "or",
))  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(USUAL, USUAL, st.sampled_from(FRAGMENTS)), min_size=1, max_size=12),
    st.sampled_from(["", " ", " "]),
)
def test_any_filter(snapshot, words, blank):
    """Any row of words gives ordinals or a FilterError with a sentence, nothing else."""
    try:
        found = select(snapshot, blank.join(words))
    except FilterError as error:
        refusal = error.detail
    else:
        refusal = "."
        assert set(found) <= set("1234")
    assert refusal.endswith((".", ")"))


def test_quick_filters(snapshot):
    """Look-ups by id, userName and e-mail go through a B-tree, and are known to."""
    quick = {text: snapshot.is_quick(USER, parse_filter(text)) for text in (
        'id eq "1"', 'userName eq "1"', 'emails eq "1"', 'userName eq "1" or id eq "2"', 'name.givenName eq "x"',
        'id eq "1" and name.givenName eq "x"',
    )}  # fmt: skip
    assert [True, True, True, True, False, False] == list(quick.values())
    plan = snapshot.index._db.execute("EXPLAIN QUERY PLAN SELECT ordinal FROM User WHERE user_name = 'x'").fetchall()
    assert "USING" in plan[0][-1]
    for text in (
        "userName eq null",
        'userName sw "1"',
        'not (id eq "1")',
        'meta.lastModified eq "2024-01-01"',
        "zzz eq 1",
        'photos eq "1"',
    ):
        assert not snapshot.is_quick(USER, parse_filter(text)), text


@pytest.mark.parametrize("number", [Decimal("12345678901234567890.123456789"), Decimal("0.1")])
def test_exact_decimals_are_found(folder, number):
    """A decimal is found by the digits that the JSON shows."""
    folder.settings["mapping"][CUSTOM] = {"rate": {"column": "rate", "type": "decimal"}}
    folder.fill([("1", "a", None, 1, str(number))], "id, login, mail, state, rate").refresh()
    assert "1" == select(folder.snapshot(), f"{CUSTOM}:rate eq {number}")


@pytest.mark.parametrize(
    "mapped", [{}, {"displayName": "mail"}, {"displayName": "mail", "name": {"formatted": "login"}}]
)
def test_members_are_found_by_the_name_that_is_shown(folder, mapped):
    """A member is found by id and by display: displayName, else the formatted name, else the userName."""
    folder.settings["mapping"] |= mapped
    folder.settings["groups"] = {
        "query": "SELECT 7 AS no, 'Seven' AS name", "id": "no", "displayName": "name",
        "members": {"query": "SELECT id, 7 AS no FROM people", "user": "id", "group": "no"},
    }  # fmt: skip
    folder.publish([("E1", "Zoë", "straße", 1)])
    snapshot = folder.snapshot()
    shown = "STRASSE" if mapped else "ZOË"
    for text in (
        'members.value eq "E1"',
        f'members.display eq "{shown}"',
        f'members[value eq "E1" and display co "{shown[1:]}"]',
    ):
        assert [0] == list(snapshot.select(GROUP, parse_filter(text)))
    assert [] == list(snapshot.select(GROUP, parse_filter('members.value eq "e1"')))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('meta.lastModified gt "{since}"', "E00007 E00900"),
        ('meta.lastModified ge "{since}" and not (active eq false)', "E00007 E00900"),
        ('active eq true and userName eq "user5@example.com"', "E00005"),
        ('userName eq "user900@example.com" or meta.lastModified gt "{since}"', "E00007 E00900"),
    ],
)
def test_few_are_found_without_reading_all(folder, text, expected):
    """A filter of single-valued attributes that a B-tree narrows down costs what it selects, not what there is, and keeps the order of ids."""
    first = folder.publish(people(2000))
    changed = {6: person(7, mail="new7@example.com"), 899: person(900, mail="new900@example.com")}
    folder.publish([changed.get(at, item) for at, item in enumerate(people(2000))])
    since = instant_key((first.created_ms + 1) * 1000)
    snapshot, steps = folder.snapshot(), []
    for connection in (snapshot.index._db, snapshot.index._scans):
        connection.set_progress_handler(lambda: steps.append(1), 1)
    ordinals = snapshot.select(USER, parse_filter(text.format(since=f"{since}Z")))
    users = users_of(snapshot)
    assert expected == " ".join(users[ordinal]["id"] for ordinal in ordinals)
    assert len(steps) < 500
