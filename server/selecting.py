"""What a filter selects of one resource type, or of all of them, and in which order. Blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.listing import Listing
from snapshot.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from server.sorting import Sort
    from snapshot.filter import Filter
    from snapshot.reader import Snapshot


def select(snapshot: Snapshot, types: tuple[str, ...], tree: Filter | None, sort: Sort | None) -> Listing:
    """Return the listing. FilterError for a filter that no resource type understands.

    Over several types, one that does not know an attribute has no match for it (RFC 7644 section 3.4.2.1).
    """
    parts: list[tuple[str, Sequence[int]]] = []
    refused: FilterError | None = None
    for name in types:
        try:
            parts.append((name, _ordinals(snapshot, name, tree, sort)))
        except FilterError as error:
            refused = refused or error
    if not parts and refused is not None:
        raise refused
    return Listing(tuple(parts))


def _ordinals(snapshot: Snapshot, name: str, tree: Filter | None, sort: Sort | None) -> Sequence[int]:
    if tree is None:
        return range(snapshot.count(name))
    return snapshot.select(name, tree)
