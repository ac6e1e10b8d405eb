"""AtOnce: aiohttp's protocol, answering a request where it was read unless something has to be waited for.

aiohttp puts every request into a queue, wakes the task of the connection, and starts another task for the handler:
rounds of the event loop that cost more than a look-up in a mapped file. Here the handler makes its first step while
the request is being received, as an eager task would (asyncio, "Eager Task Factory"), and nearly always that is the
whole way. What has to wait, and all that is out of the ordinary, goes through aiohttp's queue as ever.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, cast

from aiohttp import EMPTY_PAYLOAD, web
from aiohttp.http import StreamWriter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence

    from aiohttp import StreamReader
    from aiohttp.http import HttpRequestParser, RawRequestMessage

    from server.answer import Answer

    Message = tuple[RawRequestMessage, StreamReader]

# Their handlers need no task of their own: asyncio.timeout, around a body, would.
_METHODS = frozenset({"GET", "HEAD"})
# A larger answer is sent piece by piece, as fast as the client takes it.
_AT_ONCE_BYTES = 2 << 20


class AtOnce(web.RequestHandler):
    """One connection. Its handler, that of the server, answers every request with an Answer and raises nothing."""

    __slots__ = ("_begun", "_handler", "_later")

    def __init__(self, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._handler = cast("Callable[[web.BaseRequest], Coroutine[Any, Any, Answer]]", server.request_handler)
        # The rest of the request that aiohttp takes from its queue next, if its handler has made a step already.
        self._begun: Awaitable[Answer] | None = None
        # What is done after the step that a handler makes at this moment; None while none does.
        self._later: list[Callable[[], None]] | None = None
        self._request_handler = self._go_on
        self._parser = cast("HttpRequestParser", _Parser(self._parser, self._answer))

    def _answer(self, message: RawRequestMessage, payload: StreamReader) -> bool:
        """Answer a request, the only one of this connection; False leaves it to aiohttp."""
        waiter, transport = self._waiter, self.transport
        if (
            waiter is None  # an earlier request is still being answered
            or waiter.done()
            or self._paused  # the client has not yet taken what was sent
            or transport is None
            or transport.is_closing()
            or self._keepalive_handle is None
            or self._manager is None
            or self._request_factory is None
            or message.should_close
            or message.upgrade
            or payload is not EMPTY_PAYLOAD
            or message.method not in _METHODS
        ):
            return False
        writer = StreamWriter(self, self._loop)
        request = self._request_factory(message, payload, self, writer, self._task_handler)  # type: ignore[arg-type]
        later = self._later = []
        try:
            answer = self._step(request)
            if answer is None:
                return False
            packets, rest = answer.packets(request)
            for packet in packets:
                transport.write(packet)
            transport.write(rest)
        finally:
            # Also when the handler waits or has failed: nothing else has run since it said so.
            self._later = None
            for duty in later:
                duty()
        # What aiohttp notes of a request that it has answered.
        self._request_count += 1
        self._manager.requests_count += 1
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return True

    def _step(self, request: web.BaseRequest) -> Answer | None:
        """Let the handler make its first step; return what can be sent at once. None: aiohttp has to go on."""
        begun = self._handler(request)
        try:
            awaited = begun.send(None)
        except StopIteration as done:
            answer: Answer = done.value
            if answer.size <= _AT_ONCE_BYTES and answer.keep_alive is not False:
                return answer
            self._begun = _ready(answer)
        except Exception:  # noqa: BLE001 (against the promise; aiohttp asks again, and tells of it)
            return None
        else:
            self._begun = _resume(begun, awaited)
        return None

    def later(self, duty: Callable[[], None]) -> None:
        """Do something before any other request can run: after the answer was sent if that is in the same step."""
        if self._later is None:
            duty()
        else:
            self._later.append(duty)

    async def _go_on(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle the request that aiohttp took from its queue."""
        begun, self._begun = self._begun, None
        return await (self._handler(request) if begun is None else begun)


def later(request: web.BaseRequest, duty: Callable[[], None]) -> None:
    """Do what other requests have to find done, but this client need not wait for."""
    protocol = request.protocol
    if isinstance(protocol, AtOnce):
        protocol.later(duty)
    else:
        duty()


class _Parser:
    """aiohttp's parser, but a request that was answered already is not given to aiohttp."""

    def __init__(self, parser: Any, answer: Callable[[RawRequestMessage, StreamReader], bool]) -> None:
        self._parser = parser
        self._answer = answer

    def feed_data(self, data: bytes) -> tuple[Sequence[Message], bool, bytes]:
        """Return what aiohttp's parser returns, without the request that was answered here."""
        messages, upgraded, tail = self._parser.feed_data(data)
        if len(messages) == 1 and not upgraded and self._answer(*messages[0]):
            self._parser.message_consumed()
            messages = ()
        return messages, upgraded, tail

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


@types.coroutine
def _resume(begun: Coroutine[Any, Any, Answer], awaited: object) -> Generator[object, None, Answer]:
    """Go on with a coroutine that waits for something, in the task that awaits this."""
    try:
        while True:
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 (cancelled: the coroutine is told)
                awaited = begun.throw(error)
            else:
                awaited = begun.send(None)
    except StopIteration as done:
        return cast("Answer", done.value)


async def _ready(answer: Answer) -> Answer:
    return answer
