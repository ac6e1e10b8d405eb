"""What operators and probes ask: health, readiness, status, and a refresh on demand.

/health, /-/healthy, /-/ready and / are open, so they tell nothing of hosts, names, people or errors.
/-/status and /admin are behind the admin credential.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from server.errors import NotFoundError, NotReadyError
from server.freshness import confirmed_at_ms, is_stale, snapshot_age_seconds
from server.keys import CONFIG, FACTS, LIVE, PINS
from server.notes import accepted_answer, check_method, note_answer, scheduler_facts, scheduler_word, shown_request
from snapshot import __version__
from snapshot.control import ask_refresh, list_requests, read_request
from snapshot.errors import StoreError
from snapshot.logs import now_text

if TYPE_CHECKING:
    from aiohttp import web

    from snapshot.config import Config
    from snapshot.control import SchedulerStatus

_SHOWN_REQUESTS = 20
_RETRY_AFTER_SECONDS = 5


async def handle_open(request: web.Request) -> web.Response:
    """Answer what is open to everybody."""
    facts = request[FACTS]
    parts = facts.route.parts
    answer = {(): _root, ("health",): _health, ("-", "healthy"): _healthy, ("-", "ready"): _ready}.get(parts)  # type: ignore[arg-type]
    if answer is None:
        raise NotFoundError("There is no such path.")
    check_method(request)
    facts.quiet = True
    return answer(request)


async def handle_admin(request: web.Request) -> web.Response:
    """Answer what is behind the admin credential."""
    parts = request[FACTS].route.parts
    match parts:
        case ("-", "status"):
            check_method(request)
            return _status(request)
        case ("admin", "refresh"):
            if request.method == "POST":
                return await _ask_refresh(request)
            check_method(request, "GET", "HEAD", "POST")
            return await _list_requests(request)
        case ("admin", "refresh", request_id):
            check_method(request)
            return await _show_request(request, request_id)
        case _:
            raise NotFoundError("There is no such path.")


def _root(request: web.Request) -> web.Response:
    config = request.app[CONFIG]
    base_paths = {f"{path}/": str(item.version) for path, item in config.server.paths.items()}
    return note_answer({"service": "scim-snapshot", "status": "running", "base_paths": base_paths})


def _health(request: web.Request) -> web.Response:
    live = request.app[LIVE]
    healthy = live.current is not None
    body = {
        "status": "healthy" if healthy else "unhealthy",
        "database": "connected" if _database_answers(live.scheduler) else "disconnected",
        "timestamp": now_text(),
        "snapshot_age_seconds": snapshot_age_seconds(live),
    }
    return note_answer(body, status=HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE)


def _healthy(_request: web.Request) -> web.Response:
    return note_answer({"status": "healthy"})


def _ready(request: web.Request) -> web.Response:
    live = request.app[LIVE]
    max_age_seconds = request.app[CONFIG].server.max_age_seconds
    served = "stale" if is_stale(live, max_age_seconds) else "ready"
    status = "not ready" if live.current is None else served
    body = {
        "status": status,
        "snapshot_age_seconds": snapshot_age_seconds(live),
        "max_age_seconds": max_age_seconds,
        "quarantined": len(live.waiting),
        "serving_previous": live.serves_previous,
        "scheduler": scheduler_word(live),
    }
    return note_answer(body, status=HTTPStatus.OK if status == "ready" else HTTPStatus.SERVICE_UNAVAILABLE)


def _database_answers(scheduler: SchedulerStatus | None) -> bool:
    """Tell whether the last refresh reached the database; the server itself never asks it."""
    return scheduler is not None and scheduler.last_outcome is not None and scheduler.last_outcome.state != "failed"


def _status(request: web.Request) -> web.Response:
    app = request.app
    config: Config = app[CONFIG]
    live = app[LIVE]
    pins = app[PINS]
    snapshot = live.current
    served = None
    if snapshot is not None:
        manifest = snapshot.manifest
        served = {
            "generation": snapshot.generation,
            "previous": manifest.previous,
            "created_at": manifest.created_at,
            "confirmed_at": _time_text(confirmed_at_ms(live)),
            "age_seconds": snapshot_age_seconds(live),
            "counts": {name: facts.count for name, facts in manifest.resource_types.items()},
            "tombstones": {name: facts.removed for name, facts in manifest.resource_types.items()},
            "rejects": manifest.rejects,
            "warnings": manifest.warnings,
        }
    return note_answer(
        {
            "version": __version__,
            "time": now_text(),
            "snapshot": served,
            "max_age_seconds": config.server.max_age_seconds,
            "stale": is_stale(live, config.server.max_age_seconds),
            "quarantine": live.waiting,
            "swaps": live.swaps,
            "swapped_at": live.swapped_at,
            "failed_open": live.failed,
            "pins": {
                "count": len(pins),
                "generations": {str(key): n for key, n in pins.generations().items()},
            },
            "scheduler": {**scheduler_facts(live), "last_word": live.scheduler},
            "config": config.where,
            "warnings": config.warnings,
        }
    )


def _time_text(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else now_text(datetime.fromtimestamp(milliseconds / 1000, UTC))


async def _ask_refresh(request: web.Request) -> web.Response:
    live = request.app[LIVE]
    try:
        asked = await asyncio.to_thread(ask_refresh, live.data_dir, asked_by=request[FACTS].principal)
    except StoreError as error:
        raise NotReadyError(error.cause, retry_after_seconds=_RETRY_AFTER_SECONDS) from None
    return accepted_answer(asked, live)


async def _list_requests(request: web.Request) -> web.Response:
    live = request.app[LIVE]
    try:
        found = await asyncio.to_thread(list_requests, live.data_dir)
    except StoreError as error:
        raise NotReadyError(error.cause, retry_after_seconds=_RETRY_AFTER_SECONDS) from None
    return note_answer(
        {"requests": [shown_request(item) for item in found[:_SHOWN_REQUESTS]], "scheduler": scheduler_facts(live)}
    )


async def _show_request(request: web.Request, request_id: str) -> web.Response:
    live = request.app[LIVE]
    found = await asyncio.to_thread(read_request, live.data_dir, request_id)
    if found is None:
        raise NotFoundError("There is no request with this id.")
    running = found.kind == "refresh" and found.state == "running"
    progress = live.scheduler.progress if live.scheduler and running else None
    return note_answer({**shown_request(found), "progress": progress, "scheduler": scheduler_facts(live)})
