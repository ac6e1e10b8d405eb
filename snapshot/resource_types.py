"""The resource types of one configuration: what is served under which endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from snapshot.scim import GROUP, GROUP_2_0, USER, USER_2_0, ScimVersion

if TYPE_CHECKING:
    from snapshot.config import Config


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


def resource_types(_config: Config) -> tuple[ResourceType, ...]:
    """Return the resource types in the order in which Okta reads them: users, groups, then entitlements."""
    return USERS, GROUPS
