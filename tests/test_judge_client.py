"""scim2-client, made by others, discovers, lists, filters, sorts and reads the running application.

What it receives is compared with what was published. Its models are made of what discovery says and refuse anything
else, so it is given the base path without Okta's extension.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from scim2_clients import connected, endpoints, published, received, with_instants
from scim2_models import InvalidFilterException, ResponseParameters, SCIMException, SearchRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scim2_client.engines.httpx2 import SyncSCIMClient

ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PARTS = {"attributes", "excluded_attributes"}


@pytest.fixture
def client(judged) -> Iterator[SyncSCIMClient]:
    """A client that has discovered the server."""
    scim = connected(judged)
    with scim.client:
        scim.discover()
        yield scim


def test_a_client_discovers_the_directory(client, judged):
    """The client builds a model for every resource type out of what discovery says, extensions included."""
    assert list(endpoints(judged)) == [item.name for item in client.provider.resource_types]
    model = client.get_resource_model("User")
    assert set(judged.config.mapping.extension_urns) == set(model.get_extension_models())
    config = client.provider.config
    assert (True, False) == (config.filter.supported, config.patch.supported)


def test_a_client_lists_everything_by_pages(client, judged):
    """Pages of 37 hold everything that was published, each once, in the order of the files, with every value."""
    for kind in endpoints(judged):
        resources: list[Any] = []
        while True:
            request = SearchRequest(start_index=len(resources) + 1, count=37)
            page = client.query(kind, query_parameters=request)
            resources += page.resources or []
            if len(resources) >= page.total_results:
                break
        expected = published(judged, kind)
        assert list(expected) == [item.id for item in resources]
        assert expected == received(resources)


def test_a_client_gets_everything_by_id(client, judged):
    """A resource by its id, in its extensions too, is what was published; so are ids that have to be encoded."""
    for kind in endpoints(judged):
        for resource_id, expected in published(judged, kind).items():
            found = client.query(kind, resource_id)
            assert expected == with_instants(found.model_dump())


def filters_of(people: dict[str, dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Yield filters, and the ids of the people that each selects."""
    last = list(people.values())[-1]
    quoted = json.dumps(last["userName"])
    email = next(item["emails"][-1]["value"] for item in people.values() if "emails" in item)
    department = next(item[ENTERPRISE]["department"] for item in people.values() if ENTERPRISE in item)
    newest = max(item["meta"]["lastModified"] for item in people.values())
    yield f"userName eq {quoted}", [last["id"]]
    yield f"id eq {json.dumps(last['id'])} and active eq false", [last["id"]] if not last["active"] else []
    yield f'emails.value eq "{email}"', _ids(people, lambda one: email in _values(one, "emails"))
    yield (
        f'{ENTERPRISE}:department eq "{department}"',
        _ids(people, lambda one: one.get(ENTERPRISE, {}).get("department") == department),
    )
    group = next((one["groups"][-1]["value"] for one in people.values() if "groups" in one), "none")
    yield f'groups eq "{group}"', _ids(people, lambda one: group in _values(one, "groups"))
    yield "entitlements pr or roles pr", _ids(people, lambda one: "entitlements" in one or "roles" in one)
    yield f'userName eq {quoted} or (active eq false and userName eq "nobody")', [last["id"]]
    yield f'meta.lastModified gt "{newest.isoformat()}"', []
    before = min(item["meta"]["lastModified"] for item in people.values())
    yield f'meta.lastModified gt "{before.isoformat()}"', _ids(people, lambda one: one["meta"]["lastModified"] > before)


def _ids(people: dict[str, dict[str, Any]], test: Callable[[dict[str, Any]], bool]) -> list[str]:
    return [key for key, one in people.items() if test(one)]


def _values(person: dict[str, Any], name: str) -> list[str]:
    return [item["value"] for item in person.get(name, [])]


def test_a_client_filters(client, judged):
    """Each filter selects from what was published whom it should, whole and in order."""
    model = client.get_resource_model("User")
    people = published(judged)
    for text, expected in filters_of(people):
        found = client.query(model, query_parameters=SearchRequest(filter=text, count=5000))
        assert expected == [item.id for item in found.resources or []], text
        assert {key: people[key] for key in expected} == received(found.resources or [])


