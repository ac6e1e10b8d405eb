"""RPC requests: the procedure and its parameters (MS-TDS 2.2.6.6)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import tds_values as values
from tds_packets import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

_PROC_IDS = {
    2: "sp_cursoropen",
    10: "sp_executesql",
    11: "sp_prepare",
    12: "sp_execute",
    13: "sp_prepexec",
    15: "sp_unprepare",
}
_MAX = 0xFFFF
_BATCH_SEPARATORS = frozenset({0x80, 0xFF, 0xFE})
_FIXED = {0x30: 1, 0x32: 1, 0x34: 2, 0x38: 4, 0x3A: 4, 0x3B: 4, 0x3C: 8, 0x3D: 8, 0x3E: 8, 0x7A: 4, 0x7F: 8}
_NULLABLE = {0x26: "int", 0x68: "bit", 0x6D: "float", 0x6E: "money", 0x6F: "datetime"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: name with its @, or empty; `output` when passed by reference."""

    name: str
    value: Any
    output: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One call in an RPC message."""

    procedure: str
    parameters: tuple[Parameter, ...]


def read_rpc(body: bytes) -> list[Request]:
    """Parse the calls of an RPC message."""
    reader = Reader(body)
    reader.skip_all_headers()
    calls = []
    while reader:
        length = reader.u16()
        name = _PROC_IDS.get(number := reader.u16(), f"sp_{number}") if length == _MAX else reader.text(length)
        reader.u16()  # option flags
        parameters = []
        while reader and reader.data[reader.at] not in _BATCH_SEPARATORS:
            parameters.append(_parameter(reader))
        if reader:
            reader.u8()
        calls.append(Request(name, tuple(parameters)))
    return calls


def _parameter(reader: Reader) -> Parameter:
    name = reader.text(reader.u8())
    flags = reader.u8()
    read = _value_reader(reader)
    value = read()
    return Parameter(name, value, bool(flags & 1))


def _value_reader(reader: Reader) -> Callable[[], Any]:
    """Read TYPE_INFO and return the function that reads the value behind it."""
    kind = reader.u8()
    if kind in _FIXED:
        return lambda: _fixed(kind, reader.take(_FIXED[kind]))
    if kind in _NULLABLE:
        reader.u8()
        return lambda: _nullable(_NULLABLE[kind], reader.take(reader.u8()))
    if kind == 0x24:
        reader.u8()
        return lambda: _when(reader.take(reader.u8()), lambda data: UUID(bytes_le=data))
    if kind in {0x6A, 0x6C, 0x37, 0x3F}:
        _, _, scale = reader.unpack("<3B")
        return lambda: _when(reader.take(reader.u8()), lambda data: values.read_decimal(data, scale))
    if kind == 0x28:
        return lambda: _when(
            reader.take(reader.u8()),
            lambda data: datetime.fromordinal(int.from_bytes(data, "little") + 1).date(),
        )
    if kind in {0x29, 0x2A, 0x2B}:
        scale = reader.u8()
        of = {
            0x29: lambda data: (datetime.min + values.read_time(data, scale)).time(),
            0x2A: lambda data: values.read_datetime2(data, scale),
            0x2B: lambda data: values.read_datetimeoffset(data, scale),
        }[kind]
        return lambda: _when(reader.take(reader.u8()), of)
    if kind in {0xE7, 0xEF, 0xA7, 0xAF, 0xA5, 0xAD}:
        size = reader.u16()
        decode = _decoder(reader, kind)
        return lambda: _variable(reader, decode, plp=size == _MAX)
    if kind in {0x27, 0x2F, 0x25, 0x2D}:  # the old char and binary types with one byte of length
        reader.u8()
        text = kind in {0x27, 0x2F}
        return lambda: _when(reader.take(reader.u8()), lambda data: data.decode("cp1252") if text else data)
    if kind in {0x23, 0x63, 0x22}:  # text, ntext, image
        reader.u32()
        decode = _decoder(reader, {0x23: 0xA7, 0x63: 0xE7, 0x22: 0xA5}[kind])
        return lambda: _long(reader, decode)
    raise ValueError(f"parameter type 0x{kind:02X} is not supported")


def _decoder(reader: Reader, kind: int) -> Callable[[bytes], Any]:
    if kind in {0xA5, 0xAD}:
        return bytes
    collation = reader.take(5)
    if kind in {0xE7, 0xEF}:
        return lambda data: data.decode("utf-16-le", "surrogatepass")
    codec = "utf-8" if collation[3] & 0x04 else "cp1252"
    return lambda data: data.decode(codec, "replace")


def _variable(reader: Reader, decode: Callable[[bytes], Any], *, plp: bool) -> Any:
    if not plp:
        length = reader.u16()
        return None if length == _MAX else decode(reader.take(length))
    if reader.u64() == 2**64 - 1:
        return None
    parts = []
    while length := reader.u32():
        parts.append(reader.take(length))
    return decode(b"".join(parts))


def _long(reader: Reader, decode: Callable[[bytes], Any]) -> Any:
    length = reader.u32()
    return None if length == 0xFFFFFFFF else decode(reader.take(length))


def _when(data: bytes, of: Callable[[bytes], Any]) -> Any:
    return of(data) if data else None


def _nullable(family: str, data: bytes) -> Any:
    if not data:
        return None
    if family == "int":
        return int.from_bytes(data, "little", signed=len(data) > 1)
    if family == "bit":
        return bool(data[0])
    if family == "float":
        return struct.unpack("<f" if len(data) == 4 else "<d", data)[0]
    return values.read_money(data) if family == "money" else values.read_datetime(data)


def _fixed(kind: int, data: bytes) -> Any:
    family = {0x32: "bit", 0x3A: "datetime", 0x3D: "datetime", 0x3B: "float", 0x3E: "float"}.get(kind)
    family = family or ("money" if kind in {0x3C, 0x7A} else "int")
    return _nullable(family, data)
