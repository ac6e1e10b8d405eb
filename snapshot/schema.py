"""The attributes of the User schema and its enterprise extension, as data.

Mapping takes the types of its targets from here, the index its comparison rules, the server its
/Schemas documents. SCIM 1.1 has the same core attributes (SCIM Core Schema 1.1 section 5), so one
list serves both versions; what differs in shape (`manager`) is said where it is encoded.
"""

from __future__ import annotations

from dataclasses import dataclass

STRING, BOOLEAN, INTEGER, DECIMAL = "string", "boolean", "integer", "decimal"
DATE_TIME, BINARY, REFERENCE, COMPLEX = "dateTime", "binary", "reference", "complex"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute definition (RFC 7643 section 7)."""

    name: str
    type: str = STRING
    multi_valued: bool = False
    case_exact: bool = False
    required: bool = False
    uniqueness: str = "none"
    description: str = ""
    reference_types: tuple[str, ...] = ()
    sub_attributes: tuple[Attribute, ...] = ()

    def sub(self, name: str) -> Attribute | None:
        """Return the sub-attribute of that name, compared without case."""
        folded = name.casefold()
        return next((item for item in self.sub_attributes if item.name.casefold() == folded), None)


def _plural(name: str, description: str, *, value: Attribute | None = None) -> Attribute:
    """Make a multi-valued attribute with the usual sub-attributes (RFC 7643 section 2.4)."""
    return Attribute(
        name,
        COMPLEX,
        multi_valued=True,
        description=description,
        sub_attributes=(
            value or Attribute("value", description="The value."),
            Attribute("display", description="A text for people."),
            Attribute("type", description="What the value is for, for example work or home."),
            Attribute("primary", BOOLEAN, description="True for the preferred value; true at most once."),
        ),
    )


ID = Attribute(
    "id",
    case_exact=True,
    required=True,
    uniqueness="global",
    description="The unique and stable identifier of the resource.",
)
EXTERNAL_ID = Attribute("externalId", case_exact=True, description="The identifier in the source of the record.")

# RFC 7643 section 4.1, less `password` (never served) and `groups` (an own query makes it, not a column).
USER_ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("userName", required=True, uniqueness="server", description="The name a user logs in with."),
    Attribute(
        "name",
        COMPLEX,
        description="The parts of the user's name.",
        sub_attributes=(
            Attribute("formatted", description="The full name for display."),
            Attribute("familyName", description="The family name."),
            Attribute("givenName", description="The given name."),
            Attribute("middleName", description="The middle names."),
            Attribute("honorificPrefix", description="A title before the name."),
            Attribute("honorificSuffix", description="A suffix after the name."),
        ),
    ),
    Attribute("displayName", description="The name shown to people."),
    Attribute("nickName", description="The casual name."),
    Attribute(
        "profileUrl",
        REFERENCE,
        case_exact=True,
        reference_types=("external",),
        description="A page about the user.",
    ),
    Attribute("title", description="The job title."),
    Attribute("userType", description="The relation to the organization, for example Employee."),
    Attribute("preferredLanguage", description="The preferred language, as in Accept-Language."),
    Attribute("locale", description="The user's place for formats, for example en-US."),
    Attribute("timezone", description="The time zone, for example Europe/Paris."),
    Attribute("active", BOOLEAN, description="Whether the user is active."),
    _plural("emails", "The e-mail addresses."),
    _plural("phoneNumbers", "The phone numbers."),
    _plural("ims", "The instant messaging addresses."),
    _plural(
        "photos",
        "Addresses of pictures of the user.",
        value=Attribute("value", REFERENCE, case_exact=True, reference_types=("external",), description="The value."),
    ),
    Attribute(
        "addresses",
        COMPLEX,
        multi_valued=True,
        description="The postal addresses.",
        sub_attributes=(
            Attribute("formatted", description="The whole address for display."),
            Attribute("streetAddress", description="Street, house number, floor."),
            Attribute("locality", description="The city."),
            Attribute("region", description="The state or region."),
            Attribute("postalCode", description="The postal code."),
            Attribute("country", description="The country, as an ISO 3166-1 alpha-2 code."),
            Attribute("type", description="What the address is for, for example work or home."),
            Attribute("primary", BOOLEAN, description="True for the preferred value; true at most once."),
        ),
    ),
    _plural("entitlements", "What the user is entitled to."),
    _plural("roles", "The user's roles."),
    _plural(
        "x509Certificates",
        "The user's certificates, DER in base64.",
        value=Attribute("value", BINARY, case_exact=True, description="The value."),
    ),
)

# RFC 7643 section 4.3. SCIM 1.1 writes manager.value as manager.managerId.
ENTERPRISE_ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("employeeNumber", description="The number that the organization gave."),
    Attribute("costCenter", description="The cost center."),
    Attribute("organization", description="The organization."),
    Attribute("division", description="The division."),
    Attribute("department", description="The department."),
    Attribute(
        "manager",
        COMPLEX,
        description="The user's manager.",
        sub_attributes=(
            Attribute("value", case_exact=True, description="The id of the manager's own User resource."),
            Attribute("displayName", description="The manager's name."),
        ),
    ),
)

GROUP_ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("displayName", required=True, description="The name of the group."),
    Attribute(
        "members",
        COMPLEX,
        multi_valued=True,
        description="The members of the group.",
        sub_attributes=(
            Attribute("value", case_exact=True, description="The id of the member."),
            Attribute("display", description="The name of the member."),
            Attribute("type", description="User or Group."),
        ),
    ),
)


# As Okta describes roles and entitlements; roles have no `type`.
ENTITLEMENT_ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("displayName", required=True, description="The name shown to people."),
    Attribute("type", required=True, description="The name of the resource type."),
    Attribute("description", description="What it is for; at most 1,000 characters."),
)

# RFC 7643 section 4.1.2; the memberships of the source make it.
USER_GROUPS = Attribute(
    "groups",
    COMPLEX,
    multi_valued=True,
    description="The groups that the user belongs to.",
    sub_attributes=(
        Attribute("value", case_exact=True, description="The id of the group."),
        Attribute("$ref", REFERENCE, case_exact=True, reference_types=("Group",), description="Where the group is."),
        Attribute("display", description="The name of the group."),
        Attribute("type", description="direct, or indirect through a subgroup."),
    ),
)


def find_attribute(attributes: tuple[Attribute, ...], name: str) -> Attribute | None:
    """Return the attribute of that name, compared without case (RFC 7643 section 2.1)."""
    folded = name.casefold()
    return next((item for item in attributes if item.name.casefold() == folded), None)
