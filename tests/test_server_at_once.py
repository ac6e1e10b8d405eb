"""Requests that are answered where they were read, and those that have to wait: same answers, same order, no leaks."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from urllib.parse import quote

import orjson
import pytest
from server_fixtures import USER, Directory, person, serving
from server_raw import answer, asked

from server import at_once
from snapshot.secret import hash_secret

BY_ID = "/scim/v2/Users/E00001"
PAGE = "/scim/v2/Users?startIndex=1&count=3"
LOOK_UP = "/scim/v2/Users?filter=" + quote('userName eq "user2@example.com"')
SCAN = "/scim/v2/Users?filter=" + quote('userName co "user3@"')


def names(body: bytes) -> list[str]:
    return [item["userName"] for item in orjson.loads(body)["Resources"]]


@pytest.fixture
def directory(tmp_path):
    made = Directory(tmp_path).add(*[person(number) for number in range(1, 6)])
    made.publish()
    return made


@pytest.fixture
async def tasks():
    """The tasks that aiohttp starts for requests."""
    loop, started = asyncio.get_running_loop(), []

    def make(loop, coroutine, **options):
        if coroutine.__qualname__.endswith("_handle_request"):
            started.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(make)
    yield started
    loop.set_task_factory(None)


@pytest.mark.parametrize("target", [BY_ID, PAGE, LOOK_UP, "/-/ready", "/scim/v2/Schemas", "/scim/v2/Nothing"])
async def test_what_needs_no_waiting_needs_no_task(directory, tasks, target):
    """Pages, look-ups, single users, documents and errors are answered where they were read."""
    async with serving(directory) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        for _ in range(3):
            writer.write(asked(target))
            await answer(reader)
        assert tasks == []
        assert 3 == api.listener._connections.server.requests_count
        writer.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        asked(SCAN),
        asked(PAGE, "Connection: close"),
        asked(PAGE).replace(b"HTTP/1.1", b"HTTP/1.0"),
        asked("/scim/v2/Users/.search", "Content-Length: 2", method="POST") + b"{}",
        asked(BY_ID, "Content-Length: 2") + b"{}",
        asked(PAGE) + asked(BY_ID),
    ],
)
async def test_what_is_out_of_the_ordinary_goes_through_the_queue(directory, tasks, request_bytes):
    """Scans, bodies, connections that end, and requests sent two at a time have a task of their own."""
    async with serving(directory) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(request_bytes)
        assert 200 == (await answer(reader))[0]
        assert tasks
        writer.close()


async def test_answers_come_in_the_order_of_the_requests(directory):
    """One that has to wait is not overtaken by those behind it, in the same packet or in later ones."""
    async with serving(directory) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        for together in (True, False):
            for target in (SCAN, BY_ID, LOOK_UP, SCAN, PAGE, BY_ID):
                writer.write(asked(target))
                if not together:
                    await asyncio.sleep(0.001)
            scanned, one, found, again, page, last = [(await answer(reader))[1] for _ in range(6)]
            assert ["user3@example.com"] == names(scanned) == names(again)
            assert ["user2@example.com"] == names(found)
            assert 3 == len(names(page))
            assert "E00001" == orjson.loads(one)["id"] == orjson.loads(last)["id"]
        writer.close()


async def test_a_request_in_pieces(directory):
    """A request that arrives byte by byte is answered once it is whole, and so is the next one."""
    async with serving(directory) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        for number in range(len(asked(BY_ID))):
            writer.write(asked(BY_ID)[number : number + 1])
            await asyncio.sleep(0)
        assert 200 == (await answer(reader))[0]
        writer.write(asked(BY_ID) + asked(BY_ID)[:30])
        assert 200 == (await answer(reader))[0]
        writer.write(asked(BY_ID)[30:])
        assert 200 == (await answer(reader))[0]
        writer.close()


async def test_a_password_that_is_hashed_is_waited_for_once(tmp_path, tasks):
    """The first request waits for scrypt, later ones find it remembered."""
    hashed = {"type": "basic", "username": USER, "password": hash_secret("päss:word")}
    directory = Directory(tmp_path, auth=[hashed]).add(person(1))
    directory.publish()
    async with serving(directory) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        for _ in range(3):
            writer.write(asked(BY_ID))
            assert 200 == (await answer(reader))[0]
            assert 1 == len(tasks)
        writer.close()


async def test_a_client_that_reads_nothing_is_not_answered_on_and_on(directory):
    """What a client does not take stops its next requests; once it reads, all answers are there and whole."""
    directory.add(*[person(number) for number in range(6, 3_000)]).publish()
    many = 40
    async with serving(directory) as api:
        with socket.create_connection(("127.0.0.1", api.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            count = api.listener._connections.server.requests_count
            for _ in range(many):
                client.sendall(asked("/scim/v2/Users?count=2000"))
                await asyncio.sleep(0.005)
            # Each answer has a megabyte: what the system holds for the two sockets, and two that the server holds.
            taken = api.listener._connections.server.requests_count - count
            assert taken < many / 2
            await asyncio.to_thread(_read_answers, client, many)


def _read_answers(client: socket.socket, many: int) -> None:
    with client.makefile("rb") as file:
        for _ in range(many):
            length = 0
            while (line := file.readline().lower()) != b"\r\n":
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            assert 2000 == len(orjson.loads(file.read(length))["Resources"])


async def test_a_page_too_large_to_be_sent_at_once(directory, tasks):
    """An answer of several megabytes goes out as fast as its client takes it, by the task of its request."""
    directory.add(*[person(number) for number in range(6, 5_400)]).publish()
    async with serving(directory) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(asked("/scim/v2/Users?count=5000"))
        status, body = await answer(reader)
        assert 200 == status
        assert at_once._AT_ONCE_BYTES < len(body)
        assert 5000 == len(names(body))
        assert 1 == len(tasks)
        writer.close()


async def test_an_idle_connection_is_closed_counted_from_its_last_request(directory, monkeypatch):
    """Every answer begins the time for the next request anew, also one that was given at once."""
    monkeypatch.setattr("server.listener.KEEPALIVE_SECONDS", 0.6)
    async with serving(directory) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        for _ in range(4):
            await asyncio.sleep(0.3)
            writer.write(asked(BY_ID))
            assert 200 == (await answer(reader))[0]
        assert b"" == await asyncio.wait_for(reader.read(), 3)
        writer.close()


@pytest.mark.parametrize("target", [BY_ID, SCAN])
async def test_a_fault_in_a_handler_is_told_as_a_scim_error(directory, caplog, monkeypatch, target):
    """An error that nobody foresaw, before or after waiting, is a 500 in SCIM shape, logged once."""

    async def wrong(*_arguments):
        if target is SCAN:
            await asyncio.sleep(0.01)
        raise RuntimeError("surprise")

    monkeypatch.setattr("server.resources.handle", wrong)
    async with serving(directory) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        for _ in range(2):
            writer.write(asked(target))
            status, body = await answer(reader)
            assert 500 == status
            assert "500" == orjson.loads(body)["status"]
            assert "surprise" not in body.decode()
        assert 2 == len([record for record in caplog.records if record.levelno == logging.ERROR])
        writer.close()


@pytest.mark.parametrize("target", [BY_ID, SCAN])
async def test_a_handler_that_breaks_its_promise(directory, caplog, monkeypatch, target):
    """Should the outermost handler itself raise, the client is told so and the connection is closed."""

    async def wrong(_request):
        if target is SCAN:
            await asyncio.sleep(0.01)
        raise RuntimeError("surprise")

    monkeypatch.setattr("server.app.make_canonical", lambda _app, _handler: wrong)
    async with serving(directory) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(asked(target))
        status, body = await answer(reader)
        assert 500 == status
        assert "500" == orjson.loads(body)["status"]
        assert b"" == await asyncio.wait_for(reader.read(), 3)
        assert "surprise" not in body.decode()
        writer.close()


async def test_clients_that_go_away_while_they_wait(directory, caplog):
    """A client that leaves during a scan leaves nothing behind, and no error in the log."""
    caplog.set_level(logging.INFO)
    async with serving(directory) as api:
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", api.port)
            writer.write(asked(SCAN))
            await writer.drain()
            writer.transport.abort()
        await asyncio.sleep(0.2)
        assert 200 == (await api.get("v2/Users")).status
        gc.collect()
        left = [item for item in gc.get_objects() if isinstance(item, at_once.AtOnce) and item.connected]
        assert 1 >= len(left)  # that of the client above
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_stopping_while_a_request_waits(directory):
    """A request that waits for a thread which never ends is given up in time; it was told to stop."""
    cancelled = []

    async def stuck(_request):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async with serving(directory) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(asked(BY_ID))
        await answer(reader)
        (connection,) = api.listener._connections.server.connections
        connection._handler = stuck
        writer.write(asked(BY_ID))
        await asyncio.sleep(0.05)
        began = asyncio.get_running_loop().time()
        await api.listener.stop()
        assert asyncio.get_running_loop().time() - began < 4
        assert [True] == cancelled
        assert b"" == await reader.read()
        writer.close()


async def test_an_import_read_by_many_clients_at_once(directory):
    """Pages, look-ups and scans of many connections at a time are each answered rightly."""
    directory.add(*[person(number) for number in range(6, 400)]).publish()

    async def read(port: int, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        found: list[str] = []
        while len(found) < 399:
            writer.write(asked(f"/scim/v2/Users?startIndex={len(found) + 1}&count=20"))
            status, body = await answer(reader)
            assert 200 == status
            found += names(body)
            writer.write(asked(SCAN if len(found) % 40 else BY_ID))
            assert 200 == (await answer(reader))[0]
        assert [f"user{each}@example.com" for each in range(1, 400)] == sorted(found, key=lambda name: int(name[4:-12]))
        writer.close()

    async with serving(directory) as api:
        await asyncio.gather(*[read(api.port, number) for number in range(20)])
