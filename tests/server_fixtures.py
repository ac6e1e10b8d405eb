"""Helpers of the server's tests: a people table, its published generations, and the server in front of it.

The server runs in the test's own loop behind its real listener; nothing is patched.
"""

from __future__ import annotations

import base64
import contextlib
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
from yarl import URL

from server.app import create_app
from server.keys import DIRECTORIES
from server.listener import Listener
from server.live import LiveSnapshot
from snapshot.config import Config, parse_config
from snapshot.refresh import run_refresh

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from server.tls import Certificate
    from snapshot.store import Manifest

USER, PASSWORD, ADMIN_TOKEN = "okta", "päss:word", "admin-token"
CUSTOM_URN = "urn:okta:acme_hr_1:1.0:user:custom"
COLUMNS = ("id", "login", "first", "last", "mail", "home_mail", "phone", "dept", "number", "badge", "state")


def basic(user: str = USER, password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def tables(**server: Any) -> dict[str, Any]:
    """Return the configuration of the people table as config.toml would hold it."""
    return {
        "source": {"driver": "sqlite", "path": "people.db", "users": {"table": "people"}},
        "mapping": {
            "id": "id",
            "externalId": "number",
            "userName": "login",
            "name": {"givenName": "first", "familyName": "last"},
            "emails": [
                {"value": "mail", "type": "work", "primary": True},
                {"value": "home_mail", "type": "home"},
            ],
            "phoneNumbers": [{"value": "phone", "type": "work"}],
            "active": {"column": "state", "true": ["A"], "false": ["T"]},
            "enterprise": {"department": "dept", "employeeNumber": "number"},
            CUSTOM_URN: {"badge": "badge"},
        },
        "guard": {"enabled": False},
        "server": {
            "port": 0,
            "public_url": "https://scim.example.com",
            "auth": [{"type": "basic", "username": USER, "password": PASSWORD}],
            "admin": {"type": "bearer", "token": ADMIN_TOKEN, "name": "admin"},
            "poll_seconds": 0.02,
            "shutdown_seconds": 2,
            **server,
        },
    }


def person(number: int, /, **changes: str | None) -> dict[str, str | None]:
    """Return the row of one made-up person."""
    return {
        "id": f"E{number:05d}",
        "login": f"user{number}@example.com",
        "first": f"Given{number}",
        "last": "Łukasz",
        "mail": f"user{number}@example.com",
        "home_mail": None,
        "phone": f"+1-555-{number:04d}",
        "dept": "R&D",
        "number": str(number),
        "badge": f"B-{number}",
        "state": "A",
        **changes,
    }


class Directory:
    """A folder with a people table, its configuration and its generations."""

    def __init__(
        self,
        folder: Path,
        *,
        mapping: Mapping[str, Any] | None = None,
        sections: Mapping[str, Any] | None = None,
        **server: Any,
    ) -> None:
        self.folder = folder
        settings = {**tables(**server), **(sections or {})}
        settings["mapping"].update(mapping or {})
        settings["server"] = {name: value for name, value in settings["server"].items() if value is not None}
        self.config: Config = parse_config(settings, where="test", base=folder)
        with self._open() as database:
            database.execute(f"CREATE TABLE people ({', '.join(f'{name} TEXT' for name in COLUMNS)})")

    @contextlib.contextmanager
    def _open(self):
        database = sqlite3.connect(self.folder / "people.db")
        try:
            with database:
                yield database
        finally:
            database.close()

    def add(self, *people: dict[str, str | None]) -> Directory:
        marks = ", ".join("?" * len(COLUMNS))
        with self._open() as database:
            rows = [tuple(row[name] for name in COLUMNS) for row in people]
            database.executemany(f"INSERT INTO people VALUES ({marks})", rows)
        return self

    def run(self, statement: str, *values: Any) -> Directory:
        with self._open() as database:
            database.execute(statement, values)
        return self

    def publish(self) -> Manifest:
        return run_refresh(self.config)


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def ids(self) -> list[str]:
        return [item["id"] for item in self.json["Resources"]]

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Return totalResults, startIndex, itemsPerPage, after checking that they are integers and true."""
        found = tuple(self.json[name] for name in ("totalResults", "startIndex", "itemsPerPage"))
        assert all(type(number) is int for number in found)
        assert len(self.json["Resources"]) == found[2]
        return found


class Api:
    """A client of the running server. Targets are sent exactly as given."""

    def __init__(self, session: aiohttp.ClientSession, port: int, listener: Listener, live: LiveSnapshot) -> None:
        self._session = session
        self.port = port
        self.listener = listener
        self.live = live

    async def send(self, method: str, target: str, *, auth: str | None = "", **options: Any) -> Answer:
        """Send one request; `v1/…` and `v2/…` are the base paths. auth=None sends no credentials."""
        if target.startswith(("v1", "v2")):
            target = f"/scim/{target}"
        headers = dict(options.pop("headers", {}))
        if auth is not None:
            headers["Authorization"] = auth or basic()
        url = URL(f"http://127.0.0.1:{self.port}{target}", encoded=True)
        async with self._session.request(method, url, headers=headers, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, target: str, **options: Any) -> Answer:
        return await self.send("GET", target, **options)

    async def admin(self, method: str, target: str) -> Answer:
        return await self.send(method, target, auth=f"Bearer {ADMIN_TOKEN}")

    async def follow(self) -> None:
        """Let the server look for a newer generation now instead of at its next poll."""
        await self.live.poll()

    @property
    def directory(self):
        """The only app as it is served."""
        return self.listener._app[DIRECTORIES].only

    @property
    def pins(self):
        return self.directory.pins


@contextlib.asynccontextmanager
async def serving(directory: Directory, *, certificate: Certificate | None = None) -> AsyncIterator[Api]:
    """Run the server on a free port until the block ends."""
    live = LiveSnapshot(directory.config.data_dir)
    await live.poll()
    listener = Listener(create_app(directory.config, live), certificate)
    addresses = await listener.start()
    try:
        async with aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as session:
            yield Api(session, addresses[0][1], listener, live)
    finally:
        await listener.stop()


def wait_a_tick() -> None:
    """Let the clock of generations, which counts milliseconds, go on."""
    time.sleep(0.005)
