"""May this generation replace that one? Pure: two manifests and the limits in, reasons out.

An import that sees too few users deactivates the missing ones, and Okta's own safeguard only looks at
apps with at least 100 users and lets 20 % pass. So the limits here are tighter, and they are checked
before Okta sees anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapshot.scim import USER

if TYPE_CHECKING:
    from snapshot.config import Guard
    from snapshot.store import Manifest


def reasons_to_refuse(guard: Guard, new: Manifest, previous: Manifest | None) -> list[str]:
    """Return why `new` may not replace `previous` without a person's word; empty if it may."""
    if not guard.enabled:
        return []
    reasons = []
    users = new.resource_types[USER].count
    if users == 0 and not guard.allow_empty:
        reasons.append("the source gave no user at all (guard.allow_empty)")
    rejected_limit = max(new.rows * guard.max_rejected_percent / 100, guard.always_allowed_rejected)
    if new.rejects > rejected_limit:
        reasons.append(
            f"{new.rejects} of {new.rows} rows are rejects, at most {int(rejected_limit)} are allowed "
            "(guard.max_rejected_percent)"
        )
    if previous is not None:
        before = previous.resource_types[USER].count
        lost = new.changes.removed + new.changes.deactivated
        allowed = max(before * guard.max_removed_percent / 100, guard.always_allowed_removed)
        if lost > min(allowed, guard.max_removed):
            reasons.append(
                f"{new.changes.removed} of {before} users are gone and {new.changes.deactivated} became inactive, "
                f"at most {int(min(allowed, guard.max_removed))} are allowed "
                "(guard.max_removed_percent, guard.max_removed)"
            )
    return reasons
