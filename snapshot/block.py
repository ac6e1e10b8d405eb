"""Block: some rows as columns. How blocks travel from the process that reads to the one that maps.

Taking a row apart and putting a user together one value at a time costs several times what the driver needs to read
it; whole columns are handled by a few calls each.
"""

from __future__ import annotations

import marshal
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import compress
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable

    from snapshot.sources.rows import Row

Column = Sequence[Any]

# Without references to objects seen before, which cost more than they save.
_MARSHAL_VERSION = 2
_NULL = type(None)
# The first byte of every pickle of protocol 2 or newer; marshal begins with the letter of a type.
_PICKLE_MARK = b"\x80"
_PLAIN_COLUMN, _PICKLED_COLUMN = "", "pickle"


@dataclass(frozen=True, slots=True)
class Block:
    """Rows as columns, in the order of the query. `uuids`: which columns hold uniqueidentifiers, as text."""

    size: int
    columns: list[Column]
    uuids: frozenset[int] = frozenset()

    def row(self, place: int) -> Row:
        """Return one row; `place` counts from 0."""
        return tuple(column[place] for column in self.columns)

    def only(self, wanted: Sequence[bool]) -> Block:
        """Return the rows for which `wanted` is true."""
        columns: list[Column] = [list(compress(column, wanted)) for column in self.columns]
        return Block(sum(wanted), columns, self.uuids)


def block_of(rows: Sequence[Row]) -> Block:
    """Turn rows into columns. There is at least one row."""
    return Block(len(rows), list(zip(*rows, strict=True)))


def pack(rows: Sequence[Row]) -> bytes:
    """Return rows as bytes for `unpack` in another process of the same program. There is at least one row."""
    return marshal.dumps((len(rows), [_packed(column) for column in zip(*rows, strict=True)]), _MARSHAL_VERSION)


def _packed(column: Any) -> tuple[str, bytes]:
    """Return how a column travels, and its bytes."""
    try:
        return _PLAIN_COLUMN, marshal.dumps(column, _MARSHAL_VERSION)
    except ValueError:  # it found something else than texts, numbers, bytes and NULL
        kinds = set(map(type, column))
    kinds.discard(_NULL)
    kind = kinds.pop()
    form = _FORMS.get(kind)
    if kinds or form is None:
        return _PICKLED_COLUMN, pickle.dumps(column, pickle.HIGHEST_PROTOCOL)
    travelling: Any = form(column)
    return kind.__name__, marshal.dumps(travelling, _MARSHAL_VERSION)


def is_packed(raw: bytes) -> bool:
    """Tell what `pack` made from a pickled object."""
    return raw[:1] != _PICKLE_MARK


def unpack(raw: bytes) -> Block:
    """Return the rows that were packed, as columns; a uniqueidentifier comes as its text."""
    size, packed = marshal.loads(raw)  # noqa: S302 (our own child has written it)
    columns: list[Column] = []
    uuids = set()
    for place, (form, values) in enumerate(packed):
        if form == _PICKLED_COLUMN:
            columns.append(pickle.loads(values))  # noqa: S301 (our own child has written it)
            continue
        column = marshal.loads(values)  # noqa: S302 (the same)
        if form == _PLAIN_COLUMN:
            columns.append(column)
        else:
            columns.append(_ORIGINALS[form](column))
            if form == UUID.__name__:
                uuids.add(place)
    return Block(size, columns, frozenset(uuids))


def _numbers_of_uuids(column: Column) -> list[int | None]:
    return [None if value is None else value.int for value in column]


def _texts_of_uuids(numbers: Column) -> list[str | None]:
    texts = [None if number is None else f"{number:032x}" for number in numbers]
    return [
        None if text is None else f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}" for text in texts
    ]


def _texts(column: Column) -> list[str | None]:
    return [None if value is None else str(value) for value in column]


def _iso_texts(column: Column) -> list[str | None]:
    return [None if value is None else value.isoformat() for value in column]


def _ordinals(column: Column) -> list[int | None]:
    return [None if value is None else value.toordinal() for value in column]


def _back(make: Callable[[Any], Any]) -> Callable[[Column], Column]:
    return lambda values: [None if value is None else make(value) for value in values]


# What marshal does not know: how it travels.
_FORMS: dict[type, Callable[[Column], Column]] = {
    UUID: _numbers_of_uuids,
    Decimal: _texts,
    datetime: _iso_texts,
    date: _ordinals,
}
_ORIGINALS: dict[str, Callable[[Column], Column]] = {
    UUID.__name__: _texts_of_uuids,
    Decimal.__name__: _back(Decimal),
    datetime.__name__: _back(datetime.fromisoformat),
    date.__name__: _back(date.fromordinal),
}
