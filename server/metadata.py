"""Version and location of one encoded resource, found in its bytes without decoding it.

The keys of `meta` are looked for as the encoder writes them: inside of a text the quotes are escaped, no core
attribute has such a key, and extensions come after `meta`, so the first occurrence is the right one.
"""

from __future__ import annotations

import re
from urllib.parse import quote

import orjson

_META = b'"meta":{'
_LOCATION = re.compile(rb'"location":("(?:[^"\\]|\\.)*")')
_VERSION = re.compile(rb'"version":("(?:[^"\\]|\\.)*")')
# Both as they nearly always are: nothing to be escaped, neither for a URI nor in JSON.
_LOCATION_KEY = b'"location":'
_PLAIN = re.compile(rb'"location":"([A-Za-z0-9:/?#\[\]@!$&\'()*+,;=._~%-]*)","version":"W/\\"([a-z0-9]*)\\""')
# What may stand in a URI as it is (RFC 3986 section 2), the percent sign of what is encoded already included.
_SAFE = ":/?#[]@!$&'()*+,;=-._~%"


def headers_of(resource: bytes) -> dict[str, str]:
    """Return ETag, Location and Content-Location of a resource (RFC 7644 sections 3.4.1 and 3.14)."""
    start = resource.find(_META)
    if start < 0:
        return {}
    at = resource.find(_LOCATION_KEY, start)
    if at > 0 and (plain := _PLAIN.match(resource, at)) is not None:
        location = plain[1].decode()
        return {"Location": location, "Content-Location": location, "ETag": f'W/"{plain[2].decode()}"'}
    headers = {}
    if location := _LOCATION.search(resource, start):
        headers["Location"] = headers["Content-Location"] = quote(orjson.loads(location[1]), safe=_SAFE)
    if version := _VERSION.search(resource, start):
        headers["ETag"] = orjson.loads(version[1])
    return headers
