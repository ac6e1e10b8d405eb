"""The discovery documents of one base path as ready bytes: ServiceProviderConfig, ResourceTypes, Schemas.

Only what is true is announced. 2.0: RFC 7643 sections 5 to 7. 1.1: SCIM Core Schema 1.1 sections 9 and
10; a strict 1.1 client refuses 2.0 keys. The Okta extension tells Okta's agent to import and never to
push; strict 2.0 clients refuse it, so a base path can leave it out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from server.described import DescribedSchema, core_schema, extensions
from server.envelope import document_list
from server.preconditions import entity_tag
from snapshot.resource_types import resource_types
from snapshot.schema import COMPLEX, REFERENCE, STRING, Attribute
from snapshot.scim import (
    CORE_1_1,
    ENTERPRISE_1_1,
    ENTERPRISE_2_0,
    LIST_RESPONSE_2_0,
    OKTA_PROVIDER_CONFIG,
    RESOURCE_TYPE_2_0,
    SCHEMA_2_0,
    SERVICE_PROVIDER_CONFIG_2_0,
    ScimVersion,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from snapshot.config import BasePath, Config

# Import only: with anything else, or without the extension, Okta would push changes.
OKTA_CAPABILITIES = ("IMPORT_NEW_USERS", "IMPORT_PROFILE_UPDATES", "OPP_SCIM_INCREMENTAL_IMPORTS")
# Makes Okta ask for ResourceTypes, and for the roles and entitlements that it finds there.
OKTA_DISCOVERY = "IMPORT_USER_SCHEMA"
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
        capabilities = list(OKTA_CAPABILITIES)
        if config.entitlements and not old:
            capabilities.append(OKTA_DISCOVERY)
        document[OKTA_PROVIDER_CONFIG] = {"userManagementCapabilities": capabilities}
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
            if added := extensions(config, item.name, version):
                document["schemaExtensions"] = [{"schema": one.urn, "required": False} for one in added]
            document["meta"] = {"resourceType": "ResourceType", "location": f"{url}/ResourceTypes/{item.name}"}
        documents.append(document)
    return documents


def _schemas(config: Config, url: str) -> list[dict[str, Any]]:
    version = ScimVersion.V2_0
    found: dict[str, DescribedSchema] = {}
    for item in resource_types(config):
        for schema in (core_schema(config, item.name, version), *extensions(config, item.name, version)):
            known = found.get(schema.urn)
            # Several types may share one: what any of them has belongs to it.
            more = [one for one in known.attributes if one not in schema.attributes] if known else []
            found[schema.urn] = replace(schema, attributes=(*schema.attributes, *more))
    return [
        {
            "schemas": [SCHEMA_2_0],
            "id": schema.urn,
            "name": schema.name,
            "description": schema.description,
            "attributes": [_attribute(item) for item in schema.attributes],
            "meta": {"resourceType": "Schema", "location": f"{url}/Schemas/{schema.urn}"},
        }
        for schema in found.values()
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
    version = ScimVersion.V1_1
    documents = []
    for item in resource_types(config):
        if version not in item.versions:
            continue
        attributes = [*_old_attributes(core_schema(config, item.name, version).attributes, CORE_1_1)]
        for added in extensions(config, item.name, version):
            urn = ENTERPRISE_1_1 if added.urn == ENTERPRISE_2_0 else added.urn
            attributes.extend(_old_attributes(added.attributes, urn))
        documents.append(
            {
                "id": f"{CORE_1_1}:{item.name}",
                "name": item.name,
                "description": item.name,
                "schema": CORE_1_1,
                "endpoint": item.endpoint,
                "attributes": attributes,
            }
        )
    return documents


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
