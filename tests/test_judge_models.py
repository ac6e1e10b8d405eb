"""scim2-models, made by others after RFC 7643 and RFC 7644, reads every 2.0 body and refuses what it does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from judged_directory import NEW, STRICT
from pydantic import ValidationError
from scim2_models import (
    Context,
    EnterpriseUser,
    Error,
    Extension,
    Group,
    ListResponse,
    Resource,
    ResourceType,
    Schema,
    ServiceProviderConfig,
    User,
)
from server_process import Client
from whole_people import EVERYTHING

if TYPE_CHECKING:
    from judged_directory import Judged

STANDARD = {str(model.__schema__): model for model in (User, EnterpriseUser, Group)}
ANSWER = Context.RESOURCE_QUERY_RESPONSE


def models(judged: Judged) -> dict[str, type[Resource[Any]]]:
    """Return a model for each endpoint: the standard's own where it has one, our /Schemas for the rest."""
    found = {}
    for kind in judged.get(f"{NEW}/ResourceTypes").json["Resources"]:
        extensions = [_model(judged, item["schema"], Extension) for item in kind.get("schemaExtensions", ())]
        model = _model(judged, kind["schema"], Resource)
        for extension in extensions[1:]:
            extensions[0] |= extension
        found[kind["endpoint"]] = model[extensions[0]] if extensions else model
    return found


def _model(judged: Judged, urn: str, base: Any) -> Any:
    if urn in STANDARD:
        return STANDARD[urn]
    return base.from_schema(Schema.model_validate(judged.get(f"{NEW}/Schemas/{urn}").json))


def test_every_resource_is_read_by_the_models_of_the_standard(judged):
    """Each page is a ListResponse of the standard's resources, and each resource by its id is the one of the list."""
    for endpoint, model in models(judged).items():
        for page in judged.pages(NEW, endpoint):
            read = ListResponse[model].model_validate_json(page.body, scim_ctx=ANSWER)
            assert page.json["itemsPerPage"] == len(read.resources)
            for listed in page.json["Resources"]:
                answer = judged.get(f"{NEW}{endpoint}/{quote(listed['id'], safe='')}")
                assert listed == answer.json
                assert listed["id"] == model.model_validate_json(answer.body, scim_ctx=ANSWER).id


def test_what_is_read_is_what_was_mapped(whole_server):
    """Every attribute of a user who has all of them has its value in the model."""
    model = models(whole_server)["/Users"]
    read = model.model_validate_json(whole_server.get(f"{NEW}/Users/E1").body, scim_ctx=ANSWER).model_dump()
    assert ["T1", "T2"] == [group["value"] for group in read.pop("groups")]
    assert EVERYTHING == {name: value for name, value in read.items() if name not in {"schemas", "meta"}}


@pytest.mark.parametrize("change", [{"foo": 1}, {"name": {"foo": "x"}}, {"active": "maybe"}, {"meta": {"foo": 1}}])
def test_the_models_are_strict(whole_server, change):
    """The models refuse an attribute that the standard does not know and a value of another type."""
    model = models(whole_server)["/Users"]
    body = {**whole_server.get(f"{NEW}/Users/E1").json, **change}
    with pytest.raises(ValidationError):
        model.model_validate(body, scim_ctx=ANSWER)


@pytest.mark.parametrize(("name", "model"), [("ResourceTypes", ResourceType), ("Schemas", Schema)])
def test_discovery_lists_are_read(judged, name, model):
    """Discovery lists are ListResponses, and each document by its id is the one of the list."""
    answer = judged.get(f"{NEW}/{name}")
    read = ListResponse[model].model_validate_json(answer.body, scim_ctx=ANSWER)
    assert answer.json["totalResults"] == len(read.resources) > 0
    for item in answer.json["Resources"]:
        single = judged.get(f"{NEW}/{name}/{item['id']}")
        assert item["id"] == str(model.model_validate_json(single.body, scim_ctx=ANSWER).id)


def test_the_configuration_is_read(judged):
    """The ServiceProviderConfig without Okta's extension is one of the standard, and says what it says."""
    answer = judged.get(f"{STRICT}/ServiceProviderConfig")
    read = ServiceProviderConfig.model_validate_json(answer.body, scim_ctx=ANSWER)
    assert answer.json == read.model_dump()


@pytest.mark.parametrize(
    ("status", "kind", "target"),
    [
        (404, None, "/Users/nope"),
        (404, None, "/nowhere"),
        (404, None, "/Schemas/nope"),
        (400, "invalidFilter", "/Users?filter=SOMETHINGWITHOUTOPERATOR"),
        (400, "invalidValue", "/Users?startIndex=abc"),
        (403, None, "/Schemas?filter=id%20pr"),
        (501, None, "/Me"),
    ],
)
def test_errors_are_read(whole_server, status, kind, target):
    """An error has the status of its answer, the scimType of the RFC and a detail."""
    answer = whole_server.client.get(f"{NEW}{target}")
    read = Error.model_validate_json(answer.body)
    assert (status, status, kind) == (answer.status, read.status, read.scim_type)
    assert read.detail


def test_the_refused_login_is_read(whole_server):
    """A 401 is an Error too."""
    stranger = Client(whole_server.port, password="wrong")
    answer = stranger.get(f"{NEW}/Users")
    stranger.close()
    assert (401, 401) == (answer.status, Error.model_validate_json(answer.body).status)
