"""PRELOGIN and LOGIN7 as the server reads them (MS-TDS 2.2.6.4 and 2.2.6.5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum


class Encryption(IntEnum):
    """Values of the ENCRYPTION option (2.2.6.5); STRICT is TDS 8.0."""

    OFF = 0
    ON = 1
    NOT_SUPPORTED = 2
    REQUIRED = 3
    STRICT = 8


class Option(IntEnum):
    """Options of PRELOGIN (2.2.6.5)."""

    VERSION = 0
    ENCRYPTION = 1
    INSTANCE = 2
    THREAD_ID = 3
    MARS = 4
    TRACE_ID = 5
    FEDERATED_AUTHENTICATION = 6
    NONCE = 7
    TERMINATOR = 0xFF


def read_prelogin(body: bytes) -> dict[int, bytes]:
    """Return the options of a PRELOGIN message by number."""
    options, at = {}, 0
    while body[at] != Option.TERMINATOR:
        number, offset, length = struct.unpack_from(">BHH", body, at)
        options[number] = body[offset : offset + length]
        at += 5
    return options


def write_prelogin(encryption: Encryption) -> bytes:
    """Encode the server's answer to PRELOGIN: version 16.0.1000, encryption, no MARS."""
    options = {
        Option.VERSION: struct.pack(">BBHH", 16, 0, 1000, 0),
        Option.ENCRYPTION: bytes((encryption,)),
        Option.INSTANCE: b"\0",
        Option.THREAD_ID: b"",
        Option.MARS: b"\0",
    }
    head, data = b"", b""
    start = 5 * len(options) + 1
    for number, value in options.items():
        head += struct.pack(">BHH", number, start + len(data), len(value))
        data += value
    return head + bytes((Option.TERMINATOR,)) + data


def negotiate(client: int, server: Encryption) -> Encryption:
    """Return the server's answer to the client's ENCRYPTION value (the table of 2.2.6.5)."""
    if server is Encryption.NOT_SUPPORTED:
        return Encryption.NOT_SUPPORTED
    if client == Encryption.STRICT:
        return Encryption.STRICT
    if server in {Encryption.REQUIRED, Encryption.ON}:
        return Encryption.ON if client in {Encryption.ON, Encryption.REQUIRED} else Encryption.REQUIRED
    if client in {Encryption.ON, Encryption.REQUIRED}:
        return Encryption.ON
    return Encryption.NOT_SUPPORTED if client == Encryption.NOT_SUPPORTED else Encryption.OFF


@dataclass(frozen=True, slots=True)
class Login:
    """What a LOGIN7 message said (2.2.6.4)."""

    user: str
    password: str
    database: str
    application: str
    host: str
    server: str
    library: str
    language: str
    read_only: bool
    packet_bytes: int
    tds_version: int
    integrated: bool


def _reveal(data: bytes) -> str:
    """Undo the obfuscation of a password: XOR 0xA5, then the nibbles change places."""
    swapped = bytes(((b ^ 0xA5) >> 4 | (b ^ 0xA5) << 4) & 0xFF for b in data)
    return swapped.decode("utf-16-le")


def read_login(body: bytes) -> Login:
    """Parse LOGIN7."""
    _, version, packet_bytes, _, _, _ = struct.unpack_from("<6I", body)
    _, flags2, type_flags, _ = struct.unpack_from("<4B", body, 24)

    def field(index: int) -> bytes:
        offset, characters = struct.unpack_from("<HH", body, 36 + 4 * index)
        return body[offset : offset + 2 * characters]

    texts = [field(index) for index in range(9)]
    host, user, password, application, server, _, library, language, database = texts
    return Login(
        user=user.decode("utf-16-le"),
        password=_reveal(password),
        database=database.decode("utf-16-le"),
        application=application.decode("utf-16-le"),
        host=host.decode("utf-16-le"),
        server=server.decode("utf-16-le"),
        library=library.decode("utf-16-le"),
        language=language.decode("utf-16-le"),
        read_only=bool(type_flags & 0x20),
        packet_bytes=packet_bytes,
        tds_version=version,
        integrated=bool(flags2 & 0x80),
    )
