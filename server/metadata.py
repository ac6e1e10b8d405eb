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
# What may stand in a URI as it is (RFC 3986 section 2), the percent sign of what is encoded already included.
_SAFE = ":/?#[]@!$&'()*+,;=-._~%"


def headers_of(resource: bytes) -> dict[str, str]:
    """Return ETag, Location and Content-Location of a resource (RFC 7644 sections 3.4.1 and 3.14)."""
    start = resource.find(_META)
    if start < 0:
        return {}
    headers = {}
    if location := _LOCATION.search(resource, start):
        headers["Location"] = headers["Content-Location"] = quote(orjson.loads(location[1]), safe=_SAFE)
    if version := _VERSION.search(resource, start):
        headers["ETag"] = orjson.loads(version[1])
    return headers
