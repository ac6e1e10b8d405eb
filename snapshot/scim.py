"""SCIM vocabulary: versions, URNs, resource types, attribute paths.

Sources: RFC 7643 and RFC 7644 (SCIM 2.0), SCIM Core Schema 1.1 and Protocol 1.1, and the Okta
On-Premises Provisioning pages for the capability extension.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

CORE_1_1 = "urn:scim:schemas:core:1.0"
ENTERPRISE_1_1 = "urn:scim:schemas:extension:enterprise:1.0"
USER_2_0 = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP_2_0 = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE_2_0 = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
SCHEMA_2_0 = "urn:ietf:params:scim:schemas:core:2.0:Schema"
RESOURCE_TYPE_2_0 = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
SERVICE_PROVIDER_CONFIG_2_0 = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
LIST_RESPONSE_2_0 = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
ERROR_2_0 = "urn:ietf:params:scim:api:messages:2.0:Error"
OKTA_PROVIDER_CONFIG = "urn:okta:schemas:scim:providerconfig:1.0"
# Okta discovers roles and entitlements by these (SCIM 2.0 with entitlements, developer.okta.com).
OKTA_ROLE = "urn:okta:scim:schemas:core:1.0:Role"
OKTA_ENTITLEMENT = "urn:okta:scim:schemas:core:1.0:Entitlement"
# Where Okta's agent looks for the description of a group; the core schema has none.
GROUP_DESCRIPTION_URN = "urn:okta:custom:group:1.0"

USER = "User"
GROUP = "Group"

# URNs that a custom extension may not take: they already mean something.
RESERVED_URNS = frozenset(
    urn.casefold()
    for urn in (
        CORE_1_1,
        USER_2_0,
        GROUP_2_0,
        SCHEMA_2_0,
        RESOURCE_TYPE_2_0,
        SERVICE_PROVIDER_CONFIG_2_0,
        LIST_RESPONSE_2_0,
        ERROR_2_0,
        OKTA_PROVIDER_CONFIG,
        OKTA_ROLE,
        OKTA_ENTITLEMENT,
    )
)


class ScimVersion(StrEnum):
    """The SCIM version that a base path speaks: it decides URNs, envelope and error shape."""

    V1_1 = "1.1"
    V2_0 = "2.0"

    @property
    def media_type(self) -> str:
        """The Content-Type of every answer (RFC 7644 section 8.1; 1.1 agents expect plain JSON)."""
        return "application/json" if self is ScimVersion.V1_1 else "application/scim+json"

    @property
    def user_urn(self) -> str:
        """The URN of the User schema."""
        return CORE_1_1 if self is ScimVersion.V1_1 else USER_2_0

    @property
    def enterprise_urn(self) -> str:
        """The URN of the enterprise user extension."""
        return ENTERPRISE_1_1 if self is ScimVersion.V1_1 else ENTERPRISE_2_0


def canonical_urn(urn: str) -> str:
    """Return the URN under which mapping and index know an extension: enterprise has two spellings."""
    return ENTERPRISE_2_0 if urn.casefold() in _ENTERPRISE_SPELLINGS else urn


_ENTERPRISE_SPELLINGS = frozenset({ENTERPRISE_1_1.casefold(), ENTERPRISE_2_0.casefold(), "enterprise"})


@dataclass(frozen=True, slots=True)
class AttributePath:
    """An attribute as mapping, index and filters name it: `urn` only for attributes of an extension.

    `str()` gives the canonical text, e.g. `name.givenName` or `urn:…:enterprise:2.0:User:department`. `core` is the
    URN of a core schema that a client wrote before the name: only resources of that schema have the attribute.
    """

    name: str
    sub: str = ""
    urn: str = ""
    core: str = ""

    def __str__(self) -> str:
        text = f"{self.name}.{self.sub}" if self.sub else self.name
        return f"{self.urn}:{text}" if self.urn else text


@dataclass(frozen=True, slots=True)
class DecimalText:
    """A SCIM decimal (RFC 7643 section 2.3.3) with every digit of the database, which a float would lose."""

    text: str


@dataclass(slots=True)
class Resource:
    """One user as the mapping made it: JSON-ready values without nulls, in no SCIM version yet.

    `core` begins with `id`; `extensions` is keyed by canonical URN and holds no empty extension. `created` is the
    dateTime of a mapped meta.created, else None. `links` refer to other resources: groups, roles and entitlements of a
    user, members of a group. Other types than users have no userName.
    """

    id: str
    user_name: str
    active: bool
    core: dict[str, Any]
    extensions: dict[str, dict[str, Any]]
    created: str | None = None
    links: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
