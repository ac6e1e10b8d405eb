"""Compressor: answers in gzip for clients that ask (RFC 9110 section 12.5.3), off the event loop but for small ones.

Level 1 of zlib: a page of 200 people shrinks to a tenth within a millisecond; higher levels take twice the time for
a few percent. Nothing of a request is repeated in what is compressed, so its length tells nothing about a secret.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from server.answer import Answer, Piece

CODING = "gzip"
# What fits into one packet gains nothing.
SMALL_BYTES = 1400
# A tenth of a millisecond of work.
_LARGE_BYTES = 16 << 10
_THREADS = 2
# Beyond so many bodies at once the next ones go out as they are: a crowd gets larger answers, not later ones.
_MAX_AT_ONCE = 16
_LEVEL = 1
_GZIP_WINDOW = 31
_MAX_HEADER = 512
_WEIGHT = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z")


class Headers(Protocol):
    """The request headers, as far as they are needed here."""

    def getall(self, key: str, default: Sequence[str]) -> Sequence[str]:
        """Return every value of a header."""
        ...


class Wish(Enum):
    """What a client says of gzip; DEMANDED if it takes nothing else."""

    REFUSED = "refused"
    WELCOME = "welcome"
    DEMANDED = "demanded"


class Compressor:
    """Compresses the bodies of answers in threads of its own, few at once."""

    def __init__(self, *, limit: int = _MAX_AT_ONCE) -> None:
        self._limit = limit
        self._running = 0
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="gzip")

    def close(self) -> None:
        """Let the threads go."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def compress(self, answer: Answer, headers: Headers) -> None:
        """Compress the body of an answer if the client asks for it and it is worth it."""
        values = headers.getall("Accept-Encoding", ())
        if not values or not answer.size:
            return
        text = ",".join(values)
        if len(text) > _MAX_HEADER:
            return
        wish = wish_of(text)
        if wish is Wish.REFUSED or (wish is Wish.WELCOME and answer.size < SMALL_BYTES):
            return
        if answer.size < _LARGE_BYTES:
            answer.encode(CODING, gzip(answer.pieces))
            return
        if self._running >= self._limit and wish is Wish.WELCOME:
            return
        self._running += 1
        try:
            loop = asyncio.get_running_loop()
            answer.encode(CODING, await loop.run_in_executor(self._executor, gzip, answer.pieces))
        finally:
            self._running -= 1


def gzip(pieces: Sequence[Piece]) -> bytes:
    """Return the pieces as one gzip member. Blocking; lets other threads run."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    compressed = [compressor.compress(piece) for piece in pieces]
    return b"".join((*compressed, compressor.flush()))


@lru_cache(maxsize=64)
def wish_of(text: str) -> Wish:
    """Return what an Accept-Encoding says of gzip. What cannot be understood is not asked for."""
    weights: dict[str, float] = {}
    for part in text.lower().split(","):
        name, _, parameters = part.partition(";")
        coding = name.strip().removeprefix("x-")  # x-gzip is gzip (RFC 9110 section 8.4.1.3)
        if coding:
            weights[coding] = min(_weight(parameters), weights.get(coding, 1.0))
    others = weights.get("*")
    weight = weights.get(CODING, others or 0)
    plain = weights.get("identity")
    if not weight:
        return Wish.REFUSED
    if plain == 0 or (plain is None and others == 0):
        return Wish.DEMANDED
    return Wish.WELCOME if plain is None or plain <= weight else Wish.REFUSED


def _weight(parameters: str) -> float:
    """Return the weight among the parameters of a coding; 1 without one, 0 for what is none."""
    name, _, value = parameters.partition("=")
    if not name.strip():
        return 1.0
    text = value.strip()
    return float(text) if name.strip() == "q" and _WEIGHT.match(text) else 0.0
