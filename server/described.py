"""Which attributes are served: the schema definitions cut down to what the mapping fills.

Discovery documents describe nothing that is never served and serve nothing that is not described.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from snapshot.schema import COMPLEX, ENTERPRISE_ATTRIBUTES, USER_ATTRIBUTES, Attribute
from snapshot.scim import ENTERPRISE_2_0

if TYPE_CHECKING:
    from collections.abc import Iterable

    from snapshot.rules import Mapping, Plural, Target

_COMMON = frozenset({"id", "externalId"})


def served_user_attributes(mapping: Mapping) -> tuple[Attribute, ...]:
    """Return the core attributes that users have, with only the sub-attributes that are filled.

    `id`, `externalId` and `meta` are common attributes, which no schema lists (RFC 7643 section 3.1).
    """
    core = [target for target in mapping.singles if not target.path.urn and target.path.name not in _COMMON]
    plurals = {plural.attribute.name: plural for plural in mapping.plurals}
    found = []
    for attribute in USER_ATTRIBUTES:
        if attribute.name in plurals:
            found.append(_with(attribute, _plural_names(plurals[attribute.name])))
        else:
            found.extend(_served(attribute, core))
    return tuple(found)


def served_extension_attributes(mapping: Mapping, urn: str) -> tuple[Attribute, ...]:
    """Return the attributes of one extension that users have."""
    targets = [target for target in mapping.singles if target.path.urn == urn]
    if urn == ENTERPRISE_2_0:
        return tuple(item for attribute in ENTERPRISE_ATTRIBUTES for item in _served(attribute, targets))
    return tuple(target.attribute for target in targets)


def _served(attribute: Attribute, targets: Iterable[Target]) -> list[Attribute]:
    names = [target.path.sub for target in targets if target.path.name == attribute.name]
    if not names:
        return []
    return [_with(attribute, names) if attribute.type == COMPLEX else attribute]


def _plural_names(plural: Plural) -> list[str]:
    """Return the sub-attributes of a multi-valued attribute; one entry is always primary."""
    names = [target.path.sub for item in plural.items for target in item.targets]
    if any(item.type for item in plural.items):
        names.append("type")
    return [*names, "primary"]


def _with(attribute: Attribute, names: Iterable[str]) -> Attribute:
    wanted = {name.casefold() for name in names}
    kept = tuple(sub for sub in attribute.sub_attributes if sub.name.casefold() in wanted)
    return replace(attribute, sub_attributes=kept)
