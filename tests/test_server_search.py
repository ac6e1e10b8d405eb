"""POST .search: a list whose parameters come in a body, with the same answers as GET, strict about types."""

from __future__ import annotations

import asyncio
import json
import logging
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_fixtures import Directory, basic, person, serving

from server.errors import InvalidCountError, InvalidFilterError, InvalidSyntaxError, InvalidValueError
from server.query import MAX_INDEX, Limits, search_request
from server.search_body import SEARCH_REQUEST_2_0, search_body

LIMITS = Limits(default_count=100, max_count=1000, cursors=True)


@pytest.fixture
async def api(tmp_path):
    directory = Directory(tmp_path).add(*[person(number) for number in range(1, 8)])
    directory.publish()
    async with serving(directory) as api:
        yield api


async def search(api, body, path: str = "v2/Users/.search"):
    return await api.send("POST", path, data=body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"startIndex": 2, "count": 3},
        {"startIndex": -5, "count": -1},
        {"startIndex": 99},
        {"filter": 'userName eq "user2@example.com"'},
        {"filter": 'name.familyName eq "Łukasz"', "startIndex": 3, "count": 2},
        {"attributes": ["userName", "emails.value"]},
        {"excludedAttributes": ["meta"], "count": 1},
        {"cursor": "", "count": 3},
    ],
)
async def test_a_search_is_answered_as_a_get(api, parameters):
    """The same parameters in a body and in a query string give the same bytes."""
    texts = {name: ",".join(value) if isinstance(value, list) else value for name, value in parameters.items()}
    listed = await api.get(f"v2/Users?{urlencode(texts)}")
    searched = await search(api, {"schemas": [SEARCH_REQUEST_2_0], **parameters})
    assert 200 == searched.status
    assert listed.body == searched.body
    assert listed.headers["Content-Type"] == searched.headers["Content-Type"]


@pytest.mark.parametrize("schemas", [{}, {"schemas": [SEARCH_REQUEST_2_0.upper(), "x"]}, {"SCHEMAS": None}])
async def test_schemas_may_be_left_out(api, schemas):
    """Without `schemas` the path says what the body is."""
    assert (7, 1, 2) == (await search(api, {**schemas, "COUNT": 2, "filter": None})).numbers


@pytest.mark.parametrize("media_type", ["application/scim+json", "application/json", "text/plain", ""])
async def test_no_content_type_is_refused(api, media_type):
    """The body is JSON, whatever it is called."""
    answer = await api.send(
        "POST", "v2/Users/.search", data=b"{}", headers={"Content-Type": media_type, "Accept": "x/y"}
    )
    assert 200 == answer.status


@pytest.mark.parametrize(("coding", "status"), [("gzip", 415), ("deflate, gzip", 415), ("x", 415), ("Identity", 200)])
async def test_a_compressed_body_is_not_read(api, coding, status):
    """A body with a Content-Encoding is a 415 that says which are understood, not a complaint about its JSON."""
    headers = {"Content-Encoding": coding, "Content-Type": "application/scim+json"}
    answer = await api.send("POST", "v2/Users/.search", data=b"{}", headers=headers)
    assert status == answer.status
    if status == 415:
        assert ("415", "identity") == (answer.json["status"], answer.headers["Accept-Encoding"])


@pytest.mark.parametrize(
    ("body", "scim_type"),
    [
        (b"", "invalidSyntax"),
        (b"{", "invalidSyntax"),
        (b"[]", "invalidSyntax"),
        (b"null", "invalidSyntax"),
        (b"\xff", "invalidSyntax"),
        (b'{"count": 1, "Count": 2}', "invalidSyntax"),
        (b'{"count": 1, "count": 1}', "invalidSyntax"),
        (b'{"filter": null, "filter": "id pr"}', "invalidSyntax"),
        (b'{"x": ' + b"[" * 900 + b"]" * 900 + b', "count": 1, "x": 1}', "invalidSyntax"),
        ({"schemas": []}, "invalidSyntax"),
        ({"schemas": SEARCH_REQUEST_2_0}, "invalidSyntax"),
        ({"schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"]}, "invalidSyntax"),
        ({"count": "1"}, "invalidSyntax"),
        ({"count": True}, "invalidSyntax"),
        ({"count": [1]}, "invalidSyntax"),
        ({"startIndex": 1.5}, "invalidValue"),
        ({"filter": 1}, "invalidSyntax"),
        ({"filter": " "}, "invalidFilter"),
        ({"filter": "userName"}, "invalidFilter"),
        ({"sortBy": ["userName"]}, "invalidSyntax"),
        ({"sortBy": "userName", "sortOrder": "upward"}, "invalidValue"),
        ({"attributes": "userName"}, "invalidSyntax"),
        ({"attributes": [1]}, "invalidSyntax"),
        ({"attributes": ["userName"], "excludedAttributes": ["meta"]}, "invalidValue"),
        ({"cursor": 1}, "invalidSyntax"),
        ({"cursor": "", "count": 0}, "invalidCount"),
    ],
)
async def test_what_is_no_search_request(api, body, scim_type):
    """Each is a 400 that says what is wrong, on a type and on the root."""
    for path in ("v2/Users/.search", "v2/.search"):
        answer = await search(api, body, path)
        assert (400, scim_type) == (answer.status, answer.json["scimType"])
        assert answer.json["detail"]


