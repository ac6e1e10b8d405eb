"""sortBy and sortOrder to a Sort (RFC 7644 section 3.4.2.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapshot.errors import FilterError, SortError
from snapshot.filter import Sort, known_urns, resolve_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from server.query import SearchRequest


def sort_of(search: SearchRequest, extension_urns: Sequence[str]) -> Sort | None:
    """Return what a list is sorted by; SortError for what is no name of an attribute."""
    if search.sort_by is None:
        return None
    try:
        path = resolve_path(search.sort_by, known_urns(extension_urns))
    except FilterError as error:
        raise SortError(error.detail) from None
    return Sort(path, search.descending)