def test_a_client_is_told_what_is_wrong(client):
    """A filter that is none is invalidFilter, an unknown user 404, in the client's own exceptions."""
    model = client.get_resource_model("User")
    with pytest.raises(InvalidFilterException):
        client.query(model, query_parameters={"filter": "SOMETHINGWITHOUTOPERATOR"})
    with pytest.raises(SCIMException) as missing:
        client.query(model, "nobody")
    assert 404 == missing.value.status


def test_a_client_asks_for_parts(client, judged):
    """With attributes a resource has those and what is always returned; with excludedAttributes all but those."""
    model = client.get_resource_model("User")
    people = published(judged)
    wanted = SearchRequest(attributes=["userName", "name.givenName", f"{ENTERPRISE}:department"], count=5000)
    left_out = SearchRequest(excluded_attributes=["emails", "name.givenName", "meta"], count=5000)
    for request, expect in ((wanted, _wanted), (left_out, _left_out)):
        listed = client.query(model, query_parameters=request)
        assert {key: expect(one) for key, one in people.items()} == {
            key: {name: value for name, value in one.items() if name != "schemas"}
            for key, one in received(listed.resources).items()
        }
        first = next(iter(people))
        single = client.query(model, first, query_parameters=ResponseParameters(**request.model_dump(include=PARTS)))
        # The client itself fills meta.version from the ETag.
        assert _without_meta(listed.resources[0]) == _without_meta(single)


def _without_meta(resource: Any) -> dict[str, Any]:
    return {name: value for name, value in resource.model_dump().items() if name != "meta"}


def _wanted(person: dict[str, Any]) -> dict[str, Any]:
    given = {"givenName": person["name"]["givenName"]} if "name" in person else {}
    department = {name: value for name, value in person.get(ENTERPRISE, {}).items() if name == "department"}
    parts = {"name": given, ENTERPRISE: department}
    return {
        "id": person["id"],
        "userName": person["userName"],
        **{name: part for name, part in parts.items() if part},
    }


def _left_out(person: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in person.items() if name not in {"schemas", "emails", "meta", "name"}}
    name = {key: value for key, value in person.get("name", {}).items() if key != "givenName"}
    return kept | ({"name": name} if name else {})


def test_a_client_sorts(client, judged):
    """sortBy orders by the folded text, sortOrder turns it round, and everybody is there."""
    model = client.get_resource_model("User")
    expected = sorted(published(judged).values(), key=lambda one: one["userName"].casefold())
    for order, people in (("ascending", expected), ("descending", expected[::-1])):
        request = SearchRequest(sort_by="userName", sort_order=order, count=5000)
        found = client.query(model, query_parameters=request).resources
        assert [one["userName"] for one in people] == [one.user_name for one in found]


def test_a_client_searches_in_a_body(client, judged):
    """POST .search under a type answers as GET does, under the root over all types."""
    model = client.get_resource_model("User")
    request = SearchRequest(filter="active eq false", count=5000)
    expected = _ids(published(judged), lambda one: not one["active"])
    assert expected == [item.id for item in client.search(model, request).resources]
    everything = [key for kind in endpoints(judged) for key in published(judged, kind)]
    found = client.search(SearchRequest(count=5000))
    assert (len(everything), everything) == (found.total_results, [item.id for item in found.resources])


def test_a_client_asks_whether_something_changed(client):
    """A client that has a version asks with If-None-Match and keeps what it has: the answer is 304."""
    known = client.query(client.get_resource_model("User")).resources[0]
    assert client.provider.config.etag.supported
    assert known is client.query(known)


def test_a_client_lists_by_cursor(client, judged):
    """Pages that lead from cursor to cursor hold everything that was published, each once."""
    model = client.get_resource_model("User")
    assert client.provider.config.pagination.cursor
    people = published(judged)
    page = client.query(model, query_parameters=SearchRequest(cursor="", count=97))
    resources = list(page.resources)
    while page.next_cursor:
        page = client.query(model, query_parameters=SearchRequest(cursor=page.next_cursor, count=97))
        resources += page.resources
    assert people == received(resources)
    assert list(people) == [item.id for item in resources]
