"""JSON of many resources at a time, put together from columns: a fragment is one value of each of them.

A piece is bytes that all share, or a list with the bytes of each. Keys and braces are shared, so most of what is
written costs nothing per resource.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

    Piece = bytes | Sequence[Any]

# Raw line breaks stand between the values of an indented list and nowhere else: inside of texts they are escaped.
_BEFORE, _BETWEEN, _AFTER = len(b"[\n  "), b",\n  ", len(b"\n]")


@dataclass(frozen=True, slots=True)
class Fragment:
    """The JSON of one value of each resource.

    `whole`: every resource has it. Else there is one piece, a list in which None stands for what is absent.
    """

    pieces: list[Piece]
    whole: bool


def json_texts(values: Sequence[Any]) -> list[bytes | None]:
    r"""Return the JSON of each text, number or boolean; None stays None. Raises orjson.JSONEncodeError.

    >>> json_texts(["a", None, 'b"'])
    [b'"a"', None, b'"b\\""']
    """
    holes = None in values
    present = [value for value in values if value is not None] if holes else values
    if not present:
        return [None] * len(values)
    listed = orjson.dumps(present if isinstance(present, list) else list(present), option=orjson.OPT_INDENT_2)
    found: list[Any] = listed[_BEFORE:-_AFTER].split(_BETWEEN)
    if holes:
        each = iter(found)
        return [None if value is None else next(each) for value in values]
    return found


def of_texts(texts: list[bytes | None]) -> Fragment:
    """Return the fragment of texts that are JSON already."""
    return Fragment([texts], None not in texts)


def joined(pieces: Sequence[Piece], size: int) -> list[bytes]:
    """Return the bytes of each of `size` resources: its part of every piece, one after the other."""
    merged: list[Piece] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        if isinstance(piece, bytes) and isinstance(last, bytes):
            merged[-1] = last + piece
        else:
            merged.append(piece)
    if len(merged) == 1 and not isinstance(merged[0], bytes):
        return list(merged[0])
    if all(isinstance(piece, bytes) for piece in merged):
        return [b"".join(merged)] * size  # type: ignore[arg-type]  # mypy does not see through all()
    parts = [repeat(piece) if isinstance(piece, bytes) else piece for piece in merged]
    return list(map(b"".join, zip(*parts, strict=False)))


def members(named: Sequence[tuple[str, Fragment]]) -> list[Piece]:
    """Return the pieces of members of an object, each with a comma ahead; what is absent is left out."""
    pieces: list[Piece] = []
    for name, fragment in named:
        key = b",%b:" % orjson.dumps(name)
        if fragment.whole:
            pieces += [key, *fragment.pieces]
        else:
            texts: Sequence[Any] = fragment.pieces[0]
            pieces.append([b"" if text is None else key + text for text in texts])
    return pieces


def without_comma(pieces: list[Piece]) -> list[Piece]:
    """Return the pieces of members of which the first one is always there, without the comma ahead of it."""
    first = pieces[0]
    assert isinstance(first, bytes)  # noqa: S101 (what is always there begins with its key)
    return [first[1:], *pieces[1:]]


def object_of(named: Sequence[tuple[str, Fragment]], size: int) -> Fragment:
    """Return the fragment of an object; a resource that has none of the members has no such object."""
    pieces = members(named)
    if named[0][1].whole:
        return Fragment([b"{", *without_comma(pieces), b"}"], whole=True)
    if any(fragment.whole for _, fragment in named):
        return Fragment([b"{", [text[1:] for text in joined(pieces, size)], b"}"], whole=True)
    return of_texts([b"{%b}" % text[1:] if text else None for text in joined(pieces, size)])
