"""What every request goes through: a request id, our own limits, errors to SCIM, one canonical log line."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from server.answer import Answer, error_answer
from server.errors import (
    BodyTooLargeError,
    HeadersTooLargeError,
    InternalError,
    InvalidFilterError,
    InvalidPathError,
    ScimError,
    StatusError,
    UnreadableError,
    UriTooLongError,
)
from server.keys import COMPRESSOR, DIRECTORIES, FACTS, REQUEST_LOG, RequestFacts
from server.request_line import RequestLine, app_of, shown_path
from snapshot.errors import FilterError, SortError, StoreError

if TYPE_CHECKING:
    from server.keys import Handler

log = logging.getLogger("server.request")

# A filter of 200 ORed addresses has some 10,000 characters, three times as many percent-encoded.
MAX_TARGET_BYTES = 32 << 10
# Okta's agent may add a header of 10 KB; anything that sends more than this is broken.
MAX_HEADER_BYTES = 32 << 10
# No request needs a body; the writes that are refused are small.
MAX_BODY_BYTES = 64 << 10
_FIELD_OVERHEAD_BYTES = 4
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_SERVER_ERROR = 500
_CLIENT_ERROR = 400


def make_canonical(app: web.Application, handler: Handler) -> Handler:
    """Return a handler around another one: it answers every request in the right shape and logs one line."""
    # Unique over restarts by the random half, over requests by the count.
    prefix, numbers = secrets.token_hex(4), itertools.count(1)
    directories, request_log = app[DIRECTORIES], app[REQUEST_LOG]

    async def canonical(request: web.BaseRequest) -> Answer:
        started = time.perf_counter()
        headers = request.headers
        request_id = headers.get("X-Request-Id")
        if request_id is None or not _REQUEST_ID.match(request_id):
            request_id = f"{prefix}{next(numbers):08x}"
        route = directories.router.resolve(request.raw_path)
        facts = request[FACTS] = RequestFacts(request_id, route, app, directories.of_base(route.base))
        try:
            _check_limits(request)
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 (told to the client and logged)
            response = error_answer(_scim_error(error, facts), route.version)
        if "Accept-Encoding" in headers and (compressor := app.get(COMPRESSOR)) is not None:
            await compressor.compress(response, headers)
        response.request_id = request_id
        level = _level(facts, response.status)
        if request_log.enabled(level):
            seconds = time.perf_counter() - started
            line = RequestLine(facts, request.method, response.status, response.size, seconds, request.remote)
            request_log.write(level, line)
        return response

    return canonical


def _scim_error(error: Exception, facts: RequestFacts) -> ScimError:
    """Return what a client is told of an error. One that nobody foresaw is logged with its traceback."""
    match error:
        case ScimError():
            return error
        case FilterError():
            return InvalidFilterError(error.detail)
        case SortError():
            return InvalidPathError(error.detail)
        case StoreError():
            return _unreadable(error, facts)
        case web.HTTPException():
            return _from_aiohttp(error)
    told = {"request_id": facts.request_id, "path": shown_path(facts.route)}
    log.error("unexpected error", exc_info=error, extra={"facts": {**app_of(facts), **told}})
    return InternalError(facts.request_id)


def _check_limits(request: web.BaseRequest) -> None:
    """Refuse what is too large with the status that says so; the parser's own limits lie far above."""
    if len(request.raw_path) > MAX_TARGET_BYTES:
        raise UriTooLongError(f"The request target has more than {MAX_TARGET_BYTES} bytes.")
    fields = request.raw_headers
    size = len(b"".join(itertools.chain.from_iterable(fields)))
    if size + _FIELD_OVERHEAD_BYTES * len(fields) > MAX_HEADER_BYTES:
        raise HeadersTooLargeError(f"The header fields have more than {MAX_HEADER_BYTES} bytes.")
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise BodyTooLargeError(f"The body has more than {MAX_BODY_BYTES} bytes.")


def _unreadable(error: StoreError, facts: RequestFacts) -> ScimError:
    """Log why the snapshot cannot be read; the client is told nothing of it."""
    told = {**app_of(facts), "request_id": facts.request_id, "generation": facts.generation}
    log.error("snapshot cannot be read", extra={"facts": {**told, "cause": error.cause, "remedy": error.remedy}})
    return UnreadableError()


def _from_aiohttp(error: web.HTTPException) -> ScimError:
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return BodyTooLargeError(f"The body has more than {MAX_BODY_BYTES} bytes.")
    return StatusError(error.status, f"{error.reason}.")


def _level(facts: RequestFacts, status: int) -> int:
    if facts.quiet and (status < _CLIENT_ERROR or status == HTTPStatus.SERVICE_UNAVAILABLE):
        # A probe that is told "not ready" or "stale" asks again and again: what is wrong has been logged once.
        return logging.DEBUG
    return logging.WARNING if status >= _SERVER_ERROR else logging.INFO
