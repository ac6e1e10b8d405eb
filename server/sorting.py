"""sortBy and sortOrder to a Sort (RFC 7644 section 3.4.2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.errors import InvalidPathError
from snapshot.errors import FilterError
from snapshot.filter import known_urns, resolve_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from server.query import SearchRequest
    from snapshot.scim import AttributePath


@dataclass(frozen=True, slots=True)
class Sort:
    """What a list is sorted by."""

    path: AttributePath
    descending: bool


def sort_of(search: SearchRequest, extension_urns: Sequence[str]) -> Sort | None:
    """Return what a list is sorted by; raises InvalidPathError for what is no name of an attribute."""
    if search.sort_by is None:
        return None
    try:
        return Sort(resolve_path(search.sort_by, known_urns(extension_urns)), search.descending)
    except FilterError:
        raise InvalidPathError(f"{search.sort_by!r} is not the name of an attribute.") from None
