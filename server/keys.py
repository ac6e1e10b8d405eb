"""The typed keys under which the application and a request keep what handlers need, and RequestFacts."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from server.archive import Archive
from server.credentials import Access
from server.listing import Listings
from server.live import LiveSnapshot
from server.pins import Pins
from server.request_log import RequestLog
from server.routes import Route, Router
from snapshot.config import Config

if TYPE_CHECKING:
    from server.documents import Documents
    from server.endpoints import Endpoints
    from snapshot.scim import ScimVersion

CONFIG: web.AppKey[Config] = web.AppKey("config", Config)
LIVE: web.AppKey[LiveSnapshot] = web.AppKey("live", LiveSnapshot)
PINS: web.AppKey[Pins] = web.AppKey("pins", Pins)
# Older generations, and what was selected from any, for lists by cursor.
ARCHIVE: web.AppKey[Archive] = web.AppKey("archive", Archive)
LISTINGS: web.AppKey[Listings] = web.AppKey("listings", Listings)
ROUTER: web.AppKey[Router] = web.AppKey("router", Router)
ENDPOINTS: web.AppKey[dict[ScimVersion, Endpoints]] = web.AppKey("endpoints", dict)
DOCUMENTS: web.AppKey[dict[str, Documents]] = web.AppKey("documents", dict)
REQUEST_LOG: web.AppKey[RequestLog] = web.AppKey("request_log", RequestLog)
# Set when the application starts: secrets are read and threads are made then, not before.
ACCESS: web.AppKey[Access] = web.AppKey("access", Access)
# Evaluates filters that scan; few threads, so that many of them cannot slow the rest down.
SCANNERS: web.AppKey[Executor] = web.AppKey("scanners", Executor)


@dataclass(slots=True)
class RequestFacts:
    """What is known of one request; filled as it goes through the middlewares, read by the log line."""

    request_id: str
    route: Route
    principal: str = ""
    generation: int | None = None
    # Set on what happens thousands of times an import or every second: logged at level debug.
    quiet: bool = False


# One key instead of one a fact: each access costs as much as a look-up in the index.
FACTS: web.RequestKey[RequestFacts] = web.RequestKey("facts", RequestFacts)
