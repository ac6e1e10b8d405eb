"""What operators and probes ask: health, readiness, status, and a refresh on demand.

/health, /-/healthy, /-/ready and / are open, so they tell nothing of hosts, names, people or errors.
/-/status and /admin are behind the admin credential.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from server.answer import json_answer
from server.errors import MethodNotAllowedError, NotFoundError, NotReadyError
from server.keys import CONFIG, FACTS, LIVE, PINS
from snapshot import __version__
from snapshot.control import ask_refresh, list_requests, read_request
from snapshot.errors import StoreError
from snapshot.logs import now_text

if TYPE_CHECKING:
    from aiohttp import web

    from server.live import LiveSnapshot
    from snapshot.config import Config
    from snapshot.control import RefreshRequest, SchedulerStatus

_READ_METHODS = ("GET", "HEAD")
_SHOWN_REQUESTS = 20
_RETRY_AFTER_SECONDS = 5


async def handle_open(request: web.Request) -> web.Response:
    """Answer what is open to everybody."""
    facts = request[FACTS]
    parts = facts.route.parts
    answer = {(): _root, ("health",): _health, ("-", "healthy"): _healthy, ("-", "ready"): _ready}.get(parts)  # type: ignore[arg-type]
    if answer is None:
        raise NotFoundError("There is no such path.")
    _read_only(request)
    facts.quiet = True
    return answer(request)


async def handle_admin(request: web.Request) -> web.Response:
    """Answer what is behind the admin credential."""
    parts = request[FACTS].route.parts
    match parts:
        case ("-", "status"):
            _read_only(request)
            return _status(request)
        case ("admin", "refresh"):
            if request.method == "POST":
                return await _ask_refresh(request)
            _read_only(request, "GET", "HEAD", "POST")
            return await _list_requests(request)
        case ("admin", "refresh", request_id):
            _read_only(request)
            return await _show_request(request, request_id)
        case _:
            raise NotFoundError("There is no such path.")


def _read_only(request: web.Request, *allow: str) -> None:
    if request.method not in _READ_METHODS:
        raise MethodNotAllowedError("This path does not offer that method.", allow=allow or _READ_METHODS)


def _root(request: web.Request) -> web.Response:
    config = request.app[CONFIG]
    base_paths = {f"{path}/": str(item.version) for path, item in config.server.paths.items()}
    return _json({"service": "scim-snapshot", "status": "running", "base_paths": base_paths})


def _health(request: web.Request) -> web.Response:
    live = request.app[LIVE]
    healthy = live.current is not None
    body = {
        "status": "healthy" if healthy else "unhealthy",
        "database": "connected" if _database_answers(live.scheduler) else "disconnected",
        "timestamp": now_text(),
        "snapshot_age_seconds": snapshot_age_seconds(live),
    }
    return _json(body, status=HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE)


def _healthy(_request: web.Request) -> web.Response:
    return _json({"status": "healthy"})


def _ready(request: web.Request) -> web.Response:
    ready = request.app[LIVE].current is not None
    return _json(
        {"status": "ready" if ready else "not ready"},
        status=HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE,
    )


def _database_answers(scheduler: SchedulerStatus | None) -> bool:
    """Tell whether the last refresh reached the database; the server itself never asks it."""
    return scheduler is not None and scheduler.last_outcome is not None and scheduler.last_outcome.state != "failed"


def snapshot_age_seconds(live: LiveSnapshot) -> float | None:
    """Return how long ago the served generation was made; None before the first one."""
    if live.current is None:
        return None
    return round(max(time.time() - live.current.manifest.created_ms / 1000, 0.0), 1)


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
            "age_seconds": snapshot_age_seconds(live),
            "counts": {name: facts.count for name, facts in manifest.resource_types.items()},
            "rejects": manifest.rejects,
            "warnings": manifest.warnings,
        }
    return _json(
        {
            "version": __version__,
            "time": now_text(),
            "snapshot": served,
            "swaps": live.swaps,
            "swapped_at": live.swapped_at,
            "failed_open": live.failed,
            "pins": {
                "count": len(pins),
                "generations": {str(key): n for key, n in pins.generations().items()},
            },
            "scheduler": {**_scheduler(live), "last_word": live.scheduler},
            "config": config.where,
            "warnings": config.warnings,
        }
    )


def _scheduler(live: LiveSnapshot) -> dict[str, Any]:
    """Tell whether a scheduler is there to act on a request."""
    status = live.scheduler
    if status is None:
        return {"seen": None, "running": False}
    try:
        return {"seen": status.updated_at, "running": status.alive}
    except ValueError:
        return {"seen": None, "running": False}


async def _ask_refresh(request: web.Request) -> web.Response:
    live = request.app[LIVE]
    try:
        asked = await asyncio.to_thread(ask_refresh, live.data_dir, asked_by=request[FACTS].principal)
    except StoreError as error:
        raise NotReadyError(error.cause, retry_after_seconds=_RETRY_AFTER_SECONDS) from None
    body = {**_shown(asked), "scheduler": _scheduler(live)}
    return _json(body, status=HTTPStatus.ACCEPTED, headers={"Location": body["status_url"]})


async def _list_requests(request: web.Request) -> web.Response:
    live = request.app[LIVE]
    try:
        found = await asyncio.to_thread(list_requests, live.data_dir)
    except StoreError as error:
        raise NotReadyError(error.cause, retry_after_seconds=_RETRY_AFTER_SECONDS) from None
    return _json({"requests": [_shown(item) for item in found[:_SHOWN_REQUESTS]], "scheduler": _scheduler(live)})


async def _show_request(request: web.Request, request_id: str) -> web.Response:
    live = request.app[LIVE]
    found = await asyncio.to_thread(read_request, live.data_dir, request_id)
    if found is None:
        raise NotFoundError("There is no refresh request with this id.")
    progress = live.scheduler.progress if live.scheduler and found.state == "running" else None
    return _json({**_shown(found), "progress": progress, "scheduler": _scheduler(live)})


def _shown(item: RefreshRequest) -> dict[str, Any]:
    return {**_fields(item), "status_url": f"/admin/refresh/{item.id}"}


def _fields(value: Any) -> dict[str, Any]:
    """Return a struct of snapshot.control as a dictionary; orjson knows dataclasses, but not these."""
    return {name: getattr(value, name) for name in value.__struct_fields__}


def _json(body: dict[str, Any], *, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None) -> web.Response:
    return json_answer(orjson.dumps(body, default=_fields), status=status, headers=headers)
