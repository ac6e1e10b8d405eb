"""ETag, If-None-Match, If-Match, Location: what a client that already knows a resource is told."""

from __future__ import annotations

import asyncio

import pytest
from server_fixtures import Directory, basic, person, serving, wait_a_tick

BASES = pytest.mark.parametrize("base", ["v1", "v2"])
METHODS = pytest.mark.parametrize("method", ["GET", "HEAD"])
DISCOVERY = pytest.mark.parametrize(
    "path", ["ServiceProviderConfig", "ServiceProviderConfigs", "ResourceTypes", "ResourceTypes/User", "Schemas"]
)


@pytest.fixture
def directory(tmp_path):
    directory = Directory(tmp_path).add(person(1), person(2, id='a/b "ü"'))
    directory.publish()
    return directory


@pytest.fixture
async def api(directory):
    async with serving(directory) as api:
        yield api


@BASES
@METHODS
async def test_a_resource_tells_its_version_and_its_place(api, base, method):
    """ETag is meta.version, Location and Content-Location are meta.location, for HEAD as for GET."""
    for listed in (await api.get(f"{base}/Users")).json["Resources"]:
        place = listed["meta"]["location"]
        answer = await api.send(method, place.removeprefix("https://scim.example.com"))
        assert 200 == answer.status
        assert listed["meta"]["version"] == answer.headers["ETag"]
        assert place == answer.headers["Location"] == answer.headers["Content-Location"]


@BASES
async def test_a_projection_has_the_version_of_its_resource(api, base):
    """A resource without meta in the body has the same headers."""
    whole = await api.get(f"{base}/Users/E00001")
    cut = await api.get(f"{base}/Users/E00001?attributes=userName")
    assert "meta" not in cut.json
    for name in ("ETag", "Location", "Content-Location"):
        assert whole.headers[name] == cut.headers[name]


@BASES
@METHODS
@pytest.mark.parametrize("form", ["{tag}", "{strong}", "*", '"other", {tag}', '"a,b" ,{strong}', 'W/"x",{tag},'])
async def test_a_client_that_has_this_version_gets_no_body(api, base, method, form):
    """304 without a body for its own tag, compared weakly, in a list, or for *; with the headers of the 200."""
    whole = await api.get(f"{base}/Users/E00001")
    tag = whole.headers["ETag"]
    known = form.format(tag=tag, strong=tag.removeprefix("W/"))
    answer = await api.send(method, f"{base}/Users/E00001", headers={"If-None-Match": known})
    assert (304, b"") == (answer.status, answer.body)
    for name in ("ETag", "Location", "Content-Location", "Cache-Control"):
        assert whole.headers[name] == answer.headers[name]
    assert "Content-Type" not in answer.headers


@BASES
@METHODS
@pytest.mark.parametrize("known", ['"other"', 'W/"other"', "{bare}", '"{bare}x"', "", ",", '"', "W/*", "w/*"])
async def test_a_client_with_another_version_gets_the_resource(api, base, method, known):
    """Another tag, or what is none, is no reason for a 304."""
    bare = (await api.get(f"{base}/Users/E00001")).headers["ETag"].removeprefix("W/").strip('"')
    answer = await api.send(method, f"{base}/Users/E00001", headers={"If-None-Match": known.format(bare=bare)})
    assert 200 == answer.status
    assert (method == "GET") == bool(answer.body)


async def test_several_header_lines_are_one_list(api):
    """Tags may come in several If-None-Match lines (RFC 9110 section 5.3)."""
    tag = (await api.get("v2/Users/E00001")).headers["ETag"]
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = ["GET /scim/v2/Users/E00001 HTTP/1.1", "Host: x", "Connection: close", f"Authorization: {basic()}"]
    writer.write("\r\n".join([*head, 'If-None-Match: "other"', f"If-None-Match: {tag}", "", ""]).encode())
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 304 ")
    assert answer.endswith(b"\r\n\r\n")


