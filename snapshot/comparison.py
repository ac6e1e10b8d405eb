"""One comparison as SQL over one column: how each kind of attribute compares, and with what.

Conditions here may be NULL where the attribute is absent, which counts as false; whoever negates one has to write
`IS NOT TRUE`. Values are always bound parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any, NoReturn

from snapshot.errors import FilterError
from snapshot.filter import Comparison, Literal, Present, ValuePath
from snapshot.layout import instant_key
from snapshot.schema import BINARY, BOOLEAN, DATE_TIME, INTEGER
from snapshot.scim import DecimalText
from snapshot.tokens import parse_instant, parse_number

TEXT, EXACT, PUBLISHED = "text", "exact", "published"
# What an attribute is for SQL if nothing is kept of it: it has no value.
NOTHING = "NULL"

Sql = tuple[str, list[Any]]

_SIGNS = {"eq": "=", "ne": "IS NOT", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_SUBSTRING = frozenset({"co", "sw", "ew"})
_MICROSECONDS = 1_000
_LARGEST = 1e19  # larger than every stored integer
_LAST_CODE_POINT = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)
# After every stored dateTime: an offset may lead beyond the year 9999.
_AFTER_ALL = "~"


@dataclass(frozen=True, slots=True)
class Column:
    """Where the value of an attribute is in SQL, and how it compares.

    kind: text (folded), exact, binary, boolean, integer, decimal, dateTime (text) or published (ms).
    """

    sql: str
    kind: str


def condition(column: Column, term: Comparison | Present) -> Sql:
    """Return the condition on one value, and its bound values; FilterError if the types cannot be compared."""
    if isinstance(term, Present):
        return f"{column.sql} IS NOT NULL", []
    if term.value is None:
        if term.op not in {"eq", "ne"}:
            refuse(term, f"{term.path} {term.op} null has no meaning; null goes with eq and ne")
        return f"{column.sql} IS {'NOT ' if term.op == 'ne' else ''}NULL", []
    if term.op in _SUBSTRING:
        return _substring(column, term)
    if column.kind in {BOOLEAN, BINARY} and term.op not in {"eq", "ne"}:
        refuse(term, f"{term.path} is {column.kind}, which has no order: {term.op} does not go with it")
    if column.kind in {TEXT, EXACT, BINARY}:
        return _plain(column, term.op, text_of(column.kind, term.value))
    if column.kind == BOOLEAN:
        return _plain(column, term.op, _truth(term))
    if column.kind == PUBLISHED:
        return _whole(column, term.op, *divmod(_instant(term), _MICROSECONDS))
    if column.kind == DATE_TIME:
        return _plain(column, term.op, _instant_text(_instant(term)))
    if column.kind == INTEGER:
        return _whole(column, term.op, *_floor(_number(term)))
    return _plain(column, term.op, _float(_number(term)))


def refuse(term: Comparison | Present | ValuePath, detail: str) -> NoReturn:
    """Raise a FilterError that tells where the term stands."""
    raise FilterError(f"{detail} (position {term.position}).", position=term.position)


def _plain(column: Column, op: str, key: Any) -> Sql:
    return f"{column.sql} {_SIGNS[op]} ?", [key]


def _whole(column: Column, op: str, floor: float, rest: float) -> Sql:
    """Compare a column of whole numbers with floor + rest, 0 <= rest < 1 in some unit."""
    if rest:
        if op in {"eq", "ne"}:
            return f"{column.sql} IS {'NOT ' if op == 'ne' else ''}?", [math.inf]
        op = {"gt": "gt", "ge": "gt", "lt": "le", "le": "le"}[op]
    # What does not fit in 64 bits is compared as a float, beyond all that is stored.
    return _plain(column, op, floor if abs(floor) < _LARGEST and -(1 << 63) <= floor < 1 << 63 else _float(floor))


def _substring(column: Column, term: Comparison) -> Sql:
    if column.kind not in {TEXT, EXACT, BINARY}:
        refuse(term, f"{term.path} is {column.kind}: {term.op} goes only with text")
    key = text_of(column.kind, term.value)
    if not key:
        return f"{column.sql} IS NOT NULL", []
    if term.op == "co":
        return f"instr({column.sql}, ?) > 0", [key]
    if term.op == "sw":
        end = _after(key)
        if end is None:
            return f"{column.sql} >= ?", [key]
        return f"({column.sql} >= ? AND {column.sql} < ?)", [key, end]
    # As bytes: substr of text would end at a NUL character.
    suffix = key.encode()
    return f"substr(CAST({column.sql} AS BLOB), ?) = ?", [-len(suffix), suffix]


def _after(prefix: str) -> str | None:
    """Return the first text after all that begin with `prefix`, by code point; None if there is none."""
    kept = prefix.rstrip(chr(_LAST_CODE_POINT))
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)


def text_of(kind: str, value: Literal) -> str:
    """Return the text that a column of this kind holds for a value: folded unless it is exact."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = value.text if isinstance(value, DecimalText) else str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise FilterError("The filter holds text that is not valid Unicode.") from None
    return text.casefold() if kind == TEXT else text


def _truth(term: Comparison) -> int:
    truth = {"true": 1, "false": 0}.get(str(term.value).casefold())
    if truth is None:
        refuse(term, f"{term.path} is compared with true or false")
    return truth


def _instant(term: Comparison) -> int:
    instant = parse_instant(term.value) if isinstance(term.value, str) else None
    if instant is None:
        refuse(term, f"{term.path} is compared with a dateTime such as 2026-01-02T03:04:05Z")
    return instant


def _instant_text(microseconds: int) -> str:
    return instant_key(microseconds) or (_AFTER_ALL if microseconds > 0 else "")


def _number(term: Comparison) -> int | DecimalText:
    number = parse_number(term.value) if isinstance(term.value, str) else term.value
    if number is None or isinstance(number, bool):
        refuse(term, f"{term.path} is compared with a number")
    return number


def _float(number: float | DecimalText) -> float:
    if isinstance(number, DecimalText):
        return float(number.text)
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _floor(number: int | DecimalText) -> tuple[float, float]:
    """Return the largest whole number that is not larger, and 1 if something is left, else 0."""
    if isinstance(number, int):
        return number, 0
    mantissa = number.text.casefold().partition("e")[0]
    rough = float(number.text)
    if not mantissa.strip("-0."):
        return 0, 0
    if abs(rough) > _LARGEST:
        return rough, 0
    if abs(rough) < 1:
        return (-1 if rough < 0 or mantissa.startswith("-") else 0), 1
    exact = Decimal(number.text)
    floor = int(exact.to_integral_value(ROUND_FLOOR))
    return floor, int(exact != floor)


__all__ = ["EXACT", "NOTHING", "PUBLISHED", "TEXT", "Column", "Sql", "condition", "refuse", "text_of"]
