"""Version and location of one encoded resource, found in its bytes without decoding it.

The keys of `meta` are looked for as the encoder writes them: inside of a text the quotes are escaped, no core
attribute has such a key, and extensions come after `meta`, so the first occurrence is the right one.
"""

from __future__ import annotations

import re
from urllib.parse import quote

import msgspec
import orjson

from server.answer import header_lines

_META = b'"meta":{'
_LOCATION = re.compile(rb'"location":("(?:[^"\\]|\\.)*")')
_VERSION = re.compile(rb'"version":("(?:[^"\\]|\\.)*")')
# Both as they nearly always are: nothing to be escaped, neither for a URI nor in JSON.
_LOCATION_KEY = b'"location":'
_PLAIN = re.compile(rb'"location":"([A-Za-z0-9:/?#\[\]@!$&\'()*+,;=._~%-]*)","version":"W/\\"([a-z0-9]*)\\""')
# What may stand in a URI as it is (RFC 3986 section 2), the percent sign of what is encoded already included.
_SAFE = ":/?#[]@!$&'()*+,;=-._~%"


class Metadata(msgspec.Struct, frozen=True, gc=False):
    """The header lines of a resource, and its version as an entity tag; empty if it has none."""

    fields: str
    tag: str = ""


def metadata_of(resource: bytes) -> Metadata:
    """Return ETag, Location and Content-Location of a resource (RFC 7644 sections 3.4.1 and 3.14)."""
    start = resource.find(_META)
    if start < 0:
        return Metadata("")
    at = resource.find(_LOCATION_KEY, start)
    if at > 0 and (plain := _PLAIN.match(resource, at)) is not None:
        location, version = plain.groups()
        uri, tag = location.decode(), f'W/"{version.decode()}"'
        return Metadata(f"Location: {uri}\r\nContent-Location: {uri}\r\nETag: {tag}\r\n", tag)
    headers = {}
    if found := _LOCATION.search(resource, start):
        headers["Location"] = headers["Content-Location"] = quote(orjson.loads(found[1]), safe=_SAFE)
    if found := _VERSION.search(resource, start):
        headers["ETag"] = orjson.loads(found[1])
    return Metadata(header_lines(headers), headers.get("ETag", ""))
