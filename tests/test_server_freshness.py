"""How old what is served is, and what follows from it: an alarm for whoever watches, and no change for clients."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from server_fixtures import Directory, person, serving

from server.freshness import FreshnessWatch, is_stale, snapshot_age_seconds
from server.live import LiveSnapshot
from snapshot.control import RefreshOutcome, SchedulerStatus, write_status
from snapshot.logs import now_text
from snapshot.store import generation_directory, read_manifest, write_manifest


def aged(tmp_path, seconds: float, **server) -> Directory:
    """Publish one person as if that had been `seconds` ago."""
    directory = Directory(tmp_path, **server).add(person(1))
    directory.publish()
    place = generation_directory(directory.config.data_dir, 1)
    write_manifest(place, msgspec.structs.replace(read_manifest(place), created_ms=int((time.time() - seconds) * 1000)))
    return directory


def succeed(directory: Directory, seconds_ago: float, *, generation: int = 1, state: str = "unchanged") -> None:
    """Leave the scheduler's word that a refresh ended well so long ago."""
    at = now_text(datetime.now(UTC) - timedelta(seconds=seconds_ago))
    outcome = RefreshOutcome(state=state, at=at, generation=generation)
    status = SchedulerStatus(
        pid=1, started_at=at, updated_at=now_text(), phase="idle", last_success=outcome, last_outcome=outcome
    )
    write_status(directory.config.data_dir, status)


async def ready(api) -> tuple[int, dict]:
    await api.follow()
    answer = await api.get("/-/ready", auth=None)
    return answer.status, answer.json


async def test_not_ready(tmp_path):
    """Before the first snapshot readiness is 503, has no age, and no scheduler was ever seen."""
    async with serving(Directory(tmp_path, max_age_seconds=60)) as api:
        assert (
            503,
            {
                "status": "not ready",
                "snapshot_age_seconds": None,
                "max_age_seconds": 60,
                "quarantined": 0,
                "serving_previous": False,
                "scheduler": "never seen",
            },
        ) == await ready(api)


async def test_an_approval_makes_nothing_fresh(tmp_path):
    """What a person approved is as old as the read that was refused, if the scheduler knows when that was."""
    directory = aged(tmp_path, 10, max_age_seconds=200)
    place = generation_directory(directory.config.data_dir, 1)
    write_manifest(place, msgspec.structs.replace(read_manifest(place), refused=("50 of 60 users are gone",)))
    async with serving(directory) as api:
        assert "ready" == (await ready(api))[1]["status"]
        succeed(directory, 300, state="published")
        status, body = await ready(api)
        assert (503, "stale") == (status, body["status"])
        assert 300 <= body["snapshot_age_seconds"] < 320


async def test_a_stale_snapshot_is_served(tmp_path):
    """Too old is 503 for who watches, and 200 for every SCIM client; a confirmation makes it ready again."""
    directory = aged(tmp_path, 300, max_age_seconds=200)
    async with serving(directory) as api:
        status, body = await ready(api)
        assert (503, "stale", 200) == (status, body["status"], body["max_age_seconds"])
        assert 300 <= body["snapshot_age_seconds"] < 320
        for path in ("v1/Users", "v2/Users", "v2/Users/E00001", "v1/Groups", "v2/ServiceProviderConfig"):
            assert 200 == (await api.get(path)).status
        health = await api.get("/health", auth=None)
        assert (200, "healthy") == (health.status, health.json["status"])
        assert 300 <= health.json["snapshot_age_seconds"] < 320
        shown = (await api.admin("GET", "/-/status")).json
        assert (True, 200) == (shown["stale"], shown["max_age_seconds"])

        succeed(directory, 100)
        status, body = await ready(api)
        assert (200, "ready", "running") == (status, body["status"], body["scheduler"])
        assert 100 <= body["snapshot_age_seconds"] < 120
        assert 100 <= (await api.get("/health", auth=None)).json["snapshot_age_seconds"] < 120
        shown = (await api.admin("GET", "/-/status")).json
        assert shown["stale"] is False
        assert shown["scheduler"]["last_word"]["last_success"]["at"] == shown["snapshot"]["confirmed_at"]


async def test_without_a_limit_nothing_is_stale(tmp_path):
    """By default a snapshot of any age is ready."""
    async with serving(aged(tmp_path, 10_000_000)) as api:
        status, body = await ready(api)
        assert (200, "ready", 0) == (status, body["status"], body["max_age_seconds"])


