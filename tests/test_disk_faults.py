"""Real faults of the disk under the data folder: full, read-only, gone, forbidden; and folders with odd names.

The last good snapshot is served on, whole; the cause names the path; nothing is left that grows with each attempt;
and with room the next refresh publishes.

Elsewhere: a data_dir that is a file, and a writer killed at any instant (test_store.py); the refresh child and its
parent killed (test_worker.py); two schedulers on one folder, and a scheduler that was killed (test_scheduler.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from open_server import ServerProcess, server_process
from people_folder import PeopleFolder, people
from small_disk import PAGE_BYTES, SmallDisk, in_namespace, obey_permissions, small_disk

from server.served import read_served
from snapshot import control, worker
from snapshot.errors import SourceError
from snapshot.folder import locked_folder
from snapshot.store import SERVED, list_numbers, read_current, writer_lock
from snapshot.worker import refresh_outcome, refresh_with_deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TREE = Path(__file__).parent.parent
PEOPLE = 120
# Refreshes once for each line of input, with no file larger than that line says, and tells how it ended.
REFRESHING = """
import gc, resource, sys, time
from pathlib import Path
import msgspec
from snapshot.config import load_config
from snapshot.worker import refresh_outcome
config = load_config(Path(sys.argv[1]))
for line in sys.stdin:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(line), resource.RLIM_INFINITY))
    outcome = refresh_outcome(config, lambda _progress: None, time.monotonic())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    gc.collect()  # so that no file of a failure takes up room
    print(msgspec.json.encode(outcome).decode(), flush=True)
