"""Resource to UTF-8 JSON bytes: encoded once, dressed twice.

SCIM 1.1 and 2.0 share the bytes of the core attributes and of custom extensions. What differs is put
around them: `schemas`, `meta`, the enterprise URN and the shape of `manager`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import quote

import orjson

from snapshot.errors import RejectError
from snapshot.scim import ENTERPRISE_2_0, DecimalText, Resource, ScimVersion

FINGERPRINT_BYTES = 16
# The keys of `meta` as written. `meta` is the first object that has them, and inside of a text the
# quotes are escaped: the first occurrence in a resource is always this one.
CREATED = b'"created":"'
LAST_MODIFIED = b'"lastModified":"'


# (id, userName, active, core attributes, {URN: extension}): what one process sends to another.
EncodedParts = tuple[str, str, bool, bytes, dict[str, bytes]]


def encode(resource: Resource) -> EncodedParts:
    """Encode what both versions share; RejectError for text that is not valid Unicode."""
    try:
        return (
            resource.id,
            resource.user_name,
            resource.active,
            orjson.dumps(resource.core),
            {
                urn: orjson.dumps(values, _decimal, orjson.OPT_PASSTHROUGH_DATACLASS)
                for urn, values in resource.extensions.items()
            },
        )
    except orjson.JSONEncodeError as error:
        raise RejectError("(row)", f"the row cannot be written as JSON ({error})") from None


class Encoded:
    """The bytes of one resource that both versions share, and its fingerprint (16 bytes)."""

    __slots__ = ("active", "core", "extensions", "fingerprint", "id", "id_in_url", "user_name", "version")

    def __init__(self, parts: EncodedParts) -> None:
        self.id, self.user_name, self.active, self.core, self.extensions = parts
        # Text, booleans, integers and our own decimal text only: these bytes do not change with the
        # version of the JSON library, so the fingerprint is stable.
        digest = blake2b(self.core, digest_size=FINGERPRINT_BYTES)
        for urn, body in self.extensions.items():
            digest.update(b"\0%b\0%b" % (urn.encode(), body))
        self.fingerprint = digest.digest()
        self.version = self.fingerprint.hex().encode("ascii")
        text = self.id
        self.id_in_url = (text if text.isalnum() and text.isascii() else quote(text, safe="")).encode("ascii")


class Dresser:
    """Makes the final bytes of a user for one ScimVersion."""

    def __init__(self, version: ScimVersion, base_url: str) -> None:
        self._old = version is ScimVersion.V1_1
        self._scim_version = version
        kind = b"" if self._old else b'"resourceType":"User",'
        self._meta = b',"meta":{' + kind + CREATED
        self._between = b'",' + LAST_MODIFIED
        self._location = b'","location":"' + orjson.dumps(f"{base_url}/Users/")[1:-1]
        # (URNs of the extensions) -> (the bytes up to the core attributes, what stands before each extension)
        self._known: dict[tuple[str, ...], tuple[bytes, tuple[bytes, ...]]] = {}

    def dress(self, encoded: Encoded, created: bytes, modified: bytes) -> bytes:
        """Return the JSON of one user; `created` and `modified` are instants as UTC text."""
        extensions = encoded.extensions
        urns = tuple(extensions)
        head, keys = self._known.get(urns) or self._learn(urns)
        parts = [
            head,
            encoded.core[1:-1],
            self._meta,
            created,
            self._between,
            modified,
            self._location,
            encoded.id_in_url,
            b'","version":"W/\\"',
            encoded.version,
            b'\\""}',
        ]
        for urn, key in zip(urns, keys, strict=True):
            body = extensions[urn]
            if self._old and urn == ENTERPRISE_2_0:
                body = _old_enterprise(body)
            parts += (key, body)
        parts.append(b"}")
        return b"".join(parts)

    def _learn(self, urns: tuple[str, ...]) -> tuple[bytes, tuple[bytes, ...]]:
        names = [self._scim_version.enterprise_urn if urn == ENTERPRISE_2_0 else urn for urn in urns]
        head = b'{"schemas":%b,' % orjson.dumps([self._scim_version.user_urn, *names])
        self._known[urns] = head, tuple(b",%b:" % orjson.dumps(name) for name in names)
        return self._known[urns]


def _old_enterprise(body: bytes) -> bytes:
    """SCIM 1.1 calls the manager's id `managerId` (SCIM Core Schema 1.1 section 7).

    Inside of a text the quotes are escaped, so this is always the key itself; the mapping puts `value` first.
    """
    return body.replace(b'"manager":{"value":', b'"manager":{"managerId":', 1)


def _decimal(value: object) -> orjson.Fragment:
    if isinstance(value, DecimalText):
        return orjson.Fragment(value.text)
    raise TypeError(f"{type(value).__name__} has no JSON form")


@lru_cache(maxsize=4096)
def time_text(milliseconds: int) -> bytes:
    """Return an instant (ms since 1970) as 24 characters of UTC text, e.g. 2026-01-02T03:04:05.678Z."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds")[:23].encode("ascii") + b"Z"
