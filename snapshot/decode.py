"""Read published users back: what the next generation carries on without a row, and what rebuilds a lost index."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import orjson

from snapshot.encode import Encoded, encode, milliseconds, time_text
from snapshot.scim import ENTERPRISE_2_0, RESERVED_URNS, USER, DecimalText, Resource

# The first such key is the user's own: inside of a text the quotes are escaped, and only `schemas` and ids come before.
_USER_NAME = re.compile(rb'"userName":("(?:[^"\\]|\\.)*")')

_ID = re.compile(rb'"id":("(?:[^"\\]|\\.)*")')
_DISPLAY_NAME = re.compile(rb'"displayName":("(?:[^"\\]|\\.)*")')
_FORMATTED = re.compile(rb'"name":\{"formatted":("(?:[^"\\]|\\.)*")')
_META = b',"meta":{"resourceType":'


@dataclass(frozen=True, slots=True)
class Decoded:
    """A published resource as the mapping had made it, and its times in ms."""

    resource: Resource
    encoded: Encoded
    created_ms: int
    modified_ms: int


def decode(raw: bytes, resource_type: str = USER) -> Decoded | None:
    """Read one resource of a SCIM 2.0 body; None unless its own meta.version, a digest of the content, proves it."""
    try:
        # Decimals as text: a float would lose digits.
        core: dict[str, Any] = json.loads(raw, parse_float=DecimalText)
        urns = [urn for urn in core.pop("schemas") if urn.casefold() not in RESERVED_URNS]
        meta = core.pop("meta")
        extensions = {urn: core.pop(urn) for urn in urns}
        links = _take_links(core, resource_type)
        if manager := extensions.get(ENTERPRISE_2_0, {}).get("manager"):
            manager.pop("$ref", None)
        name = core["userName"] if resource_type == USER else ""
        resource = Resource(core["id"], name, core.get("active", True), core, extensions, links=links)
        created, modified = milliseconds(meta["created"]), milliseconds(meta["lastModified"])
        # Whether meta.created was mapped then, only the digest tells.
        for resource.created in (None, time_text(created).decode("ascii")):
            encoded = Encoded(encode(resource))
            if meta["version"] == f'W/"{encoded.fingerprint.hex()}"':
                return Decoded(resource, encoded, created, modified)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def _take_links(core: dict[str, Any], resource_type: str) -> dict[str, list[dict[str, Any]]]:
    """Take what refers to other resources out of the attributes, without what only SCIM 2.0 says of it.

    Of a user these come behind `active`, the last attribute of the row.
    """
    names = list(core)
    names = names[names.index("active") + 1 :] if resource_type == USER and "active" in core else ["members"]
    links = {name: core.pop(name) for name in names if name in core}
    for name, entries in links.items():
        for entry in entries:
            entry.pop("$ref", None)
            if name == "members" and entry.get("type") == USER:
                del entry["type"]
    return links


def shown_name_of(raw: bytes | memoryview) -> tuple[str, str]:
    """Return (id, the name by which others show the user) of one SCIM 2.0 user, without decoding the rest."""
    text = bytes(raw)
    # Behind meta a manager has a displayName too.
    text = text[: text.index(_META)]
    found = _DISPLAY_NAME.search(text) or _FORMATTED.search(text) or _USER_NAME.search(text)
    resource_id = _ID.search(text)
    assert found is not None  # noqa: S101 (every user has a userName)
    assert resource_id is not None  # noqa: S101
    return orjson.loads(resource_id[1]), orjson.loads(found[1])


def display_name_of(raw: bytes | memoryview) -> str | None:
    """Return the displayName of one group or entitlement, without decoding the rest."""
    found = _DISPLAY_NAME.search(raw)
    return None if found is None else orjson.loads(found[1])


def user_name_of(raw: bytes | memoryview) -> str | None:
    """Return the userName of one encoded user, without decoding the rest."""
    found = _USER_NAME.search(raw)
    return None if found is None else orjson.loads(found[1])
