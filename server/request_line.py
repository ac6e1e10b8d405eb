"""RequestLine: what the log says of a request. Never values of the query, ids or headers: they may be people's data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from server.routes import SEARCH, Area

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from server.keys import RequestFacts
    from server.routes import Route

_LOGGED_PATH_LENGTH = 200
# A segment that is hardly an id, such as scim or v2; and in small letters those below which there are ids.
_WORD = re.compile(r"[A-Za-z_-]{1,32}[0-9]{0,2}\Z")
_TYPES = frozenset({"users", "groups"})


class RequestLine(msgspec.Struct, frozen=True, gc=False):
    """A request that was answered: `size` in bytes of the body, `seconds` until the answer was made."""

    facts: RequestFacts
    method: str
    status: int
    size: int
    seconds: float
    peer: str | None

    def members(self) -> dict[str, Any]:
        """Return the members of the line."""
        facts = self.facts
        told = {
            "request_id": facts.request_id,
            "method": self.method,
            "path": shown_path(facts.route),
            "status": self.status,
            "ms": int(self.seconds * 100_000) / 100,
            "bytes": self.size,
            "principal": facts.principal,
            "generation": facts.generation,
            "peer": self.peer,
        }
        return {**app_of(facts), **told} if facts.app_name else told


def app_of(facts: RequestFacts) -> dict[str, str]:
    """Return what a line says of the app: nothing for the only one."""
    return {"app": facts.app_name} if facts.app_name else {}


def shown_path(route: Route) -> str:
    """Return the path for the log: ids are left out, also where a client takes something else for a base path."""
    parts = route.parts
    if parts is None:
        return f"{route.base}/(not UTF-8)"
    if route.area is Area.SCIM:
        text = f"{route.base}/{parts[0]}" if parts else route.base
        for part in parts[1:]:
            text += f"/{SEARCH}" if part == SEARCH else "/{id}"
    elif route.area is Area.ADMIN:
        text = "/" + "/".join(parts)
    else:
        text = "/" + "/".join(_without_ids(parts))
    if not text.isascii():
        text = text.encode("ascii", "backslashreplace").decode("ascii")
    return text[:_LOGGED_PATH_LENGTH]


def _without_ids(parts: Sequence[str]) -> Iterator[str]:
    """Yield the segments of a path that leads nowhere; what may be an id is not told."""
    below_type = False
    for part in parts:
        yield "{id}" if below_type or not _WORD.match(part) else part
        # Endpoints of resource types begin with a capital: Users, Groups, and those of entitlements.
        below_type = below_type or part[0].isupper() or part in _TYPES
