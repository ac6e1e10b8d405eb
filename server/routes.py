"""A request target to a Route: which base path, which SCIM version, which decoded segments.

Segments are split on the raw path and percent-decoded exactly once, so an id may hold a slash (%2F),
a plus or any Unicode text. Empty segments are dropped: Okta's base URL ends with a slash, so `//Users`
and `/Users/` are usual.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import msgspec

from snapshot.scim import ScimVersion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from snapshot.config import BasePath


class Area(Enum):
    """Which part of the server a path belongs to; it decides the credential."""

    SCIM = "scim"
    ADMIN = "admin"
    OPEN = "open"


class Route(msgspec.Struct, frozen=True, gc=False):
    """Where a request goes. `parts` are the decoded segments below `base`; None if they are not UTF-8."""

    area: Area
    base: str
    version: ScimVersion
    parts: tuple[str, ...] | None
    query: str = ""

    @property
    def name(self) -> str:
        """Return the first segment, for example Users; empty for the base itself."""
        return self.parts[0] if self.parts else ""


# The last segment of a query whose parameters come in a body (RFC 7644 section 3.4.3).
SEARCH = ".search"
_STATUS = ("-", "status")
# Known parents of paths: the base paths and the endpoints below them. Strangers may push them out, no more.
_MAX_KNOWN = 64
_MAX_KNOWN_LENGTH = 256
_BAD = Route(area=Area.OPEN, base="", version=ScimVersion.V2_0, parts=None)


class Router:
    """Knows the configured base paths; the longest one that fits wins."""

    def __init__(self, paths: Mapping[str, BasePath]) -> None:
        self._bases = {tuple(part for part in path.split("/") if part): (path, item) for path, item in paths.items()}
        self._lengths = sorted({len(key) for key in self._bases}, reverse=True)
        # Raw path -> its Route: nearly every request is for a path right below one of a few.
        self._known: dict[str, Route] = {}

    def resolve(self, raw_target: str) -> Route:
        """Return the Route of a request target as it came over the wire. Never raises."""
        if not raw_target.startswith("/"):
            # absolute-form (RFC 9112 section 3.2.2), as a proxy sends it
            _, _, rest = raw_target.partition("://")
            raw_target = "/" + rest.partition("/")[2]
        path, _, query = raw_target.partition("#")[0].partition("?")
        parent, _, last = path.rpartition("/")
        above = self._known.get(parent) or self._learn(parent)
        if above is None:
            return self._resolve(_segments(path), query)
        parts: tuple[str, ...] | None = above.parts
        if last:
            segment = last if last.isascii() and "%" not in last else _decode(last)
            parts = None if parts is None or segment is None else (*parts, segment)
        return Route(Area.SCIM, above.base, above.version, parts, query)

    def _learn(self, parent: str) -> Route | None:
        """Remember and return where a path leads, if its base path does not depend on what comes below."""
        if len(parent) > _MAX_KNOWN_LENGTH:
            return None
        segments = _segments(parent)
        route = self._resolve(segments, "")
        settled = route.area is Area.SCIM and route.parts is not None and len(segments) >= self._lengths[0]
        if not settled:
            return None
        if len(self._known) >= _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[parent] = route
        return route

    def _resolve(self, decoded: list[str | None], query: str) -> Route:
        for length in self._lengths:
            found = self._bases.get(tuple(decoded[:length]))  # type: ignore[arg-type]  # None never fits
            if found is not None:
                base, item = found
                return Route(Area.SCIM, base, item.version, _whole(decoded[length:]), query)
        parts = _whole(decoded)
        if parts is None:
            return _BAD
        area = Area.ADMIN if parts[:1] == ("admin",) or parts == _STATUS else Area.OPEN
        return Route(area, "", ScimVersion.V2_0, parts, query)


def _segments(path: str) -> list[str | None]:
    """Return the decoded segments of a path; None for one that is not UTF-8."""
    raw_parts = [part for part in path.split("/") if part]
    return [*raw_parts] if path.isascii() and "%" not in path else [_decode(part) for part in raw_parts]


def _decode(part: str) -> str | None:
    try:
        return unquote_to_bytes(part).decode("utf-8")
    except UnicodeError:
        return None


def _whole(parts: list[str | None]) -> tuple[str, ...] | None:
    found = tuple(part for part in parts if part is not None)
    return found if len(found) == len(parts) else None
