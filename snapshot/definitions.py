"""Which attributes each resource type's schema defines, mapped or not: the names that filters and sorts may say.

Custom extensions are not here: whatever they have is mapped, and in the index.
"""

from __future__ import annotations

from snapshot.schema import (
    COMPLEX,
    DATE_TIME,
    ENTERPRISE_ATTRIBUTES,
    EXTERNAL_ID,
    GROUP_ATTRIBUTES,
    ID,
    REFERENCE,
    USER_ATTRIBUTES,
    Attribute,
    find_attribute,
)
from snapshot.scim import (
    CORE_1_1,
    ENTERPRISE_1_1,
    ENTERPRISE_2_0,
    GROUP,
    GROUP_2_0,
    OKTA_ENTITLEMENT,
    OKTA_ROLE,
    USER,
    USER_2_0,
    AttributePath,
)

CORE_URNS = (USER_2_0, CORE_1_1, GROUP_2_0, OKTA_ROLE, OKTA_ENTITLEMENT)

# RFC 7643 section 3.1
META = Attribute(
    "meta",
    COMPLEX,
    sub_attributes=(
        Attribute("resourceType", case_exact=True),
        Attribute("created", DATE_TIME),
        Attribute("lastModified", DATE_TIME),
        Attribute("location", REFERENCE, case_exact=True),
        Attribute("version", case_exact=True),
    ),
)
SCHEMAS = Attribute("schemas", REFERENCE, multi_valued=True, case_exact=True)
# RFC 7643 section 4.1.2
USER_GROUPS = Attribute(
    "groups",
    COMPLEX,
    multi_valued=True,
    sub_attributes=(Attribute("value", case_exact=True), Attribute("display"), Attribute("type")),
)
_COMMON = (ID, EXTERNAL_ID, META, SCHEMAS)
_USER = (*_COMMON, *USER_ATTRIBUTES, USER_GROUPS)
_GROUP = (*_COMMON, *GROUP_ATTRIBUTES)
_ENTITLEMENT = (*_COMMON, Attribute("displayName"), Attribute("type"), Attribute("description"))
_ANY = (*_USER, *GROUP_ATTRIBUTES)


def core_attributes(resource_type: str) -> tuple[Attribute, ...]:
    """Return the attributes of a resource type, those of every resource included (RFC 7643 section 3.1)."""
    return {USER: _USER, GROUP: _GROUP}.get(resource_type, _ENTITLEMENT)


def definition(resource_type: str, path: AttributePath) -> Attribute | None:
    """Return what the schema of a resource type says of a path; None for a name that it does not know."""
    if path.urn:
        known = ENTERPRISE_ATTRIBUTES if resource_type == USER and path.urn == ENTERPRISE_2_0 else ()
    else:
        known = core_attributes(resource_type)
    found = find_attribute(known, path.name)
    return found.sub(path.sub) if found and path.sub else found


def any_definition(name: str, urn: str = "") -> Attribute | None:
    """Return what the schema of any resource type says of a name, e.g. to give it its own spelling."""
    return find_attribute(ENTERPRISE_ATTRIBUTES if urn == ENTERPRISE_2_0 else () if urn else _ANY, name)


def core_spellings(resource_type: str, *, has_type: bool) -> tuple[str, ...]:
    """Return the URNs of a type's core schema, in either version. Of Okta's two, entitlements have a `type`."""
    own = {USER: USER_2_0, GROUP: GROUP_2_0}.get(resource_type, OKTA_ENTITLEMENT if has_type else OKTA_ROLE)
    return CORE_1_1, own


def extension_spellings(urn: str) -> tuple[str, ...]:
    """Return the URNs of an extension, in either version."""
    return (ENTERPRISE_1_1, ENTERPRISE_2_0) if urn == ENTERPRISE_2_0 else (urn,)
