"""Progress and results as text for a person at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from snapshot.control import Progress, RefreshOutcome

_WIDTH = 78


class ProgressLine:
    """One line of a terminal that is written over and over; silent where there is no terminal."""

    def __init__(self, stream: TextIO, name: str = "") -> None:
        self._stream = stream
        self._name = f"{name}: " if name else ""
        self._on = stream.isatty()

    def show(self, progress: Progress) -> None:
        """Show where the refresh is."""
        if self._on:
            self._stream.write(f"\r{self._name + progress_text(progress):<{_WIDTH}}")
            self._stream.flush()

    def clear(self) -> None:
        """Leave an empty line for what comes next."""
        if self._on:
            self._stream.write(f"\r{'':<{_WIDTH}}\r")
            self._stream.flush()


def progress_text(progress: Progress) -> str:
    """Return e.g. 'read: 120,000 of 1,000,000 rows, 48,000 rows/s, about 18 s left'."""
    if progress.phase == "retry":
        return f"retry: begins again in {progress.seconds_left or 0:,.0f} s"
    text = f"{progress.phase}: {progress.rows:,}"
    text += f" of {progress.expected_rows:,} rows" if progress.expected_rows is not None else " rows"
    if progress.rows_per_second:
        text += f", {progress.rows_per_second:,.0f} rows/s"
    if progress.phase == "read" and progress.seconds_left is not None:
        text += f", about {progress.seconds_left:,.0f} s left"
    return text


def summary(outcome: RefreshOutcome) -> str:
    """Return how a refresh ended, in one line."""
    if outcome.state == "published":
        counts = outcome.counts
        expired = f", {counts['expired']:,} no longer sent" if counts.get("expired") else ""
        return (
            f"Published generation {outcome.generation}: {_people(counts)}; {counts['added']:,} added, "
            f"{counts['changed']:,} changed, {counts['deactivated']:,} deactivated, "
            f"{counts['removed']:,} removed{expired}; {outcome.seconds:.1f} s."
        )
    if outcome.state == "unchanged":
        return (
            f"No change: generation {outcome.generation} goes on being served: {_people(outcome.counts)}; "
            f"{outcome.seconds:.1f} s."
        )
    what = "refused" if outcome.state == "refused" else "failed"
    return f"Refresh {what}: {outcome.reason} {outcome.remedy}".strip()


def _people(counts: dict[str, int]) -> str:
    """Return whom a generation holds, and from how many rows."""
    removed = f", {counts['tombstones']:,} removed and sent as inactive" if counts.get("tombstones") else ""
    kept = f" ({counts['kept']:,} kept as published before)" if counts.get("kept") else ""
    others = f", {counts['related_rejects']:,} rejects of other rows" if counts.get("related_rejects") else ""
    related = "".join(f", {counts[name]:,} {name}" for name in ("groups", "entitlements") if name in counts)
    return (
        f"{counts['users']:,} users ({counts['active']:,} active{removed}){related} "
        f"from {counts['rows']:,} rows, {counts['rejects']:,} rejects{kept}{others}"
    )
