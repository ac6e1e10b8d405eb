"""A people table in SQLite, its configuration, its generations: what most tests of the refresh start from."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import orjson

from snapshot.config import Config, parse_config
from snapshot.reader import Snapshot, open_snapshot
from snapshot.refresh import run_refresh
from snapshot.scim import USER, ScimVersion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from snapshot.store import Manifest

Person = tuple[Any, ...]
COLUMNS = "id, login, mail, state"


def person(number: int, *, state: Any = 1, mail: Any = "") -> Person:
    login = f"user{number}@example.com"
    return (f"E{number:05d}", login, login if mail == "" else mail, state)


def people(count: int) -> list[Person]:
    return [person(number) for number in range(1, count + 1)]


class PeopleFolder:
    """`settings` are the tables of config.toml and may be changed before `config` or `toml` is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "people.db"
        self.data_dir = path / "data"
        self.settings: dict[str, Any] = {
            "source": {"driver": "sqlite", "path": "people.db", "users": {"table": "people"}},
            "mapping": {
                "id": "id",
                "userName": "login",
                "emails": [{"value": "mail", "type": "work"}],
                "active": {"column": "state", "true": [1], "false": [0]},
            },
            "guard": {"enabled": False},
            "server": {
                "public_url": "https://scim.example.com",
                "auth": [{"type": "basic", "username": "okta", "password": "${env:SCIM_TEST_PASSWORD}"}],
            },
        }

    @property
    def config(self) -> Config:
        return parse_config(self.settings, where="test", base=self.path)

    def toml(self) -> Path:
        """Write the settings as config.toml."""
        path = self.path / "config.toml"
        path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in self.settings.items()), encoding="utf-8")
        return path

    @contextlib.contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.database)
        try:
            with database:
                yield database
        finally:
            database.close()

    def fill(self, rows: Iterable[Person], columns: str = COLUMNS) -> PeopleFolder:
        """Make the table anew with these rows."""
        marks = ", ".join("?" * (columns.count(",") + 1))
        with self.open() as database:
            database.execute("DROP TABLE IF EXISTS people")
            database.execute(f"CREATE TABLE people ({columns})")
            database.executemany(f"INSERT INTO people VALUES ({marks})", rows)
        return self

    def refresh(self) -> Manifest:
        return run_refresh(self.config)

    def publish(self, rows: Iterable[Person]) -> Manifest:
        return self.fill(rows).refresh()

    def snapshot(self) -> Snapshot:
        return open_snapshot(self.data_dir)

    def users(self, version: ScimVersion = ScimVersion.V2_0) -> list[dict[str, Any]]:
        return users_of(self.snapshot(), version)

    def lines(self, generation: int, name: str, *, folder: str = "generations") -> list[dict[str, Any]]:
        """Return the decoded lines of rejects.jsonl or changes.jsonl."""
        path = self.data_dir / folder / f"{generation:08d}" / name
        return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def users_of(snapshot: Snapshot, version: ScimVersion = ScimVersion.V2_0) -> list[dict[str, Any]]:
    body = bytes(snapshot.resources(USER, version, 0, snapshot.count(USER)))
    return orjson.loads(b"[" + body + b"]")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
