"""Resource to UTF-8 JSON bytes: encoded once, dressed twice.

SCIM 1.1 and 2.0 share the bytes of the core attributes and of custom extensions. What differs is put
around them: `schemas`, `meta`, the enterprise URN and the shape of `manager`.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from snapshot.errors import RejectError
from snapshot.scim import ENTERPRISE_2_0, DecimalText, Resource, ScimVersion

if TYPE_CHECKING:
    from collections.abc import Mapping

FINGERPRINT_BYTES = 16
# The keys of `meta` as written. `meta` is the first object that has them, and inside of a text the
# quotes are escaped: the first occurrence in a resource is always this one.
CREATED = b'"created":"'
LAST_MODIFIED = b'"lastModified":"'


class Encoded:
    """The bytes of one resource that both versions share, and its fingerprint (16 bytes)."""

    __slots__ = ("core", "extensions", "fingerprint", "id", "resource")

    def __init__(self, resource: Resource) -> None:
        """Encode; RejectError for text that is not valid Unicode."""
        try:
            self.core = orjson.dumps(resource.core)
            self.extensions = {
                urn: orjson.dumps(values, default=_decimal, option=orjson.OPT_PASSTHROUGH_DATACLASS)
                for urn, values in resource.extensions.items()
            }
        except orjson.JSONEncodeError as error:
            raise RejectError("(row)", f"the row cannot be written as JSON ({error})") from None
        self.id = resource.id
        self.resource = resource
        # Text, booleans, integers and our own decimal text only: these bytes do not change with the
        # version of the JSON library, so the fingerprint is stable.
        digest = hashlib.blake2b(self.core, digest_size=FINGERPRINT_BYTES)
        for urn, body in self.extensions.items():
            digest.update(b"\0%b\0%b" % (urn.encode(), body))
        self.fingerprint = digest.digest()


class Dresser:
    """Makes the final bytes of a user for one ScimVersion."""

    def __init__(self, version: ScimVersion, base_url: str) -> None:
        self._old = version is ScimVersion.V1_1
        self._version = version
        self._location = _json_text(f"{base_url}/Users/")
        kind = b"" if self._old else b'"resourceType":"User",'
        self._meta_head = b',"meta":{' + kind + CREATED
        self._schemas: dict[tuple[str, ...], bytes] = {}

    def dress(self, encoded: Encoded, created: bytes, modified: bytes) -> bytes:
        """Return the JSON of one user; `created` and `modified` are instants as UTC text."""
        urns = tuple(encoded.extensions)
        head = self._schemas.get(urns)
        if head is None:
            head = self._schemas[urns] = b'{"schemas":%b,' % orjson.dumps(
                [self._version.user_urn, *map(self._urn, urns)]
            )
        tail = b""
        for urn, body in encoded.extensions.items():
            if self._old and urn == ENTERPRISE_2_0:
                body = _old_enterprise(encoded.resource.extensions[urn], body)  # noqa: PLW2901
            tail += b',"%b":%b' % (self._urn(urn).encode(), body)
        return b"".join(
            (
                head,
                encoded.core[1:-1],
                self._meta_head,
                created,
                b'",',
                LAST_MODIFIED,
                modified,
                b'","location":"',
                self._location,
                quote(encoded.id, safe="").encode("ascii"),
                b'","version":"W/\\"',
                encoded.fingerprint.hex().encode("ascii"),
                b'\\""}',
                tail,
                b"}",
            )
        )

    def _urn(self, urn: str) -> str:
        return self._version.enterprise_urn if urn == ENTERPRISE_2_0 else urn


def _old_enterprise(values: Mapping[str, Any], body: bytes) -> bytes:
    """SCIM 1.1 calls the manager's id `managerId` (SCIM Core Schema 1.1 section 7)."""
    manager = values.get("manager")
    if manager is None:
        return body
    renamed = {("managerId" if name == "value" else name): value for name, value in manager.items()}
    return orjson.dumps({**values, "manager": renamed})


def _decimal(value: object) -> orjson.Fragment:
    if isinstance(value, DecimalText):
        return orjson.Fragment(value.text)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _json_text(text: str) -> bytes:
    return orjson.dumps(text)[1:-1]


def time_text(milliseconds: int) -> bytes:
    """Return an instant (ms since 1970) as 24 characters of UTC text, e.g. 2026-01-02T03:04:05.678Z."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds")[:23].encode("ascii") + b"Z"
