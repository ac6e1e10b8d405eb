"""The scheduler: its schedule in numbers, and itself as a real process."""

from __future__ import annotations

import logging
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from people_folder import PeopleFolder, people
from scheduler_fixtures import run, running, stop, wait_for

from scheduler import Scheduler, cron_weekdays, first_run, make_trigger
from snapshot import control
from snapshot.errors import PublishRefusedError
from snapshot.logs import now_text
from snapshot.quarantine_commands import decide
from snapshot.store import generation_directory, quarantine_directory, read_current, read_manifest, write_manifest

COUNTING = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c{})"
ENDLESS = f"{COUNTING.format('')} SELECT 'E' || n AS id, 'u' || n AS login, NULL AS mail, 1 AS state FROM c"
# Takes a second or so, then gives the people, each time with other addresses.
SLOW = (
    f"{COUNTING.format(' WHERE n < 4000000')} SELECT id, login, hex(randomblob(8)) || '@example.com' AS mail, state "
    "FROM people WHERE (SELECT max(n) FROM c) > 0"
)


# --- the schedule ---


def trigger(folder: PeopleFolder, **schedule):
    folder.settings["schedule"] = {"jitter_seconds": 0, **schedule}
    return make_trigger(folder.config)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("*", "*"), ("0", "sun"), ("7", "sun"), ("1", "mon"), ("1-5", "mon,tue,wed,thu,fri"), ("5-7", "fri,sat,sun"),
        ("0,6", "sat,sun"), ("*/2", "tue,thu,sat,sun"), ("MON-fri", "mon,tue,wed,thu,fri"), ("sun-tue", "mon,tue,sun"),
        ("1-5/2", "mon,wed,fri"), ("sat", "sat"),
    ],
)  # fmt: skip
def test_weekdays(field, expected):
    """The weekday of a cron expression counts from Sunday, as cron does and APScheduler does not."""
    assert expected == cron_weekdays(field)


@pytest.mark.parametrize("field", ["8", "x", "1-", "-1", "", "1,,2", "1-5/0", "1-5/x", "1 2", "\u06f1"])
def test_no_weekdays(field):
    """What is no weekday is an error, not every day."""
    with pytest.raises(ValueError):
        cron_weekdays(field)


@pytest.mark.parametrize("weekday", range(8))
def test_cron_runs_on_the_day_that_cron_means(folder, weekday):
    """The next run of `0 6 * * N` is on the weekday that every cron means by N."""
    cron = trigger(folder, cron=f"0 6 * * {weekday}", timezone="UTC")
    found = cron.get_next_fire_time(None, datetime(2026, 1, 1, tzinfo=UTC))
    assert weekday % 7 == found.isoweekday() % 7
    assert (6, 0) == (found.hour, found.minute)


def test_cron_in_its_zone(folder):
    """Six in the morning is six of the named zone, in winter and in summer."""
    cron = trigger(folder, cron="0 6 * * *", timezone="Europe/Paris")
    for month, hour in ((1, 5), (7, 4)):
        found = cron.get_next_fire_time(None, datetime(2026, month, 1, tzinfo=UTC))
        assert hour == found.astimezone(UTC).hour


@pytest.mark.parametrize(
    ("interval", "jitter", "expected"), [(3600, 30, 30), (60, 30, 15), (5, 30, 1), (3600, 0, None)]
)
def test_jitter(folder, interval, jitter, expected):
    """Jitter is at most a quarter of the interval, so that runs never change places."""
    assert expected == trigger(folder, interval_seconds=interval, jitter_seconds=jitter).jitter


def test_the_first_run(folder):
    """A refresh runs at start when the snapshot is older than the schedule wants it, and only then."""
    now = datetime.now(UTC)
    hourly = trigger(folder, interval_seconds=3600)
    assert first_run(hourly, None) - now < timedelta(seconds=5)
    assert first_run(hourly, now - timedelta(hours=2)) - now < timedelta(seconds=5)
    assert first_run(hourly, now + timedelta(hours=2)) - now < timedelta(seconds=5)
    fresh = now - timedelta(minutes=20)
    assert fresh + timedelta(hours=1) == first_run(hourly, fresh)


