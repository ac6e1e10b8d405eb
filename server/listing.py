"""Listing: what one list holds in which order, over one or several resource types; pages are cut out of it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from snapshot.reader import Snapshot
    from snapshot.scim import ScimVersion

# Kept for lists by cursor: eight bytes an ordinal.
_MAX_LISTINGS = 64
_MAX_ORDINALS = 8_000_000
_COMMA = b","


@dataclass(frozen=True, slots=True)
class Listing:
    """(resource type, ordinals) one after the other. A whole type in its own order is a range."""

    parts: tuple[tuple[str, Sequence[int]], ...]

    @property
    def total(self) -> int:
        """The number of resources."""
        return sum(len(ordinals) for _, ordinals in self.parts)

    def page(self, snapshot: Snapshot, version: ScimVersion, first: int, count: int) -> tuple[int, bytes]:
        """Return the number of resources from the 0-based `first` on, at most `count`, and their comma-joined JSON."""
        items, pieces = 0, []
        for resource_type, ordinals in self.parts:
            cut = ordinals[first : first + count - items]
            if cut:
                pieces.append(_bytes(snapshot, resource_type, version, cut))
                items += len(cut)
            first = max(first - len(ordinals), 0)
        return items, _COMMA.join(pieces)


def _bytes(snapshot: Snapshot, resource_type: str, version: ScimVersion, cut: Sequence[int]) -> bytes | memoryview:
    if isinstance(cut, range):
        return snapshot.resources(resource_type, version, cut.start, cut.stop)
    return snapshot.gather(resource_type, version, cut)


class Listings:
    """The listings that were cut last, so that the next page of a cursor need not be selected again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Listing] = OrderedDict()
        self._ordinals = 0

    def get(self, key: Hashable) -> Listing | None:
        """Return a listing that is still kept."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def keep(self, key: Hashable, listing: Listing) -> None:
        """Keep a listing; the ones that were not used for longest go, down to one."""
        if (known := self._kept.pop(key, None)) is not None:
            self._ordinals -= known.total
        self._kept[key] = listing
        self._ordinals += listing.total
        while len(self._kept) > 1 and (len(self._kept) > _MAX_LISTINGS or self._ordinals > _MAX_ORDINALS):
            _, dropped = self._kept.popitem(last=False)
            self._ordinals -= dropped.total
