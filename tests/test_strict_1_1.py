"""The parser that stands in for Okta's SCIM 1.1 reader refuses and takes what that reader is known to refuse and take."""

from __future__ import annotations

import json
from typing import Any

import pytest
from strict_1_1 import (
    CORE,
    ENTERPRISE,
    OKTA_CONFIG,
    MisreadError,
    RefusedError,
    parse_error,
    parse_list,
    parse_resource,
    read_list,
    read_resource,
)

USER_2_0 = "urn:ietf:params:scim:schemas:core:2.0:User"
LIST_2_0 = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
CUSTOM = "urn:okta:acme_hr_1:1.0:user:custom"
GROUP_CUSTOM = "urn:okta:custom:group:1.0"
UNDECLARED = f"'{CORE}' must be declared in the schemas attribute."
CREATED = "2010-01-23T04:56:22Z"


def body(content: Any) -> bytes:
    return json.dumps(content).encode()


def user(*schemas: str, **attributes: Any) -> dict[str, Any]:
    return {"schemas": [CORE, *schemas], "id": "E1", "userName": "zoe", **attributes}


def without(content: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != name}


FULL = user(
    ENTERPRISE,
    CUSTOM,
    name={"givenName": "Zoë", "familyName": "Alvarez", "formatted": "Zoë Alvarez"},
    emails=[{"value": "zoe@example.com", "type": "work", "primary": True}],
    addresses=[{"streetAddress": "Seestrasse 1", "type": "work"}],
    active=True,
    groups=[{"value": "G1", "display": "Finance"}],
    meta={"created": CREATED, "lastModified": "2026-05-06T07:08:09.123Z", "location": "https://x", "version": 'W/"a"'},
    **{ENTERPRISE: {"department": "R&D", "manager": {"managerId": "E7", "displayName": "Ann"}}},
    **{CUSTOM: {"badge": "B-17", "fte": 0.8, "contractor": False, "floor": 3, "codes": ["a", "b"]}},
)


@pytest.mark.parametrize(
    "content",
    [
        FULL,
        user(),
        {**user(), "schemas": [CORE.upper()]},
        user(USER_2_0),
        user(CUSTOM),
        user(active=False, meta={"created": "2010-01-23T04:56:22.5Z"}),
    ],
)
def test_what_is_meant_is_read(content):
    """Core 1.0 declared in any case, core attributes, and extensions that the resource itself declares are read.

    An extension that is declared and absent does no harm.
    """
    assert content["userName"] == read_resource("User", body(content))["userName"]


