"""The discovery documents of one base path as ready bytes: ServiceProviderConfig, ResourceTypes, Schemas.

Only what is true is announced. 2.0: RFC 7643 sections 5 to 7. 1.1: SCIM Core Schema 1.1 sections 9 and
10; a strict 1.1 client refuses 2.0 keys. The Okta extension tells Okta's agent to import and never to
push; strict 2.0 clients refuse it, so a base path can leave it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from server.described import served_extension_attributes, served_user_attributes
from server.envelope import document_list
from server.preconditions import entity_tag
from snapshot.resource_types import resource_types
from snapshot.schema import COMPLEX, GROUP_ATTRIBUTES, REFERENCE, STRING, Attribute
from snapshot.scim import (
    CORE_1_1,
    ENTERPRISE_1_1,
    ENTERPRISE_2_0,
    GROUP_2_0,
    LIST_RESPONSE_2_0,
    OKTA_PROVIDER_CONFIG,
    RESOURCE_TYPE_2_0,
    SCHEMA_2_0,
    SERVICE_PROVIDER_CONFIG_2_0,
    USER,
    USER_2_0,
    ScimVersion,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from snapshot.config import BasePath, Config

# Import only: with anything else, or without the extension, Okta would push changes.
OKTA_CAPABILITIES = ("IMPORT_NEW_USERS", "IMPORT_PROFILE_UPDATES", "OPP_SCIM_INCREMENTAL_IMPORTS")
# SCIM 1.1 defines neither ResourceTypes nor a ListResponse URN; Okta's 1.1 test suite looks for both.
LIST_RESPONSE_1_1 = "urn:scim:schemas:core:1.0:ListResponse"
_LIST_SCHEMAS: dict[ScimVersion, tuple[str, ...]] = {
    ScimVersion.V1_1: (CORE_1_1, LIST_RESPONSE_1_1),
    ScimVersion.V2_0: (LIST_RESPONSE_2_0,),
}
_SCHEMES = {
    "basic": ("httpbasic", "HTTP Basic", "User name and password in the Authorization header (RFC 7617)."),
    "bearer": ("oauthbearertoken", "Bearer token", "A fixed token in the Authorization header (RFC 6750)."),
}


class Document:
    """One document as bytes, and its entity tag."""

    __slots__ = ("body", "tag")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.tag = entity_tag(body)


@dataclass(frozen=True, slots=True)
class Documents:
    """What discovery answers under one base path. Keys of `resource_type` and `schema` are case-folded."""

    service_provider_config: Document
    resource_types: Document
    resource_type: Mapping[str, Document]
    schemas: Document
    schema: Mapping[str, Document]


def make_documents(config: Config, base: BasePath) -> Documents:
    """Make the documents of one base path."""
    version = base.version
    url = config.base_url(version)
    types = _resource_types(config, version, url)
    schemas = _old_schemas(config) if version is ScimVersion.V1_1 else _schemas(config, url)
    return Documents(
        service_provider_config=Document(orjson.dumps(_service_provider_config(config, base, url))),
        resource_types=Document(document_list(_LIST_SCHEMAS[version], types)),
        resource_type={str(item["id"]).casefold(): Document(orjson.dumps(item)) for item in types},
        schemas=Document(document_list(_LIST_SCHEMAS[version], schemas)),
        schema={str(item["id"]).casefold(): Document(orjson.dumps(item)) for item in schemas},
    )


def _service_provider_config(config: Config, base: BasePath, url: str) -> dict[str, Any]:
    old = base.version is ScimVersion.V1_1
    yes, no = {"supported": True}, {"supported": False}
    largest = config.server.max_count
    document: dict[str, Any] = {
        "schemas": [CORE_1_1 if old else SERVICE_PROVIDER_CONFIG_2_0],
        "patch": no,
        "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": True, "maxResults": largest},
        "changePassword": no,
        "sort": yes,
        "etag": yes,
        "authenticationSchemes": _authentication_schemes(config),
    }
    if base.okta_extension:
        document["schemas"].append(OKTA_PROVIDER_CONFIG)
        document[OKTA_PROVIDER_CONFIG] = {"userManagementCapabilities": list(OKTA_CAPABILITIES)}
    if not old:
        # RFC 9865 section 4. No cursorTimeout: a cursor lives as long as its generation is kept, not for a time.
        document["pagination"] = {
            "cursor": True,
            "index": True,
            "defaultPaginationMethod": "index",
            "defaultPageSize": config.server.default_count,
            "maxPageSize": largest,
        }
        location = f"{url}/ServiceProviderConfig"
        document["meta"] = {"resourceType": "ServiceProviderConfig", "location": location}
    return document


def _authentication_schemes(config: Config) -> list[dict[str, Any]]:
    """Return the kinds that have a name in RFC 7643 section 5; a header of one's own has none."""
    kinds = dict.fromkeys(item.type for item in config.server.auth if item.type in _SCHEMES)
    schemes: list[dict[str, Any]] = []
    for kind in kinds:
        name_on_wire, name, description = _SCHEMES[kind]
        schemes.append({"type": name_on_wire, "name": name, "description": description, "primary": not schemes})
    return schemes


