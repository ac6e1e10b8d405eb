"""What operators and probes ask: health, readiness, status, and a refresh on demand.

/health, /-/healthy, /-/ready and / are open, so they tell nothing of hosts, people or errors.
/-/status and /admin are behind the admin credential. With one app the answers are about it; with several they have
each app's answer under its name, and what is asked of one stands below /admin/apps/NAME.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from server.errors import NotFoundError, NotReadyError, StatusError
from server.keys import DIRECTORIES, FACTS
from server.notes import accepted_answer, check_method, note_answer, scheduler_facts, shown_request
from server.status import health_of, readiness_of, status_of
from snapshot import __version__
from snapshot.control import ask_refresh, list_requests, read_request
from snapshot.errors import StoreError
from snapshot.logs import now_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from server.answer import Answer
    from server.directories import Directories
    from server.directory import Directory

_ADMIN = "admin"
_APPS = (_ADMIN, "apps")
_SHOWN_REQUESTS = 20
_RETRY_AFTER_SECONDS = 5


def parts_in_app(request: web.BaseRequest) -> tuple[str, ...]:
    """Return the segments of a path of administrators as they are with one app, and note which app is meant.

    /admin/apps/NAME/refresh is /admin/refresh of that app. Raises NotFoundError that names the apps.
    """
    facts = request[FACTS]
    parts = facts.route.parts or ()
    if parts[:1] != (_ADMIN,):
        return parts
    directories = request[FACTS].app[DIRECTORIES]
    names = ", ".join(directories.names)
    if parts[:2] == _APPS and names:
        name = parts[2] if len(parts) > 2 else ""  # noqa: PLR2004 (admin, apps, name)
        facts.served = directories.named(name)
        if facts.served is None:
            raise NotFoundError(f"There is no app {name!r}. The apps: {names}.")
        return (_ADMIN, *parts[3:])
    if facts.served is None:
        raise NotFoundError(f"There are several apps: {names}. Ask for one of them below /admin/apps/NAME.")
    return parts


async def handle_open(request: web.BaseRequest) -> Answer:
    """Answer what is open to everybody."""
    facts = request[FACTS]
    parts = facts.route.parts
    if not request.raw_path.startswith("/") and "://" not in request.raw_path:
        # The forms of OPTIONS and CONNECT that name no path (RFC 9112 section 3.2).
        raise StatusError(HTTPStatus.NOT_FOUND, f"{HTTPStatus.NOT_FOUND.phrase}.")
    answer = {(): _root, ("health",): _health, ("-", "healthy"): _healthy, ("-", "ready"): _ready}.get(parts)  # type: ignore[arg-type]
    if answer is None:
        raise NotFoundError("There is no such path.")
    check_method(request)
    facts.quiet = True
    return answer(request[FACTS].app[DIRECTORIES])


async def handle_admin(request: web.BaseRequest, parts: tuple[str, ...]) -> Answer:
    """Answer what is behind the admin credential; `parts` are those of the app that the path is about."""
    match parts:
        case ("-", "status"):
            check_method(request)
            return _status(request[FACTS].app[DIRECTORIES])
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


def _root(directories: Directories) -> Answer:
    base_paths = {f"{path}/": str(item.version) for path, item in directories.paths.items()}
    return note_answer({"service": "scim-snapshot", "status": "running", "base_paths": base_paths})


def _health(directories: Directories) -> Answer:
    found = _of_each(directories, health_of)
    healthy = all(item["status"] == "healthy" for item in found.values())
    connected = all(item["database"] == "connected" for item in found.values())
    body: dict[str, Any] = {
        "status": "healthy" if healthy else "unhealthy",
        "database": "connected" if connected else "disconnected",
        "timestamp": now_text(),
    }
    only = directories.only
    body |= {"apps": found} if only is None else {"snapshot_age_seconds": found[only.name]["snapshot_age_seconds"]}
    return note_answer(body, status=HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE)


def _healthy(_directories: Directories) -> Answer:
    return note_answer({"status": "healthy"})


def _ready(directories: Directories) -> Answer:
    found = _of_each(directories, readiness_of)
    words = {item["status"] for item in found.values()}
    status = next(word for word in ("not ready", "stale", "ready") if word in words)  # the worst of all
    only = directories.only
    body = {"status": status, "apps": found} if only is None else found[only.name]
    return note_answer(body, status=HTTPStatus.OK if status == "ready" else HTTPStatus.SERVICE_UNAVAILABLE)


def _status(directories: Directories) -> Answer:
    only = directories.only
    found = {"apps": _of_each(directories, status_of)} if only is None else status_of(only)
    return note_answer({"version": __version__, "time": now_text(), **found})


def _of_each(directories: Directories, look: Callable[[Directory], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {item.name: look(item) for item in directories}


async def _ask_refresh(request: web.BaseRequest) -> Answer:
    facts = request[FACTS]
    data_dir = facts.directory.live.data_dir
    try:
        asked = await asyncio.to_thread(ask_refresh, data_dir, asked_by=facts.principal)
    except StoreError as error:
        raise NotReadyError(error.cause, retry_after_seconds=_RETRY_AFTER_SECONDS) from None
    return accepted_answer(asked, facts.directory)


async def _list_requests(request: web.BaseRequest) -> Answer:
    directory = request[FACTS].directory
    live = directory.live
    try:
        found = await asyncio.to_thread(list_requests, live.data_dir)
    except StoreError as error:
        raise NotReadyError(error.cause, retry_after_seconds=_RETRY_AFTER_SECONDS) from None
    shown = [shown_request(item, directory) for item in found[:_SHOWN_REQUESTS]]
    return note_answer({"requests": shown, "scheduler": scheduler_facts(live)})


async def _show_request(request: web.BaseRequest, request_id: str) -> Answer:
    directory = request[FACTS].directory
    live = directory.live
    found = await asyncio.to_thread(read_request, live.data_dir, request_id)
    if found is None:
        raise NotFoundError("There is no request with this id.")
    running = found.kind == "refresh" and found.state == "running"
    progress = live.scheduler.progress if live.scheduler and running else None
    body = {**shown_request(found, directory), "progress": progress, "scheduler": scheduler_facts(live)}
    return note_answer(body)
