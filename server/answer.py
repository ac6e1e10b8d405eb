"""Bytes to a web.Response: media type of the version and the headers that every answer carries."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from server.envelope import error_body
from snapshot.scim import ScimVersion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from server.errors import ScimError

# People's data: no cache keeps it, no browser guesses another type. No word on versions of the software.
_COMMON = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "scim-snapshot"}
_HEADERS = {version: {"Content-Type": f"{version.media_type}; charset=utf-8", **_COMMON} for version in ScimVersion}
_PLAIN_HEADERS = {"Content-Type": "application/json; charset=utf-8", **_COMMON}


def scim_answer(
    body: bytes, version: ScimVersion, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an answer in the media type of a SCIM version."""
    common = _HEADERS[version]
    return web.Response(body=body, status=status, headers={**common, **headers} if headers else common)


def unchanged_answer(headers: Mapping[str, str]) -> web.Response:
    """Return a 304: the headers that the 200 would have, but those of its body (RFC 9110 section 15.4.5)."""
    return web.Response(status=HTTPStatus.NOT_MODIFIED, headers={**_COMMON, **headers})


def json_answer(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer outside the base paths: plain JSON."""
    return web.Response(body=body, status=status, headers={**_PLAIN_HEADERS, **headers} if headers else _PLAIN_HEADERS)


def error_answer(error: ScimError, version: ScimVersion) -> web.Response:
    """Return the answer to an error, with the headers that belong to it."""
    response = scim_answer(error_body(version, error), version, status=error.status)
    response.headers.update(error.headers)
    return response
