"""Decisions that were asked for over HTTP: the scheduler carries them out, in order and bound to what was seen."""

from __future__ import annotations

import logging
import os
import signal
import threading

import msgspec
import pytest
from people_folder import PeopleFolder, people
from scheduler_fixtures import running, stop, wait_for

from scheduler import Scheduler
from snapshot import control, decisions
from snapshot.errors import PublishRefusedError
from snapshot.logs import now_text
from snapshot.store import QUARANTINE, list_numbers, quarantine_directory, read_current, read_manifest, writer_lock


@pytest.fixture
def waiting(folder):
    """A published generation 1 of 50 people, and generation 2 of 5 in quarantine."""
    folder.publish(people(50))
    folder.settings["guard"] = {"enabled": True}
    refuse(folder, 5)
    return folder


def refuse(folder: PeopleFolder, count: int) -> int:
    with pytest.raises(PublishRefusedError) as caught:
        folder.publish(people(count))
    return caught.value.generation


def ask(folder: PeopleFolder, kind: str, number: int, *, content: str | None = None) -> control.RefreshRequest:
    """Ask as the server does: bound to the content that is there, unless told."""
    if content is None:
        content = read_manifest(quarantine_directory(folder.data_dir, number)).content
    return control.ask_decision(folder.data_dir, kind, number, content=content, asked_by="admin")


def answer(folder: PeopleFolder, request: control.RefreshRequest) -> control.RefreshRequest:
    found = control.read_request(folder.data_dir, request.id)
    assert found is not None
    assert found.finished_at
    return found


def events(caplog) -> list[tuple[str, str, dict]]:
    return [(record.levelname, record.getMessage(), record.facts) for record in caplog.records]


def test_approve(waiting, caplog):
    """An approved generation is published; request, log and status say so, and who decided."""
    caplog.set_level(logging.INFO)
    request = ask(waiting, "approve", 2)
    program = Scheduler(waiting.config)
    program.decide()
    assert (2, []) == (read_current(waiting.data_dir), list_numbers(waiting.data_dir / QUARANTINE))
    answered = answer(waiting, request)
    assert ("published", 2, 5) == (answered.state, answered.generation, answered.counts["rows"])
    assert [("INFO", "quarantine approved", {"generation": 2, "who": "http:admin"})] == events(caplog)
    status = control.read_status(waiting.data_dir)
    assert ("published", 2) == (status.last_success.state, status.last_success.generation)
    assert [] == control.list_decisions(waiting.data_dir)


def test_reject(waiting, caplog):
    """A rejected generation is removed, and what is served stays."""
    caplog.set_level(logging.INFO)
    request = ask(waiting, "reject", 2)
    Scheduler(waiting.config).decide()
    assert (1, []) == (read_current(waiting.data_dir), list_numbers(waiting.data_dir / QUARANTINE))
    answered = answer(waiting, request)
    assert ("rejected", None, 2) == (answered.state, answered.generation, answered.target)
    assert [("INFO", "quarantine rejected", {"generation": 2, "who": "http:admin"})] == events(caplog)


def test_the_word_of_the_scheduler_reaches_the_decision(waiting, monkeypatch):
    """Who asked and what they saw is handed on as it was asked, for the record of decisions."""
    seen = []

    def note(_folder, number, *, who, content):
        seen.append((number, who, content))

    monkeypatch.setattr(decisions, "reject", note)
    ask(waiting, "reject", 2, content="abc")
    Scheduler(waiting.config).decide()
    assert [(2, "http:admin", "abc")] == seen


@pytest.mark.parametrize("kind", ["approve", "reject"])
def test_other_content(waiting, kind, caplog):
    """A decision on other content than what waits now fails with a reason, and changes nothing."""
    request = ask(waiting, kind, 2, content="0" * 32)
    Scheduler(waiting.config).decide()
    answered = answer(waiting, request)
    assert "failed" == answered.state
    assert "other content" in answered.reason
    assert answered.remedy
    assert (1, [2]) == (read_current(waiting.data_dir), list_numbers(waiting.data_dir / QUARANTINE))
    ((level, event, facts),) = events(caplog)
    assert ("ERROR", "quarantine decision failed") == (level, event)
    assert (kind, 2, "http:admin", answered.reason) == tuple(
        facts[name] for name in ("kind", "generation", "who", "reason")
    )


def test_decisions_go_in_order(waiting):
    """The first word on a generation holds; a later one finds it gone and says so."""
    refuse(waiting, 4)
    asked = [
        ask(waiting, "reject", 3),
        ask(waiting, "approve", 2),
        ask(waiting, "reject", 2),
        ask(waiting, "approve", 99, content=""),
    ]
    Scheduler(waiting.config).decide()
    assert ["rejected", "published", "failed", "failed"] == [answer(waiting, request).state for request in asked]
    assert "No generation 2 is in quarantine" in answer(waiting, asked[2]).reason
    times = [answer(waiting, request).started_at for request in asked]
    assert sorted(times) == times
    assert 2 == read_current(waiting.data_dir)


