"""Resource to UTF-8 JSON bytes: encoded once, dressed twice.

SCIM 1.1 and 2.0 share the bytes of the core attributes and of custom extensions. What differs is put
around them: `schemas`, `meta`, the enterprise URN and the shape of `manager`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import quote

import orjson

from snapshot.errors import RejectError
from snapshot.scim import ENTERPRISE_1_1, ENTERPRISE_2_0, DecimalText, Resource, ScimVersion

FINGERPRINT_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The keys of `meta` as written. `meta` is the first object that has them, and inside of a text the
# quotes are escaped: the first occurrence in a resource is always this one.
CREATED = b'"created":"'
LAST_MODIFIED = b'"lastModified":"'


# (id, userName, active, URNs of the extensions, the whole as JSON, mapped meta.created in ms): what one process sends
# to another.
EncodedParts = tuple[str, str, bool, tuple[str, ...], bytes, int | None]


def encode(resource: Resource) -> EncodedParts:
    """Encode once what both versions share: core attributes, then extensions under their canonical URNs.

    RejectError for text that is not valid Unicode.
    """
    try:
        body = orjson.dumps({**resource.core, **resource.extensions}, _decimal, orjson.OPT_PASSTHROUGH_DATACLASS)
    except orjson.JSONEncodeError as error:
        raise RejectError("(row)", f"the row cannot be written as JSON ({error})") from None
    created = None if resource.created is None else milliseconds(resource.created)
    return resource.id, resource.user_name, resource.active, tuple(resource.extensions), body, created


class Encoded:
    """The bytes of one resource that both versions share, and its fingerprint (16 bytes).

    `body` is the whole as JSON; `core` its part before the extensions, without brace; `tail` the rest. `created` is a
    mapped meta.created in ms.
    """

    __slots__ = (
        "active", "body", "core", "created", "fingerprint", "id", "id_in_url", "tail", "urns", "user_name", "version",
    )  # fmt: skip

    def __init__(self, parts: EncodedParts) -> None:
        self.id, self.user_name, self.active, self.urns, body, self.created = parts
        self.body = body
        # Inside of a text the quotes are escaped, so the first such key is the extension itself.
        end = body.index(_key(self.urns[0])) if self.urns else len(body) - 1
        self.core, self.tail = body[1:end], body[end:]
        # Text, booleans, integers and our own decimal text only: these bytes do not change with the
        # version of the JSON library, so the fingerprint is stable.
        said = body if self.created is None else body + time_text(self.created)
        self.fingerprint = blake2b(said, digest_size=FINGERPRINT_BYTES).digest()
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
        self._heads: dict[tuple[str, ...], bytes] = {}

    def dress(self, encoded: Encoded, created: bytes, modified: bytes) -> bytes:
        """Return the JSON of one user; `created` and `modified` are instants as UTC text."""
        return b"".join(
            (
                self._heads.get(encoded.urns) or self._head(encoded.urns),
                encoded.core,
                self._meta,
                created,
                self._between,
                modified,
                self._location,
                encoded.id_in_url,
                b'","version":"W/\\"',
                encoded.version,
                b'\\""}',
                _old_tail(encoded.tail) if self._old else encoded.tail,
            )
        )

    def _head(self, urns: tuple[str, ...]) -> bytes:
        """Return the bytes up to the core attributes: `schemas` names exactly the URNs in use."""
        names = [self._scim_version.enterprise_urn if urn == ENTERPRISE_2_0 else urn for urn in urns]
        head = self._heads[urns] = b'{"schemas":%b,' % orjson.dumps([self._scim_version.user_urn, *names])
        return head


@lru_cache(maxsize=256)
def _key(urn: str) -> bytes:
    return b",%b:" % orjson.dumps(urn)


def _old_tail(tail: bytes) -> bytes:
    """SCIM 1.1 has another enterprise URN and calls the manager's id `managerId` (SCIM Core Schema 1.1 section 7).

    Only keys can match, for inside of a text the quotes are escaped; the mapping puts the manager's `value` first.
    """
    tail = tail.replace(_key(ENTERPRISE_2_0), _key(ENTERPRISE_1_1), 1)
    return tail.replace(b'"manager":{"value":', b'"manager":{"managerId":', 1)


def _decimal(value: object) -> orjson.Fragment:
    if isinstance(value, DecimalText):
        return orjson.Fragment(value.text)
    raise TypeError(f"{type(value).__name__} has no JSON form")


@lru_cache(maxsize=4096)
def time_text(milliseconds: int) -> bytes:
    """Return an instant (ms since 1970) as 24 characters of UTC text, e.g. 2026-01-02T03:04:05.678Z."""
    # Not fromtimestamp: Windows has none before 1970.
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds")[:23].encode("ascii") + b"Z"


def milliseconds(text: str) -> int:
    """Return an instant written as a SCIM dateTime in ms since 1970; finer digits are cut."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)
