"""Lists of resources, by index or by cursor, from a pinned, the newest or an older snapshot.

A plain page parses and makes no JSON: it is one slice of the mapped file between a head and a tail.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import msgspec

from server.answer import scim_answer
from server.at_once import later
from server.cursors import Place, read_cursor, write_cursor
from server.envelope import cursor_list_body, list_body
from server.errors import ExpiredCursorError, NotReadyError, RestartListError
from server.keys import FACTS, SCANNERS
from server.listing import Listing
from server.lookback import bounds_last_modified, look_back
from server.partial import cut_down
from server.pins import Client, ListName
from server.selecting import select
from server.sorting import sort_of
from snapshot.filter import And, Filter, Or, parse_filter, plain_equal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from server.answer import Answer
    from server.directory import Directory
    from server.query import SearchRequest
    from snapshot.filter import Sort
    from snapshot.reader import Snapshot
    from snapshot.scim import ScimVersion

_RETRY_AFTER_SECONDS = 10
# Longer filters are rare, and would take memory.
_REMEMBERED_LENGTH = 1_000
_MAX_REMEMBERED = 64


class Query(msgspec.Struct, frozen=True, gc=False):
    """Which resources a list holds and in which order: resource types, filter and sort; `name` for pins and caches."""

    name: ListName
    types: tuple[str, ...]
    tree: Filter | None
    sort: Sort | None
    # Whether the list is one whole resource type in its own order.
    is_plain: bool = False


def newest_snapshot(directory: Directory) -> Snapshot:
    """Return the snapshot being served; raises NotReadyError before the first one, never an empty list."""
    snapshot = directory.live.current
    if snapshot is None:
        raise NotReadyError(
            "No snapshot is served yet: it is being opened, or the first refresh has to end first.",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )
    return snapshot


async def answer_list(request: web.BaseRequest, search: SearchRequest, types: tuple[str, ...]) -> Answer:
    """Answer one page of a list over one resource type, or over all of them."""
    facts = request[FACTS]
    directory, version = facts.directory, facts.route.version
    if search.cursor is not None:
        return await _by_cursor(request, search, _query(directory, version, search, types), search.cursor)
    newest = newest_snapshot(directory)
    start_index = search.start_index
    if search.filter is not None and start_index == 1 and search.sort_by is None and len(types) == 1:
        tree = plain_equal(search.filter, directory.endpoints[version].names.extensions)
        found = None if tree is None else newest.look_up(types[0], tree)
        if found is not None and len(found) <= search.count:
            return await _answer_look_up(request, search, newest, types[0], found)
    query = _query(directory, version, search, types)
    pins = directory.pins
    client = Client(facts.principal, request.remote or "", version)
    run = pins.choose(client, query.name, start_index=start_index, newest=newest)
    snapshot = run.snapshot
    if start_index == 1 and snapshot is not newest:
        directory.live.note_older(snapshot)
    facts.generation = snapshot.generation
    first = start_index - 1
    resources: bytes | memoryview
    if query.is_plain:
        total = snapshot.count(types[0])
        last = min(first + search.count, total)
        items = max(last - first, 0)
        resources = snapshot.resources(types[0], version, first, last) if items else b""
    else:
        listing = run.selections.get(query.name)
        if listing is None:
            with pins.beginning(client, query.name) if start_index == 1 else contextlib.nullcontext():
                listing = await _listing(request, snapshot, query)
            known = run.trails.get(query.name)
            if start_index > 1 and known is not None and known.total != listing.total:
                # Selected anew, and now more is known of what was served when.
                raise RestartListError
            run.keep_selection(query.name, listing)
        total = listing.total
        items, resources = listing.page(snapshot, version, first, search.count)
    # Whoever asks for the next page finds out here which snapshot goes on.
    later(request, partial(pins.served, client, query.name, run, start_index, first + items + 1, total))
    facts.quiet = start_index != 1
    if search.attributes or search.excluded:
        resources = await cut_down(request, resources, query.types, search.attributes, search.excluded)
    body = list_body(version, total=total, start_index=start_index, items=items, resources=resources)
    return scim_answer(version, *body)


async def _answer_look_up(
    request: web.BaseRequest, search: SearchRequest, newest: Snapshot, resource_type: str, found: Sequence[int]
) -> Answer:
    """Answer `attribute eq "text"`, all of it on one page: no list that goes on, so nothing is pinned."""
    facts = request[FACTS]
    facts.generation = newest.generation
    version = facts.route.version
    resources: bytes | memoryview = newest.gather(resource_type, version, found)
    if search.attributes or search.excluded:
        resources = await cut_down(request, resources, (resource_type,), search.attributes, search.excluded)
    items = len(found)
    return scim_answer(version, *list_body(version, total=items, start_index=1, items=items, resources=resources))


async def _by_cursor(request: web.BaseRequest, search: SearchRequest, query: Query, cursor: str) -> Answer:
    """Answer one page of a list by cursor (RFC 9865): the cursor names the generation, so no pin is needed."""
    facts = request[FACTS]
    version = facts.route.version
    client = Client(facts.principal, request.remote or "", version)
    identity = _identity(request, query)
    place = read_cursor(cursor, identity) if cursor else None
    if place is not None:
        snapshot = await _named(request, client, query.name, place)
        first = place.first
    else:
        newest = newest_snapshot(facts.directory)
        snapshot = facts.directory.pins.choose(client, query.name, start_index=1, newest=newest).snapshot
        if snapshot is not newest:
            facts.directory.live.note_older(snapshot)
        first = 0
    facts.generation = snapshot.generation
    facts.quiet = bool(cursor)
    key = (snapshot.generation, snapshot.manifest.created_ms, query.name)
    listings = facts.directory.listings
    listing = listings.get(key)
    if listing is None:
        listing = await _listing(request, snapshot, query)
        if not query.is_plain:
            listings.keep(key, listing)
    total = listing.total
    if place is not None and place.total != total:
        raise ExpiredCursorError
    resources: bytes | memoryview
    items, resources = listing.page(snapshot, version, first, search.count)
    if search.attributes or search.excluded:
        resources = await cut_down(request, resources, query.types, search.attributes, search.excluded)

    def at(first: int) -> str:
        return write_cursor(Place(snapshot.generation, snapshot.manifest.created_ms, first, total), identity)

    following = at(first + items) if first + items < total else ""
    previous = at(max(first - search.count, 0)) if first else ""
    body = cursor_list_body(total=total, items=items, following=following, previous=previous, resources=resources)
    return scim_answer(version, *body)


async def _named(request: web.BaseRequest, client: Client, name: ListName, place: Place) -> Snapshot:
    """Return the snapshot that a cursor names, from memory or from disk; raises ExpiredCursorError."""
    directory = request[FACTS].directory
    snapshot = directory.pins.resume(client, name, place.generation)
    newest = directory.live.current
    if snapshot is None and newest is not None and newest.generation == place.generation:
        snapshot = newest
    if snapshot is None:
        snapshot = await directory.archive.get(place.generation)
    if snapshot is None or snapshot.manifest.created_ms != place.created_ms:
        raise ExpiredCursorError
    return snapshot


def _query(directory: Directory, version: ScimVersion, search: SearchRequest, types: tuple[str, ...]) -> Query:
    text = search.filter
    if text is None and search.sort_by is None:
        return _whole_list(types)
    urns = directory.endpoints[version].names.extensions
    known = None
    if text is not None:
        known = (_filtered_again if len(text) <= _REMEMBERED_LENGTH else _filtered)(text, urns, types)
    sort = sort_of(search, urns)
    if sort is None and known is not None:
        return known
    assert sort is not None  # noqa: S101 (there is a filter or an order)
    order = f"{'-' if sort.descending else '+'}{sort.path.core}{str(sort.path).casefold()}"
    name = ListName(types[0] if len(types) == 1 else "", text, False, order)
    return Query(name, types, None if known is None else known.tree, sort)


def _filtered(text: str, urns: tuple[str, ...], types: tuple[str, ...]) -> Query:
    tree = parse_filter(text, urns)
    whole_type = types[0] if len(types) == 1 else ""
    return Query(ListName(whole_type, text, bool(whole_type) and is_incremental(tree)), types, tree, None)


# Every page of a list comes with the whole filter again.
_filtered_again = lru_cache(maxsize=_MAX_REMEMBERED)(_filtered)


@lru_cache(maxsize=64)
def _whole_list(types: tuple[str, ...]) -> Query:
    """Return the query of everything there is of these types, in their own order."""
    whole_type = types[0] if len(types) == 1 else ""
    return Query(ListName(whole_type, None, bool(whole_type)), types, None, None, is_plain=bool(whole_type))


def _identity(request: web.BaseRequest, query: Query) -> bytes:
    """Return what tells this list from every other, for its cursors. Another look-back is another list."""
    name = query.name
    lookback = request[FACTS].directory.config.server.incremental_lookback_seconds if query.tree is not None else 0
    return msgspec.json.encode((query.types, name.filter, name.sort, lookback))


async def _listing(request: web.BaseRequest, snapshot: Snapshot, query: Query) -> Listing:
    """Select and sort; in a thread unless look-ups answer it."""
    # Pins and cursors go by the client's own words: another look-back is no other list.
    directory = request[FACTS].directory
    seconds = directory.config.server.incremental_lookback_seconds
    tree = None if query.tree is None else look_back(query.tree, seconds, directory.live.served.bound)
    if tree is None and query.sort is None:
        return Listing(tuple((name, range(snapshot.count(name))) for name in query.types))
    if tree is not None and all(snapshot.is_quick(name, tree) for name in query.types):
        return select(snapshot, query.types, tree, query.sort)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(request[FACTS].app[SCANNERS], select, snapshot, query.types, tree, query.sort)


def is_incremental(tree: Filter) -> bool:
    """Tell whether a filter only bounds meta.lastModified: such a list belongs to an import run."""
    if isinstance(tree, And | Or):
        return is_incremental(tree.left) and is_incremental(tree.right)
    return bounds_last_modified(tree)
