"""A directory in which users belong to everything.

Values from queries, managers from their own rows, groups within groups made flat, two types of entitlements and one of
roles, which SCIM 1.1 shows too. Its times are fixed, as those of `whole_people.py`.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any
from unittest import mock

from people_folder import PeopleFolder
from server_process import server_settings
from whole_people import CUSTOM_URN, FIRST, GROUPS, SECOND

from snapshot.config import Config, load_config
from snapshot.refresh import run_refresh

if TYPE_CHECKING:
    from pathlib import Path

ROLE_URN = "urn:okta:acme_hr_1:1.0:role:custom"
COLUMNS = "no, id, login, given, name, mail, dept, boss, office, skills, role, state"
PEOPLE = [
    (
        1,
        "E1",
        "zoe.alvarez@example.com",
        "Zoë",
        "Zoë Alvarez",
        "zoe@example.com",
        "R&D",
        3,
        "+41 44 555 01 00",
        "sql;go",
        "R1",
        1,
    ),
    (2, "E2", "lukasz", None, None, None, None, None, None, None, None, 1),
    (3, "E3/ü +%", 'say "hi"\\', None, "Tab\there, 👩‍💻", None, "R&D", 1, None, ";", "R1;R2", 0),
]
# Whoever comes from no row any more belongs to nothing, and leads nobody.
GONE = (4, "E4", "gone@example.com", "Gone", "Gone", "gone@example.com", None, 1, None, "sql", "R2", 1)
TABLES = """
    CREATE TABLE phones (person, number, kind, main, place);
    INSERT INTO phones VALUES (1, '+41 79 555 01 00', 'mobile', 1, 2), (1, '+41 79 555 01 01', 'home', 0, 1),
        (3, '555', 'pager', 0, 1), (99, '556', 'fax', 0, 1);
    CREATE TABLE places (person, street, city, country, kind);
    INSERT INTO places VALUES (1, 'Seestrasse 1', 'Zürich', 'CH', 'work'), (1, NULL, 'Łódź', 'PL', 'home');
    CREATE TABLE courses (person, title);
    INSERT INTO courses VALUES (1, 'Safety'), (1, 'Data protection'), (2, 'Safety');
    CREATE TABLE teams (id, ext, name, about, code, open);
    INSERT INTO teams VALUES ('T1', 't-1', 'Company', 'Everybody', 7, 0), ('T2', NULL, 'Finance', 'Money, "and so on"', 8, 1),
        ('T3/ü', NULL, '👩‍💻 Nobody', NULL, NULL, NULL), ('T4', NULL, NULL, NULL, NULL, NULL);
    CREATE TABLE in_team (person, team);
    INSERT INTO in_team VALUES (1, 'T2'), (2, 'T1'), (3, 'T2'), (3, 'T1'), (1, 'T9'), (99, 'T1');
    CREATE TABLE part_of (team, whole);
    INSERT INTO part_of VALUES ('T2', 'T1'), ('T3/ü', 'T2'), ('T1', 'T3/ü');
    CREATE TABLE licenses (id, name, about);
    INSERT INTO licenses VALUES ('L1', 'Office', 'Word and so on'), ('L2/ü', 'Visio', NULL);
    CREATE TABLE has_license (person, license);
    INSERT INTO has_license VALUES (1, 'L1'), (1, 'L2/ü'), (3, 'L1'), (2, 'L9');
    CREATE TABLE profiles (id, name);
    INSERT INTO profiles VALUES ('P1', 'Reader'), ('L1', 'Same id as a license');
    CREATE TABLE has_profile (person, profile);
    INSERT INTO has_profile VALUES (1, 'P1'), (3, 'L1');
    CREATE TABLE roles (id, name, about, level);
    INSERT INTO roles VALUES ('R1', 'Approver', 'May say yes', 3), ('R2', 'Auditor', NULL, NULL);
"""


class LinkedDirectory:
    """The tables above, their configuration as config.toml, and two generations of them."""

    def __init__(self, path: Path, *, scim_1_1: bool = True, nesting: str = "flatten", **server: Any) -> None:
        folder = PeopleFolder(path)
        folder.settings["source"]["users"]["key"] = "no"
        folder.settings["mapping"] = {
            "id": "id",
            "userName": "login",
            "name": {"givenName": "given"},
            "displayName": "name",
            "emails": [{"value": "mail", "type": "work"}],
            "active": {"column": "state", "true": [1], "false": [0]},
            "phoneNumbers": [
                {"value": "office", "type": "work"},
                {
                    "table": "phones",
                    "user": "person",
                    "value": "number",
                    "type": {"column": "kind"},
                    "primary": "main",
                    "order": "place",
                },
            ],
            "addresses": [
                {
                    "table": "places",
                    "user": "person",
                    "streetAddress": "street",
                    "locality": "city",
                    "country": "country",
                    "type": {"column": "kind"},
                }
            ],
            "enterprise": {"department": "dept", "manager": {"user": "boss"}},
            CUSTOM_URN: {
                "skills": {"column": "skills", "separator": ";"},
                "courses": {"table": "courses", "user": "person", "column": "title"},
            },
        }
        folder.settings["groups"] = {**GROUPS, "nesting": nesting}
        entitlement = {"id": "id", "displayName": "name", "scim_1_1": scim_1_1}
        folder.settings["entitlements"] = {
            "License": {
                **entitlement,
                "table": "licenses",
                "description": "about",
                "assignments": {"table": "has_license", "user": "person", "entitlement": "license"},
            },
            "Profile": {
                **entitlement,
                "table": "profiles",
                "endpoint": "/AccessProfiles",
                "assignments": {"table": "has_profile", "user": "person", "entitlement": "profile"},
            },
            "Role": {
                **entitlement,
                "table": "roles",
                "kind": "role",
                "description": "about",
                "assignments": {"column": "role", "separator": ";"},
                ROLE_URN: {"level": {"column": "level", "type": "integer"}},
            },
        }
        folder.settings["server"] = server_settings(**server)
        self.toml = folder.toml()
        self.config: Config = load_config(self.toml)
        self._folder = folder

    def publish(self) -> None:
        """Publish everybody at FIRST, and at SECOND without GONE, who is then sent as inactive."""
        with self._folder.open() as database:
            database.executescript(TABLES)
        self._publish(FIRST, [*PEOPLE, GONE])
        self._publish(SECOND, PEOPLE)

    def _publish(self, instant: str, people: list[tuple[Any, ...]]) -> None:
        nanoseconds = int(datetime.fromisoformat(instant).timestamp()) * 10**9
        self._folder.fill(people, COLUMNS)
        with mock.patch.object(time, "time_ns", return_value=nanoseconds):
            run_refresh(self.config)