def test_the_first_run_by_cron(folder):
    """With cron a refresh runs at start when a planned time has passed since the last publication."""
    now = datetime.now(UTC)
    hour = (now - timedelta(hours=2)).hour
    daily = trigger(folder, cron=f"0 {hour} * * *", timezone="UTC")
    assert first_run(daily, now - timedelta(days=1)) - now < timedelta(seconds=5)
    planned = first_run(daily, now - timedelta(minutes=10))
    assert (hour, 0) == (planned.hour, planned.minute)
    assert timedelta(hours=20) < planned - now < timedelta(hours=24)


# --- its word on how a refresh ended ---

COUNTS = {"rows": 1000, "users": 1000, "active": 990, "rejects": 0}
COUNTS |= {"added": 0, "changed": 0, "deactivated": 0, "removed": 0}


def outcome(state: str, **facts) -> control.RefreshOutcome:
    return control.RefreshOutcome(**{"state": state, "at": now_text(), **facts})


def told(folder: PeopleFolder, *outcomes: control.RefreshOutcome) -> Scheduler:
    """Return a scheduler whose refreshes end one after the other as told."""
    following = iter(outcomes)
    folder.data_dir.mkdir(exist_ok=True)
    return Scheduler(folder.config, refresh=lambda _config, **_options: next(following))


