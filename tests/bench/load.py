"""Clients that cost little: keep-alive connections that send ready-made requests."""

from __future__ import annotations

import socket
import time
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from place import AUTHORIZATION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BUFFER_BYTES = 16 << 20
_OK = b"HTTP/1.1 200 "
_LENGTH = b"content-length:"
_ANSWER_SECONDS = 60.0


def request(target: str, *, method: str = "GET", headers: Sequence[str] = ()) -> bytes:
    """Return the bytes of a request."""
    lines = (f"{method} {target} HTTP/1.1", "Host: bench", f"Authorization: {AUTHORIZATION}", *headers, "", "")
    return "\r\n".join(lines).encode("ascii")


def page(start_index: int, count: int, filter_text: str | None = None) -> str:
    """Return the target of a page of users."""
    selected = "" if filter_text is None else f"filter={quote(filter_text)}&"
    return f"/scim/v2/Users?{selected}startIndex={start_index}&count={count}"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: is it 200, its head, its body, and the bytes of both."""

    good: bool
    head: bytes
    body: memoryview

    def header(self, name: str) -> str:
        """Return a header's value, or nothing."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.decode("latin-1").lower() == name.lower():
                return value.decode("latin-1").strip()
        return ""


class Connection:
    """One keep-alive connection; an answer's body holds until the next request."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)

    def ask(self, asked: bytes) -> Answer:
        """Send a request and read the whole answer."""
        self._socket.sendall(asked)
        got, at = 0, -1
        while at < 0:
            got += self._receive(got)
            at = self._buffer.find(b"\r\n\r\n", 0, got)
        end = at + 4
        head = bytes(self._view[:end])
        lowered = head.lower()
        at = lowered.find(_LENGTH)
        if at < 0 and b"transfer-encoding" in lowered:
            raise SystemExit(f"{asked.split()[1]!r} was answered in chunks, which this client does not read")
        length = int(lowered[at + len(_LENGTH) : lowered.index(b"\r", at)]) if at >= 0 else 0
        total = end if asked.startswith(b"HEAD") else end + length
        while got < total:
            got += self._receive(got)
        return Answer(head.startswith(_OK), head, self._view[end:total])

    def repeat(self, asked: bytes, length: int) -> None:
        """Send a request whose answer has so many bytes, head included, and read it."""
        self._socket.sendall(asked)
        view, left = self._view, length
        while left:
            got = self._socket.recv_into(view, left)
            if not got:
                raise ConnectionError("the server closed the connection")
            left -= got

    def close(self) -> None:
        """Close."""
        self._socket.close()

    def _receive(self, at: int) -> int:
        got = self._socket.recv_into(self._view[at:])
        if not got:
            raise ConnectionError("the server closed the connection")
        return got


class Repeated:
    """One request, sent again and again on one connection; every answer is 200 and has the same length."""

    def __init__(self, port: int, asked: bytes) -> None:
        self._connection = Connection(port)
        self._asked = asked
        answer = self._connection.ask(asked)
        if not answer.good:
            raise SystemExit(f"{asked.split()[1]!r} answered {answer.head[:200]!r}")
        self.answer = answer
        self.body = bytes(answer.body)
        self._length = len(answer.head) + len(answer.body)

    def rate(self, seconds: float) -> float:
        """Return requests per second, one after the other."""
        repeat, asked, length = self._connection.repeat, self._asked, self._length
        count, began = 0, time.perf_counter()
        while (now := time.perf_counter()) - began < seconds:
            for _ in range(10):
                repeat(asked, length)
            count += 10
        return count / (now - began)

    def close(self) -> None:
        """Close."""
        self._connection.close()


@dataclass(slots=True)
class Latencies:
    """Seconds of each request, and how many failed."""

    seconds: array[float] = field(default_factory=lambda: array("d"))
    failures: int = 0

    def percentile_ms(self, share: float) -> float:
        """Return the latency that this share of the requests does not exceed."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000

    @property
    def largest_ms(self) -> float:
        return max(self.seconds) * 1000


def send_all(
    port: int, asked: Sequence[bytes], latencies: Latencies | None = None, *, until: Callable[[], bool] | None = None
) -> float:
    """Send requests one after the other on one connection; return the seconds that it took.

    With `until` the requests are sent again and again, and it is asked after each of them whether that is enough.
    """
    connection = Connection(port)
    clock = time.perf_counter
    began = clock()
    while True:
        for each in asked:
            before = clock()
            try:
                good = connection.ask(each).good
            except OSError:
                good = False
                connection.close()
                connection = Connection(port)
            if latencies is not None:
                latencies.seconds.append(clock() - before)
                latencies.failures += not good
            elif not good:
                raise SystemExit(f"{each.split()[1]!r} was not answered with 200")
            if until is not None and until():
                break
        if until is None or until():
            break
    took = clock() - began
    connection.close()
    return took