@pytest.mark.parametrize(
    ("created", "success", "age"),
    [
        (300, None, 300),
        (300, {"seconds_ago": 50}, 50),
        (300, {"seconds_ago": 50, "state": "published"}, 50),
        (300, {"seconds_ago": 500}, 300),
        (300, {"seconds_ago": 50, "generation": 2}, 300),
        (300, {"seconds_ago": -50}, 300),
        (-100, None, 0),
    ],
)
async def test_the_age(tmp_path, created, success, age):
    """The age counts from publication or confirmation, whichever is later; it is never negative nor from the future."""
    directory = aged(tmp_path, created)
    if success is not None:
        succeed(directory, **success)
    async with serving(directory) as api:
        found = (await ready(api))[1]["snapshot_age_seconds"]
        assert age <= found < age + 20


async def test_a_scheduler_that_stopped(tmp_path):
    """A scheduler whose last word is old, or that it stopped, is not running."""
    directory = aged(tmp_path, 0)
    status = SchedulerStatus(pid=1, started_at="", updated_at="2020-01-01T00:00:00Z", phase="idle")
    async with serving(directory) as api:
        for word in (status, msgspec.structs.replace(status, updated_at=now_text(), phase="stopped")):
            write_status(directory.config.data_dir, word)
            found = ""
            for _ in range(50):  # the server's own look at the folder may have begun before
                found = (await ready(api))[1]["scheduler"]
                if found == "not running":
                    break
            assert "not running" == found


async def test_serving_the_previous_one(tmp_path):
    """While the newest generation cannot be opened readiness says so, and is 200: people are served."""
    directory = aged(tmp_path, 0)
    directory.add(person(2)).publish()
    index = generation_directory(directory.config.data_dir, 2) / "index.sqlite"
    index.write_bytes(b"")
    async with serving(directory) as api:
        status, body = await ready(api)
        assert (200, True) == (status, body["serving_previous"])


async def test_stale_and_fresh_are_told_once(tmp_path, caplog):
    """One warning when the snapshot becomes stale, one line when it is fresh again."""
    caplog.set_level(logging.INFO)
    directory = aged(tmp_path, 300)
    live = LiveSnapshot(directory.config.data_dir)
    watch = FreshnessWatch(live, 200)
    watch.look()
    await live.poll()
    for seconds_ago in (None, None, 100, 100, 250, 250):
        if seconds_ago is not None:
            succeed(directory, seconds_ago)
        await live.poll()
        watch.look()
    told = [(record.levelname, record.getMessage()) for record in caplog.records if "server.freshness" == record.name]
    stale = ("WARNING", "the snapshot is stale; it goes on being served")
    assert [stale, ("INFO", "the snapshot is fresh again"), stale] == told


async def test_the_server_watches_by_itself(tmp_path, caplog):
    """A running server tells a stale snapshot without being asked."""

    def told() -> int:
        return len([record for record in caplog.records if "snapshot is stale" in record.getMessage()])

    async with serving(aged(tmp_path, 300, max_age_seconds=200)) as api:
        await api.get("v1/Users")
        deadline = time.monotonic() + 10
        while not told():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
    assert 1 == told()


async def test_probes_of_what_is_not_ready_are_quiet(tmp_path, caplog):
    """A probe that is answered 503 asks again and again, so its line is for debugging; a client's 503 is a warning."""
    caplog.set_level(logging.DEBUG)

    def levels(path: str) -> set[tuple[str, int]]:
        lines = [record for record in caplog.records if "request" == record.getMessage()]
        return {(line.levelname, line.facts["status"]) for line in lines if line.facts["path"].startswith(path)}

    (tmp_path / "empty").mkdir()
    async with serving(aged(tmp_path, 300, max_age_seconds=200)) as api:
        assert 503 == (await ready(api))[0]
    assert {("DEBUG", 503)} == levels("/-/ready")
    async with serving(Directory(tmp_path / "empty")) as api:
        assert 503 == (await api.get("/health", auth=None)).status
        assert 503 == (await api.get("v2/Users")).status
    assert {("DEBUG", 503)} == levels("/health")
    assert {("WARNING", 503)} == levels("/scim/v2")


async def test_the_limit_itself_is_not_stale(tmp_path):
    """A snapshot as old as the limit is ready; a second more is stale."""
    directory = aged(tmp_path, 0)
    live = LiveSnapshot(directory.config.data_dir)
    await live.poll()
    created = live.current.manifest.created_ms / 1000
    assert 200.0 == snapshot_age_seconds(live, clock=lambda: created + 200)
    assert not is_stale(live, 200, clock=lambda: created + 200)
    assert is_stale(live, 200, clock=lambda: created + 201)
