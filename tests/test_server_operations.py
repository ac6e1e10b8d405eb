"""Health, readiness, status and refreshes on demand: what they say, to whom, and what they keep to themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from server_fixtures import PASSWORD, Directory, basic, person, serving

from snapshot.control import RefreshOutcome, SchedulerStatus, list_requests, write_request, write_status
from snapshot.logs import now_text

OPEN = ("/", "/health", "/-/healthy", "/-/ready")


@pytest.fixture
def directory(tmp_path):
    made = Directory(tmp_path).add(person(1))
    made.publish()
    return made


@pytest.fixture
async def api(directory):
    async with serving(directory) as api:
        yield api


def scheduler(*, state="published", reason="", updated_at="") -> SchedulerStatus:
    outcome = RefreshOutcome(state=state, at=now_text(), generation=1, reason=reason)
    return SchedulerStatus(
        pid=os.getpid(), started_at=now_text(), updated_at=updated_at or now_text(), phase="idle", last_outcome=outcome
    )


async def test_probes_without_a_snapshot(tmp_path):
    """Alive at once; ready and healthy only when a snapshot is served."""
    async with serving(Directory(tmp_path)) as api:
        assert {path: (await api.get(path, auth=None)).status for path in OPEN} == {
            "/": 200,
            "/health": 503,
            "/-/healthy": 200,
            "/-/ready": 503,
        }
        health = (await api.get("/health", auth=None)).json
        assert health["status"] == "unhealthy"
        assert health["snapshot_age_seconds"] is None


async def test_probes_with_a_snapshot(api):
    """With a snapshot every probe is 200."""
    assert {(await api.get(path, auth=None)).status for path in OPEN} == {200}


async def test_health_has_the_old_keys(api, directory):
    """`status`, `database` and `timestamp` as the old connector had; the database as the scheduler last saw it."""
    health = (await api.get("/health", auth=None)).json
    assert set(health) == {"status", "database", "timestamp", "snapshot_age_seconds"}
    assert (health["status"], health["database"]) == ("healthy", "disconnected")
    write_status(directory.config.data_dir, scheduler())
    await api.follow()
    assert (await api.get("/health", auth=None)).json["database"] == "connected"
    write_status(directory.config.data_dir, scheduler(state="failed"))
    await api.follow()
    health = await api.get("/health", auth=None)
    assert (health.status, health.json["database"]) == (200, "disconnected")


async def test_probes_tell_nothing(api, directory):
    """Open paths tell nothing of hosts, names, people or error texts."""
    write_status(
        directory.config.data_dir, scheduler(state="failed", reason="sql01.corp.example refused login of svc_scim")
    )
    await api.follow()
    for path in OPEN:
        body = (await api.get(path, auth=None)).body.decode()
        for secret in ("sql01", "svc_scim", "okta", "example.com", str(directory.folder), "E00001"):
            assert secret not in body


@pytest.mark.parametrize("path", ["/-/status", "/admin/refresh", "/admin/refresh/x", "/admin", "/admin/nope"])
async def test_the_scim_credential_opens_no_administration(api, path):
    """Administration has its own credential: none or the SCIM one is 401."""
    for auth in (None, basic(), "Bearer wrong", f"Bearer {PASSWORD}"):
        for method in ("GET", "POST"):
            answer = await api.send(method, path, auth=auth)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_the_admin_credential_opens_no_scim(api):
    """The admin credential is for administration only."""
    assert (await api.admin("GET", "v1/Users")).status == 401


async def test_administration_is_off_without_a_credential(tmp_path):
    """Without [server.admin] administration is 403 and says which key to set."""
    async with serving(Directory(tmp_path, admin=None)) as api:
        for path in ("/admin/refresh", "/-/status"):
            answer = await api.admin("GET", path)
            assert answer.status == 403
            assert "[server.admin]" in answer.json["detail"]


async def test_status(api, directory):
    """Status has generation, counts, age, pins, swaps and the scheduler's last word."""
    write_status(directory.config.data_dir, scheduler(state="failed", reason="login refused"))
    await api.follow()
    await api.get("v1/Users")
    status = (await api.admin("GET", "/-/status")).json
    assert status["snapshot"]["generation"] == 1
    assert status["snapshot"]["counts"] == {"User": 1}
    assert status["snapshot"]["age_seconds"] >= 0
    assert status["snapshot"]["tombstones"] == {"User": 0}
    assert status["snapshot"]["confirmed_at"] == status["snapshot"]["created_at"]
    assert (status["max_age_seconds"], status["stale"], status["quarantine"]) == (0, False, [])
    assert status["pins"] == {"count": 1, "generations": {"1": 1}}
    assert status["swaps"] == 1
    assert status["failed_open"] is None
    assert status["scheduler"]["running"] is True
    assert status["scheduler"]["last_word"]["last_outcome"]["reason"] == "login refused"


