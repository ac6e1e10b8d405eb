"""The notes between the two processes."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from snapshot import control
from snapshot.control import RefreshOutcome, SchedulerStatus
from snapshot.errors import StoreError
from snapshot.logs import now_text

PUBLISHED = RefreshOutcome(state="published", at="2026-01-01T00:00:00Z", generation=7, counts={"users": 3})


def status(**changes) -> SchedulerStatus:
    return SchedulerStatus(**{"pid": 1, "started_at": now_text(), "updated_at": now_text(), "phase": "idle", **changes})


def test_several_requests_become_one(tmp_path):
    """While a request is queued, asking again gives the same one; while it runs, a new one."""
    first = control.ask_refresh(tmp_path, asked_by="a")
    assert first == control.ask_refresh(tmp_path, asked_by="b")
    (taken,) = control.take_requests(tmp_path)
    assert (first.id, "running") == (taken.id, taken.state)
    second = control.ask_refresh(tmp_path, asked_by="c")
    assert first.id != second.id
    assert second == control.ask_refresh(tmp_path, asked_by="d")


def test_the_life_of_a_request(tmp_path):
    """A request is queued, running, then answered with how its refresh ended."""
    request = control.ask_refresh(tmp_path, asked_by="admin")
    assert ("queued", "admin") == (request.state, control.read_request(tmp_path, request.id).asked_by)
    taken = control.take_requests(tmp_path)
    assert [] == control.take_requests(tmp_path)
    assert "running" == control.read_request(tmp_path, request.id).state
    control.answer_requests(tmp_path, taken, PUBLISHED)
    answered = control.read_request(tmp_path, request.id)
    assert ("published", 7, {"users": 3}) == (answered.state, answered.generation, answered.counts)
    failed = RefreshOutcome(state="failed", at="x", reason="Cause.", remedy="Remedy.")
    control.answer_requests(tmp_path, taken, failed)
    answered = control.read_request(tmp_path, request.id)
    assert ("failed", "Cause.", "Remedy.") == (answered.state, answered.reason, answered.remedy)


@pytest.mark.parametrize(
    "request_id", ["", "../status", "..", "a" * 31, "A" * 32, "g" * 32, "a" * 32 + "\n", "a" * 33, "/etc/x"]
)
def test_what_is_no_id(tmp_path, request_id):
    """Only 32 hex digits are looked up: nothing leads out of the folder."""
    control.write_status(tmp_path, status())
    (tmp_path / "requests").mkdir()
    assert control.read_request(tmp_path, request_id) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"id": 5}', b"\0" * 100, b" " * (1 << 21),
     b'{"id": "../status", "requested_at": "x"}', b'{"id": "%s", "requested_at": "x"}' % (b"b" * 32)],
)  # fmt: skip
def test_garbage_is_ignored(tmp_path, content):
    """A file that is no request, or that would be answered under another name, is as if it were not there."""
    request = control.ask_refresh(tmp_path, asked_by="a")
    garbage = tmp_path / "requests" / f"{'a' * 32}.json"
    garbage.write_bytes(content)
    (tmp_path / "requests" / "notes.json").mkdir()
    assert [request] == control.list_requests(tmp_path)
    assert control.read_request(tmp_path, "a" * 32) is None
    assert [request.id] == [taken.id for taken in control.take_requests(tmp_path)]
    assert content == garbage.read_bytes()
    assert not (tmp_path / "status.json").exists()


def test_old_requests_are_forgotten(tmp_path):
    """The newest finished requests are kept, and every unfinished one."""
    for number in range(60):
        request = control.RefreshRequest(id=f"{number:032x}", requested_at=f"2026-01-01T00:{number:02}:00Z")
        control.write_request(tmp_path, request) if number else (tmp_path / "requests").mkdir()
    taken = control.take_requests(tmp_path)
    control.answer_requests(tmp_path, taken, PUBLISHED)
    control.ask_refresh(tmp_path, asked_by="a")
    control.forget_old_requests(tmp_path)
    left = control.list_requests(tmp_path)
    assert 51 == len(left)
    assert "queued" == left[0].state
    assert f"{59:032x}" == left[1].id


def test_a_folder_that_cannot_be_written(tmp_path):
    """A request that cannot be left is a StoreError."""
    (tmp_path / "requests").write_text("a file")
    with pytest.raises(StoreError):
        control.ask_refresh(tmp_path, asked_by="a")


def test_the_status(tmp_path):
    """The status is read as it was written; there is none before, nor when the note is garbage."""
    assert control.read_status(tmp_path) is None
    written = status(progress=control.Progress("read", 5), last_outcome=PUBLISHED, failures_in_a_row=2)
    control.write_status(tmp_path, written)
    assert written == control.read_status(tmp_path)
    assert 5 == json.loads((tmp_path / "status.json").read_text())["progress"]["rows"]
    for content in (b"", b"{}", b"\xff", b"[1]"):
        (tmp_path / "status.json").write_bytes(content)
        assert control.read_status(tmp_path) is None


@pytest.mark.parametrize(
    ("age", "phase", "alive"),
    [(0, "idle", True), (29, "refreshing", True), (31, "idle", False), (0, "stopped", False), (-60, "idle", True)],
)
def test_alive(age, phase, alive):
    """A scheduler is alive while its last word is fresh and is not that it stopped."""
    updated = now_text(datetime.now(UTC) - timedelta(seconds=age))
    assert alive is status(updated_at=updated, phase=phase).alive


@pytest.mark.parametrize("text", ["", "yesterday", "9999-99-99"])
def test_a_status_without_a_time(text):
    """A last word that says no time is no sign of life."""
    assert not msgspec.structs.replace(status(), updated_at=text).alive


def test_many_who_ask_at_once_get_one_request(tmp_path):
    """However many ask at the same moment, one request is queued."""
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda _: control.ask_refresh(tmp_path, asked_by="admin").id, range(24)))
    assert 1 == len(set(asked))
    assert asked[:1] == [request.id for request in control.list_requests(tmp_path)]


def decide(folder, kind, target, content="", asked_by="admin"):
    return control.ask_decision(folder, kind, target, content=content, asked_by=asked_by)


def test_a_decision_is_no_refresh(tmp_path):
    """Asking for a decision neither becomes nor answers a request for a refresh, and the other way round."""
    decision = decide(tmp_path, "approve", 7, "ab")
    refresh = control.ask_refresh(tmp_path, asked_by="admin")
    assert ("approve", 7, "ab", "queued") == (decision.kind, decision.target, decision.content, decision.state)
    assert ("refresh", None) == (refresh.kind, refresh.target)
    assert refresh.id != decision.id
    assert [refresh.id] == [taken.id for taken in control.take_requests(tmp_path)]
    assert [decision] == control.list_decisions(tmp_path)
    assert [] == control.take_requests(tmp_path)
    assert refresh.id != control.ask_refresh(tmp_path, asked_by="admin").id
    assert {"approve", "refresh"} == {request.kind for request in control.list_requests(tmp_path)}


def test_the_same_decision_is_asked_once(tmp_path):
    """The same word on the same generation is one request while it is queued; any other word is another one."""
    first = decide(tmp_path, "approve", 7, "ab")
    assert first == decide(tmp_path, "approve", 7, "ab", asked_by="another")
    others = [decide(tmp_path, "reject", 7, "ab"), decide(tmp_path, "approve", 8, "ab")]
    others.append(decide(tmp_path, "approve", 7, "cd"))
    assert 4 == len({first.id, *(request.id for request in others)})
    control.begin_request(tmp_path, first)
    assert first.id != decide(tmp_path, "approve", 7, "ab").id


def test_decisions_keep_their_order(tmp_path):
    """Decisions are listed in the order in which they were asked, however fast they follow each other."""
    asked = [decide(tmp_path, "reject", number).id for number in range(20)]
    assert asked == [request.id for request in control.list_decisions(tmp_path)]
    assert 20 == len({request.requested_at for request in control.list_decisions(tmp_path)})


def test_a_clock_that_stands_still(tmp_path, monkeypatch):
    """A decision that is asked in the millisecond of another one waits for the next millisecond."""
    first, second = "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.001Z"
    ticks = iter([first, first, first, second])
    monkeypatch.setattr(control, "now_text", lambda: next(ticks))
    asked = [decide(tmp_path, "approve", 7), decide(tmp_path, "reject", 7)]
    assert [first, second] == [request.requested_at for request in asked]
    assert asked == control.list_decisions(tmp_path)


def success(generation: int, at: str) -> SchedulerStatus:
    return status(last_success=RefreshOutcome(state="unchanged", at=at, generation=generation))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, 1_000_000),
        (status(), 1_000_000),
        (success(7, "1970-01-01T00:20:00.500Z"), 1_200_500),
        (success(7, "1970-01-01T01:20:00.500+01:00"), 1_200_500),
        (success(7, "1970-01-01T00:10:00Z"), 1_000_000),
        (success(6, "1970-01-01T00:20:00Z"), 1_000_000),
        (success(7, "2999-01-01T00:00:00Z"), 1_000_000),
        (success(7, "1970-01-01T00:20:00"), 1_000_000),
        (success(7, "yesterday"), 1_000_000),
        (success(7, ""), 1_000_000),
        (success(7, "0001-01-01T00:00:00+14:00"), 1_000_000),
    ],
)
def test_when_a_generation_was_confirmed(found, expected):
    """The later of publication and last success on that generation; times to come or without a meaning do not count."""
    assert expected == control.confirmed_ms(found, generation=7, created_ms=1_000_000)


@pytest.mark.parametrize("found", [None, success(7, "1970-01-01T00:20:00Z"), success(6, "2999-01-01T00:00:00Z")])
def test_nothing_is_confirmed_in_the_future(found):
    """A generation whose time of publication is ahead of the clock was confirmed now, not later."""
    before = int(time.time() * 1000)
    confirmed = control.confirmed_ms(found, generation=7, created_ms=before + 60_000)
    assert before <= confirmed <= time.time() * 1000


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (success(7, "1970-01-01T00:10:00Z"), 600_000),
        (success(7, "1970-01-01T00:20:00Z"), 1_200_000),
        (success(6, "1970-01-01T00:10:00Z"), 1_000_000),
        (None, 1_000_000),
    ],
)
def test_when_an_approved_generation_was_confirmed(found, expected):
    """An approval makes an old read no fresher: the time of the last success counts, earlier or later."""
    assert expected == control.confirmed_ms(found, generation=7, created_ms=1_000_000, approved=True)
