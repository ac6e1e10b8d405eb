"""SQL Server's column types: TYPE_INFO, COLMETADATA, ROW and NBCROW (MS-TDS 2.2.5.4 to 2.2.5.6, 2.2.7)."""

from __future__ import annotations

import functools
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tds_values as values
from tds_packets import Token, b_varchar, ucs2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# 2.2.5.1.2: 20 bits LCID, 8 bits of flags (0x04 in the fourth byte is UTF-8), 4 bits version, sort id.
COLLATIONS = {
    "SQL_Latin1_General_CP1_CI_AS": (bytes((0x09, 0x04, 0xD0, 0x00, 0x34)), "cp1252"),
    "Cyrillic_General_CI_AS": (bytes((0x19, 0x04, 0xD0, 0x00, 0x00)), "cp1251"),
    "Latin1_General_100_CI_AS_SC_UTF8": (bytes((0x09, 0x04, 0xD0, 0x24, 0x00)), "utf-8"),
}
DEFAULT_COLLATION = "SQL_Latin1_General_CP1_CI_AS"
MAX = 0xFFFF  # the length that says PLP (2.2.5.2.3)
_PLP_CHUNK = 0x10000
_NULLABLE, _UPDATEABLE = 0x01, 0x08  # flags of COLMETADATA (2.2.7.4)
_USER_TYPE_ROWVERSION = 0x50

