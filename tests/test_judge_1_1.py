"""Every body of the 1.1 base path goes through the strict 1.1 parser, which refuses what Okta's reader would refuse."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from judged_directory import OLD
from server_process import Client
from strict_1_1 import CORE, OKTA_CONFIG, parse_error, read_list, read_resource
from whole_people import CUSTOM_URN, EVERYTHING

KINDS = {"/Users": "User", "/Groups": "Group"}
# Roles and entitlements as resources are no part of SCIM 1.1; the parser knows nothing of them.
OF_OKTA = {"/Licenses", "/AccessProfiles", "/Roles"}
ENTERPRISE_1_1 = "urn:scim:schemas:extension:enterprise:1.0"
ENTERPRISE_2_0 = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


def test_every_page_and_every_resource_is_read(judged):
    """Each page of each list is read, each of its resources alone too, and the pages hold everybody once."""
    assert set(KINDS) == set(judged.endpoints(OLD)) - OF_OKTA
    for endpoint, kind in KINDS.items():
        ids = []
        for page in judged.pages(OLD, endpoint):
            total, resources = read_list(kind, page.body)
            ids += [item["id"] for item in resources]
            for served, read in zip(page.json["Resources"], resources, strict=True):
                assert read == read_resource(kind, json.dumps(served).encode())
        assert total == len(ids) == len(set(ids))


def test_every_resource_by_id_is_read(judged):
    """A resource that is asked for by its id is read, and is byte for byte the one of the list."""
    for endpoint, kind in KINDS.items():
        for page in judged.pages(OLD, endpoint):
            for listed in page.json["Resources"]:
                answer = judged.get(f"{OLD}{endpoint}/{quote(listed['id'], safe='')}")
                assert listed["id"] == read_resource(kind, answer.body)["id"]
                assert answer.body in page.body


def test_what_is_read_is_what_was_mapped(whole_server):
    """The parser reads every attribute of a user who has all of them, with its value."""
    read = read_resource("User", whole_server.get(f"{OLD}/Users/E1").body)
    for name, value in EVERYTHING.items():
        if name == ENTERPRISE_2_0:
            manager = {"managerId": value["manager"]["value"], "displayName": value["manager"]["displayName"]}
            assert {**value, "manager": manager} == read[ENTERPRISE_1_1]
        elif name == CUSTOM_URN:
            texts = {key: [item if isinstance(item, str) else json.dumps(item)] for key, item in value.items()}
            assert texts == read[CUSTOM_URN]
        else:
            assert value == read[name]


@pytest.mark.parametrize("query", ["count=0", "startIndex=100000", "filter=displayName%20eq%20%22nobody%22"])
def test_lists_of_nobody_are_read(judged, query):
    """A list without resources is a list."""
    for endpoint, kind in KINDS.items():
        assert [] == read_list(kind, judged.get(f"{OLD}{endpoint}?{query}").body)[1]


@pytest.mark.parametrize(
    "query",
    [
        "attributes=userName",
        "attributes=userName,name.givenName,urn:scim:schemas:extension:enterprise:1.0:department",
        "attributes=urn:scim:schemas:extension:enterprise:1.0:manager.displayName",
        "excludedAttributes=emails,meta,urn:scim:schemas:extension:enterprise:1.0:manager",
        "excludedAttributes=urn:scim:schemas:extension:enterprise:1.0",
        "sortBy=name.familyName&sortOrder=descending",
    ],
)
def test_parts_of_resources_are_read(judged, query):
    """What attributes and excludedAttributes leave of a resource is read too, with the URNs that are left declared."""
    page = judged.get(f"{OLD}/Users?count=1000&{query}")
    total, resources = read_list("User", page.body)
    assert total == len(resources)
    assert all(item["id"] for item in resources)
    for listed in page.json["Resources"][:20]:
        assert listed["id"] == read_resource("User", json.dumps(listed).encode())["id"]
        single = judged.get(f"{OLD}/Users/{quote(listed['id'], safe='')}?{query}")
        assert listed["id"] == read_resource("User", single.body)["id"]


@pytest.mark.parametrize("name", ["ServiceProviderConfigs", "ServiceProviderConfig"])
def test_the_configuration_is_read(judged, name):
    """ServiceProviderConfigs is read with Okta's capabilities, and what is offered is what is said."""
    read = read_resource("ServiceProviderConfig", judged.get(f"{OLD}/{name}").body)
    assert read[OKTA_CONFIG]["userManagementCapabilities"]
    assert (True, False) == (read["filter"]["supported"], read["patch"]["supported"])


def test_schemas_are_read(judged):
    """The 1.1 schemas, which have no schemas attribute of their own, are read alone."""
    for item in judged.get(f"{OLD}/Schemas").json["Resources"]:
        assert item["name"] == read_resource("Schema", judged.get(f"{OLD}/Schemas/{item['id']}").body)["name"]


def test_schemas_speak_of_1_1_alone(whole_server):
    """Types are those of SCIM Core Schema 1.1 section 10, and a value of each plural has its name in the singular."""
    (user, _) = whole_server.get(f"{OLD}/Schemas").json["Resources"]
    items = [*user["attributes"], *(sub for item in user["attributes"] for sub in item.get("subAttributes", ()))]
    assert {"string", "boolean", "decimal", "integer", "dateTime", "binary", "complex"} == {
        item["type"] for item in items
    }
    assert {
        "emails": "email",
        "phoneNumbers": "phoneNumber",
        "ims": "im",
        "photos": "photo",
        "addresses": "address",
        "entitlements": "entitlement",
        "roles": "role",
        "x509Certificates": "x509Certificate",
        "groups": "group",
    } == {item["name"]: item["multiValuedAttributeChildName"] for item in user["attributes"] if item["multiValued"]}


@pytest.mark.parametrize(
    ("status", "target"),
    [
        (404, "/Users/nope"),
        (404, "/Groups/nope"),
        (404, "/nowhere"),
        (404, "/Schemas/nope"),
        (400, "/Users?filter=SOMETHINGWITHOUTOPERATOR"),
        (400, "/Users?startIndex=abc"),
        (501, "/Me"),
    ],
)
def test_errors_are_read(whole_server, status, target):
    """Code and description of an error reach who reads 1.1."""
    answer = whole_server.client.get(f"{OLD}{target}")
    code, description = parse_error(answer.body)
    assert (status, status) == (answer.status, code)
    assert description == answer.json["detail"]


def test_the_refused_login_is_read(whole_server):
    """A 401 has code and description too."""
    stranger = Client(whole_server.port, password="wrong")
    answer = stranger.get(f"{OLD}/ServiceProviderConfigs")
    stranger.close()
    assert (401, 401) == (answer.status, parse_error(answer.body)[0])


def test_nothing_of_2_0_is_in_a_1_1_body(judged):
    """No URN of 2.0 stands anywhere in what 1.1 serves."""
    types = judged.endpoints(OLD)
    for target in (*types, "/ServiceProviderConfigs", "/Users/nope", "/Schemas", "/ResourceTypes"):
        text = judged.client.get(f"{OLD}{target}").body
        assert CORE.encode() in text
        assert b"urn:ietf:params:scim" not in text
