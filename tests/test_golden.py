"""Frozen data folders of earlier formats: they open, are served, and are what the next refresh compares with.

A new format needs a folder `golden/format-N` of the same people and a line in FROZEN.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from people_folder import PeopleFolder, users_of
from server_fixtures import ADMIN_TOKEN, CUSTOM_URN, PASSWORD, USER, serving

from snapshot.reader import body_name, open_snapshot
from snapshot.scim import USER as USER_TYPE
from snapshot.scim import ScimVersion
from snapshot.store import FORMAT_VERSION, ChangeFacts, generation_directory

GOLDEN = Path(__file__).parent / "golden"
FOLDERS = sorted(GOLDEN.glob("format-*"), key=lambda path: int(path.name.removeprefix("format-")))
COLUMNS = "id, login, given, family, mail, state, dept, boss, fte"
ROWS = [
    ("E1", "øyvind@example.com", "Øyvind", "Köhler", "oyvind@example.com", 1, "Research", None, "0.80"),
    ("E2", "李@example.com", "李", "小龍", "li@example.com", 1, 'Sales "EU"', "E1", "1.00"),
    ("E3", "gone@example.com", "Zoë", "O'Neil", None, 0, None, "E1", None),
]
MAPPING = {
    "id": "id",
    "userName": "login",
    "name": {"givenName": "given", "familyName": "family"},
    "emails": [{"value": "mail", "type": "work", "primary": True}],
    "active": {"column": "state", "true": [1], "false": [0]},
    "enterprise": {"department": "dept", "manager": "boss"},
    CUSTOM_URN: {"fte": {"column": "fte", "type": "decimal"}},
}
# From format 3 on; subgroups stay members of groups.
TABLES = {
    "teams": ("id, name, about", [("T2", 'All "EU"', None), ("T/1", "Zürich", "Money")]),
    "in_team": ("who, team", [("E1", "T/1"), ("E2", "T/1"), ("E1", "T2")]),
    "part_of": ("inner, outer", [("T/1", "T2")]),
    "licenses": ("id, name", [("L1", "Office"), ("L2", "Mail")]),
    "has_license": ("who, license", [("E2", "L2"), ("E2", "L1")]),
    "roles": ("id, name", [("R1", "Approver")]),
    "has_role": ("who, role", [("E1", "R1")]),
}
SECTIONS: dict[str, Any] = {
    "groups": {
        "table": "teams",
        "id": "id",
        "displayName": "name",
        "description": "about",
        "nesting": "keep",
        "members": {"table": "in_team", "group": "team", "user": "who"},
        "subgroups": {"table": "part_of", "group": "outer", "subgroup": "inner"},
    },
    "entitlements": {
        "License": {
            "table": "licenses",
            "id": "id",
            "displayName": "name",
            "scim_1_1": True,
            "assignments": {"table": "has_license", "entitlement": "license", "user": "who"},
        },
        "Role": {
            "kind": "role",
            "table": "roles",
            "id": "id",
            "displayName": "name",
            "assignments": {"table": "has_role", "entitlement": "role", "user": "who"},
        },
    },
}
# What users have of them: of each group its id, name and type.
GROUPS_OF = {
    "E1": [("T2", 'All "EU"', "direct"), ("T/1", "Zürich", "direct")],
    "E2": [("T2", 'All "EU"', "indirect"), ("T/1", "Zürich", "direct")],
}
MEMBERS = {"T/1": [("E1", ""), ("E2", "")], "T2": [("E1", ""), ("T/1", "Group")]}
SHOWN = {"E1": "øyvind@example.com", "E2": "李@example.com", "T/1": "Zürich"}
CORE = {
    ScimVersion.V1_1: "urn:scim:schemas:core:1.0",
    ScimVersion.V2_0: "urn:ietf:params:scim:schemas:core:2.0:User",
}
ENTERPRISE = {
    ScimVersion.V1_1: "urn:scim:schemas:extension:enterprise:1.0",
    ScimVersion.V2_0: "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
}
MANAGER_ID = {ScimVersion.V1_1: "managerId", ScimVersion.V2_0: "value"}
BASE = {ScimVersion.V1_1: "v1", ScimVersion.V2_0: "v2"}


@dataclass(frozen=True)
class Frozen:
    """What stands in one frozen folder: the digests of its bodies, and by person created, lastModified and version."""

    generation: int
    sha256: dict[ScimVersion, str]
    times: dict[str, tuple[str, str]]
    versions: dict[str, str]
    # Groups and entitlements: created, lastModified and version by id. Empty before format 3.
    related: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    @property
    def newest(self) -> list[str]:
        """Return the people whose lastModified is later than that of somebody else."""
        first = min(modified for _, modified in self.times.values())
        return [key for key, (_, modified) in self.times.items() if modified > first]


FROZEN = {
    "format-1": Frozen(
        generation=2,
        sha256={
            ScimVersion.V1_1: "2316bc384511cdface82033a96903ba6dfbe79775a1b3a3393783b85b6684097",
            ScimVersion.V2_0: "a720bff7725a05ed2517b90693f12028c1d52c3d558976d3be5933ede2f85e93",
        },
        times={
            "E1": ("2026-11-23T22:32:19.848Z", "2026-11-23T22:32:21.878Z"),
            "E2": ("2026-11-23T22:32:19.848Z", "2026-11-23T22:32:19.848Z"),
            "E3": ("2026-11-23T22:32:19.848Z", "2026-11-23T22:32:19.848Z"),
        },
        versions={
            "E1": 'W/"25b3c6ceaa2e9710b8478c008ba2bbeb"',
            "E2": 'W/"da3aaf6e4b2e1f67acb45a5c589c1e34"',
            "E3": 'W/"312bd57a40097238e2c36da680779452"',
        },
    ),
    "format-2": Frozen(
        generation=2,
        sha256={
            ScimVersion.V1_1: "78c1452fb215db247234a047d980939910c52328280663029ae220bcc697d9a9",
            ScimVersion.V2_0: "6820b3e115d005a47302e1999aff095f199c695e3cc2a753a7a540f68507c777",
        },
        times={
            "E1": ("2026-11-23T23:59:25.421Z", "2026-11-23T23:59:27.444Z"),
            "E2": ("2026-11-23T23:59:25.421Z", "2026-11-23T23:59:25.421Z"),
            "E3": ("2026-11-23T23:59:25.421Z", "2026-11-23T23:59:25.421Z"),
        },
        versions={
            "E1": 'W/"80313cf83d053026c2c984598399afa2"',
            "E2": 'W/"956ef2139601e337f27f9b2e863b5c2c"',
            "E3": 'W/"00f04aae767e38ee4cdb884fe2859f99"',
        },
    ),
    "format-3": Frozen(
        generation=2,
        sha256={
            ScimVersion.V1_1: "d0bf8f1ebadd09b9d1961356f5a5930d5e8a4b6924723ad2abec713390c8c842",
            ScimVersion.V2_0: "079804f7dc5ffc69311a2cd571a00470481b4aba1286a9e2c9889ff489d7fcba",
        },
        times={
            "E1": ("2026-11-24T04:04:25.893Z", "2026-11-24T04:04:28.135Z"),
            "E2": ("2026-11-24T04:04:25.893Z", "2026-11-24T04:04:25.893Z"),
            "E3": ("2026-11-24T04:04:25.893Z", "2026-11-24T04:04:25.893Z"),
        },
        versions={
            "E1": 'W/"78c1376ceefb0012866a83ce353be31d"',
            "E2": 'W/"ddf93848ad3e4a35891b381ce7037d77"',
            "E3": 'W/"00f04aae767e38ee4cdb884fe2859f99"',
        },
        related={
            "T2": ("2026-11-24T04:04:25.893Z", "2026-11-24T04:04:28.135Z", 'W/"1ec246e50ec7a044666cb3417ae527a3"'),
            "T/1": ("2026-11-24T04:04:25.893Z", "2026-11-24T04:04:25.893Z", 'W/"68ce37c79c324dbd62b01e0e20018ae7"'),
            "L1": ("2026-11-24T04:04:25.893Z", "2026-11-24T04:04:25.893Z", 'W/"c04201d1acca3c0737fbca59af454060"'),
            "L2": ("2026-11-24T04:04:25.893Z", "2026-11-24T04:04:25.893Z", 'W/"76feb569b940179780db24e397112a50"'),
            "R1": ("2026-11-24T04:04:25.893Z", "2026-11-24T04:04:25.893Z", 'W/"865bba472ebdcbb4c534ba607ff297bc"'),
        },
    ),
    "format-4": Frozen(
        generation=2,
        sha256={
            ScimVersion.V1_1: "69c1d470905e4a2146182aec8786bbc4764dda08ee8874dd0b113f13c76607ac",
            ScimVersion.V2_0: "9dba5888bf8464db4eb0f7f00038a608e4db54233d257b751f30665d8842d1bc",
        },
        times={
            "E1": ("2026-11-28T06:12:27.288Z", "2026-11-28T06:12:30.340Z"),
            "E2": ("2026-11-28T06:12:27.288Z", "2026-11-28T06:12:27.288Z"),
            "E3": ("2026-11-28T06:12:27.288Z", "2026-11-28T06:12:27.288Z"),
        },
        versions={
            "E1": 'W/"78c1376ceefb0012866a83ce353be31d"',
            "E2": 'W/"ddf93848ad3e4a35891b381ce7037d77"',
            "E3": 'W/"00f04aae767e38ee4cdb884fe2859f99"',
        },
        related={
            "T2": ("2026-11-28T06:12:27.288Z", "2026-11-28T06:12:30.340Z", 'W/"1ec246e50ec7a044666cb3417ae527a3"'),
            "T/1": ("2026-11-28T06:12:27.288Z", "2026-11-28T06:12:27.288Z", 'W/"68ce37c79c324dbd62b01e0e20018ae7"'),
            "L1": ("2026-11-28T06:12:27.288Z", "2026-11-28T06:12:27.288Z", 'W/"c04201d1acca3c0737fbca59af454060"'),
            "L2": ("2026-11-28T06:12:27.288Z", "2026-11-28T06:12:27.288Z", 'W/"76feb569b940179780db24e397112a50"'),
            "R1": ("2026-11-28T06:12:27.288Z", "2026-11-28T06:12:27.288Z", 'W/"865bba472ebdcbb4c534ba607ff297bc"'),
        },
    ),
}


def expected(frozen: Frozen, version: ScimVersion) -> list[dict[str, Any]]:
    """Return the three people as this version of SCIM writes them, made from ROWS alone."""
    people = []
    for key, login, given, family, mail, state, department, boss, fte in ROWS:
        created, modified = frozen.times[key]
        meta = {
            "created": created,
            "lastModified": modified,
            "location": f"https://scim.example.com/scim/{BASE[version]}/Users/{key}",
            "version": frozen.versions[key],
        }
        if version is ScimVersion.V2_0:
            meta["resourceType"] = "User"
        person: dict[str, Any] = {
            "schemas": [CORE[version], ENTERPRISE[version]],
            "id": key,
            "userName": login,
            "name": {"givenName": given, "familyName": family},
            "active": state == 1,
            "meta": meta,
            ENTERPRISE[version]: {},
        }
        if mail:
            person["emails"] = [{"value": mail, "type": "work", "primary": True}]
        if department:
            person[ENTERPRISE[version]]["department"] = department
        if boss:
            person[ENTERPRISE[version]]["manager"] = {MANAGER_ID[version]: boss}
        if fte:
            person["schemas"].append(CUSTOM_URN)
            person[CUSTOM_URN] = {"fte": float(fte)}
        if frozen.related:
            person |= links(key, version)
        people.append(person)
    return people


def links(key: str, version: ScimVersion) -> dict[str, Any]:
    """Return what a user belongs to; 1.1 has no $ref, and no roles here."""
    found: dict[str, Any] = {}
    if key in GROUPS_OF:
        found["groups"] = [
            {"value": group, "display": name, "type": kind, **reference("Groups", group, version)}
            for group, name, kind in GROUPS_OF[key]
        ]
    if key == "E1" and version is ScimVersion.V2_0:
        found["roles"] = [{"value": "R1", "display": "Approver"}]
    if key == "E2":
        names = {"L1": "Office", "L2": "Mail"}
        found["entitlements"] = [{"value": k, "display": name, "type": "License"} for k, name in names.items()]
    return found


def reference(endpoint: str, key: str, version: ScimVersion) -> dict[str, str]:
    if version is ScimVersion.V1_1:
        return {}
    return {"$ref": f"https://scim.example.com/scim/v2/{endpoint}/{quote(key, safe='')}"}


def expected_groups(frozen: Frozen, version: ScimVersion) -> list[dict[str, Any]]:
    """Return the groups as this version of SCIM writes them, made from TABLES alone."""
    is_new = version is ScimVersion.V2_0
    groups = []
    for key, name, about in TABLES["teams"][1]:
        created, modified, digest = frozen.related[key]
        place = f"https://scim.example.com/scim/{BASE[version]}/Groups/{quote(key, safe='')}"
        group: dict[str, Any] = {
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group" if is_new else "urn:scim:schemas:core:1.0"],
            "id": key,
            "displayName": name,
            "members": [
                {
                    "value": member,
                    "display": SHOWN[member],
                    **({"type": kind} if kind else {"type": "User"} if is_new else {}),
                    **reference("Groups" if kind else "Users", member, version),
                }
                for member, kind in MEMBERS[key]
            ],
            "meta": {
                "created": created,
                "lastModified": modified,
                "location": place,
                "version": digest,
                **({"resourceType": "Group"} if is_new else {}),
            },
        }
        if about:
            group["schemas"].append("urn:okta:custom:group:1.0")
            group["urn:okta:custom:group:1.0"] = {"description": about}
        groups.append(group)
    return groups


@pytest.fixture(params=FOLDERS, ids=lambda path: path.name)
def frozen(request):
    """What is pinned of a frozen folder; a folder without its line in FROZEN fails."""
    return FROZEN[request.param.name]


@pytest.fixture
def golden(tmp_path, frozen):
    """A copy of a frozen folder, beside the table and the configuration that made it."""
    folder = PeopleFolder(tmp_path)
    name = next(key for key, value in FROZEN.items() if value is frozen)
    shutil.copytree(GOLDEN / name, folder.data_dir)
    folder.settings["mapping"] = MAPPING
    if frozen.related:
        add_tables(folder)
    folder.settings["server"] |= {
        "port": 0,
        "poll_seconds": 0.02,
        "auth": [{"type": "basic", "username": USER, "password": PASSWORD}],
        "admin": {"type": "bearer", "token": ADMIN_TOKEN, "name": "admin"},
    }
    return folder.fill(ROWS, COLUMNS)


def add_tables(folder: PeopleFolder) -> None:
    """Add groups and entitlements to the source and to the configuration."""
    folder.settings |= SECTIONS
    with folder.open() as database:
        for name, (columns, rows) in TABLES.items():
            database.execute(f"CREATE TABLE {name} ({columns})")
            marks = ", ".join("?" * (columns.count(",") + 1))
            database.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)


def times_of(folder: PeopleFolder, version: ScimVersion = ScimVersion.V2_0) -> dict[str, tuple[str, str]]:
    return {user["id"]: (user["meta"]["created"], user["meta"]["lastModified"]) for user in folder.users(version)}


def test_every_format_is_frozen_once():
    """No frozen folder is of a format that this program does not write yet, and each has its line."""
    assert FROZEN.keys() == {path.name for path in FOLDERS}
    for path in FOLDERS:
        (manifest,) = path.glob("generations/*/manifest.json")
        assert f"format-{json.loads(manifest.read_bytes())['format_version']}" == path.name
        assert int(path.name.removeprefix("format-")) <= FORMAT_VERSION


@pytest.mark.parametrize("version", ScimVersion)
def test_a_frozen_generation_opens(golden, frozen, version):
    """The bodies are byte for byte what was frozen, and the opened snapshot holds exactly those three people."""
    snapshot = golden.snapshot()
    assert frozen.generation == snapshot.generation
    raw = (generation_directory(golden.data_dir, frozen.generation) / body_name(USER_TYPE, version)).read_bytes()
    assert frozen.sha256[version] == hashlib.sha256(raw).hexdigest()
    assert expected(frozen, version) == json.loads(b"[" + raw + b"]") == users_of(snapshot, version)
    assert [0, 1, 2, None] == [snapshot.find(USER_TYPE, key) for key in ("E1", "E2", "E3", "E4")]
    for ordinal, person in enumerate(expected(frozen, version)):
        assert person == json.loads(bytes(snapshot.resources(USER_TYPE, version, ordinal, ordinal + 1)))


async def test_a_frozen_generation_is_served(golden, frozen):
    """The application answers list, page, id, userName and meta.lastModified from it, in both versions."""
    async with serving(golden) as api:
        for version, base in BASE.items():
            people = expected(frozen, version)
            whole = await api.get(f"{base}/Users")
            assert ((3, 1, 3), people) == (whole.numbers, whole.json["Resources"])
            page = await api.get(f"{base}/Users?startIndex=2&count=1")
            assert ((3, 2, 1), people[1:2]) == (page.numbers, page.json["Resources"])
            for person in people:
                assert person == (await api.get(f"{base}/Users/{person['id']}")).json
                filtered = quote(f'userName eq "{person["userName"].upper()}"')
                found = await api.get(f"{base}/Users?filter={filtered}")
                assert ((1, 1, 1), [person]) == (found.numbers, found.json["Resources"])
            first = min(modified for _, modified in frozen.times.values())
            changed_since = quote(f'meta.lastModified gt "{first}"')
            since = await api.get(f"{base}/Users?filter={changed_since}")
            assert frozen.newest == since.ids
            assert 0 < len(since.ids) < 3
            assert 404 == (await api.get(f"{base}/Users/E4")).status
        status = (await api.admin("GET", "/-/status")).json
        assert (frozen.generation, None) == (status["snapshot"]["generation"], status["failed_open"])


def test_the_next_refresh_keeps_the_times(golden, frozen):
    """A refresh by this program over a frozen folder changes nobody's times where nothing else changed."""
    manifest = golden.refresh()
    assert FORMAT_VERSION == manifest.format_version
    # In the format of today there is nothing to publish anew.
    assert manifest.generation == frozen.generation or ChangeFacts() == manifest.changes
    for version in ScimVersion:
        found = golden.users(version)
        people = expected(frozen, version)
        if frozen is FROZEN["format-1"]:
            # It wrote attributes in the order of the configuration, so its digests were others.
            versions = FROZEN["format-2"].versions
            people = [{**person, "meta": {**person["meta"], "version": versions[person["id"]]}} for person in people]
        assert people == found