_FIXED = {  # name: (type when NOT NULL, nullable type, bytes, struct or encoder)
    "tinyint": (0x30, 0x26, 1, "<B"),
    "smallint": (0x34, 0x26, 2, "<h"),
    "int": (0x38, 0x26, 4, "<i"),
    "bigint": (0x7F, 0x26, 8, "<q"),
    "bit": (0x32, 0x68, 1, lambda v: b"\x01" if values.bit_value(v) else b"\x00"),
    "real": (0x3B, 0x6D, 4, "<f"),
    "float": (0x3E, 0x6D, 8, "<d"),
    "money": (0x3C, 0x6E, 8, values.money_bytes),
    "smallmoney": (0x7A, 0x6E, 4, lambda v: struct.pack("<i", values.scaled(v, 4))),
    "datetime": (0x3D, 0x6F, 8, values.datetime_bytes),
    "smalldatetime": (0x3A, 0x6F, 4, values.smalldatetime_bytes),
}
_STRINGS = {"char": 0xAF, "varchar": 0xA7, "nchar": 0xEF, "nvarchar": 0xE7, "binary": 0xAD, "varbinary": 0xA5}
_SCALED_TIMES = {"time": 0x29, "datetime2": 0x2A, "datetimeoffset": 0x2B}
_ALIASES = {
    "integer": "int",
    "boolean": "bit",
    "bool": "bit",
    "dec": "decimal",
    "double": "float",
    "text": "nvarchar(max)",
    "ntext": "nvarchar(max)",
    "blob": "varbinary(max)",
    "image": "varbinary(max)",
    "sysname": "nvarchar(128)",
    "timestamp": "rowversion",
    "clob": "nvarchar(max)",
}
_DECLARATION = re.compile(r"\[?(\w+)\]?\s*(?:\(\s*(max|\d+)\s*(?:,\s*(\d+)\s*)?\))?.*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class SqlType:
    """One column type; `size` is characters or bytes, or MAX; `scale` also counts digits of seconds."""

    name: str
    size: int = 0
    precision: int = 0
    scale: int = 0

    def __str__(self) -> str:
        if self.name in _STRINGS:
            return f"{self.name}({'max' if self.size == MAX else self.size})"
        if self.name in {"decimal", "numeric"}:
            return f"{self.name}({self.precision},{self.scale})"
        return f"{self.name}({self.scale})" if self.name in _SCALED_TIMES else self.name


def parse_type(declaration: str) -> SqlType:
    """Parse `nvarchar(50)`, `decimal(9,2)`, `datetime2`, `varbinary(max)`; ValueError for anything else."""
    found = _DECLARATION.fullmatch(declaration.strip())
    if not found:
        raise ValueError(f"not a column type: {declaration!r}")
    name, first, second = found[1].lower(), found[2], found[3]
    if name in _ALIASES:
        return parse_type(_ALIASES[name])
    if name in _FIXED or name in {"date", "uniqueidentifier", "rowversion", "xml", "sql_variant"}:
        return SqlType(name)
    if name in _STRINGS:
        size = MAX if first and first.lower() == "max" else int(first or 1)
        return SqlType(name, size)
    if name in _SCALED_TIMES:
        return SqlType(name, scale=int(first) if first else 7)
    if name in {"decimal", "numeric"}:
        return SqlType(name, precision=int(first or 18), scale=int(second or 0))
    raise ValueError(f"unknown column type: {declaration!r}")


@dataclass(frozen=True, slots=True)
class Column:
    """A result column: name, declared type, nullability, and the collation of char and varchar."""

    name: str
    type: str = "nvarchar(4000)"
    nullable: bool = True
    collation: str = DEFAULT_COLLATION

    @property
    def sql_type(self) -> SqlType:
        return parse_type(self.type)


def decimal_magnitude_bytes(precision: int) -> int:
    """Bytes of the magnitude of a decimal (2.2.5.5.1.6)."""
    return 4 if precision <= 9 else 8 if precision <= 19 else 12 if precision <= 28 else 16


def type_info(column: Column) -> bytes:
    """Encode TYPE_INFO (2.2.5.6)."""
    kind = column.sql_type
    collation = COLLATIONS[column.collation][0]
    if kind.name in _FIXED:
        fixed, nullable, size, _ = _FIXED[kind.name]
        return bytes((nullable, size)) if column.nullable else bytes((fixed,))
    if kind.name in _STRINGS:
        wide = 2 if kind.name in {"nchar", "nvarchar"} else 1
        size = MAX if kind.size == MAX else kind.size * wide
        binary = kind.name.endswith("binary")
        return struct.pack("<BH", _STRINGS[kind.name], size) + (b"" if binary else collation)
    if kind.name in _SCALED_TIMES:
        return bytes((_SCALED_TIMES[kind.name], kind.scale))
    if kind.name in {"decimal", "numeric"}:
        size = decimal_magnitude_bytes(kind.precision) + 1
        return bytes((0x6A if kind.name == "decimal" else 0x6C, size, kind.precision, kind.scale))
    return {
        "date": b"\x28",
        "uniqueidentifier": b"\x24\x10",
        "rowversion": struct.pack("<BH", 0xAD, 8),
        "xml": b"\xf1\x00",
        "sql_variant": struct.pack("<BI", 0x62, 8009),
    }[kind.name]


def column_metadata(columns: Sequence[Column]) -> bytes:
    """Encode COLMETADATA (2.2.7.4)."""
    parts = [struct.pack("<BH", Token.COLMETADATA, len(columns))]
    for column in columns:
        rowversion = column.sql_type.name == "rowversion"
        flags = (_NULLABLE if column.nullable else 0) | (0 if rowversion else _UPDATEABLE)
        parts.append(struct.pack("<IH", _USER_TYPE_ROWVERSION if rowversion else 0, flags))
        parts.append(type_info(column) + b_varchar(column.name))
    return b"".join(parts)


def _plp(data: bytes) -> bytes:
    """Encode a partially length-prefixed value in chunks (2.2.5.2.3)."""
    parts = [struct.pack("<Q", len(data))]
    for start in range(0, len(data), _PLP_CHUNK):
        piece = data[start : start + _PLP_CHUNK]
        parts += (struct.pack("<I", len(piece)), piece)
    return b"".join((*parts, b"\0\0\0\0"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _binary(value: Any) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(8, "big")
    return bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(value)


def _string_encoder(column: Column, kind: SqlType) -> Callable[[Any], bytes]:
    codec = COLLATIONS[column.collation][1]
    size = kind.size
    pack = struct.Struct("<H").pack
    if kind.name == "nvarchar" and size != MAX:

        def nvarchar(value: Any) -> bytes:
            data = (value if value.__class__ is str else str(value)).encode("utf-16-le", "surrogatepass")
            return pack(len(data)) + data

        return nvarchar

    def data_of(value: Any) -> bytes:
        if kind.name == "binary":
            return _binary(value).ljust(size, b"\0")[:size]
        if kind.name == "varbinary":
            return _binary(value)
        if kind.name == "nchar":
            return ucs2(_text(value).ljust(size))[: 2 * size]
        if kind.name == "nvarchar":
            return ucs2(_text(value))
        data = _text(value).encode(codec, "replace")
        return data.ljust(size)[:size] if kind.name == "char" else data

    if size == MAX:
        return lambda value: _plp(data_of(value))

    def short(value: Any) -> bytes:
        data = data_of(value)
        return pack(len(data)) + data

    return short


def _variant(value: Any) -> bytes:
    """Encode sql_variant holding nvarchar, int or bigint (2.2.5.5.4)."""
    if isinstance(value, int):
        body = struct.pack("<BBi", 0x38, 0, value) if -(2**31) <= value < 2**31 else struct.pack("<BBq", 0x7F, 0, value)
    else:
        data = ucs2(_text(value))
        body = bytes((0xE7, 7)) + COLLATIONS[DEFAULT_COLLATION][0] + struct.pack("<H", max(len(data), 2)) + data
    return struct.pack("<I", len(body)) + body


def _remember(encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Keep recent encodings: dates, flags and amounts repeat from row to row.

    Not for datetimeoffset, whose equal values differ in their offset.
    """
    return functools.lru_cache(maxsize=8192)(encode)


def encoder(column: Column) -> Callable[[Any], bytes]:
    """Return the function from a value that is not NULL to its cell, length prefix included."""
    kind = column.sql_type
    name, scale = kind.name, kind.scale
    if name in _FIXED:
        _, _, size, how = _FIXED[name]
        prefix = bytes((size,)) if column.nullable else b""
        if isinstance(how, str):
            pack = struct.Struct("<B" + how[1:]).pack if prefix else struct.Struct(how).pack
            number = float if name in {"real", "float"} else int
            if prefix:
                return lambda value: pack(size, number(value))
            return lambda value: pack(number(value))
        return _remember(lambda value: prefix + how(value))
    if name in _STRINGS:
        return _string_encoder(column, kind)
    if name in {"decimal", "numeric"}:
        magnitude = decimal_magnitude_bytes(kind.precision)
        head = bytes((magnitude + 1,))
        return _remember(lambda value: head + values.decimal_bytes(value, scale, magnitude))
    if name in _SCALED_TIMES:
        of = {
            "time": lambda value: values.time_bytes(values.instant(value)[1], scale),
            "datetime2": lambda value: values.datetime2_bytes(value, scale),
            "datetimeoffset": lambda value: values.datetimeoffset_bytes(value, scale),
        }[name]
        encode = lambda value: bytes((len(data := of(value)),)) + data  # noqa: E731
        return encode if name == "datetimeoffset" else _remember(encode)
    return {
        "date": _remember(lambda value: b"\x03" + values.date_bytes(value)),
        "uniqueidentifier": lambda value: b"\x10" + values.guid_bytes(value),
        "rowversion": lambda value: b"\x08\0" + _binary(value).rjust(8, b"\0"),
        "xml": lambda value: _plp(ucs2(_text(value))),
        "sql_variant": _variant,
    }[name]


def null_cell(column: Column) -> bytes:
    """Return the bytes of NULL inside a ROW token (2.2.5.5)."""
    kind = column.sql_type
    if kind.name == "xml" or (kind.name in _STRINGS and kind.size == MAX):
        return b"\xff" * 8
    if kind.name in _STRINGS or kind.name == "rowversion":
        return b"\xff\xff"
    return b"\0\0\0\0" if kind.name == "sql_variant" else b"\0"


def row_encoder(columns: Sequence[Column], *, compressed: bool = True) -> Callable[[Sequence[Any]], bytes]:
    """Return the function from a row to a ROW (2.2.7.19) token, or NBCROW (2.2.7.15) when a cell is NULL."""
    encoders = [encoder(column) for column in columns]
    nulls = [null_cell(column) for column in columns]
    bitmap_bytes = (len(columns) + 7) // 8
    join, row_token, nbc_token = b"".join, bytes((Token.ROW,)), bytes((Token.NBCROW,))

    def encode(row: Sequence[Any]) -> bytes:
        if len(row) != len(encoders):
            raise ValueError(f"{len(row)} cells for {len(encoders)} columns")
        if None not in row:
            return row_token + join([encode_cell(cell) for encode_cell, cell in zip(encoders, row, strict=True)])
        if not compressed:
            cells = zip(encoders, nulls, row, strict=True)
            return row_token + join([null if cell is None else of(cell) for of, null, cell in cells])
        bits = sum(1 << index for index, cell in enumerate(row) if cell is None)
        cells = [of(cell) for of, cell in zip(encoders, row, strict=True) if cell is not None]
        return nbc_token + bits.to_bytes(bitmap_bytes, "little") + join(cells)

    return encode
