"""The typed keys under which the application and a request keep what handlers need, and RequestFacts."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from server.compression import Compressor
from server.directories import Directories
from server.request_log import RequestLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from server.answer import Answer
    from server.directory import Directory
    from server.routes import Route

    Handler = Callable[[web.BaseRequest], Awaitable[Answer]]

DIRECTORIES: web.AppKey[Directories] = web.AppKey("directories", Directories)
REQUEST_LOG: web.AppKey[RequestLog] = web.AppKey("request_log", RequestLog)
# Evaluates filters that scan; few threads, so that many of them cannot slow the rest down.
SCANNERS: web.AppKey[Executor] = web.AppKey("scanners", Executor)
# Absent where server.compression is off.
COMPRESSOR: web.AppKey[Compressor] = web.AppKey("compressor", Compressor)


@dataclass(slots=True)
class RequestFacts:
    """What is known of one request; filled as it is answered, read by the log line."""

    request_id: str
    route: Route
    app: web.Application
    # Whose path it is; None for what concerns the whole instance while it has several apps.
    served: Directory | None
    principal: str = ""
    generation: int | None = None
    # Set on what happens thousands of times an import or every second: logged at level debug.
    quiet: bool = False

    @property
    def directory(self) -> Directory:
        """The app that the path belongs to; every path below a base path belongs to one."""
        if self.served is None:
            raise RuntimeError("This path belongs to no app.")
        return self.served

    @property
    def app_name(self) -> str:
        """The name of the app for the log; empty for the only one, and for the whole instance."""
        return self.served.name if self.served is not None else ""


# Answers every request, whatever its path: aiohttp's own routes and middlewares are not gone through.
HANDLER: web.AppKey[Handler] = web.AppKey("handler")

# One key instead of one a fact: each access costs as much as a look-up in the index.
FACTS: web.RequestKey[RequestFacts] = web.RequestKey("facts", RequestFacts)
