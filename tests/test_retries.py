"""What a refresh does again by itself, and above all what not: real pymssql over a real socket to the TDS test server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlserver_fixtures import PASSWORD, SETTINGS, Authority, make_config
from tds_clients import make_people
from tds_server import Fault, TdsServer

from snapshot.store import list_numbers, read_current
from snapshot.worker import refresh_with_deadline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snapshot.config import Config
    from snapshot.control import Progress, RefreshOutcome

ROWS = r"SELECT \*"
DEADLOCK = "SQL Server chose this read as the victim of a deadlock."
DEAD = "The connection to SQL Server is dead."


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TdsServer]:
    certificate = Authority(tmp_path).certificate()
    with TdsServer(make_people(tmp_path), certificate=certificate, **SETTINGS) as running:
        yield running
        assert [] == [log.failure for log in running.sessions if log.failure]


def config_of(folder: Path, server: TdsServer, **source: Any) -> Config:
    return make_config(folder, server, **{"retries": 2, "retry_seconds": 0.05, **source})


def refresh(config: Config) -> tuple[RefreshOutcome, list[Progress]]:
    """Refresh as the scheduler does; return how it ended and the pauses before further attempts."""
    seen: list[Progress] = []
    outcome = refresh_with_deadline(config, on_progress=seen.append)
    return outcome, [progress for progress in seen if progress.phase == "retry"]


@pytest.mark.parametrize(
    ("kind", "match", "after_rows", "cause"),
    [
        ("deadlock", ROWS, 1, DEADLOCK),
        ("deadlock", "COUNT_BIG", 0, DEADLOCK),
        ("reset", ROWS, 1, DEAD),
        ("close", ROWS, 0, "SQL Server closed the connection in the middle of a result."),
    ],
    ids=["deadlock", "deadlock-in-count", "reset", "close"],
)
def test_one_failure_is_overcome(
    server: TdsServer, tmp_path: Path, kind: str, match: str, after_rows: int, cause: str
) -> None:
    """After a deadlock or a lost connection everything is read again, on a new connection, and a warning says so."""
    server.fault(Fault(kind, match=match, after_rows=after_rows, times=1))
    outcome, pauses = refresh(config_of(tmp_path, server))
    assert ("published", 1, 2, "") == (outcome.state, outcome.generation, outcome.attempts, outcome.reason)
    assert 3 == outcome.counts["rows"]
    assert f"The source was read at attempt 2, after: {cause}" == outcome.warnings[-1]
    assert [0.1] == [pause.seconds_left for pause in pauses]
    assert ["BEGIN TRANSACTION"] * 2 == [
        statement.sql for log in server.sessions for statement in log.statements if "BEGIN" in statement.sql
    ]
    assert 2 == len(server.logins) == len(server.sessions)


def test_without_failure_nothing_is_said(server: TdsServer, tmp_path: Path) -> None:
    """A refresh that succeeds at once is one attempt, without warning."""
    outcome, pauses = refresh(config_of(tmp_path, server))
    assert ("published", 1, (), []) == (outcome.state, outcome.attempts, outcome.warnings, pauses)


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (2, 3)])
def test_a_deadlock_each_time(server: TdsServer, tmp_path: Path, retries: int, attempts: int) -> None:
    """When the retries are used up the refresh has failed of the deadlock, and says how often it was tried."""
    server.fault(Fault("deadlock", match=ROWS, after_rows=1))
    config = config_of(tmp_path, server, retries=retries)
    outcome, pauses = refresh(config)
    assert ("failed", "deadlock", attempts) == (outcome.state, outcome.code, outcome.attempts)
    assert DEADLOCK + (f" {attempts} attempts were made." if retries else "") == outcome.reason
    assert "SNAPSHOT isolation avoids this (source.isolation). It is read again at the next refresh." == outcome.remedy
    assert attempts == len(server.logins)
    assert retries == len(pauses)
    assert [] == [path.name for path in config.data_dir.glob(".creating-*")]
    assert (None, []) == (read_current(config.data_dir), list_numbers(config.data_dir / "generations"))


def test_each_pause_is_twice_the_one_before(server: TdsServer, tmp_path: Path) -> None:
    """The pauses are source.retry_seconds and then doubled; they are really waited for."""
    server.fault(Fault("reset", match=ROWS))
    began = time.monotonic()
    outcome, pauses = refresh(config_of(tmp_path, server, retries=3, retry_seconds=0.2))
    assert [0.2, 0.4, 0.8] == [pause.seconds_left for pause in pauses]
    assert time.monotonic() - began > 1.4
    assert ("connection_lost", 4) == (outcome.code, outcome.attempts)


def test_another_failure_after_the_first_ends_it(server: TdsServer, tmp_path: Path) -> None:
    """A retry that fails of something that is not retried is the last one, and both causes are told."""
    server.fault(Fault("deadlock", match=ROWS, times=1))
    server.fault(Fault("refuse-login", connection=2))
    outcome, _ = refresh(config_of(tmp_path, server))
    assert ("login_refused", 2) == (outcome.code, outcome.attempts)
    assert f"SQL Server refused the login of scim_reader. 2 attempts were made: {DEADLOCK}" == outcome.reason
    assert 2 == len(server.logins)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault("refuse-login"), "login_refused"),
        (Fault("refuse-login", number=18486, message="The account is locked out."), "login_refused"),
        (Fault("refuse-login", number=18470, message="The account is disabled."), "login_refused"),
        (Fault("refuse-login", number=18468, message="The password is too old."), "login_refused"),
        (Fault("refuse-login", number=40613, message="The database is not available."), "unreachable"),
        (Fault("refuse-login", number=1205, message="A deadlock."), "unreachable"),
        (Fault("refuse-login", number=3952, message="No snapshot."), "unreachable"),
        (Fault("refuse-login", number=4060, message="Cannot open the database."), "permission"),
        (Fault("close-login"), "unreachable"),
        (Fault("reset-login"), "unreachable"),
        (Fault("silent-login"), "unreachable"),
    ],
    ids=[
        "password",
        "locked",
        "disabled",
        "policy",
        "unavailable",
        "deadlock",
        "isolation",
        "database",
        "close",
        "reset",
        "silence",
    ],
)
def test_one_refresh_is_one_login(server: TdsServer, tmp_path: Path, fault: Fault, code: str) -> None:
    """Whatever goes wrong during the login, the server sees one login: failed ones are counted, and lock the account."""
    server.fault(fault)
    outcome, pauses = refresh(config_of(tmp_path, server, login_timeout_seconds=1))
    assert ("failed", code, 1, []) == (outcome.state, outcome.code, outcome.attempts, pauses)
    assert 1 == len(server.logins)
    assert outcome.reason
    assert outcome.remedy
    assert PASSWORD not in outcome.reason + outcome.remedy


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault("silence", match=ROWS, after_rows=1), "timeout"),
        (Fault("permission", match=ROWS), "permission"),
        (Fault("error", match=ROWS, number=1222, message="Lock request time out."), "timeout"),
        (Fault("done-error", match=ROWS, after_rows=1), "truncated"),
    ],
    ids=["timeout", "permission", "lock", "truncated"],
)
def test_nothing_else_is_tried_again(server: TdsServer, tmp_path: Path, fault: Fault, code: str) -> None:
    """What a second attempt would not mend, or would burden the server with, is left to the next refresh."""
    server.fault(fault)
    outcome, pauses = refresh(config_of(tmp_path, server, query_timeout_seconds=1))
    assert ("failed", code, 1, []) == (outcome.state, outcome.code, outcome.attempts, pauses)
    assert 1 == len(server.logins)


def test_a_certificate_that_is_not_trusted_is_tried_once(server: TdsServer, tmp_path: Path) -> None:
    """Neither the refresh nor the question why it failed sends a login to a server that is not trusted."""
    outcome, pauses = refresh(config_of(tmp_path, server, tls={}))
    assert ("certificate", 1, []) == (outcome.code, outcome.attempts, pauses)
    assert ([], 2) == (server.logins, len(server.sessions))


def test_the_deadline_ends_a_pause(server: TdsServer, tmp_path: Path) -> None:
    """A pause is no way round schedule.deadline_seconds."""
    server.fault(Fault("deadlock", match=ROWS))
    config = config_of(tmp_path, server, retry_seconds=60.0, deadline_seconds=2)
    began = time.monotonic()
    outcome, pauses = refresh(config)
    assert time.monotonic() - began < 8
    assert ("failed", "deadline", 1) == (outcome.state, outcome.code, len(pauses))
