"""Read published users back: what the next generation carries on without a row, and what rebuilds a lost index."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import orjson

from snapshot.encode import Encoded, encode, milliseconds, time_text
from snapshot.scim import RESERVED_URNS, DecimalText, Resource

# The first such key is the user's own: inside of a text the quotes are escaped, and only `schemas` and ids come before.
_USER_NAME = re.compile(rb'"userName":("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True, slots=True)
class Decoded:
    """A published user as the mapping had made it, and its times in ms."""

    resource: Resource
    encoded: Encoded
    created_ms: int
    modified_ms: int


def decode(raw: bytes) -> Decoded | None:
    """Read one user of a SCIM 2.0 body; None unless its own meta.version, a digest of the content, proves it."""
    try:
        # Decimals as text: a float would lose digits.
        core: dict[str, Any] = json.loads(raw, parse_float=DecimalText)
        urns = [urn for urn in core.pop("schemas") if urn.casefold() not in RESERVED_URNS]
        meta = core.pop("meta")
        extensions = {urn: core.pop(urn) for urn in urns}
        resource = Resource(core["id"], core["userName"], core.get("active", True), core, extensions)
        created, modified = milliseconds(meta["created"]), milliseconds(meta["lastModified"])
        # Whether meta.created was mapped then, only the digest tells.
        for resource.created in (None, time_text(created).decode("ascii")):
            encoded = Encoded(encode(resource))
            if meta["version"] == f'W/"{encoded.fingerprint.hex()}"':
                return Decoded(resource, encoded, created, modified)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def user_name_of(raw: bytes | memoryview) -> str | None:
    """Return the userName of one encoded user, without decoding the rest."""
    found = _USER_NAME.search(raw)
    return None if found is None else orjson.loads(found[1])