def test_a_decision_comes_before_the_refresh_that_would_make_it_void(waiting):
    """What was decided before a refresh is carried out before it, and is not answered as a refresh."""
    request = ask(waiting, "approve", 2)
    wanted = control.ask_refresh(waiting.data_dir, asked_by="admin")
    done = control.RefreshOutcome(state="unchanged", at=now_text(), generation=2)
    current = []

    def refresh(config, **_options):
        current.append(read_current(config.data_dir))
        return done

    Scheduler(waiting.config, refresh=refresh).refresh()
    assert [2] == current
    assert ("published", 2) == (answer(waiting, request).state, answer(waiting, request).generation)
    assert "unchanged" == answer(waiting, wanted).state


def test_a_decision_waits_for_the_refresh_that_runs(waiting):
    """While a refresh runs nothing is decided."""
    began, go_on = threading.Event(), threading.Event()

    def refresh(_config, **_options):
        began.set()
        assert go_on.wait(20)
        return control.RefreshOutcome(state="failed", at=now_text())

    program = Scheduler(waiting.config, refresh=refresh)
    refreshing = threading.Thread(target=program.refresh)
    refreshing.start()
    assert began.wait(20)
    request = ask(waiting, "reject", 2)
    deciding = threading.Thread(target=program.decide)
    deciding.start()
    deciding.join(0.5)
    assert deciding.is_alive()
    assert "queued" == control.read_request(waiting.data_dir, request.id).state
    go_on.set()
    for thread in (refreshing, deciding):
        thread.join(20)
    assert "rejected" == answer(waiting, request).state


def test_a_decision_waits_for_the_lock(waiting):
    """A lock that somebody holds for a moment is waited for."""
    request = ask(waiting, "reject", 2)
    deciding = threading.Thread(target=Scheduler(waiting.config).decide)
    with writer_lock(waiting.data_dir):
        deciding.start()
        deciding.join(0.5)
        assert "running" == control.read_request(waiting.data_dir, request.id).state
    deciding.join(20)
    assert "rejected" == answer(waiting, request).state


def test_a_lock_that_stays_held(waiting, monkeypatch):
    """If the lock stays held the decision fails with a reason and nothing is changed."""
    monkeypatch.setattr(decisions, "_LOCK_SECONDS", 0.2)
    request = ask(waiting, "reject", 2)
    with writer_lock(waiting.data_dir):
        Scheduler(waiting.config).decide()
    answered = answer(waiting, request)
    assert "failed" == answered.state
    assert "LOCK is held by another process" in answered.reason
    assert [2] == list_numbers(waiting.data_dir / QUARANTINE)


@pytest.mark.parametrize(
    ("last", "outcome", "failures"),
    [(("refused", 2), "published", 0), (("refused", 3), "refused", 4), (("failed", None), "failed", 4)],
)
def test_an_approval_settles_its_own_refusal_only(waiting, last, outcome, failures):
    """Approving ends a row of failures only if the last refresh was the one that made this generation."""
    state, generation = last
    refused = control.RefreshOutcome(state=state, at=now_text(), generation=generation)
    status = control.SchedulerStatus(
        pid=1, started_at=now_text(), updated_at=now_text(), phase="idle", last_outcome=refused, failures_in_a_row=4
    )
    control.write_status(waiting.data_dir, status)
    program = Scheduler(waiting.config)
    ask(waiting, "approve", 2)
    program.decide()
    found = control.read_status(waiting.data_dir)
    assert (outcome, failures, 2) == (found.last_outcome.state, found.failures_in_a_row, found.last_success.generation)


def test_an_unforeseen_error_is_an_answer_too(waiting, monkeypatch, caplog):
    """A fault of ours is told in the request and the log, and the next decision is carried out."""

    def fail(*_arguments, **_options):
        raise ValueError("unforeseen")

    monkeypatch.setattr(decisions, "approve", fail)
    asked = [ask(waiting, "approve", 2), ask(waiting, "reject", 2)]
    Scheduler(waiting.config).decide()
    assert ["failed", "rejected"] == [answer(waiting, request).state for request in asked]
    assert "ValueError" in answer(waiting, asked[0]).reason
    assert any(record.exc_info for record in caplog.records)


def test_a_decision_that_a_dead_scheduler_left(waiting):
    """A decision left as running is answered as failed at the next start, and is not carried out again."""
    request = control.begin_request(waiting.data_dir, ask(waiting, "approve", 2))
    Scheduler(waiting.config)._abandon_requests()
    answered = answer(waiting, request)
    assert ("failed", "The scheduler stopped while it carried this out.") == (answered.state, answered.reason)
    assert 1 == read_current(waiting.data_dir)


def test_a_request_without_a_generation(waiting):
    """A decision that names no generation, as no program of ours writes it, fails."""
    request = msgspec.structs.replace(ask(waiting, "approve", 2), target=None)
    control.write_request(waiting.data_dir, request)
    Scheduler(waiting.config).decide()
    assert ("failed", 1) == (answer(waiting, request).state, read_current(waiting.data_dir))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_running_scheduler_decides(waiting):
    """A running scheduler carries a decision out within moments and refreshes nothing for it."""
    with running(waiting) as process:
        wait_for(waiting, process, lambda status: status.phase == "idle" and bool(status.next_run_at))
        request = ask(waiting, "approve", 2)
        wait_for(waiting, process, lambda status: status.last_success is not None)
        assert "published" == answer(waiting, request).state
        assert (2, []) == (read_current(waiting.data_dir), list_numbers(waiting.data_dir / QUARANTINE))
        log = stop(process, signal.SIGTERM)
    assert 1 == log.count("quarantine approved")
    assert "refresh published" not in log
