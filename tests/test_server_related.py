"""Filters, sorts and queries over all types where there are groups, roles and entitlements, through a running server."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from judged_directory import NEW, OLD
from whole_people import GROUP_URN

from snapshot.related import read_entitlements
from snapshot.strict import Reader

ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
BASES = pytest.mark.parametrize("base", [OLD, NEW])


def ids(judged, target: str) -> list[str]:
    return [item["id"] for item in judged.get(target).json["Resources"]]


@BASES
@pytest.mark.parametrize(
    ("endpoint", "text", "expected"),
    [
        ("Groups", 'displayName eq "COMPANY"', ["T1"]),
        ("Groups", 'externalId eq "t-1"', ["T1"]),
        ("Groups", 'externalId eq "T-1"', []),
        ("Groups", 'id eq "T3/ü"', ["T3/ü"]),
        ("Groups", 'members eq "E2"', ["T1", "T2", "T3/ü"]),
        ("Groups", 'members.value eq "E1" and not (displayName sw "f")', ["T1", "T3/ü"]),
        ("Groups", 'members[value eq "E3/ü +%" and display co "HERE"]', ["T1", "T2", "T3/ü"]),
        ("Groups", 'members.type eq "group"', []),
        ("Groups", "not (members pr)", ["T4"]),
        ("Groups", 'urn:okta:custom:group:1.0:description co "so ON"', ["T2"]),
        ("Groups", "urn:okta:acme_hr_1:1.0:group:custom.code gt 7", ["T2"]),
        ("Groups", 'meta.lastModified gt "2026-01-01T00:00:00Z"', ["T1", "T2", "T4", "T3/ü"]),
        ("Users", 'groups.display eq "Company"', ["E1", "E2", "E3/ü +%"]),
        ("Users", 'groups eq "T4"', []),
        ("Users", 'roles eq "R2"', ["E3/ü +%"]),
        ("Users", 'entitlements[type eq "license" and value eq "L1"]', ["E1", "E3/ü +%"]),
        ("Users", 'entitlements[type eq "Profile" and value eq "L1"]', ["E3/ü +%"]),
        ("Users", 'entitlements.display eq "visio" or roles.display sw "audit"', ["E1", "E3/ü +%"]),
        ("Users", f'{ENTERPRISE}:manager eq "E1" and {ENTERPRISE}.manager.displayName sw "zoë"', ["E3/ü +%", "E4"]),
        ("Users", 'urn:okta:acme_hr_1:1.0:user:custom:skills eq "GO"', ["E1"]),
        ("Users", 'urn:okta:acme_hr_1:1.0:user:custom:courses eq "safety"', ["E1", "E2"]),
        ("Users", 'phoneNumbers[type eq "mobile" and primary eq true]', ["E1"]),
        ("Users", 'addresses.country eq "pl"', ["E1"]),
        ("Licenses", 'displayName sw "o"', ["L1"]),
        ("Licenses", 'type eq "license" and description pr', ["L1"]),
        ("AccessProfiles", 'id eq "L1"', ["L1"]),
        ("Roles", "urn:okta:acme_hr_1:1.0:role:custom:level le 3", ["R1"]),
    ],
)
def test_filters_of_each_type(linked_server, base, endpoint, text, expected):
    """Alike in both versions, as scim_1_1 is on."""
    assert expected == ids(linked_server, f"{base}/{endpoint}?filter={quote(text, safe='')}")


@BASES
@pytest.mark.parametrize(
    ("endpoint", "sort", "expected"),
    [
        ("Groups", "displayName", ["T1", "T2", "T4", "T3/ü"]),
        ("Groups", "externalId", ["T1", "T2", "T4", "T3/ü"]),
        ("Groups", "members.display", ["T1", "T2", "T3/ü", "T4"]),
        ("Users", "groups.display", ["E1", "E2", "E3/ü +%", "E4"]),
        ("Users", "roles.display", ["E1", "E3/ü +%", "E2", "E4"]),
        ("Licenses", "displayName", ["L1", "L2/ü"]),
        ("Roles", "urn:okta:acme_hr_1:1.0:role:custom:level", ["R1", "R2"]),
    ],
)
def test_orders_of_each_type(linked_server, base, endpoint, sort, expected):
    """Who has no value comes last; descending, everything is the other way round but for ties."""
    assert expected == ids(linked_server, f"{base}/{endpoint}?sortBy={sort}")
    backwards = ids(linked_server, f"{base}/{endpoint}?sortBy={sort}&sortOrder=descending")
    assert sorted(expected) == sorted(backwards)


EVERYTHING = ["E1", "E2", "E3/ü +%", "E4", "T1", "T2", "T4", "T3/ü", "L1", "L2/ü", "L1", "P1", "R1", "R2"]


def search(judged, body: dict, path: str = "/.search"):
    answer = judged.client.post(f"{NEW}{path}", json.dumps(body).encode())
    assert 200 == answer.status, answer.body
    return answer


def test_the_root_lists_every_type_that_has_resources(linked_server):
    """Users, groups and each type of entitlements, in the order of ResourceTypes, in pages, by GET and by POST."""
    found = []
    for start in range(1, 15, 4):
        page = linked_server.get(f"{NEW}/?startIndex={start}&count=4")
        assert 14 == page.json["totalResults"]
        assert page.body == search(linked_server, {"startIndex": start, "count": 4}).body
        found += page.json["Resources"]
    assert EVERYTHING == [item["id"] for item in found]
    kinds = [item["meta"]["resourceType"] for item in found]
    assert ["User"] * 4 + ["Group"] * 4 + ["License"] * 2 + ["Profile"] * 2 + ["Role"] * 2 == kinds
    for item in found:
        place = item["meta"]["location"].partition("/scim/v2")[2]
        assert item == linked_server.get(f"{NEW}{place}").json


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('displayName co "off"', ["L1"]),
        ('displayName sw "o" or displayName sw "Au" or displayName sw "GONE"', ["E4", "L1", "R2"]),
        ('id eq "L1"', ["L1", "L1"]),
        ('type eq "profile"', ["L1", "P1"]),
        ('meta.resourceType eq "Group" and members pr', ["T1", "T2", "T3/ü"]),
        ('members.value eq "E2" or groups.value eq "T1"', ["E1", "E2", "E3/ü +%", "T1", "T2", "T3/ü"]),
        ('not (meta.resourceType eq "User") and description pr', ["L1", "R1"]),
    ],
)
def test_filters_of_the_root(linked_server, text, expected):
    """What a type lacks has no value there; GET and POST find the same."""
    found = linked_server.get(f"{NEW}/?filter={quote(text, safe='')}")
    assert sorted(expected) == sorted(item["id"] for item in found.json["Resources"])
    assert found.body == search(linked_server, {"filter": text}).body


def test_one_order_over_all_types(linked_server):
    """Names of people, groups, entitlements and roles stand in one order, over pages by index and by cursor."""
    whole = linked_server.get(f"{NEW}/?sortBy=displayName&count=50").json["Resources"]
    names = [item["displayName"].casefold() for item in whole if "displayName" in item]
    assert sorted(names) == names
    assert [item["displayName"].casefold() for item in whole[: len(names)]] == names
    kinds = {item["meta"]["resourceType"] for item in whole[:6]}
    assert len(kinds) > 2
    paged, cursor = [], ""
    while True:
        page = linked_server.get(f"{NEW}/?sortBy=displayName&count=4&cursor={quote(cursor)}").json
        paged += page["Resources"]
        cursor = page.get("nextCursor", "")
        if not cursor:
            break
    assert whole == paged


@BASES
@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("Groups/T1?attributes=members.value", {"members"}),
        ("Groups/T1?attributes=urn:okta:custom:group:1.0:description", {"urn:okta:custom:group:1.0"}),
        ("Groups/T1?attributes=urn:okta:custom:group:1.0", {"urn:okta:custom:group:1.0"}),
        ("Groups/T2?excludedAttributes=members,meta,urn:okta:custom:group:1.0.description,displayName", {GROUP_URN}),
        ("Users/E1?attributes=groups.display,entitlements", {"groups", "entitlements"}),
        ("Roles/R1?excludedAttributes=urn:okta:acme_hr_1:1.0:role:custom:level,meta", {"displayName", "description"}),
    ],
)
def test_parts_of_resources_of_each_type(linked_server, base, target, names):
    """attributes and excludedAttributes know the extensions of groups, roles and entitlements too."""
    found = linked_server.get(f"{base}/{target}").json
    assert {"schemas", "id", *names} == found.keys()


@pytest.mark.parametrize("path", ["/Groups/.search", "/Licenses/.search", "/Roles/.search"])
def test_a_search_of_each_type(linked_server, path):
    """A search under a type answers as GET does, parts of resources included."""
    body = {"filter": "displayName pr", "sortBy": "displayName", "attributes": ["displayName", "members.value"]}
    query = "filter=displayName%20pr&sortBy=displayName&attributes=displayName,members.value"
    listed = linked_server.get(f"{NEW}{path.removesuffix('/.search')}?{query}")
    assert listed.json["totalResults"]
    assert listed.body == search(linked_server, body, path).body


def test_types_of_one_attribute_are_shown_in_1_1_together():
    """Users have one attribute for all types of entitlements: 1.1 shows all of them or none."""
    reader = Reader("c.toml", Path())
    rows = {"id": "id", "displayName": "name"}
    tables = {
        "License": {**rows, "table": "licenses", "scim_1_1": True},
        "Profile": {**rows, "table": "profiles"},
        "Role": {**rows, "table": "roles", "kind": "role"},
    }
    read_entitlements(reader, tables, driver="sqlite")
    (problem,) = reader.problems
    assert (
        "c.toml: entitlements.Profile.scim_1_1: found false; expected true, as of License: both are entitlements of users"
        == str(problem)
    )


@pytest.mark.parametrize("query", ["filter=type%20pr", "filter=type%20eq%20%22Role%22", "sortBy=type"])
def test_a_role_has_no_type(linked_server, query):
    """The schema of roles has no `type`, so nothing can be asked of it; that of entitlements has one."""
    answers = [linked_server.client.get(f"{NEW}/{name}?{query}").status for name in ("Roles", "Licenses")]
    assert [400, 200] == answers
