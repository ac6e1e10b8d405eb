"""Query string to SearchRequest: integers checked and clamped, each parameter at most once.

RFC 7644 section 3.4.2.4: startIndex below 1 means 1, a negative count means 0. What is not an integer
is a 400, never a guess and never a 500. With a cursor, count is at least 1 (RFC 9865 section 2).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import msgspec

from server.errors import InvalidCountError, InvalidFilterError, InvalidSyntaxError, InvalidValueError, ScimError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
# What a 32-bit client can read back; no snapshot has more resources.
MAX_INDEX = 2**31 - 1
# The query of nearly every page, with or without a filter in front; digits enough for MAX_INDEX.
_PAGE = re.compile(r"(?:filter=([!-%'-*,-~]+)&)?startIndex=([0-9]{1,9})&count=([0-9]{1,9})")
_MAX_DIGITS = 18
_SHORT = 9
_MAX_FIELDS = 64
_FIRST_PAGE = 1
_ASCENDING, _DESCENDING = "ascending", "descending"
# No schema has so many; each name costs a little for every resource.
MAX_ATTRIBUTES = 500


class SearchRequest(msgspec.Struct, frozen=True, gc=False):
    """What a list request asks for: 1-based start_index, count already capped, filter text or None.

    `cursor` is None for a list by index, empty for the first page of one by cursor. Names of attributes are as the
    client wrote them; at most one of `attributes` and `excluded` holds any.
    """

    start_index: int
    count: int
    filter: str | None = None
    sort_by: str | None = None
    descending: bool = False
    attributes: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    cursor: str | None = None


class Limits(msgspec.Struct, frozen=True, gc=False):
    """How many resources a page has; whether `cursor` means something (RFC 9865 is an addition to SCIM 2.0)."""

    default_count: int
    max_count: int
    cursors: bool = False


class Asked(msgspec.Struct, gc=False):
    """The parameters of a list as they arrived, from a query string or a body; None where absent."""

    start_index: int | None = None
    count: int | None = None
    filter: str | None = None
    sort_by: str | None = None
    sort_order: str | None = None
    attributes: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    cursor: str | None = None


def parse_query(raw: str) -> dict[str, str]:
    """Return the parameters by lower-case name; a repeated one is refused (which would hold?)."""
    if not raw:
        return {}
    if raw.count("&") >= _MAX_FIELDS:
        raise InvalidSyntaxError(f"The query string has more than {_MAX_FIELDS} parameters.")
    if raw.isascii() and "%" not in raw and "+" not in raw:
        # startIndex=1&count=200, the query of every page: nothing to decode
        return _unique([(name, value) for name, _, value in _fields(raw)])
    try:
        if not raw.isascii():
            raw.encode()  # raw bytes that are not UTF-8 arrive as lone surrogates
        pairs = [(_decoded(name), _decoded(value)) for name, _, value in _fields(raw)]
    except UnicodeError:
        raise InvalidSyntaxError("The query string is not UTF-8 text.") from None
    return _unique(pairs)


def _fields(raw: str) -> list[tuple[str, str, str]]:
    return [field.partition("=") for field in raw.split("&") if field]


def _decoded(text: str) -> str:
    """Decode one name or value of a form; bytes that are not UTF-8 are an error, not another text."""
    if "+" in text:
        text = text.replace("+", " ")
    if "%" not in text:
        return text
    # The usual filter has nothing else: if no percent sign is left, each one was the first of one of these few.
    plain = text.replace("%20", " ").replace("%22", '"').replace("%40", "@")
    if "%" in plain:
        plain = plain.replace("%28", "(").replace("%29", ")").replace("%3A", ":")
    return plain if "%" not in plain else unquote_to_bytes(text).decode()


def _decoded_or_none(text: str) -> str | None:
    try:
        return _decoded(text)
    except UnicodeError:
        return None


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in pairs:
        folded = name.lower()
        if folded in parameters:
            raise InvalidValueError("A query parameter is given more than once.")
        parameters[folded] = value
    return parameters


def search_request(raw: str, limits: Limits) -> SearchRequest:
    """Read the query string of a list."""
    if (page := _PAGE.fullmatch(raw)) is not None:
        encoded, start_index, count = page.groups()
        text = None if encoded is None else _decoded_or_none(encoded)
        if encoded is None or (text and not text.isspace()):
            return SearchRequest(max(int(start_index), _FIRST_PAGE), min(int(count), limits.max_count), text)
    return _any_request(raw, limits)


def _any_request(raw: str, limits: Limits) -> SearchRequest:
    parameters = parse_query(raw)
    cursor = parameters.get("cursor") if limits.cursors else None
    start_index = _integer(parameters, "startIndex", InvalidValueError)
    count = _integer(parameters, "count", InvalidValueError if cursor is None else InvalidCountError)
    attributes, excluded = read_projection(parameters)
    asked = Asked(
        start_index=start_index,
        count=count,
        filter=parameters.get("filter"),
        sort_by=parameters.get("sortby"),
        sort_order=parameters.get("sortorder"),
        attributes=attributes,
        excluded=excluded,
        cursor=cursor,
    )
    return checked(asked, limits)


def read_projection(parameters: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return `attributes` and `excludedAttributes` of a query string, split at their commas."""
    attributes = _names(parameters.get("attributes", ""))
    excluded = _names(parameters.get("excludedattributes", ""))
    check_projection(attributes, excluded)
    return attributes, excluded


def check_projection(attributes: Sequence[str], excluded: Sequence[str]) -> None:
    """Refuse both at once (RFC 7644 section 3.9 calls them mutually exclusive), and too many names."""
    if attributes and excluded:
        raise InvalidValueError("attributes and excludedAttributes exclude each other.")
    if len(attributes) + len(excluded) > MAX_ATTRIBUTES:
        raise InvalidValueError(f"More than {MAX_ATTRIBUTES} attributes are named.")


def checked(asked: Asked, limits: Limits) -> SearchRequest:
    """Return the request with its numbers clamped; raises for what contradicts itself."""
    count = limits.default_count if asked.count is None else asked.count
    if asked.filter is not None and not asked.filter.strip():
        raise InvalidFilterError("The filter is empty.")
    if asked.cursor is not None:
        if asked.start_index is not None:
            raise InvalidValueError("cursor and startIndex exclude each other.")
        if count < 1:
            raise InvalidCountError("With a cursor, count is a positive integer.")
    order = (asked.sort_order or _ASCENDING).strip().lower()
    if order not in {_ASCENDING, _DESCENDING}:
        raise InvalidValueError("sortOrder is ascending or descending.")
    return SearchRequest(
        start_index=max(asked.start_index or _FIRST_PAGE, _FIRST_PAGE),
        count=min(max(count, 0), limits.max_count),
        filter=asked.filter,
        sort_by=(asked.sort_by or "").strip() or None,
        descending=order == _DESCENDING,
        attributes=asked.attributes,
        excluded=asked.excluded,
        cursor=asked.cursor,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


def _integer(parameters: Mapping[str, str], name: str, error: type[ScimError]) -> int | None:
    text = parameters.get(name.lower())
    if text is None:
        return None
    if len(text) <= _SHORT and text.isascii() and text.isdecimal():
        return int(text)
    text = text.strip()
    if not _INTEGER.match(text):
        raise error(f"{name} is not an integer.")
    # Python refuses to read thousands of digits; more than 18 are "very many" in any case.
    digits = text.lstrip("+-").lstrip("0") or "0"
    value = MAX_INDEX if len(digits) > _MAX_DIGITS else min(int(digits), MAX_INDEX)
    return -value if text.startswith("-") else value
