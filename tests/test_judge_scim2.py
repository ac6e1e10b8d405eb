"""scim2-tester and scim2-client, made by others, judge the running application as a SCIM 2.0 service provider.

Both are strict: they refuse any key that no schema describes, so they are given the base path without Okta's extension.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from httpx2 import Client
from judged_directory import NEW, STRICT, judged_demo
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_models import InvalidFilterException, SCIMException, SearchRequest
from scim2_tester import Status, check_server
from scim2_tester.utils import ResourceManager

from snapshot.reader import open_snapshot
from snapshot.scim import ScimVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from judged_directory import Judged

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
OKTA_CONFIG = "urn:okta:schemas:scim:providerconfig:1.0"
# The checks of a server that can be written to. They begin with a POST, which is 405 here.
WRITES = {
    "object_creation",
    "object_replacement",
    "object_deletion",
    "check_add_attribute",
    "check_remove_attribute",
    "check_replace_attribute",
}
READS = {"object_query", "object_query_without_id"}
PROJECTIONS = {"object_query_with_attributes", "object_list_with_attributes", "search_with_attributes"}
DISCOVERY = {
    "service_provider_config_endpoint",
    "service_provider_config_endpoint_methods",
    "query_all_resource_types",
    "query_resource_type_by_id",
    "resource_types_schema_validation",
    "access_invalid_resource_type",
    "resource_types_endpoint_methods",
    "query_all_schemas",
    "access_schema_by_id",
    "access_invalid_schema",
    "schemas_endpoint_methods",
    "random_url",
}


TAGS = {"discovery", "misc", "crud:read"}


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory) -> Iterator[Judged]:
    """A demo so small that everything stands on the first page: the tester looks at no other."""
    with judged_demo(tmp_path_factory.mktemp("small"), people=30) as judged:
        yield judged


def endpoints(judged: Judged) -> dict[str, str]:
    """Return the endpoint of each resource type by its name."""
    return {item["name"]: item["endpoint"] for item in judged.get(f"{STRICT}/ResourceTypes").json["Resources"]}


def published(judged: Judged, kind: str = "User") -> dict[str, dict[str, Any]]:
    """Return the resources of the newest generation by id, read from its files."""
    snapshot = open_snapshot(judged.config.data_dir)
    body = bytes(snapshot.resources(kind, ScimVersion.V2_0, 0, snapshot.count(kind)))
    return {item["id"]: with_instants(item) for item in json.loads(b"[" + body + b"]")}


def received(resources: Any) -> dict[str, dict[str, Any]]:
    """Return what the client's models hold, by id, in order."""
    return {item.id: with_instants(item.model_dump()) for item in resources}


def with_instants(value: Any) -> Any:
    """Return JSON with its dates and times as instants: the client's models write them in another way."""
    if isinstance(value, dict):
        return {name: with_instants(item) for name, item in value.items()}
    if isinstance(value, list):
        return [with_instants(item) for item in value]
    if isinstance(value, str) and INSTANT.fullmatch(value):
        return datetime.fromisoformat(value)
    return value


def connected(judged: Judged, base: str = STRICT) -> SyncSCIMClient:
    return SyncSCIMClient(Client(base_url=judged.origin + base, auth=judged.credentials))


@pytest.fixture
def client(judged) -> Iterator[SyncSCIMClient]:
    """A client that has discovered the server."""
    scim = connected(judged)
    with scim.client:
        scim.discover()
        yield scim


def _fullest(client: SyncSCIMClient, model: Any) -> Any:
    """Return the resource on the first page that has the most attributes."""
    return max(client.query(model).resources, key=lambda resource: len(resource.model_dump()))


def test_the_tester_has_nothing_to_complain_of(small_demo, monkeypatch):
    """scim2-tester passes discovery, errors and its read checks of whole resources for every resource type that has resources.

    It reads what it has created. Here nothing can be created, so it is handed a listed resource instead.
    """
    client = connected(small_demo)
    filled = [name for name, endpoint in endpoints(small_demo).items() if small_demo.resources(STRICT, endpoint)]
    monkeypatch.setattr(
        ResourceManager, "create_and_register", lambda manager, model, **_: _fullest(manager.context.client, model)
    )
    with client.client:
        results = check_server(client, include_tags=TAGS, resource_types=filled)
    assert "User" in filled
    assert [] == [
        result for result in results if result.title not in WRITES | PROJECTIONS and result.status != Status.SUCCESS
    ]
    judged_titles = {result.title for result in results if result.status == Status.SUCCESS}
    assert DISCOVERY | READS == judged_titles
    for name in filled:
        assert READS | WRITES | PROJECTIONS == {result.title for result in results if result.resource_type == name}


def test_writes_that_the_tester_would_make_are_refused(client):
    """What is left out of the tester's checks is a POST, and that is 405 with a SCIM error."""
    with pytest.raises(SCIMException) as refusal:
        client.create({"schemas": [USER], "userName": "new"}, url="/Users", check_request_payload=False)
    assert 405 == refusal.value.status


def test_oktas_extension_is_the_one_difference(judged):
    """With okta_extension the configuration has one more key and its URN; what else it says is byte for byte the same."""
    plain = judged.get(f"{STRICT}/ServiceProviderConfig").json
    full = judged.get(f"{NEW}/ServiceProviderConfig").json
    assert {OKTA_CONFIG} == full.keys() - plain.keys()
    del full[OKTA_CONFIG]
    full["schemas"].remove(OKTA_CONFIG)
    assert full == plain
    for target in ("/ResourceTypes", "/Schemas", "/Users?count=50", "/Groups?count=50"):
        assert judged.get(f"{STRICT}{target}").body == judged.get(f"{NEW}{target}").body


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
            page = client.query(client.get_resource_model(kind), query_parameters=request)
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
            found = client.query(client.get_resource_model(kind), resource_id)
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