@pytest.mark.parametrize(
    ("content", "name", "read"),
    [
        (without(user(), "schemas"), "userName", "zoe"),
        (user(active="true"), "active", True),
        (user(active="True"), "active", True),
        (user(active=1), "active", False),
        (user(active="yes"), "active", False),
        (user(id=17), "id", "17"),
        (user(title=None), "title", None),
        (user(name=None), "name", None),
        (user(emails=None), "emails", []),
        (user(emails=[]), "emails", []),
        (user(emails=["a@x"]), "emails", [{"value": "a@x"}]),
        (user(emails={"value": "a@x"}), "emails", [{"value": "a@x"}]),
        (user(emails=[{"value": None}]), "emails", [{"value": None}]),
        (user(meta={"created": "2010-01-23T04:56:22+02:00"}), "meta", {"created": "2010-01-23T04:56:22+02:00"}),
        (user(meta={"created": "2010-01-23T04:56:22"}), "meta", {"created": "2010-01-23T04:56:22"}),
        (user(meta={"created": "2010-01-23 04:56:22"}), "meta", {"created": "2010-01-23 04:56:22"}),
        (user(meta={"created": "04-17-2020 00:00:00"}), "meta", {"created": "04-17-2020 00:00:00"}),
        (user(CUSTOM, **{CUSTOM: {"a": None, "b": []}}), CUSTOM, {"a": [], "b": []}),
        (user(CUSTOM, **{CUSTOM: {"a": {"b": 1}}}), CUSTOM, {"a": ['{"b": 1}']}),
        (user(CUSTOM, **{CUSTOM: {"a": [{"b": 1}]}}), CUSTOM, {"a": ['{"b": 1}']}),
        (user(ENTERPRISE, **{ENTERPRISE: {"floor": 3}}), ENTERPRISE, {"floor": ["3"]}),
    ],
)
def test_what_is_read_as_something_else(content, name, read):
    """What newer releases take, but read otherwise than meant or older ones refuse, is a misreading here."""
    assert read == parse_resource("User", body(content))[name]
    with pytest.raises(MisreadError):
        read_resource("User", body(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**user(), "schemas": [USER_2_0]}, UNDECLARED),
        ({**user(), "schemas": []}, UNDECLARED),
        ({**user(), "schemas": [f"{CORE} "]}, UNDECLARED),
        ({**user(), "schemas": CORE}, 'JSONObject["schemas"] is not a JSONArray.'),
        ({**user(), "schemas": None}, 'JSONObject["schemas"] is not a JSONArray.'),
        (user(**{CUSTOM: {"badge": "B"}}), f"Attribute {CORE}:{CUSTOM} is not defined for resource User"),
        (
            user(**{ENTERPRISE: {"department": "R&D"}}),
            f"Attribute {CORE}:{ENTERPRISE} is not defined for resource User",
        ),
        (user(CUSTOM, **{CUSTOM: "B"}), f'JSONObject["{CUSTOM}"] is not a JSONObject.'),
        (user(CUSTOM, **{CUSTOM: None}), f'JSONObject["{CUSTOM}"] is not a JSONObject.'),
        (user(department="R&D"), f"Attribute {CORE}:department is not defined for resource User"),
        (user(foo=None), f"Attribute {CORE}:foo is not defined for resource User"),
        (user(members=[]), f"Attribute {CORE}:members is not defined for resource User"),
        (
            user(meta={"resourceType": "User"}),
            f"Sub-attribute resourceType is not defined for attribute {CORE}:meta",
        ),
        (
            user(groups=[{"value": "G", "$ref": "https://x"}]),
            f"Sub-attribute $ref is not defined for attribute {CORE}:groups",
        ),
        (user(name={"foo": "x"}), f"Sub-attribute foo is not defined for attribute {CORE}:name"),
        (user(addresses=[{"value": "x"}]), f"Sub-attribute value is not defined for attribute {CORE}:addresses"),
        (user(name="Zoë"), "JSON object expected for complex attribute 'name'"),
        (
            user(ENTERPRISE, **{ENTERPRISE: {"manager": "E7"}}),
            "JSON object expected for complex attribute 'manager'",
        ),
        (
            user(ENTERPRISE, **{ENTERPRISE: {"manager": {"value": "E7"}}}),
            f"Sub-attribute value is not defined for attribute {ENTERPRISE}:manager",
        ),
        (
            without(user(meta={"resourceType": "User"}), "schemas"),
            f"Sub-attribute resourceType is not defined for attribute {CORE}:meta",
        ),
    ],
)
def test_what_is_refused(content, message):
    """What no schema defines is refused, in the words that the agent shows."""
    with pytest.raises(RefusedError) as refusal:
        parse_resource("User", body(content))
    assert f"Resource 'User' is malformed: {message}" == str(refusal.value)
    with pytest.raises(RefusedError):
        parse_list("User", body({"schemas": [CORE], "totalResults": 2, "Resources": [user(), content]}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"schemas": [CORE], "id": "G", "members": [{"value": "E1", "$ref": "x"}]},
            f"Sub-attribute $ref is not defined for attribute {CORE}:members",
        ),
        (
            {"schemas": [CORE], "id": "G", "description": "x"},
            f"Attribute {CORE}:description is not defined for resource Group",
        ),
        ({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "id": "G"}, UNDECLARED),
    ],
)
def test_groups_that_are_refused(content, message):
    """A group with a $ref, a description in the core or the 2.0 URN is refused."""
    with pytest.raises(RefusedError) as refusal:
        parse_resource("Group", body(content))
    assert f"Resource 'Group' is malformed: {message}" == str(refusal.value)


def test_a_group_is_read():
    """A group with members and a declared extension is read."""
    content = {
        "schemas": [CORE, GROUP_CUSTOM],
        "id": "G1",
        "displayName": "Finance",
        "members": [{"value": "E1", "display": "Zoë"}],
        GROUP_CUSTOM: {"description": "Money"},
    }
    assert ["Money"] == read_resource("Group", body(content))[GROUP_CUSTOM]["description"]


@pytest.mark.parametrize(
    ("content", "total"),
    [
        ({"schemas": [CORE], "totalResults": 1, "startIndex": 1, "itemsPerPage": 1, "Resources": [user()]}, 1),
        ({"schemas": [CORE], "totalResults": 0, "startIndex": 1, "itemsPerPage": 0, "Resources": [], "other": 1}, 0),
        ({"schemas": [CORE], "totalresults": 1, "STARTINDEX": 1, "itemsPerPage": 1, "resources": [user()]}, 1),
    ],
)
def test_lists_that_are_read(content, total):
    """Keys in any case, unknown keys, and a list of nobody are read."""
    assert total == read_list("User", body(content))[0]


