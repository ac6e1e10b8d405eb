"""Requests as bytes, and their answers, over plain connections."""

from __future__ import annotations

import asyncio

from server_fixtures import basic

_AUTHORIZATION = f"Authorization: {basic()}\r\n".encode()


def asked(target: str, *fields: str, method: str = "GET") -> bytes:
    """Return the bytes of a request."""
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\n" + "".join(f"{field}\r\n" for field in fields)
    return head.encode() + _AUTHORIZATION + b"\r\n"


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one answer; return status and body."""
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode().lower()
    length = next(int(line.partition(":")[2]) for line in head.split("\r\n") if line.startswith("content-length:"))
    return int(head.split()[1]), await reader.readexactly(length)
