"""The pause after a refused login: in numbers, and with a real driver against a server that refuses."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from people_folder import people
from scheduler_fixtures import running, stop, wait_for
from sqlserver_fixtures import MAPPING, SETTINGS, Authority, source_of
from tds_clients import make_people
from tds_server import Fault, FaultKind, TdsServer

from scheduler import Scheduler
from snapshot import control
from snapshot.logs import now_text
from snapshot.pause import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, LoginPause

if TYPE_CHECKING:
    from pathlib import Path

MINUTE = 60.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_pause_doubles():
    """15 minutes after the first refusal, doubled by each further one, six hours at most."""
    clock = Clock()
    pause = LoginPause(clock=clock)
    found = []
    for _ in range(8):
        pause.note("login_refused")
        found.append(pause.seconds_left / MINUTE)
        clock.now += pause.seconds_left
    assert [15, 30, 60, 120, 240, 360, 360, 360] == found
    assert (15 * MINUTE, 360 * MINUTE) == (FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)


def test_the_pause_ends():
    """There is no pause before a refusal nor when its time is over."""
    clock = Clock()
    pause = LoginPause(clock=clock)
    assert 0 == pause.seconds_left
    pause.note("login_refused")
    clock.now += FIRST_PAUSE_SECONDS - 1
    assert 1 == pause.seconds_left
    clock.now += 2
    assert 0 == pause.seconds_left


@pytest.mark.parametrize("code", ["", "guard", "permission", "missing_column", "query", "connection_lost", "timeout"])
def test_a_login_that_is_not_refused_ends_it(code):
    """What can only come after the login ends the pause, and the next refusal counts as the first."""
    pause = LoginPause(clock=Clock())
    pause.note("login_refused")
    pause.note("login_refused")
    pause.note(code)
    assert 0 == pause.seconds_left
    pause.note("login_refused")
    assert FIRST_PAUSE_SECONDS == pause.seconds_left


@pytest.mark.parametrize("code", ["unreachable", "certificate", "lockheld", "store", "stopped", "deadline", "mapping"])
def test_what_asked_for_no_login_leaves_it(code):
    """What says nothing of the password neither ends the pause nor makes it longer, and the doubling goes on."""
    clock = Clock()
    pause = LoginPause(clock=clock)
    pause.note("login_refused")
    clock.now += MINUTE
    pause.note(code)
    assert FIRST_PAUSE_SECONDS - MINUTE == pause.seconds_left
    clock.now += FIRST_PAUSE_SECONDS
    pause.note(code)
    assert 0 == pause.seconds_left
    pause.note("login_refused")
    assert 2 * FIRST_PAUSE_SECONDS == pause.seconds_left


def test_who_waits(folder, caplog):
    """During a pause the schedule refreshes nothing, a person's word does; each pause is told once, with its end."""
    folder.fill(people(3)).data_dir.mkdir()
    codes = iter(["login_refused", "unreachable", "login_refused", "", "unreachable"])
    begun = []

    def refresh(_config, **_options):
        begun.append(code := next(codes))
        return control.RefreshOutcome(state="failed" if code else "published", at=now_text(), code=code)

    def pauses() -> list[str]:
        return [record.facts["until"] for record in caplog.records if "scheduled refreshes wait" in record.getMessage()]

    program = Scheduler(folder.config, refresh=refresh)
    for _ in range(3):
        program.refresh_by_schedule()
    assert ["login_refused"] == begun
    first = control.read_status(folder.data_dir).paused_until
    assert [first] == pauses()
    left = datetime.fromisoformat(first) - datetime.now(UTC)
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)

    program.refresh()
    program.refresh_by_schedule()
    assert ["login_refused", "unreachable"] == begun
    assert first == control.read_status(folder.data_dir).paused_until
    assert [first] == pauses()

    program.refresh()
    program.refresh_by_schedule()
    assert 3 == len(begun)
    second = control.read_status(folder.data_dir).paused_until
    assert [first, second] == pauses()
    assert datetime.fromisoformat(second) - datetime.now(UTC) > timedelta(minutes=29)

    program.refresh()
    assert "" == control.read_status(folder.data_dir).paused_until
    program.refresh_by_schedule()
    assert ["login_refused", "unreachable", "login_refused", "", "unreachable"] == begun


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_wrong_password_is_tried_once(folder, tmp_path: Path):
    """Over three intervals a refused login is tried once; a person's word is the second try, a restart the third."""
    authority = Authority(tmp_path)
    with TdsServer(make_people(tmp_path), certificate=authority.certificate(), **SETTINGS) as server:
        server.fault(Fault(FaultKind.REFUSE_LOGIN))
        folder.settings["source"] = {**source_of(server), "users": {"table": "dbo.Users"}}
        folder.settings["mapping"] = MAPPING
        folder.settings["schedule"] = {"interval_seconds": 5, "jitter_seconds": 0}
        folder.settings["log"] = {"format": "json"}
        with running(folder) as process:
            status = wait_for(folder, process, lambda status: status.last_outcome is not None)
            assert "login_refused" == status.last_outcome.code
            assert 1 == len(server.logins)
            connections = len(server.sessions)
            time.sleep(16)
            assert (1, connections) == (len(server.logins), len(server.sessions))
            status = control.read_status(folder.data_dir)
            assert (1, status.paused_until) == (status.failures_in_a_row, status.next_run_at)
            assert status.alive

            request = control.ask_refresh(folder.data_dir, asked_by="test")
            wait_for(folder, process, lambda status: status.failures_in_a_row == 2)
            assert 2 == len(server.logins)
            assert "failed" == control.read_request(folder.data_dir, request.id).state
            log = stop(process)
        assert 2 == log.count("scheduled refreshes wait")
        with running(folder) as process:
            wait_for(folder, process, lambda status: status.failures_in_a_row == 3)
            assert 3 == len(server.logins)
            stop(process)
