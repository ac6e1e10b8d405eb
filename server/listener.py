"""The listening socket: limits of parser and connections, errors in SCIM shape, TLS, an orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import socket
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from aiohttp import http_parser, web
from aiohttp.http_exceptions import InvalidURLError, LineTooLong

from server.answer import error_answer
from server.at_once import AtOnce
from server.errors import HeadersTooLargeError, InternalError, InvalidSyntaxError, ScimError, UriTooLongError
from server.keys import DIRECTORIES, HANDLER
from server.middleware import MAX_BODY_BYTES
from snapshot.errors import SnapshotError

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage

    from server.routes import Router
    from server.tls import Certificate

log = logging.getLogger("server.request")

# Twice our own limits (middleware), which answer with the right status; beyond these a client is broken.
MAX_LINE_BYTES = 64 << 10
MAX_HEADERS = 256
KEEPALIVE_SECONDS = 120.0
LINGERING_SECONDS = 2.0
TLS_HANDSHAKE_SECONDS = 15.0
# A connection that has not sent a whole request head for so long is closed.
HEAD_SECONDS = 30.0
MAX_CONNECTIONS = 2000
_BACKLOG = 128
# Files of snapshots, logs and the interpreter, beside the connections.
_OTHER_FILES = 128
_WANTED_FILES = 4096
_WARNING_SECONDS = 60.0
# Bytes kept of what came last on a connection, to tell which base path a malformed request was meant for.
_KEPT_BYTES = 4 << 10
_REQUEST_LINE = re.compile(rb"^[A-Za-z]+ +(\S[^\r\n]*?) +HTTP/", re.MULTILINE)
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


def raise_open_files() -> int | None:
    """Raise the limit of open files as far as it is of use; return it, or None where there is none."""
    try:
        import resource  # noqa: PLC0415  # POSIX only
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = _WANTED_FILES if hard == unlimited else min(hard, _WANTED_FILES)
    if soft != unlimited and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return None if soft == unlimited else soft


def max_connections(open_files: int | None) -> int:
    """Return how many connections may be open when so many files may be."""
    return MAX_CONNECTIONS if open_files is None else max(1, min(MAX_CONNECTIONS, open_files - _OTHER_FILES))


@dataclass(slots=True)
class Gate:
    """Limits of connections, and how many are open."""

    limit: int
    head_seconds: float = HEAD_SECONDS
    open: int = 0
    _warned_at: float = field(default=-_WARNING_SECONDS)

    def enter(self) -> bool:
        """Count a new connection; False if there are too many already."""
        if self.open < self.limit:
            self.open += 1
            return True
        now = time.monotonic()
        if now - self._warned_at >= _WARNING_SECONDS:
            self._warned_at = now
            log.warning("too many connections", extra={"facts": {"limit": self.limit}})
        return False

    def leave(self) -> None:
        """Count a connection off."""
        self.open -= 1


class ScimRequestHandler(AtOnce):
    """aiohttp's protocol, with limits for silent connections, and every error in SCIM shape."""

    __slots__ = ("_entered", "_gate", "_head_timer", "_last_line", "_last_payload", "_router")

    def __init__(self, server: web.Server, router: Router, gate: Gate, **options: Any) -> None:
        super().__init__(server, **options)
        self._router = router
        self._gate = gate
        self._entered = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._last_payload: StreamReader | None = None
        self._last_line = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it at once if there are too many."""
        self._entered = self._gate.enter()
        if not self._entered:
            self._force_close = True
            cast("asyncio.Transport", transport).abort()
            return
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Parse; a request head that has begun has to end in time."""
        payload = self._last_payload
        in_body = payload is not None and not payload.is_eof()
        count = self._request_count
        if b" HTTP/" in data:
            self._last_line = data[-_KEPT_BYTES:] if in_body else data[:_KEPT_BYTES]
        super().data_received(data)
        if self._request_count != count:
            if self._head_timer is not None:
                self._stop_timer()
            payload = self._messages[-1][1] if self._messages else None
            # Nearly no request has a body.
            self._last_payload = None if payload is None or payload.is_eof() else payload
        elif data and not in_body and self._head_timer is None:
            self._wait_for_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of the connection."""
        self._stop_timer()
        if self._entered:
            self._entered = False
            self._gate.leave()
        super().connection_lost(exc)

    def _target(self, request: web.BaseRequest, exc: BaseException | None) -> str:
        """Return the target of the request that went wrong, as far as it is known."""
        target = _begun_target(exc)
        if target == "/":
            target = request.raw_path
        if target == "/":  # aiohttp's stand-in for a request that could not be parsed
            lines = _REQUEST_LINE.findall(self._last_line)
            target = lines[-1].decode("ascii", "replace") if lines else "/"
        return target

    def _wait_for_head(self) -> None:
        self._head_timer = asyncio.get_running_loop().call_later(self._gate.head_seconds, self._end_silence)

    def _end_silence(self) -> None:
        if self._current_request is not None:  # an earlier request on this connection is still being answered
            self._wait_for_head()
            return
        self._head_timer = None
        self.force_close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

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
        version = self._router.resolve(self._target(request, exc)).version
        response = error_answer(error, version)
        response.request_id = request_id
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
    if isinstance(exc, InvalidURLError):
        # To let these through, bytes would have to be changed before the parser has found where a request begins and
        # ends: a second, smaller parser of HTTP, and an invitation to smuggle requests past it.
        return InvalidSyntaxError("The path or query holds a character that has to be percent-encoded, as UTF-8.")
    return InvalidSyntaxError("This is not a proper HTTP request.")


def _begun_target(exc: BaseException | None) -> str:
    """Return the beginning of a request target that was too long; "/" if something else was wrong."""
    line = exc.args[0] if isinstance(exc, LineTooLong) and exc.args else b""
    begun = bytes(line).decode("ascii", "replace") if isinstance(line, bytes | bytearray) else str(line)
    return begun if begun.startswith("/") else "/"


class Listener:
    """Serves an application on the configured address until stopped."""

    def __init__(
        self, app: web.Application, certificate: Certificate | None = None, *, gate: Gate | None = None
    ) -> None:
        self._app = app
        self._config = app[DIRECTORIES].server
        self._certificate = certificate
        self._gate = gate or Gate(max_connections(raise_open_files()))
        # Handlers get half of the time to end by themselves and half to end after they are cancelled.
        self._shutdown_seconds = self._config.shutdown_seconds / 2
        self._runner = web.AppRunner(app, access_log=None)
        self._connections: web.ServerRunner | None = None
        self._server: asyncio.Server | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> list[tuple[str, int]]:
        """Start the application and listen; return the addresses. Raises ListenError or SecretError."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        requests = web.Server(self._app[HANDLER], request_factory=_make_request)
        self._connections = web.ServerRunner(requests, shutdown_timeout=self._shutdown_seconds)
        await self._connections.setup()
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
            await asyncio.wait_for(self._end(), self._config.shutdown_seconds + 1)

    async def _end(self) -> None:
        if self._connections is not None:
            await self._connections.cleanup()
        await self._runner.cleanup()

    def _protocol(self) -> ScimRequestHandler:
        server = self._connections.server if self._connections is not None else None
        if server is None:
            raise RuntimeError("The application has not been started.")
        return ScimRequestHandler(
            server,
            self._app[DIRECTORIES].router,
            self._gate,
            loop=asyncio.get_running_loop(),
            access_log=None,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
            # No body is read, so none is worth the errors that decompressing it can raise.
            auto_decompress=False,
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGERING_SECONDS,
        )

    async def _follow(self, certificate: Certificate) -> None:
        while True:
            await asyncio.sleep(self._config.poll_seconds)
            certificate.reload()


def _make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    return web.BaseRequest(
        message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=MAX_BODY_BYTES
    )


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
