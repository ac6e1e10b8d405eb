"""What is asked of resource types: lists, searches in a body, single resources by id. Nothing can be written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from server.answer import scim_answer, unchanged_answer
from server.errors import BodyTimeoutError, EncodedBodyError, MethodNotAllowedError, NotFoundError, UnsupportedError
from server.keys import FACTS
from server.lists import answer_list, newest_snapshot
from server.metadata import metadata_of
from server.partial import cut_down
from server.preconditions import is_unchanged
from server.query import parse_query, read_projection, search_request
from server.routes import SEARCH
from server.search_body import search_body
from snapshot.scim import ScimVersion

if TYPE_CHECKING:
    from aiohttp import web

    from server.answer import Answer

READ_METHODS = ("GET", "HEAD")
# First segments of a query over all resource types: the base path itself, and the search below it.
ROOT_NAMES = frozenset({"", SEARCH})
_SEARCH_METHODS = ("POST",)
# A body is at most 64 KB; a client that sends it slower than this has gone.
BODY_SECONDS = 30.0


async def handle(request: web.BaseRequest) -> Answer:
    """Answer /Users, /Users/{id}, /Users/.search, and the same of every other resource type."""
    facts = request[FACTS]
    route = facts.route
    parts = route.parts or ()
    endpoints = facts.directory.endpoints[route.version]
    name = endpoints.types[route.name].name
    if parts[1:] == (SEARCH,):
        return await _search(request, (name,))
    if request.method not in READ_METHODS:
        raise MethodNotAllowedError(
            f"{route.name} cannot be changed here: this server is for import only, its source is a database.",
            allow=READ_METHODS,
        )
    if len(parts) == 1:
        return await answer_list(request, search_request(route.query, endpoints.limits), (name,))
    if len(parts) == 2:  # noqa: PLR2004 (type and id)
        return await _get(request, name, parts[1])
    raise NotFoundError("There is no such path.")


async def handle_root(request: web.BaseRequest) -> Answer:
    """Answer a query over all resource types (RFC 7644 section 3.4.2.1); SCIM 1.1 has none."""
    facts = request[FACTS]
    route = facts.route
    endpoints = facts.directory.endpoints[route.version]
    types = endpoints.every_type
    if route.parts == (SEARCH,):
        return await _search(request, types)
    if route.parts or route.version is ScimVersion.V1_1:
        raise NotFoundError("There is no such path.")
    if request.method not in READ_METHODS:
        raise MethodNotAllowedError("This path can only be read.", allow=READ_METHODS)
    return await answer_list(request, search_request(route.query, endpoints.limits), types)


async def _search(request: web.BaseRequest, types: tuple[str, ...]) -> Answer:
    """Answer POST .search (RFC 7644 section 3.4.3)."""
    facts = request[FACTS]
    version = facts.route.version
    if version is ScimVersion.V1_1:
        raise UnsupportedError("SCIM 1.1 has no .search. Use GET with a query string.")
    if request.method not in _SEARCH_METHODS:
        raise MethodNotAllowedError("A search is sent by POST.", allow=_SEARCH_METHODS)
    search = search_body(await _body(request), facts.directory.endpoints[version].limits)
    return await answer_list(request, search, types)


async def _body(request: web.BaseRequest) -> bytes:
    if request.headers.get("Content-Encoding", "identity").strip().casefold() not in {"", "identity"}:
        raise EncodedBodyError
    if request.headers.get("Expect", "").casefold() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise BodyTimeoutError(f"The body did not arrive within {BODY_SECONDS:.0f} seconds.") from None


async def _get(request: web.BaseRequest, resource_type: str, resource_id: str) -> Answer:
    facts = request[FACTS]
    version = facts.route.version
    query = facts.route.query
    attributes, excluded = read_projection(parse_query(query)) if query else ((), ())
    snapshot = newest_snapshot(facts.directory)
    facts.generation = snapshot.generation
    ordinal = snapshot.find(resource_type, resource_id)
    if ordinal is None:
        raise NotFoundError(f"There is no {resource_type} with this id.")
    body: bytes | memoryview
    body = resource = bytes(snapshot.resources(resource_type, version, ordinal, ordinal + 1))
    metadata = metadata_of(resource)
    if metadata.tag and is_unchanged(request.headers, metadata.tag):
        return unchanged_answer(metadata.fields)
    if attributes or excluded:
        body = await cut_down(request, resource, (resource_type,), attributes, excluded)
    return scim_answer(version, body, fields=metadata.fields)