async def test_status_tells_a_generation_that_cannot_be_opened(api, directory):
    """A damaged newest generation is in the status with its cause while the good one is served."""
    directory.add(person(2))
    directory.publish()
    index = directory.config.data_dir / "generations" / "00000002" / "index.sqlite"
    index.write_bytes(index.read_bytes()[:-1])
    await api.follow()
    status = (await api.admin("GET", "/-/status")).json
    assert status["snapshot"]["generation"] == 1
    assert status["failed_open"]["generation"] == 2
    assert "index.sqlite" in status["failed_open"]["cause"]
    assert (await api.get("v1/Users")).numbers == (1, 1, 1)


async def test_asking_for_a_refresh(api, directory):
    """POST leaves a request and answers 202 with its id and where to look; there it is shown."""
    asked = await api.admin("POST", "/admin/refresh")
    assert asked.status == 202
    assert asked.json["state"] == "queued"
    assert asked.headers["Location"] == asked.json["status_url"]
    (request,) = list_requests(directory.config.data_dir)
    assert (request.id, request.asked_by) == (asked.json["id"], "admin")
    shown = await api.admin("GET", asked.json["status_url"])
    assert shown.json["id"] == request.id
    assert [request.id] == [item["id"] for item in (await api.admin("GET", "/admin/refresh")).json["requests"]]


async def test_several_requests_are_one(api):
    """Asking again while a request is queued gives the same one."""
    ids = {(await api.admin("POST", "/admin/refresh")).json["id"] for _ in range(3)}
    assert len(ids) == 1


@pytest.mark.parametrize("state", ["published", "refused", "failed"])
async def test_what_became_of_a_request(api, directory, state):
    """The scheduler's answer is shown: counts or the reason."""
    asked = await api.admin("POST", "/admin/refresh")
    (request,) = list_requests(directory.config.data_dir)
    done = type(request)(
        id=request.id,
        requested_at=request.requested_at,
        state=state,
        finished_at=now_text(),
        generation=2,
        counts={"added": 3},
        reason="because",
    )
    write_request(directory.config.data_dir, done)
    shown = (await api.admin("GET", asked.json["status_url"])).json
    assert (state, 2, {"added": 3}, "because") == tuple(
        shown[name] for name in ("state", "generation", "counts", "reason")
    )


async def test_a_scheduler_that_is_not_there(api, directory):
    """The answer to a request says whether a scheduler is there to act on it."""
    assert (await api.admin("POST", "/admin/refresh")).json["scheduler"] == {"seen": None, "running": False}
    write_status(directory.config.data_dir, scheduler())
    await api.follow()
    assert (await api.admin("GET", "/admin/refresh")).json["scheduler"]["running"] is True
    write_status(directory.config.data_dir, scheduler(updated_at="2020-01-01T00:00:00Z"))
    await api.follow()
    found = (await api.admin("GET", "/admin/refresh")).json["scheduler"]
    assert found == {"seen": "2020-01-01T00:00:00Z", "running": False}


@pytest.mark.parametrize("request_id", ["0" * 32, "..%2F..%2Fstatus", "%00", "x" * 500])
async def test_unknown_requests(api, request_id):
    """An unknown id, or one that is no id, is a 404 and reads no other file."""
    assert (await api.admin("GET", f"/admin/refresh/{request_id}")).status == 404


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/admin/refresh", "GET, HEAD, POST"),
        ("POST", "/-/status", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
        ("PUT", "/", "GET, HEAD"),
    ],
)
async def test_wrong_methods(api, method, path, allow):
    """A wrong method is 405 with what is allowed."""
    answer = await api.admin(method, path)
    assert (answer.status, answer.headers["Allow"]) == (405, allow)


def fields_of(value) -> set[str]:
    """Return the names of all fields of a JSON object, those of objects inside included."""
    if isinstance(value, list):
        return {name for item in value for name in fields_of(item)}
    return (
        {name for key, item in value.items() for name in {key, *fields_of(item)}} if isinstance(value, dict) else set()
    )


async def test_every_field_is_described(api, directory):
    """Each field that the probes and the status answer with stands in docs/operations.md."""
    write_status(directory.config.data_dir, scheduler())
    await api.follow()
    found = set()
    for path in (*OPEN, "/-/status", "/admin/quarantine", "/admin/refresh"):
        found |= fields_of((await api.admin("GET", path)).json)
    assert {"serving_previous", "confirmed_at", "stale", "tombstones"} <= found
    text = (Path(__file__).parent.parent / "docs" / "operations.md").read_text(encoding="utf-8")
    left_out = {"User", "/scim/v1/", "/scim/v2/"}
    assert [] == [name for name in sorted(found - left_out) if f"`{name}`" not in text and f'"{name}"' not in text]
