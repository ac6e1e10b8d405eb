"""Frozen data folders of earlier formats: they open, are served, and are what the next refresh compares with.

A new format needs a folder `golden/format-N` of the same people and a line in FROZEN.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
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
        people.append(person)
    return people


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
    folder.settings["server"] |= {
        "port": 0,
        "poll_seconds": 0.02,
        "auth": [{"type": "basic", "username": USER, "password": PASSWORD}],
        "admin": {"type": "bearer", "token": ADMIN_TOKEN, "name": "admin"},
    }
    return folder.fill(ROWS, COLUMNS)


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
