"""Where the index of a generation keeps each attribute, and how it compares there.

Text of attributes that are not caseExact is stored case-folded, so `=` is the comparison of SCIM.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from snapshot.schema import BOOLEAN, DATE_TIME, DECIMAL, INTEGER
from snapshot.scim import ENTERPRISE_2_0, GROUP, USER

if TYPE_CHECKING:
    from snapshot.config import Config
    from snapshot.related import RelatedMapping
    from snapshot.rules import Mapping

NAME = "index.sqlite"
MEMBERS_VIEW = f"{GROUP}_members"
# The columns that every table of resources has, mapped or not.
FIXED = ("ordinal", "id", "fingerprint", "created", "last_modified")
FIXED_OF_USERS = (*FIXED, "removed", "active", "user_name")
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
    resource_type: str = USER


def instant_key(microseconds: int) -> str:
    """Return the stored form of a dateTime: ISO text without Z, so that text order is the order of time."""
    try:
        moment = datetime(1970, 1, 1) + timedelta(microseconds=microseconds)  # noqa: DTZ001 (UTC throughout)
    except OverflowError:
        return ""  # an offset led out of the years 1 to 9999, where no stored value is
    text = moment.isoformat()
    return text.rstrip("0") if moment.microsecond else text


def attributes_of(config: Config) -> tuple[IndexedAttribute, ...]:
    """Return where the index keeps each attribute of each resource type."""
    found = _user_attributes(config.mapping)
    groups = config.groups
    if groups is not None:
        subs = ["value", "display"]
        if groups.subgroups is not None and groups.nesting == "keep":
            subs.append("type")
        found += _link_attributes(USER, "groups", subs)
        found += _related_attributes(GROUP, groups.mapping, ["displayName"])
        found += _link_attributes(GROUP, "members", ["value", "display", "type"])
    for attribute in ("roles", "entitlements"):
        if any(item.attribute == attribute for item in config.entitlements):
            subs = ["value", "display"] if attribute == "roles" else ["value", "display", "type"]
            found += _link_attributes(USER, attribute, subs)
    for item in config.entitlements:
        extra = ["displayName"] if item.kind == "role" else ["displayName", "type"]
        found += _related_attributes(item.name, item.mapping, extra)
    return tuple(found)


def _common_attributes(resource_type: str) -> list[IndexedAttribute]:
    return [
        IndexedAttribute("id", resource_type, "id", "exact", True, resource_type),
        IndexedAttribute("meta.lastModified", resource_type, "last_modified", "published", True, resource_type),
        IndexedAttribute("meta.created", resource_type, "created", "published", False, resource_type),
    ]


def _user_attributes(mapping: Mapping) -> list[IndexedAttribute]:
    found = _common_attributes(USER)
    found.append(IndexedAttribute("userName", USER, "user_name", "text", indexed=True))
    for target in mapping.singles:
        path = str(target.path)
        if path != "userName":
            kind = _kind(target.attribute.type, exact=target.attribute.case_exact)
            found.append(IndexedAttribute(path, USER, f"a{len(found)}", kind, path in _INDEXED))
    for plural in mapping.plurals:
        if plural.urn:
            found.append(IndexedAttribute(plural.path, f"{USER}_x{len(found)}", "v_value", "text", indexed=False))
            continue
        names = dict.fromkeys(target.path.sub for item in plural.items for target in item.targets)
        if any(item.type for item in plural.items):
            names["type"] = None
        names["primary"] = None
        for name in names:
            sub = plural.attribute.sub(name)
            kind = _kind(sub.type, exact=sub.case_exact) if sub else "text"
            path = f"{plural.attribute.name}.{name}"
            table = f"{USER}_{plural.attribute.name}"
            found.append(IndexedAttribute(path, table, f"v_{name}", kind, indexed=name == "value"))
    return found


def _related_attributes(resource_type: str, mapping: RelatedMapping, more: list[str]) -> list[IndexedAttribute]:
    found = _common_attributes(resource_type)
    names = {**dict.fromkeys(more), **{str(target.path): target for target in mapping.singles}}
    for path, target in names.items():
        kind = "text" if target is None else _kind(target.attribute.type, exact=target.attribute.case_exact)
        indexed = path in {"displayName", "externalId"}
        found.append(IndexedAttribute(path, resource_type, f"a{len(found)}", kind, indexed, resource_type))
    return found


def _link_attributes(resource_type: str, name: str, subs: list[str]) -> list[IndexedAttribute]:
    """Return those of an attribute that refers to other resources; its values are their ids."""
    table = f"{resource_type}_{name}"
    return [
        IndexedAttribute(
            f"{name}.{sub}", table, f"v_{sub}", "exact" if sub == "value" else "text", sub == "value", resource_type
        )
        for sub in subs
    ]


def _kind(attribute_type: str, *, exact: bool) -> str:
    if attribute_type in {BOOLEAN, INTEGER, DECIMAL, DATE_TIME}:
        return attribute_type
    return "exact" if exact else "text"
