"""The index of a generation with several resource types: each answers for itself."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from snapshot.errors import FilterError, SortError
from snapshot.filter import Sort, parse_filter, resolve_path
from snapshot.lookup import Index
from snapshot.reader import open_snapshot
from snapshot.scim import CORE_1_1, ENTERPRISE_2_0, GROUP, GROUP_2_0, USER

LICENSE = "License"
TABLES = """
CREATE TABLE attribute(type TEXT, path TEXT, tbl TEXT, col TEXT, kind TEXT, indexed INTEGER, PRIMARY KEY(type, path));
CREATE TABLE "User"(ordinal INTEGER PRIMARY KEY, id TEXT, fingerprint, created, last_modified, removed, active, user_name);
CREATE TABLE "User_groups"(ordinal INTEGER, v_value, v_display);
CREATE TABLE "User_skills"(ordinal INTEGER, v_value);
CREATE TABLE "Group"(ordinal INTEGER PRIMARY KEY, id TEXT, fingerprint, created, last_modified, a2);
CREATE VIEW "Group_members" AS
    SELECT g.ordinal AS ordinal, u.id AS v_value, u.user_name AS v_display, 'user' AS v_type
    FROM "User_groups" m JOIN "User" u ON u.ordinal = m.ordinal JOIN "Group" g ON g.id = m.v_value;
