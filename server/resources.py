"""Lists of resources and one resource by id, from a pinned or the newest snapshot.

No JSON is parsed or made for a resource: a page is a slice of the mapped file between a head and a tail.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from server.answer import scim_answer
from server.envelope import list_body
from server.errors import MethodNotAllowedError, NotFoundError, NotReadyError, UnsupportedError
from server.keys import CONFIG, FACTS, LIVE, PINS, SCANNERS
from server.lookback import bounds_last_modified, look_back
from server.pins import Client, ListName
from server.query import search_request
from snapshot.filter import And, Filter, Or, parse_filter
from snapshot.scim import GROUP, USER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from server.pins import Run
    from snapshot.reader import Snapshot

RESOURCE_TYPES = {"Users": USER, "Groups": GROUP}
READ_METHODS = ("GET", "HEAD")
_SEARCH = ".search"
_RETRY_AFTER_SECONDS = 10


async def handle(request: web.Request) -> web.Response:
    """Answer /Users, /Users/{id} and the same of every other resource type."""
    route = request[FACTS].route
    parts = route.parts or ()
    resource_type = RESOURCE_TYPES[route.name]
    if request.method not in READ_METHODS:
        if request.method == "POST" and parts[1:] == (_SEARCH,):
            raise UnsupportedError("This server does not offer POST .search. Use GET with a query string.")
        raise MethodNotAllowedError(
            f"{route.name} cannot be changed here: this server is for import only, its source is a database.",
            allow=READ_METHODS,
        )
    if len(parts) == 1:
        return await _list(request, resource_type)
    if len(parts) == 2:  # noqa: PLR2004 (type and id)
        return _get(request, resource_type, parts[1])
    raise NotFoundError("There is no such path.")


def newest_snapshot(request: web.Request) -> Snapshot:
    """Return the snapshot being served; raises NotReadyError before the first one, never an empty list."""
    snapshot = request.app[LIVE].current
    if snapshot is None:
        raise NotReadyError(
            "No snapshot is served yet: it is being opened, or the first refresh has to end first.",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )
    return snapshot


def _get(request: web.Request, resource_type: str, resource_id: str) -> web.Response:
    facts = request[FACTS]
    version = facts.route.version
    snapshot = newest_snapshot(request)
    facts.generation = snapshot.generation
    ordinal = snapshot.find(resource_type, resource_id)
    if ordinal is None:
        raise NotFoundError(f"There is no {resource_type} with this id.")
    return scim_answer(bytes(snapshot.resources(resource_type, version, ordinal, ordinal + 1)), version)


async def _list(request: web.Request, resource_type: str) -> web.Response:
    facts = request[FACTS]
    route = facts.route
    app = request.app
    config = app[CONFIG]
    search = search_request(route.query, default_count=config.server.default_count, max_count=config.server.max_count)
    tree = None if search.filter is None else parse_filter(search.filter, config.mapping.extension_urns)
    newest = newest_snapshot(request)
    pins = app[PINS]
    client = Client(facts.principal, request.remote or "", route.version)
    name = ListName(resource_type, search.filter, tree is None or is_incremental(tree))
    run = pins.choose(client, name, start_index=search.start_index, newest=newest)
    snapshot = run.snapshot
    facts.generation = snapshot.generation
    first = search.start_index - 1
    if tree is None:
        total = snapshot.count(resource_type)
        last = min(first + search.count, total)
        items = max(last - first, 0)
        resources = snapshot.resources(resource_type, route.version, first, last) if items else b""
    else:
        # The pin goes by the client's own words: another look-back is no other list.
        earlier = look_back(tree, config.server.incremental_lookback_seconds)
        ordinals = await _selected(request, run, name, earlier)
        total = len(ordinals)
        page = ordinals[first : first + search.count]
        items = len(page)
        resources = snapshot.gather(resource_type, route.version, page)
    pins.served(client, name, run, start_index=search.start_index, following=first + items + 1, total=total)
    facts.quiet = not search.is_first_page
    body = list_body(route.version, total=total, start_index=search.start_index, items=items, resources=resources)
    return scim_answer(body, route.version)


async def _selected(request: web.Request, run: Run, name: ListName, tree: Filter) -> Sequence[int]:
    """Return what a filter selects: once a run; in a thread unless look-ups answer it."""
    known = run.selections.get(name)
    if known is not None:
        return known
    snapshot = run.snapshot
    if snapshot.is_quick(name.resource_type, tree):
        ordinals = snapshot.select(name.resource_type, tree)
    else:
        loop = asyncio.get_running_loop()
        scanners = request.app[SCANNERS]
        ordinals = await loop.run_in_executor(scanners, snapshot.select, name.resource_type, tree)
    run.keep_selection(name, ordinals)
    return ordinals


def is_incremental(tree: Filter) -> bool:
    """Tell whether a filter only bounds meta.lastModified: such a list belongs to an import run."""
    if isinstance(tree, And | Or):
        return is_incremental(tree.left) and is_incremental(tree.right)
    return bounds_last_modified(tree)
