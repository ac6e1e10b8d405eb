"""The strict SCIM 1.1 reading that Okta's agent is known by, as a small parser of our own.

It follows the published behaviour of the UnboundID SCIM 1.1 SDK in its lenient mode (1.8.14 and newer): a resource is
refused for anything that no schema defines, and one bad resource refuses its whole list. `parse_…` return what that
parser reads and raise RefusedError in its words. `read_…` are stricter: they raise MisreadError where it would not refuse but
read something else than was meant (`active: 1` is false), or where an older release would refuse.

Not followed: releases up to 1.8.13 refuse every custom extension, declared or not, which would leave no place for
attributes of one's own; and a byte order mark or text behind the end of the JSON, which the SDK takes, is refused here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

CORE = "urn:scim:schemas:core:1.0"
ENTERPRISE = "urn:scim:schemas:extension:enterprise:1.0"
OKTA_CONFIG = "urn:okta:schemas:scim:providerconfig:1.0"

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?")
_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_TEXT, _BOOLEAN, _INTEGER, _INSTANT_TYPE = "string", "boolean", "integer", "dateTime"


class RefusedError(Exception):
    """The parser refuses the body; the message is the one that it gives."""


class MisreadError(Exception):
    """The parser takes the body and reads something else than was meant, or an older release refuses it."""


@dataclass(frozen=True)
class Known:
    """An attribute that the parser knows: the type of its value, or its sub-attributes by folded name."""

    name: str
    urn: str = CORE
    type: str = _TEXT
    subs: dict[str, Known] | None = None
    many: bool = False


def _subs(*names: str, **types: Any) -> dict[str, Known]:
    found = {name: Known(name) for name in names}
    found.update({name: Known(name, type=kind) for name, kind in types.items()})
    return {name.casefold(): item for name, item in found.items()}


def _plural(name: str, *, value: bool = True, subs: tuple[str, ...] = ()) -> Known:
    common = _subs(*(("value",) if value else ()), *subs, "display", "type", primary=_BOOLEAN)
    return Known(name, subs=common, many=True)


def _table(*attributes: Known) -> dict[tuple[str, str], Known]:
    return {(item.urn.casefold(), item.name.casefold()): item for item in attributes}


_COMMON = (
    Known("id"),
    Known("externalId"),
    Known(
        "meta",
        subs=_subs("location", "version", "attributes", created=_INSTANT_TYPE, lastModified=_INSTANT_TYPE),
    ),
)
_NAME = ("formatted", "familyName", "givenName", "middleName", "honorificPrefix", "honorificSuffix")
_ADDRESS = ("formatted", "streetAddress", "locality", "region", "postalCode", "country")
_SUPPORTED = _subs(supported=_BOOLEAN)
_SUB_ATTRIBUTES = Known(
    "subAttributes",
    many=True,
    subs=_subs(
        "name", "type", "description", "canonicalValues", readOnly=_BOOLEAN, required=_BOOLEAN, caseExact=_BOOLEAN
    ),
)
_KNOWN: dict[str, dict[tuple[str, str], Known]] = {
    "User": _table(
        *_COMMON,
        *(Known(name) for name in ("userName", "displayName", "nickName", "profileUrl", "title", "userType")),
        *(Known(name) for name in ("preferredLanguage", "locale", "timezone", "password")),
        Known("name", subs=_subs(*_NAME)),
        Known("active", type=_BOOLEAN),
        *(_plural(name) for name in ("emails", "phoneNumbers", "ims", "photos", "groups", "entitlements", "roles")),
        _plural("x509Certificates"),
        _plural("addresses", value=False, subs=_ADDRESS),
        *(Known(name, ENTERPRISE) for name in ("employeeNumber", "costCenter", "organization", "division")),
        Known("department", ENTERPRISE),
        Known("manager", ENTERPRISE, subs=_subs("managerId", "displayName")),
    ),
    "Group": _table(*_COMMON, Known("displayName"), _plural("members")),
    "ServiceProviderConfig": _table(
        *_COMMON,
        Known("documentationUrl"),
        *(Known(name, subs=_SUPPORTED) for name in ("patch", "changePassword", "sort", "etag", "xmlDataFormat")),
        Known("bulk", subs=_subs(supported=_BOOLEAN, maxOperations=_INTEGER, maxPayloadSize=_INTEGER)),
        Known("filter", subs=_subs(supported=_BOOLEAN, maxResults=_INTEGER)),
        _plural("authenticationSchemes", subs=("name", "description", "specUrl", "documentationUrl")),
    ),
    "Schema": _table(
        *_COMMON,
        *(Known(name) for name in ("name", "description", "schema", "endpoint")),
        Known(
            "attributes",
            many=True,
            subs={
                **_subs("name", "type", "multiValuedAttributeChildName", "description", "schema", "canonicalValues"),
                **_subs(multiValued=_BOOLEAN, readOnly=_BOOLEAN, required=_BOOLEAN, caseExact=_BOOLEAN),
                "subattributes": _SUB_ATTRIBUTES,
            },
        ),
    ),
}


def parse_resource(kind: str, body: bytes) -> dict[str, Any]:
    """Return what the parser reads from the body of one resource; RefusedError in its words."""
    return _resource(kind, _json(body), None, strict=False)


def read_resource(kind: str, body: bytes) -> dict[str, Any]:
    """Return the same, raising MisreadError where the reading is not what was meant."""
    return _resource(kind, _json(body), None, strict=True)


def parse_list(kind: str, body: bytes) -> tuple[int, list[dict[str, Any]]]:
    """Return totalResults and the resources that the parser reads from the body of a list."""
    return _list(kind, body, strict=False)


def read_list(kind: str, body: bytes) -> tuple[int, list[dict[str, Any]]]:
    """Return the same, raising MisreadError where the reading is not what was meant."""
    return _list(kind, body, strict=True)


def parse_error(body: bytes) -> tuple[int, str] | None:
    """Return code and description of an error body; None where the parser finds none, so that the message is lost."""
    found = {key.casefold(): value for key, value in _json(body).items()}.get("errors")
    if not found:
        return None
    error = {key.casefold(): value for key, value in found[0].items()}
    return int(error["code"]), error["description"]


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise RefusedError(f"Error while reading JSON: {error}") from error
    if not isinstance(found, dict):
        raise RefusedError("Error while reading JSON: A JSONObject text must begin with '{'")
    return found


def _list(kind: str, body: bytes, *, strict: bool) -> tuple[int, list[dict[str, Any]]]:
    found = {key.casefold(): value for key, value in _json(body).items()}
    schemas = found.get("schemas")
    if schemas is not None and not isinstance(schemas, list):
        raise RefusedError('Error while reading JSON: JSONObject["schemas"] is not a JSONArray.')
    numbers = {}
    for name, default in (("totalResults", 0), ("startIndex", 1)):
        value = found.get(name.casefold(), default)
        try:
            numbers[name] = int(float(value))
        except (TypeError, ValueError):
            raise RefusedError(f'Error while reading JSON: JSONObject["{name}"] is not an int.') from None
    resources = found.get("resources", [])
    if not isinstance(resources, list) or not all(isinstance(item, dict) for item in resources):
        raise RefusedError('Error while reading JSON: JSONObject["Resources"] is not a JSONArray.')
    if strict:
        for name in ("totalResults", "startIndex", "itemsPerPage"):
            if type(found.get(name.casefold())) is not int:
                raise MisreadError(f"{name} is no JSON number")
        if found["itemsperpage"] != len(resources):
            raise MisreadError("itemsPerPage is not the number of resources")
        if not any(isinstance(item, str) and item.casefold() == CORE for item in schemas or ()):
            raise MisreadError(f"the list does not declare {CORE}")
    return numbers["totalResults"], [_resource(kind, item, schemas, strict=strict) for item in resources]


def _resource(kind: str, found: dict[str, Any], list_schemas: list[Any] | None, *, strict: bool) -> dict[str, Any]:
    try:
        return _Reading(kind, strict=strict).resource(found, list_schemas)
    except RefusedError as refusal:
        raise RefusedError(f"Resource '{kind}' is malformed: {refusal}") from None


class _Reading:
    """Reads one resource."""

    def __init__(self, kind: str, *, strict: bool) -> None:
        self._kind = kind
        self._known = _KNOWN[kind]
        self._strict = strict

    def _misread(self, why: str) -> None:
        if self._strict:
            raise MisreadError(f"{self._kind}: {why}")

    def resource(self, found: dict[str, Any], list_schemas: list[Any] | None) -> dict[str, Any]:
        schemas = found.get("schemas", [CORE] if list_schemas is None else list_schemas)
        if not isinstance(schemas, list) or not all(isinstance(urn, str) for urn in schemas):
            raise RefusedError('JSONObject["schemas"] is not a JSONArray.')
        declared = {urn.casefold() for urn in schemas}
        if "schemas" not in found and self._kind in {"User", "Group"}:
            self._misread("no schemas: Okta's reader of custom attributes wants them")
        read: dict[str, Any] = {}
        for key, value in found.items():
            if key.casefold() == "schemas":
                continue
            if key.casefold() in declared:
                read[key] = self._extension(key, value)
            elif CORE not in declared:
                raise RefusedError(f"'{CORE}' must be declared in the schemas attribute.")
            else:
                read[key] = self._attribute(self._core(key), value)
        return read

    def _core(self, key: str) -> Known:
        known = self._known.get((CORE, key.casefold()))
        if known is None:
            raise RefusedError(f"Attribute {CORE}:{key} is not defined for resource {self._kind}")
        return known

    def _extension(self, urn: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise RefusedError(f'JSONObject["{urn}"] is not a JSONObject.')
        read = {}
        for name, item in value.items():
            known = self._known.get((urn.casefold(), name.casefold()))
            if known is not None:
                read[name] = self._attribute(known, item)
                continue
            if urn.casefold() == ENTERPRISE:
                self._misread(f"{name} is no attribute of the enterprise extension")
            read[name] = self._texts(name, item)
        return read

    def _texts(self, name: str, item: Any) -> list[str]:
        """Read a member of a custom extension as the parser does: whatever it is, some texts."""
        values = item if isinstance(item, list) else [item]
        if any(value is None for value in values) or not values:
            self._misread(f"null or an empty array in {name}")
        if any(isinstance(value, dict) for value in values):
            self._misread(f"an object in {name}")
        texts = (value if isinstance(value, str) else json.dumps(value) for value in values if value is not None)
        return list(texts)

    def _attribute(self, known: Known, value: Any) -> Any:
        if known.many:
            return self._many(known, value)
        if known.subs is not None:
            if value is None:
                self._misread(f"{known.name} is null, which releases up to 1.8.0 refuse")
                return None
            if not isinstance(value, dict):
                raise RefusedError(f"JSON object expected for complex attribute '{known.name}'")
            return self._complex(known, value)
        return self._simple(known, value)

    def _many(self, known: Known, value: Any) -> list[Any]:
        if value is None:
            self._misread(f"{known.name} is null")
            return []
        if not isinstance(value, list):
            self._misread(f"{known.name} is no array")
            value = [value]
        if not value and known.name != "authenticationSchemes":
            self._misread(f"{known.name} is empty instead of absent")
        read = []
        for item in value:
            if isinstance(item, dict):
                read.append(self._complex(known, item))
            else:
                self._misread(f"{known.name} holds a plain value")
                read.append({"value": item})
        return read

    def _complex(self, known: Known, value: dict[str, Any]) -> dict[str, Any]:
        read = {}
        for name, item in value.items():
            sub = (known.subs or {}).get(name.casefold())
            if sub is None:
                raise RefusedError(f"Sub-attribute {name} is not defined for attribute {known.urn}:{known.name}")
            read[name] = self._many(sub, item) if sub.many else self._simple(sub, item)
        return read

    def _simple(self, known: Known, value: Any) -> Any:
        if value is None:
            self._misread(f"{known.name} is null")
            return None
        if isinstance(value, (dict, list)):
            self._misread(f"{known.name} is no single value")
            return json.dumps(value)
        text = value if isinstance(value, str) else json.dumps(value)
        if known.type == _BOOLEAN:
            if type(value) is not bool:
                self._misread(f"{known.name} is no JSON boolean")
            return text.casefold() == "true"
        if known.type == _INTEGER:
            if type(value) is not int:
                self._misread(f"{known.name} is no integer")
            return int(text)
        if not isinstance(value, str):
            self._misread(f"{known.name} is no JSON string")
        if known.type == _INSTANT_TYPE:
            if not _INSTANT.fullmatch(text):
                self._misread(f"{known.name} is no instant: an IllegalArgumentException when it is read")
            elif not _UTC.fullmatch(text):
                self._misread(f"{known.name} does not end in Z: older releases ignore the offset")
        return text
