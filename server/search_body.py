"""The body of POST .search to SearchRequest (RFC 7644 section 3.4.3): strict about types, names in any case.

`schemas` may be left out, for the path says what the body is; if it is there it names the SearchRequest.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson

from server.errors import InvalidSyntaxError, InvalidValueError
from server.query import MAX_INDEX, Asked, Limits, check_projection, checked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from server.query import SearchRequest

SEARCH_REQUEST_2_0 = "urn:ietf:params:scim:api:messages:2.0:SearchRequest"


def search_body(raw: bytes, limits: Limits) -> SearchRequest:
    """Read a body. InvalidSyntaxError for what is no SearchRequest, InvalidValueError for values it cannot have."""
    members = _members(raw)
    _check_schemas(members.get("schemas"))
    attributes, excluded = _names(members, "attributes"), _names(members, "excludedAttributes")
    check_projection(attributes, excluded)
    asked = Asked(
        start_index=_integer(members, "startIndex"),
        count=_integer(members, "count"),
        filter=_text(members, "filter"),
        sort_by=_text(members, "sortBy"),
        sort_order=_text(members, "sortOrder"),
        attributes=attributes,
        excluded=excluded,
        cursor=_text(members, "cursor") if limits.cursors else None,
    )
    return checked(asked, limits)


def _members(raw: bytes) -> dict[str, Any]:
    """Return the members by lower-case name (RFC 7643 section 2.1), without nulls, which mean nothing."""
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise InvalidSyntaxError("The body is not JSON.") from None
    if not isinstance(found, dict):
        raise InvalidSyntaxError("The body is not a JSON object.")
    # orjson has kept the last of two members of the same name; of this one the outermost object comes as a list.
    try:
        pairs = json.loads(raw, object_pairs_hook=list, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise InvalidSyntaxError("The body is nested too deeply.") from None
    if len(pairs) > len(found):
        raise InvalidSyntaxError("A member of the body is given more than once.")
    members: dict[str, Any] = {}
    for name, value in found.items():
        folded = name.lower()
        if folded in members:
            raise InvalidSyntaxError("A member of the body is given more than once.")
        members[folded] = value
    return {name: value for name, value in members.items() if value is not None}


def _check_schemas(value: Any) -> None:
    if value is None:
        return
    texts = [item.casefold() for item in value if isinstance(item, str)] if isinstance(value, list) else []
    if SEARCH_REQUEST_2_0.casefold() not in texts:
        raise InvalidSyntaxError(f"schemas does not name {SEARCH_REQUEST_2_0}.")


def _integer(members: Mapping[str, Any], name: str) -> int | None:
    value = members.get(name.lower())
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidSyntaxError(f"{name} is not a number.")
    if isinstance(value, float):
        # orjson reads integers beyond 64 bits as floats: very many, not broken ones.
        if not value.is_integer():
            raise InvalidValueError(f"{name} is not an integer.")
        value = int(value)
    return max(min(value, MAX_INDEX), -MAX_INDEX)


def _text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name.lower())
    if value is not None and not isinstance(value, str):
        raise InvalidSyntaxError(f"{name} is not a string.")
    return value


def _names(members: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = members.get(name.lower())
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidSyntaxError(f"{name} is not an array of strings.")
    return tuple(text for item in value if (text := item.strip()))
