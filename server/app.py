"""The application: `create_app(config, live)` wires the parts and does no I/O."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from aiohttp import web

from server import discovery, operations, quarantine, resources
from server.archive import Archive
from server.auth import authenticate
from server.credentials import open_access
from server.documents import make_documents
from server.endpoints import make_endpoints
from server.errors import NotFoundError, UnsupportedError
from server.freshness import FreshnessWatch
from server.keys import (
    ACCESS,
    ARCHIVE,
    CONFIG,
    DOCUMENTS,
    ENDPOINTS,
    FACTS,
    LISTINGS,
    LIVE,
    PINS,
    REQUEST_LOG,
    ROUTER,
    SCANNERS,
)
from server.listing import Listings
from server.middleware import MAX_BODY_BYTES, make_canonical
from server.pins import Pins
from server.request_log import LoggingRequestLog
from server.routes import Area, Router
from snapshot.scim import ScimVersion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from server.live import LiveSnapshot
    from server.request_log import RequestLog
    from snapshot.config import Config

_SCANNER_THREADS = 2
# SCIM endpoints that this server knows of and does not offer (RFC 7644 sections 3.7 and 3.11).
_UNSUPPORTED = {"Bulk": "bulk operations", "Me": "/Me"}


def create_app(config: Config, live: LiveSnapshot, *, request_log: RequestLog | None = None) -> web.Application:
    """Return the application. Secrets are read and the watch on the data folder begins when it starts.

    Without a `request_log` the lines go through logging.
    """
    app = web.Application(middlewares=(make_canonical(), authenticate), client_max_size=MAX_BODY_BYTES)
    server = config.server
    app[CONFIG] = config
    app[LIVE] = live
    app[PINS] = Pins(ttl_seconds=server.pin_ttl_seconds, limit=server.max_pins)
    app[ARCHIVE] = Archive(live.data_dir)
    app[LISTINGS] = Listings()
    app[REQUEST_LOG] = request_log or LoggingRequestLog()
    app[ROUTER] = Router(server.paths)
    app[ENDPOINTS] = {version: make_endpoints(config, version) for version in ScimVersion}
    app[DOCUMENTS] = {path: make_documents(config, base) for path, base in server.paths.items()}
    # One route for everything: Okta doubles slashes and ids hold encoded ones, so Router reads the raw path.
    # `.` would leave out a path that holds an encoded newline.
    app.router.add_route("*", r"/{path:[\s\S]*}", _dispatch, expect_handler=_no_expectation)
    app.cleanup_ctx.append(_access)
    app.cleanup_ctx.append(_scanners)
    app.cleanup_ctx.append(_watch)
    return app


async def _dispatch(request: web.Request) -> web.StreamResponse:
    route = request[FACTS].route
    if route.parts is None:
        raise NotFoundError("There is no such path: it is not UTF-8 text.")
    if route.area is Area.SCIM:
        if route.name in request.app[ENDPOINTS][route.version].types:
            return await resources.handle(request)
        if route.name in discovery.NAMES:
            return await discovery.handle(request)
        if route.name in _UNSUPPORTED:
            raise UnsupportedError(f"This server does not offer {_UNSUPPORTED[route.name]}.")
        if route.name in resources.ROOT_NAMES:
            return await resources.handle_root(request)
        raise NotFoundError("There is no such endpoint.")
    if route.area is Area.ADMIN:
        if route.parts[:2] == quarantine.PREFIX:
            return await quarantine.handle(request)
        return await operations.handle_admin(request)
    return await operations.handle_open(request)


async def _no_expectation(_request: web.Request) -> None:
    """Let `Expect` pass: no body is wanted, so the final answer comes at once (RFC 9110 section 10.1.1)."""


async def _access(app: web.Application) -> AsyncIterator[None]:
    server = app[CONFIG].server
    app[ACCESS] = open_access(server.auth, server.admin)
    yield
    app[ACCESS].close()
    app[REQUEST_LOG].flush()


async def _scanners(app: web.Application) -> AsyncIterator[None]:
    executor = ThreadPoolExecutor(_SCANNER_THREADS, thread_name_prefix="scan")
    app[SCANNERS] = executor
    yield
    executor.shutdown(wait=False, cancel_futures=True)


async def _watch(app: web.Application) -> AsyncIterator[None]:
    """Look for newer generations and end idle pins for as long as the application lives."""
    live, pins, archive = app[LIVE], app[PINS], app[ARCHIVE]
    server = app[CONFIG].server
    freshness = FreshnessWatch(live, server.max_age_seconds)

    async def watch() -> None:
        while True:
            await live.poll()
            freshness.look()
            pins.expire()
            archive.expire()
            await asyncio.sleep(server.poll_seconds)

    task = asyncio.create_task(watch(), name="watch the data folder")
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
