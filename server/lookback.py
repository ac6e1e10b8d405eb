"""Incremental lists as if they had been asked for earlier: server.incremental_lookback_seconds.

For agents whose clock is ahead, or that send local time as if it were UTC: what changed within the error of their
clock would else be missed for ever.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from snapshot.filter import And, Comparison, Filter, Or, parse_instant

LAST_MODIFIED = "meta.lastmodified"
_SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (UTC throughout)
_MICROSECOND = timedelta(microseconds=1)
# An offset may lead out of the years that a date can have; nobody's time of publication lies there.
_EARLIEST = (datetime.min - _EPOCH) // _MICROSECOND  # noqa: DTZ901
_LATEST = (datetime.max - _EPOCH) // _MICROSECOND  # noqa: DTZ901


def bounds_last_modified(tree: Filter) -> bool:
    """Tell whether a filter bounds meta.lastModified from one side."""
    if not (isinstance(tree, Comparison) and tree.op in {"gt", "ge", "lt", "le"}):
        return False
    return str(tree.path).casefold() == LAST_MODIFIED


def look_back(tree: Filter, seconds: int) -> Filter:
    """Return the filter with each `meta.lastModified gt "…"` (or `ge`) moved back; what is no date is left as it is."""
    if not seconds:
        return tree
    if isinstance(tree, And | Or):
        return replace(tree, left=look_back(tree.left, seconds), right=look_back(tree.right, seconds))
    if not (isinstance(tree, Comparison) and bounds_last_modified(tree) and tree.op in {"gt", "ge"}):
        return tree
    instant = parse_instant(tree.value) if isinstance(tree.value, str) else None
    if instant is None:
        return tree
    earlier = min(max(instant - seconds * _SECOND, _EARLIEST), _LATEST)
    moment = _EPOCH + timedelta(microseconds=earlier)
    return replace(tree, value=f"{moment.isoformat(timespec='microseconds')}Z")
