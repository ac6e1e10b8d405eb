"""The typed keys under which the application and a request keep what handlers need. Nothing else."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING

from aiohttp import web

from server.credentials import Access
from server.live import LiveSnapshot
from server.pins import Pins
from server.routes import Route, Router
from snapshot.config import Config

if TYPE_CHECKING:
    from server.documents import Documents

CONFIG: web.AppKey[Config] = web.AppKey("config", Config)
LIVE: web.AppKey[LiveSnapshot] = web.AppKey("live", LiveSnapshot)
PINS: web.AppKey[Pins] = web.AppKey("pins", Pins)
ROUTER: web.AppKey[Router] = web.AppKey("router", Router)
DOCUMENTS: web.AppKey[dict[str, Documents]] = web.AppKey("documents", dict)
# Set when the application starts: secrets are read and threads are made then, not before.
ACCESS: web.AppKey[Access] = web.AppKey("access", Access)
# Evaluates filters that scan; few threads, so that many of them cannot slow the rest down.
SCANNERS: web.AppKey[Executor] = web.AppKey("scanners", Executor)

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
ROUTE: web.RequestKey[Route] = web.RequestKey("route", Route)
PRINCIPAL: web.RequestKey[str] = web.RequestKey("principal", str)
GENERATION: web.RequestKey[int] = web.RequestKey("generation", int)
# Set on what happens thousands of times an import or every second: logged at level debug.
QUIET: web.RequestKey[bool] = web.RequestKey("quiet", bool)
