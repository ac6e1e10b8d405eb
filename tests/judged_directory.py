"""What the judges from outside look at: published directories behind `python -m server`.

Three directories: the demo's, as `make demo` would serve it; one whose mapping fills every attribute that the schema
knows (`whole_people.py`); and one in which everything comes from queries beside the users (`linked_people.py`). Of the
last two, one keeps groups in groups and the other makes them flat. All have a second generation in which somebody has no row any more. Beside its two usual
base paths each server has STRICT: 2.0 without Okta's extension, which strict clients refuse.
"""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from linked_people import LinkedDirectory
from server_process import PASSWORD, USER, Answer, Client, ServerProcess, wait_for
from whole_people import WholeDirectory

from snapshot.config import Config, load_config
from snapshot.demo.folder import DemoFolder
from snapshot.refresh import run_refresh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PEOPLE = 1000
OLD, NEW, STRICT = "/scim/v1", "/scim/v2", "/scim/strict"
PUBLIC_URL = "https://scim.example.com"
_BASES = {OLD: "1.1", NEW: "2.0", STRICT: {"version": "2.0", "okta_extension": False}}
_PATHS = '"/scim/v2" = "2.0"\n'
_PAGE = 200


@dataclass(frozen=True)
class Judged:
    """A running server over a published directory."""

    config: Config
    port: int
    client: Client

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def credentials(self) -> tuple[str, str]:
        return USER, PASSWORD

    def get(self, target: str) -> Answer:
        """Return the answer to a GET with credentials, which must be 200."""
        answer = self.client.get(target)
        assert answer.status == 200, (target, answer.body)
        return answer

    def pages(self, base: str, endpoint: str) -> list[Answer]:
        """Return the whole list of an endpoint as pages of 200, the last one included."""
        answers: list[Answer] = []
        start = 1
        while True:
            answers.append(self.get(f"{base}{endpoint}?startIndex={start}&count={_PAGE}"))
            start += answers[-1].json["itemsPerPage"]
            if start > answers[-1].json["totalResults"]:
                return answers

    def endpoints(self, base: str) -> list[str]:
        """Return the endpoints of all resource types that are served under a base path."""
        return [item["endpoint"] for item in self.get(f"{base}/ResourceTypes").json["Resources"]]

    def resources(self, base: str, endpoint: str) -> list[dict[str, Any]]:
        """Return all resources of an endpoint, decoded."""
        return [item for page in self.pages(base, endpoint) for item in page.json["Resources"]]


@contextlib.contextmanager
def judged_demo(path: Path, people: int = PEOPLE) -> Iterator[Judged]:
    """Publish the demo's directory and serve it until the block ends."""
    demo = DemoFolder(path)
    (path / "secrets").mkdir()
    (path / "secrets" / "okta-password").write_text(PASSWORD, encoding="ascii")
    (path / "secrets" / "admin-token").write_text("admin-token", encoding="ascii")
    demo.write_people(people, lambda _: None)
    demo.write_config(0)
    text = demo.config.read_text(encoding="utf-8")
    assert f'username = "{USER}"' in text
    assert _PATHS in text
    text = text.replace(_PATHS, f'{_PATHS}"{STRICT}" = {{ version = "2.0", okta_extension = false }}\n')
    text = text.replace("[server]\n", f'[server]\npublic_url = "{PUBLIC_URL}"\n')
    demo.config.write_text(text, encoding="utf-8", newline="\n")
    config = load_config(demo.config)
    run_refresh(config)
    with contextlib.closing(sqlite3.connect(demo.people)) as database, database:
        for table, column, value in _rows_to_remove(database):
            database.execute(f"DELETE FROM {table} WHERE {column} = ?", (value,))
    run_refresh(config)
    with _served(config, demo.config) as judged:
        yield judged


def _rows_to_remove(database: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Return the row of somebody who leads nobody: that person is then sent as inactive."""
    (found,) = database.execute(
        "SELECT max(employee_id) FROM people WHERE employee_id NOT IN "
        "(SELECT manager_id FROM people WHERE manager_id IS NOT NULL)"
    ).fetchall()
    return [("people", "employee_id", found[0])]


@contextlib.contextmanager
def judged_whole(path: Path) -> Iterator[Judged]:
    """Publish the directory in which every attribute is filled, and serve it until the block ends."""
    directory = WholeDirectory(path, paths=_BASES)
    directory.publish()
    with _served(directory.config, directory.toml) as judged:
        yield judged


@contextlib.contextmanager
def judged_linked(path: Path) -> Iterator[Judged]:
    """Publish the directory in which users belong to everything, and serve it until the block ends."""
    directory = LinkedDirectory(path, paths=_BASES)
    directory.publish()
    with _served(directory.config, directory.toml) as judged:
        yield judged


@contextlib.contextmanager
def _served(config: Config, file: Path) -> Iterator[Judged]:
    server = ServerProcess(file)
    client = Client(server.port)
    try:
        wait_for(lambda: client.get(f"{NEW}/Users?count=0").status == 200)
        yield Judged(config, server.port, client)
    finally:
        client.close()
        server.stop()