@pytest.mark.parametrize(
    ("content", "total", "people"),
    [
        ({"totalResults": 1, "Resources": [without(user(), "schemas")]}, 1, 1),
        ({"schemas": [CORE, CUSTOM], "Resources": [{**without(user(), "schemas"), CUSTOM: {"a": "b"}}]}, 0, 1),
        ({"schemas": [CORE], "totalResults": "2"}, 2, 0),
        ({"schemas": [CORE], "totalResults": 2.0, "Resources": []}, 2, 0),
        ({"schemas": [LIST_2_0], "totalResults": 1, "itemsPerPage": 7, "Resources": [user()]}, 1, 1),
    ],
)
def test_lists_that_are_read_as_something_else(content, total, people):
    """The list's schemas stand in where a resource has none; absent numbers are 0; itemsPerPage is not looked at."""
    read_total, read = parse_list("User", body(content))
    assert (total, people) == (read_total, len(read))
    with pytest.raises(MisreadError):
        read_list("User", body(content))


@pytest.mark.parametrize(
    "content",
    [
        {"schemas": [CORE], "totalResults": 1, "Resources": None},
        {"schemas": [CORE], "totalResults": None, "Resources": []},
        {"schemas": [LIST_2_0], "totalResults": 1, "Resources": [without(user(), "schemas")]},
        {"schemas": [CORE, CUSTOM], "totalResults": 1, "Resources": [user(**{CUSTOM: {"a": "b"}})]},
        {"schemas": [CORE], "totalResults": 2, "Resources": [user(), user(foo=1)]},
    ],
)
def test_lists_that_are_refused(content):
    """Null numbers or resources, a 2.0 list, a URN that only the list declares, and one bad resource refuse all."""
    with pytest.raises(RefusedError):
        parse_list("User", body(content))


CONFIG = {
    "schemas": [CORE, OKTA_CONFIG],
    "patch": {"supported": False},
    "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
    "filter": {"supported": True, "maxResults": 200},
    "changePassword": {"supported": False},
    "sort": {"supported": False},
    "etag": {"supported": False},
    "authenticationSchemes": [{"type": "httpbasic", "name": "HTTP Basic", "description": "x", "primary": True}],
    OKTA_CONFIG: {"userManagementCapabilities": ["IMPORT_NEW_USERS"]},
}


def test_a_configuration_is_read():
    """Okta's capabilities are read where their URN is declared; no scheme at all is read too."""
    assert ["IMPORT_NEW_USERS"] == read_resource("ServiceProviderConfig", body(CONFIG))[OKTA_CONFIG][
        "userManagementCapabilities"
    ]
    assert (
        []
        == read_resource("ServiceProviderConfig", body({**CONFIG, "authenticationSchemes": []}))[
            "authenticationSchemes"
        ]
    )


@pytest.mark.parametrize(
    "change",
    [
        {"documentationUri": "https://x"},
        {"pagination": {"cursor": True}},
        {"authenticationSchemes": [{"type": "httpbasic", "specUri": "https://x"}]},
        {"authenticationSchemes": [{"type": "httpbasic", "documentationUri": "https://x"}]},
        {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig", OKTA_CONFIG]},
        {"schemas": [CORE]},
        {"sort": {"supported": False, "since": 1}},
    ],
)
def test_configurations_that_are_refused(change):
    """Keys of 2.0, its URN, and Okta's capabilities without their URN refuse the configuration."""
    with pytest.raises(RefusedError):
        parse_resource("ServiceProviderConfig", body({**CONFIG, **change}))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"Errors": [{"description": "gone", "code": "404"}]}, (404, "gone")),
        ({"errors": [{"Description": "gone", "Code": 404}]}, (404, "gone")),
        ({"Errors": [{"description": "gone", "code": 404}], "status": "404", "detail": "gone"}, (404, "gone")),
        ({"schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"], "status": "404", "detail": "gone"}, None),
    ],
)
def test_errors(content, found):
    """An error of 1.1 is read, beside 2.0 members too; of an error in 2.0 alone the message is lost."""
    assert found == parse_error(body(content))


@pytest.mark.parametrize("text", [b"", b"[]", b'"x"', b"<html>"])
def test_what_is_no_json_object(text):
    """An empty body, HTML and JSON that is no object are refused as unreadable."""
    for parse in (lambda: parse_resource("User", text), lambda: parse_list("User", text), lambda: parse_error(text)):
        with pytest.raises(RefusedError, match=r"^Error while reading JSON: "):
            parse()
