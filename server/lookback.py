"""Incremental lists as if they had been asked for earlier: server.incremental_lookback_seconds, and what was served.

For agents whose clock is ahead, or that send local time as if it were UTC: what changed within the error of their
clock would else be missed for ever. And for what was not served yet at the instant that they name (`server.served`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from snapshot.filter import And, Comparison, Filter, Not, Or, ValuePath, parse_instant

if TYPE_CHECKING:
    from collections.abc import Callable

LAST_MODIFIED = "meta.lastmodified"
_SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (UTC throughout)
_MICROSECOND = timedelta(microseconds=1)
# An offset may lead out of the years that a date can have; nobody's time of publication lies there.
_EARLIEST = (datetime.min - _EPOCH) // _MICROSECOND  # noqa: DTZ901
_LATEST = (datetime.max - _EPOCH) // _MICROSECOND  # noqa: DTZ901
# What bounds an attribute from below, by whether it is negated.
_LOWER_BOUNDS = {False: {"gt", "ge"}, True: {"le", "lt"}}
# Those that find the instant itself: `not (… lt X)` is `… ge X`.
_OR_EQUAL = {"ge", "lt"}


def bounds_last_modified(tree: Filter) -> bool:
    """Tell whether a filter bounds meta.lastModified from one side."""
    if not (isinstance(tree, Comparison) and tree.op in {"gt", "ge", "lt", "le"}):
        return False
    return str(tree.path).casefold() == LAST_MODIFIED


def look_back(tree: Filter, seconds: int, bound: Callable[[int], int] = lambda instant: instant) -> Filter:
    """Return the filter with each lower bound of meta.lastModified moved back; what is no date is left as it is.

    Lower bounds are `gt` and `ge`, and inside of `not` also `le` and `lt`. `bound` gives, for an instant in
    microseconds since 1970, the one after which is what has to be found.
    """
    return _moved(tree, seconds, bound, "", is_negated=False)


def _moved(tree: Filter, seconds: int, bound: Callable[[int], int], parent: str, *, is_negated: bool) -> Filter:
    if isinstance(tree, And | Or):
        left = _moved(tree.left, seconds, bound, parent, is_negated=is_negated)
        right = _moved(tree.right, seconds, bound, parent, is_negated=is_negated)
        same = left is tree.left and right is tree.right
        return tree if same else replace(tree, left=left, right=right)
    if isinstance(tree, Not | ValuePath):
        if isinstance(tree, ValuePath):
            inner = _moved(tree.inner, seconds, bound, f"{tree.path}.", is_negated=is_negated)
        else:
            inner = _moved(tree.inner, seconds, bound, parent, is_negated=not is_negated)
        return tree if inner is tree.inner else replace(tree, inner=inner)
    if not isinstance(tree, Comparison) or f"{parent}{tree.path}".casefold() != LAST_MODIFIED:
        return tree
    if tree.op not in _LOWER_BOUNDS[is_negated] or not isinstance(tree.value, str):
        return tree
    instant = parse_instant(tree.value)
    if instant is None:
        return tree
    earlier = bound(instant - seconds * _SECOND)
    if tree.op in _OR_EQUAL and earlier < instant - seconds * _SECOND:
        earlier += 1  # `bound` says after which instant, and this would find that instant itself
    if earlier == instant:
        return tree
    moment = _EPOCH + timedelta(microseconds=min(max(earlier, _EARLIEST), _LATEST))
    return replace(tree, value=f"{moment.isoformat(timespec='microseconds')}Z")
