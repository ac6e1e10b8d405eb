"""Cursors (RFC 9865): where a list goes on, in which generation, as text that needs no memory of the server.

Base64url of generation, its time of publication, the place in the list, how long the list is, and a checksum over
these and the query. So a cursor outlives swaps and restarts, and one that was used with another query, or cut short, is
told from a good one. It is no secret: whoever may list sees every page anyway.
"""

from __future__ import annotations

import base64
import binascii
import struct
from hashlib import blake2b

import msgspec

from server.errors import InvalidCursorError

_PLACE = struct.Struct(">QQII")
_CHECKSUM_BYTES = 8


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a list goes on: the generation, its time of publication in ms, the 0-based place of the next resource.

    The time tells a generation from another one of the same number, in a data folder that was made anew. `total` tells
    an incremental list from what is selected by the same words once more is known of what was served when.
    """

    generation: int
    created_ms: int
    first: int
    total: int


def write_cursor(place: Place, query: bytes) -> str:
    """Return the cursor of a place in the list that `query` tells from every other."""
    raw = _PLACE.pack(place.generation, place.created_ms, place.first, place.total)
    checksum = blake2b(raw + query, digest_size=_CHECKSUM_BYTES).digest()
    return base64.urlsafe_b64encode(raw + checksum).rstrip(b"=").decode("ascii")


def read_cursor(text: str, query: bytes) -> Place:
    """Return the place that a cursor of this query names; raises InvalidCursorError."""
    try:
        whole = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        place = Place(*_PLACE.unpack(whole[: _PLACE.size]))
    except (UnicodeError, binascii.Error, struct.error):
        raise InvalidCursorError from None
    if text != write_cursor(place, query):
        raise InvalidCursorError
    return place
