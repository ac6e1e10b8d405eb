"""Why did the connection fail? FreeTDS says the same for a closed port and a certificate it does not trust.

After a failed connect this asks the server itself: TCP, the PRELOGIN of TDS (MS-TDS 2.2.6.5), then a TLS
handshake by Python with the same trust. Nothing is logged in and nothing secret is sent.
"""

from __future__ import annotations

import socket
import ssl
import struct
from typing import TYPE_CHECKING, NamedTuple

from snapshot.sources import freetds

if TYPE_CHECKING:
    from snapshot.config import Config

_PRELOGIN, _RESPONSE = 0x12, 0x04
_HEADER = struct.Struct(">BBHHBB")
_ENCRYPTION_OPTION = 1
_NOT_SUPPORTED = 2
_MAX_PACKETS = 40


class Finding(NamedTuple):
    """What the probe found: the fields of a SourceError."""

    code: str
    cause: str
    remedy: str


def probe(config: Config) -> Finding | None:
    """Return what is wrong, or None if the handshake works (then the fault is elsewhere)."""
    source = config.source
    if source.instance and source.port is None:
        return None
    where = f"{source.server}:{source.port or 1433}"
    timeout = min(source.login_timeout_seconds, 10)
    try:
        with socket.create_connection((source.server, source.port or 1433), timeout=timeout) as connection:
            connection.settimeout(timeout)
            return _handshake(connection, config, where)
    except socket.gaierror:
        return Finding("unreachable", f"The host {source.server} is not known.", "Check source.server and DNS.")
    except ConnectionRefusedError:
        return Finding("unreachable", f"Nothing listens at {where}.", "Check that SQL Server runs, and source.port.")
    except TimeoutError:
        return Finding(
            "unreachable",
            f"{where} did not answer within {timeout} seconds.",
            "Check the firewall and source.port.",
        )
    except ssl.SSLCertVerificationError as error:
        return _certificate(error, config, where)
    except ssl.SSLError as error:
        reason = error.reason or "no common protocol"
        return Finding(
            "encryption",
            f"{where} could not agree on TLS ({reason}).",
            "SQL Server needs TLS 1.2: update it.",
        )
    except OSError as error:
        return Finding("unreachable", f"{where}: {error.strerror or error}.", "Check network and server.")


def _certificate(error: ssl.SSLCertVerificationError, config: Config, where: str) -> Finding:
    tls = config.source.tls
    if error.verify_code in {62, 64}:  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        wanted = tls.hostname or config.source.server
        return Finding(
            "certificate",
            f"The certificate of {where} is not for {wanted}.",
            "Set source.tls.hostname to a name in the certificate, or source.server to that name.",
        )
    return Finding(
        "certificate",
        f"The certificate of {where} is not trusted ({error.verify_message}).",
        "Set source.tls.ca to the PEM file of the CA that signed it (a self-signed certificate is its own CA).",
    )


def _handshake(connection: socket.socket, config: Config, where: str) -> Finding | None:
    source, tls = config.source, config.source.tls
    context = (
        ssl.create_default_context(cafile=path) if (path := freetds.ca_path(config)) else ssl.create_default_context()
    )
    context.check_hostname = tls.verify == "full"
    if tls.verify == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    name = tls.hostname or source.server
    if tls.encryption == "strict":
        context.set_alpn_protocols(["tds/8.0"])
        with context.wrap_socket(connection, server_hostname=name):
            return None
    connection.sendall(_packet(_PRELOGIN, _prelogin()))
    answer = _read_packet(connection)
    if _encryption(answer) == _NOT_SUPPORTED:
        return Finding(
            "encryption",
            f"{where} does not support encryption, and rows are never read in clear.",
            "Give SQL Server a certificate (SQL Server Configuration Manager, Protocols, Certificate).",
        )
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname=name)
    for _ in range(_MAX_PACKETS):
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            if outgoing.pending:
                connection.sendall(_packet(_PRELOGIN, outgoing.read()))
            incoming.write(_read_packet(connection))
        else:
            return None
    return None


def _prelogin() -> bytes:
    """VERSION and ENCRYPTION = ON, the two options that a server needs."""
    options = struct.pack(">BHH", 0, 11, 6) + struct.pack(">BHH", _ENCRYPTION_OPTION, 17, 1) + b"\xff"
    return options + bytes(6) + b"\x01"


def _packet(kind: int, payload: bytes) -> bytes:
    return _HEADER.pack(kind, 1, len(payload) + _HEADER.size, 0, 1, 0) + payload


def _read_packet(connection: socket.socket) -> bytes:
    header = _read(connection, _HEADER.size)
    length = int(_HEADER.unpack(header)[2])
    return _read(connection, max(length - _HEADER.size, 0))


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise ConnectionResetError(104, "the server closed the connection")
        data += chunk
    return data


def _encryption(payload: bytes) -> int:
    """Return the ENCRYPTION byte of a PRELOGIN answer; NOT_SUP if there is none."""
    at = 0
    while at + 5 <= len(payload) and payload[at] != 0xFF:  # noqa: PLR2004
        option, offset, length = struct.unpack_from(">BHH", payload, at)
        if option == _ENCRYPTION_OPTION and length and offset < len(payload):
            return int(payload[offset])
        at += 5
    return _NOT_SUPPORTED