async def test_numbers_beyond_all_limits_are_clamped(api):
    """Integers of any size are many or none, never an error."""
    for number in (10**30, -(10**30), 2**63, 2**64):
        assert 200 == (await search(api, f'{{"startIndex":{number},"count":{number}}}'.encode())).status


@pytest.mark.parametrize("path", ["Users/.search", "Groups/.search", ".search"])
async def test_methods_and_versions(api, path):
    """Only POST, and only in 2.0: SCIM 1.1 has no such thing, and is told so."""
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = await api.send(method, f"v2/{path}")
        assert (405, "POST") == (answer.status, answer.headers["Allow"])
    assert 501 == (await search(api, {}, f"v1/{path}")).status
    assert "query string" in (await search(api, {}, f"v1/{path}")).json["detail"]


async def test_the_log_tells_searches_from_ids(api, caplog):
    """The line of a search names it, and nothing of its body."""
    caplog.set_level(logging.INFO, logger="server.request")
    await search(api, {"filter": 'userName eq "secret"'})
    (facts,) = [record.facts for record in caplog.records if record.getMessage() == "request"]
    assert ("POST", "/scim/v2/Users/.search") == (facts["method"], facts["path"])
    assert "secret" not in str(facts)


async def test_a_search_needs_credentials(api):
    """Without them it is a 401, whatever the body."""
    assert 401 == (await api.send("POST", "v2/.search", data=b"{", auth=None)).status


async def test_a_large_body_is_refused(api):
    """64 KiB are read, also where no length is announced; more is a 413."""

    async def chunks(size: int):
        yield b'{"filter":"'
        yield b"x" * size
        yield b'"}'

    for data in (b"{" + b" " * (64 << 10), chunks(70_000)):
        answer = await api.send("POST", "v2/.search", data=data)
        assert 413 == answer.status
        assert "413" == answer.json["status"]
    assert 400 == (await api.send("POST", "v2/.search", data=chunks(30_000))).status


async def test_a_body_that_waits_to_be_asked_for(api):
    """A client that expects 100-continue is told to send its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = ["POST /scim/v2/Users/.search HTTP/1.1", "Host: x", "Connection: close", f"Authorization: {basic()}"]
    writer.write("\r\n".join([*head, "Content-Length: 11", "Expect: 100-Continue", "", ""]).encode())
    async with asyncio.timeout(5):
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await reader.readuntil(b"\r\n\r\n")
        writer.write(b'{"count":1}')
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"itemsPerPage":1,' in answer


async def test_a_body_that_never_comes(api, monkeypatch):
    """Who announces a body and does not send it is told after a time, and does not hold the connection for ever."""
    monkeypatch.setattr("server.resources.BODY_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = ["POST /scim/v2/Users/.search HTTP/1.1", "Host: x", f"Authorization: {basic()}"]
    writer.write("\r\n".join([*head, "Content-Length: 11", "", '{"cou']).encode())
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"status":"408"' in answer


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=10), inner, max_size=3)),
    max_leaves=5,
)
MEMBERS = st.sampled_from(
    ["schemas", "startIndex", "COUNT", "filter", "sortBy", "sortorder", "attributes", "excludedAttributes", "cursor"]
)


@given(st.dictionaries(MEMBERS, JSON, max_size=5))
def test_any_body_is_read_or_refused(body):
    """No members can raise anything but these four, all 400; what is read has numbers within their limits."""
    try:
        found = search_body(json.dumps(body).encode("utf-8", "surrogatepass"), LIMITS)
    except (InvalidFilterError, InvalidSyntaxError, InvalidValueError, InvalidCountError):
        return
    assert 1 <= found.start_index <= MAX_INDEX
    assert 0 <= found.count <= 1000


@given(st.integers(), st.integers(), st.sampled_from(["ascending", "DESCENDING", " Descending "]))
def test_a_body_means_what_the_query_string_means(start, count, order):
    """The same values give the same SearchRequest on both ways."""
    body = {"startIndex": start, "count": count, "sortBy": "userName", "sortOrder": order, "attributes": ["a.b", "c"]}
    query = urlencode({**body, "attributes": "a.b, c"})
    assert search_request(query, LIMITS) == search_body(json.dumps(body).encode(), LIMITS)
