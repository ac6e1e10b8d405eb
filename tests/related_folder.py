"""A directory with groups, entitlements, roles, phones and managers in SQLite: what the tests of relations start from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from people_folder import PeopleFolder

from snapshot.scim import ENTERPRISE_2_0, GROUP, USER, ScimVersion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from snapshot.store import Manifest

SETTINGS: dict[str, Any] = {
    "mapping": {
        "id": "id",
        "userName": "login",
        "displayName": "name",
        "active": {"column": "state", "true": [1], "false": [0]},
        "enterprise": {"manager": {"user": "boss"}},
        "phoneNumbers": [
            {
                "table": "phones",
                "user": "who",
                "value": "number",
                "type": {"column": "kind"},
                "primary": "main",
                "order": "place",
            }
        ],
    },
    "groups": {
        "table": "teams",
        "id": "id",
        "displayName": "name",
        "members": {"table": "in_team", "group": "team", "user": "who"},
    },
    "entitlements": {
        "License": {
            "table": "licenses",
            "id": "id",
            "displayName": "name",
            "description": "about",
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
COLUMNS = {
    "people": "id, login, name, state, boss, no, teams",
    "teams": "id, name, about",
    "in_team": "who, team",
    "part_of": "inner, outer",
    "licenses": "id, name, about",
    "has_license": "who, license",
    "roles": "id, name",
    "has_role": "who, role",
    "phones": "who, number, kind, main, place",
}
SUBGROUPS = {"table": "part_of", "group": "outer", "subgroup": "inner"}


def person(
    number: int, *, name: str = "", state: int = 1, boss: Any = None, no: Any = None, teams: Any = None
) -> tuple:
    return (f"E{number}", f"user{number}@example.com", name or f"Name {number}", state, boss, no, teams)


class RelatedFolder(PeopleFolder):
    """Tables are empty until `write` fills them; `settings` may be changed before a refresh."""

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self.settings |= orjson.loads(orjson.dumps(SETTINGS))
        for name in COLUMNS:
            self.write(name)

    def write(self, name: str, *rows: Iterable[Any], columns: str = "") -> RelatedFolder:
        """Make one table anew with these rows."""
        columns = columns or COLUMNS[name]
        with self.open() as database:
            database.execute(f"DROP TABLE IF EXISTS {name}")
            database.execute(f"CREATE TABLE {name} ({columns})")
            database.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * (columns.count(',') + 1))})", rows)
        return self

    def run(self, statement: str, *values: Any) -> RelatedFolder:
        with self.open() as database:
            database.execute(statement, values)
        return self

    def resources(self, resource_type: str, version: ScimVersion = ScimVersion.V2_0) -> dict[str, dict[str, Any]]:
        """Return every resource of a type in force, by id."""
        snapshot = self.snapshot()
        body = bytes(snapshot.resources(resource_type, version, 0, snapshot.count(resource_type)))
        return {item["id"]: item for item in orjson.loads(b"[" + body + b"]")}

    def groups_of(self, user: str) -> list[str]:
        return [item["value"] for item in self.resources(USER)[user].get("groups", [])]

    def members_of(self, group: str) -> list[str]:
        return [item["value"] for item in self.resources(GROUP)[group].get("members", [])]

    def manager_of(self, user: str) -> dict[str, str] | None:
        return self.resources(USER)[user].get(ENTERPRISE_2_0, {}).get("manager")

    def times(self, resource_type: str) -> dict[str, str]:
        return {key: item["meta"]["lastModified"] for key, item in self.resources(resource_type).items()}

    def rejects(self, manifest: Manifest) -> list[tuple[str, str, str, str]]:
        """Return (section, id, attribute, reason) of every reject that names a section, sorted."""
        lines = self.lines(manifest.generation, "rejects.jsonl")
        return sorted((x["section"], x["id"], x["attribute"], x["reason"]) for x in lines if "section" in x)

    def missing(self, manifest: Manifest) -> list[tuple[str, str]]:
        """Return (what nobody has, the other side) of every reject that names two sides, sorted."""
        lines = self.lines(manifest.generation, "rejects.jsonl")
        return sorted((x["id"], x["other"]) for x in lines if "other" in x)


def check_agreement(folder: RelatedFolder) -> None:
    """Members and groups say the same in both directions and both versions, and nothing dangles."""
    for version in ScimVersion:
        users, groups = (folder.resources(name, version) for name in (USER, GROUP))
        of_users = {
            (user, item["value"], item["display"], shown_name(content))
            for user, content in users.items()
            for item in content.get("groups", [])
            if item.get("type") != "indirect"
        }
        of_groups = {
            (item["value"], group, content["displayName"], item["display"])
            for group, content in groups.items()
            for item in content.get("members", [])
            if item.get("type") != GROUP
        }
        assert of_users == of_groups
        for content in groups.values():
            for item in content.get("members", []):
                if item.get("type") == GROUP:
                    assert groups[item["value"]]["displayName"] == item["display"]


def shown_name(user: dict[str, Any]) -> str:
    return user.get("displayName") or user.get("name", {}).get("formatted") or user["userName"]
