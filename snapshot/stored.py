"""In which form the index stores the values of resources, so that its comparisons are those of SCIM (layout.py)."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from snapshot.schema import BOOLEAN, DATE_TIME, DECIMAL, INTEGER
from snapshot.scim import DecimalText

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_TEXT = attrgetter("text")


def _number(value: Any) -> float:
    return float(value.text if isinstance(value, DecimalText) else value)


# kind -> how a value of a resource is stored
STORED: dict[str, Callable[[Any], Any]] = {
    "text": str.casefold,
    "exact": str,
    BOOLEAN: int,
    INTEGER: int,
    DECIMAL: _number,
    DATE_TIME: lambda text: text[:-1],
}


def stored_column(values: Sequence[Any], kind: str) -> Sequence[Any]:
    """Return the stored form of a value of each resource; None stays None."""
    if kind in {"exact", INTEGER}:
        return values
    store = STORED[kind]
    if kind == DATE_TIME:
        return [None if value is None else value[:-1] for value in values]
    if None in values:
        return [None if value is None else store(value) for value in values]
    if kind == DECIMAL and set(map(type, values)) == {DecimalText}:
        return list(map(float, map(_TEXT, values)))
    return list(map(store, values))


def plural_key(value: Any, kind: str) -> Any:
    """Return the stored form of one sub-attribute of an entry of a multi-valued attribute."""
    if kind == "text" and value is not None:
        return value.casefold()
    return int(value) if isinstance(value, bool) else value
