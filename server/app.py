"""The application: `create_app(config, live)` and `create_instance_app(directories)` wire the parts and do no I/O."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from aiohttp import web

from server import discovery, operations, quarantine, resources
from server.auth import authenticate
from server.compression import Compressor
from server.directories import Directories
from server.directory import Directory
from server.errors import NotFoundError, UnsupportedError
from server.keys import COMPRESSOR, DIRECTORIES, FACTS, HANDLER, REQUEST_LOG, SCANNERS
from server.middleware import make_canonical
from server.request_log import LoggingRequestLog
from server.routes import Area

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from server.answer import Answer
    from server.live import LiveSnapshot
    from server.request_log import RequestLog
    from snapshot.config import Config

_SCANNER_THREADS = 2
# SCIM endpoints that this server knows of and does not offer (RFC 7644 sections 3.7 and 3.11).
_UNSUPPORTED = {"Bulk": "bulk operations", "Me": "/Me"}


def create_app(config: Config, live: LiveSnapshot, *, request_log: RequestLog | None = None) -> web.Application:
    """Return the application of one app."""
    return create_instance_app([Directory(config, live)], request_log=request_log)


def create_instance_app(directories: Sequence[Directory], *, request_log: RequestLog | None = None) -> web.Application:
    """Return the application. Secrets are read and the watch on the data folders begins when it starts.

    Without a `request_log` the lines go through logging.
    """
    # For state and life alone. Requests go past its router and middlewares: docs/decisions/0017-past-the-router.md
    app = web.Application()
    app[DIRECTORIES] = Directories(directories)
    app[REQUEST_LOG] = request_log or LoggingRequestLog()
    app[HANDLER] = make_canonical(app, _dispatch)
    app.cleanup_ctx.append(_access)
    app.cleanup_ctx.append(_scanners)
    if app[DIRECTORIES].server.compression:
        app.cleanup_ctx.append(_compressor)
    app.cleanup_ctx.append(_watch)
    return app


async def _dispatch(request: web.BaseRequest) -> Answer:
    """Answer a request by its raw path: Okta doubles slashes, and ids hold encoded ones.

    `Expect` is passed over: no body is wanted, so the final answer comes at once (RFC 9110 section 10.1.1).
    """
    await authenticate(request)
    facts = request[FACTS]
    route = facts.route
    if route.parts is None:
        raise NotFoundError("There is no such path: it is not UTF-8 text.")
    if route.area is Area.SCIM:
        if route.name in facts.directory.endpoints[route.version].types:
            return await resources.handle(request)
        if route.name in discovery.NAMES:
            return await discovery.handle(request)
        if route.name in _UNSUPPORTED:
            raise UnsupportedError(f"This server does not offer {_UNSUPPORTED[route.name]}.")
        if route.name in resources.ROOT_NAMES:
            return await resources.handle_root(request)
        raise NotFoundError("There is no such endpoint.")
    if route.area is Area.ADMIN:
        parts = operations.parts_in_app(request)
        if parts[:2] == quarantine.PREFIX:
            return await quarantine.handle(request, parts)
        return await operations.handle_admin(request, parts)
    return await operations.handle_open(request)


async def _access(app: web.Application) -> AsyncIterator[None]:
    directories = app[DIRECTORIES]
    directories.open()
    yield
    directories.close()
    app[REQUEST_LOG].flush()


async def _scanners(app: web.Application) -> AsyncIterator[None]:
    executor = ThreadPoolExecutor(_SCANNER_THREADS, thread_name_prefix="scan")
    app[SCANNERS] = executor
    yield
    executor.shutdown(wait=False, cancel_futures=True)


async def _compressor(app: web.Application) -> AsyncIterator[None]:
    compressor = app[COMPRESSOR] = Compressor()
    yield
    compressor.close()


async def _watch(app: web.Application) -> AsyncIterator[None]:
    """Watch the data folders for as long as the application lives, each by itself: one that hangs stops no other."""
    tasks = [asyncio.create_task(item.watch(), name="watch the data folder") for item in app[DIRECTORIES]]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
