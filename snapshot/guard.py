"""May this generation replace that one? Pure: two manifests and the limits in, reasons out.

An import that sees too few users deactivates the missing ones, and Okta's own safeguard only looks at
apps with at least 100 users and lets 20 % pass. So the limits here are tighter, and they are checked
before Okta sees anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapshot.scim import USER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snapshot.config import Guard
    from snapshot.store import Manifest


def reasons_to_refuse(guard: Guard, new: Manifest, previous: Manifest | None, *, lost: bool = False) -> list[str]:
    """Return why `new` may not replace `previous` without a person's word; empty if it may.

    `lost`: something was published before, but nothing of it can be read, so there is nothing to compare with.
    The very first generation is only refused if it is empty.
    """
    if not guard.enabled:
        return []
    reasons = list(_empty(guard, new))
    if lost:
        reasons.append("no generation that was published before can be read, so there is nothing to compare with")
    if previous is not None or lost:
        reasons.extend(_rejected(guard, new, previous))
    if previous is not None:
        reasons.extend(_removed(guard, new, previous))
        reasons.extend(_emptied(guard, new, previous))
        reasons.extend(_changed(guard, new, previous))
        reasons.extend(_shrunk(guard, new, previous))
    return reasons


def users_with_a_row(manifest: Manifest) -> int:
    """Return how many users a generation holds without those who are only sent as removed."""
    users = manifest.resource_types[USER]
    return users.count - users.removed


def _empty(guard: Guard, new: Manifest) -> Iterator[str]:
    if users_with_a_row(new) - new.kept == 0 and not guard.allow_empty:
        yield "the source gave no user at all (guard.allow_empty)"


def _rejected(guard: Guard, new: Manifest, previous: Manifest | None) -> Iterator[str]:
    """As many as were published before are nothing new: a person has seen them, or the first generation had them."""
    allowed = max(new.rows * guard.max_rejected_percent / 100, guard.always_allowed_rejected)
    allowed = max(allowed, previous.rejects if previous else 0)
    if new.rejects > allowed:
        yield (
            f"{new.rejects} of {new.rows} rows are rejects, at most {int(allowed)} are allowed "
            "(guard.max_rejected_percent, guard.always_allowed_rejected)"
        )


def _removed(guard: Guard, new: Manifest, previous: Manifest) -> Iterator[str]:
    before, changes = users_with_a_row(previous), new.changes
    allowed = max(before * guard.max_removed_percent / 100, guard.always_allowed_removed)
    allowed = min(allowed, guard.max_removed)
    if changes.removed + changes.deactivated > allowed:
        yield (
            f"{changes.removed} of {before} users are gone and {changes.deactivated} became inactive, "
            f"at most {int(allowed)} are allowed (guard.max_removed_percent, guard.max_removed)"
        )


def _emptied(guard: Guard, new: Manifest, previous: Manifest) -> Iterator[str]:
    for path, facts in sorted(new.emptied.items()):
        what, before, attribute = "users", users_with_a_row(previous), path
        # Of other types than users, the type stands before the attribute.
        resource_type, _, rest = path.partition(" ")
        if resource_type != USER and resource_type in previous.resource_types:
            what, before, attribute = (
                f"resources of type {resource_type}",
                previous.resource_types[resource_type].count,
                rest,
            )
        allowed = max(facts.filled * guard.max_emptied_percent / 100, guard.always_allowed_emptied)
        if facts.filled >= before * guard.filled_percent / 100 and facts.emptied > allowed:
            yield (
                f"{attribute} was filled for {facts.filled} {what} and is now empty for {facts.emptied} of them, "
                f"at most {int(allowed)} are allowed (guard.max_emptied_percent)"
            )


def _shrunk(guard: Guard, new: Manifest, previous: Manifest) -> Iterator[str]:
    """Groups and entitlements, and who has them: who loses a group may lose what it gives access to."""
    before = _related_counts(previous)
    after = _related_counts(new)
    for name, count in before.items():
        lost = count - after.get(name, 0)
        allowed = max(count * guard.max_related_removed_percent / 100, guard.always_allowed_related_removed)
        if lost > allowed or (count and lost == count):
            yield (
                f"{lost} of {count} {name} are gone, at most {int(allowed)} and never all are allowed "
                "(guard.max_related_removed_percent)"
            )


def _related_counts(manifest: Manifest) -> dict[str, int]:
    counts = {
        f"resources of type {name}": facts.count for name, facts in manifest.resource_types.items() if name != USER
    }
    return {**counts, **{f"{name} of users": count for name, count in manifest.links.items()}}


def _changed(guard: Guard, new: Manifest, previous: Manifest) -> Iterator[str]:
    """Only a changed configuration is suspected here: a source may change everybody for good reasons."""
    if new.config_digest == previous.config_digest:
        return
    counts = [("users", users_with_a_row(previous), new.changes.changed + new.changes.deactivated)]
    # Each type by itself: all groups may be few beside the users.
    for name, facts in new.type_changes.items():
        known = previous.resource_types.get(name)
        counts.append((f"resources of type {name}", known.count if known else 0, facts.changed))
    for what, before, changed in counts:
        if changed > before * guard.max_changed_percent / 100:
            yield (
                f"query, mapping, policy or public URL have changed, and {changed} of {before} {what} with them, "
                f"at most {guard.max_changed_percent:g} % are allowed (guard.max_changed_percent)"
            )