async def test_the_version_changes_with_the_content(directory):
    """After a publication that changed the user the old tag is no longer current; who did not change keeps theirs."""
    async with serving(directory) as api:
        old = {item["id"]: item["meta"]["version"] for item in (await api.get("v2/Users")).json["Resources"]}
        wait_a_tick()
        directory.run("UPDATE people SET dept = 'Sales' WHERE id = 'E00001'").publish()
        await api.follow()
        changed = await api.get("v2/Users/E00001", headers={"If-None-Match": old["E00001"]})
        assert 200 == changed.status
        assert old["E00001"] != changed.headers["ETag"]
        target = "v2/Users/a%2Fb%20%22%C3%BC%22"
        same = await api.get(target, headers={"If-None-Match": old['a/b "ü"']})
        assert 304 == same.status


@BASES
@METHODS
async def test_if_match_on_a_read(api, base, method):
    """A read of one resource in another version than If-Match names is a 412; * and the own tag pass."""
    tag = (await api.get(f"{base}/Users/E00001")).headers["ETag"]
    for wanted, status in ((tag, 200), ("*", 200), (f'"x", {tag}', 200), ('"x"', 412), ("x", 412)):
        answer = await api.send(method, f"{base}/Users/E00001", headers={"If-Match": wanted})
        assert status == answer.status, wanted
    both = {"If-Match": '"x"', "If-None-Match": tag}
    assert 412 == (await api.send(method, f"{base}/Users/E00001", headers=both)).status
    both = {"If-Match": tag, "If-None-Match": tag}
    assert 304 == (await api.send(method, f"{base}/Users/E00001", headers=both)).status


@BASES
async def test_if_match_makes_no_write_possible(api, base):
    """A write is refused as such, whatever version it names."""
    tag = (await api.get(f"{base}/Users/E00001")).headers["ETag"]
    for wanted in (tag, "*", '"x"'):
        for method in ("PUT", "PATCH", "DELETE"):
            answer = await api.send(method, f"{base}/Users/E00001", headers={"If-Match": wanted}, json={})
            assert (405, "GET, HEAD") == (answer.status, answer.headers["Allow"])


async def test_an_unknown_id_has_no_version(api):
    """A 404 stays a 404 with conditions, and has no ETag."""
    for condition in ("If-Match", "If-None-Match"):
        answer = await api.get("v2/Users/nobody", headers={condition: "*"})
        assert 404 == answer.status
        assert "ETag" not in answer.headers


async def test_lists_have_no_version(api):
    """A list has no ETag, and a condition changes nothing about it."""
    plain = await api.get("v2/Users")
    assert "ETag" not in plain.headers
    assert plain.body == (await api.get("v2/Users", headers={"If-None-Match": "*"})).body


@BASES
@METHODS
@DISCOVERY
async def test_discovery_documents_have_versions(api, base, method, path):
    """Each document has the ETag of its bytes; with it comes a 304."""
    whole = await api.get(f"{base}/{path}")
    tag = whole.headers["ETag"]
    assert tag == (await api.send("HEAD", f"{base}/{path}")).headers["ETag"]
    answer = await api.send(method, f"{base}/{path}", headers={"If-None-Match": tag.removeprefix("W/")})
    assert (304, b"", tag) == (answer.status, answer.body, answer.headers["ETag"])
    assert 200 == (await api.send(method, f"{base}/{path}", headers={"If-None-Match": '"x"'})).status
    assert 412 == (await api.send(method, f"{base}/{path}", headers={"If-Match": '"x"'})).status


async def test_different_documents_have_different_tags(api):
    """No two documents of one server share an ETag."""
    paths = ("ServiceProviderConfig", "ResourceTypes", "ResourceTypes/User", "ResourceTypes/Group", "Schemas")
    tags = [(await api.get(f"{base}/{path}")).headers["ETag"] for base in ("v1", "v2") for path in paths]
    assert len(tags) == len(set(tags))


async def test_versions_are_announced(api):
    """etag.supported is true in both versions."""
    for base in ("v1", "v2"):
        assert {"supported": True} == (await api.get(f"{base}/ServiceProviderConfig")).json["etag"]
