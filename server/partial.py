"""Encoded resources cut down to what a request asks for: large ones off the event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from server.keys import FACTS, SCANNERS
from server.projection import projection

if TYPE_CHECKING:
    from aiohttp import web

# Two milliseconds of work; a page of 200 users has some 150 KB.
_LARGE_BYTES = 64 << 10


async def cut_down(
    request: web.BaseRequest,
    resources: bytes | memoryview,
    types: tuple[str, ...],
    attributes: tuple[str, ...],
    excluded: tuple[str, ...],
) -> bytes | memoryview:
    """Return the same resources, of these types, with the attributes that were asked for."""
    facts = request[FACTS]
    endpoints = facts.directory.endpoints[facts.route.version]
    wanted = projection(attributes, excluded, endpoints.names)
    if wanted is None or not resources:
        return resources
    core_urn = next(item.urn for item in endpoints.types.values() if item.name in types) if len(types) == 1 else ""
    if len(resources) < _LARGE_BYTES:
        return wanted.apply(resources, core_urn)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(facts.app[SCANNERS], wanted.apply, resources, core_urn)
