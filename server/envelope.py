"""ListResponse and Error as bytes, in the shape of each ScimVersion; encoded resources pass through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from snapshot.scim import CORE_1_1, ERROR_2_0, LIST_RESPONSE_2_0, ScimVersion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from server.errors import ScimError

    Pieces = tuple[bytes | memoryview, ...]

_TAIL = b"]}"
_HEADS: dict[ScimVersion, bytes] = {
    ScimVersion.V1_1: b'{"schemas":["%b"],"totalResults":' % CORE_1_1.encode(),
    ScimVersion.V2_0: b'{"schemas":["%b"],"totalResults":' % LIST_RESPONSE_2_0.encode(),
}


def list_body(
    version: ScimVersion, *, total: int, start_index: int, items: int, resources: bytes | memoryview
) -> Pieces:
    """Return a ListResponse around resources that are already comma-joined JSON: none is parsed, none is copied."""
    numbers = b'%d,"startIndex":%d,"itemsPerPage":%d,"Resources":[' % (total, start_index, items)
    return _HEADS[version], numbers, resources, _TAIL


def cursor_list_body(*, total: int, items: int, following: str, previous: str, resources: bytes | memoryview) -> Pieces:
    """Return a ListResponse with cursors (RFC 9865 section 2); an empty one is left out. They need no escapes."""
    cursors = f',"nextCursor":"{following}"' if following else ""
    if previous:
        cursors += f',"previousCursor":"{previous}"'
    numbers = b'%d,"itemsPerPage":%d%b,"Resources":[' % (total, items, cursors.encode("ascii"))
    return _HEADS[ScimVersion.V2_0], numbers, resources, _TAIL


def document_list(schemas: Sequence[str], documents: Sequence[dict[str, Any]]) -> bytes:
    """Return a ListResponse of discovery documents; discovery has no pages (RFC 7644 section 4)."""
    return orjson.dumps(
        {
            "schemas": list(schemas),
            "totalResults": len(documents),
            "startIndex": 1,
            "itemsPerPage": len(documents),
            "Resources": list(documents),
        }
    )


def error_body(version: ScimVersion, error: ScimError) -> bytes:
    """Return the error body of a version.

    SCIM 1.1 wants `Errors` (SCIM Protocol 1.1 section 3.9); `status` and `detail` stand beside it for
    clients that read the 2.0 members whatever the path says. 2.0 is RFC 7644 section 3.12.
    """
    status = str(error.status)
    if version is ScimVersion.V1_1:
        return orjson.dumps(
            {
                "schemas": [CORE_1_1],
                "Errors": [{"description": error.detail, "code": status}],
                "status": status,
                "detail": error.detail,
            }
        )
    body: dict[str, Any] = {"schemas": [ERROR_2_0], "status": status}
    if error.scim_type:
        body["scimType"] = error.scim_type
    body["detail"] = error.detail
    return orjson.dumps(body)
