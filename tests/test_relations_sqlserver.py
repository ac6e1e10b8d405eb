"""Groups, entitlements, values and managers from SQL Server: real pymssql over a real socket, one transaction for all."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from open_server import ServerProcess, server_process
from related_folder import SUBGROUPS, RelatedFolder, check_agreement
from sqlserver_fixtures import SETTINGS, Authority, refresh, source_of
from tds_server import Fault, TdsServer

from snapshot.errors import MappingError
from snapshot.refresh import check_source, run_refresh
from snapshot.scim import GROUP, USER
from snapshot.store import ChangeFacts, read_current

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snapshot.control import RefreshOutcome

PEOPLE = 8
# The sections of the queries, and their tables.
TABLES = {
    "groups": "teams",
    "groups.members": "in_team",
    "groups.subgroups": "part_of",
    "entitlements.License": "licenses",
    "entitlements.License.assignments": "has_license",
    "entitlements.Role": "roles",
    "entitlements.Role.assignments": "has_role",
    "mapping.phoneNumbers[1]": "phones",
}
GUID = "3A5D0A00-6739-4DFE-A8F7-8{:03}4CD9DEE3"
SCRIPT = """
PRAGMA journal_mode = WAL;
CREATE TABLE people (id uniqueidentifier, login nvarchar(50), name nvarchar(50), state bit, boss int, no int);
CREATE TABLE teams (id int, name nvarchar(50));
CREATE TABLE in_team (who nvarchar(20), team decimal(9,2));
CREATE TABLE part_of (inner int, outer bigint);
CREATE TABLE licenses (id uniqueidentifier, name nvarchar(50), about nvarchar(900));
CREATE TABLE has_license (who bigint, license nvarchar(36));
CREATE TABLE roles (id nvarchar(10), name nvarchar(50));
CREATE TABLE has_role (who smallint, role nvarchar(10));
CREATE TABLE phones (who int, number varchar(20), kind nvarchar(10), main bit, place tinyint);
INSERT INTO teams VALUES (1, 'All'), (7, 'Finance'), (8, 'Böard');
INSERT INTO part_of VALUES (7, 1), (8, 1);
INSERT INTO roles VALUES ('R1', 'Approver');
INSERT INTO has_role VALUES (1, 'R1');
"""


class World:
    """A SQL Server with groups, a data folder with a good generation, and a server in front of it."""

    def __init__(self, folder: RelatedFolder, tds: TdsServer, path: Path) -> None:
        self.folder = folder
        self.tds = tds
        self.path = path
        self.server: ServerProcess
        settings = folder.settings
        settings["source"] = source_of(
            tds, login_timeout_seconds=2, query_timeout_seconds=2, retries=0, users={"table": "dbo.people", "key": "no"}
        )
        settings["groups"] |= {"subgroups": {**SUBGROUPS}}
        for section in (
            settings["groups"],
            settings["groups"]["members"],
            settings["groups"]["subgroups"],
            *settings["entitlements"].values(),
            *(item["assignments"] for item in settings["entitlements"].values()),
            *settings["mapping"]["phoneNumbers"],
        ):
            section["table"] = f"dbo.{section['table']}"
        settings["mapping"]["active"] = "state"
        settings["guard"] = {}
        settings["server"] = {"port": 0, "auth": [{"type": "none"}], "poll_seconds": 0.02}
        settings["log"] = {"format": "json"}

    def run(self, statement: str) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as database, database:
            database.execute(statement)

    def refresh(self) -> RefreshOutcome:
        return refresh(self.folder.config)

    def bodies(self) -> list[bytes]:
        return [self.server.body(f"/scim/{path}") for path in ("v2/Users", "v2/Groups", "v1/Groups", "v2/Licenses")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("relations")
    path = folder / "hr.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(SCRIPT)
        for number in range(1, PEOPLE + 1):
            user = (GUID.format(number), f"user{number}", f"Zoë {number}", 1, number // 2 or None, number)
            database.execute("INSERT INTO people VALUES (?, ?, ?, ?, ?, ?)", user)
            database.execute("INSERT INTO in_team VALUES (?, ?)", (f" {number}", 7 + number % 2))
            database.execute(
                "INSERT INTO licenses VALUES (?, ?, NULL)", (GUID.format(100 + number), f"License {number}")
            )
            database.execute("INSERT INTO has_license VALUES (?, ?)", (number, GUID.format(100 + number).lower()))
            database.execute("INSERT INTO phones VALUES (?, ?, 'work', ?, ?)", (number, f"+{number}", 1, 1))
            database.execute("INSERT INTO phones VALUES (?, ?, 'home', ?, ?)", (number, f"+9{number}", 0, 0))
        database.commit()
    authority = Authority(folder)
    with TdsServer(path, certificate=authority.certificate(), **SETTINGS) as tds:
        made = World(RelatedFolder(folder), tds, path)
        outcome = made.refresh()
        assert ("published", "") == (outcome.state, outcome.reason)
        with server_process(made.folder.toml()) as made.server:
            made.server.wait_for(lambda users: len(users) == PEOPLE)
            yield made
        assert [] == [log.failure for log in tds.sessions if log.failure]


def test_keys_of_every_type_meet(world: World) -> None:
    """int, bigint, decimal, text with blanks and uniqueidentifier in another case name the same user and group."""
    folder = world.folder
    check_agreement(folder)
    users = folder.resources(USER)
    assert PEOPLE == len(users)
    manifest = folder.snapshot().manifest
    assert {*TABLES} == manifest.related.keys()
    assert 0 == sum(facts.rejects for facts in manifest.related.values())
    assert PEOPLE == len(folder.members_of("1")) == len(folder.members_of("7")) + len(folder.members_of("8"))
    first = users[GUID.format(1).lower()]
    assert [("+91", False), ("+1", True)] == [(x["value"], x.get("primary", False)) for x in first["phoneNumbers"]]
    assert ([GUID.format(101).lower()], ["R1"]) == tuple(
        [item["value"] for item in first[name]] for name in ("entitlements", "roles")
    )
    assert {"value": GUID.format(1).lower(), "displayName": "Zoë 1"} == {
        name: text for name, text in (folder.manager_of(GUID.format(3).lower()) or {}).items() if name != "$ref"
    }


def test_all_queries_are_of_one_transaction(world: World) -> None:
    """One connection reads every table, between one BEGIN and one end, and again gives no change."""
    before = len(world.tds.sessions)
    generation = read_current(world.folder.data_dir)
    assert "unchanged" == world.refresh().state
    assert generation == read_current(world.folder.data_dir)
    (log,) = world.tds.sessions[before:]
    text = "\n".join(item.sql for item in log.statements)
    places = [text.index(f"FROM [dbo].[{table}]") for table in TABLES.values()]
    assert places == sorted(places)
    assert text.rindex("FROM [dbo].[people]") > places[-1]
    assert 1 == text.upper().count("BEGIN TRAN")


FAULTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "error": ("query", "Something went wrong", {}),
    "deadlock": ("deadlock", "victim of a deadlock", {}),
    "reset": ("connection_lost", "connection to SQL Server is dead", {}),
    "close": ("connection_lost", "closed the connection", {}),
    "done-error": ("truncated", "the server sent no row count", {}),
    "wrong-count": ("truncated", "but the server reports", {"after_rows": 0}),
    "silence": ("timeout", "did not answer in time", {}),
    "permission": ("permission", "SELECT permission was denied", {}),
}


# Each kind once and each of these sections, in turn.
STRUCK = ["groups", "groups.members", "entitlements.License", "mapping.phoneNumbers[1]"]


@pytest.mark.parametrize(("kind", "section"), list(zip(FAULTS, itertools.cycle(STRUCK), strict=False)))
def test_a_fault_in_a_query_beside_the_users(world: World, section: str, kind: str) -> None:
    """Nothing is published and everybody is served unchanged; the error names the section; the next refresh is well."""
    code, cause, options = FAULTS[kind]
    table = TABLES[section]
    generation, before = read_current(world.folder.data_dir), world.bodies()
    world.run("UPDATE people SET name = name || '.' WHERE no = 1")
    world.tds.fault(Fault(kind, match=rf"SELECT \* FROM \[dbo\]\.\[{table}\]", **{"after_rows": 2, **options}))
    try:
        outcome = world.refresh()
    finally:
        world.tds.clear_faults()
    assert ("failed", code) == (outcome.state, outcome.code)
    assert outcome.reason.startswith(f"{section}: ")
    assert cause in outcome.reason
    assert generation == read_current(world.folder.data_dir)
    assert before == world.bodies()
    assert not list(world.folder.data_dir.glob(".creating-*"))
    manifest = run_refresh(world.folder.config)
    assert manifest.generation > (generation or 0)
    changed = [facts for name, facts in manifest.type_changes.items() if name != GROUP]
    assert changed == [ChangeFacts()] * 2
    world.server.wait_for(
        lambda users: users[GUID.format(1).lower()]["displayName"].count(".") == manifest.generation - 1
    )


@pytest.mark.parametrize("section", TABLES)
def test_a_column_that_a_query_does_not_send(world: World, section: str) -> None:
    """`--check` names the section and the missing column, for each of the queries; so does a refresh."""
    settings = world.folder.settings
    with_column = {
        "groups": (settings["groups"], "displayName"),
        "groups.members": (settings["groups"]["members"], "user"),
        "groups.subgroups": (settings["groups"]["subgroups"], "subgroup"),
        "entitlements.License": (settings["entitlements"]["License"], "id"),
        "entitlements.License.assignments": (settings["entitlements"]["License"]["assignments"], "entitlement"),
        "entitlements.Role": (settings["entitlements"]["Role"], "displayName"),
        "entitlements.Role.assignments": (settings["entitlements"]["Role"]["assignments"], "user"),
        "mapping.phoneNumbers[1]": (settings["mapping"]["phoneNumbers"][0], "order"),
    }
    table, key = with_column[section]
    kept = table[key]
    table[key] = "nothing_such"
    try:
        with pytest.raises(MappingError) as caught:
            check_source(world.folder.config)
        outcome = world.refresh() if section in STRUCK[:2] else None
    finally:
        table[key] = kept
    (problem,) = caught.value.problems
    assert ('no column "nothing_such"', True) == (problem.found, problem.key.startswith(f"{section}."))
    if outcome is not None:
        assert ("failed", "mapping", str(problem)) == (outcome.state, outcome.code, outcome.reason)