CREATE TABLE "License"(ordinal INTEGER PRIMARY KEY, id TEXT, fingerprint, created, last_modified, a2, a3);
"""
SKILLS = "urn:x:1.0:user:custom:skills"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("types") / "index.sqlite"
    database = sqlite3.connect(path)
    database.executescript(TABLES)
    attributes = [
        (kind, name, kind, column, how, indexed)
        for kind in (USER, GROUP, LICENSE)
        for name, column, how, indexed in (
            ("id", "id", "exact", 1), ("meta.created", "created", "published", 0),
            ("meta.lastModified", "last_modified", "published", 1),
        )
    ]  # fmt: skip
    attributes += [
        (USER, "userName", USER, "user_name", "text", 1),
        (USER, "groups.value", "User_groups", "v_value", "exact", 1),
        (USER, "groups.display", "User_groups", "v_display", "text", 0),
        (USER, SKILLS, "User_skills", "v_value", "text", 1),
        (GROUP, "displayName", GROUP, "a2", "text", 1),
        (GROUP, "members.value", "Group_members", "v_value", "exact", 1),
        (GROUP, "members.display", "Group_members", "v_display", "text", 0),
        (GROUP, "members.type", "Group_members", "v_type", "text", 0),
        (LICENSE, "displayName", LICENSE, "a2", "text", 0),
        (LICENSE, "type", LICENSE, "a3", "text", 0),
    ]
    database.executemany("INSERT INTO attribute VALUES (?, ?, ?, ?, ?, ?)", attributes)
    users = [
        (0, "u1", b"f", 1000, 2000, None, 1, "ann"),
        (1, "u2", b"g", 1000, 3000, 3000, 0, "bob"),
        (2, "u3", b"h", 1, 1, None, 1, "cid"),
    ]
    database.executemany('INSERT INTO "User" VALUES (?, ?, ?, ?, ?, ?, ?, ?)', users)
    database.executemany(
        'INSERT INTO "User_groups" VALUES (?, ?, ?)', [(0, "g1", "staff"), (0, "g2", "zürich"), (1, "g1", "staff")]
    )
    database.executemany('INSERT INTO "User_skills" VALUES (?, ?)', [(0, "sql"), (0, "python"), (2, "sql")])
    groups = [(0, "g1", b"i", 5, 6, "staff"), (1, "g2", b"j", 7, 8, "zürich"), (2, "g3", b"k", 9, 10, None)]
    database.executemany('INSERT INTO "Group" VALUES (?, ?, ?, ?, ?, ?)', groups)
    database.execute("INSERT INTO License VALUES (0, 'l1', x'00', 1, 2, 'e5', 'license')")
    database.commit()
    database.close()
    return Index(path)


def select(index, resource_type: str, text: str) -> list[int]:
    return list(index.select(resource_type, parse_filter(text, ["urn:x:1.0:user:custom"])))


@pytest.mark.parametrize(
    ("resource_type", "text", "expected"),
    [
        (GROUP, 'id eq "g1"', [0]), (GROUP, 'displayName eq "ZÜRICH"', [1]), (GROUP, "displayName eq null", [2]),
        (GROUP, f'{GROUP_2_0}:displayname sw "s"', [0]), (GROUP, 'not (displayName co "s")', [1, 2]),
        (GROUP, 'members eq "u1"', [0, 1]), (GROUP, 'members.value eq "u2"', [0]), (GROUP, "members pr", [0, 1]),
        (GROUP, 'members[display eq "BOB" and type eq "User"]', [0]), (GROUP, "members eq null", [2]),
        (GROUP, 'members ne "u1"', [0, 2]), (GROUP, 'meta.lastModified gt "1970-01-01T00:00:00.006Z"', [1, 2]),
        (GROUP, 'meta.resourceType eq "Group"', [0, 1, 2]), (GROUP, f'schemas eq "{GROUP_2_0}"', [0, 1, 2]),
        (GROUP, f'schemas eq "{CORE_1_1}"', [0, 1, 2]), (GROUP, f'schemas eq "{ENTERPRISE_2_0}"', []), (GROUP, "externalId pr", []),
        (USER, 'groups eq "g1"', [0, 1]), (USER, 'groups.display co "ü"', [0]), (USER, "groups pr", [0, 1]), (USER, "groups.type pr", []),
        (USER, f'{SKILLS} eq "SQL"', [0, 2]), (USER, f'{SKILLS}.value eq "python"', [0]), (USER, f'{SKILLS}[value sw "p"]', [0]),
        (USER, f"{SKILLS} eq null", [1]), (USER, f'{SKILLS} ne "sql"', [0, 1]), (USER, f'not ({SKILLS} ne "sql")', [2]),
        (USER, 'schemas eq "urn:x:1.0:user:custom"', [0, 2]),
        (LICENSE, 'type eq "License" and displayName eq "E5"', [0]), (LICENSE, "description pr", []),
        (LICENSE, 'schemas eq "urn:okta:scim:schemas:core:1.0:Entitlement"', [0]), (LICENSE, 'meta.resourceType sw "L"', [0]),
        ("Role", 'displayName eq "x"', []), ("Role", 'not (id eq "x")', []),
    ],
)  # fmt: skip
def test_filters_of_each_type(index, resource_type, text, expected):
    """A filter selects among the resources of its type, by the attributes of its type."""
    assert expected == select(index, resource_type, text)


@pytest.mark.parametrize(
    ("resource_type", "text"),
    [
        (GROUP, 'userName eq "x"'), (GROUP, "emails pr"), (USER, "members pr"), (LICENSE, "name.givenName pr"),
        ("Role", "userName pr"), ("Role", "displayName gt null"), (GROUP, f'{ENTERPRISE_2_0}:department eq "x"'), (USER, f"{SKILLS}[type pr]"),
    ],
)  # fmt: skip
def test_names_of_another_type(index, resource_type, text):
    """A name that the schema of a type does not know is refused, also where there is no resource of it."""
    with pytest.raises(FilterError, match=r"position \d+\)\.$"):
        select(index, resource_type, text)


def test_orders_of_each_type(index):
    """Each type is sorted by its own attributes; several values without a primary one go by the first."""

    def ordered(resource_type, path):
        return list(index.select(resource_type, None, Sort(resolve_path(path, ()), descending=True)))

    assert [2, 1, 0] == ordered(GROUP, "displayName")
    assert [2, 1, 0] == ordered(USER, "id")
    assert [2, 0, 1] == ordered(USER, "groups.display")
    assert 2 == ordered(GROUP, "members")[0]
    assert [] == ordered("Role", "displayName")
    with pytest.raises(SortError):
        ordered("Role", "userName")


def test_look_ups_of_each_type(index):
    """Ids are found among the resources of their type; what is known of others than users has no state."""
    assert [0, None, 1, None] == [
        index.find(*item) for item in ((USER, "u1"), (GROUP, "u1"), (GROUP, "g2"), ("Role", "g2"))
    ]
    assert (1, "u2", b"g", 1000, 3000, 0, 3000) == index.known("u2")
    assert (1, "g2", b"j", 7, 8, 1, None) == index.known("g2", GROUP) == index.known_at(1, GROUP)
    assert index.known("g2") is index.known("g2", "Role") is None
    assert ["l1"] == [resource_id for _, resource_id, *_ in index.every(LICENSE)]
    assert [] == list(index.every("Role"))


def test_quick_filters_of_each_type(index):
    """What many resources may share is selected aside, although a B-tree finds it."""
    quick = {(USER, 'userName eq "x"'), (GROUP, 'id eq "x"'), (GROUP, 'displayName eq "x"')}
    slow = {(USER, 'groups eq "x"'), (GROUP, 'members eq "x"'), (LICENSE, 'displayName eq "x"'), ("Role", 'id eq "x"')}
    assert quick == {item for item in quick | slow if index.is_quick(item[0], parse_filter(item[1]))}
    wanted = " or ".join(f'groups eq "{number}"' for number in range(200))
    assert [0, 1] == select(index, USER, f'{wanted} or groups eq "g1"')


@pytest.mark.parametrize("folder", sorted((Path(__file__).parent / "golden").glob("format-*")), ids=lambda path: path.name)
def test_earlier_formats(folder):
    """Generations of earlier formats are filtered and sorted too; those without groups have none."""
    snapshot = open_snapshot(folder)
    tree = parse_filter('not (emails[value co "li@"]) and name.familyName pr and meta.created gt "2020-01-01"')
    assert [0, 2] == list(snapshot.select(USER, tree))
    assert [2, 0, 1] == list(snapshot.select(USER, None, Sort(resolve_path("emails", ()), descending=True)))
    assert "E2" == snapshot.index.known_at(snapshot.find(USER, "E2"))[1]
    if folder.name in {"format-1", "format-2"}:
        assert [] == list(snapshot.select(GROUP, parse_filter("displayName pr")))
        assert snapshot.find(GROUP, "E2") is None
