"""Compares served resources with what /Schemas and /ResourceTypes say of them: nothing undescribed, nothing wrongly.

One Description a resource type, of either version. It remembers which described attributes it has seen, so that what
is described and never served can be told too.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import urlsplit

# Common to all resources and in no schema (RFC 7643 section 3.1).
COMMON = {"schemas", "id", "externalId", "meta"}
META = {"resourceType", "created", "lastModified", "location", "version"}
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_PLAIN_REFERENCES = {"external", "uri"}


class Description:
    """What one resource type is said to be.

    `attributes` are attribute definitions by URN, `core` among them. `resource_type` is what meta says, None in 1.1.
    """

    def __init__(self, core: str, attributes: dict[str, list[dict[str, Any]]], resource_type: str | None) -> None:
        self._core = core
        self._attributes = attributes
        self._resource_type = resource_type
        self._seen: set[str] = set()
        self._ids: set[str] = set()
        self._unique: dict[tuple[str, str], str | None] = {}

    @classmethod
    def of_2_0(cls, kind: dict[str, Any], schemas: list[dict[str, Any]]) -> Description:
        """Take the description from a ResourceType (RFC 7643 section 6) and the Schemas (section 7)."""
        found = {item["id"]: item["attributes"] for item in schemas}
        urns = [kind["schema"], *(item["schema"] for item in kind.get("schemaExtensions", ()))]
        return cls(kind["schema"], {urn: found[urn] for urn in urns}, kind["name"])

    @classmethod
    def of_1_1(cls, schema: dict[str, Any]) -> Description:
        """Take the description from a Schema of 1.1 (SCIM Core Schema 1.1 section 10)."""
        attributes: dict[str, list[dict[str, Any]]] = {schema["schema"]: []}
        for item in schema["attributes"]:
            attributes.setdefault(item["schema"], []).append(item)
        return cls(schema["schema"], attributes, None)

    def unseen(self) -> set[str]:
        """Return the paths of attributes and sub-attributes that are described and that no resource had so far."""
        return {
            path
            for urn, items in self._attributes.items()
            for item in items
            for path in [f"{urn}:{item['name']}", *(f"{urn}:{item['name']}.{sub['name']}" for sub in _subs(item))]
        } - self._seen

    def problems(self, resource: dict[str, Any]) -> list[str]:
        """Return what is wrong with a resource that should be whole: a sentence a fault, none if all is well."""
        found = [*self._declared(resource), *self._common(resource)]
        core = {name: value for name, value in resource.items() if name not in COMMON and ":" not in name}
        found += self._object(self._core, core, resource)
        for urn in self._attributes.keys() & resource.keys():
            if not isinstance(resource[urn], dict) or not resource[urn]:
                found.append(f"{urn} is no object with attributes")
            else:
                found += self._object(urn, resource[urn], resource)
        return found

    def _declared(self, resource: dict[str, Any]) -> list[str]:
        schemas = resource.get("schemas")
        if not isinstance(schemas, list) or len(set(schemas)) != len(schemas):
            return ["schemas is no array of different URNs"]
        used = {self._core, *(name for name in resource if ":" in name)}
        found = [f"{urn} is used and not in schemas" for urn in used - set(schemas)]
        found += [f"{urn} is in schemas and not used" for urn in set(schemas) - used]
        return found + [f"{urn} is not described" for urn in used - self._attributes.keys()]

    def _common(self, resource: dict[str, Any]) -> list[str]:
        texts = [resource[name] for name in ("id", "externalId") if name in resource]
        found = [] if all(isinstance(text, str) and text for text in texts) else ["id or externalId is no text"]
        if "id" not in resource:
            found.append("there is no id")
        elif resource["id"] in self._ids:
            found.append("id is not unique")
        else:
            self._ids.add(resource["id"])
        meta = resource.get("meta")
        if not isinstance(meta, dict):
            return [*found, "there is no meta"]
        found += [f"meta.{name} is not described" for name in meta.keys() - META]
        if meta.get("resourceType") != self._resource_type:
            found.append(f"meta.resourceType is {meta.get('resourceType')}")
        for name in ("created", "lastModified"):
            if not _INSTANT.fullmatch(str(meta.get(name))):
                found.append(f"meta.{name} is no instant in UTC")
        if not urlsplit(str(meta.get("location"))).scheme:
            found.append("meta.location is no URI")
        return found

    def _object(self, urn: str, values: dict[str, Any], resource: dict[str, Any]) -> list[str]:
        known = {item["name"]: item for item in self._attributes[urn]}
        found = [f"{urn}:{name} is required and absent" for name in _missing(known, values)]
        for name, value in values.items():
            if name not in known:
                found.append(f"{urn}:{name} is not described")
            else:
                found += self._attribute(f"{urn}:{name}", known[name], value, resource)
        return found

    def _attribute(self, path: str, item: dict[str, Any], value: Any, resource: dict[str, Any]) -> list[str]:
        self._seen.add(path)
        if item.get("multiValued"):
            if not isinstance(value, list) or not value:
                return [f"{path} is multi-valued and no array with values"]
            found = [line for one in value for line in self._value(path, item, one, resource)]
            if sum(isinstance(one, dict) and one.get("primary") is True for one in value) > 1:
                found.append(f"{path} has several primary values")
            return found
        if isinstance(value, list):
            return [f"{path} is an array and not multi-valued"]
        return self._value(path, item, value, resource)

    def _value(self, path: str, item: dict[str, Any], value: Any, resource: dict[str, Any]) -> list[str]:
        if item.get("returned") in {"never", "request"}:
            return [f"{path} is returned though it says {item['returned']}"]
        if item["type"] == "complex":
            if not isinstance(value, dict) or not value:
                return [f"{path} is complex and no object with sub-attributes"]
            known = {sub["name"]: sub for sub in _subs(item)}
            found = [f"{path}.{name} is required and absent" for name in _missing(known, value)]
            for name, one in value.items():
                if name in known:
                    found += self._attribute(f"{path}.{name}", known[name], one, resource)
                else:
                    found.append(f"{path}.{name} is not described")
            return found
        found = [] if _fits(item, value) else [f"{path} is no {item['type']}: {value!r}"]
        allowed = item.get("canonicalValues")
        if allowed and value not in allowed:
            found.append(f"{path} is none of its canonical values: {value!r}")
        if item.get("uniqueness", "none") != "none":
            found += self._again(path, value if item["caseExact"] else str(value).casefold(), resource)
        return found

    def _again(self, path: str, value: str, resource: dict[str, Any]) -> list[str]:
        """Return a problem if another resource had the same value of a unique attribute."""
        first = self._unique.setdefault((path, value), resource.get("id"))
        return [] if first == resource.get("id") else [f"{path} is not unique"]


def _subs(item: dict[str, Any]) -> list[dict[str, Any]]:
    return item.get("subAttributes", [])


def _missing(known: dict[str, dict[str, Any]], values: dict[str, Any]) -> list[str]:
    return [name for name, item in known.items() if item.get("required") and name not in values]


def _fits(item: dict[str, Any], value: Any) -> bool:
    """Tell whether a value is of its data type (RFC 7643 section 2.3)."""
    kind = item["type"]
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return type(value) is int
    if kind == "decimal":
        return type(value) in {int, float}
    if not isinstance(value, str) or not value:
        return False
    if kind == "dateTime":
        return bool(_INSTANT.fullmatch(value))
    if kind == "binary":
        try:
            return bool(base64.b64decode(value, validate=True))
        except binascii.Error:
            return False
    if kind == "reference":
        targets = set(item.get("referenceTypes", ()))
        plain = not targets or targets & _PLAIN_REFERENCES
        return bool(urlsplit(value).scheme) and (plain or urlsplit(value).path.split("/")[-2][:-1] in targets)
    return kind == "string"
