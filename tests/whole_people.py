"""A directory in which every attribute of the User schema is filled: in one user all of them, in another none.

Its times are fixed, so its bodies are the same wherever and whenever it is published.
"""

from __future__ import annotations

import base64
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any
from unittest import mock

from people_folder import PeopleFolder
from server_process import server_settings

from snapshot.config import Config, load_config
from snapshot.refresh import run_refresh

if TYPE_CHECKING:
    from pathlib import Path

CUSTOM_URN = "urn:okta:acme_hr_1:1.0:user:custom"
GROUP_URN = "urn:okta:acme_hr_1:1.0:group:custom"
GROUPS = {
    "table": "teams",
    "id": "id",
    "externalId": "ext",
    "displayName": "name",
    "description": "about",
    GROUP_URN: {"code": {"column": "code", "type": "integer"}, "open": {"column": "open", "type": "boolean"}},
    "nesting": "keep",
    "members": {"table": "in_team", "group": "team", "user": "person"},
    "subgroups": {"table": "part_of", "group": "whole", "subgroup": "team"},
}
# Finance is in Company; a circle among the others does no harm; who is not there is in no group.
TEAMS = """
    CREATE TABLE teams (id, ext, name, about, code, open);
    INSERT INTO teams VALUES ('T1', 't-1', 'Company', 'Everybody', 7, 0), ('T2', NULL, 'Finance', 'Money', NULL, NULL),
        ('T3/ü', NULL, 'Nobody "here"', NULL, NULL, 1), ('T4', NULL, NULL, NULL, NULL, NULL),
        ('T9', NULL, 'Gone', NULL, NULL, NULL);
    CREATE TABLE in_team (person, team);
    INSERT INTO in_team VALUES ('E1', 'T2'), ('E2', 'T1'), ('E3/ü +%', 'T2'), ('E4', 'T9'), ('0', 'T1'), ('1', 'T2'),
        ('nobody', 'T1'), ('E1', 'nothing');
    CREATE TABLE part_of (team, whole);
    INSERT INTO part_of VALUES ('T2', 'T1'), ('T3/ü', 'T4'), ('T4', 'T3/ü'), ('T3/ü', 'T3/ü');
"""
FIRST, SECOND = "2026-01-02T03:04:05Z", "2026-02-03T04:05:06Z"

# As it is served in 2.0, less `schemas` and `meta`. The mapping is made from it: a column for each value.
EVERYTHING: dict[str, Any] = {
    "id": "E1",
    "externalId": "hr-0001",
    "userName": "zoe.alvarez@example.com",
    "name": {
        "formatted": "Dr. Zoë María Alvarez III",
        "familyName": "Alvarez",
        "givenName": "Zoë",
        "middleName": "María",
        "honorificPrefix": "Dr.",
        "honorificSuffix": "III",
    },
    "displayName": "Zoë Alvarez",
    "nickName": "Zo",
    "profileUrl": "https://people.example.com/zoe?tab=1&lang=de",
    "title": "Engineer",
    "userType": "Employee",
    "preferredLanguage": "de-CH",
    "locale": "de-CH",
    "timezone": "Europe/Zurich",
    "active": True,
    "emails": [
        {"value": "zoe.alvarez@example.com", "display": "Zoë at work", "type": "work", "primary": True},
        {"value": "zoe@home.example", "display": "Zoë at home", "type": "home"},
    ],
    "phoneNumbers": [
        {"value": "+41 44 555 01 00", "display": "Desk", "type": "work"},
        {"value": "+41 79 555 01 00", "display": "Mobile", "type": "mobile", "primary": True},
    ],
    "ims": [{"value": "zoe", "display": "Zoë", "type": "xmpp", "primary": True}],
    "photos": [
        {"value": "https://people.example.com/zoe.png", "display": "Zoë", "type": "photo", "primary": True},
        {"value": "https://people.example.com/zoe-small.png", "display": "small", "type": "thumbnail"},
    ],
    "addresses": [
        {
            "formatted": "Seestrasse 1\n8002 Zürich\nSwitzerland",
            "streetAddress": "Seestrasse 1",
            "locality": "Zürich",
            "region": "ZH",
            "postalCode": "8002",
            "country": "CH",
            "type": "work",
            "primary": True,
        }
    ],
    "entitlements": [{"value": "E-7", "display": "VPN", "type": "Licence", "primary": True}],
    "roles": [{"value": "R-1", "display": "Auditor", "type": "Role", "primary": True}],
    "x509Certificates": [
        {"value": base64.b64encode(bytes(range(24))).decode(), "display": "Login", "type": "login", "primary": True}
    ],
    "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {
        "employeeNumber": "0001",
        "costCenter": "CC 41",
        "organization": "Acme",
        "division": "North",
        "department": "R&D",
        "manager": {"value": "E2", "displayName": "Łukasz Null"},
    },
    CUSTOM_URN: {
        "badge": "B-17",
        "fte": 0.8,
        "floor": 3,
        "contractor": False,
        "hired": "2019-04-01T00:00:00Z",
        "key": base64.b64encode(b"key").decode(),
    },
}
MINIMUM: dict[str, Any] = {"id": "E2", "userName": "lukasz", "active": True}
# What is hard to write: quotes, line ends, other scripts, an id that has to be percent-encoded in its location.
ODD: dict[str, Any] = {
    "id": "E3/ü +%",
    "userName": 'say "hi"\\',
    "displayName": "Tab\there, line\nend, 👩‍💻 𠮷 \u2028 </script>",
    "name": {"givenName": "O'Neil", "familyName": "\u200f\u05d0\u05d1\u05d2"},
    "active": False,
    "phoneNumbers": [{"value": "555", "type": "work"}],
    CUSTOM_URN: {"fte": 0.0, "floor": -9007199254740993, "contractor": True},
}
GONE: dict[str, Any] = {**EVERYTHING, "id": "E4", "externalId": "hr-0004", "userName": "gone@example.com"}
_TYPES = {float: "decimal", int: "integer", bool: "boolean"}
_CUSTOM_TYPES = {"hired": "dateTime", "key": "binary"}


