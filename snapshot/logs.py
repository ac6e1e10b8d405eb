"""One line an event: JSON for machines, readable text on a terminal. Facts go beside the message.

    log.info("published", extra={"facts": {"generation": 42}})

Never put a secret or an attribute value of a person into facts.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snapshot.config import Log


def now_text(moment: datetime | None = None) -> str:
    """Return a moment (default: now) as UTC text with milliseconds, e.g. 2026-01-02T03:04:05.678Z."""
    moment = (moment or datetime.now(UTC)).astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Which app of an instance with several the lines of this thread or task are about.
_APP: ContextVar[str] = ContextVar("app", default="")


@contextlib.contextmanager
def logs_of(app: str) -> Iterator[None]:
    """Name the app in every line that is logged while the block runs; "" names none."""
    token = _APP.set(app)
    try:
        yield
    finally:
        _APP.reset(token)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    """Return the facts of a line, with the app that it is about."""
    facts: dict[str, Any] = getattr(record, "facts", {})
    app = _APP.get()
    return {"app": app, **facts} if app else facts


class _JsonFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": now_text(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "process": self._process,
            "event": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).astimezone().isoformat(sep=" ", timespec="seconds")
        facts = " ".join(f"{name}={_plain(value)}" for name, value in _facts(record).items())
        line = f"{moment[:19]} {record.levelname.lower():<7} {record.getMessage()}" + (f"  {facts}" if facts else "")
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _plain(value: object) -> str:
    text = str(value)
    return f'"{text}"' if " " in text else text.replace("\n", " ")


def setup_logs(log: Log, *, process: str) -> None:
    """Send the log to standard error, in the configured format and level."""
    as_text = log.format == "text" or (log.format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_TextFormatter() if as_text else _JsonFormatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log.level.upper())
    # APScheduler tells of every run at INFO; our own lines say the same and more.
    logging.getLogger("apscheduler").setLevel(max(logging.WARNING, root.level))
