"""Progress and results as text for a person."""

from __future__ import annotations

import io

import pytest

from snapshot.control import Progress, RefreshOutcome
from snapshot.progress import ProgressLine, progress_text, summary


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress("connect"), "connect: 0 rows"),
        (Progress("read", 1200, None, 480.4), "read: 1,200 rows, 480 rows/s"),
        (
            Progress("read", 120_000, 1_000_000, 48_000, 2.5, 18.3),
            "read: 120,000 of 1,000,000 rows, 48,000 rows/s, about 18 s left",
        ),
        (Progress("order", 10, 10, 5, 2, 0), "order: 10 of 10 rows, 5 rows/s"),
    ],
)
def test_progress_text(progress, text):
    """Rows so far, how many there are, the rate and the estimated end, as far as they are known."""
    assert text == progress_text(progress)


def test_the_line_of_a_terminal():
    """On a terminal one line is written over and over, and cleared at the end."""
    terminal = Terminal()
    line = ProgressLine(terminal)
    line.show(Progress("read", 1_000_000))
    line.show(Progress("order", 5))
    line.clear()
    assert "\n" not in terminal.getvalue()
    parts = [part for part in terminal.getvalue().split("\r") if part]
    assert ["read: 1,000,000 rows", "order: 5 rows", ""] == [part.strip() for part in parts]
    assert 1 == len({len(part) for part in parts})


def test_no_terminal():
    """Where there is no terminal nothing is written: the log tells the end."""
    stream = io.StringIO()
    line = ProgressLine(stream)
    line.show(Progress("read", 5))
    line.clear()
    assert "" == stream.getvalue()


def test_summary():
    """How a refresh ended is one line, with the cause and what to do if it failed."""
    counts = {
        "rows": 1003,
        "users": 1000,
        "active": 990,
        "rejects": 3,
        "added": 1,
        "changed": 2,
        "deactivated": 3,
        "removed": 4,
    }
    outcome = RefreshOutcome(state="published", at="", generation=7, counts=counts, seconds=1.25)
    assert (
        "Published generation 7: 1,000 users (990 active) from 1,003 rows, 3 rejects; "
        "1 added, 2 changed, 3 deactivated, 4 removed; 1.2 s." == summary(outcome)
    )
    failed = RefreshOutcome(state="failed", at="", reason="Nothing listens.", remedy="Check it.")
    assert "Refresh failed: Nothing listens. Check it." == summary(failed)
    refused = RefreshOutcome(state="refused", at="", reason="Too few.")
    assert "Refresh refused: Too few." == summary(refused)
