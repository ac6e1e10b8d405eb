"""A refresh in a child process: deadline, stop, death of the child, death of the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import proc_children as children
import pytest
from people_folder import PeopleFolder, people
from sqlserver_fixtures import SETTINGS, Authority, make_config
from tds_server import Column, Fault, Result, TdsServer

from snapshot.child import NICENESS
from snapshot.refresh import run_refresh
from snapshot.store import read_current
from snapshot.worker import refresh_outcome, refresh_with_deadline

if TYPE_CHECKING:
    from snapshot.control import RefreshOutcome

TREE = Path(__file__).parent.parent
COUNTING = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c)"
ENDLESS = f"{COUNTING} SELECT 'E' || n AS id, 'u' || n AS login, NULL AS mail, 1 AS state FROM c"
SILENT = f"{COUNTING} SELECT max(n) AS id, 'x' AS login, NULL AS mail, 1 AS state FROM c"
PARENT = """
import sys
from pathlib import Path
from snapshot.config import load_config
from snapshot.worker import refresh_with_deadline
if __name__ == "__main__":
    refresh_with_deadline(load_config(Path(sys.argv[1])), on_progress=lambda item: print(item.phase, flush=True))
"""
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]


def published(folder: PeopleFolder) -> PeopleFolder:
    folder.publish(people(3))
    return folder


def endless(folder: PeopleFolder, query: str = ENDLESS, deadline: int = 60) -> PeopleFolder:
    published(folder)
    folder.settings["source"]["users"] = {"query": query}
    folder.settings["schedule"] = {"deadline_seconds": deadline}
    return folder


def check_untouched(folder: PeopleFolder) -> None:
    """What was published is served, nothing half made is left, and the next refresh works."""
    assert 1 == read_current(folder.data_dir)
    assert not list(folder.data_dir.glob(".creating-*"))
    folder.settings["source"]["users"] = {"table": "people"}
    assert 2 == folder.publish(people(5)).generation


def refresh_until_read(folder: PeopleFolder, act) -> RefreshOutcome:
    """Refresh in a thread; call `act` once rows are being read; return the outcome."""
    reading, outcomes = threading.Event(), []

    def on_progress(progress):
        if progress.rows:
            reading.set()

    stop = threading.Event()
    thread = threading.Thread(
        target=lambda: outcomes.append(refresh_with_deadline(folder.config, on_progress=on_progress, stop=stop))
    )
    thread.start()
    try:
        assert reading.wait(20)
        act(stop)
        thread.join(20)
        return outcomes[0]
    finally:
        stop.set()
        thread.join(20)


def test_published(folder):
    """The outcome of a refresh in a child has the counts; progress comes through."""
    folder.fill([*people(4), (None, "x", None, 1)])
    seen = []
    outcome = refresh_with_deadline(folder.config, on_progress=seen.append)
    assert ("published", 1) == (outcome.state, outcome.generation)
    expected = {
        "rows": 5,
        "users": 4,
        "active": 4,
        "tombstones": 0,
        "rejects": 1,
        "kept": 0,
        "added": 4,
        "changed": 0,
        "deactivated": 0,
        "removed": 0,
        "expired": 0,
    }
    assert expected == outcome.counts
    assert "connect" == seen[0].phase
    assert 4 == len(folder.users())


@pytest.mark.parametrize("query", [ENDLESS, SILENT], ids=["endless", "silent"])
def test_the_deadline(folder, query):
    """A refresh that hangs, or never ends, is ended at the deadline."""
    endless(folder, query, deadline=2)
    began = time.monotonic()
    outcome = refresh_with_deadline(folder.config, on_progress=lambda _: None)
    assert 2 <= time.monotonic() - began < 6
    assert ("failed", "deadline") == (outcome.state, outcome.code)
    assert "not finished after 2 seconds" in outcome.reason
    assert "schedule.deadline_seconds" in outcome.remedy
    assert not children.of(os.getpid())
    check_untouched(folder)


def test_stop(folder):
    """When the scheduler stops, the refresh is ended within seconds."""
    began = time.monotonic()
    outcome = refresh_until_read(endless(folder), lambda stop: stop.set())
    assert ("failed", "stopped") == (outcome.state, outcome.code)
    assert time.monotonic() - began < 10
    check_untouched(folder)


def test_the_child_is_killed(folder):
    """A child that is killed is a failed refresh that says so."""

    def kill(_stop):
        (child,) = children.of(os.getpid())
        os.kill(child, signal.SIGKILL)

    outcome = refresh_until_read(endless(folder), kill)
    assert ("failed", "crashed") == (outcome.state, outcome.code)
    assert "exit code -9" in outcome.reason
    folder.settings["source"]["users"] = {"table": "people"}
    assert 2 == folder.publish(people(5)).generation
    assert not list(folder.data_dir.glob(".creating-*"))


def test_the_parent_is_killed(folder):
    """A child lets others go first. If its parent is killed it dies too, and the next refresh sweeps what it left."""
    endless(folder)
    script = folder.path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(TREE)}
    parent = subprocess.Popen(
        [sys.executable, script, folder.toml()], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        while parent.stdout.readline() != "read\n":
            assert parent.poll() is None
        orphans = children.of(parent.pid)
        assert orphans
        assert {max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0))} == {
            os.getpriority(os.PRIO_PROCESS, child) for child in orphans
        }
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    deadline = time.monotonic() + 5
    while any(map(children.alive, orphans)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert 1 == read_current(folder.data_dir)
    folder.settings["source"]["users"] = {"table": "people"}
    assert 2 == folder.publish(people(5)).generation
    assert not list(folder.data_dir.glob(".creating-*"))


def test_the_child_of_the_child_is_not_left(tmp_path):
    """The process that reads from SQL Server ends too when the refresh that waits for it is killed."""
    authority = Authority(tmp_path)
    with TdsServer(certificate=authority.certificate(), **SETTINGS) as server:
        server.answer("SELECT COUNT_BIG(*) FROM [dbo].[Users]", Result([Column("", "bigint")], [(5,)]))
        rows = [(number, f"u{number}") for number in range(5)]
        server.answer(
            "SELECT * FROM [dbo].[Users]", Result([Column("id", "int"), Column("login", "nvarchar(9)")], rows)
        )
        server.fault(Fault("silence", match="SELECT \\* FROM", after_rows=3))
        config = make_config(tmp_path, server, mapping={"id": "id", "userName": "login"}, query_timeout_seconds=600)
        outcomes = []
        thread = threading.Thread(
            target=lambda: outcomes.append(refresh_with_deadline(config, on_progress=lambda _: None))
        )
        thread.start()
        family = []
        while not any(log.queries for log in server.sessions):
            assert thread.is_alive(), outcomes
            time.sleep(0.05)
        (child,) = children.of(os.getpid())
        family = [child, *children.of(child)]
        assert 2 == len(family)
        os.kill(child, signal.SIGKILL)
        thread.join(20)
        deadline = time.monotonic() + 5
        while any(map(children.alive, family)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert ("failed", "crashed") == (outcomes[0].state, outcomes[0].code)
    assert read_current(config.data_dir) is None


def test_what_goes_wrong_is_an_outcome(folder):
    """Each kind of failure has its code, its cause and its remedy."""
    folder.fill(people(30))
    codes = {}

    def outcome(name):
        codes[name] = refresh_outcome(folder.config, lambda _: None, time.monotonic())

    folder.settings["guard"] = {"always_allowed_removed": 0}
    run_refresh(folder.config)
    folder.fill(people(20))
    outcome("guard")
    folder.settings["mapping"]["title"] = "jobb"
    outcome("mapping")
    folder.settings["source"]["path"] = "nowhere"
    outcome("unreachable")
    (folder.data_dir / "generations").rename(folder.path / "elsewhere")
    (folder.data_dir / "generations").write_text("a file")
    outcome("store")
    assert list(codes) == [item.code for item in codes.values()]
    assert ["refused", "failed", "failed", "failed"] == [item.state for item in codes.values()]
    assert all(item.reason and item.remedy for item in codes.values())
    assert "python -m snapshot quarantine approve 2" in codes["guard"].remedy
