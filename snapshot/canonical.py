"""The one order in which the attributes of a user are written, so that a fingerprint does not depend on config.toml."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from snapshot.schema import EXTERNAL_ID, ID, USER_ATTRIBUTES
from snapshot.scim import ENTERPRISE_2_0, Resource

if TYPE_CHECKING:
    from collections.abc import Callable

_ATTRIBUTES = (ID, EXTERNAL_ID, *USER_ATTRIBUTES)
# `active` is the last: the mapping knows it only after all others.
_PLACES = {attribute.name: place for place, attribute in enumerate(_ATTRIBUTES)} | {"active": len(_ATTRIBUTES)}
_SUB_PLACES = {
    attribute.name: {sub.name: place for place, sub in enumerate(attribute.sub_attributes)} for attribute in _ATTRIBUTES
}


def core_place(name: str, sub: str = "") -> tuple[int, int]:
    """Return where a core attribute stands: as in the schema, but `active` at the end."""
    return _PLACES[name], _SUB_PLACES[name].get(sub, -1)


def extension_place(urn: str) -> tuple[bool, str]:
    """Return where an extension stands: the enterprise one first."""
    return urn != ENTERPRISE_2_0, urn


def inner_place(name: str, sub: str = "") -> tuple[bool, str, str]:
    """Return where an attribute of an extension stands: by name.

    But the manager's id before the name, because SCIM 1.1 renames the first key (encode.py).
    """
    return sub == "displayName", name, sub


def canonical(resource: Resource) -> Resource:
    """Return the resource with its attributes in that order; format 1 had the order of the configuration."""
    core = {}
    for name, value in _sorted(resource.core, core_place):
        core[name] = dict(_sorted(value, lambda sub: core_place(name, sub))) if isinstance(value, dict) else value  # noqa: B023
    extensions = {}
    for urn in sorted(resource.extensions, key=extension_place):
        inner = {}
        for name, value in _sorted(resource.extensions[urn], inner_place):
            inner[name] = dict(_sorted(value, lambda sub: inner_place(name, sub))) if isinstance(value, dict) else value  # noqa: B023
        extensions[urn] = inner
    return replace(resource, core=core, extensions=extensions)


def _sorted(values: dict[str, Any], place: Callable[[str], Any]) -> list[tuple[str, Any]]:
    return sorted(values.items(), key=lambda item: place(item[0]))
