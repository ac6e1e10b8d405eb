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
        (Progress("retry", seconds=40, seconds_left=10.0), "retry: begins again in 10 s"),
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


def test_summary_of_no_change():
    """A refresh that found no change says which generation is served on, and whom it holds."""
    counts = {"rows": 1003, "users": 1000, "active": 990, "rejects": 3}
    outcome = RefreshOutcome(state="unchanged", at="", generation=7, counts=counts, seconds=1.25)
    assert (
        "No change: generation 7 goes on being served: 1,000 users (990 active) from 1,003 rows, 3 rejects; 1.2 s."
        == summary(outcome)
    )


def test_summary_names_the_removed_and_the_kept():
    """People sent as removed, no longer sent, and rejected rows kept are named when there are any, and only then."""
    counts = {"rows": 1003, "users": 1005, "active": 990, "rejects": 3, "kept": 2, "tombstones": 5, "expired": 1}
    counts |= {"added": 0, "changed": 0, "deactivated": 0, "removed": 4}
    text = summary(RefreshOutcome(state="published", at="", generation=8, counts=counts, seconds=2))
    assert (
        "Published generation 8: 1,005 users (990 active, 5 removed and sent as inactive) from 1,003 rows, "
        "3 rejects (2 kept as published before); 0 added, 0 changed, 0 deactivated, 4 removed, 1 no longer sent; 2.0 s."
        == text
    )
    others = summary(RefreshOutcome(state="unchanged", at="", generation=8, counts=counts | {"related_rejects": 1200}))
    assert "3 rejects (2 kept as published before), 1,200 rejects of other rows; 0.0 s." in others
    none = counts | {"related_rejects": 0, "kept": 0, "tombstones": 0, "expired": 0}
    text = summary(RefreshOutcome(state="unchanged", at="", generation=8, counts=none))
    assert "(990 active) from 1,003 rows, 3 rejects; 0.0 s." in text
