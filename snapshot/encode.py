"""Resource to UTF-8 JSON bytes: encoded once, dressed twice.

SCIM 1.1 and 2.0 share the bytes of the core attributes and of custom extensions. What differs is put
around them: `schemas`, `meta`, the enterprise URN and the shape of `manager`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from snapshot.errors import RejectError
from snapshot.fragments import joined
from snapshot.resource_types import USERS, ResourceType
from snapshot.scim import CORE_1_1, ENTERPRISE_1_1, ENTERPRISE_2_0, DecimalText, Resource, ScimVersion

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from snapshot.mapped import MappedBlock

FINGERPRINT_BYTES = 16
_DIGITS = 2 * FINGERPRINT_BYTES
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The keys of `meta` as written. `meta` is the first object that has them, and inside of a text the
# quotes are escaped: the first occurrence in a resource is always this one.
CREATED = b'"created":"'
LAST_MODIFIED = b'"lastModified":"'


# (id, userName, active, URNs of the extensions, the whole as JSON, mapped meta.created in ms, links in use): what one
# process sends to another.
EncodedParts = tuple[str, str, bool, tuple[str, ...], bytes, int | None, tuple[str, ...]]


def encode(resource: Resource) -> EncodedParts:
    """Encode once what both versions share: core attributes, links, then extensions under their canonical URNs.

    RejectError for text that is not valid Unicode.
    """
    links = resource.links
    core = {**resource.core, **links} if links else resource.core
    body = encode_values({**core, **resource.extensions})
    created = None if resource.created is None else milliseconds(resource.created)
    urns = tuple(resource.extensions)
    return resource.id, resource.user_name, resource.active, urns, body, created, tuple(links)


def encode_values(values: Any) -> bytes:
    """Return JSON; RejectError for text that is not valid Unicode."""
    try:
        return orjson.dumps(values, _decimal, orjson.OPT_PASSTHROUGH_DATACLASS)
    except orjson.JSONEncodeError as error:
        raise RejectError("(row)", f"the row cannot be written as JSON ({error})") from None


class Encoded:
    """The bytes of one resource that both versions share, and its fingerprint (16 bytes).

    `body` is the whole as JSON; `core` its part before links and extensions, without brace; `links` what refers to
    other resources, each as `,"groups":[…]`; `tail` the rest. `created` is a mapped meta.created in ms.
    """

    __slots__ = (
        "active", "body", "core", "created", "fingerprint", "id", "id_in_url", "links", "tail", "urns", "user_name",
        "version",
    )  # fmt: skip

    def __init__(self, parts: EncodedParts) -> None:
        self.id, self.user_name, self.active, self.urns, body, self.created, links = parts
        self.body = body
        # Inside of a text the quotes are escaped, so the first such key is the extension itself.
        end = body.index(_key(self.urns[0])) if self.urns else len(body) - 1
        self.tail = body[end:]
        self.links: dict[str, bytes] = {}
        for name in reversed(links):
            start = body.rindex(b',"%b":[{"value":' % name.encode(), 0, end)
            self.links[name], end = body[start:end], start
        self.core = body[1:end]
        # Text, booleans, integers and our own decimal text only: these bytes do not change with the
        # version of the JSON library, so the fingerprint is stable.
        said = body if self.created is None else body + time_text(self.created)
        self.fingerprint = blake2b(said, digest_size=FINGERPRINT_BYTES).digest()
        self.version = self.fingerprint.hex().encode("ascii")
        text = self.id
        self.id_in_url = (text if text.isalnum() and text.isascii() else quote(text, safe="")).encode("ascii")


@dataclass(frozen=True, slots=True)
class Undressed:
    """The parts of many users that both versions share, each list in the same order; see `Encoded`."""

    urns: Sequence[tuple[str, ...]]
    core: Sequence[bytes]
    tail: Sequence[bytes]
    ids_in_url: Sequence[bytes]
    fingerprints: list[bytes]
    versions: Sequence[bytes]


def undress(block: MappedBlock) -> Undressed:
    """Return the users of a block with their fingerprints."""
    said: Iterable[bytes] = map(b"{%b%b".__mod__, zip(block.core, block.tail, strict=True))
    if block.created is not None:
        said = [
            text if created is None else text + time_text(created)
            for text, created in zip(said, block.created, strict=True)
        ]
    fingerprints = [blake2b(text, digest_size=FINGERPRINT_BYTES).digest() for text in said]
    digits = b"".join(fingerprints).hex().encode("ascii")
    versions = [digits[start : start + _DIGITS] for start in range(0, len(digits), _DIGITS)]
    everything = "".join(block.ids)
    if everything.isalnum() and everything.isascii():
        ids_in_url = [text[1:-1] for text in block.ids_as_json]
    else:
        ids_in_url = [quote(text, safe="").encode("ascii") for text in block.ids]
    return Undressed(block.urns, block.core, block.tail, ids_in_url, fingerprints, versions)


class Dresser:
    """Makes the final bytes of the resources of one type for one ScimVersion.

    `hidden`: links that this version does not show. `manager_ref`: a manager's value is the id of a published user.
    """

    def __init__(
        self,
        version: ScimVersion,
        base_url: str,
        resource_type: ResourceType = USERS,
        *,
        hidden: Collection[str] = (),
        manager_ref: bool = False,
    ) -> None:
        self._old = version is ScimVersion.V1_1
        self._urn = CORE_1_1 if self._old else resource_type.urn
        self._hidden = hidden
        self._changes_tail = self._old or manager_ref
        kind = b"" if self._old else b'"resourceType":%b,' % orjson.dumps(resource_type.name)
        self._meta = b',"meta":{' + kind + CREATED
        self._between = b'",' + LAST_MODIFIED
        self._location = b'","location":"' + orjson.dumps(f"{base_url}{resource_type.endpoint}/")[1:-1]
        users, groups = (orjson.dumps(f"{base_url}{path}/")[1:-1] for path in ("/Users", "/Groups"))
        self._users, self._groups = users, groups
        self._heads: dict[tuple[str, ...], bytes] = {}

    def dress(self, encoded: Encoded, created: bytes, modified: bytes) -> bytes:
        """Return the JSON of one resource; `created` and `modified` are instants as UTC text."""
        return b"".join(
            (
                self._heads.get(encoded.urns) or self._head(encoded.urns),
                encoded.core,
                self._links(encoded.links) if encoded.links else b"",
                self._meta,
                created,
                self._between,
                modified,
                self._location,
                encoded.id_in_url,
                b'","version":"W/\\"',
                encoded.version,
                b'\\""}',
                self._tail(encoded.tail) if self._changes_tail else encoded.tail,
            )
        )

    def dress_block(self, block: Undressed, created: Sequence[bytes], modified: Sequence[bytes]) -> list[bytes]:
        """Return the JSON of many resources without links, the same bytes as `dress` gives for each."""
        urns = block.urns
        heads: Sequence[bytes] | bytes = self._heads.get(urns[0]) or self._head(urns[0])
        if urns.count(urns[0]) != len(urns):
            heads = [self._heads.get(item) or self._head(item) for item in urns]
        tails = block.tail
        if self._changes_tail:
            # One call for all: no JSON holds a line break.
            tails = self._tail(b"\n".join(tails), count=-1).split(b"\n")
        pieces = [
            heads, block.core, self._meta, created, self._between, modified, self._location, block.ids_in_url,
            b'","version":"W/\\"', block.versions, b'\\""}', tails,
        ]  # fmt: skip
        return joined(pieces, len(urns))

    def _head(self, urns: tuple[str, ...]) -> bytes:
        """Return the bytes up to the core attributes: `schemas` names exactly the URNs in use."""
        names = [ENTERPRISE_1_1 if self._old and urn == ENTERPRISE_2_0 else urn for urn in urns]
        head = self._heads[urns] = b'{"schemas":%b,' % orjson.dumps([self._urn, *names])
        return head

    def _links(self, links: dict[str, bytes]) -> bytes:
        """Return the links; groups and members have `$ref` in 2.0 only, which strict readers of 1.1 refuse."""
        shown = []
        for name in reversed(links):
            if name in self._hidden:
                continue
            text = links[name]
            if not self._old and name in {"groups", "members"}:
                text = _LINK.sub(self._refer_group if name == "groups" else self._refer_member, text)
            shown.append(text)
        return b"".join(shown)

    def _refer_group(self, found: re.Match[bytes]) -> bytes:
        return b'{"value":%b,"$ref":"%b%b"' % (found[1], self._groups, _in_url(found[1]))

    def _refer_member(self, found: re.Match[bytes]) -> bytes:
        place = self._groups if found[2] else self._users
        return b'{"value":%b,"$ref":"%b%b"%b' % (found[1], place, _in_url(found[1]), found[2] or b',"type":"User"')

    def _tail(self, tail: bytes, *, count: int = 1) -> bytes:
        """Return the tail of one resource, or with count -1 of any number of them."""
        if self._old:
            return _old_tail(tail, count)
        return _MANAGER.sub(
            lambda found: b'%b,"$ref":"%b%b"' % (found[0], self._users, _in_url(found[1])), tail, count=max(count, 0)
        )


# One link: its value, and what a member is if it is no user.
_LINK = re.compile(rb'\{"value":("(?:[^"\\]|\\.)*")(,"type":"Group")?')
_MANAGER = re.compile(rb'"manager":\{"value":("(?:[^"\\]|\\.)*")')


def _in_url(text: bytes) -> bytes:
    """Return an id, given as JSON, as it stands in a URL."""
    plain = text[1:-1]
    return plain if plain.isalnum() else quote(orjson.loads(text), safe="").encode("ascii")


@lru_cache(maxsize=256)
def _key(urn: str) -> bytes:
    return b",%b:" % orjson.dumps(urn)


def _old_tail(tail: bytes, count: int) -> bytes:
    """SCIM 1.1 has another enterprise URN and calls the manager's id `managerId` (SCIM Core Schema 1.1 section 7).

    Only keys can match, for inside of a text the quotes are escaped; the mapping puts the manager's `value` first.
    """
    tail = tail.replace(_key(ENTERPRISE_2_0), _key(ENTERPRISE_1_1), count)
    return tail.replace(b'"manager":{"value":', b'"manager":{"managerId":', count)


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
