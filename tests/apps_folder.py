"""Two apps in one configuration, each with a people table of its own: what tests of several sources start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from people_folder import PeopleFolder

from snapshot.instance import Instance, parse_instance
from snapshot.refresh import run_refresh

if TYPE_CHECKING:
    from pathlib import Path

    from snapshot.config import Config
    from snapshot.store import Manifest

ADMIN_TOKEN = "admin-token"
PASSWORDS = {"hr": "hr-password", "partners": "partners-password"}
MAPPINGS = {
    "hr": {
        "id": "id",
        "userName": "login",
        "emails": [{"value": "mail", "type": "work"}],
        "active": {"column": "state", "true": [1], "false": [0]},
    },
    # Other columns for the same attributes.
    "partners": {"id": "mail", "userName": "mail", "externalId": "id", "nickName": {"template": "partner {login}"}},
}


class AppFolder(PeopleFolder):
    """The people table and the data folder of one app; what is served of it is read through `users`."""

    def __init__(self, instance: AppsFolder, name: str) -> None:
        (instance.path / name).mkdir()
        super().__init__(instance.path / name)
        self.name = name
        self._instance = instance
        self.settings = {
            "data_dir": f"{name}/data",
            "source": {"path": f"{name}/people.db"},
            "mapping": MAPPINGS[name],
            "server": {"auth": [{"type": "basic", "username": name, "password": PASSWORDS[name]}]},
        }

    @property
    def config(self) -> Config:
        return self._instance.instance.only(self.name).single()

    def refresh(self) -> Manifest:
        return run_refresh(self.config)


class AppsFolder(PeopleFolder):
    """The configuration of both; `settings` and those of each app may be changed before it is read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.hr = AppFolder(self, "hr")
        self.partners = AppFolder(self, "partners")
        self.settings = {
            "source": {"driver": "sqlite", "users": {"table": "people"}},
            "guard": {"enabled": False},
            "server": {
                "port": 0,
                "public_url": "https://scim.example.com",
                "admin": {"type": "bearer", "token": ADMIN_TOKEN, "name": "admin"},
                "poll_seconds": 0.02,
                "shutdown_seconds": 2,
            },
            "log": {"format": "json"},
            "apps": {app.name: app.settings for app in (self.hr, self.partners)},
        }

    @property
    def instance(self) -> Instance:
        return parse_instance(self.settings, where="test", base=self.path)
