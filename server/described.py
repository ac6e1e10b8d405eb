"""Which attributes are served: the schema definitions cut down to what the configuration fills.

Discovery documents describe nothing that is never served and serve nothing that is not described.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from snapshot.resource_types import hidden_links
from snapshot.schema import (
    COMPLEX,
    ENTERPRISE_ATTRIBUTES,
    ENTITLEMENT_ATTRIBUTES,
    GROUP_ATTRIBUTES,
    REFERENCE,
    USER_ATTRIBUTES,
    USER_GROUPS,
    Attribute,
)
from snapshot.scim import (
    ENTERPRISE_2_0,
    GROUP,
    GROUP_2_0,
    GROUP_DESCRIPTION_URN,
    OKTA_ENTITLEMENT,
    OKTA_ROLE,
    USER,
    USER_2_0,
    ScimVersion,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from snapshot.config import Config
    from snapshot.rule import Target
    from snapshot.rules import Plural

_COMMON = frozenset({"id", "externalId"})
_NAMES = {USER_2_0: (USER, "User Account"), GROUP_2_0: (GROUP, "Group")}
_NAMES |= {
    OKTA_ROLE: ("Role", "A role, as Okta discovers it"),
    OKTA_ENTITLEMENT: ("Entitlement", "An entitlement, as Okta discovers it"),
}
_NAMES |= {
    ENTERPRISE_2_0: ("EnterpriseUser", "Enterprise User"),
    GROUP_DESCRIPTION_URN: ("GroupDescription", "The description of a group, where Okta looks for it"),
}


@dataclass(frozen=True, slots=True)
class DescribedSchema:
    """One schema or extension: URN, name, description, and its attributes."""

    urn: str
    name: str
    description: str
    attributes: tuple[Attribute, ...]


def core_schema(config: Config, resource_type: str, version: ScimVersion) -> DescribedSchema:
    """Return the schema of a resource type without its extensions."""
    if resource_type == USER:
        return _described(USER_2_0, _user_attributes(config, version))
    if resource_type == GROUP:
        return _described(GROUP_2_0, _group_attributes(config, version))
    kind = next(item.kind for item in config.entitlements if item.name == resource_type)
    return _described(OKTA_ROLE if kind == "role" else OKTA_ENTITLEMENT, _entitlement_attributes(config, kind))


def extensions(config: Config, resource_type: str, version: ScimVersion) -> list[DescribedSchema]:
    """Return the extensions that resources of a type may have."""
    plurals: tuple[Plural, ...] = ()
    if resource_type == USER:
        urns, targets, plurals = config.mapping.extension_urns, config.mapping.singles, config.mapping.plurals
    elif resource_type == GROUP:
        if config.groups is None:
            return []
        urns, targets = config.groups.mapping.extension_urns, config.groups.mapping.singles
    else:
        mapping = next(item.mapping for item in config.entitlements if item.name == resource_type)
        urns, targets = mapping.extension_urns, mapping.singles
    found: list[DescribedSchema] = []
    for urn in urns:
        own = [target for target in targets if target.path.urn == urn]
        if urn == ENTERPRISE_2_0:
            attributes = _enterprise_attributes(config, own, version)
        else:
            lists = [plural.attribute for plural in plurals if plural.urn == urn]
            attributes = (*(target.attribute for target in own), *lists)
        # Clients make classes of names: each has one of its own.
        others = sum(item.urn not in _NAMES for item in found)
        found.append(_described(urn, attributes, f"Custom{resource_type}{others + 1 if others else ''}"))
    return found


def _described(urn: str, attributes: tuple[Attribute, ...], custom: str = "") -> DescribedSchema:
    name, description = _NAMES.get(urn, (custom, "Attributes of this directory's own"))
    return DescribedSchema(urn, name, description, attributes)


def _user_attributes(config: Config, version: ScimVersion) -> tuple[Attribute, ...]:
    """Return the core attributes that users have, with only the sub-attributes that are filled.

    `id`, `externalId` and `meta` are common attributes, which no schema lists (RFC 7643 section 3.1).
    """
    mapping = config.mapping
    core = [target for target in mapping.singles if not target.path.urn and target.path.name not in _COMMON]
    plurals = {plural.attribute.name: plural for plural in mapping.plurals if not plural.urn}
    linked = {item.attribute for item in config.entitlements} - hidden_links(config, version)
    found = []
    for attribute in USER_ATTRIBUTES:
        if attribute.name in plurals:
            found.append(_with(attribute, _plural_names(plurals[attribute.name])))
        elif attribute.name in linked:
            names = ["value", "display"] if attribute.name == "roles" else ["value", "display", "type"]
            found.append(_exact_value(_with(attribute, names)))
        else:
            found.extend(_served(attribute, core))
    if config.groups is not None:
        names = ["value", "display", *(["type"] if _keeps_nesting(config) else [])]
        found.append(_with_reference(_with(USER_GROUPS, names), "Group", version))
    return tuple(found)


def _group_attributes(config: Config, version: ScimVersion) -> tuple[Attribute, ...]:
    shows_type = version is ScimVersion.V2_0 or _keeps_nesting(config)
    names = ["value", "display", *(["type"] if shows_type else [])]
    return tuple(
        _with_reference(_with(item, names), "User", version, also="Group") if item.name == "members" else item
        for item in GROUP_ATTRIBUTES
    )


def _keeps_nesting(config: Config) -> bool:
    groups = config.groups
    return groups is not None and groups.subgroups is not None and groups.nesting == "keep"


def _entitlement_attributes(config: Config, kind: str) -> tuple[Attribute, ...]:
    """Return what the types of one kind have together: they share a schema."""
    mapped = {str(target.path) for item in config.entitlements if item.kind == kind for target in item.mapping.singles}
    if kind == "entitlement":
        mapped.add("type")
    return tuple(item for item in ENTITLEMENT_ATTRIBUTES if item.name in mapped)


def _enterprise_attributes(config: Config, targets: list[Target], version: ScimVersion) -> tuple[Attribute, ...]:
    found = []
    for attribute in ENTERPRISE_ATTRIBUTES:
        for item in _served(attribute, targets):
            is_known = item.name == "manager" and config.mapping.manager_key
            found.append(_with_reference(item, "User", version) if is_known else item)
    return tuple(found)


def _with_reference(attribute: Attribute, kind: str, version: ScimVersion, *, also: str = "") -> Attribute:
    """Return the attribute with `$ref`, which SCIM 1.1 has not."""
    kept = tuple(sub for sub in attribute.sub_attributes if sub.name != "$ref")
    if version is ScimVersion.V1_1:
        return replace(attribute, sub_attributes=kept)
    kinds = (kind, also) if also else (kind,)
    reference = Attribute("$ref", REFERENCE, case_exact=True, reference_types=kinds, description="Where it is.")
    return replace(attribute, sub_attributes=(*kept, reference))


def _exact_value(attribute: Attribute) -> Attribute:
    """Return the attribute with values that are ids, and so compared with case."""
    subs = tuple(replace(sub, case_exact=True) if sub.name == "value" else sub for sub in attribute.sub_attributes)
    return replace(attribute, sub_attributes=subs)


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
