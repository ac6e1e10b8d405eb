"""What a query selects, of one resource type or of all of them, and in which order. Blocking.

Over several types, an attribute that a type does not know has no value there (RFC 7644 section 3.4.2.1). One that no
type knows is an error, as it is for a single type.
"""

from __future__ import annotations

import heapq
from array import array
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from server.listing import Listing
from snapshot.filter import And, Comparison, Filter, Not, Or, Present
from snapshot.scim import AttributePath

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from snapshot.filter import Sort
    from snapshot.reader import Snapshot

# Every resource has this attribute, and none has it empty.
_RESOURCE_TYPE = AttributePath("meta", "resourceType")
_ALWAYS = Present(_RESOURCE_TYPE)
_NEVER = Comparison(_RESOURCE_TYPE, "eq", "")

# (key or None, resource type, ordinal)
_Ranked = tuple[Any, str, int]


def select(snapshot: Snapshot, types: tuple[str, ...], tree: Filter | None, sort: Sort | None) -> Listing:
    """Return the listing. FilterError for a filter, SortError for a sort that no resource type understands."""
    if len(types) == 1:
        return Listing(((types[0], snapshot.select(types[0], tree, sort)),))
    trees = {name: _for_type(snapshot, tree, name, types) if tree is not None else None for name in types}
    if sort is None:
        return Listing(tuple((name, snapshot.select(name, trees[name])) for name in types))
    if not any(snapshot.knows(name, sort.path) for name in types):
        snapshot.select(types[0], trees[types[0]], sort)  # tells what is wrong with it
    ranked = heapq.merge(
        *(_ranked(snapshot, name, trees[name], sort) for name in types), key=_order, reverse=sort.descending
    )
    runs = groupby(ranked, key=itemgetter(1))
    return Listing(tuple((name, array("Q", (ordinal for _, _, ordinal in run))) for name, run in runs))


def _ranked(snapshot: Snapshot, name: str, tree: Filter | None, sort: Sort) -> Iterator[_Ranked]:
    if snapshot.knows(name, sort.path):
        return ((key, name, ordinal) for key, ordinal in snapshot.rank(name, tree, sort))
    ordinals: Sequence[int] = range(snapshot.count(name)) if tree is None else snapshot.select(name, tree)
    return ((None, name, ordinal) for ordinal in ordinals)


def _order(item: _Ranked) -> tuple[bool, bool, Any]:
    """Absent values come after all others (RFC 7644 section 3.4.2.3), numbers before text."""
    key = item[0]
    return key is None, isinstance(key, str), 0 if key is None else key


def _for_type(snapshot: Snapshot, tree: Filter, name: str, types: tuple[str, ...]) -> Filter:
    """Return the filter with what it says of attributes that this type lacks, and another one has, decided."""
    if isinstance(tree, And | Or):
        left, right = (_for_type(snapshot, side, name, types) for side in (tree.left, tree.right))
        return replace(tree, left=left, right=right)
    if isinstance(tree, Not):
        return replace(tree, inner=_for_type(snapshot, tree.inner, name, types))
    path = tree.path
    if snapshot.knows(name, path) or not any(snapshot.knows(other, path) for other in types):
        return tree
    if isinstance(tree, Comparison) and (tree.op == "ne") != (tree.value is None and tree.op in {"eq", "ne"}):
        return _ALWAYS
    return _NEVER
