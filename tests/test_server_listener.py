"""The listener over raw sockets: malformed requests, parser limits, TLS and its reload, the address taken."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import ssl
import weakref
from urllib.parse import quote

import aiohttp
import msgspec
import orjson
import pytest
import trustme
from server_fixtures import Directory, basic, person, serving

from server.app import create_app
from server.listener import Gate, Listener, ListenError, max_connections, raise_open_files
from server.live import LiveSnapshot
from server.tls import CertificateError, open_certificate
from snapshot.config import ServerTls
from snapshot.secret import Secret

AUTHORIZATION = f"Authorization: {basic()}\r\n".encode()


@pytest.fixture
def directory(tmp_path):
    made = Directory(tmp_path).add(person(1))
    made.publish()
    return made


async def talk(port: int, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send raw bytes; return status, headers and body of the first answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode()
        first, *fields = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (field.split(":", 1) for field in fields)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return int(first.split()[1]), headers, body
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /scim/v2/Users HTTP/9.9\r\n\r\n", 400),
        (b"BREW /scim/v2/Users HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /scim/v2/Us ers HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /scim/v2/Users HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n", 400),
        (b"GET /scim/v2/Users HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET /scim/v2/Users HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"POST /scim/v2/Users HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /scim/v2/" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /scim/v2/Users HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", 431),
        (b"GET /scim/v2/Users HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 1000 + b"\r\n", 431),
    ],
)
async def test_malformed_requests(directory, caplog, data, status):
    """What aiohttp's parser refuses is answered in SCIM shape, and repeats nothing of what was sent."""
    caplog.set_level(logging.DEBUG)
    async with serving(directory) as api:
        found, headers, body = await talk(api.port, data)
        assert status == found
        error = orjson.loads(body)
        assert error["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
        assert str(status) == error["status"]
        assert headers["content-type"] == "application/scim+json; charset=utf-8"
        assert headers["server"] == "scim-snapshot"
        assert "Traceback" not in caplog.text
        # and the next connection is served
        assert (await api.get("v2/Users")).status == 200


async def test_a_target_beyond_the_parser_in_1_1(directory):
    """The version of a target that is too long for the parser is known from its beginning."""
    async with serving(directory) as api:
        _, _, body = await talk(api.port, b"GET /scim/v1/" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert orjson.loads(body)["Errors"][0]["code"] == "414"


@pytest.mark.parametrize(
    "data",
    [
        b"BREW /scim/v1/Users HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /scim/v1/Us ers HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://any.host/scim/v1/Users HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /scim/v1/Users HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"GET /scim/v1/Users HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_malformed_requests_in_1_1(directory, data):
    """What the parser refuses below a base path of SCIM 1.1 is answered in the 1.1 shape."""
    async with serving(directory) as api:
        status, headers, body = await talk(api.port, data)
    assert str(status) == orjson.loads(body)["Errors"][0]["code"]
    assert "application/json; charset=utf-8" == headers["content-type"]


async def test_a_malformed_request_in_pieces(directory):
    """The base path is known too when the fault comes later than the request line, after a good request to another."""
    async with serving(directory) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(READY)
        await reader.readuntil(b"}")
        writer.write(b"GET /scim/v1/Users HTTP/1.1\r\nHost: x\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"Bad Header: x\r\n\r\n")
        assert b'"Errors"' in await asyncio.wait_for(reader.read(), 3)
        writer.close()


async def test_a_body_that_is_not_what_its_encoding_says(directory, caplog):
    """A body that is no gzip is refused as any other write, and nothing is logged as an error."""
    caplog.set_level(logging.DEBUG)
    head = b"POST /scim/v2/Users HTTP/1.1\r\nHost: x\r\n%bContent-Encoding: gzip\r\n" % AUTHORIZATION
    async with serving(directory) as api:
        assert 405 == (await talk(api.port, head + b"Content-Length: 7\r\n\r\nnonsens"))[0]
        assert (await api.get("v2/Users")).status == 200
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_raw_bytes_in_a_target(directory):
    """Bytes that are no UTF-8, raw in path or query, are a 400 and never a 500."""
    async with serving(directory) as api:
        for target, status in ((b"/scim/v2/Users/\xff", 400), (b"/scim/v2/Users?filter=\xff", 400)):
            request = b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (target, AUTHORIZATION)
            assert (await talk(api.port, request))[0] == status


@pytest.mark.parametrize("target", ["/scim/v2/Users/\u00fc", '/scim/v2/Users?filter=userName%20eq%20"\u0141"'])
async def test_letters_that_are_not_percent_encoded(directory, target):
    """A raw letter beyond ASCII in a target is a 400 that says what to do; encoded it is understood."""
    async with serving(directory) as api:
        request = b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (target.encode(), AUTHORIZATION)
        status, _, body = await talk(api.port, request)
        assert (400, "invalidSyntax") == (status, orjson.loads(body)["scimType"])
        assert "percent-encoded" in orjson.loads(body)["detail"]
        assert (await api.get(quote(target.removeprefix("/scim/"), safe="/?=%"))).status in {200, 404}


async def test_http_1_0_and_no_host(directory):
    """A plain HTTP/1.0 probe of a load balancer is answered."""
    async with serving(directory) as api:
        assert (await talk(api.port, b"GET /-/ready HTTP/1.0\r\n\r\n"))[0] == 200


@pytest.mark.parametrize(
    ("first", "field", "expected"),
    [
        (b"HTTP/1.0", b"", None),
        (b"HTTP/1.0", b"Connection: keep-alive\r\n", "keep-alive"),
        (b"HTTP/1.1", b"", None),
        (b"HTTP/1.1", b"Connection: close\r\n", "close"),
    ],
)
async def test_who_closes_the_connection_is_told(directory, first, field, expected):
    """An answer says what becomes of the connection where the version of HTTP does not."""
    async with serving(directory) as api:
        request = b"GET /-/healthy %b\r\nHost: x\r\n%b\r\n" % (first, field)
        status, headers, _ = await talk(api.port, request)
        assert (200, expected) == (status, headers.get("connection"))


@pytest.mark.parametrize("line", [b"OPTIONS * HTTP/1.1", b"CONNECT any.host:443 HTTP/1.1"])
async def test_targets_without_a_path(directory, line):
    """A target that names no path is a 404, not the root."""
    async with serving(directory) as api:
        assert 404 == (await talk(api.port, line + b"\r\nHost: x\r\n\r\n"))[0]


async def test_an_idle_connection_holds_no_snapshot(directory):
    """What a connection was sent is let go with the last byte, so an old generation is freed while it stays open."""
    async with serving(directory) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(b"GET /scim/v2/Users/E00001 HTTP/1.1\r\nHost: x\r\n%b\r\n" % AUTHORIZATION)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
        old = weakref.ref(api.live.current)
        directory.add(person(2)).publish()
        await api.follow()
        for _ in range(100):
            if old() is None:
                break
            await asyncio.sleep(0.01)
        assert old() is None
        writer.close()


async def test_a_client_that_reads_slowly_gets_all_of_it(directory):
    """A page larger than any buffer arrives whole at a client that reads it in small pieces."""
    directory.add(*[person(number) for number in range(2, 5_400)]).publish()
    async with serving(directory) as api:
        with socket.create_connection(("127.0.0.1", api.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            target = b"/scim/v2/Users?count=5000"
            client.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%b\r\n" % (target, AUTHORIZATION))
            with client.makefile("rb") as file:
                answer = await asyncio.to_thread(file.read)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        assert 5000 == len(orjson.loads(body)["Resources"])


async def test_absolute_targets(directory):
    """A target in absolute form, as a proxy sends it, is understood."""
    async with serving(directory) as api:
        request = b"GET http://any.host/scim/v1/Users HTTP/1.1\r\nHost: x\r\n%b\r\n" % AUTHORIZATION
        assert (await talk(api.port, request))[0] == 200


async def test_a_taken_port(directory):
    """A port that is taken is one sentence, not a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = msgspec.structs.replace(directory.config.server, port=port)
        config = msgspec.structs.replace(directory.config, server=server)
        listener = Listener(create_app(config, LiveSnapshot(config.data_dir)))
        with pytest.raises(ListenError, match=f"Port {port} on 127.0.0.1 is taken"):
            await listener.start()
        await listener.stop()


async def test_stopping_ends_a_running_request_in_time(directory):
    """A client that never finishes its request does not hold up the stop."""
    async with serving(directory) as api:
        _, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(b"POST /scim/v1/Users HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        await writer.drain()
        began = asyncio.get_running_loop().time()
        await api.listener.stop()
        assert asyncio.get_running_loop().time() - began < 4
        writer.close()


@contextlib.asynccontextmanager
async def gated(directory, gate):
    """Serve with limits of the test; yield the port."""
    live = LiveSnapshot(directory.config.data_dir)
    await live.poll()
    listener = Listener(create_app(directory.config, live), gate=gate)
    ((_, port),) = await listener.start()
    try:
        yield port
    finally:
        await listener.stop()


READY = b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("begun", [b"", b"GET /-/ready HTTP/1.1\r\nHost: x\r\n", READY + READY[:20]])
async def test_a_connection_without_a_whole_request_head_is_closed(directory, begun):
    """Silence, or half a head, first or later on a connection, ends after the limit."""
    async with gated(directory, Gate(10, head_seconds=0.2)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        first, _, rest = begun.partition(READY)
        if rest:
            writer.write(READY)
            await reader.readuntil(b"}")
        writer.write(rest or first)
        await asyncio.wait_for(reader.read(), 3)
        writer.close()


async def test_a_dripping_head_is_closed_and_an_idle_connection_is_not(directory):
    """Single bytes do not prolong the time for a head; a connection between two requests may be silent."""
    async with gated(directory, Gate(10, head_seconds=0.2)) as port:
        idle_reader, idle = await asyncio.open_connection("127.0.0.1", port)
        idle.write(READY)
        await idle_reader.readuntil(b"}")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            for number in range(40):
                writer.write(READY[number : number + 1])
                await writer.drain()
                await asyncio.sleep(0.03)
                if reader.at_eof():
                    break
        assert reader.at_eof() or reader.exception()
        idle.write(READY)
        assert b"HTTP/1.1 200 OK\r\n" == await idle_reader.readline()
        idle.close()
        writer.close()


async def test_a_slow_body_is_no_slow_head(directory):
    """Bytes of a body that comes late do not close the connection as half a head would."""
    head = b"POST /scim/v2/Users HTTP/1.1\r\nHost: x\r\n%bContent-Length: 6\r\n\r\n" % AUTHORIZATION
    async with gated(directory, Gate(10, head_seconds=0.2)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        for _ in range(6):
            await asyncio.sleep(0.06)
            writer.write(b"x")
        await asyncio.sleep(0.3)
        writer.write(READY)
        assert b"HTTP/1.1 405 Method Not Allowed\r\n" == await reader.readline()
        await asyncio.wait_for(reader.readuntil(b"HTTP/1.1 200 OK\r\n"), 3)
        writer.close()


async def test_too_many_connections_are_closed_at_once(directory, caplog):
    """Above the limit a connection is closed and one warning logged; when others end, new ones are served."""
    gate = Gate(2)
    async with gated(directory, gate) as port:
        kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                assert b"" == await asyncio.wait_for(reader.read(), 3)
            writer.close()
        told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert ["too many connections"] == told
        for _, writer in kept:
            writer.close()
        for _ in range(100):
            if gate.open == 0:
                break
            await asyncio.sleep(0.02)
        assert 200 == (await talk(port, READY))[0]
    await asyncio.sleep(0)
    assert 0 == gate.open


@pytest.mark.parametrize(("files", "expected"), [(None, 2000), (4096, 2000), (1024, 896), (256, 128), (100, 1)])
def test_the_limit_of_connections_leaves_files_free(files, expected):
    """So many connections that files of snapshots and logs can still be opened."""
    assert expected == max_connections(files)


def test_the_limit_of_open_files_is_never_lowered():
    """Raising the limit of open files twice gives the same."""
    assert raise_open_files() == raise_open_files()


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def secure(directory, authority):
    """The directory with a certificate for 127.0.0.1."""
    write_pair(directory, authority)
    tls = ServerTls(certificate="server.pem", key="server.key")
    server = msgspec.structs.replace(directory.config.server, tls=tls)
    directory.config = msgspec.structs.replace(directory.config, server=server)
    return directory


def write_pair(directory, authority) -> bytes:
    """Write a new certificate and key; return the certificate."""
    made = authority.issue_cert("127.0.0.1")
    made.cert_chain_pems[0].write_to_path(str(directory.folder / "server.pem"))
    made.private_key_pem.write_to_path(str(directory.folder / "server.key"))
    return made.cert_chain_pems[0].bytes()


def trusting(authority) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def shown_certificate(port: int, context: ssl.SSLContext) -> bytes:
    """Return the certificate, as DER, that a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_https(secure, authority):
    """A client that checks the certificate imports over TLS 1.2 or newer, and over nothing older."""
    async with (
        serving(secure, certificate=open_certificate(secure.config)) as api,
        aiohttp.ClientSession() as session,
        session.get(
            f"https://127.0.0.1:{api.port}/scim/v1/Users",
            ssl=trusting(authority),
            headers={"Authorization": basic()},
        ) as answer,
    ):
        assert answer.status == 200
        assert (await answer.json())["totalResults"] == 1


async def test_the_oldest_tls_version(secure):
    """TLS 1.0 and 1.1 are not spoken."""
    assert ssl.TLSVersion.TLSv1_2 == open_certificate(secure.config).context.minimum_version


async def test_a_new_certificate_is_taken_up(secure, authority):
    """New files are used for new connections without a restart; a broken pair changes nothing."""
    certificate = open_certificate(secure.config)
    async with serving(secure, certificate=certificate) as api:
        first = await shown_certificate(api.port, trusting(authority))
        (secure.folder / "server.pem").write_text("broken")
        await asyncio.sleep(0.2)
        assert first == await shown_certificate(api.port, trusting(authority))
        expected = ssl.PEM_cert_to_DER_cert(write_pair(secure, authority).decode())
        for _ in range(100):
            await asyncio.sleep(0.02)
            if expected == await shown_certificate(api.port, trusting(authority)):
                break
        assert expected == await shown_certificate(api.port, trusting(authority))
        assert expected != first


async def test_half_a_new_pair_is_not_taken_up(secure, authority, caplog):
    """A new certificate whose key has not arrived yet is told once and keeps the old pair."""
    certificate = open_certificate(secure.config)
    shutil.copy(secure.folder / "server.key", secure.folder / "old.key")
    write_pair(secure, authority)
    shutil.copy(secure.folder / "old.key", secure.folder / "server.key")
    assert not certificate.reload()
    assert not certificate.reload()
    assert [record.getMessage() for record in caplog.records] == ["certificate not replaced"]


@pytest.mark.parametrize("content", [None, "nonsense"])
def test_a_certificate_that_cannot_be_used(secure, content):
    """A missing or broken certificate is one sentence at start."""
    path = secure.folder / "server.pem"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(CertificateError, match=r"server\.pem"):
        open_certificate(secure.config)


def test_a_key_with_a_password_does_not_ask_the_terminal(secure, authority):
    """An encrypted key without the right key_password is an error, never a prompt."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    path = secure.folder / "server.key"
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"key-password")
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    with pytest.raises(CertificateError):
        open_certificate(secure.config)
    tls = msgspec.structs.replace(secure.config.server.tls, key_password=Secret.known("key-password"))
    server = msgspec.structs.replace(secure.config.server, tls=tls)
    assert open_certificate(msgspec.structs.replace(secure.config, server=server)) is not None