class WholeDirectory:
    """The people above as a table, its configuration as config.toml, and two generations of them."""

    def __init__(self, path: Path, **server: Any) -> None:
        folder = PeopleFolder(path)
        folder.settings["mapping"] = _mapping(EVERYTHING)
        folder.settings["groups"] = GROUPS
        folder.settings["server"] = server_settings(**server)
        self.toml = folder.toml()
        self.config: Config = load_config(self.toml)
        self._folder = folder
        with folder.open() as database:
            database.executescript(TEAMS)

    def publish(self) -> None:
        """Publish everybody at FIRST, and at SECOND without GONE, who is then sent as inactive."""
        self._publish(FIRST, [EVERYTHING, MINIMUM, ODD, GONE])
        self._publish(SECOND, [EVERYTHING, MINIMUM, ODD])

    def _publish(self, instant: str, people: list[dict[str, Any]]) -> None:
        nanoseconds = int(datetime.fromisoformat(instant).timestamp()) * 10**9
        with mock.patch.object(time, "time_ns", return_value=nanoseconds):
            self.publish_rows([row_of(person) for person in people])

    def publish_rows(self, rows: list[dict[str, Any]]) -> None:
        """Publish these rows; a column that a row lacks is NULL."""
        columns = columns_of(EVERYTHING)
        self._folder.fill([tuple(map(row.get, columns)) for row in rows], ", ".join(columns))
        run_refresh(self.config)


def row_of(person: dict[str, Any]) -> dict[str, Any]:
    """Return the row of the table that a person is made of, by column."""
    return dict(_leaves(person))


def columns_of(person: dict[str, Any]) -> list[str]:
    """Return the columns that a person fills."""
    return list(row_of(person))


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """Return (column, value) for each value of a person that stands in the table: all but type and primary."""
    if isinstance(value, dict):
        items = [(name, item) for name, item in value.items() if not (path and name in {"type", "primary"})]
        return [leaf for name, item in items for leaf in _leaves(item, f"{path}_{_plain(name)}")]
    if isinstance(value, list):
        return [leaf for place, item in enumerate(value) for leaf in _leaves(item, f"{path}_{place}")]
    return [(path[1:], value)]


def _mapping(value: Any, path: str = "") -> Any:
    """Return the [mapping] that makes a person out of the columns of `_leaves`."""
    if isinstance(value, dict):
        return {
            name: item if path and name in {"type", "primary"} else _mapping(item, f"{path}_{_plain(name)}")
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_mapping(item, f"{path}_{place}") for place, item in enumerate(value)]
    column = path[1:]
    kind = _CUSTOM_TYPES.get(column.rpartition("_")[2]) or _TYPES.get(type(value))
    return {"column": column, "type": kind} if kind else column


def _plain(name: str) -> str:
    return "".join(char for char in name.rpartition(":")[2] if char.isalnum())
