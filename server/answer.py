"""Answer: head and body as bytes that are ready, sent as they are; media types and the headers that all carry."""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from server.envelope import error_body
from snapshot.scim import ScimVersion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.abc import AbstractStreamWriter

    from server.errors import ScimError

    Piece = bytes | memoryview

# People's data: no cache keeps it, no browser guesses another type. No word on versions of the software.
# Vary: server/compression.py.
_COMMON = (
    b"Cache-Control: no-store\r\nVary: Accept-Encoding\r\nX-Content-Type-Options: nosniff\r\nServer: scim-snapshot\r\n"
)
_HEADERS = {
    version: b"Content-Type: %b; charset=utf-8\r\n%b" % (version.media_type.encode(), _COMMON)
    for version in ScimVersion
}
_PLAIN_HEADERS = b"Content-Type: application/json; charset=utf-8\r\n" + _COMMON
# RFC 9110 section 5.5: nothing that could end a header field and begin another.
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Pieces from here on are cheaper to hand over as they are, in a packet of their own, than to copy.
_LARGE_BYTES = 512 << 10
# What a client does not take is copied by asyncio up to Python 3.11: never more than this of one connection.
_AT_ONCE_BYTES = 2 << 20
_HTTP_1_0 = (1, 0)


class Answer(web.StreamResponse):
    """Sends what is ready: `common` and `fields` as header lines, and the pieces of the body, copied at most once.

    aiohttp's own Response takes a body that is one piece already, copies it again behind its head, and keeps it until
    the next request of the connection. A piece may lie in a mapped file: nothing holds it once it was sent.
    """

    def __init__(self, common: bytes, *pieces: Piece, status: int = 200, fields: str = "") -> None:
        # Not aiohttp's own __init__: its containers for headers, cookies and state would stay empty, and cost as much
        # as the whole head. There are no `headers`: the lines are text.
        self._status = status
        self._common = common
        self.fields = fields
        self.pieces = pieces
        # The bytes of the body.
        self.size = sum(map(len, pieces))
        # Set on every answer before it is sent; holds nothing that could end a header line.
        self.request_id = ""
        self._request: web.BaseRequest | None = None

    def encode(self, coding: str, body: bytes) -> None:
        """Put an encoded body in the place of the pieces."""
        self.pieces = (body,)
        self.size = len(body)
        self.fields += header_lines({"Content-Encoding": coding})

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Take the request that is answered; aiohttp calls this before `write_eof`."""
        self._request = request
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 (aiohttp's signature)
        """Send everything and wait until the client has taken nearly all of it."""
        request, self._request = self._request, None
        if request is None:
            return
        packets, rest = self.packets(request)
        for packet in packets:
            await request.writer.write(packet)
        await request.writer.write_eof(rest)

    def packets(self, request: web.BaseRequest) -> tuple[list[Piece], bytes]:
        """Return what is sent, head and body: pieces of at most 2 MiB or so, and the rest. The answer lets go of it."""
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        pieces, self.pieces = self.pieces, ()
        packets: list[Piece] = []
        small: list[Piece] = [self._head(request)]
        for piece in pieces if request.method != "HEAD" else ():
            if len(piece) >= _LARGE_BYTES:
                packets.append(b"".join(small))
                packets += [piece[at : at + _AT_ONCE_BYTES] for at in range(0, len(piece), _AT_ONCE_BYTES)]
                small = []
            else:
                small.append(piece)
        return packets, b"".join(small)

    def _head(self, request: web.BaseRequest) -> bytes:
        """Return status line and header lines."""
        version, status = request.version, self.status
        own = f"{self.fields}X-Request-Id: {self.request_id}\r\nDate: {_date(int(time.time()))}\r\n"
        if self.size or (status != HTTPStatus.NOT_MODIFIED and request.method != "HEAD"):
            own += f"Content-Length: {self.size}\r\n"
        if not self._keep_alive:
            if version > _HTTP_1_0:
                own += "Connection: close\r\n"
        elif version == _HTTP_1_0:
            own += "Connection: keep-alive\r\n"
        return b"".join((_first_line(version, status), self._common, own.encode(), b"\r\n"))


def header_lines(headers: Mapping[str, str]) -> str:
    """Return header lines; one name may be there several times."""
    fields = headers.items()
    if _FORBIDDEN.search("".join([name + value for name, value in fields])):
        raise ValueError("A header holds a control character.")
    return "".join([f"{name}: {value}\r\n" for name, value in fields])


@lru_cache(maxsize=128)
def _first_line(version: tuple[int, int], status: int) -> bytes:
    return f"HTTP/{version[0]}.{version[1]} {status} {HTTPStatus(status).phrase}\r\n".encode()


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def scim_answer(version: ScimVersion, *body: Piece, status: int = 200, fields: str = "") -> Answer:
    """Return an answer in the media type of a SCIM version; the body may come in pieces."""
    return Answer(_HEADERS[version], *body, status=status, fields=fields)


def unchanged_answer(fields: str) -> Answer:
    """Return a 304: the header lines that the 200 would have, but those of its body (RFC 9110 section 15.4.5)."""
    return Answer(_COMMON, status=HTTPStatus.NOT_MODIFIED, fields=fields)


def json_answer(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer outside the base paths: plain JSON."""
    return Answer(_PLAIN_HEADERS, body, status=status, fields=header_lines(headers or {}))


def error_answer(error: ScimError, version: ScimVersion) -> Answer:
    """Return the answer to an error, with the headers that belong to it."""
    return scim_answer(version, error_body(version, error), status=error.status, fields=header_lines(error.headers))