"""
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="faults of Linux file systems")]


@contextlib.contextmanager
def served(folder: PeopleFolder) -> Iterator[ServerProcess]:
    """Publish people and run a server that asks for no credentials."""
    folder.settings |= {
        "server": {"port": 0, "auth": [{"type": "none"}], "admin": {"type": "none"}, "poll_seconds": 0.02},
        "log": {"format": "json"},
    }
    folder.publish(people(PEOPLE))
    with server_process(folder.toml()) as server:
        server.wait_for(lambda users: len(users) == PEOPLE)
        wait_until((folder.data_dir / SERVED).exists)
        yield server


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def scheduler(folder: PeopleFolder, *options: str) -> subprocess.CompletedProcess[str]:
    """Run scheduler.py as an account that permission bits hold for."""
    return subprocess.run(
        [sys.executable, "scheduler.py", "--config", str(folder.toml()), *options],
        cwd=TREE,
        preexec_fn=obey_permissions,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextlib.contextmanager
def refreshing(folder: PeopleFolder) -> Iterator[Callable[..., dict[str, Any]]]:
    """Start a process that refreshes whenever it is asked to; return the function that asks."""
    command = [sys.executable, "-c", REFRESHING, str(folder.toml())]
    process = subprocess.Popen(command, cwd=TREE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def refresh(limit_bytes: int = -1) -> dict[str, Any]:
        print(limit_bytes, file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())

    try:
        yield refresh
    finally:
        process.stdin.close()
        process.stdout.close()
        assert 0 == process.wait(10)


def check_failure(outcome: dict[str, Any], folder: PeopleFolder, *words: str) -> None:
    """Check that an outcome names the place, what is wrong there, and what to do."""
    assert ("failed", "store") == (outcome["state"], outcome["code"]), outcome
    assert str(folder.data_dir) in outcome["reason"]
    assert any(word in outcome["reason"] for word in words), outcome
    assert f"Check that {folder.data_dir}" in outcome["remedy"]
    assert "has room" in outcome["remedy"]


def check_recovery(folder: PeopleFolder, server: ServerProcess, count: int = PEOPLE + 1) -> None:
    """With the fault gone, one refresh publishes and is served, and nothing is left of the failures."""
    folder.fill(people(count))
    outcome = refresh_with_deadline(folder.config, on_progress=lambda _: None)
    assert ("published", "") == (outcome.state, outcome.reason)
    server.wait_for(lambda users: len(users) == count)
    wait_until(lambda: f"{SERVED}.tmp" not in names_in(folder.data_dir))  # the server may be writing it
    left = names_in(folder.data_dir) - {"ballast"}
    locks = {"LOCK", "LOCK.pid", "SCHEDULER.LOCK", "SCHEDULER.LOCK.pid"}
    assert left <= locks | {"CURRENT", "NUMBER", "generations", "quarantine", "requests", "status.json", SERVED}


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def on_small_disk(path: Path) -> Iterator[tuple[PeopleFolder, SmallDisk, ServerProcess]]:
    folder = PeopleFolder(path)
    with small_disk(folder.data_dir) as disk, served(folder) as server:
        yield folder, disk, server


@pytest.mark.parametrize("what", ["pages", "files"])
@pytest.mark.parametrize("end", ["published", "refused"])
@in_namespace
def test_a_full_disk(request: pytest.FixtureRequest, tmp_path: Path, what: str, end: str) -> None:
    """However little room there is, for bytes or for files, the refresh fails cleanly, up to the point where it fits."""
    full = ("No space left on device", "database or disk is full", "disk I/O error", "unable to open database file")
    reasons, grown = [], 0
    with on_small_disk(tmp_path) as (folder, disk, server):
        before = server.body()
        folder.fill(people(PEOPLE + 1 if end == "published" else PEOPLE // 2))
        folder.settings["guard"] = {"enabled": end == "refused"}
        with refreshing(folder) as refresh:
            for room in range(400):
                disk.leave_pages(room) if what == "pages" else disk.leave_files(room)
                used, names = disk.used_bytes(), names_in(folder.data_dir)
                said = refresh()
                if said["state"] == end:
                    break
                check_failure(said, folder, *full)
                reasons.append(said["reason"])
                grown += max(0, disk.used_bytes() - used)
                assert names_in(folder.data_dir) <= names | {"NUMBER", "quarantine"}
                assert (1, [1]) == (read_current(folder.data_dir), list_numbers(folder.data_dir / "generations"))
                assert [] == list_numbers(folder.data_dir / "quarantine")
                assert before == server.body()
        assert end == said["state"]
        assert grown <= PAGE_BYTES  # a note that is written once; not a page for each attempt
        # It struck everywhere: when the first file was made, in the index, and in the last small file or folder.
        places = ["index.sqlite"]
        if what == "files":
            last = r"CURRENT\.tmp" if end == "published" else r"quarantine|NUMBER\.tmp"
            places = [r"User\.1\.1\.json", r"changes\.jsonl", r"manifest\.json\.tmp", last]
        assert [] == [place for place in places if not re.search(place, "\n".join(reasons))], reasons
        assert len(reasons) > (8 if what == "files" else 20)
        disk.empty()
        folder.settings["guard"] = {"enabled": False}
        check_recovery(folder, server, PEOPLE + 2)


@in_namespace
def test_the_programs_on_a_full_disk(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Scheduler and requests say that there is no room; they leave nothing, and status.json is what it was."""
    with on_small_disk(tmp_path) as (folder, disk, server):
        folder.fill(people(PEOPLE + 2))
        assert 0 == scheduler(folder, "--once").returncode
        server.wait_for(lambda users: len(users) == PEOPLE + 2)
        wait_until(lambda: 2 == len(read_served(folder.data_dir)))
        before, status = server.body(), (folder.data_dir / "status.json").read_bytes()
        control.ask_refresh(folder.data_dir, asked_by="test")
        control.take_requests(folder.data_dir)
        folder.fill(people(PEOPLE + 3))
        disk.leave_pages(0)
        names = sorted(path.relative_to(folder.data_dir) for path in folder.data_dir.rglob("*"))
        for _ in range(3):
            done = scheduler(folder, "--once")
            assert 1 == done.returncode
            last = done.stderr.splitlines()[-1]
            assert last.startswith(f"Refresh failed: {folder.data_dir}")
            assert "has room" in last
            assert "Traceback" not in done.stderr
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"http://127.0.0.1:{server.port}/admin/refresh", data=b"", timeout=5)
            assert 503 == refused.value.code
            refused.value.close()
            assert status == (folder.data_dir / "status.json").read_bytes()
        assert names == sorted(path.relative_to(folder.data_dir) for path in folder.data_dir.rglob("*"))
        assert before == server.body()
        disk.empty()
        check_recovery(folder, server, PEOPLE + 3)


