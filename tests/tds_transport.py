"""One socket of the test server: packets in, packets out, TLS inside PRELOGIN or around everything."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import sys
import time
from typing import TYPE_CHECKING

from tds_packets import HEADER_BYTES, PacketType, Status, packets

if TYPE_CHECKING:
    from collections.abc import Callable

_READ_BYTES = 65536
_TLS_HANDSHAKE = 0x16  # record type of a ClientHello


class Gone(Exception):  # noqa: N818
    """The client is gone, or a fault has ended the connection."""


class Transport:
    """Read and write TDS messages on a connected socket; owns the socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._plain = bytearray()  # received, not yet consumed, decrypted when TLS is on
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.packet_bytes = 4096

    @property
    def tls_version(self) -> str | None:
        return self._tls.version() if self._tls else None

    @property
    def alpn(self) -> str | None:
        return self._tls.selected_alpn_protocol() if self._tls else None

    # --- receiving ---

    def _receive_raw(self) -> bytes:
        try:
            data = self._sock.recv(_READ_BYTES)
        except OSError as error:
            raise Gone(str(error)) from error
        if not data:
            raise Gone("closed by the client")
        return data

    def _fill(self) -> None:
        """Receive once; with TLS this may add nothing."""
        data = self._receive_raw()
        if self._tls is None:
            self._plain += data
            return
        self._incoming.write(data)
        self._drain_tls()

    def _drain_tls(self) -> None:
        assert self._tls is not None
        with contextlib.suppress(ssl.SSLWantReadError):
            while piece := self._tls.read(_READ_BYTES):
                self._plain += piece

    def starts_with_tls(self) -> bool:
        """Tell whether the first byte of the connection opens a TLS record, as TDS 8.0 does."""
        while not self._plain:
            self._fill()
        return self._plain[0] == _TLS_HANDSHAKE

    def _read_packet(self) -> tuple[int, int, bytes]:
        while len(self._plain) < HEADER_BYTES:
            self._fill()
        kind, status, length = struct.unpack_from(">BBH", self._plain)
        if length < HEADER_BYTES:
            raise Gone(f"packet length {length}")
        while len(self._plain) < length:
            self._fill()
        body = bytes(self._plain[HEADER_BYTES:length])
        del self._plain[:length]
        return kind, status, body

    def read_message(self) -> tuple[int, bytes]:
        """Read packets up to the end of a message; return its type and body."""
        parts = []
        while True:
            kind, status, body = self._read_packet()
            parts.append(body)
            if status & Status.EOM:
                return kind, b"".join(parts)

    def attention_waits(self) -> bool:
        """Read an Attention (2.2.1.7) if one has arrived while an answer is being sent."""
        # A selector, not select(): that one refuses descriptors above 1023, which a long test run has.
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            while selector.select(0):
                self._fill()
        if not self._plain:
            return False
        kind, _ = self.read_message()
        return kind == PacketType.ATTENTION

    # --- sending ---

    def send_raw(self, data: bytes) -> None:
        """Send bytes that are packets already."""
        if self._tls is not None:
            view = memoryview(data)
            for start in range(0, len(view), 1 << 20):
                self._tls.write(view[start : start + (1 << 20)])
                self._send_clear(self._outgoing.read())
            return
        self._send_clear(data)

    def _send_clear(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise Gone(str(error)) from error

    def send(self, kind: PacketType, body: bytes | bytearray | memoryview, *, last: bool = True) -> None:
        self.send_raw(packets(kind, body, self.packet_bytes, last=last))

    # --- TLS ---

    def start_tls(self, context: ssl.SSLContext, *, wrapped: bool) -> None:
        """Do the server's part of a handshake.

        `wrapped`: the records travel as bodies of PRELOGIN packets (2.2.6.5, TDS 7.x). Otherwise they are
        bare, as in TDS 8.0.
        """
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

        def receive() -> bytes:
            if wrapped:
                return self.read_message()[1]
            if self._plain:
                data = bytes(self._plain)
                self._plain.clear()
                return data
            return self._receive_raw()

        self._handshake(tls, receive, wrapped=wrapped)
        self._tls = tls
        if self._plain:  # sent behind the handshake in the same segment
            self._incoming.write(bytes(self._plain))
            self._plain.clear()
        self._drain_tls()

    def _handshake(self, tls: ssl.SSLObject, receive: Callable[[], bytes], *, wrapped: bool) -> None:
        def flush() -> None:
            if data := self._outgoing.read():
                self._send_clear(packets(PacketType.PRELOGIN, data, self.packet_bytes) if wrapped else data)

        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                flush()
                self._incoming.write(receive())
            except ssl.SSLError as error:
                with contextlib.suppress(Gone):
                    flush()
                raise Gone(f"TLS: {error.reason}") from error
            else:
                flush()
                return

    def stop_tls(self) -> None:
        """Go on in clear: when both sides said ENCRYPT_OFF, only LOGIN7 is encrypted (2.2.6.5)."""
        self._tls = None

    # --- ending ---

    def wait_until_sent(self, seconds: float = 2.0) -> None:
        """Wait until the peer's kernel has taken what was sent, so that a reset does not eat it."""
        if sys.platform != "linux":
            time.sleep(0.1)
            return
        import fcntl  # noqa: PLC0415
        import termios  # noqa: PLC0415

        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            left = struct.unpack("i", fcntl.ioctl(self._sock, termios.TIOCOUTQ, b"\0" * 4))[0]
            if not left:
                return
            time.sleep(0.002)

    def reset(self) -> None:
        """End the connection with RST."""
        self.wait_until_sent()
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def finish(self) -> None:
        """End the connection with FIN and wait for the client to do the same."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            self._sock.settimeout(2)
            while self._sock.recv(_READ_BYTES):
                pass
        self._sock.close()

    def ignore_until_closed(self) -> None:
        """Receive and drop everything: the silent server."""
        while True:
            self._receive_raw()

    def interrupt(self) -> None:
        """Wake the thread that blocks on this socket, from another thread."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()
