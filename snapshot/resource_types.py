"""The resource types of one configuration: what is served under which endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from snapshot.scim import GROUP, GROUP_2_0, OKTA_ENTITLEMENT, OKTA_ROLE, USER, USER_2_0, ScimVersion

if TYPE_CHECKING:
    from snapshot.config import Config
    from snapshot.related import Entitlements


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One resource type (RFC 7643 section 6): its name, its endpoint with slash, the URN of its 2.0 schema.

    `versions`: where it has an endpoint.
    """

    name: str
    endpoint: str
    urn: str
    description: str
    versions: frozenset[ScimVersion] = frozenset(ScimVersion)


USERS = ResourceType(USER, "/Users", USER_2_0, "The people.")
GROUPS = ResourceType(GROUP, "/Groups", GROUP_2_0, "The groups of people.")


def resource_types(config: Config) -> tuple[ResourceType, ...]:
    """Return the resource types in the order in which Okta reads them: users, groups, then entitlements."""
    return USERS, GROUPS, *(_entitlements(item) for item in config.entitlements)


def _entitlements(item: Entitlements) -> ResourceType:
    versions = frozenset(ScimVersion) if item.scim_1_1 else frozenset({ScimVersion.V2_0})
    urn = OKTA_ROLE if item.kind == "role" else OKTA_ENTITLEMENT
    return ResourceType(item.name, item.endpoint, urn, item.description, versions)


def extension_urns(config: Config) -> tuple[str, ...]:
    """Return the URNs of the extensions that resources of any type may have: those that filters and sorts may name."""
    related = [item.mapping.extension_urns for item in (config.groups, *config.entitlements) if item is not None]
    return tuple(dict.fromkeys((*config.mapping.extension_urns, *(urn for urns in related for urn in urns))))


def hidden_links(config: Config, version: ScimVersion) -> frozenset[str]:
    """Return the attributes that a version does not show: 1.1 has roles and entitlements only where asked for."""
    if version is ScimVersion.V2_0:
        return frozenset()
    shown = {item.attribute for item in config.entitlements if item.scim_1_1}
    return frozenset({"roles", "entitlements"} - shown)