@in_namespace
def test_a_read_only_disk(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """On a disk that was mounted read-only, as after an error of the hardware, the refresh says so."""
    with on_small_disk(tmp_path) as (folder, disk, server):
        before = server.body()
        disk.read_only(True)
        with refreshing(folder) as refresh:
            check_failure(refresh(), folder, "Read-only file system")
        done = scheduler(folder, "--once")
        assert (1, 1) == (done.returncode, done.stderr.count("\n")), done.stderr
        assert "Read-only file system" in done.stderr
        assert before == server.body()
        disk.read_only(False)
        check_recovery(folder, server)


def test_a_limit_on_the_size_of_files(folder: PeopleFolder) -> None:
    """Wherever a file may grow no further, the refresh fails and names that file, until the largest one fits."""
    with served(folder) as server:
        before = server.body()
        folder.fill(people(PEOPLE + 1))
        sizes = {path.stat().st_size for path in (folder.data_dir / "generations" / "00000001").iterdir()}
        limits = [0, 1, 8, 9, 500, *sorted(size // 2 for size in sizes), *sorted(sizes), 2 * max(sizes)]
        with refreshing(folder) as refresh:
            said = [refresh(limits[0])]
            while said[-1]["state"] == "failed":
                said.append(refresh(limits[len(said)]))
        *failures, last = said
        assert len(failures) > 5
        for item in failures:
            check_failure(item, folder, "File too large", "disk I/O error", "database or disk is full")
        assert any("File too large" in item["reason"] for item in failures)
        assert "published" == last["state"]
        server.wait_for(lambda users: len(users) == PEOPLE + 1)
        assert len(before) < len(server.body())
        check_recovery(folder, server, PEOPLE + 2)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (".", 0o500),
        (".", 0o000),
        ("generations", 0o500),
        ("generations", 0o000),
        ("CURRENT", 0o000),
        ("LOCK", 0o400),
    ],
)
def test_without_permission(folder: PeopleFolder, name: str, mode: int) -> None:
    """A folder or file that this account may not use is named, and the server goes on."""
    with served(folder) as server:
        before = server.body()
        folder.fill(people(PEOPLE + 1))
        path = folder.data_dir / name
        old = path.stat().st_mode
        path.chmod(mode)
        try:
            done = scheduler(folder, "--once")
        finally:
            path.chmod(old)
        assert "Traceback" not in done.stderr
        last = done.stderr.splitlines()[-1]
        assert 1 == done.returncode, done.stderr
        assert "Permission denied" in last
        assert str(path.resolve()) in last
        assert 1 == read_current(folder.data_dir)
        assert before == server.body()
        check_recovery(folder, server)


def test_the_folder_goes_while_it_is_written(folder: PeopleFolder) -> None:
    """A folder that is removed in mid-refresh fails the refresh; what is served was mapped and stays."""
    with served(folder) as server:
        before = server.body()
        for number, phase in enumerate(("connect", "order", "index", "publish"), 1):

            def remove(progress: control.Progress, phase: str = phase) -> None:
                if progress.phase == phase:
                    shutil.rmtree(folder.data_dir)

            assert "failed" != refresh_with_deadline(folder.config, on_progress=lambda _: None).state
            # Where nothing changed nothing is written.
            folder.fill(people(PEOPLE + number))
            outcome = refresh_outcome(folder.config, remove, 0.0)
            assert ("failed", "store") == (outcome.state, outcome.code), outcome
            assert str(folder.data_dir) in outcome.reason
            assert outcome.remedy
            assert before == server.body()
        assert "published" == refresh_with_deadline(folder.config, on_progress=lambda _: None).state


def test_the_folder_goes_between_two_refreshes(folder: PeopleFolder) -> None:
    """A scheduler whose folder was moved away says so at each refresh, makes no new one, and goes on when it is back."""
    folder.settings["schedule"] = {"interval_seconds": 5, "jitter_seconds": 0}
    elsewhere, log = folder.path / "elsewhere", folder.path / "scheduler.log"
    with served(folder) as server, log.open("w") as output:
        before = server.body()
        process = subprocess.Popen(
            [sys.executable, "scheduler.py", "--config", str(folder.toml())], cwd=TREE, stderr=output, stdout=output
        )
        try:
            wait_until(lambda: (status := control.read_status(folder.data_dir)) is not None and status.phase == "idle")
            folder.fill(people(PEOPLE + 1))
            folder.data_dir.rename(elsewhere)
            wait_until(lambda: log.read_text().count("refresh failed") == 2)
            assert not folder.data_dir.exists()
            assert 1 == read_current(elsewhere)
            assert before == server.body()

            folder.data_dir.mkdir()  # as the mount point of a volume that is gone; somebody asks there all the same
            control.ask_refresh(folder.data_dir, asked_by="test")
            wait_until(lambda: log.read_text().count("refresh failed") == 3)
            time.sleep(2.5)
            assert ["requests"] == [path.name for path in folder.data_dir.iterdir()]
            assert ["queued"] == [request.state for request in control.list_requests(folder.data_dir)]
            assert 3 == log.read_text().count("refresh failed")
            shutil.rmtree(folder.data_dir)

            elsewhere.rename(folder.data_dir)
            wait_until(lambda: read_current(folder.data_dir) == 2)
            server.wait_for(lambda users: len(users) == PEOPLE + 1)
            wait_until(lambda: control.read_status(folder.data_dir).failures_in_a_row == 0)
            process.terminate()
            assert 0 == process.wait(15)
        finally:
            process.kill()
            process.wait()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    failures = [line for line in lines if line["event"].startswith("refresh failed")]
    gone = f"The data folder {folder.data_dir} is gone or another one since the scheduler started."
    said = ("store", gone, "Mount it again, or restart the scheduler.")
    assert [said] * len(failures) == [(line["code"], line["reason"], line["remedy"]) for line in failures]
    assert [] == [line for line in lines if "status.json" in line["event"]]
    assert "Traceback" not in log.read_text()


def test_another_folder_in_its_place(folder: PeopleFolder) -> None:
    """In a new folder at the same path a running scheduler publishes nothing: the guard has nothing to compare with."""
    folder.settings["schedule"] = {"interval_seconds": 5, "jitter_seconds": 0}
    folder.settings["guard"] = {"enabled": True}
    log = folder.path / "scheduler.log"
    folder.publish(people(PEOPLE))
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "scheduler.py", "--config", str(folder.toml())], cwd=TREE, stderr=output, stdout=output
        )
        try:
            wait_until(lambda: (status := control.read_status(folder.data_dir)) is not None and status.phase == "idle")
            folder.fill(people(2))
            folder.data_dir.rename(folder.path / "elsewhere")
            folder.data_dir.mkdir()
            (folder.data_dir / "SCHEDULER.LOCK").touch()
            wait_until(lambda: "is gone or another one" in log.read_text())
            assert ["SCHEDULER.LOCK"] == [path.name for path in folder.data_dir.iterdir()]
            process.terminate()
            assert 0 == process.wait(15)
        finally:
            process.kill()
            process.wait()
    assert ["SCHEDULER.LOCK"] == [path.name for path in folder.data_dir.iterdir()]
    assert [1] == list_numbers(folder.path / "elsewhere" / "generations")


