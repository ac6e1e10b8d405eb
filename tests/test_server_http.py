"""The HTTP side of every answer: error shapes, limits, HEAD, headers, the canonical log line."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import orjson
import pytest
from server_fixtures import Directory, basic, person, serving

from snapshot.errors import CorruptGenerationError

ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"


@pytest.fixture
async def api(tmp_path):
    directory = Directory(tmp_path).add(*[person(number) for number in range(1, 6)])
    directory.publish()
    async with serving(directory) as api:
        yield api


def is_2_0_error(answer, status: int) -> bool:
    assert status == answer.status
    assert answer.json["schemas"] == [ERROR]
    assert str(status) == answer.json["status"]
    assert answer.json["detail"]
    assert set(answer.json) <= {"schemas", "status", "scimType", "detail"}
    return True


def is_1_1_error(answer, status: int) -> bool:
    assert status == answer.status
    (error,) = answer.json["Errors"]
    assert str(status) == error["code"]
    assert error["description"] == answer.json["detail"] != ""
    return True


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "nowhere", 404),
        ("GET", "Users/a/b", 404),
        ("GET", "Users/%FF", 404),
        ("GET", "Users/line%0Abreak", 404),
        ("PUT", "Users/line%0Abreak", 405),
        ("GET", "ServiceProviderConfig/x", 404),
        ("GET", "Schemas/urn:nothing", 404),
        ("GET", "ResourceTypes/User/x", 404),
        ("GET", "Users?count=x", 400),
        ("GET", "Users?filter=%FF", 400),
        ("GET", "Users?filter=nothing%20eq%20%22x%22", 400),
        ("OPTIONS", "Users", 405),
        ("POST", "Users", 405),
        ("POST", "Bulk", 501),
    ],
)
async def test_errors_have_the_shape_of_their_version(api, method, path, status):
    """Each error has the body and media type of its base path's version."""
    new = await api.send(method, f"v2/{path}")
    assert is_2_0_error(new, status)
    assert new.headers["Content-Type"] == "application/scim+json; charset=utf-8"
    old = await api.send(method, f"v1/{path}")
    assert is_1_1_error(old, status)
    assert old.headers["Content-Type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize("path", ["/nope", "/scim", "/scim/v3/Users", "/favicon.ico", "/%FF", "/admin.php", "/-/x"])
async def test_unknown_paths_elsewhere(api, path):
    """Outside the base paths an unknown path is a 404 in the 2.0 shape, without credentials."""
    assert is_2_0_error(await api.get(path, auth=None), 404)


@pytest.mark.parametrize(
    "path",
    ["v1/Users", "v2/Users/E00001", "v2/Users/nope", "v1/ServiceProviderConfigs", "/health", "/", "v2/Users?count=x"],
)
async def test_head_is_get_without_a_body(api, path):
    """HEAD answers status and headers of GET, also for errors, and no body."""
    get, head = await api.get(path), await api.send("HEAD", path)
    assert get.status == head.status
    assert head.body == b""
    assert get.headers["Content-Type"] == head.headers["Content-Type"]
    if path != "/health":
        assert len(get.body) == int(head.headers["Content-Length"])


async def test_headers_of_every_answer(api):
    """No cache keeps people's data, no type is guessed, no software version is told."""
    for path in ("v1/Users", "v2/nowhere", "/health", "/nope"):
        answer = await api.get(path)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Server"] == "scim-snapshot"


async def test_request_ids(api):
    """A sound X-Request-Id comes back; any other is replaced by one of ours."""
    answer = await api.get("v1/Users", headers={"X-Request-Id": "abc-123"})
    assert answer.headers["X-Request-Id"] == "abc-123"
    for bad in ("a b", "x" * 65, "<script>", ""):
        answer = await api.get("v1/Users", headers={"X-Request-Id": bad})
        assert bad != answer.headers["X-Request-Id"] != ""


async def test_a_list_entry_is_what_get_by_id_answers(api):
    """A user in a list and the same user by id are the same bytes."""
    for base in ("v1", "v2"):
        listed = (await api.get(f"{base}/Users?startIndex=2&count=1")).json["Resources"][0]
        assert listed == (await api.get(f"{base}/Users/{listed['id']}")).json


async def test_limits_of_our_own(api):
    """A long target is 414, large headers 431, a large body 413, each in SCIM shape and before any work."""
    assert is_1_1_error(await api.get("v1/Users?filter=" + "x" * 40_000), 414)
    assert is_2_0_error(await api.get("v2/Users", headers={"X-A": "y" * 40_000}), 431)
    assert is_2_0_error(await api.send("POST", "v2/Users", data=b"z" * 70_000), 413)
    assert (await api.get("v2/Users?x=" + "y" * 20_000)).status == 200


async def test_a_long_filter_is_read(api):
    """A filter of 200 ORed addresses, percent-encoded, is answered."""
    text = "%20or%20".join(f"email%20eq%20%22user{number}%40example.com%22" for number in range(200))
    assert (await api.get(f"v1/Users?filter={text}")).numbers == (5, 1, 5)


async def test_expect_is_no_reason_to_fail(api):
    """A client that asks for 100-continue gets its final answer at once."""
    answer = await api.send("POST", "v2/Users", data=b"{}", headers={"Expect": "100-continue"})
    assert is_2_0_error(answer, 405)
    assert (await api.get("v2/Users", headers={"Expect": "miracles"})).status == 200


class BrokenSnapshot:
    """A snapshot whose every use fails with a text that nobody outside may see."""

    generation = 1

    def __getattr__(self, name):
        raise RuntimeError("secret driver text of sql01.corp.example")


@pytest.mark.parametrize("base", ["v1", "v2"])
async def test_an_unexpected_error_tells_nothing(api, base, caplog):
    """An unexpected error is a fixed sentence with the request id; the log has the traceback."""
    api.directory.live.current = BrokenSnapshot()
    answer = await api.get(f"{base}/Users/E00001", headers={"X-Request-Id": "rid-1"})
    assert answer.status == 500
    assert "rid-1" in answer.json["detail"]
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    assert "secret driver text" in caplog.text
    assert any(getattr(record, "facts", {}).get("request_id") == "rid-1" for record in caplog.records)


class DamagedSnapshot:
    """A snapshot whose index was damaged after it had been opened."""

    def __init__(self, snapshot):
        self._snapshot = snapshot

    def __getattr__(self, name):
        return getattr(self._snapshot, name)

    def _fail(self, *_arguments):
        raise CorruptGenerationError(Path("secret-folder"), "database disk image is malformed")

    find = select = look_up = _fail


@pytest.mark.parametrize(
    "path", ["Users/E00001", "Users?filter=userName%20eq%20%22x%22", "Users?filter=title%20co%20%22x%22"]
)
async def test_a_snapshot_damaged_while_running(api, path, caplog):
    """A damaged index is a 503 to try again, without its cause, which is logged as an error."""
    live = api.directory.live
    live.current = DamagedSnapshot(live.current)
    new, old = await api.get(f"v2/{path}"), await api.get(f"v1/{path}")
    assert is_2_0_error(new, 503)
    assert is_1_1_error(old, 503)
    assert "10" == new.headers["Retry-After"]
    assert b"malformed" not in new.body
    assert b"secret" not in new.body
    causes = [record.facts["cause"] for record in caplog.records if record.levelno == logging.ERROR]
    assert ["secret-folder: database disk image is malformed."] * 2 == causes
    assert (await api.get("v2/Users")).status == 200


def lines(caplog) -> list[tuple[int, dict]]:
    return [(record.levelno, record.facts) for record in caplog.records if record.getMessage() == "request"]


async def test_one_line_a_request(api, caplog):
    """Each request is one line with status, time, size, principal and generation; values of the query are not in it."""
    caplog.set_level(logging.DEBUG, logger="server.request")
    answer = await api.get("v1/Users?filter=userName%20eq%20%22user1@example.com%22", headers={"X-Request-Id": "rid-2"})
    ((level, facts),) = lines(caplog)
    assert level == logging.INFO
    assert {name: facts[name] for name in ("request_id", "method", "path", "status", "principal", "generation")} == {
        "request_id": "rid-2",
        "method": "GET",
        "path": "/scim/v1/Users",
        "status": 200,
        "principal": "okta",
        "generation": 1,
    }
    assert len(answer.body) == facts["bytes"]
    assert facts["ms"] >= 0
    assert "user1" not in str(facts)


async def test_ids_and_passwords_are_not_logged(api, caplog):
    """Neither an id in the path, nor a header, nor a wrong password gets into the log."""
    caplog.set_level(logging.DEBUG)
    await api.get("v1/Users/E00001")
    await api.get("v1/Users/person%40example.com")
    await api.get("v1/Users", auth=basic(password="hunter2"), headers={"X-Strange": "strange-value"})
    # A connector with a wrong base URL.
    for path in (
        "/scim/v3/Users/person%40example.com",
        "/scim/v3/Users/personal",
        "/person1234567/Users",
        "/Users/person",
        "/users/person",
        "/scim/v3/Licenses/person",
    ):
        await api.get(path, auth=None)
    text = str([record.__dict__ for record in caplog.records])
    assert "E00001" not in text
    assert "person" not in text
    assert "hunter2" not in text
    assert "strange-value" not in text
    assert "/scim/v1/Users/{id}" in text


async def test_frequent_requests_are_quiet(api, caplog):
    """Later pages and probes are logged at level debug, errors among them are not."""
    caplog.set_level(logging.DEBUG, logger="server.request")
    for path in (
        "v1/Users?count=1",
        "v1/Users?startIndex=2&count=1",
        "/health",
        "/-/healthy",
        "v1/Users?startIndex=2&count=x",
    ):
        await api.get(path)
    debug, info = logging.DEBUG, logging.INFO
    assert [info, debug, debug, debug, info] == [level for level, _ in lines(caplog)]


class RecordingSnapshot:
    """Passes everything on to a real snapshot and notes in which thread filters are evaluated."""

    def __init__(self, snapshot):
        self._snapshot = snapshot
        self.threads: list[str] = []

    def __getattr__(self, name):
        return getattr(self._snapshot, name)

    def select(self, *arguments):
        self.threads.append(threading.current_thread().name)
        return self._snapshot.select(*arguments)

    def look_up(self, *arguments):
        found = self._snapshot.look_up(*arguments)
        if found is not None:
            self.threads.append(threading.current_thread().name)
        return found


async def test_a_scan_runs_in_a_thread_once_for_all_its_pages(api):
    """A filter that scans leaves the event loop free, and later pages do not evaluate it again."""
    live = api.directory.live
    live.current = recording = RecordingSnapshot(live.current)
    scan = "v2/Users?filter=name.familyName%20eq%20%22%C5%82ukasz%22"
    assert (await api.get(f"{scan}&count=2")).numbers == (5, 1, 2)
    assert (await api.get(f"{scan}&startIndex=5&count=2")).numbers == (5, 5, 1)
    (thread,) = recording.threads
    assert thread.startswith("scan")
    await api.get("v2/Users?filter=userName%20eq%20%22user1@example.com%22")
    assert recording.threads[1:] == [threading.main_thread().name]


async def test_many_requests_at_once(api):
    """Two hundred parallel requests are all answered and all alike."""
    answers = await asyncio.gather(*[api.get("v2/Users?count=3") for _ in range(200)])
    assert len({answer.body for answer in answers}) == 1
    assert orjson.loads(answers[0].body)["totalResults"] == 5
