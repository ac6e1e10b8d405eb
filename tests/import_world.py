"""The real application under the import model: real refreshes in a folder, a real socket, a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
import weakref
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import msgspec
from import_model import GROUP, USER, Generation, ListName, Resource, Row, published_after, user_name
from server_fixtures import COLUMNS, Answer, Api, basic, person, tables

from server.app import create_app
from server.keys import DIRECTORIES
from server.listener import Listener
from server.live import LiveSnapshot
from server.pins import Pins
from snapshot.approval import approve
from snapshot.config import parse_config
from snapshot.errors import PublishRefusedError
from snapshot.refresh import refresh
from snapshot.scim import ScimVersion
from snapshot.store import writer_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from snapshot.config import Config
    from snapshot.store import Manifest

TTL_SECONDS = 900.0
ENTERPRISE = {
    ScimVersion.V1_1: "urn:scim:schemas:extension:enterprise:1.0",
    ScimVersion.V2_0: "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
}
CORE = {ScimVersion.V1_1: "urn:scim:schemas:core:1.0", ScimVersion.V2_0: "urn:ietf:params:scim:schemas:core:2.0:User"}
BASE = {ScimVersion.V1_1: "v1", ScimVersion.V2_0: "v2"}
PATHS = {USER: "Users", GROUP: "Groups"}


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
        self.rows = {f"E{number}": Row("r0") for number in range(1, people + 1)}
        with closing(sqlite3.connect(template / "people.db")) as database, database:
            database.execute(f"CREATE TABLE people ({', '.join(f'{name} TEXT' for name in COLUMNS)})")
        write_rows(template, self.rows)
        self._config = self._read_config(template)
        manifest = refresh(self._config).manifest
        self.first = published_after(self.rows, None, manifest.generation, manifest.created_ms)

    def config(self, folder: Path) -> Config:
        """Return the configuration of a copy: reading it anew would take longer than most other things here."""
        return msgspec.structs.replace(self._config, base=folder, data_dir=folder / "data")

    def _read_config(self, folder: Path) -> Config:
        accounts = ("okta", "second", "shared")
        # The server looks for a newer generation when it starts and when it is told to, not in between.
        settings = tables(
            auth=[{"type": "basic", "username": name, "password": name} for name in accounts], poll_seconds=60
        )
        settings["guard"] = {"always_allowed_removed": 2, "always_allowed_rejected": 1}
        settings["store"] = {"keep_generations": 2}
        return parse_config(settings, where="test", base=folder)

    def folder(self) -> Path:
        """Return a new copy of the template."""
        self.worlds += 1
        folder = self.root / str(self.worlds)
        shutil.copytree(self.root / "template", folder)
        return folder

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def write_rows(folder: Path, rows: dict[str, Row]) -> None:
    people = [
        person(0, id=key, login=user_name(key), dept=row.marker, state=row.state, number=key)
        for key, row in rows.items()
    ]
    with closing(sqlite3.connect(folder / "people.db")) as database:
        database.execute("PRAGMA synchronous=OFF")
        with database:
            database.execute("DELETE FROM people")
            marks = ", ".join("?" * len(COLUMNS))
            values = [[row[name] for name in COLUMNS] for row in people]
            database.executemany(f"INSERT INTO people VALUES ({marks})", values)


class Witness:
    """A request log that tells which generation the last answers came from."""

    def __init__(self) -> None:
        self.generations: dict[str, int | None] = {}

    def enabled(self, _level: int) -> bool:
        return True

    def write(self, _level: int, facts: dict[str, Any]) -> None:
        self.generations[facts["request_id"]] = facts["generation"]

    def flush(self) -> None:
        pass


class World:
    """One folder, one server, one clock."""

    def __init__(
        self, template: Template, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], max_pins: int
    ) -> None:
        self._run = loop.run_until_complete
        self._clock = clock
        self._max_pins = max_pins
        self.folder = template.folder()
        self.config = template.config(self.folder)
        self.rows = dict(template.rows)
        self.generations = [template.first]
        # A generation in quarantine: its number, the rows that it holds, the generation it was compared with.
        self.refused: tuple[int, dict[str, Row], int] | None = None
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
        self.live = LiveSnapshot(self.config.data_dir)
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
        self._session = aiohttp.ClientSession(auto_decompress=False)
        self._api = Api(self._session, addresses[0][1], self._listener, self.live)

    async def _stop(self) -> None:
        await self._session.close()
        await self._listener.stop()
        # aiohttp keeps the last thousand applications in a cache; their snapshots have files open.
        self.live.current = None
        self._pins._runs.clear()

    def publish(self) -> bool:
        """Refresh from the rows as they are; return whether something was published."""
        write_rows(self.folder, self.rows)
        try:
            result = refresh(self.config)
        except PublishRefusedError as error:
            if self.refused is None or self.refused[0] != error.generation:
                self.refused = (error.generation, dict(self.rows), self.published.number)
            return False
        if result.published:
            self._add(result.manifest, self.rows)
        else:
            after = published_after(self.rows, self.published, self.published.number, self.published_ms + 1)
            assert after.resources == self.published.resources
        return result.published

    def approve(self) -> bool:
        """Let the generation in quarantine pass, if it may still be published; return whether it was."""
        if self.refused is None or self.refused[2] != self.published.number:
            return False
        number, rows, _ = self.refused
        with writer_lock(self.config.data_dir):
            manifest = approve(self.config, number, who="test")
        self._add(manifest, rows)
        self.refused = None
        return True

    def _add(self, manifest: Manifest, rows: dict[str, Row]) -> None:
        self.published_ms = manifest.created_ms
        self.generations.append(published_after(rows, self.published, manifest.generation, manifest.created_ms))

    published_ms = 0

    def follow(self) -> None:
        self._run(self.swap())

    async def swap(self) -> None:
        await self._api.follow()
        self._note_snapshot()

    def _note_snapshot(self) -> None:
        snapshot = self.live.current
        self.snapshots.setdefault(snapshot.generation, weakref.ref(snapshot))

    def ask(self, *requests: tuple[str, ScimVersion, ListName, int, int], swap: bool = False) -> list[Page]:
        """Ask for pages, all at once if there are several, and beside a swap if told so."""
        return self._run(self._ask(requests, swap=swap))

    async def _ask(self, requests: tuple, *, swap: bool) -> list[Page]:
        waiting = [self._page(*request) for request in requests]
        if swap:
            waiting.append(self.swap())
        return (await asyncio.gather(*waiting))[: len(requests)]

    async def _page(self, credential: str, version: ScimVersion, name: ListName, start: int, count: int) -> Page:
        self.requests += 1
        request_id = f"r{self.requests}"
        query = f"startIndex={start}&count={count}"
        if name.filter is not None:
            query += f"&filter={quote(name.filter)}"
        answer = await self._api.get(
            f"{BASE[version]}/{PATHS[name.resource_type]}?{query}",
            auth=basic(credential, credential),
            headers={"X-Request-Id": request_id},
        )
        return Page(answer, version, self._witness.generations.pop(request_id, None))


class Page:
    """One answer, read strictly."""

    def __init__(self, answer: Answer, version: ScimVersion, generation: int | None) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.generation = generation
        self.json = answer.json
        self.total, self.start, self.items = answer.numbers if answer.status == 200 else (0, 0, 0)
        self.resources = tuple(_resource(item, version) for item in self.json.get("Resources", ()))


def _resource(item: dict[str, Any], version: ScimVersion) -> Resource:
    assert CORE[version] in item["schemas"]
    place = item["meta"]["location"]
    assert place == f"https://scim.example.com/scim/{BASE[version]}/Users/{item['id']}"
    return Resource(
        item["id"],
        item["userName"],
        item[ENTERPRISE[version]]["department"],
        item["active"],
        item["meta"]["lastModified"],
    )
