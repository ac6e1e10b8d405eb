"""ETag, If-Match and If-None-Match (RFC 9110 section 13, RFC 7644 section 3.14).

Every comparison is the weak one: versions of resources are weak tags, and nothing is written here that a strong
comparison would protect.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Protocol

from server.errors import PreconditionFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\U0010ffff]*")')
_WEAK = "W/"
_DIGEST_BYTES = 16


class Headers(Protocol):
    """The request headers, as far as they are needed here."""

    def getall(self, key: str, default: Sequence[str]) -> Sequence[str]:
        """Return every value of a header."""
        ...


def entity_tag(body: bytes) -> str:
    """Return the tag of a document that never changes while the server runs; weak, for it is also sent compressed."""
    return f'W/"{hashlib.blake2b(body, digest_size=_DIGEST_BYTES).hexdigest()}"'


def is_unchanged(headers: Headers, tag: str) -> bool:
    """Tell whether the client has this version: 304 without a body. If-Match goes first (RFC 9110 section 13.2.2).

    Raises PreconditionFailedError if If-Match names other versions only.
    """
    wanted = headers.getall("If-Match", ())
    if wanted and not _names(wanted, tag):
        raise PreconditionFailedError
    known = headers.getall("If-None-Match", ())
    return bool(known) and _names(known, tag)


def _names(values: Sequence[str], tag: str) -> bool:
    text = ",".join(values)
    return text.strip() == "*" or tag.removeprefix(_WEAK) in _TAG.findall(text)