def test_the_folder_goes_before_a_second_attempt(folder: PeopleFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read again after a lost connection is not published in a folder that was made in between."""
    folder.publish(people(PEOPLE))
    folder.settings["source"]["retry_seconds"] = 0.05
    config, attempts = folder.config, []

    def lose(_config: object, **_options: object) -> None:
        attempts.append(1)
        folder.data_dir.rename(folder.path / "elsewhere")
        raise SourceError("connection_lost", "The connection broke.")

    monkeypatch.setattr(worker, "refresh", lose)
    with writer_lock(folder.data_dir, "SCHEDULER.LOCK"):
        locked = locked_folder(folder.data_dir, "SCHEDULER.LOCK")
        outcome = refresh_outcome(config, lambda _progress: None, 0.0, folder=locked)
    assert ("failed", "store", 2, 1) == (outcome.state, outcome.code, outcome.attempts, len(attempts))
    assert not folder.data_dir.exists()


def test_a_folder_with_an_odd_name(tmp_path: Path) -> None:
    """Blanks, letters beyond ASCII and signs that mean something in a URI are letters of a path like any other."""
    path = tmp_path / "Données d'été #1 100% 人"
    path.mkdir()
    folder = PeopleFolder(path)
    folder.settings["data_dir"] = "die Daten ü&=;+"
    folder.data_dir = path / "die Daten ü&=;+"
    folder.settings["guard"] = {"enabled": True}
    folder.fill(people(PEOPLE))
    folder.settings |= {
        "server": {"port": 0, "auth": [{"type": "none"}], "poll_seconds": 0.02},
        "log": {"format": "json"},
    }
    done = scheduler(folder, "--once")
    assert (0, f"Published generation 1: {PEOPLE} users") == (done.returncode, done.stdout.partition(" (")[0]), (
        done.stderr
    )
    with server_process(folder.toml()) as server:
        server.wait_for(lambda users: len(users) == PEOPLE)
        folder.fill(people(3))
        done = scheduler(folder, "--once")
        assert 3 == done.returncode, done.stderr
        tool = [sys.executable, "-m", "snapshot", "quarantine"]
        environment = {**os.environ, "PYTHONPATH": str(TREE), "PYTHONUTF8": "1"}
        for action in (["list"], ["show", "2"], ["approve", "2"]):
            command = [*tool, *action, "--config", "config.toml"]
            done = subprocess.run(
                command, cwd=path, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
            )
            assert 0 == done.returncode, done.stderr
            if action != ["approve", "2"]:
                shown = 10 if action == ["list"] else PEOPLE - 3
                assert shown == len(re.findall(r"^  removed +E", done.stdout, re.MULTILINE)), done.stdout
        server.wait_for(lambda users: len([user for user in users.values() if user["active"]]) == 3)
