"""The sections [groups] and [entitlements.NAME], queries in the mapping and managers: bad keys and their exact message."""

from __future__ import annotations

from typing import Any

import pytest
from test_config import SQL_SERVER, parse, problems

ROWS = {"table": "t", "id": "id", "displayName": "name"}
PAIRS = {"table": "t", "group": "g", "user": "u"}
ASSIGNED = {"table": "t", "entitlement": "e", "user": "u"}
PHONES = {"table": "t", "user": "u", "value": "n"}

BAD: list[tuple[dict[str, Any], list[str]]] = [
    ({"groups": 1}, ["groups: found 1 (integer); expected a table"]),
    (
        {"groups": {"id": "id", "displayName": "name"}},
        ["groups: found none of them; expected exactly one of table, query, procedure"],
    ),
    (
        {"groups": {**ROWS, "query": "SELECT 1"}},
        ["groups: found table and query; expected exactly one of table, query, procedure"],
    ),
    (
        {"groups": {"table": "t", "displayName": "name"}},
        ['groups.id: found nothing; expected a column, for example id = "id"'],
    ),
    (
        {"groups": {"table": "t", "id": "id"}},
        ['groups.displayName: found nothing; expected a column, for example displayName = "displayName"'],
    ),
    (
        {"groups": {**ROWS, "nesting": "deep"}},
        ['groups.nesting: found "deep" (string); expected one of "flatten", "keep"'],
    ),
    (
        {"groups": {**ROWS, "member": {}}},
        ["groups.member: found an unknown key; expected one of the known keys (did you mean members?)"],
    ),
    (
        {"groups": {"id": "id", "displayName": "name", "procedure": "p"}},
        ['groups.procedure: found "p" (string); expected table or query (SQLite has no procedures)'],
    ),
    (
        {"groups": {"table": "t", "id": {"column": "id", "cas": "lower"}, "displayName": "name"}},
        ["groups.id.cas: found an unknown key; expected one of the known keys (did you mean case?)"],
    ),
    (
        {"groups": {**ROWS, "members": {**PAIRS, "column": "c"}}},
        ["groups.members: found column beside table, group, user; expected a column of the users query, or a query"],
    ),
    (
        {"groups": {**ROWS, "members": {"group": "g", "user": "u"}}},
        ["groups.members: found none of them; expected exactly one of table, query, procedure"],
    ),
    (
        {"groups": {**ROWS, "members": {"table": "t"}}},
        [
            "groups.members.group: found nothing; expected the column of the query that names the group",
            "groups.members.user: found nothing; expected the column of the query that names the user",
        ],
    ),
    (
        {"groups": {**ROWS, "members": {**PAIRS, "separator": ";"}}},
        ["groups.members.separator: found a separator without column; expected it only beside column"],
    ),
    (
        {"groups": {**ROWS, "members": {**PAIRS, "users": "x"}}},
        ["groups.members.users: found an unknown key; expected one of the known keys (did you mean user?)"],
    ),
    (
        {"groups": {**ROWS, "subgroups": {"table": "t", "group": "g"}}},
        ["groups.subgroups.subgroup: found nothing; expected the column of the query that names the subgroup"],
    ),
    (
        {"groups": {**ROWS, "subgroups": {"column": "c"}}},
        [
            "groups.subgroups.column: found an unknown key; expected one of the known keys (count_query, group, parameters, procedure, query, subgroup, table)"
        ],
    ),
    ({"groups": {**ROWS, "urn:a:b": {"x": ["a", "b"]}}}, ['groups."urn:a:b".x: found a list; expected a single value']),
    (
        {"groups": {**ROWS, "displayname": "x"}},
        ["groups: found displayName twice; expected each attribute at most once"],
    ),
    ({"entitlements": []}, ["entitlements: found [] (array); expected tables such as [entitlements.License]"]),
    (
        {"entitlements": {"License": 1}},
        ["entitlements.License: found 1 (integer); expected a table such as [entitlements.License]"],
    ),
    (
        {"entitlements": {"User": ROWS}},
        [
            'entitlements.User: found "User" (string); expected a name of letters and digits that means nothing else, for example License'
        ],
    ),
    (
        {"entitlements": {"group": ROWS}},
        [
            'entitlements.group: found "group" (string); expected a name of letters and digits that means nothing else, for example License'
        ],
    ),
    (
        {"entitlements": {"My_License": ROWS}},
        [
            'entitlements.My_License: found "My_License" (string); expected a name of letters and digits that means nothing else, for example License'
        ],
    ),
    (
        {"entitlements": {"9x": ROWS}},
        [
            'entitlements.9x: found "9x" (string); expected a name of letters and digits that means nothing else, for example License'
        ],
    ),
    (
        {"entitlements": {"ä": ROWS}},
        [
            'entitlements.ä: found "ä" (string); expected a name of letters and digits that means nothing else, for example License'
        ],
    ),
    (
        {"entitlements": {"Schema": ROWS}},
        [
            'entitlements.Schema: found "Schema" (string); expected a name of letters and digits that means nothing else, for example License'
        ],
    ),
    (
        {"entitlements": {"NUL": ROWS}},
        [
            'entitlements.NUL: found "NUL" (string); expected a name of letters and digits that means nothing else, for example License'
        ],
    ),
    (
        {"entitlements": {"com1": ROWS}},
        [
            'entitlements.com1: found "com1" (string); expected a name of letters and digits that means nothing else, for example License'
        ],
    ),
    (
        {"entitlements": {"License": {**ROWS, "endpoint": "/Users"}}},
        ['entitlements.License.endpoint: found "/Users" (string); expected a path of its own, for example /Licenses'],
    ),
    (
        {"entitlements": {"License": {**ROWS, "endpoint": "/groups"}}},
        ['entitlements.License.endpoint: found "/groups" (string); expected a path of its own, for example /Licenses'],
    ),
    (
        {"entitlements": {"License": {**ROWS, "endpoint": "/Me"}}},
        ['entitlements.License.endpoint: found "/Me" (string); expected a path of its own, for example /Licenses'],
    ),
    (
        {"entitlements": {"License": {**ROWS, "endpoint": "/Bulk"}}},
        ['entitlements.License.endpoint: found "/Bulk" (string); expected a path of its own, for example /Licenses'],
    ),
    (
        {"entitlements": {"License": {**ROWS, "endpoint": "/.search"}}},
        ['entitlements.License.endpoint: found "/.search" (string); expected a path of its own, for example /Licenses'],
    ),
    (
        {"entitlements": {"License": {**ROWS, "endpoint": "Licenses"}}},
        ['entitlements.License.endpoint: found "Licenses" (string); expected a path of its own, for example /Licenses'],
    ),
    (
        {"entitlements": {"License": {**ROWS, "endpoint": "/a/b"}}},
        ['entitlements.License.endpoint: found "/a/b" (string); expected a path of its own, for example /Licenses'],
    ),
    (
        {"entitlements": {"License": {**ROWS, "endpoint": "/Schemas"}}},
        ['entitlements.License.endpoint: found "/Schemas" (string); expected a path of its own, for example /Licenses'],
    ),
    (
        {"entitlements": {"License": {**ROWS, "endpoint": "/ä"}}},
        ['entitlements.License.endpoint: found "/ä" (string); expected a path of its own, for example /Licenses'],
    ),
    (
        {"entitlements": {"License": {**ROWS, "endpoint": "/"}}},
        ['entitlements.License.endpoint: found "/" (string); expected a path of its own, for example /Licenses'],
    ),
    (
        {"entitlements": {"License": {**ROWS, "kind": "licence"}}},
        ['entitlements.License.kind: found "licence" (string); expected one of "entitlement", "role"'],
    ),
    (
        {"entitlements": {"License": {**ROWS, "type": "x"}}},
        [
            "entitlements.License.type: found an unknown key; expected one of the known keys (assignments, endpoint, kind, scim_1_1)"
        ],
    ),
    (
        {"entitlements": {"License": {**ROWS, "externalId": "x"}}},
        [
            "entitlements.License.externalId: found an unknown key; expected one of the known keys (assignments, endpoint, kind, scim_1_1)"
        ],
    ),
    (
        {"entitlements": {"License": {"table": "t", "displayName": "name"}}},
        ['entitlements.License.id: found nothing; expected a column, for example id = "id"'],
    ),
    (
        {"entitlements": {"License": {**ROWS, "assignments": {**ASSIGNED, "column": "c"}}}},
        [
            "entitlements.License.assignments: found column beside table, entitlement, user; expected a column of the users query, or a query"
        ],
    ),
    (
        {"entitlements": {"License": {**ROWS, "assignments": {"table": "t", "user": "u"}}}},
        [
            "entitlements.License.assignments.entitlement: found nothing; expected the column of the query that names the entitlement"
        ],
    ),
    (
        {"entitlements": {"License": ROWS, "LICENSE": {**ROWS, "endpoint": "/Other"}}},
        ["entitlements: found LICENSE twice; expected each name at most once"],
    ),
    (
        {"entitlements": {"A": ROWS, "B": {**ROWS, "endpoint": "/as"}}},
        ["entitlements: found /as twice; expected each endpoint at most once"],
    ),
    (
        {"entitlements": {"Role": {**ROWS, "kind": "role"}}, "mapping__roles": ["r"]},
        [
            "mapping.roles: found roles beside [entitlements.Role]; expected one of them: the section makes the attribute of users too"
        ],
    ),
    (
        {"entitlements": {"License": ROWS}, "mapping__entitlements": ["r"]},
        [
            "mapping.entitlements: found entitlements beside [entitlements.License]; expected one of them: the section makes the attribute of users too"
        ],
    ),
    (
        {"mapping__groups": "g"},
        [
            'mapping.groups: found an unknown attribute; expected a SCIM user attribute (attributes of your own belong under [mapping."urn:…"])'
        ],
    ),
    (
        {"mapping__phoneNumbers": [{"table": "t", "user": "", "value": "n"}]},
        ["mapping.phoneNumbers[1].user: found nothing; expected the column of the query with the key of the user"],
    ),
    (
        {"mapping__phoneNumbers": [{"table": "t", "user": 1, "value": "n"}]},
        ["mapping.phoneNumbers[1].user: found 1 (integer); expected a column of the query"],
    ),
    (
        {"mapping__phoneNumbers": [{**PHONES, "order": ["a"]}]},
        ["mapping.phoneNumbers[1].order: found ['a'] (array); expected a column of the query"],
    ),
    (
        {"mapping__phoneNumbers": [{**PHONES, "query": "x"}]},
        ["mapping.phoneNumbers: found table and query; expected exactly one of table, query, procedure"],
    ),
    (
        {"mapping__phoneNumbers": [{**PHONES, "sort": "x"}]},
        [
            "mapping.phoneNumbers[1].sort: found an unknown key; expected one of the known keys (display, primary, type, value)"
        ],
    ),
    (
        {"mapping__phoneNumbers": [{"table": "t", "user": "u"}]},
        ['mapping.phoneNumbers[1]: found no value; expected a value, for example value = "email"'],
    ),
    (
        {"mapping__phoneNumbers": [{"value": "n", "user": "u"}]},
        [
            "mapping.phoneNumbers[1].user: found an unknown key; expected one of the known keys (display, primary, type, value)"
        ],
    ),
    (
        {"mapping__enterprise": {"manager": {"user": "b", "displayName": "n"}}},
        [
            "mapping.enterprise.manager: found user beside displayName; expected user alone: the rest comes from the manager's row"
        ],
    ),
    (
        {"mapping__enterprise": {"manager": {"user": " "}}},
        [
            'mapping.enterprise.manager.user: found " " (string); expected the column with the key of the manager\'s own row'
        ],
    ),
    (
        {"source__users__keys": "x"},
        ["source.users.keys: found an unknown key; expected one of the known keys (did you mean key?)"],
    ),
    (
        {"mapping__urn:a:b": {"x": {"column": "c", "separator": 1}}},
        ['mapping."urn:a:b".x.separator: found 1 (integer); expected a text, for example ";"'],
    ),
]


