"""A client that costs little: keep-alive connections which send one fixed request again and again."""

from __future__ import annotations

import socket
import time

_BUFFER = bytearray(4 << 20)


class Connection:
    """One keep-alive connection with one request; every answer has the same length."""

    def __init__(self, port: int, target: str, authorization: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = (f"GET {target} HTTP/1.1", "Host: bench", f"Authorization: {authorization}", "", "")
        self._request = "\r\n".join(lines).encode()
        self.body = b""
        self._length = self._first()

    def _first(self) -> int:
        self._socket.sendall(self._request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._socket.recv(1 << 16)
        head, _, body = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{self._request.split()[1]!r} answered {head[:200]!r}")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        while len(body) < length:
            body += self._socket.recv(1 << 20)
        self.body = body
        return len(head) + 4 + length

    def once(self) -> None:
        """Send the request and read the answer."""
        self._socket.sendall(self._request)
        left = self._length
        while left:
            got = self._socket.recv_into(_BUFFER, left)
            if not got:
                raise SystemExit("the server closed the connection")
            left -= got

    def rate(self, seconds: float) -> float:
        """Return requests per second, one after the other."""
        count, began = 0, time.perf_counter()
        while (now := time.perf_counter()) - began < seconds:
            for _ in range(20):
                self.once()
            count += 20
        return count / (now - began)

    def close(self) -> None:
        """Close."""
        self._socket.close()
