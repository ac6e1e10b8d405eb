"""Compression: who gets gzip, of what, and that it is the same answer."""

from __future__ import annotations

import asyncio
import gzip
import threading

import pytest
from multidict import CIMultiDict
from server_fixtures import Directory, person, serving

from server.answer import Answer
from server.compression import SMALL_BYTES, Compressor, Wish, wish_of

GZIP = {"Accept-Encoding": "gzip"}
BASES = pytest.mark.parametrize("base", ["v1", "v2"])


@pytest.fixture
def directory(tmp_path):
    made = Directory(tmp_path).add(*[person(number) for number in range(1, 101)])
    made.publish()
    return made


@pytest.fixture
async def api(directory):
    async with serving(directory) as api:
        yield api


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gzip", Wish.WELCOME), ("GZIP", Wish.WELCOME), ("x-gzip", Wish.WELCOME), ("br, deflate,gzip", Wish.WELCOME),
        ("*", Wish.WELCOME), ("gzip;q=0.001", Wish.WELCOME), ("gzip ; q=1.000", Wish.WELCOME),
        ("identity, gzip", Wish.WELCOME), ("gzip;q=0.5, *;q=0.1", Wish.WELCOME),
        ("", Wish.REFUSED), ("br", Wish.REFUSED), ("gzip;q=0", Wish.REFUSED), ("gzip;q=0.000", Wish.REFUSED),
        ("*;q=0", Wish.REFUSED), ("gzip;q=0, *", Wish.REFUSED), ("identity, gzip;q=0.5", Wish.REFUSED),
        ("gzip;q=2", Wish.REFUSED), ("gzip;q=-1", Wish.REFUSED), ("gzip;q=nan", Wish.REFUSED),
        ("gzip;q=", Wish.REFUSED), ("gzip;level=9", Wish.REFUSED), ("gzipped", Wish.REFUSED), (",;,=", Wish.REFUSED),
        ("gzip;q=0, gzip", Wish.REFUSED), ("gzip, gzip;q=0", Wish.REFUSED),
        ("identity;q=0, gzip;q=0", Wish.REFUSED), ("identity;q=0", Wish.REFUSED),
        ("gzip, identity;q=0", Wish.DEMANDED), ("*, identity;q=0", Wish.DEMANDED), ("gzip, *;q=0", Wish.DEMANDED),
    ],
)  # fmt: skip
def test_the_wish_of_a_client(text, expected):
    """Weights, the asterisk and identity count as RFC 9110 has it; what is no weight asks for nothing."""
    assert expected is wish_of(text)


async def test_a_wish_that_is_too_long_is_not_read(api):
    """A header that is longer than any real one is not cut in the middle of a word: the body goes as it is."""
    text = "x" * 8 + ","
    packed = await api.get("v2/Users", headers={"Accept-Encoding": text * 50 + "gzip"})
    assert "gzip" == packed.headers["Content-Encoding"]
    plain = await api.get("v2/Users", headers={"Accept-Encoding": text * 56 + "    gzip;q=0"})
    assert "Content-Encoding" not in plain.headers


@BASES
@pytest.mark.parametrize("path", ["Users", "Users?startIndex=3&count=5", "Users?attributes=userName", "Schemas"])
async def test_a_body_in_gzip_is_the_same_body(api, base, path):
    """What is unpacked is what others get, with the same headers but those of the encoding."""
    plain, packed = await api.get(f"{base}/{path}"), await api.get(f"{base}/{path}", headers=GZIP)
    assert "Content-Encoding" not in plain.headers
    assert "gzip" == packed.headers["Content-Encoding"]
    assert plain.body == gzip.decompress(packed.body)
    assert len(packed.body) == int(packed.headers["Content-Length"]) < len(plain.body)
    assert "Accept-Encoding" == plain.headers["Vary"] == packed.headers["Vary"]
    assert plain.headers.get("ETag") == packed.headers.get("ETag")


@BASES
async def test_head_in_gzip(api, base):
    """HEAD tells the length and the encoding of GET, and sends nothing."""
    get = await api.get(f"{base}/Users", headers=GZIP)
    head = await api.send("HEAD", f"{base}/Users", headers=GZIP)
    assert b"" == head.body
    for name in ("Content-Length", "Content-Encoding", "Content-Type", "Vary"):
        assert get.headers[name] == head.headers[name]


async def test_a_tag_of_the_packed_document_is_known(api):
    """With the ETag of a packed document comes a 304 with the same tag, packed or not."""
    tag = (await api.get("v2/Schemas", headers=GZIP)).headers["ETag"]
    for headers in ({}, GZIP):
        answer = await api.get("v2/Schemas", headers={**headers, "If-None-Match": tag})
        assert (304, b"", tag) == (answer.status, answer.body, answer.headers["ETag"])
        assert "Content-Encoding" not in answer.headers


async def test_small_bodies_go_as_they_are(api):
    """A small body is packed only for a client that takes nothing else; errors are no exception."""
    for path in ("v2/Users?count=0", "v2/Users/E00001", "v2/Users/nobody"):
        plain = await api.get(path)
        assert len(plain.body) < SMALL_BYTES
        assert plain.body == (await api.get(path, headers=GZIP)).body
        packed = await api.get(path, headers={"Accept-Encoding": "gzip, identity;q=0"})
        assert plain.body == gzip.decompress(packed.body)
        assert plain.status == packed.status


async def test_who_takes_nothing_gets_it_plain(api):
    """A client that refuses every encoding there is gets the body as it is, and no error."""
    answer = await api.get("v2/Users", headers={"Accept-Encoding": "identity;q=0"})
    assert 200 == answer.status
    assert "Content-Encoding" not in answer.headers


async def test_compression_can_be_turned_off(tmp_path):
    """With server.compression = false no body is packed, whatever is asked."""
    directory = Directory(tmp_path, compression=False).add(*[person(number) for number in range(1, 51)])
    directory.publish()
    async with serving(directory) as api:
        for value in ("gzip", "gzip, identity;q=0"):
            assert "Content-Encoding" not in (await api.get("v2/Users", headers={"Accept-Encoding": value})).headers


async def test_a_crowd_gets_larger_answers_not_later_ones():
    """Beyond the limit of bodies that are packed at once, further ones go as they are."""
    compressor = Compressor(limit=2)
    bodies = [b"x" * 100_000 for _ in range(5)]
    answers = [Answer(b"", body) for body in bodies]
    await asyncio.gather(*(compressor.compress(answer, CIMultiDict(GZIP)) for answer in answers))
    packed = [answer for answer in answers if "Content-Encoding" in answer.fields]
    assert 2 == len(packed)
    assert {b"x" * 100_000} == {gzip.decompress(b"".join(answer.pieces)) for answer in packed}
    await compressor.compress(answers[-1], CIMultiDict(GZIP))
    assert "Content-Encoding: gzip\r\n" == answers[-1].fields
    compressor.close()


async def test_large_bodies_are_packed_in_a_thread(api):
    """The event loop packs small bodies alone; a large one goes to a thread."""

    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("gzip")]

    before = threads()
    assert "gzip" == (await api.get("v2/Users?count=5", headers=GZIP)).headers["Content-Encoding"]
    assert before == threads()
    assert "gzip" == (await api.get("v2/Users?count=100", headers=GZIP)).headers["Content-Encoding"]
    assert len(before) < len(threads())
