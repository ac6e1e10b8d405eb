"""Discovery tells the truth: what the mapping serves, and nothing else."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from server_fixtures import CUSTOM_URN, Directory, person, serving

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
OKTA = "urn:okta:schemas:scim:providerconfig:1.0"
STRICT = {
    "/scim/v1": {"version": "1.1"},
    "/scim/v2": {"version": "2.0", "okta_extension": False},
    "/scim/v2-okta": "2.0",
    "/scim/v1-plain": {"version": "1.1", "okta_extension": False},
}


@pytest.fixture
async def api(tmp_path):
    """A server before its first snapshot."""
    mapping = {
        "enterprise": {"department": "dept", "manager": "badge"},
        CUSTOM_URN: {"level": {"column": "badge", "type": "integer"}},
    }
    async with serving(Directory(tmp_path, mapping=mapping, paths=STRICT)) as api:
        yield api


@pytest.mark.parametrize(("with_it", "without"), [("/scim/v2-okta", "/scim/v2"), ("/scim/v1", "/scim/v1-plain")])
async def test_the_okta_extension_is_one_key(api, with_it, without):
    """Without the extension the configuration lacks one key and its URN; all else is the same."""
    full = (await api.get(f"{with_it}/ServiceProviderConfig")).json
    plain = (await api.get(f"{without}/ServiceProviderConfig")).json
    assert OKTA not in plain
    assert full.pop(OKTA)
    full["schemas"].remove(OKTA)
    if "meta" in full:
        assert set(full.pop("meta")) == set(plain.pop("meta"))
    assert full == plain


async def test_a_1_1_configuration_has_no_2_0_keys(api):
    """A strict 1.1 parser refuses documentationUri, meta and pagination."""
    found = (await api.get("/scim/v1/ServiceProviderConfigs")).json
    allowed = {
        "schemas",
        "documentationUrl",
        "patch",
        "bulk",
        "filter",
        "changePassword",
        "sort",
        "etag",
        "authenticationSchemes",
        OKTA,
    }
    assert set(found) <= allowed


async def test_only_what_is_offered_is_announced(api):
    """Filters are announced with the true limit; everything that is not offered is announced as such."""
    for base in STRICT:
        found = (await api.get(f"{base}/ServiceProviderConfig")).json
        assert found["filter"] == {"supported": True, "maxResults": 10_000}
        assert {found[name]["supported"] for name in ("patch", "bulk", "changePassword")} == {False}
        assert {found[name]["supported"] for name in ("sort", "etag")} == {True}


async def test_the_user_schema_describes_what_the_mapping_serves(api):
    """The 2.0 User schema has exactly the mapped attributes and sub-attributes."""
    schema = (await api.get(f"/scim/v2/Schemas/{USER}")).json
    described = {
        item["name"]: sorted(sub["name"] for sub in item.get("subAttributes", ())) for item in schema["attributes"]
    }
    assert described == {
        "userName": [],
        "name": ["familyName", "givenName"],
        "active": [],
        "emails": ["primary", "type", "value"],
        "phoneNumbers": ["primary", "type", "value"],
    }


async def test_extensions_are_described_where_they_are_used(api):
    """Enterprise and custom URNs in use are schemas, and extensions of User; types come from the mapping."""
    types = (await api.get("/scim/v2/ResourceTypes")).json["Resources"]
    assert [ENTERPRISE, CUSTOM_URN] == [item["schema"] for item in types[0]["schemaExtensions"]]
    assert "schemaExtensions" not in types[1]
    listed = (await api.get("/scim/v2/Schemas")).json["Resources"]
    assert [USER, ENTERPRISE, CUSTOM_URN, GROUP] == [item["id"] for item in listed]
    assert [("level", "integer")] == [(item["name"], item["type"]) for item in listed[2]["attributes"]]


async def test_nothing_served_is_undescribed(tmp_path):
    """Each attribute of a served 2.0 user is in a schema that discovery lists."""
    directory = Directory(tmp_path).add(person(1, home_mail="h@example.com"))
    directory.publish()
    async with serving(directory) as api:
        schemas = {item["id"]: item for item in (await api.get("v2/Schemas")).json["Resources"]}
        (user,) = (await api.get("v2/Users")).json["Resources"]
    known = {item["name"]: item for item in schemas[USER]["attributes"]}
    for name, value in user.items():
        if name.startswith("urn:"):
            assert set(value) <= {item["name"] for item in schemas[name]["attributes"]}
        elif name not in {"schemas", "id", "externalId", "meta"}:
            subs = {item["name"] for item in known[name].get("subAttributes", ())}
            for entry in value if isinstance(value, list) else [value]:
                assert not isinstance(entry, dict) or set(entry) <= subs


@pytest.mark.parametrize("kind", ["Schemas", "ResourceTypes"])
@pytest.mark.parametrize("base", ["/scim/v1", "/scim/v2"])
async def test_each_document_by_id(api, base, kind):
    """Each listed document is answered by its id too, encoded or not, in any case."""
    for item in (await api.get(f"{base}/{kind}")).json["Resources"]:
        for text in (item["id"], quote(item["id"], safe=""), item["id"].upper()):
            assert item == (await api.get(f"{base}/{kind}/{text}")).json


async def test_locations_lead_to_the_documents(api):
    """A meta.location is public_url, base path and a path that answers."""
    for kind in ("Schemas", "ResourceTypes"):
        for item in (await api.get(f"/scim/v2/{kind}")).json["Resources"]:
            location = item["meta"]["location"]
            assert location.startswith("https://scim.example.com/scim/v2/")
            assert item == (await api.get(location.removeprefix("https://scim.example.com"))).json


async def test_filters_on_discovery_are_refused_in_2_0(api):
    """RFC 7644 section 4: 403 for a filter on discovery; paging is ignored."""
    for kind in ("ServiceProviderConfig", "Schemas", "ResourceTypes"):
        assert (await api.get(f"/scim/v2/{kind}?filter=id%20pr")).status == 403
        assert (await api.get(f"/scim/v1/{kind}?filter=id%20pr")).status == 200
        assert (await api.get(f"/scim/v2/{kind}?startIndex=5&count=1")).body == (await api.get(f"/scim/v2/{kind}")).body


async def test_authentication_schemes_are_the_configured_kinds(tmp_path):
    """Basic and bearer have names in RFC 7643; a header of one's own has none and is left out."""
    auth = [
        {"type": "header", "header": "X-Key", "token": "t"},
        {"type": "bearer", "token": "t"},
        {"type": "basic", "username": "u", "password": "p"},
    ]
    async with serving(Directory(tmp_path, auth=auth)) as api:
        found = (await api.get("v2/ServiceProviderConfig", auth="Bearer t")).json["authenticationSchemes"]
    assert [("oauthbearertoken", True), ("httpbasic", False)] == [(item["type"], item["primary"]) for item in found]
