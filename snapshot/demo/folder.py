"""The demo's folder: people, configuration, secrets, generations and logs, each made when it is missing."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snapshot.demo.people import count_people, write_people
from snapshot.errors import LockHeldError
from snapshot.store import writer_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST = "127.0.0.1"
OKTA_USER = "okta"
_OKTA_SECRET, _ADMIN_SECRET = "okta-password", "admin-token"

# As scheduler.py names it.
SCHEDULER_LOCK = "SCHEDULER.LOCK"

_CONFIG = """\
# Written anew at every start of the demo: to try something out, copy this file and change the copy.
# docs/configuration.md explains every key.
data_dir = "data"

[source]
driver = "sqlite"
path = "people.db"
timezone = "Europe/Zurich"          # of dates and times without an offset

[source.users]
table = "people"

[mapping]
id = "employee_id"
externalId = {{ column = "badge", type = "uniqueidentifier" }}
userName = {{ column = "user_name", case = "lower" }}
displayName = "{{first_name}} {{last_name}}"
nickName = "preferred_name"
title = "job_title"
userType = {{ column = "status", values = {{ Active = "Staff", Leave = "On leave", Terminated = "Former" }} }}
active = {{ column = "status", true = ["Active", "Leave"], false = ["Terminated"] }}
emails = [
  {{ column = "work_email", type = "work", primary = true }},
  {{ column = "private_email", type = "home" }},
]
phoneNumbers = [
  {{ column = "office_phone", type = "work" }},
  {{ column = "mobile_phone", type = "mobile" }},
  # Any number of further ones, from a query of their own.
  {{ table = "phones", user = "employee_id", value = "number", type = {{ column = "kind" }}, order = "place" }},
]

[[mapping.addresses]]
streetAddress = "street"
locality = "city"
postalCode = "postal_code"
country = "country"
type = "work"

[mapping.name]
givenName = "first_name"
middleName = "middle_name"
familyName = "last_name"
formatted = "{{first_name}} {{last_name}}"

[mapping.enterprise]
employeeNumber = "employee_id"
organization = {{ constant = "Demo Company" }}
department = "department"
costCenter = "cost_center"
manager = {{ user = "manager_id" }}    # id and name come from the manager's own row

[mapping."urn:okta:scim_snapshot_demo:1.0:user:custom"]
hireDate = {{ column = "hire_date", type = "dateTime" }}
lastChanged = {{ column = "last_changed", type = "dateTime" }}
fte = {{ column = "fte", type = "decimal" }}
remote = {{ column = "remote", type = "boolean" }}
badge = {{ column = "badge", type = "uniqueidentifier" }}

[groups]
table = "departments"
id = "code"
displayName = "name"
description = "purpose"
members = {{ table = "works_in", group = "department_code", user = "employee_id" }}

[entitlements.License]
table = "licenses"
id = "license_id"
displayName = "name"
description = "terms"
assignments = {{ table = "has_license", entitlement = "license_id", user = "employee_id" }}

[entitlements.Role]
kind = "role"
table = "roles"
id = "role_id"
displayName = "name"
assignments = {{ table = "has_role", entitlement = "role_id", user = "employee_id" }}

[schedule]
interval_seconds = 900
jitter_seconds = 0

[server]
host = "{host}"
port = {port}

[server.paths]
"/scim/v1" = "1.1"
"/scim/v2" = "2.0"

[[server.auth]]
type = "basic"
username = "{user}"
password = "${{file:secrets/{okta}}}"

[server.admin]
type = "bearer"
token = "${{file:secrets/{admin}}}"
"""


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """Paths in the demo's folder, which is absolute."""

    path: Path

    @property
    def config(self) -> Path:
        """Return the configuration of both processes."""
        return self.path / "config.toml"

    @property
    def people(self) -> Path:
        """Return the SQLite file that plays the company's database."""
        return self.path / "people.db"

    @property
    def data(self) -> Path:
        """Return the folder of generations."""
        return self.path / "data"

    def log(self, name: str) -> Path:
        """Return the log file of one process."""
        return self.path / f"{name}.log"

    def scheduler_gone(self) -> bool:
        """Return whether no scheduler works on the data folder; one whose demo was killed needs a moment to stop."""
        try:
            with writer_lock(self.data, SCHEDULER_LOCK):
                return True
        except LockHeldError:
            return False

    def write_people(self, people: int, progress: Callable[[int], None]) -> bool:
        """Make the people unless they are there; return whether they were made.

        Other people are another company: its generations go away, for the guard would refuse to replace
        most of the people of the old one.
        """
        if count_people(self.people) == people:
            return False
        self._forget_generations()
        write_people(self.people, people, progress)
        return True

    def write_config(self, port: int) -> None:
        """Write the configuration. With another port the generations go away: every resource tells its address."""
        text = _CONFIG.format(host=HOST, port=port, user=OKTA_USER, okta=_OKTA_SECRET, admin=_ADMIN_SECRET)
        if self.config.is_file() and self.config.read_text(encoding="utf-8") == text:
            return
        self._forget_generations()
        self.config.write_text(text, encoding="utf-8", newline="\n")

    def _forget_generations(self) -> None:
        for entry in self.data.iterdir() if self.data.is_dir() else ():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif "LOCK" not in entry.name:
                entry.unlink()

    def okta_password(self) -> str:
        """Return the password of Okta's user, made at the first call."""
        return self._secret(_OKTA_SECRET)

    def admin_token(self) -> str:
        """Return the administrator's token, made at the first call."""
        return self._secret(_ADMIN_SECRET)

    def _secret(self, name: str) -> str:
        folder = self.path / "secrets"
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / name
        with contextlib.suppress(FileNotFoundError):
            if kept := path.read_text(encoding="ascii").strip():
                return kept
        secret = secrets.token_hex(16)
        path.unlink(missing_ok=True)
        # Created for its owner alone: a chmod afterwards would leave a moment open.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(f"{secret}\n")
        return secret

    def example_user_name(self) -> str:
        """Return a user name worth looking at: an apostrophe in the name, and nothing missing."""
        with closing(sqlite3.connect(self.people)) as database:
            found = database.execute(
                "SELECT user_name FROM people WHERE NOT user_name GLOB '*[^a-z.0-9-]*' "
                "ORDER BY last_name LIKE '%''%' DESC, work_email IS NULL, private_email IS NULL, "
                "office_phone IS NULL, mobile_phone IS NULL, manager_id IS NULL, status <> 'Active', "
                "employee_id LIMIT 1"
            ).fetchone()
        return str(found[0]) if found else "nobody"
