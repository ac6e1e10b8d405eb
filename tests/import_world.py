"""The real application under the import model: real refreshes in a folder, a real socket, a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
import time
import weakref
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import msgspec
from import_directory import (
    LICENSE,
    Generation,
    Group,
    License,
    ListName,
    Resource,
    Row,
    Source,
    User,
    links,
    published_after,
    user_name,
)
from server_fixtures import COLUMNS, CUSTOM_URN, Answer, Api, basic, person, tables

from server.app import create_app
from server.keys import DIRECTORIES
from server.listener import Listener
from server.live import LiveSnapshot
from server.pins import Pins
from snapshot.approval import approve
from snapshot.config import parse_config
from snapshot.errors import PublishRefusedError
from snapshot.refresh import refresh
from snapshot.scim import GROUP, USER, ScimVersion
from snapshot.store import writer_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.request_line import RequestLine
    from snapshot.config import Config
    from snapshot.store import Manifest

TTL_SECONDS = 900.0
ENTERPRISE = {
    ScimVersion.V1_1: "urn:scim:schemas:extension:enterprise:1.0",
    ScimVersion.V2_0: "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
}
CORE_1_1 = "urn:scim:schemas:core:1.0"
CORE = {
    USER: "urn:ietf:params:scim:schemas:core:2.0:User",
    GROUP: "urn:ietf:params:scim:schemas:core:2.0:Group",
    LICENSE: "urn:okta:scim:schemas:core:1.0:Entitlement",
}
BASE = {ScimVersion.V1_1: "v1", ScimVersion.V2_0: "v2"}
PATHS = {USER: "Users", GROUP: "Groups", LICENSE: "Licenses", "": ""}
PUBLIC = "https://scim.example.com/scim"
TABLES = {
    "teams": ("id", "name"),
    "in_team": ("person", "team"),
    "licenses": ("id", "name"),
    "has_license": ("person", "license"),
}
RELATED = {
    "groups": {
        "table": "teams",
        "id": "id",
        "displayName": "name",
        "members": {"table": "in_team", "group": "team", "user": "person"},
    },
    "entitlements": {
        LICENSE: {
            "table": "licenses",
            "id": "id",
            "displayName": "name",
            "assignments": {"table": "has_license", "user": "person", "entitlement": "license"},
        }
    },
}
KEEP_GENERATIONS = 2


def memory_folder() -> Path | None:
    """Return a folder in memory where the system has one: a refresh syncs each of its files."""
    folder = Path("/dev/shm")
    return folder if folder.is_dir() else None


class Template:
    """The folder in which each world begins: one published generation, copied."""

    def __init__(self, people: int) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="scim-imports-", dir=memory_folder()))
        self.worlds = 0
        template = self.root / "template"
        template.mkdir()
        self.source = Source(
            people={f"E{number}": Row("r0") for number in range(1, people + 1)},
            groups={"G1": "r0", "G2": "r0", "G3": "r0"},
            licenses={"L1": "r0", "L2": "r0"},
            members={("E1", "G1"), ("E2", "G1"), ("E2", "G2"), ("E4", "G2")},
            assigned={("E1", "L1"), ("E3", "L1"), ("E2", "L2")},
        )
        with closing(sqlite3.connect(template / "people.db")) as database, database:
            for name, columns in {"people": COLUMNS, **TABLES}.items():
                database.execute(f"CREATE TABLE {name} ({', '.join(f'{column} TEXT' for column in columns)})")
        write_rows(template, self.source)
        self._config = self._read_config(template)
        manifest = refresh(self._config).manifest
        self.first = published_after(self.source, None, manifest.generation, manifest.created_ms)

    def config(self, folder: Path) -> Config:
        """Return the configuration of a copy: reading it anew would take longer than most other things here."""
        return msgspec.structs.replace(self._config, base=folder, data_dir=folder / "data")

    def _read_config(self, folder: Path) -> Config:
        accounts = ("okta", "second", "shared", "cursor")
        # The server looks for a newer generation when it starts and when it is told to, not in between.
        settings = tables(
            auth=[{"type": "basic", "username": name, "password": name} for name in accounts], poll_seconds=60
        )
        settings["guard"] = {"always_allowed_removed": 1, "always_allowed_rejected": 1}
        settings["store"] = {"keep_generations": KEEP_GENERATIONS}
        settings.update(RELATED)
        # Each table and each index of a generation costs time, and no list here asks for more.
        for name in ("externalId", "name", "emails", "phoneNumbers", CUSTOM_URN):
            del settings["mapping"][name]
        del settings["mapping"]["enterprise"]["employeeNumber"]
        return parse_config(settings, where="test", base=folder)

    def folder(self) -> Path:
        """Return a new copy of the template."""
        self.worlds += 1
        folder = self.root / str(self.worlds)
        shutil.copytree(self.root / "template", folder)
        return folder

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def write_rows(folder: Path, source: Source) -> None:
    people = [
        person(0, id=key, login=user_name(key), dept=row.marker, state=row.state, number=key)
        for key, row in source.people.items()
    ]
    rows = {
        "people": [tuple(row[name] for name in COLUMNS) for row in people],
        "teams": source.groups.items(),
        "in_team": source.members,
        "licenses": source.licenses.items(),
        "has_license": source.assigned,
    }
    with closing(sqlite3.connect(folder / "people.db")) as database:
        database.execute("PRAGMA synchronous=OFF")
        with database:
            for name, values in rows.items():
                database.execute(f"DELETE FROM {name}")
                marks = ", ".join("?" * len(TABLES.get(name, COLUMNS)))
                database.executemany(f"INSERT INTO {name} VALUES ({marks})", values)


class Witness:
    """A request log that tells which generation the last answers came from."""

    def __init__(self) -> None:
        self.generations: dict[str, int | None] = {}

    def enabled(self, _level: int) -> bool:
        return True

    def write(self, _level: int, line: RequestLine) -> None:
        self.generations[line.facts.request_id] = line.facts.generation

    def flush(self) -> None:
        pass


class World:
    """One folder, one server, one clock."""

    def __init__(
        self,
        template: Template,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        max_pins: int,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._run = loop.run_until_complete
        self._clock = clock
        self._wall_clock = wall_clock
        self._max_pins = max_pins
        self.folder = template.folder()
        self.config = template.config(self.folder)
        self.source = template.source.copy()
        self.generations = [template.first]
        # A generation in quarantine: its number, what it was made of, the generation it was compared with.
        self.refused: tuple[int, Source, int] | None = None
        self.requests = 0
        self.start()

    @property
    def published(self) -> Generation:
        return self.generations[-1]

    @property
    def served(self) -> Generation:
        """The generation that the server has taken up last."""
        number = self.live.current.generation
        return next(item for item in self.generations if item.number == number)

    @property
    def pins(self) -> Pins:
        return self._pins

    def start(self) -> None:
        self._run(self._start())

    def stop(self) -> None:
        self._run(self._stop())

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _start(self) -> None:
        self.live = LiveSnapshot(self.config.data_dir, clock=self._clock, wall_clock=self._wall_clock)
        await self.live.poll()
        # What this server process has taken up, by generation.
        self.snapshots: dict[int, weakref.ref] = {}
        self._note_snapshot()
        self._witness = Witness()
        app = create_app(self.config, self.live, request_log=self._witness)
        self._pins = Pins(ttl_seconds=TTL_SECONDS, limit=self._max_pins, clock=self._clock)
        app[DIRECTORIES].only.pins = self._pins
        self._listener = Listener(app)
        addresses = await self._listener.start()
        self._session = aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"])
        self._api = Api(self._session, addresses[0][1], self._listener, self.live)

    async def _stop(self) -> None:
        await self._session.close()
        await self._listener.stop()
        # aiohttp keeps the last thousand applications in a cache; their snapshots have files open.
        self.live.current = None
        self._pins._runs.clear()

    def publish(self) -> bool:
        """Refresh from the rows as they are; return whether something was published."""
        write_rows(self.folder, self.source)
        try:
            result = refresh(self.config)
        except PublishRefusedError as error:
            if self.refused is None or self.refused[0] != error.generation:
                self.refused = (error.generation, self.source.copy(), self.published.number)
            return False
        if result.published:
            self._add(result.manifest, self.source)
        else:
            after = published_after(self.source, self.published, self.published.number, self.published_ms + 1)
            assert after.resources == self.published.resources
        return result.published

    def approve(self) -> bool:
        """Let the generation in quarantine pass, if it may still be published; return whether it was."""
        if self.refused is None or self.refused[2] != self.published.number:
            return False
        number, source, _ = self.refused
        with writer_lock(self.config.data_dir):
            manifest = approve(self.config, number, who="test")
        self._add(manifest, source)
        self.refused = None
        return True

    def _add(self, manifest: Manifest, source: Source) -> None:
        self.published_ms = manifest.created_ms
        self.generations.append(published_after(source, self.published, manifest.generation, manifest.created_ms))

    published_ms = 0

    def follow(self) -> None:
        self._run(self.swap())

    async def swap(self) -> None:
        await self._api.follow()
        self._note_snapshot()

    def _note_snapshot(self) -> None:
        snapshot = self.live.current
        self.snapshots.setdefault(snapshot.generation, weakref.ref(snapshot))

    def is_on_disk(self, number: int) -> bool:
        return (self.config.data_dir / "generations" / f"{number:08d}").is_dir()

    def ask(self, *requests: tuple[str, ListName, str], swap: bool = False) -> list[Page]:
        """Ask for pages, all at once if there are several, and beside a swap if told so."""
        return self._run(self._ask(requests, swap=swap))

    async def _ask(self, requests: tuple, *, swap: bool) -> list[Page]:
        waiting = [self._page(*request) for request in requests]
        if swap:
            waiting.append(self.swap())
        return (await asyncio.gather(*waiting))[: len(requests)]

    async def _page(self, credential: str, name: ListName, place: str) -> Page:
        """Ask for one page; `place` is what the query string says of it."""
        self.requests += 1
        request_id = f"r{self.requests}"
        query = place
        if name.filter is not None:
            query += f"&filter={quote(name.filter)}"
        if name.sort:
            order = "descending" if name.sort.startswith("-") else "ascending"
            query += f"&sortBy={name.sort.lstrip('-')}&sortOrder={order}"
        answer = await self._api.get(
            f"{BASE[name.version]}/{PATHS[name.resource_type]}?{query}",
            auth=basic(credential, credential),
            headers={"X-Request-Id": request_id},
        )
        return Page(answer, name.version, self._witness.generations.pop(request_id, None))


class Page:
    """One answer, read strictly. A page by cursor has no startIndex."""

    def __init__(self, answer: Answer, version: ScimVersion, generation: int | None) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.generation = generation
        self.json = answer.json
        self.total = self.start = self.items = 0
        if answer.status == 200 and "startIndex" in self.json:
            self.total, self.start, self.items = answer.numbers
        elif answer.status == 200:
            self.total, self.items = self.json["totalResults"], self.json["itemsPerPage"]
        self.resources = tuple(_resource(item, version) for item in self.json.get("Resources", ()))
        assert len(self.resources) == self.items


def _resource(item: dict[str, Any], version: ScimVersion) -> Resource:
    kind = next(name for name, path in PATHS.items() if f"/{path}/" in item["meta"]["location"])
    assert f"{PUBLIC}/{BASE[version]}/{PATHS[kind]}/{item['id']}" == item["meta"]["location"]
    if version is ScimVersion.V2_0:
        assert CORE[kind] in item["schemas"]
        assert kind == item["meta"]["resourceType"]
    else:
        assert CORE_1_1 in item["schemas"]
        assert "resourceType" not in item["meta"]
    modified = item["meta"]["lastModified"]
    if kind == USER:
        return User(
            item["id"],
            item["userName"],
            item[ENTERPRISE[version]]["department"],
            item["active"],
            modified,
            _links(item.get("groups", ()), version, GROUP),
            _links(item.get("entitlements", ()), version, LICENSE),
        )
    if kind == GROUP:
        return Group(item["id"], item["displayName"], modified, _links(item.get("members", ()), version, USER))
    return License(item["id"], item["displayName"], modified)


def _links(items: list[dict[str, Any]], version: ScimVersion, kind: str) -> tuple[tuple[str, str], ...]:
    for item in items:
        if kind == LICENSE:
            assert LICENSE == item["type"]
        elif version is ScimVersion.V2_0:
            assert f"{PUBLIC}/v2/{PATHS[kind]}/{item['value']}" == item["$ref"]
        else:
            assert "$ref" not in item
    return links((item["value"], item["display"]) for item in items)