@pytest.fixture
def signals():
    """Give the signals back that a scheduler in this process takes."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_once_without_a_change(folder, signals, capsys):
    """--once that finds no change says so on standard output and exits 0."""
    program = told(folder, outcome("unchanged", generation=7, counts=COUNTS, seconds=1.5))
    assert 0 == program.once()
    (line,) = capsys.readouterr().out.splitlines()
    assert (
        "No change: generation 7 goes on being served: 1,000 users (990 active) from 1,000 rows, 0 rejects; 1.5 s."
        == line
    )


def test_no_change_is_a_success(folder, caplog):
    """A refresh that finds no change ends a row of failures, answers requests with `unchanged`, and is no error."""
    caplog.set_level(logging.INFO)
    found = outcome("unchanged", generation=7, counts=COUNTS)
    program = told(folder, outcome("failed", code="timeout"), outcome("failed", code="timeout"), found)
    for failures in (1, 2):
        program.refresh()
        assert failures == control.read_status(folder.data_dir).failures_in_a_row
    request = control.ask_refresh(folder.data_dir, asked_by="admin")
    caplog.clear()
    program.refresh()
    status = control.read_status(folder.data_dir)
    assert (found, found, 0) == (status.last_success, status.last_outcome, status.failures_in_a_row)
    answered = control.read_request(folder.data_dir, request.id)
    assert ("unchanged", 7, COUNTS) == (answered.state, answered.generation, answered.counts)
    assert [("INFO", "refresh found no change")] == [
        (record.levelname, record.getMessage()) for record in caplog.records
    ]


@pytest.mark.parametrize(
    ("generation", "seconds_ago", "confirmed"),
    [(1, 60, True), (1, 7200, False), (1, -3600, False), (2, 60, False)],
)
def test_a_confirmed_snapshot_is_as_good_as_a_new_one(folder, generation, seconds_ago, confirmed):
    """A refresh that found no change counts as the last good one at start, unless its time is older or impossible."""
    manifest = folder.publish(people(3))
    directory = generation_directory(folder.data_dir, 1)
    hour_ago = msgspec.structs.replace(manifest, created_ms=manifest.created_ms - 3_600_000)
    write_manifest(directory, hour_ago)
    at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    last = msgspec.structs.replace(outcome("unchanged", generation=generation), at=now_text(at))
    status = control.SchedulerStatus(
        pid=1, started_at=now_text(), updated_at=now_text(), phase="stopped", last_success=last
    )
    control.write_status(folder.data_dir, status)
    expected = now_text(at) if confirmed else now_text(datetime.fromtimestamp(hour_ago.created_ms / 1000, UTC))
    assert expected == now_text(Scheduler(folder.config).confirmed_at())


@pytest.fixture
def approved(folder):
    """A generation 2 that a refresh an hour ago was refused for, approved at the command line since."""
    folder.publish(people(50))
    folder.settings["guard"] = {"enabled": True}
    with pytest.raises(PublishRefusedError):
        folder.publish(people(5))
    hour_ago = now_text(datetime.now(UTC) - timedelta(hours=1))
    refused = outcome("refused", generation=2, code="guard", at=hour_ago)
    status = control.SchedulerStatus(
        pid=1, started_at=now_text(), updated_at=now_text(), phase="idle", last_outcome=refused, failures_in_a_row=4
    )
    control.write_status(folder.data_dir, status)
    return folder


def test_an_approval_at_the_command_line_is_noticed(approved):
    """The refusal is settled as by an approval over HTTP, with the time at which the rows were read."""
    program = Scheduler(approved.config)
    refused = program._status.last_outcome
    program.tick()
    assert refused == program._status.last_outcome
    decide(approved.config, "approve", 2)
    program.tick()
    status = control.read_status(approved.data_dir)
    assert status.last_success == status.last_outcome
    assert ("published", 2, refused.at, 0) == (
        status.last_outcome.state,
        status.last_outcome.generation,
        status.last_outcome.at,
        status.failures_in_a_row,
    )
    assert (50, 45) == (status.last_outcome.counts["users"], status.last_outcome.counts["removed"])
    assert refused.at == now_text(program.confirmed_at())


@pytest.mark.parametrize("known", [True, False])
def test_an_approval_over_http_is_no_fresher(approved, known):
    """What is approved over HTTP keeps the time of the refused refresh, or else that of its own manifest."""
    manifest = read_manifest(quarantine_directory(approved.data_dir, 2))
    program = Scheduler(approved.config)
    refused = program._status.last_outcome
    if not known:
        program._status = msgspec.structs.replace(program._status, last_outcome=None)
    control.ask_decision(approved.data_dir, "approve", 2, content=manifest.content, asked_by="admin")
    program.decide()
    success = control.read_status(approved.data_dir).last_success
    assert (2, refused.at if known else manifest.created_at) == (success.generation, success.at)


def test_only_its_own_refusal_is_settled(approved):
    """Another generation in force, a refresh that runs, or a failure since: the last outcome stays what it was."""
    program = Scheduler(approved.config)
    last = program._status.last_outcome
    program._status = msgspec.structs.replace(program._status, last_outcome=outcome("refused", generation=3))
    decide(approved.config, "approve", 2)
    program.tick()
    assert 3 == program._status.last_outcome.generation
    program._status = msgspec.structs.replace(program._status, last_outcome=last)
    with program._running:
        program.tick()
    assert last == program._status.last_outcome
    program.tick()
    assert "published" == program._status.last_outcome.state


# --- as a process ---

slow = pytest.mark.slow


@slow
def test_once(folder):
    """--once publishes, says so in one line, and exits 0; the status tells it too."""
    folder.fill(people(3))
    done = run(folder, "--once")
    assert 0 == done.returncode, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("Published generation 1: 3 users (3 active) from 3 rows, 0 rejects;")
    status = control.read_status(folder.data_dir)
    assert ("stopped", 1, 0) == (status.phase, status.last_success.generation, status.failures_in_a_row)


@slow
def test_requests_that_cannot_be_answered(folder):
    """A damaged requests folder is a warning in the log; the refresh runs all the same."""
    folder.fill(people(3))
    folder.data_dir.mkdir()
    (folder.data_dir / "requests").write_text("a file")
    done = run(folder, "--once")
    assert 0 == done.returncode, done.stderr
    assert "the requests cannot be read or answered" in done.stderr
    assert 3 == len(folder.users())


@slow
def test_once_fails(folder):
    """A source that fails: exit code 1, one line with cause and remedy, and what is served stays."""
    folder.publish(people(3))
    before = sorted(path.name for path in generation_directory(folder.data_dir, 1).iterdir())
    folder.settings["source"]["users"] = {"table": "peple"}
    folder.settings["log"] = {"level": "error"}
    done = run(folder, "--once")
    assert 1 == done.returncode
    line = done.stderr.splitlines()[-1]
    assert "Refresh failed: people.db: no such table: peple. Check source.users.table." == line
    assert "Traceback" not in done.stderr
    assert 1 == read_current(folder.data_dir)
    assert before == sorted(path.name for path in generation_directory(folder.data_dir, 1).iterdir())
    assert 3 == len(folder.users())
    assert 1 == control.read_status(folder.data_dir).failures_in_a_row


@slow
def test_once_refused(folder):
    """A generation that the guard refuses: exit code 3 and the command that approves it."""
    folder.publish(people(50))
    folder.settings["guard"] = {"enabled": True}
    folder.fill(people(5))
    done = run(folder, "--once")
    assert 3 == done.returncode
    assert "python -m snapshot quarantine approve 2" in done.stderr
    assert 50 == len(folder.users())


@slow
def test_check(folder):
    """--check connects, compares columns and publishes nothing; a missing column is exit code 1 and named."""
    folder.fill(people(3))
    done = run(folder, "--check")
    assert 0 == done.returncode, done.stderr
    assert "4 columns: id, login, mail, state" in done.stdout
    folder.settings["mapping"]["title"] = "statee"
    done = run(folder, "--check")
    assert 1 == done.returncode
    assert 'mapping.title: found no column "statee"' in done.stderr
    assert "did you mean state?" in done.stderr
    assert not folder.data_dir.exists()


@slow
def test_a_bad_configuration(folder):
    """Exit code 2 and every problem, one line each; nothing is connected to or written."""
    folder.settings |= {"sorce": {}, "schedule": {"cron": "0 6 * * *"}, "log": {"level": "loud"}}
    done = run(folder)
    assert 2 == done.returncode
    lines = done.stderr.splitlines()
    assert ["log.level", "schedule.timezone", "sorce"] == sorted(line.split(": ")[1] for line in lines)
    assert not folder.data_dir.exists()


@slow
@pytest.mark.parametrize("cron", ["0 6 * *", "61 6 * * *", "0 6 * * 8", "@daily"])
def test_a_bad_cron_expression(folder, cron):
    """Exit code 2 and one line that shows the expression."""
    folder.settings["schedule"] = {"cron": cron, "timezone": "UTC"}
    done = run(folder)
    assert 2 == done.returncode
    (line,) = done.stderr.splitlines()
    assert f'schedule.cron: found "{cron}"' in line
    assert "expected five fields: minute hour day month weekday" in line


@slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_from_start_to_stop(folder):
    """At start an empty folder gets its first generation; requests are answered; a second scheduler is refused."""
    folder.fill(people(3))
    with running(folder) as process:
        status = wait_for(folder, process, lambda status: status.last_success is not None)
        assert (1, "idle") == (status.last_success.generation, status.phase)
        planned = datetime.fromisoformat(status.next_run_at) - datetime.now(UTC)
        assert timedelta(minutes=58) < planned < timedelta(minutes=62)

        second = run(folder)
        assert 1 == second.returncode
        (line,) = second.stderr.splitlines()
        assert f"SCHEDULER.LOCK is held by another process (process {process.pid})." in line

        folder.fill(people(4))
        request = control.ask_refresh(folder.data_dir, asked_by="test")
        wait_for(folder, process, lambda status: status.last_success.generation == 2)
        answered = control.read_request(folder.data_dir, request.id)
        assert ("published", 2, 4) == (answered.state, answered.generation, answered.counts["users"])

        folder.fill([])
        with folder.open() as database:
            database.execute("DROP TABLE people")
        request = control.ask_refresh(folder.data_dir, asked_by="test")
        status = wait_for(folder, process, lambda status: status.failures_in_a_row == 1)
        answered = control.read_request(folder.data_dir, request.id)
        assert ("failed", "Check source.users.table.") == (answered.state, answered.remedy)
        assert 2 == status.last_success.generation
        log = stop(process, signal.SIGINT)
    assert "Traceback" not in log
    status = control.read_status(folder.data_dir)
    assert ("stopped", False) == (status.phase, status.alive)
    assert 2 == read_current(folder.data_dir)


@slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_fresh_snapshot_is_not_read_again(folder):
    """At start a snapshot that is younger than the interval is left as it is; the next run comes in time."""
    folder.publish(people(3))
    with running(folder) as process:
        status = wait_for(folder, process, lambda status: bool(status.next_run_at))
        time.sleep(1.0)
        assert 1 == read_current(folder.data_dir)
        created = read_manifest(generation_directory(folder.data_dir, 1)).created_at
        planned = datetime.fromisoformat(created) + timedelta(hours=1)
        assert planned == datetime.fromisoformat(status.next_run_at)
        stop(process)
    folder.settings["mapping"]["title"] = "mail"
    with running(folder) as process:
        wait_for(folder, process, lambda status: status.last_success is not None)
        assert 2 == read_current(folder.data_dir)


@slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_requests_while_one_runs(folder):
    """Requests that come while a refresh runs are answered together by one more refresh."""
    folder.publish(people(3))
    folder.settings["source"]["users"] = {"query": SLOW}
    with running(folder) as process:
        wait_for(folder, process, lambda status: status.phase == "refreshing")
        asked = {control.ask_refresh(folder.data_dir, asked_by=str(number)).id for number in range(5)}
        (request_id,) = asked
        assert "queued" == control.read_request(folder.data_dir, request_id).state
        wait_for(folder, process, lambda status: status.last_success and status.last_success.generation == 3)
        time.sleep(1.5)
        assert 3 == read_current(folder.data_dir)
        assert 3 == control.read_request(folder.data_dir, request_id).generation
        stop(process)


@slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_in_mid_refresh(folder, number):
    """SIGTERM or Ctrl-C in the middle of a refresh: exit code 0 within seconds and no half generation."""
    folder.publish(people(3))
    folder.settings["source"]["users"] = {"query": ENDLESS}
    request = control.ask_refresh(folder.data_dir, asked_by="test")
    with running(folder) as process:
        status = wait_for(folder, process, lambda status: bool(status.progress and status.progress.rows))
        assert ("refreshing", "read") == (status.phase, status.progress.phase)
        began = time.monotonic()
        log = stop(process, number)
        assert time.monotonic() - began < 8
    assert "Traceback" not in log
    assert not list(folder.data_dir.glob(".creating-*"))
    assert 1 == read_current(folder.data_dir)
    answered = control.read_request(folder.data_dir, request.id)
    assert ("failed", "The scheduler was stopped during the refresh.") == (answered.state, answered.reason)
    status = control.read_status(folder.data_dir)
    assert ("stopped", 0) == (status.phase, status.failures_in_a_row)


@slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_scheduler_that_was_killed(folder):
    """After a kill the next scheduler answers what was left as running, and goes on from what was published."""
    folder.publish(people(3))
    folder.settings["source"]["users"] = {"query": ENDLESS}
    request = control.ask_refresh(folder.data_dir, asked_by="test")
    with running(folder) as process:
        wait_for(folder, process, lambda status: bool(status.progress and status.progress.rows))
        process.kill()
        process.wait()
    assert "running" == control.read_request(folder.data_dir, request.id).state
    assert (
        msgspec.structs.replace(control.read_status(folder.data_dir), updated_at="2020-01-01T00:00:00Z").alive is False
    )
    folder.settings["source"]["users"] = {"table": "people"}
    folder.fill(people(4))
    done = run(folder, "--once")
    assert 0 == done.returncode, done.stderr
    assert 2 == read_current(folder.data_dir)
    answered = control.read_request(folder.data_dir, request.id)
    assert ("failed", "The scheduler stopped during this refresh.") == (answered.state, answered.reason)
    assert not list(folder.data_dir.glob(".creating-*"))


def test_the_zone_of_the_schedule_is_the_configured_one(folder):
    """The trigger keeps the named zone, not the machine's."""
    assert ZoneInfo("Asia/Tokyo") == trigger(folder, cron="0 6 * * *", timezone="Asia/Tokyo").timezone
