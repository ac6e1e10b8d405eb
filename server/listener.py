"""The listening socket: limits of the HTTP parser, its errors in SCIM shape, TLS, an orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import http_parser, web
from aiohttp.http_exceptions import LineTooLong

from server.answer import error_answer
from server.errors import HeadersTooLargeError, InternalError, InvalidSyntaxError, ScimError, UriTooLongError
from server.keys import CONFIG, ROUTER
from snapshot.errors import SnapshotError

if TYPE_CHECKING:
    from server.routes import Router
    from server.tls import Certificate

log = logging.getLogger("server.request")

# Twice our own limits (middleware), which answer with the right status; beyond these a client is broken.
MAX_LINE_BYTES = 64 << 10
MAX_HEADERS = 256
KEEPALIVE_SECONDS = 120.0
LINGERING_SECONDS = 2.0
TLS_HANDSHAKE_SECONDS = 15.0
_BACKLOG = 512
_TOO_MANY_HEADERS = "Too many headers"


class ListenError(SnapshotError):
    """The address cannot be listened on."""


class ParserMissingError(SnapshotError):
    """aiohttp runs without its C parser."""


def check_parser() -> None:
    """Refuse the pure-Python HTTP parser: nearly all of its request smuggling faults were in that one."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ParserMissingError(
            "aiohttp runs without its C parser.",
            remedy="Unset AIOHTTP_NO_EXTENSIONS and install the aiohttp wheel for this platform.",
        )


class ScimRequestHandler(web.RequestHandler):
    """aiohttp's protocol, with errors that arise outside of every middleware in SCIM shape."""

    __slots__ = ("_router",)

    def __init__(self, server: web.Server, router: Router, **options: Any) -> None:
        super().__init__(server, **options)
        self._router = router

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 (aiohttp's signature; holds bytes of the request)
    ) -> web.StreamResponse:
        """Answer a request that could not be parsed, or whose handling failed beyond the middlewares."""
        if request.writer.output_size > 0:
            raise ConnectionError("The answer has been begun already.")
        request_id = os.urandom(8).hex()
        error = _error_of(status, exc, request_id)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("unexpected error", exc_info=exc, extra={"facts": {"request_id": request_id}})
        version = self._router.resolve(_begun_target(exc)).version
        response = error_answer(error, version)
        response.headers["X-Request-Id"] = request_id
        response.force_close()
        facts = {"request_id": request_id, "status": error.status, "peer": request.remote}
        log.info("malformed request", extra={"facts": {**facts, "reason": type(exc).__name__}})
        return response


def _error_of(status: int, exc: BaseException | None, request_id: str) -> ScimError:
    """Return what to tell the client; what it sent is not repeated to it."""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return InternalError(request_id)
    if isinstance(exc, LineTooLong):
        if _begun_target(exc) != "/":
            return UriTooLongError("The request target is too long.")
        return HeadersTooLargeError("A header field is too large.")
    if _TOO_MANY_HEADERS in str(exc):
        return HeadersTooLargeError("There are too many header fields.")
    return InvalidSyntaxError("This is not a proper HTTP request.")


def _begun_target(exc: BaseException | None) -> str:
    """Return the beginning of a request target that was too long; "/" if something else was wrong."""
    line = exc.args[0] if isinstance(exc, LineTooLong) and exc.args else b""
    begun = bytes(line).decode("ascii", "replace") if isinstance(line, bytes | bytearray) else str(line)
    return begun if begun.startswith("/") else "/"


class Listener:
    """Serves an application on the configured address until stopped."""

    def __init__(self, app: web.Application, certificate: Certificate | None = None) -> None:
        self._app = app
        self._config = app[CONFIG].server
        self._certificate = certificate
        # Handlers get half of the time to end by themselves and half to end after they are cancelled.
        self._runner = web.AppRunner(app, shutdown_timeout=self._config.shutdown_seconds / 2, access_log=None)
        self._server: asyncio.Server | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> list[tuple[str, int]]:
        """Start the application and listen; return the addresses. Raises ListenError or SecretError."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        secure: dict[str, Any] = {}
        if self._certificate is not None:
            secure = {"ssl": self._certificate.context, "ssl_handshake_timeout": TLS_HANDSHAKE_SECONDS}
        try:
            self._server = await loop.create_server(
                self._protocol, self._config.host, self._config.port, backlog=_BACKLOG, **secure
            )
        except OSError as error:
            raise _listen_error(error, self._config.host, self._config.port) from None
        if self._certificate is not None:
            self._watch = asyncio.create_task(self._follow(self._certificate), name="watch the certificate")
        return [item.getsockname()[:2] for item in self._server.sockets]

    async def stop(self) -> None:
        """Stop listening, let requests end within the configured time, end the application."""
        if self._server is not None:
            self._server.close()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._runner.cleanup(), self._config.shutdown_seconds + 1)

    def _protocol(self) -> ScimRequestHandler:
        server = self._runner.server
        if server is None:
            raise RuntimeError("The application has not been started.")
        return ScimRequestHandler(
            server,
            self._app[ROUTER],
            loop=asyncio.get_running_loop(),
            access_log=None,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGERING_SECONDS,
        )

    async def _follow(self, certificate: Certificate) -> None:
        while True:
            await asyncio.sleep(self._config.poll_seconds)
            certificate.reload()


def _listen_error(error: OSError, host: str, port: int) -> ListenError:
    if isinstance(error, socket.gaierror):
        return ListenError(f"server.host {host} is not an address of this machine.")
    if error.errno == errno.EADDRINUSE:
        return ListenError(
            f"Port {port} on {host} is taken by another program.",
            remedy="Stop it, or set another server.port.",
        )
    if error.errno == errno.EACCES:
        return ListenError(f"This account may not listen on port {port}.", remedy="Set a server.port above 1023.")
    return ListenError(f"{host} port {port} cannot be listened on: {error.strerror or error}.")