def _resource_types(config: Config, version: ScimVersion, url: str) -> list[dict[str, Any]]:
    urns = config.mapping.extension_urns
    old = version is ScimVersion.V1_1
    documents = []
    for item in resource_types(config):
        if version not in item.versions:
            continue
        document: dict[str, Any] = {
            "id": item.name,
            "name": item.name,
            "endpoint": item.endpoint,
            "description": item.description,
            "schema": CORE_1_1 if old else item.urn,
        }
        if not old:
            document = {"schemas": [RESOURCE_TYPE_2_0], **document}
            if item.name == USER and urns:
                document["schemaExtensions"] = [{"schema": urn, "required": False} for urn in urns]
            document["meta"] = {"resourceType": "ResourceType", "location": f"{url}/ResourceTypes/{item.name}"}
        documents.append(document)
    return documents


def _schemas(config: Config, url: str) -> list[dict[str, Any]]:
    mapping = config.mapping
    found = [(USER_2_0, "User", "User Account", served_user_attributes(mapping))]
    for urn in mapping.extension_urns:
        enterprise = urn == ENTERPRISE_2_0
        name = "EnterpriseUser" if enterprise else "CustomUser"
        description = "Enterprise User" if enterprise else "Attributes of this directory's own"
        found.append((urn, name, description, served_extension_attributes(mapping, urn)))
    found.append((GROUP_2_0, "Group", "Group", GROUP_ATTRIBUTES))
    return [
        {
            "schemas": [SCHEMA_2_0],
            "id": urn,
            "name": name,
            "description": description,
            "attributes": [_attribute(item) for item in attributes],
            "meta": {"resourceType": "Schema", "location": f"{url}/Schemas/{urn}"},
        }
        for urn, name, description, attributes in found
    ]


def _attribute(item: Attribute) -> dict[str, Any]:
    """Return one attribute definition (RFC 7643 section 7); everything is read-only here."""
    document: dict[str, Any] = {
        "name": item.name,
        "type": item.type,
        "multiValued": item.multi_valued,
        "description": item.description,
        "required": item.required,
        "caseExact": item.case_exact,
        "mutability": "readOnly",
        "returned": "default",
        "uniqueness": item.uniqueness,
    }
    if item.reference_types:
        document["referenceTypes"] = list(item.reference_types)
    if item.type == COMPLEX:
        document["subAttributes"] = [_attribute(sub) for sub in item.sub_attributes]
    return document


def _old_schemas(config: Config) -> list[dict[str, Any]]:
    """Return the 1.1 documents: one a resource, extension attributes inside under their own URN."""
    mapping = config.mapping
    user = [*_old_attributes(served_user_attributes(mapping), CORE_1_1)]
    for urn in mapping.extension_urns:
        old_urn = ENTERPRISE_1_1 if urn == ENTERPRISE_2_0 else urn
        user.extend(_old_attributes(served_extension_attributes(mapping, urn), old_urn))
    named: Sequence[tuple[str, str, list[dict[str, Any]]]] = (
        ("User", "/Users", user),
        ("Group", "/Groups", [*_old_attributes(GROUP_ATTRIBUTES, CORE_1_1)]),
    )
    return [
        {
            "id": f"{CORE_1_1}:{name}",
            "name": name,
            "description": name,
            "schema": CORE_1_1,
            "endpoint": endpoint,
            "attributes": attributes,
        }
        for name, endpoint, attributes in named
    ]


def _old_attributes(attributes: Iterable[Attribute], urn: str) -> Iterable[dict[str, Any]]:
    """Yield attribute definitions of SCIM Core Schema 1.1 section 10."""
    for item in attributes:
        document: dict[str, Any] = {
            "name": item.name,
            "type": _old_type(item),
            "multiValued": item.multi_valued,
            "description": item.description,
            "schema": urn,
            "readOnly": True,
            "required": item.required,
            "caseExact": item.case_exact,
        }
        if item.multi_valued:
            document["multiValuedAttributeChildName"] = item.name.removesuffix(
                "es" if item.name == "addresses" else "s"
            )
        if item.type == COMPLEX:
            document["subAttributes"] = [
                {
                    "name": "managerId" if (item.name, sub.name) == ("manager", "value") else sub.name,
                    "type": _old_type(sub),
                    "description": sub.description,
                    "readOnly": True,
                    "required": sub.required,
                    "caseExact": sub.case_exact,
                }
                for sub in item.sub_attributes
            ]
        yield document


def _old_type(item: Attribute) -> str:
    """Return the type in 1.1, which has no references."""
    return STRING if item.type == REFERENCE else item.type
