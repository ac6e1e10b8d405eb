"""Roles and entitlements over whole refreshes: types, assignments, rejects, what each version shows, times."""

from __future__ import annotations

import pytest
from related_folder import RelatedFolder, person
from server_fixtures import ADMIN_TOKEN, PASSWORD, serving
from server_fixtures import USER as LOGIN

from snapshot.scim import USER, ScimVersion
from snapshot.store import ChangeFacts

LICENSES = "entitlements.License.assignments"


@pytest.fixture
def folder(tmp_path):
    """Two people, two licenses, one role: E1 has all of them, E2 one license."""
    made = RelatedFolder(tmp_path)
    made.write("people", person(1), person(2))
    made.write("licenses", ("L1", "Office", "Word"), ("L2", "Mail", None))
    made.write("roles", ("R1", "Approver"))
    made.write("has_license", ("E1", "L2"), ("E1", "L1"), ("E2", "L2"))
    made.write("has_role", ("E1", "R1"))
    return made


def test_users_name_what_the_endpoints_serve(folder):
    """`value` is the id that the endpoint serves, in SCIM 2.0; roles have no type, entitlements that of their section."""
    folder.refresh()
    user = folder.resources(USER)["E1"]
    assert [
        {"value": "L1", "display": "Office", "type": "License"},
        {"value": "L2", "display": "Mail", "type": "License"},
    ] == user["entitlements"]
    assert [{"value": "R1", "display": "Approver"}] == user["roles"]
    license_ = folder.resources("License")["L1"]
    assert ("Office", "License", "Word") == (license_["displayName"], license_["type"], license_["description"])
    assert ("License", "https://scim.example.com/scim/v2/Licenses/L1") == (
        license_["meta"]["resourceType"],
        license_["meta"]["location"],
    )
    assert {"id", "displayName", "schemas", "meta"} == folder.resources("Role")["R1"].keys()
    old = folder.resources(USER, ScimVersion.V1_1)["E1"]
    assert not {"roles", "entitlements"} & old.keys()
    assert not list((folder.data_dir / "generations").glob("*/License.1.1.*"))


async def test_each_version_shows_what_was_asked_for(folder):
    """With scim_1_1 the type has its endpoint in 1.1 and stands on its users; the other kind stays hidden there."""
    folder.settings["entitlements"]["License"]["scim_1_1"] = True
    folder.settings["server"] |= {
        "port": 0,
        "auth": [{"type": "basic", "username": LOGIN, "password": PASSWORD}],
        "admin": {"type": "bearer", "token": ADMIN_TOKEN},
    }
    folder.refresh()
    assert {"value": "L2", "display": "Mail", "type": "License"} == (
        folder.resources(USER, ScimVersion.V1_1)["E2"]["entitlements"][0]
    )
    assert "roles" not in folder.resources(USER, ScimVersion.V1_1)["E1"]
    async with serving(folder) as api:
        for base, path, status in (
            ("v1", "Licenses", 200),
            ("v2", "Licenses", 200),
            ("v1", "Roles", 404),
            ("v2", "Roles", 200),
            ("v1", "Licenses/L1", 200),
            ("v1", "Licenses/L9", 404),
        ):
            answer = await api.get(f"{base}/{path}")
            assert status == answer.status, (base, path)
        assert ["L1", "L2"] == (await api.get("v1/Licenses")).ids
        features = (await api.get("v2/ServiceProviderConfig")).json
        assert "IMPORT_USER_SCHEMA" in str(features)
        assert "IMPORT_USER_SCHEMA" not in str((await api.get("v1/ServiceProviderConfigs")).json)


def test_two_types_of_one_kind(folder):
    """Types of one kind stand in one attribute, in the order of the configuration; an id may be of both."""
    folder.settings["entitlements"]["Badge"] = {
        "query": "SELECT id, name FROM roles", "id": "id", "displayName": "name", "endpoint": "/my-badges",
        "assignments": {"table": "has_role", "entitlement": "role", "user": "who"},
    }  # fmt: skip
    folder.write("roles", ("L1", "Gold")).write("has_role", ("E1", "L1")).refresh()
    assert [("L1", "License"), ("L2", "License"), ("L1", "Badge")] == [
        (item["value"], item["type"]) for item in folder.resources(USER)["E1"]["entitlements"]
    ]
    assert "https://scim.example.com/scim/v2/my-badges/L1" == folder.resources("Badge")["L1"]["meta"]["location"]


@pytest.mark.parametrize("name", ["Ordered", "Unordered", "UserOrdered", "Index", "Select", "Manifest", "Attributes"])
def test_any_name_of_a_type(folder, name):
    """A type may have a name that means something to the database below; rows in no order are put in order."""
    folder.settings["entitlements"] = {name: folder.settings["entitlements"]["License"]}
    folder.write("people", person(2), person(1)).refresh()
    assert ["L1", "L2"] == list(folder.resources(name))
    folder.run("DELETE FROM has_license WHERE who = 'E2'")
    manifest = folder.refresh()
    assert (ChangeFacts(changed=1), {name: ChangeFacts()}) == (
        manifest.changes,
        {key: facts for key, facts in manifest.type_changes.items() if key == name},
    )


