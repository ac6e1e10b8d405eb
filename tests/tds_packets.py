"""Packets and the tokens that carry no rows (MS-TDS 2.2.3 and 2.2.7)."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER_BYTES = 8  # 2.2.3.1
DEFAULT_PACKET_BYTES = 4096  # 2.2.6.4: before LOGIN7 has been answered
MAX_PACKET_BYTES = 32767
TDS_7_4 = 0x74000004
TDS_8_0 = 0x08000000
TDS_7_3_A = 0x730A0003  # the oldest version whose clients know date, time, datetime2


class PacketType(IntEnum):
    """Message types (2.2.3.1.1)."""

    SQL_BATCH = 0x01
    RPC = 0x03
    TABULAR_RESULT = 0x04
    ATTENTION = 0x06
    BULK_LOAD = 0x07
    TRANSACTION_MANAGER = 0x0E
    LOGIN7 = 0x10
    SSPI = 0x11
    PRELOGIN = 0x12


class Status(IntFlag):
    """Packet status bits (2.2.3.1.2)."""

    NORMAL = 0x00
    EOM = 0x01
    IGNORE = 0x02


class Done(IntFlag):
    """Status bits of DONE, DONEINPROC and DONEPROC (2.2.7.6 to 2.2.7.8)."""

    FINAL = 0x0000
    MORE = 0x0001
    ERROR = 0x0002
    IN_TRANSACTION = 0x0004
    COUNT = 0x0010
    ATTENTION = 0x0020
    SERVER_ERROR = 0x0100


class Token(IntEnum):
    """Token types (2.2.4.2)."""

    RETURNSTATUS = 0x79
    COLMETADATA = 0x81
    ORDER = 0xA9
    ERROR = 0xAA
    INFO = 0xAB
    RETURNVALUE = 0xAC
    LOGINACK = 0xAD
    FEATUREEXTACK = 0xAE
    ROW = 0xD1
    NBCROW = 0xD2
    ENVCHANGE = 0xE3
    SSPI = 0xED
    DONE = 0xFD
    DONEPROC = 0xFE
    DONEINPROC = 0xFF


class EnvChange(IntEnum):
    """Kinds of ENVCHANGE (2.2.7.9)."""

    DATABASE = 1
    LANGUAGE = 2
    PACKET_SIZE = 4
    COLLATION = 7
    BEGIN_TRANSACTION = 8
    COMMIT_TRANSACTION = 9
    ROLLBACK_TRANSACTION = 10
    ROUTING = 20


class Command(IntEnum):
    """CurCmd of a DONE token, as SQL Server sends them (2.2.7.6)."""

    NONE = 0x00
    SELECT = 0xC1
    SET = 0xB9
    BEGIN_TRANSACTION = 0xD4
    COMMIT = 0xD5
    ROLLBACK = 0xD2
    EXECUTE = 0xE0


def packets(kind: PacketType, body: bytes | bytearray | memoryview, size: int, *, last: bool = True) -> bytes:
    """Cut a message, or the start of one, into packets of `size` bytes and return them joined."""
    room = size - HEADER_BYTES
    view = memoryview(body)
    total = len(view)
    parts: list[bytes | memoryview] = []
    number = 1
    for start in range(0, total, room) or (0,):
        piece = view[start : start + room]
        status = Status.EOM if last and start + room >= total else Status.NORMAL
        parts.append(struct.pack(">BBHHBB", kind, status, len(piece) + HEADER_BYTES, 0, number & 0xFF, 0))
        parts.append(piece)
        number += 1
    return b"".join(parts)


def ucs2(text: str) -> bytes:
    """Encode as UTF-16LE; a lone surrogate passes, as it does in SQL Server."""
    return text.encode("utf-16-le", "surrogatepass")


def b_varchar(text: str) -> bytes:
    """Length in characters in one byte, then UTF-16LE (2.2.5.1.2)."""
    data = ucs2(text)
    return bytes((len(data) // 2,)) + data


def us_varchar(text: str) -> bytes:
    """Length in characters in two bytes, then UTF-16LE (2.2.5.1.2)."""
    data = ucs2(text)
    return struct.pack("<H", len(data) // 2) + data


def message(
    token: Token,
    number: int,
    text: str,
    *,
    severity: int = 16,
    state: int = 1,
    line: int = 1,
    server: str = "TDSTEST",
    procedure: str = "",
) -> bytes:
    """Encode ERROR (2.2.7.10) or INFO (2.2.7.13)."""
    body = struct.pack("<iBB", number, state, severity)
    body += us_varchar(text) + b_varchar(server) + b_varchar(procedure) + struct.pack("<i", line)
    return struct.pack("<BH", token, len(body)) + body


def done(status: Done, *, command: int = Command.NONE, rows: int = 0, token: Token = Token.DONE) -> bytes:
    """Encode DONE, DONEINPROC or DONEPROC; the row count has eight bytes since TDS 7.2."""
    return struct.pack("<BHHQ", token, status, command, rows)


def env_change(kind: EnvChange, new: str | bytes, old: str | bytes = b"") -> bytes:
    """Encode ENVCHANGE with texts (B_VARCHAR) or bytes (B_VARBYTE) (2.2.7.9)."""
    body = bytes((kind,))
    for value in (new, old):
        body += b_varchar(value) if isinstance(value, str) else bytes((len(value),)) + value
    return struct.pack("<BH", Token.ENVCHANGE, len(body)) + body


def routing(host: str, port: int) -> bytes:
    """Encode the ENVCHANGE that sends a read-only login to another server (2.2.7.9, type 20)."""
    value = struct.pack("<BH", 0, port) + us_varchar(host)
    body = bytes((EnvChange.ROUTING,)) + struct.pack("<H", len(value)) + value + b"\0\0"
    return struct.pack("<BH", Token.ENVCHANGE, len(body)) + body


def login_ack(version: int, program: str = "Microsoft SQL Server") -> bytes:
    """Encode LOGINACK for a server that calls itself 16.0.1000 (2.2.7.14)."""
    body = struct.pack(">BI", 1, version) + b_varchar(program) + bytes((16, 0, 1000 >> 8, 1000 & 0xFF))
    return struct.pack("<BH", Token.LOGINACK, len(body)) + body


def return_status(value: int) -> bytes:
    """Encode RETURNSTATUS (2.2.7.18)."""
    return struct.pack("<Bi", Token.RETURNSTATUS, value)


def order(columns: Iterable[int]) -> bytes:
    """Encode ORDER: the one-based columns the rows are sorted by (2.2.7.17)."""
    numbers = b"".join(struct.pack("<H", column) for column in columns)
    return struct.pack("<BH", Token.ORDER, len(numbers)) + numbers


class Reader:
    """Read little-endian fields from the body of one message."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise ValueError(f"message ends at byte {len(self.data)}, field ends at {end}")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def unpack(self, layout: str) -> tuple:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def text(self, characters: int) -> str:
        return self.take(2 * characters).decode("utf-16-le", "surrogatepass")

    def skip_all_headers(self) -> None:
        """Skip ALL_HEADERS at the start of a batch, RPC or transaction request (2.2.5.3)."""
        total = int.from_bytes(self.data[self.at : self.at + 4], "little")
        self.take(total)
