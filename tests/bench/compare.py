"""Rates of two requests, taken in turn."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import TYPE_CHECKING

from load import Connection, Repeated

if TYPE_CHECKING:
    from place import Effort
    from report import Line


def compare(effort: Effort, line: Line, ours: tuple[int, bytes], against: tuple[int, bytes]) -> Line:
    """Return the line with the rates of two requests, each (port, request): the median of the ratios of neighbours."""
    left, right = Repeated(*ours), Repeated(*against)
    pairs = [(left.rate(effort.slice_seconds), right.rate(effort.slice_seconds)) for _ in range(effort.slices)]
    left.close()
    right.close()
    return dataclasses.replace(
        line,
        ours=statistics.median(pair[0] for pair in pairs),
        against=statistics.median(pair[1] for pair in pairs),
        ratio=statistics.median(pair[0] / pair[1] for pair in pairs),
    )


def seconds_of(port: int, asked: bytes) -> float:
    """Return the seconds of one request on a connection that is open already."""
    connection = Connection(port)
    began = time.perf_counter()
    answer = connection.ask(asked)
    seconds = time.perf_counter() - began
    connection.close()
    if not answer.good:
        raise SystemExit(f"{asked.split()[1]!r} answered {answer.head[:200]!r}")
    return seconds
