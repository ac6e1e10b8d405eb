"""The guard: which generation may replace which without a person's word."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from snapshot.config import Guard
from snapshot.guard import reasons_to_refuse
from snapshot.store import ChangeFacts, EmptiedFacts, Manifest, TypeFacts


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
    ("rows", "rejects", "before", "refused"),
    [
        (100, 1, 0, False), (100, 2, 0, True), (50, 1, 0, True),  # one per cent
        (5000, 50, 0, False), (5000, 51, 0, True),
        (100, 7, 7, False), (100, 8, 7, True),  # as many as were published before are nothing new
    ],
)  # fmt: skip
def test_rejected_rows(rows, rejects, before, refused):
    """More rejects than one per cent, and than before, are refused."""
    new = manifest(rows - rejects, rows=rows, rejects=rejects)
    reasons = reasons_to_refuse(Guard(), new, manifest(rows, rejects=before))
    assert refused == bool(reasons)
    assert not refused or f"{rejects} of {rows} rows are rejects" in reasons[0]


def test_the_first_generation():
    """The first generation needs nobody's word, whatever it rejects, as long as it holds a user."""
    assert [] == reasons_to_refuse(Guard(), manifest(1, rows=100, rejects=99), None)


def test_nobody():
    """An empty directory is never published by itself, whatever was before."""
    reason = "the source gave no user at all (guard.allow_empty)"
    assert [reason] == reasons_to_refuse(Guard(), manifest(0), None)
    assert [reason] == reasons_to_refuse(Guard(), manifest(0), manifest(3))
    # people who are sent without a row do not make it less empty
    rowless = replace(manifest(5), resource_types={"User": TypeFacts(count=5, removed=3)}, kept=2)
    assert [reason] == reasons_to_refuse(Guard(), rowless, None)
    assert [] == reasons_to_refuse(Guard(allow_empty=True), manifest(0), None)


def test_nothing_to_compare_with():
    """Where something was published before and cannot be read, a person decides."""
    (reason,) = reasons_to_refuse(Guard(), manifest(10), None, lost=True)
    assert "nothing to compare with" in reason


@pytest.mark.parametrize(
    ("users", "filled", "emptied", "refused"),
    [
        (1000, 500, 100, False), (1000, 500, 101, True),  # a fifth of those who had it
        (1000, 499, 499, False),  # not filled for most people
        (1000, 1000, 200, False), (1000, 1000, 201, True),
        (12, 12, 10, False), (12, 12, 11, True),  # ten are always allowed
    ],
)  # fmt: skip
def test_an_attribute_that_is_suddenly_empty(users, filled, emptied, refused):
    """An attribute that most people had and many lose at once is refused, by name."""
    new = replace(manifest(users), emptied={"title": EmptiedFacts(filled=filled, emptied=emptied)})
    reasons = reasons_to_refuse(Guard(), new, manifest(users))
    assert refused == bool(reasons)
    assert not refused or f"title was filled for {filled} users and is now empty for {emptied}" in reasons[0]


@pytest.mark.parametrize(("digest", "changed", "refused"), [("", 100, False), ("x", 50, False), ("x", 51, True)])
def test_a_changed_mapping(digest, changed, refused):
    """A new configuration that changes more than half of all users is refused; a source may change everybody."""
    new = replace(manifest(100), config_digest=digest, changes=ChangeFacts(changed=changed - 1, deactivated=1))
    reasons = reasons_to_refuse(Guard(), new, manifest(100))
    assert refused == bool(reasons)
    assert not refused or f"{changed} of 100 users with them" in reasons[0]


def test_removed_people_are_not_counted_twice():
    """Whoever is sent as removed was counted when it happened; the percentage is of those with a row."""
    before = replace(manifest(30), resource_types={"User": TypeFacts(count=230, removed=200)})
    new = manifest(19, removed=11)
    assert "11 of 30 users are gone" in reasons_to_refuse(Guard(), new, before)[0]


def test_off():
    """Without the guard nothing is refused."""
    assert [] == reasons_to_refuse(Guard(enabled=False), manifest(0, rows=10, rejects=10), manifest(100))
