"""The notes of the data folder as JSON answers: requests, the scheduler's word. For the routes of operators."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from server.answer import json_answer
from server.errors import MethodNotAllowedError

if TYPE_CHECKING:
    from aiohttp import web

    from server.answer import Answer
    from server.directory import Directory
    from server.live import LiveSnapshot
    from snapshot.control import RefreshRequest

READ_METHODS = ("GET", "HEAD")


def check_method(request: web.BaseRequest, *allow: str) -> None:
    """Raise MethodNotAllowedError unless the method is one of `allow`; by default those that read."""
    allowed = allow or READ_METHODS
    if request.method not in allowed:
        raise MethodNotAllowedError("This path does not offer that method.", allow=allowed)


def note_answer(body: dict[str, Any], *, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None) -> Answer:
    """Return a JSON answer; structs of the notes become objects."""
    return json_answer(orjson.dumps(body, default=fields_of), status=status, headers=headers)


def accepted_answer(request: RefreshRequest, directory: Directory) -> Answer:
    """Return the 202 to a request that now waits for the scheduler, and where to look."""
    body = {**shown_request(request, directory), "scheduler": scheduler_facts(directory.live)}
    return note_answer(body, status=HTTPStatus.ACCEPTED, headers={"Location": body["status_url"]})


def shown_request(request: RefreshRequest, directory: Directory) -> dict[str, Any]:
    """Return one request with where it can be asked for."""
    return {**fields_of(request), "status_url": f"{directory.admin_path}/refresh/{request.id}"}


def scheduler_facts(live: LiveSnapshot) -> dict[str, Any]:
    """Tell whether a scheduler is there to act on a request."""
    status = live.scheduler
    if status is None:
        return {"seen": None, "running": False}
    return {"seen": status.updated_at, "running": status.alive}


def scheduler_word(live: LiveSnapshot) -> str:
    """Tell the same in a word that anybody may read."""
    if live.scheduler is None:
        return "never seen"
    return "running" if live.scheduler.alive else "not running"


def fields_of(value: Any) -> dict[str, Any]:
    """Return a struct as a dictionary; orjson knows dataclasses, but not these."""
    return {name: getattr(value, name) for name in value.__struct_fields__}
