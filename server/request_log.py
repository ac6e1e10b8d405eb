"""Where the canonical line of a request goes: through logging, or as JSON lines gathered for one write.

Logging costs a request as much as looking a user up. The buffered form holds what is known, and a few times a second
makes the same JSON lines of all that have come together, in one go: that costs a third of making each at its request.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from snapshot.config import Log

log = logging.getLogger("server.request")

EVENT = "request"
FLUSH_SECONDS = 0.2
# Some three milliseconds of the event loop.
MAX_HELD = 1_000


class Line(Protocol):
    """What a line says."""

    def members(self) -> dict[str, Any]:
        """Return the members of its JSON object."""
        ...


class RequestLog(Protocol):
    """Takes one line a request."""

    def enabled(self, level: int) -> bool:
        """Tell whether lines of this level are wanted."""
        ...

    def write(self, level: int, line: Line) -> None:
        """Write one line."""
        ...

    def flush(self) -> None:
        """Write out what is still held."""
        ...


class LoggingRequestLog:
    """Through the logging package: for terminals and tests."""

    def enabled(self, level: int) -> bool:
        """Tell whether the logger wants this level."""
        return log.isEnabledFor(level)

    def write(self, level: int, line: Line) -> None:
        """Hand over a record, made here: log.log() would first walk the stack to find its caller."""
        record = logging.LogRecord(log.name, level, __file__, 0, EVENT, None, None)
        record.facts = line.members()
        log.handle(record)

    def flush(self) -> None:
        """Nothing is held."""


class BufferedRequestLog:
    """JSON lines in the shape of snapshot.logs, made and written together."""

    def __init__(self, level: int, sink: Callable[[bytes], object]) -> None:
        self._level = level
        self._sink = sink
        # (level, seconds since 1970, line)
        self._held: list[tuple[int, float, Line]] = []
        self._names: dict[int, str] = {}
        self._second = 0
        self._stamp = ""

    def enabled(self, level: int) -> bool:
        """Tell whether the configured level lets this one through."""
        return level >= self._level

    def write(self, level: int, line: Line) -> None:
        """Hold a line, one at least; the first one begins the wait for the next write."""
        self._held.append((level, time.time(), line))
        if len(self._held) == 1:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        elif len(self._held) >= MAX_HELD:
            self.flush()

    def flush(self) -> None:
        """Write every held line at once."""
        if self._held:
            held, self._held = self._held, []
            self._sink(b"".join([self._line(*item) for item in held]))

    def _line(self, level: int, now: float, line: Line) -> bytes:
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        name = self._names.get(level) or self._names.setdefault(level, logging.getLevelName(level).lower())
        # What begins every line needs no escapes; the members go on where their own object would begin.
        moment = f"{self._stamp}.{int((now - second) * 1000):03d}Z"
        begun = f'{{"time":"{moment}","level":"{name}","process":"server","event":"{EVENT}",'
        return begun.encode() + orjson.dumps(line.members(), option=orjson.OPT_APPEND_NEWLINE)[1:]


def open_request_log(config: Log) -> RequestLog:
    """Return the buffered log when lines are JSON, as snapshot.logs decides it; else the one through logging."""
    if config.format == "text" or (config.format == "auto" and sys.stderr.isatty()):
        return LoggingRequestLog()

    def sink(lines: bytes) -> None:
        sys.stderr.buffer.write(lines)
        sys.stderr.buffer.flush()

    return BufferedRequestLog(logging.getLevelName(config.level.upper()), sink)
