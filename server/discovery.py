"""ServiceProviderConfig(s), ResourceTypes and Schemas: the ready documents of a base path, read-only.

Works before the first snapshot exists. Both spellings of the first are answered in both versions:
Okta's agent asks for the plural in 1.1 and the singular in 2.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.answer import header_lines, scim_answer, unchanged_answer
from server.errors import ForbiddenError, MethodNotAllowedError, NotFoundError
from server.keys import FACTS
from server.preconditions import is_unchanged
from server.query import parse_query
from snapshot.scim import ScimVersion

if TYPE_CHECKING:
    from aiohttp import web

    from server.answer import Answer
    from server.documents import Document, Documents

NAMES = frozenset({"ServiceProviderConfig", "ServiceProviderConfigs", "ResourceTypes", "Schemas"})
_READ_METHODS = ("GET", "HEAD")


async def handle(request: web.BaseRequest) -> Answer:
    """Answer one discovery request."""
    facts = request[FACTS]
    route = facts.route
    if request.method not in _READ_METHODS:
        raise MethodNotAllowedError(f"{route.name} can only be read.", allow=_READ_METHODS)
    found = _find(facts.directory.documents[route.base], route.parts or ())
    if found is None:
        raise NotFoundError(f"There is no such document under {route.name}.")
    if route.version is ScimVersion.V2_0 and "filter" in parse_query(route.query):
        # RFC 7644 section 4: a filter on these endpoints is refused with 403, paging is ignored.
        raise ForbiddenError(f"{route.name} cannot be filtered.")
    fields = header_lines({"ETag": found.tag})
    if is_unchanged(request.headers, found.tag):
        return unchanged_answer(fields)
    return scim_answer(route.version, found.body, fields=fields)


def _find(documents: Documents, parts: tuple[str, ...]) -> Document | None:
    name, *rest = parts
    if name.startswith("ServiceProviderConfig"):
        return None if rest else documents.service_provider_config
    whole, single = (
        (documents.resource_types, documents.resource_type)
        if name == "ResourceTypes"
        else (documents.schemas, documents.schema)
    )
    if not rest:
        return whole
    return single.get(rest[0].casefold()) if len(rest) == 1 else None
