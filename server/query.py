"""Query string to SearchRequest: integers checked and clamped, each parameter at most once.

RFC 7644 section 3.4.2.4: startIndex below 1 means 1, a negative count means 0. What is not an integer
is a 400, never a guess and never a 500.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import msgspec

from server.errors import InvalidFilterError, InvalidSyntaxError, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
# What a 32-bit client can read back; no snapshot has more resources.
MAX_INDEX = 2**31 - 1
_MAX_DIGITS = 18
_SHORT = 9
_MAX_FIELDS = 64
_FIRST_PAGE = 1


class SearchRequest(msgspec.Struct, frozen=True, gc=False):
    """What a list request asks for: 1-based start_index, count already capped, filter text or None."""

    start_index: int
    count: int
    filter: str | None = None

    @property
    def is_first_page(self) -> bool:
        """Whether the list begins with this request."""
        return self.start_index == _FIRST_PAGE


def parse_query(raw: str) -> dict[str, str]:
    """Return the parameters by lower-case name; a repeated one is refused (which would hold?)."""
    if not raw:
        return {}
    if raw.isascii() and "%" not in raw and "+" not in raw and raw.count("&") < _MAX_FIELDS:
        # startIndex=1&count=200, the query of every page: nothing to decode
        return _unique(field.partition("=")[::2] for field in raw.split("&") if field)
    try:
        raw.encode()  # raw bytes that are not UTF-8 arrive as lone surrogates
        # errors="strict": bytes that are not UTF-8 would else become another text without a word.
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except UnicodeError:
        raise InvalidSyntaxError("The query string is not UTF-8 text.") from None
    except ValueError:
        raise InvalidSyntaxError(f"The query string has more than {_MAX_FIELDS} parameters.") from None
    return _unique(pairs)


def _unique(pairs: Iterable[tuple[str, ...]]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in pairs:
        folded = name.lower()
        if folded in parameters:
            raise InvalidValueError("A query parameter is given more than once.")
        parameters[folded] = value
    return parameters


def search_request(raw: str, *, default_count: int, max_count: int) -> SearchRequest:
    """Read the query string of a list."""
    parameters = parse_query(raw)
    start_index = _integer(parameters, "startIndex", default=_FIRST_PAGE)
    count = _integer(parameters, "count", default=default_count)
    text = parameters.get("filter")
    if text is not None and not text.strip():
        raise InvalidFilterError("The filter is empty.")
    return SearchRequest(
        start_index=max(start_index, _FIRST_PAGE),
        count=min(max(count, 0), max_count),
        filter=text,
    )


def _integer(parameters: Mapping[str, str], name: str, *, default: int) -> int:
    text = parameters.get(name.lower())
    if text is None:
        return default
    if len(text) <= _SHORT and text.isascii() and text.isdecimal():
        return int(text)
    text = text.strip()
    if not _INTEGER.match(text):
        raise InvalidValueError(f"{name} is not an integer.")
    # Python refuses to read thousands of digits; more than 18 are "very many" in any case.
    digits = text.lstrip("+-").lstrip("0") or "0"
    value = MAX_INDEX if len(digits) > _MAX_DIGITS else min(int(digits), MAX_INDEX)
    return -value if text.startswith("-") else value
