"""Pages that are asked for while the one before is still being made: of the same generation, or refused."""

from __future__ import annotations

import asyncio
import threading

import pytest
from server_fixtures import Directory, person, serving
from server_raw import answer, asked

from server import compression, projection
from server.selecting import select

PEOPLE = 600
PAGE = "v2/Users?count=300&startIndex="


def people(mark: str) -> list[dict[str, str | None]]:
    return [person(number, last=mark) for number in range(1, PEOPLE + 1)]


@pytest.fixture
def directory(tmp_path):
    made = Directory(tmp_path).add(*people("G1"))
    made.publish()
    return made


@pytest.fixture
def gate(monkeypatch):
    """What compresses and cuts down waits here, in its thread, until the test lets it go on."""
    waiting, go_on = threading.Event(), threading.Event()
    gzip, apply = compression.gzip, projection.Projection.apply

    def slow_gzip(pieces):
        waiting.set()
        assert go_on.wait(10)
        return gzip(pieces)

    def slow_apply(self, *arguments):
        waiting.set()
        assert go_on.wait(10)
        return apply(self, *arguments)

    monkeypatch.setattr(compression, "gzip", slow_gzip)
    monkeypatch.setattr(projection.Projection, "apply", slow_apply)
    yield waiting, go_on
    go_on.set()


def marks(answer) -> set[str]:
    return {item["name"]["familyName"] for item in answer.json["Resources"]}


@pytest.mark.parametrize(
    "filtered", ["", "&filter=active%20eq%20true", "&filter=meta.lastModified%20gt%20%222001-01-01T00:00:00Z%22"]
)
@pytest.mark.parametrize(
    ("parameters", "headers"), [("", {"Accept-Encoding": "gzip"}), ("&excludedAttributes=emails", {})]
)
async def test_the_next_page_while_the_first_is_being_made(directory, gate, filtered, parameters, headers):
    """An import before is not gone on with, and a swap meanwhile changes nothing."""
    waiting, go_on = gate
    async with serving(directory) as api:
        for start in (1, 301):
            assert {"G1"} == marks(await api.get(f"{PAGE}{start}{filtered}"))
        directory.run("UPDATE people SET last = 'G2'").publish()
        await api.follow()
        first = asyncio.create_task(api.get(f"{PAGE}1{filtered}{parameters}", headers=headers))
        assert await asyncio.to_thread(waiting.wait, 10)
        directory.run("UPDATE people SET last = 'G3'").publish()
        await api.follow()
        second = await api.get(f"{PAGE}301{filtered}")
        assert second.status == 503 or marks(second) == {"G2"}
        go_on.set()
        assert 200 == (await first).status
        again = await api.get(f"{PAGE}301{filtered}")
        assert again.status == 503 or marks(again) == {"G2"}


async def test_the_next_page_while_the_first_is_being_selected(directory, monkeypatch):
    """While a filter scans for the first page, a later one is refused: it need not be of an import before."""
    waiting, go_on, scans = threading.Event(), threading.Event(), []

    def slow_select(*arguments):
        scans.append(arguments)
        if len(scans) == 2:  # the first page after the second publication
            waiting.set()
            assert go_on.wait(10)
        return select(*arguments)

    monkeypatch.setattr("server.lists.select", slow_select)
    filtered = "&filter=userName%20co%20%22user%22"
    async with serving(directory) as api:
        for start in (1, 301):
            assert {"G1"} == marks(await api.get(f"{PAGE}{start}{filtered}"))
        directory.run("UPDATE people SET last = 'G2'").publish()
        await api.follow()
        first = asyncio.create_task(api.get(f"{PAGE}1{filtered}"))
        assert await asyncio.to_thread(waiting.wait, 10)
        assert 503 == (await api.get(f"{PAGE}301{filtered}")).status
        go_on.set()
        assert {"G2"} == marks(await first)
        assert {"G2"} == marks(await api.get(f"{PAGE}301{filtered}"))
        assert not api.pins._beginning


async def test_a_page_that_goes_through_the_queue_is_noted_first(directory, monkeypatch):
    """An answer too large to be sent at once is noted before other requests run."""
    monkeypatch.setattr("server.at_once._AT_ONCE_BYTES", 1)
    async with serving(directory) as api:
        for start in (1, 301):
            assert {"G1"} == marks(await api.get(f"{PAGE}{start}"))
        directory.run("UPDATE people SET last = 'G2'").publish()
        await api.follow()
        connections = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(2)]
        # Both are there when the server's loop looks next, the first page first.
        for start, (_, writer) in zip((1, 301), connections, strict=True):
            writer.write(asked(f"/scim/{PAGE}{start}"))
        for reader, writer in connections:
            status, body = await answer(reader)
            assert 200 == status
            assert b'"familyName":"G2"' in body
            writer.close()
