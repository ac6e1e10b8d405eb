"""One scheduler for two apps, as a real process: what happens to one of them is nothing to the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import proc_children
import pytest
from apps_folder import AppsFolder
from people_folder import people
from scheduler_fixtures import TREE, run, running, stop, wait_for

from snapshot import control
from snapshot.app_scheduler import Scheduler
from snapshot.logs import now_text
from snapshot.store import QUARANTINE, list_numbers, read_current

pytestmark = pytest.mark.slow
ENDLESS = (
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) "
    "SELECT 'E' || n AS id, 'u' || n AS login, NULL AS mail, 1 AS state FROM c"
)
posix = pytest.mark.skipif(os.name == "nt", reason="signals")


@pytest.fixture
def apps(tmp_path):
    """Two apps with three and five people, nothing published."""
    folder = AppsFolder(tmp_path)
    folder.hr.fill(people(3))
    folder.partners.fill(people(5))
    return folder


def tool(folder: AppsFolder, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snapshot", *arguments, "--config", str(folder.toml())]
    return subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=60, check=False)


def lines_of(log: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.splitlines()]


def test_once(apps):
    """--once refreshes each app in turn, into its own folder and by its own mapping, and says so in a line each."""
    done = run(apps, "--once")
    assert 0 == done.returncode, done.stderr
    hr, partners = done.stdout.splitlines()
    assert hr.startswith("hr: Published generation 1: 3 users (3 active)")
    assert partners.startswith("partners: Published generation 1: 5 users (5 active)")
    assert ["E00001", "E00002", "E00003"] == [user["id"] for user in apps.hr.users()]
    assert [f"user{number}@example.com" for number in range(1, 6)] == [user["id"] for user in apps.partners.users()]
    assert (
        "https://scim.example.com/partners/scim/v2/Users/user1%40example.com"
        == (apps.partners.users()[0]["meta"]["location"])
    )
    assert [1, 1] == [control.read_status(app.data_dir).last_success.generation for app in (apps.hr, apps.partners)]
    assert not apps.data_dir.exists()


def break_source(app) -> None:
    app.settings["source"]["users"] = {"table": "peple"}


def lose_people(app) -> None:
    app.publish(people(50))
    app.settings["guard"] = {"enabled": True}
    app.fill(people(5))


@pytest.mark.parametrize(
    ("hr", "partners", "code"),
    [(break_source, None, 1), (None, break_source, 1), (lose_people, None, 3), (lose_people, break_source, 1)],
)
def test_the_worst_exit_code(apps, hr, partners, code):
    """--once goes on after an app that fails or is refused; a failure counts more than a refusal."""
    broken = [(app, harm) for app, harm in ((apps.hr, hr), (apps.partners, partners)) if harm is not None]
    for app, harm in broken:
        harm(app)
    before = {app.name: read_current(app.data_dir) for app, _ in broken}
    done = run(apps, "--once")
    assert code == done.returncode, done.stderr
    for app, harm in broken:
        assert before[app.name] == read_current(app.data_dir)
        told = next(line for line in done.stderr.splitlines() if line.startswith(f"{app.name}: Refresh "))
        assert ("--app hr" in told) is (harm is lose_people)
    for app in {apps.hr, apps.partners} - {app for app, _ in broken}:
        assert 1 == read_current(app.data_dir)
        assert f"{app.name}: Published generation 1" in done.stdout


def test_a_folder_that_is_held(apps):
    """--once of an app whose folder another scheduler holds fails; the other app is refreshed."""
    code = "import sys, time; from pathlib import Path; from snapshot.store import writer_lock\n"
    code += "with writer_lock(Path(sys.argv[1]), 'SCHEDULER.LOCK'): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(apps.hr.data_dir)], cwd=TREE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert "held\n" == holder.stdout.readline()
        done = run(apps, "--once")
    finally:
        holder.kill()
        holder.communicate()
    assert 1 == done.returncode
    assert f"hr: {apps.hr.data_dir / 'SCHEDULER.LOCK'} is held by another process" in done.stderr
    assert (None, 1) == (read_current(apps.hr.data_dir), read_current(apps.partners.data_dir))


def test_check(apps):
    """--check looks at every app, also after one whose column is missing, and names the section of that."""
    done = run(apps, "--check")
    assert 0 == done.returncode, done.stderr
    for name in ("hr", "partners"):
        assert f"{name}: Source: connected; isolation: snapshot; 4 columns: id, login, mail, state." in done.stdout
    apps.hr.settings["mapping"] = {**apps.hr.settings["mapping"], "title": "statee"}
    done = run(apps, "--check")
    assert 1 == done.returncode
    assert "hr: " in done.stderr
    assert '[apps.hr]: mapping.title: found no column "statee"' in done.stderr
    assert "Correct the mapping, or the columns of the source" in done.stderr
    assert "partners: Every mapped column exists." in done.stdout


def test_one_app_alone(apps):
    """--app refreshes one app and touches nothing of the other; a name that is none is exit code 2 with the nearest."""
    done = run(apps, "--once", "--app", "partners")
    assert 0 == done.returncode, done.stderr
    assert 1 == read_current(apps.partners.data_dir)
    assert not apps.hr.data_dir.exists()
    done = run(apps, "--once", "--app", "partner")
    assert 2 == done.returncode
    (line,) = done.stderr.splitlines()
    assert line.endswith('--app: found "partner" (string); expected one of hr, partners (did you mean partners?)')


def test_a_bad_configuration(apps):
    """The mistakes of all apps end the program with exit code 2, one line each; nothing is written."""
    apps.hr.settings["schedule"] = {"cron": "0 6 * * 8", "timezone": "UTC"}
    apps.partners.settings["schedule"] = {"cron": "@daily", "timezone": "UTC"}
    done = run(apps)
    assert 2 == done.returncode
    hr, partners = done.stderr.splitlines()
    assert '[apps.hr]: schedule.cron: found "0 6 * * 8"' in hr
    assert '[apps.partners]: schedule.cron: found "@daily"' in partners
    apps.hr.settings["guard"] = {"max_removed": "x"}
    apps.partners.settings["store"] = {"keep_generations": 1}
    done = run(apps)
    assert ["apps.hr.guard.max_removed", "apps.partners.store.keep_generations"] == [
        line.split(": ")[1] for line in done.stderr.splitlines()
    ]
    assert not apps.hr.data_dir.exists()


@posix
def test_apps_refresh_at_the_same_time(apps):
    """While the source of one app does not end, the other is refreshed on its schedule and on request."""
    apps.hr.settings["source"]["users"] = {"query": ENDLESS}
    with running(apps) as process:
        hr = wait_for(apps.hr, process, lambda status: bool(status.progress and status.progress.rows))
        partners = wait_for(apps.partners, process, lambda status: status.last_success is not None)
        assert (1, "idle") == (partners.last_success.generation, partners.phase)
        apps.partners.fill(people(7))
        request = control.ask_refresh(apps.partners.data_dir, asked_by="test")
        waiting = control.ask_refresh(apps.hr.data_dir, asked_by="test")
        wait_for(apps.partners, process, lambda status: status.last_success.generation == 2)
        assert "published" == control.read_request(apps.partners.data_dir, request.id).state
        # Never two of one app: what is asked of it waits.
        assert "queued" == control.read_request(apps.hr.data_dir, waiting.id).state
        later = wait_for(apps.hr, process, lambda status: bool(status.progress))
        assert ("refreshing", None) == (later.phase, later.last_outcome)
        assert later.progress.rows >= hr.progress.rows
        log = stop(process)
    assert (None, 2) == (read_current(apps.hr.data_dir), read_current(apps.partners.data_dir))
    assert "Traceback" not in log
    found = lines_of(log)
    assert {"hr", "partners"} == {line["app"] for line in found if line["event"] == "scheduler started"}
    assert ["partners"] * 2 == [line["app"] for line in found if line["event"] == "refresh published"]
    assert ["hr"] == [line["app"] for line in found if line["event"].startswith("refresh failed")]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_refresh_that_crashes(apps):
    """A refresh that is killed has failed, of its app alone; both schedules go on."""
    apps.hr.settings["source"]["users"] = {"query": ENDLESS}
    apps.hr.settings["schedule"] = {"interval_seconds": 5, "jitter_seconds": 0}
    with running(apps) as process:
        wait_for(apps.partners, process, lambda status: status.last_success is not None)
        wait_for(apps.hr, process, lambda status: bool(status.progress and status.progress.rows))
        (worker,) = proc_children.of(process.pid)
        os.kill(worker, 9)
        status = wait_for(apps.hr, process, lambda status: status.last_outcome is not None)
        assert ("failed", "crashed", 1) == (
            status.last_outcome.state,
            status.last_outcome.code,
            status.failures_in_a_row,
        )
        apps.partners.fill(people(6))
        control.ask_refresh(apps.partners.data_dir, asked_by="test")
        status = wait_for(apps.partners, process, lambda status: status.last_success.generation == 2)
        assert 0 == status.failures_in_a_row
        wait_for(apps.hr, process, lambda status: status.phase == "refreshing")
        stop(process)


@posix
def test_a_folder_that_goes(apps):
    """An app whose data folder is moved away stands still and writes nothing; the other goes on."""
    with running(apps) as process:
        for app in (apps.hr, apps.partners):
            wait_for(app, process, lambda status: status.last_success is not None)
        apps.hr.data_dir.rename(apps.hr.path / "gone")
        apps.partners.fill(people(6))
        control.ask_refresh(apps.partners.data_dir, asked_by="test")
        wait_for(apps.partners, process, lambda status: status.last_success.generation == 2)
        before = control.read_status(apps.partners.data_dir).updated_at
        wait_for(apps.partners, process, lambda status: status.updated_at > before)
        assert not apps.hr.data_dir.exists()
        (apps.hr.path / "gone").rename(apps.hr.data_dir)
        apps.hr.fill(people(4))
        control.ask_refresh(apps.hr.data_dir, asked_by="test")
        wait_for(apps.hr, process, lambda status: status.last_success.generation == 2)
        stop(process)


@posix
def test_two_schedulers_side_by_side(apps):
    """A scheduler for one app leaves the other to another one; a scheduler for both is refused."""
    with (apps.path / "other.log").open("w") as log:
        other = subprocess.Popen(
            [sys.executable, "scheduler.py", "--config", apps.toml(), "--app", "hr"], cwd=TREE, stderr=log
        )
    other.log = apps.path / "other.log"
    try:
        wait_for(apps.hr, other, lambda status: status.last_success is not None)
        assert 0 == run(apps, "--app", "partners", "--once").returncode
        done = run(apps)
        assert 1 == done.returncode
        assert f"{apps.hr.data_dir / 'SCHEDULER.LOCK'} is held by another process" in done.stderr
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_refused_login_pauses_one_app(apps):
    """The pause after a refused login is one of the app whose database refused it."""
    for app in (apps.hr, apps.partners):
        app.data_dir.mkdir()
    counted: list[str] = []

    def refresh(config, **_options):
        counted.append(config.name)
        code = "login_refused" if config.name == "hr" else ""
        return control.RefreshOutcome(state="failed", at=now_text(), code=code)

    programs = [Scheduler(app.config, refresh=refresh) for app in (apps.hr, apps.partners)]
    for _ in range(3):
        for program in programs:
            program.refresh_by_schedule()
    assert ["hr", "partners", "partners", "partners"] == counted
    assert [True, False] == [bool(control.read_status(app.data_dir).paused_until) for app in (apps.hr, apps.partners)]


def test_quarantine_of_one_app(apps):
    """The guard of one app refuses; the tool decides with --app, and nothing of the other changes."""
    lose_people(apps.hr)
    apps.partners.settings["guard"] = {"enabled": True}
    assert 3 == run(apps, "--once").returncode
    assert [[2], []] == [list_numbers(app.data_dir / QUARANTINE) for app in (apps.hr, apps.partners)]
    assert "more: python -m snapshot quarantine show 2 --app hr" in tool(apps, "quarantine", "--app", "hr").stdout
    status = tool(apps, "status", "--app", "hr")
    assert "(python -m snapshot quarantine --app hr)" in status.stdout
    assert "No generation is in quarantine.\n" == tool(apps, "quarantine", "--app", "partners").stdout
    done = tool(apps, "quarantine", "approve", "2", "--app", "hr")
    assert 0 == done.returncode, done.stderr
    assert (2, 1) == (read_current(apps.hr.data_dir), read_current(apps.partners.data_dir))
    (line,) = tool(apps, "audit", "--json", "--app", "hr").stdout.splitlines()
    assert ("approve", 2) == (json.loads(line)["action"], json.loads(line)["generation"])
    assert not (apps.partners.data_dir / "audit.jsonl").exists()


@pytest.mark.parametrize("command", ["status", "rejects", "quarantine", "diff", "audit"])
def test_the_tool_needs_a_name(apps, command):
    """With several apps a command without --app is exit code 2 and one line that names them."""
    done = tool(apps, command)
    assert (2, "") == (done.returncode, done.stdout)
    (line,) = done.stderr.splitlines()
    assert line.endswith("--app: found nothing; expected --app NAME, one of hr, partners")


def test_a_source_that_is_down_at_start(apps):
    """A scheduler whose one source is down publishes the other, and the first as soon as it is back."""
    apps.hr.database.rename(apps.hr.path / "away")
    with running(apps) as process:
        failed = wait_for(apps.hr, process, lambda status: status.last_outcome is not None)
        assert ("failed", "unreachable") == (failed.last_outcome.state, failed.last_outcome.code)
        wait_for(apps.partners, process, lambda status: status.last_success is not None)
        (apps.hr.path / "away").rename(apps.hr.database)
        control.ask_refresh(apps.hr.data_dir, asked_by="test")
        back = wait_for(apps.hr, process, lambda status: status.last_success is not None)
        assert (1, 0) == (back.last_success.generation, back.failures_in_a_row)
        time.sleep(1.2)
        assert 1 == read_current(apps.partners.data_dir)
