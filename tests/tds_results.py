"""What a query answers: rows made one by one, or rows encoded once and sent many times."""

from __future__ import annotations

import json
import mmap
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tds_faults import Fault, FaultKind
from tds_types import Column, row_encoder

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"TDSROWS1"
Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Result:
    """A result set. `rows` is an iterable, or a function that makes one for each execution.

    An exception of type SqlError raised by the iterable becomes an ERROR token in mid-result. `order` names
    the one-based columns of an ORDER token. `announced` overrides the row count of the DONE token.
    """

    columns: Sequence[Column]
    rows: Iterable[Row] | Callable[[], Iterable[Row]] = ()
    order: tuple[int, ...] = ()
    announced: int | None = None

    def iterate(self) -> Iterator[Row]:
        return iter(self.rows() if callable(self.rows) else self.rows)


@dataclass(frozen=True, slots=True)
class Count:
    """A row count without rows, as an INSERT inside a procedure without SET NOCOUNT ON sends it."""

    rows: int


@dataclass(frozen=True, slots=True)
class Info:
    """An INFO message, as PRINT and RAISERROR of low severity send it."""

    message: str
    number: int = 0
    severity: int = 0


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """A result whose ROW tokens are encoded already: serving it costs one copy of the bytes.

    `body` holds the tokens, `lengths` the bytes of each, so that a fault can strike between two rows.
    """

    columns: Sequence[Column]
    body: memoryview
    lengths: array = field(repr=False)
    sql: str = ""

    @property
    def row_count(self) -> int:
        return len(self.lengths)

    def iterate_encoded(self) -> Iterator[memoryview]:
        at = 0
        for length in self.lengths:
            yield self.body[at : at + length]
            at += length

    @classmethod
    def encode(cls, columns: Sequence[Column], rows: Iterable[Row], *, sql: str = "") -> PreparedRows:
        """Encode in memory."""
        body, lengths, of = bytearray(), array("I"), row_encoder(columns)
        for row in rows:
            data = of(row)
            body += data
            lengths.append(len(data))
        return cls(columns, memoryview(bytes(body)), lengths, sql)

    @staticmethod
    def write(path: Path, columns: Sequence[Column], rows: Iterable[Row], *, sql: str) -> int:
        """Encode into a file that `load` and the command line's --prepared read; return the row count.

        Layout: magic, u32 length of the header, header (JSON), tokens, u32 length of each row.
        """
        lengths, of = array("I"), row_encoder(columns)
        with path.open("wb") as file:
            file.write(_MAGIC + b"\0\0\0\0" + b"\0" * 4096)
            for row in rows:
                data = of(row)
                file.write(data)
                lengths.append(len(data))
            body_bytes = file.tell() - len(_MAGIC) - 4 - 4096
            file.write(lengths.tobytes())
            header = json.dumps(
                {
                    "sql": sql,
                    "rows": len(lengths),
                    "body_bytes": body_bytes,
                    "columns": [asdict(column) for column in columns],
                }
            ).encode()
            if len(header) > 4096:
                raise ValueError(f"header of {len(header)} bytes, 4096 at most")
            file.seek(len(_MAGIC))
            file.write(struct.pack("<I", len(header)) + header)
        return len(lengths)

    @classmethod
    def load(cls, path: Path) -> PreparedRows:
        """Map a file made by `write`."""
        with path.open("rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if view[:8] != _MAGIC:
            raise ValueError(f"{path}: not a file of prepared rows")
        (size,) = struct.unpack_from("<I", view, 8)
        header = json.loads(bytes(view[12 : 12 + size]))
        start = 12 + 4096
        end = start + header["body_bytes"]
        lengths = array("I")
        lengths.frombytes(view[end : end + 4 * header["rows"]])
        columns = [Column(**column) for column in header["columns"]]
        return cls(columns, view[start:end], lengths, header["sql"])


Answerable = Result | PreparedRows | Count | Info


def with_value_fault(result: Result, fault: Fault) -> Result:
    """Return the result with one column's type or one cell changed, or the column left out."""
    names = [column.name.lower() for column in result.columns]
    if fault.column.lower() not in names:
        return result
    index = names.index(fault.column.lower())
    columns = list(result.columns)
    old = columns[index]
    if fault.kind == FaultKind.MISSING_COLUMN:
        del columns[index]
        return Result(columns, lambda: ((*row[:index], *row[index + 1 :]) for row in result.iterate()))
    if fault.kind == FaultKind.CHANGED_TYPE:
        columns[index] = Column(old.name, fault.type, old.nullable, old.collation)
        return Result(columns, result.rows, result.order, result.announced)
    cell = "x" * (fault.cell_bytes // 2) if fault.kind == FaultKind.HUGE_CELL else "bad \ud800 surrogate"
    if fault.kind == FaultKind.HUGE_CELL:
        columns[index] = Column(old.name, "nvarchar(max)", old.nullable, old.collation)

    def rows() -> Iterator[Row]:
        for number, row in enumerate(result.iterate()):
            yield (*row[:index], cell, *row[index + 1 :]) if number == fault.after_rows else row

    return Result(columns, rows, result.order, result.announced)