@pytest.mark.parametrize(("changes", "expected"), BAD, ids=lambda item: item[0][:60] if isinstance(item, list) else "")
def test_a_bad_section(changes, expected):
    """Each mistake is one line that names the key, what was found, and what was expected."""
    assert [f"c.toml: {line}" for line in expected] == problems(**changes)


def test_a_procedure_of_sql_server():
    """With SQL Server every one of these queries may be a procedure with parameters."""
    procedure = {"procedure": "hr.p", "parameters": {"year": 2026}}
    config = parse(
        source=SQL_SERVER,
        groups={**procedure, "id": "id", "displayName": "name", "members": {**procedure, "group": "g", "user": "u"}},
        mapping__phoneNumbers=[{**procedure, "user": "u", "value": "n"}],
    )
    assert config.groups is not None
    assert ("hr.p", {"year": 2026}) == (config.groups.query.procedure, config.groups.query.parameters)


def test_endpoints_by_default():
    """Without `endpoint` it is the name with an s; the type Role of roles has the one that Okta shows."""
    sections = {
        "License": ROWS, "Role": {**ROWS, "kind": "role"}, "Duty": {**ROWS, "kind": "role", "endpoint": "/Duties"},
    }  # fmt: skip
    assert ["/Licenses", "/Roles", "/Duties"] == [item.endpoint for item in parse(entitlements=sections).entitlements]


def test_a_manager_beside_another_spelling_of_the_extension():
    """[mapping.enterprise] and its URN may stand side by side; the manager's key is not forgotten."""
    config = parse(
        mapping__enterprise={"manager": {"user": "boss"}},
        **{"mapping__urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "d"}},
    )
    assert "boss" == config.mapping.manager_key
