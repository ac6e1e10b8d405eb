"""The guard: which generation may replace which without a person's word."""

from __future__ import annotations

import pytest

from snapshot.config import Guard
from snapshot.guard import reasons_to_refuse
from snapshot.store import ChangeFacts, Manifest, TypeFacts


def manifest(
    users: int, *, rows: int | None = None, rejects: int = 0, removed: int = 0, deactivated: int = 0
) -> Manifest:
    return Manifest(
        generation=2,
        created_at="",
        created_ms=0,
        config_digest="",
        resource_types={"User": TypeFacts(count=users)},
        rows=users if rows is None else rows,
        rejects=rejects,
        changes=ChangeFacts(removed=removed, deactivated=deactivated),
        seconds={},
        files={},
    )


@pytest.mark.parametrize(
    ("before", "removed", "deactivated", "refused"),
    [
        (10, 10, 0, False), (10, 0, 10, False),  # ten are always allowed, if any user is left
        (100, 10, 0, False), (100, 11, 0, True), (100, 6, 5, True),
        (1000, 50, 0, False), (1000, 51, 0, True), (1000, 25, 26, True), (1000, 25, 25, False),
        (100_000, 500, 0, False), (100_000, 501, 0, True),  # five per cent are 5,000, but 500 is the most
    ],
)  # fmt: skip
def test_lost_users(before, removed, deactivated, refused):
    """Removed and deactivated users count together, against per cent, a small number always and a large one never."""
    new = manifest(before - removed + 1, removed=removed, deactivated=deactivated)
    reasons = reasons_to_refuse(Guard(), new, manifest(before))
    assert refused == bool(reasons)
    if refused:
        assert f"{removed} of {before} users are gone and {deactivated} became inactive" in reasons[0]


@pytest.mark.parametrize(
    ("rows", "rejects", "refused"), [(20, 10, False), (20, 11, True), (5000, 50, False), (5000, 51, True)]
)
def test_rejected_rows(rows, rejects, refused):
    """Too many rejects are refused, at the first generation too."""
    new = manifest(rows - rejects, rows=rows, rejects=rejects)
    reasons = reasons_to_refuse(Guard(), new, None)
    assert refused == bool(reasons)
    assert not refused or f"{rejects} of {rows} rows are rejects" in reasons[0]


def test_nobody():
    """An empty directory is never published by itself, whatever was before."""
    assert ["the source gave no user at all (guard.allow_empty)"] == reasons_to_refuse(Guard(), manifest(0), None)
    assert 2 == len(reasons_to_refuse(Guard(), manifest(0, removed=100), manifest(100)))
    assert [] == reasons_to_refuse(Guard(allow_empty=True), manifest(0), None)


def test_switched_off():
    """A guard that is switched off lets everything pass."""
    assert [] == reasons_to_refuse(Guard(enabled=False), manifest(0, rejects=99, removed=100), manifest(100))


def test_strict_limits():
    """With every limit at zero the loss of one user is refused."""
    guard = Guard(max_removed_percent=0, always_allowed_removed=0, max_rejected_percent=0, always_allowed_rejected=0)
    assert 1 == len(reasons_to_refuse(guard, manifest(9, removed=1), manifest(10)))
    assert 1 == len(reasons_to_refuse(guard, manifest(9, rejects=1), manifest(9)))
    assert [] == reasons_to_refuse(guard, manifest(10), manifest(10))
