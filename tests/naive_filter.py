"""What a filter means, said a second time: plain Python over decoded JSON resources of either version, and no index.

A filter is a tree of tuples:
    ("and", left, right)  ("or", left, right)  ("not", inner)
    ("term", Path, operator, Value)            operator pr has the value NULL
    ("values", Path, inner)                    emails[…]; the paths of inner are those of sub-attributes
    ("chosen", Path, inner, sub, operator, Value)   emails[…].value eq "x"
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

CORE, ENTERPRISE, CUSTOM = "", "enterprise", "urn:okta:acme_hr_1:1.0:user:custom"
# The core schemas of other types than users; a path names its type by them.
GROUP, LICENSE = "Group", "License"
GROUP_CUSTOM = "urn:okta:custom:group:1.0"
ENTERPRISE_URNS = (
    "urn:scim:schemas:extension:enterprise:1.0",
    "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
)
_OLD = "urn:scim:schemas:core:1.0"
CORE_URNS = (_OLD, "urn:ietf:params:scim:schemas:core:2.0:User")
GROUP_URNS = (_OLD, "urn:ietf:params:scim:schemas:core:2.0:Group")
LICENSE_URNS = (_OLD, "urn:okta:scim:schemas:core:1.0:Entitlement")
URNS_OF = {CORE: CORE_URNS, GROUP: GROUP_URNS, LICENSE: LICENSE_URNS}
ORDERED = {"gt", "ge", "lt", "le"}
PARTIAL = {"co", "sw", "ew"}
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
# A plus that was not percent-encoded.
_BLANK_OFFSET = re.compile(r"(:\d\d(?:\.\d+)?) (\d\d:\d\d)$")
_EPOCH = datetime(1970, 1, 1)


class Refused(Exception):  # noqa: N818 (it is no error here)
    """The filter has no meaning."""


class Path(NamedTuple):
    """An attribute of a schema (CORE, ENTERPRISE, CUSTOM, GROUP …), and perhaps its sub-attribute."""

    name: str
    sub: str = ""
    schema: str = CORE
    foreign: str = ""  # the URN before the name, if it is the core schema of another type


class Value(NamedTuple):
    """A literal: its kind (text, number, boolean or null), and its text."""

    kind: str
    text: str = ""


NULL = Value("null")


class Kind(NamedTuple):
    """How an attribute compares: text, exact, binary, boolean, integer, decimal, date, complex."""

    name: str
    subs: dict[str, str] | None = None
    is_plural: bool = False


def _plural(value: str = "text") -> Kind:
    return Kind("complex", {"value": value, "display": "text", "type": "text", "primary": "boolean"}, is_plural=True)


_PLACE = dict.fromkeys(("formatted", "streetAddress", "locality", "region", "postalCode", "country", "type"), "text")
_NAME = ("formatted", "familyName", "givenName", "middleName", "honorificPrefix", "honorificSuffix")
_COMMON = {
    "id": Kind("exact"),
    "externalId": Kind("exact"),
    "meta": Kind("complex", {"created": "date", "lastModified": "date", "resourceType": "exact"}),
    "schemas": Kind("schemas", is_plural=True),
}
_LINKED = {"value": "exact", "display": "text", "type": "text"}
SCHEMAS: dict[str, dict[str, Kind]] = {
    CORE: {
        **_COMMON,
        **{name: Kind("text") for name in ("userName", "displayName", "nickName", "title", "userType", "locale")},
        "profileUrl": Kind("exact"),
        "active": Kind("boolean"),
        "name": Kind("complex", dict.fromkeys(_NAME, "text")),
        "emails": _plural(),
        **{name: _plural("exact") for name in ("roles", "entitlements")},
        "photos": _plural("exact"),
        "x509Certificates": _plural("binary"),
        "addresses": Kind("complex", {**_PLACE, "primary": "boolean"}, is_plural=True),
        "groups": Kind("complex", _LINKED, is_plural=True),
    },
    ENTERPRISE: {
        **{name: Kind("text") for name in ("employeeNumber", "department", "costCenter")},
        "manager": Kind("complex", {"value": "exact", "displayName": "text"}),
    },
    CUSTOM: {
        "badge": Kind("text"),
        "key": Kind("binary"),
        "remote": Kind("boolean"),
        "grade": Kind("integer"),
        "rate": Kind("decimal"),
        "hired": Kind("date"),
        "tags": Kind("text", is_plural=True),
    },
    GROUP: {**_COMMON, "displayName": Kind("text"), "members": Kind("complex", _LINKED, is_plural=True)},
    GROUP_CUSTOM: {"description": Kind("text")},
    LICENSE: {**_COMMON, **{name: Kind("text") for name in ("displayName", "type", "description")}},
}
# The schemas of each resource type, its core first.
TYPES = {"User": (CORE, ENTERPRISE, CUSTOM), "Group": (GROUP, GROUP_CUSTOM), "License": (LICENSE,)}


def find(tree: tuple, users: list[dict[str, Any]]) -> list[int]:
    """Return the places of the users whom a filter finds; Refused if it has no meaning, whoever there is."""
    _check(tree)
    return [place for place, user in enumerate(users) if _holds(tree, user)]


def order(path: Path, users: list[dict[str, Any]], *, descending: bool) -> list[int]:
    """Return the places of all users, sorted by an attribute; Refused if it has no order."""
    kind = _kind_of(path)
    if kind in {"complex", "schemas"} or path[:2] == ("meta", "resourceType"):
        if kind == "complex":
            raise Refused
        return list(range(len(users)))
    keys = {place: _sort_key(path, kind, user) for place, user in enumerate(users)}
    present = [place for place, key in keys.items() if key is not None]
    absent = [place for place, key in keys.items() if key is None]
    present.sort(key=lambda place: keys[place], reverse=descending)  # ties stay in order
    return absent + present if descending else present + absent


def _sort_key(path: Path, kind: str, user: dict[str, Any]) -> Any:
    elements = _elements(path, user)
    sub = _sub_of(path)
    if sub is None:
        value = elements[0] if elements else None
    else:
        first = next((item for item in elements if item.get("primary") is True), elements[0] if elements else {})
        value = _sub_value(first, sub, path) if elements else None
    return None if value is None else _stored(kind, value)


# What has a meaning


def _check(tree: tuple) -> None:
    match tree:
        case ("and" | "or", left, right):
            _check(left)
            _check(right)
        case ("not", inner):
            _check(inner)
        case ("term", path, operator, value):
            is_null = operator == "pr" or (value == NULL and operator in {"eq", "ne"})
            kind = _kind_of(path)
            if kind == "complex" and not is_null:
                raise Refused
            if kind != "complex":
                _check_types(kind, operator, value)
        case ("values", path, inner):
            _check_inner(path, inner)
        case ("chosen", path, inner, sub, operator, value):
            _check_inner(path, inner)
            _check_inner(path, ("term", Path(sub), operator, value))


def _check_inner(outer: Path, tree: tuple) -> None:
    match tree:
        case ("and" | "or", left, right):
            _check_inner(outer, left)
            _check_inner(outer, right)
        case ("not", inner):
            _check_inner(outer, inner)
        case ("term", path, operator, value):
            kind = SCHEMAS[outer.schema].get(outer.name)
            if kind is None or kind.subs is None or outer.sub or outer.foreign or path.name not in kind.subs:
                raise Refused
            _check_types(kind.subs[path.name], operator, value)


def _kind_of(path: Path) -> str:
    """Return how a path compares: the simple form of a complex attribute as its value."""
    kind = SCHEMAS[path.schema].get(path.name)
    if path.foreign or kind is None or (path.sub and path.sub not in (kind.subs or {})):
        raise Refused
    return kind.name if kind.subs is None else kind.subs.get(path.sub or "value", "complex")


def _check_types(kind: str, operator: str, value: Value) -> None:
    if operator == "pr":
        return
    if value == NULL:
        if operator not in {"eq", "ne"}:
            raise Refused
        return
    if operator in PARTIAL and kind not in {"text", "exact", "binary", "schemas"}:
        raise Refused
    if operator in ORDERED and kind in {"boolean", "binary"}:
        raise Refused
    _literal(kind, value)


def _literal(kind: str, value: Value) -> Any:
    """Return a literal in the form in which values of this kind are compared."""
    text = value.text
    if kind in {"text", "schemas"}:
        return text.casefold()
    if kind in {"exact", "binary"}:
        return text
    if kind == "boolean" and text.casefold() in {"true", "false"} and value.kind != "number":
        return text.casefold() == "true"
    if kind == "integer" and value.kind != "boolean" and _NUMBER.fullmatch(text):
        return Decimal(text)
    if kind == "decimal" and value.kind != "boolean" and _NUMBER.fullmatch(text):
        return float(text)
    if kind == "date" and value.kind == "text":
        try:
            return _instant(text)
        except ValueError:
            pass
    raise Refused


def _instant(text: str) -> timedelta:
    moment = datetime.fromisoformat(_BLANK_OFFSET.sub(r"\1+\2", text))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.replace(tzinfo=None) - _EPOCH - moment.utcoffset()


def _stored(kind: str, value: Any) -> Any:
    """Return a value of a user in the form in which it is compared."""
    return {"text": str.casefold, "date": _instant, "decimal": float}.get(kind, lambda plain: plain)(value)


# Whom it finds


def _holds(tree: tuple, user: dict[str, Any]) -> bool:
    match tree:
        case ("and", left, right):
            return _holds(left, user) and _holds(right, user)
        case ("or", left, right):
            return _holds(left, user) or _holds(right, user)
        case ("not", inner):
            return not _holds(inner, user)
        case ("values", path, inner):
            return any(_fulfils(path, inner, item) for item in _elements(path, user))
        case ("chosen", path, inner, sub, operator, value):
            kind = SCHEMAS[path.schema][path.name].subs[sub]
            chosen = [_sub_value(item, sub, path) for item in _elements(path, user) if _fulfils(path, inner, item)]
            return _any(kind, operator, value, chosen)
    _, path, operator, value = tree
    if path.name == "schemas":
        return _schemas(URNS_OF[path.schema], operator, value, user)
    elements = _elements(path, user)
    is_whole = SCHEMAS[path.schema][path.name].subs is not None and not path.sub
    if is_whole and (operator == "pr" or value == NULL):
        return bool(elements) == (operator != "eq")
    sub = _sub_of(path)
    found = elements if sub is None else [_sub_value(item, sub, path) for item in elements]
    return _any(_kind_of(path), operator, value, found)


def _any(kind: str, operator: str, value: Value, found: list[Any]) -> bool:
    """Compare several values: any of them; having none counts as one null."""
    if value == NULL:
        return any(item is not None for item in found) == (operator != "eq")
    return any(_one(kind, operator, value, item) for item in found or [None])


def _one(kind: str, operator: str, value: Value, found: Any) -> bool:
    if value == NULL:
        return (found is not None) == (operator != "eq")
    if found is None:
        return operator == "ne"
    left, right = _stored(kind, found), _literal(kind, value)
    match operator:
        case "eq":
            return left == right
        case "ne":
            return left != right
        case "co":
            return right in left
        case "sw":
            return left.startswith(right)
        case "ew":
            return left.endswith(right)
        case "gt":
            return left > right
        case "ge":
            return left >= right
        case "lt":
            return left < right
    return left <= right


def _fulfils(outer: Path, tree: tuple, element: dict[str, Any]) -> bool:
    match tree:
        case ("and", left, right):
            return _fulfils(outer, left, element) and _fulfils(outer, right, element)
        case ("or", left, right):
            return _fulfils(outer, left, element) or _fulfils(outer, right, element)
        case ("not", inner):
            return not _fulfils(outer, inner, element)
    _, path, operator, value = tree
    kind = SCHEMAS[outer.schema][outer.name].subs[path.name]
    return _one(kind, operator, value, _sub_value(element, path.name, outer))


def _sub_value(element: dict[str, Any], sub: str, outer: Path) -> Any:
    """RFC 7643 section 2.4: an entry that does not say whether it is the primary one is not."""
    is_assumed = sub == "primary" and SCHEMAS[outer.schema][outer.name].is_plural
    return element.get(sub, False if is_assumed else None)


def _schemas(core: tuple[str, ...], operator: str, value: Value, user: dict[str, Any]) -> bool:
    """A schema of the resource has its URN of either version."""
    if value == NULL:
        return operator != "eq"
    found = []
    for urn in user["schemas"]:
        spellings = next((item for item in (core, ENTERPRISE_URNS) if urn in item), (urn,))
        compared = [_one("text", operator, value, item) for item in spellings]
        found.append(all(compared) if operator == "ne" else any(compared))
    return any(found)


def _sub_of(path: Path) -> str | None:
    return None if SCHEMAS[path.schema][path.name].subs is None else path.sub or "value"


def _elements(path: Path, user: dict[str, Any]) -> list[Any]:
    """Return the values of an attribute: the objects of a complex one, one or none of a single-valued one."""
    if path.schema == ENTERPRISE:
        holder = next((user[urn] for urn in ENTERPRISE_URNS if urn in user), {})
    else:
        holder = user if path.schema in URNS_OF else user.get(path.schema, {})
    found = holder.get(path.name)
    if found is None:
        return []
    if path.name == "manager" and "managerId" in found:
        found = {**found, "value": found["managerId"]}
    if path.name == "meta":
        found = {**found, "resourceType": path.schema or "User"}  # SCIM 1.1 does not say it
    if path.name == "members":
        found = [{"type": "User", **item} for item in found]  # nor this
    return found if isinstance(found, list) else [found]
