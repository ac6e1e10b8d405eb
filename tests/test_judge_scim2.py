"""scim2-tester, made by others, judges the running application as a SCIM 2.0 service provider.

It is strict: it refuses any key that no schema describes, so it is given the base path without Okta's extension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import scim2_tester.checkers
import scim2_tester.checkers.resource_query_attributes as attribute_checks
from judged_directory import NEW, STRICT, judged_demo
from scim2_clients import connected
from scim2_models import Path, Required, SCIMException
from scim2_tester import Status, check_server
from scim2_tester.utils import ResourceManager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from judged_directory import Judged
    from scim2_client.engines.httpx2 import SyncSCIMClient

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
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
READS = {
    "object_query",
    "object_query_without_id",
    "object_query_with_attributes",
    "object_list_with_attributes",
    "search_with_attributes",
}
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


TAGS = {"discovery", "misc", "crud:read", "crud:read:attributes"}


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory) -> Iterator[Judged]:
    """A demo so small that everything stands on the first page: the tester looks at no other."""
    with judged_demo(tmp_path_factory.mktemp("small"), people=30) as judged:
        yield judged


def _fullest(client: SyncSCIMClient, model: Any) -> Any:
    """Return the resource on the first page that has the most attributes."""
    return max(client.query(model).resources, key=lambda resource: len(resource.model_dump()))


def test_the_tester_has_nothing_to_complain_of(small_demo, monkeypatch):
    """scim2-tester passes discovery, errors and all of its read checks for every resource type that has resources.

    It reads what it has created. Here nothing can be created, so it is handed a listed resource instead; and every
    attribute is readOnly, which it would not ask for, so it is told to ask for two that this resource has.
    """
    client = connected(small_demo)
    kinds = small_demo.get(f"{STRICT}/ResourceTypes").json["Resources"]
    # The tester asks for a resource by its model alone, so it finds a type only by the last word of its schema's URN:
    # Okta's types of entitlements, which share one schema under names of their own, are read in test_judge_client.py.
    found = {kind["name"]: kind["endpoint"] for kind in kinds if kind["schema"].endswith(f":{kind['name']}")}
    filled = [name for name, endpoint in found.items() if small_demo.resources(STRICT, endpoint)]

    def two_attributes(model: Any) -> tuple[str, str | None]:
        """Return one to ask for and one to leave out, which may not be a required one."""
        names = [name for name in _fullest(client, model).model_dump() if name not in {"schemas", "id", "meta"}]
        plain = [name for name in names if ":" not in name]
        optional = [name for name in plain if not _is_required(model, name)]
        return plain[0], optional[-1] if optional else None

    monkeypatch.setattr(
        ResourceManager, "create_and_register", lambda manager, model, **_: _fullest(manager.context.client, model)
    )
    monkeypatch.setattr(attribute_checks, "_pick_attribute_names", two_attributes)
    with client.client:
        results = check_server(client, include_tags=TAGS, resource_types=filled)
    assert "User" in filled
    assert [] == [result for result in results if result.title not in WRITES and result.status != Status.SUCCESS]
    judged_titles = {result.title for result in results if result.status == Status.SUCCESS}
    assert DISCOVERY | READS == judged_titles
    for name in filled:
        assert READS | WRITES == {result.title for result in results if result.resource_type == name}


def test_every_check_of_the_tester_is_known():
    """A check that a new release brings is noticed here, and is then either run or left out with a reason.

    `core_schemas_validation` is one that check_server does not run: it demands that /Schemas describes the discovery
    documents too. RFC 7644 section 4 has it describe the resources that are served. `resource_type_tests` runs others.
    """
    left_out = {"core_schemas_validation", "resource_type_tests"}
    assert set(scim2_tester.checkers.__all__) == READS | DISCOVERY | WRITES | left_out


def test_writes_that_the_tester_would_make_are_refused(small_demo):
    """What is left out of the tester's checks is a POST, and that is 405 with a SCIM error."""
    client = connected(small_demo)
    with client.client, pytest.raises(SCIMException) as refusal:
        client.create({"schemas": [USER], "userName": "new"}, url="/Users", check_request_payload=False)
    assert 405 == refusal.value.status


def _is_required(model: Any, name: str) -> bool:
    return Path[model](name).resolve().get_annotation(Required) == Required.true


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