def test_a_changed_person_gets_a_new_time(golden, frozen):
    """A refresh over a frozen folder moves only lastModified, and only of the person who changed."""
    with golden.open() as database:
        database.execute("UPDATE people SET dept = 'Sales' WHERE id = 'E2'")
    manifest = golden.refresh()
    assert (0, 1, 0) == (manifest.changes.added, manifest.changes.changed, manifest.changes.removed)
    before = frozen.times
    for version in ScimVersion:
        after = times_of(golden, version)
        assert (before["E1"], before["E3"]) == (after["E1"], after["E3"])
        assert before["E2"][0] == after["E2"][0]
        assert max(modified for _, modified in before.values()) < after["E2"][1] == manifest.created_at
    assert [{"change": "changed", "id": "E2", "userName": "李@example.com"}] == golden.lines(
        manifest.generation, "changes.jsonl"
    )


def test_a_frozen_folder_is_never_written(frozen, golden):
    """The tests work on copies: the files in the tree still have the sizes and checksums of their manifest."""
    golden.refresh()
    name = next(key for key, value in FROZEN.items() if value is frozen)
    assert frozen.generation == open_snapshot(GOLDEN / name).generation


@pytest.mark.parametrize("version", ScimVersion)
def test_frozen_groups_and_entitlements(golden, frozen, version):
    """Groups with members and subgroups, entitlements and roles are what was frozen, and a refresh keeps their times."""
    if not frozen.related:
        pytest.skip("before format 3 there were users alone")
    for _ in range(2):
        snapshot = golden.snapshot()
        assert expected_groups(frozen, version) == resources_of(snapshot, "Group", version)
        for resource_type, ids in {"License": ["L1", "L2"], "Role": ["R1"]}.items():
            if resource_type == "Role" and version is ScimVersion.V1_1:
                continue
            found = resources_of(snapshot, resource_type, version)
            assert ids == [item["id"] for item in found]
            for item in found:
                meta = item["meta"]
                assert frozen.related[item["id"]] == (meta["created"], meta["lastModified"], meta["version"])
        assert FORMAT_VERSION == golden.refresh().format_version


def test_the_first_groups_of_an_older_folder(golden, frozen):
    """Groups over a frozen folder without any change whoever is in one, and nobody else."""
    if frozen.related:
        pytest.skip("it has groups")
    add_tables(golden)
    manifest = golden.refresh()
    assert (2, 0, 0) == (manifest.changes.changed, manifest.changes.added, manifest.changes.removed)
    assert {"Group": 2, "License": 2, "Role": 1} == {name: facts.added for name, facts in manifest.type_changes.items()}
    after = times_of(golden)
    assert frozen.times["E3"] == after["E3"]
    assert [manifest.created_at] * 2 == [after[key][1] for key in ("E1", "E2")]
    assert [frozen.times[key][0] for key in ("E1", "E2")] == [after[key][0] for key in ("E1", "E2")]


def resources_of(snapshot, resource_type: str, version: ScimVersion) -> list[dict[str, Any]]:
    body = bytes(snapshot.resources(resource_type, version, 0, snapshot.count(resource_type)))
    return json.loads(b"[" + body + b"]")
