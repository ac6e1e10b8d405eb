"""Where the index of a generation keeps each attribute, and how it compares there.

Text of attributes that are not caseExact is stored case-folded, so `=` is the comparison of SCIM.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from snapshot.schema import BOOLEAN, DATE_TIME, DECIMAL, INTEGER
from snapshot.scim import ENTERPRISE_2_0, USER

if TYPE_CHECKING:
    from snapshot.rules import Mapping

NAME = "index.sqlite"
# Attributes that clients look users up by; every other attribute is filtered by a scan.
_INDEXED = frozenset({"userName", "externalId", f"{ENTERPRISE_2_0}:employeeNumber"})


@dataclass(frozen=True, slots=True)
class IndexedAttribute:
    """Where the index keeps one attribute. kind: text (folded), exact, boolean, integer, decimal, dateTime."""

    path: str
    table: str
    column: str
    kind: str
    indexed: bool


def instant_key(microseconds: int) -> str:
    """Return the stored form of a dateTime: ISO text without Z, so that text order is the order of time."""
    try:
        moment = datetime(1970, 1, 1) + timedelta(microseconds=microseconds)  # noqa: DTZ001 (UTC throughout)
    except OverflowError:
        return ""  # an offset led out of the years 1 to 9999, where no stored value is
    text = moment.isoformat()
    return text.rstrip("0") if moment.microsecond else text


def attributes_of(mapping: Mapping) -> tuple[IndexedAttribute, ...]:
    """Return where the index keeps each mapped attribute."""
    found = [
        IndexedAttribute("id", USER, "id", "exact", indexed=True),
        IndexedAttribute("userName", USER, "user_name", "text", indexed=True),
        IndexedAttribute("meta.lastModified", USER, "last_modified", "published", indexed=True),
        IndexedAttribute("meta.created", USER, "created", "published", indexed=False),
    ]
    for target in mapping.singles:
        path = str(target.path)
        if path != "userName":
            kind = _kind(target.attribute.type, exact=target.attribute.case_exact)
            found.append(IndexedAttribute(path, USER, f"a{len(found)}", kind, path in _INDEXED))
    for plural in mapping.plurals:
        names = dict.fromkeys(target.path.sub for item in plural.items for target in item.targets)
        if any(item.type for item in plural.items):
            names["type"] = None
        names["primary"] = None
        for name in names:
            sub = plural.attribute.sub(name)
            kind = _kind(sub.type, exact=sub.case_exact) if sub else "text"
            path = f"{plural.attribute.name}.{name}"
            found.append(
                IndexedAttribute(path, f"{USER}_{plural.attribute.name}", f"v_{name}", kind, indexed=name == "value")
            )
    return tuple(found)


def _kind(attribute_type: str, *, exact: bool) -> str:
    if attribute_type in {BOOLEAN, INTEGER, DECIMAL, DATE_TIME}:
        return attribute_type
    return "exact" if exact else "text"
