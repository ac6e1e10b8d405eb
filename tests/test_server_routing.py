"""Which paths there are, for whom, and what is said where nothing can be had or changed."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from server_fixtures import Directory, person, serving

from server.routes import Router
from snapshot.config import BasePath
from snapshot.scim import OKTA_ENTITLEMENT, ScimVersion

BASES = pytest.mark.parametrize("base", ["v1", "v2"])
WRITES = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture
async def api(tmp_path):
    """A server with a third resource type, which only SCIM 2.0 has."""
    entitlements = {"License": {"table": "licenses", "id": "id", "displayName": "name"}}
    directory = Directory(tmp_path, sections={"entitlements": entitlements})
    directory.run("CREATE TABLE licenses (id, name)")
    directory.add(person(1), person(2))
    directory.publish()
    async with serving(directory) as api:
        yield api


def served(base: str) -> list[str]:
    return ["Users", "Groups"] if base == "v1" else ["Users", "Groups", "Licenses"]


@BASES
async def test_every_resource_type_has_its_endpoint(api, base):
    """What is served is what ResourceTypes lists: a list, a 404 for an unknown id, and no writes."""
    listed = (await api.get(f"{base}/ResourceTypes")).json["Resources"]
    assert [f"/{name}" for name in served(base)] == [item["endpoint"] for item in listed]
    for name in served(base):
        assert 200 == (await api.get(f"{base}/{name}")).status
        assert 404 == (await api.get(f"{base}/{name}/nobody")).status
        for path in (name, f"{name}/nobody", f"{name}/E00001/x"):
            for method in WRITES:
                answer = await api.send(method, f"{base}/{path}")
                assert (405, "GET, HEAD") == (answer.status, answer.headers["Allow"])
                assert answer.json["detail"]


async def test_a_resource_type_of_one_version_is_not_in_the_other(api):
    """A type that SCIM 1.1 does not have is no endpoint there, in no list and by no name."""
    for method in ("GET", "POST"):
        assert 404 == (await api.send(method, "v1/Licenses")).status
    assert 404 == (await api.get("v1/ResourceTypes/License")).status
    assert OKTA_ENTITLEMENT == (await api.get("v2/ResourceTypes/License")).json["schema"]
    assert 0 == (await api.get("v2/?filter=meta.resourceType%20eq%20%22License%22")).json["totalResults"]


@BASES
@pytest.mark.parametrize("path", ["Me", "Me/x", "Bulk", "Bulk/x"])
async def test_what_is_not_offered_says_so(api, base, path):
    """/Me and /Bulk are a 501 for every method (RFC 7644 sections 3.7 and 3.11)."""
    for method in ("GET", *WRITES):
        answer = await api.send(method, f"{base}/{path}", data=b"{}")
        assert 501 == answer.status
        assert answer.json["detail"]


@BASES
@pytest.mark.parametrize("path", ["nothing", "users", "Users/E00001/x", "Schema", "me", "Users/%FF", ".Search"])
async def test_unknown_paths(api, base, path):
    """Anything else is a 404, and endpoints are written as they are."""
    assert 404 == (await api.get(f"{base}/{path}")).status


@BASES
async def test_discovery_by_id_can_only_be_read(api, base):
    """Each document by its id is read-only too, whether it is there or not."""
    schema = (await api.get(f"{base}/Schemas")).json["Resources"][0]["id"]
    paths = [
        "ResourceTypes/User",
        "ResourceTypes/x",
        f"Schemas/{quote(schema, safe='')}",
        f"Schemas/{schema}",
        "Schemas/.search",
    ]
    for path in paths:
        for method in WRITES:
            answer = await api.send(method, f"{base}/{path}", data=b"{}")
            assert (405, "GET, HEAD") == (answer.status, answer.headers["Allow"])


@BASES
async def test_discovery_has_neither_pages_nor_order(api, base):
    """RFC 7644 section 4: paging, sorting and cursors are ignored there."""
    for path in ("ServiceProviderConfig", "ResourceTypes", "Schemas", "ResourceTypes/User"):
        plain = await api.get(f"{base}/{path}")
        for query in ("startIndex=2&count=1", "sortBy=name&sortOrder=descending", "cursor=x", "attributes=name"):
            assert plain.body == (await api.get(f"{base}/{path}?{query}")).body


HEADERS = [
    {"Accept": "text/html"},
    {"Accept": "image/png;q=0"},
    {"Accept": "nonsense"},
    {"Accept": "application/xml", "Accept-Charset": "utf-16", "Accept-Language": "xx", "Accept-Encoding": "br"},
    {"Content-Type": "text/xml"},
    {"Content-Type": ""},
]


@BASES
@pytest.mark.parametrize("headers", HEADERS, ids=str)
@pytest.mark.parametrize(
    "path", ["Users", "Users/E00001", "Users/nobody", "Schemas", "ServiceProviderConfig", "Me", "x"]
)
async def test_no_client_is_refused_for_its_headers(api, base, path, headers):
    """Whatever a client accepts or says that it sends, it gets JSON in the media type of the version."""
    plain = await api.get(f"{base}/{path}")
    answer = await api.get(f"{base}/{path}", headers=headers)
    assert (plain.status, plain.body) == (answer.status, answer.body)
    assert plain.headers["Content-Type"] == answer.headers["Content-Type"]


@BASES
@pytest.mark.parametrize(
    "path",
    [
        "Users?attributes=id",
        "Users?sortBy=id",
        "Users?cursor=",
        "Users/E00001?attributes=userName",
        "Schemas",
        "Me",
        "x",
    ],
)
async def test_head_is_get_everywhere(api, base, path):
    """HEAD has the status and the headers of GET, its Content-Length too, and no body."""
    get, head = await api.get(f"{base}/{path}"), await api.send("HEAD", f"{base}/{path}")
    assert (get.status, b"") == (head.status, head.body)
    own = {"date", "x-request-id"}
    assert {name: value for name, value in get.headers.items() if name.lower() not in own} == {
        name: value for name, value in head.headers.items() if name.lower() not in own
    }


PATHS = [
    "/scim/v2/Users", "/scim/v2//Users/", "/scim/v2/Users/a%2Fb", "/scim/v2/Users/%FF", "/scim/v2/%FF/a", "/scim/v2",
    "/scim/v2/", "/scim/v2/deep/Users", "/scim/v2/deep/", "/scim/v2/deep", "/scim", "/", "", "/%73cim/v2/Users/1",
    "/scim/v2/Users/é", "/scim/v2/Users/1?count=1#x", "/admin/refresh", "/-/status", "/scim/v2/" + "x" * 300 + "/1",
]  # fmt: skip


def test_a_path_leads_to_the_same_place_at_any_time():
    """Where a path leads does not depend on what was asked before, however much that was."""
    bases = {"/scim/v2": BasePath(ScimVersion.V2_0), "/scim/v2/deep": BasePath(ScimVersion.V1_1)}
    router = Router(bases)
    expected = {path: Router(bases).resolve(path) for path in PATHS}
    for number in range(200):
        router.resolve(f"/scim/v2/stranger{number}/a/b")
        assert expected == {path: router.resolve(path) for path in PATHS}
    assert "1.1" == expected["/scim/v2/deep/Users"].version
    assert ("Users", "a/b") == expected["/scim/v2/Users/a%2Fb"].parts
    assert expected["/scim/v2/Users/%FF"].parts is None