def test_dangling_assignments(folder):
    """Unknown users and entitlements are rejects of the section of their type, and in no body."""
    folder.write("has_license", ("E1", "L9"), ("E9", "L1"), (None, "L1"), ("E2", "L2"), ("E2", "R1"))
    manifest = folder.refresh()
    assert [
        (LICENSES, "", "who", "the value is NULL or blank"),
        (LICENSES, "E9", "entitlements", "no user with this key is published"),
        (LICENSES, "L9", "entitlements", "no License with this id is published"),
        (LICENSES, "R1", "entitlements", "no License with this id is published"),
    ] == folder.rejects(manifest)
    assert [("E9", "L1"), ("L9", "E1"), ("R1", "E2")] == folder.missing(manifest)
    assert (5, 4) == (manifest.related[LICENSES].rows, manifest.related[LICENSES].rejects)
    assert "entitlements" not in folder.resources(USER)["E1"]
    assert {"entitlements": 1, "roles": 1} == {key: manifest.links[key] for key in ("entitlements", "roles")}


def test_rows_that_are_no_entitlements(folder):
    """NULL ids, blank ones and the second row of an id are rejects; a long description is cut at Okta's limit."""
    folder.write(
        "licenses", (None, "x", None), (".search", "y", None), ("L1", "Zoom", "d" * 1500), ("L1", "Office", "e")
    )
    manifest = folder.refresh()
    names = [
        (section, key, attribute) for section, key, attribute, _ in folder.rejects(manifest) if section.count(".") == 1
    ]
    assert [("entitlements.License", "", "id")] * 2 + [("entitlements.License", "L1", "id")] == names
    assert 1 == len(folder.resources("License"))
    folder.write("licenses", ("L1", "Zoom", "d" * 1500)).refresh()
    assert 1000 == len(folder.resources("License")["L1"]["description"])


def test_a_column_of_the_users(folder):
    """A column of the users query may hold ids of entitlements, with and without separator."""
    folder.settings["entitlements"]["Role"]["assignments"] = {"column": "teams", "separator": ","}
    folder.write("roles", ("7", "Seven"), ("8", "Eight")).write("people", person(1, teams="8,7,9"), person(2, teams=7))
    manifest = folder.refresh()
    assert ["7", "8"] == [item["value"] for item in folder.resources(USER)["E1"]["roles"]]
    assert ["7"] == [item["value"] for item in folder.resources(USER)["E2"]["roles"]]
    assert [("entitlements.Role.assignments", "9", "roles", "no Role with this id is published")] == folder.rejects(
        manifest
    )


def test_an_assignment_moves_one_time_alone(folder):
    """A new assignment is news of that user; a new name of the entitlement also of whoever has it."""
    folder.refresh()
    users, licenses = folder.times(USER), folder.times("License")
    folder.run("INSERT INTO has_license VALUES ('E2', 'L1')")
    manifest = folder.refresh()
    assert {**users, "E2": manifest.created_at} == folder.times(USER)
    assert licenses == folder.times("License")
    folder.run("UPDATE licenses SET about = 'Word and more' WHERE id = 'L1'")
    manifest = folder.refresh()
    assert (ChangeFacts(), ChangeFacts(changed=1)) == (manifest.changes, manifest.type_changes["License"])
    folder.run("UPDATE roles SET name = 'Boss'")
    manifest = folder.refresh()
    assert (ChangeFacts(changed=1), ChangeFacts(changed=1)) == (manifest.changes, manifest.type_changes["Role"])


def test_a_row_that_is_gone_has_nothing(folder):
    """A tombstone has neither roles nor entitlements; one whose row is rejected has those of today."""
    folder.refresh()
    folder.run("DELETE FROM people WHERE id = 'E2'")
    folder.run("UPDATE people SET state = 'odd' WHERE id = 'E1'")
    folder.run("DELETE FROM has_license WHERE license = 'L1'")
    folder.refresh()
    users = folder.resources(USER)
    assert "entitlements" not in users["E2"]
    assert (["L2"], ["R1"]) == tuple([x["value"] for x in users["E1"][name]] for name in ("entitlements", "roles"))


def test_without_assignments(folder):
    """A type without assignments is served, and users have no attribute of it."""
    for item in folder.settings["entitlements"].values():
        del item["assignments"]
    folder.refresh()
    assert ["L1", "L2"] == list(folder.resources("License"))
    assert not {"roles", "entitlements"} & folder.resources(USER)["E1"].keys()
