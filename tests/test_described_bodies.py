"""What is served and what is described are the same, in both versions, for everybody in all directories."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from described_bodies import Description
from judged_directory import NEW, OLD
from scim2_models import EnterpriseUser, Group, Schema, User
from whole_people import CUSTOM_URN, EVERYTHING

from snapshot.schema import ENTERPRISE_ATTRIBUTES, USER_ATTRIBUTES

if TYPE_CHECKING:
    from judged_directory import Judged

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
# Described and had by no resource of a type: all types of entitlements share one schema, and licenses do have it.
NOT_HAD = {"Profile": {"description"}}


def descriptions(judged: Judged, base: str) -> dict[str, Description]:
    """Return what is said of the resources of each endpoint, by endpoint."""
    schemas = judged.get(f"{base}/Schemas").json["Resources"]
    if base == OLD:
        return {item["endpoint"]: Description.of_1_1(item) for item in schemas}
    types = judged.get(f"{base}/ResourceTypes").json["Resources"]
    return {item["endpoint"]: Description.of_2_0(item, schemas) for item in types}


@pytest.mark.parametrize("base", [OLD, NEW])
def test_everything_served_is_described_and_everything_described_is_served(judged, base):
    """No resource has what is not described, or other than described; and somebody has each described attribute."""
    names = {item["endpoint"]: item["name"] for item in judged.get(f"{base}/ResourceTypes").json["Resources"]}
    found = descriptions(judged, base)
    assert names.keys() == found.keys()
    for endpoint, description in found.items():
        resources = judged.resources(base, endpoint)
        faults = [(item["id"], problem) for item in resources for problem in description.problems(item)]
        assert [] == faults
        if endpoint == "/Groups" and judged.config.groups is None:
            assert [] == resources
            continue
        unseen = {path.rpartition(":")[2] for path in description.unseen()}
        assert NOT_HAD.get(names[endpoint], set()) == unseen


def test_the_whole_directory_has_every_attribute_of_the_schema():
    """The user who has everything has each attribute and sub-attribute that the product knows."""
    for attributes, values in ((USER_ATTRIBUTES, EVERYTHING), (ENTERPRISE_ATTRIBUTES, EVERYTHING[ENTERPRISE])):
        for item in attributes:
            entries = values[item.name] if item.multi_valued else [values[item.name]]
            if item.sub_attributes:
                assert {sub.name for sub in item.sub_attributes} == {name for entry in entries for name in entry}


# What scim2-models, whose attributes are those of RFC 7643, says otherwise than we do, with the reason.
OTHERWISE = {
    # RFC 7643 section 4.3 recommends it, and its schema in section 8.7.1 says "required": false.
    ("EnterpriseUser.manager.value", "required"),
}


@pytest.mark.parametrize("model", [User, EnterpriseUser, Group], ids=lambda model: model.__name__)
def test_the_descriptions_are_those_of_the_standard(whole_server, model):
    """Type, plurality, case, uniqueness and so on of each attribute are those that scim2-models has from the RFC."""
    standard = model.to_schema()
    served = Schema.model_validate(whole_server.get(f"{NEW}/Schemas/{standard.id}").json)
    compared = ("type", "multi_valued", "required", "case_exact", "returned", "uniqueness", "reference_types")

    def compare(ours: Any, theirs: Any, path: str) -> list[tuple[str, str]]:
        known = {item.name: item for item in theirs}
        found = []
        for item in ours:
            place = f"{path}.{item.name}"
            other = known[item.name]
            found += [(place, name) for name in compared if getattr(item, name) != getattr(other, name)]
            if item.canonical_values:
                assert item.canonical_values == other.canonical_values, place
            found += compare(item.sub_attributes or [], other.sub_attributes or [], place)
        return found

    assert {entry for entry in OTHERWISE if entry[0].startswith(f"{standard.name}.")} == set(
        compare(served.attributes, standard.attributes, standard.name)
    )


def attribute(name: str, kind: str = "string", **other: Any) -> dict[str, Any]:
    plain = {"multiValued": False, "required": False, "caseExact": False, "returned": "default", "uniqueness": "none"}
    return {"name": name, "type": kind, **plain, **other}


SCHEMAS = [
    {
        "id": USER,
        "attributes": [
            attribute("userName", required=True, uniqueness="server"),
            attribute("password", returned="never"),
            attribute("active", "boolean"),
            attribute("profileUrl", "reference", referenceTypes=["external"]),
            attribute("manager", "reference", referenceTypes=["User"]),
            attribute("key", "binary"),
            attribute(
                "name", "complex", subAttributes=[attribute("givenName"), attribute("familyName", required=True)]
            ),
            attribute(
                "emails",
                "complex",
                multiValued=True,
                subAttributes=[
                    attribute("value"),
                    attribute("type", canonicalValues=["work", "home"]),
                    attribute("primary", "boolean"),
                ],
            ),
        ],
    },
    {
        "id": CUSTOM_URN,
        "attributes": [attribute("floor", "integer"), attribute("fte", "decimal"), attribute("hired", "dateTime")],
    },
]
KIND = {"name": "User", "schema": USER, "schemaExtensions": [{"schema": CUSTOM_URN, "required": False}]}
GOOD = {
    "schemas": [USER, CUSTOM_URN],
    "id": "E1",
    "externalId": "x",
    "userName": "zoe",
    "active": True,
    "profileUrl": "https://people.example.com/zoe",
    "manager": "https://scim.example.com/scim/v2/Users/E7",
    "key": "a2V5",
    "name": {"givenName": "Zoë", "familyName": "Alvarez"},
    "emails": [{"value": "a@x", "type": "work", "primary": True}, {"value": "b@x"}],
    "meta": {
        "resourceType": "User",
        "created": "2026-01-02T03:04:05Z",
        "lastModified": "2026-01-02T03:04:05.678Z",
        "location": "https://scim.example.com/scim/v2/Users/E1",
        "version": 'W/"a"',
    },
    CUSTOM_URN: {"floor": 3, "fte": 0.8, "hired": "2026-01-02T00:00:00Z"},
}
GONE = object()


def test_a_good_resource_has_no_problem():
    """The checker finds nothing where nothing is wrong, and tells what it has not seen."""
    description = Description.of_2_0(KIND, SCHEMAS)
    assert [] == description.problems(GOOD)
    assert {f"{USER}:password"} == description.unseen()


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        ("schemas", [USER], f"{CUSTOM_URN} is used and not in schemas"),
        ("schemas", [USER, CUSTOM_URN, ENTERPRISE], f"{ENTERPRISE} is in schemas and not used"),
        ("schemas", [USER, CUSTOM_URN, USER], "schemas is no array of different URNs"),
        ("schemas", GONE, "schemas is no array of different URNs"),
        ("urn:x:y", {"a": "b"}, "urn:x:y is not described"),
        ("id", GONE, "there is no id"),
        ("id", 17, "id or externalId is no text"),
        ("externalId", None, "id or externalId is no text"),
        ("meta", GONE, "there is no meta"),
        ("meta.resourceType", "Group", "meta.resourceType is Group"),
        ("meta.created", "2026-01-02T03:04:05+00:00", "meta.created is no instant in UTC"),
        ("meta.location", "/Users/E1", "meta.location is no URI"),
        ("meta.other", 1, "meta.other is not described"),
        ("userName", GONE, f"{USER}:userName is required and absent"),
        ("userName", "", f"{USER}:userName is no string: ''"),
        ("username", "zoe", f"{USER}:username is not described"),
        ("password", "secret", f"{USER}:password is returned though it says never"),
        ("active", "true", f"{USER}:active is no boolean: 'true'"),
        ("active", None, f"{USER}:active is no boolean: None"),
        ("active", [True], f"{USER}:active is an array and not multi-valued"),
        ("profileUrl", "zoe", f"{USER}:profileUrl is no reference: 'zoe'"),
        ("manager", "https://x/Groups/E7", f"{USER}:manager is no reference: 'https://x/Groups/E7'"),
        ("key", "not base64", f"{USER}:key is no binary: 'not base64'"),
        ("name", {}, f"{USER}:name is complex and no object with sub-attributes"),
        ("name", "Zoë", f"{USER}:name is complex and no object with sub-attributes"),
        ("name.familyName", GONE, f"{USER}:name.familyName is required and absent"),
        ("name.foo", "x", f"{USER}:name.foo is not described"),
        ("emails", [], f"{USER}:emails is multi-valued and no array with values"),
        ("emails", {"value": "a@x"}, f"{USER}:emails is multi-valued and no array with values"),
        ("emails", [{"value": "a", "type": "pager"}], f"{USER}:emails.type is none of its canonical values: 'pager'"),
        ("emails", [{"primary": True}, {"primary": True}], f"{USER}:emails has several primary values"),
        (f"{CUSTOM_URN}.floor", 3.0, f"{CUSTOM_URN}:floor is no integer: 3.0"),
        (f"{CUSTOM_URN}.floor", True, f"{CUSTOM_URN}:floor is no integer: True"),
        (f"{CUSTOM_URN}.fte", "0.8", f"{CUSTOM_URN}:fte is no decimal: '0.8'"),
        (f"{CUSTOM_URN}.hired", "2026-01-02", f"{CUSTOM_URN}:hired is no dateTime: '2026-01-02'"),
        (CUSTOM_URN, {}, f"{CUSTOM_URN} is no object with attributes"),
    ],
)
def test_each_fault_is_found(place, value, problem):
    """Of each kind of fault the checker says what it is."""
    resource = copy.deepcopy(GOOD)
    *outer, name = [place] if place in {"urn:x:y", CUSTOM_URN} else place.rsplit(".", 1)
    target = resource[outer[0]] if outer else resource
    if value is GONE:
        del target[name]
    else:
        target[name] = value
    assert problem in Description.of_2_0(KIND, SCHEMAS).problems(resource)


def test_what_is_said_to_be_unique_is_compared_over_all_resources():
    """The same user name in another case, or the same id again, is a fault."""
    description = Description.of_2_0(KIND, SCHEMAS)
    assert [] == description.problems(GOOD)
    assert [f"{USER}:userName is not unique"] == description.problems({**GOOD, "id": "E2", "userName": "ZOE"})
    assert ["id is not unique"] == description.problems(GOOD)
