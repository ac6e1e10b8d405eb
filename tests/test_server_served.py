"""What was served when: a change is found by the next incremental import, however late the server took it up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_fixtures import Api, Directory, person, serving

from server.app import create_app
from server.listener import Listener
from server.live import LiveSnapshot
from server.served import Note, Served, read_served, write_served
from snapshot.store import SERVED, generation_directory, read_current

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SECOND = 1_000_000


def bounds(served: Served, *instants_ms: int) -> list[int]:
    """Return the bounds of instants, both in milliseconds."""
    return [served.bound(instant * 1000) // 1000 for instant in instants_ms]


# --- the notes ---


def test_nothing_changes_while_the_server_is_in_time():
    """As long as each generation is served before the instant stamped on it, a bound finds what the instant finds."""
    served = Served()
    stamps = (1000, 2000, 3000)
    for created in stamps:
        assert served.note(created, created - 10)
    for instant in range(900, 4000):
        (bound,) = bounds(served, instant)
        assert [] == [stamp for stamp in stamps if bound < stamp <= instant]


def test_a_late_swap():
    """Until the server takes a generation up, what was published since the one before is asked for again."""
    served = Served()
    served.note(1000, 900)
    served.note(2000, 5000)
    assert [1000, 1000, 1000, 2000] == bounds(served, 1900, 4999, 5000, 5001)


def test_before_the_first_note():
    """Of the time before the first note nothing is known, so the instant stands for itself."""
    served = Served()
    assert [7] == bounds(served, 7)
    served.note(1000, 5000)
    assert [4000, 4999, 1000] == bounds(served, 4000, 4999, 5000)


def test_an_older_generation_is_served_again():
    """Whoever began an import since the older generation may have been answered from it."""
    served = Served()
    for created, now in ((1000, 900), (2000, 1900), (1000, 3000), (3000, 4000)):
        assert served.note(created, now)
    assert (Note(900, 1000), Note(4001, 3000)) == served.notes
    assert [950, 1000, 1000, 1000, 3000] == bounds(served, 950, 1950, 3500, 4000, 4001)


def test_the_same_generation_again_is_no_news():
    """A restart that serves what was served before changes nothing."""
    served = Served([Note(900, 1000)])
    assert not served.note(1000, 5000)
    assert (Note(900, 1000),) == served.notes


def test_a_run_that_goes_on_with_an_older_generation():
    """A list that an import run begins on its older generation counts until then, and not longer."""
    served = Served()
    served.note(1000, 900)
    served.note(2000, 1900)
    assert served.note_older(1000, 2000, 2500)
    assert served.note_older(1000, 2000, 2600)
    assert not served.note_older(2000, 2000, 2700)
    assert [1000, 1000, 2000] == bounds(served, 2500, 2600, 2601)
    assert 2 == len(served.notes)


def test_a_clock_that_steps_back():
    """Notes stay in order: an instant that the clock showed twice counts as the earlier one."""
    served = Served()
    served.note(1000, 900)
    served.see(5000)
    served.note(5500, 100)
    assert (Note(900, 1000), Note(5001, 5500)) == served.notes
    again = Served(served.notes)  # another process, which has not seen that clock
    again.note(5600, 200)
    assert (Note(900, 1000), Note(5001, 5600)) == again.notes
    assert [1000] == bounds(again, 4000)


def test_the_notes_are_bounded():
    """Only the newest notes are kept; of older times nothing is known then."""
    served = Served()
    for number in range(1, 3001):
        served.note(number * 10, number * 10)
    assert 1000 == len(served.notes)
    assert [15, 30_000] == bounds(served, 15, 40_000)


# (is it an import on an older generation?, of which generation, how long after the one before; negative: back)
EVENTS = st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 50)), max_size=30)


@given(events=EVENTS, restarts=st.sets(st.integers(0, 29)))
def test_whatever_was_served(events, restarts):
    """For each instant the bound is not after what any import that began at it, or before it, was answered from."""
    served = Served()
    now, current, answered = 1000, -1, []
    for place, (older, which, pause) in enumerate(events):
        now += pause
        if place in restarts:
            served = Served(served.notes)
        if older and 0 <= which < current:
            served.note_older(which * 100, current * 100, now)
            answered.append((now, which * 100))
        elif not older:
            current = which
            served.note(current * 100, now)
        if current >= 0:
            answered.append((now, current * 100))
        pairs = [(note.at_ms, note.created_ms) for note in served.notes]
        assert pairs == sorted(set(pairs))
        assert len({at for at, _ in pairs}) == len({created for _, created in pairs}) == len(pairs)
    for instant, created in answered:
        assert served.bound(instant * 1000) <= max(created * 1000, 0)


# --- the file ---


def test_the_file(tmp_path):
    """The notes are read back as they were written; without a file there are none."""
    assert () == read_served(tmp_path) == read_served(tmp_path / "nowhere")
    notes = (Note(1, 2), Note(3, 4))
    write_served(tmp_path, notes)
    assert notes == read_served(tmp_path)
    assert b'{"at_ms":1,"created_ms":2}\n{"at_ms":3,"created_ms":4}\n' == (tmp_path / SERVED).read_bytes()
    assert [tmp_path / SERVED] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 100, b"\xff\xfe\n", b"[1]\n", b'{"at_ms":1}\n', b'{"at_ms":"x","created_ms":1}\n', b"\n\n", b'{"at_ms":',
        b'{"at_ms":-5,"created_ms":-7}\n', b'{"at_ms":999999999999999999999999,"created_ms":1}\n',
        b'{"at_ms":999999999999999,"created_ms":1}\n', b"{" * 100_000,
    ],
)  # fmt: skip
def test_garbage_is_left_out(tmp_path, garbage):
    """What is no note is left out, wherever it stands; what is not in order is, too."""
    good = b'{"at_ms":10,"created_ms":20}\n{"at_ms":5,"created_ms":30}\n{"at_ms":11,"created_ms":19}\n'
    (tmp_path / SERVED).write_bytes(garbage + b"\n" + good + garbage)
    assert (Note(10, 20),) == Served(read_served(tmp_path)).notes


@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory, raw):
    """Whatever the file holds, the server starts, and the notes are in order."""
    folder = tmp_path_factory.mktemp("served")
    (folder / SERVED).write_bytes(raw)
    Served(read_served(folder)).note(1, 1)


# --- the server ---


class Clock:
    """The clock of everything: of the refresh (time.time_ns), of the server, and of the importer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        monkeypatch.setattr(time, "time_ns", lambda: int(self.now * 1e9))

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@contextlib.asynccontextmanager
async def server_on(directory: Directory, clock: Clock) -> AsyncIterator[Api]:
    """Run a server that looks for a newer generation when it starts and when it is told to."""
    live = LiveSnapshot(directory.config.data_dir, clock=clock, wall_clock=clock)
    await live.poll()
    listener = Listener(create_app(directory.config, live))
    addresses = await listener.start()
    try:
        async with aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as session:
            yield Api(session, addresses[0][1], listener, live)
    finally:
        await listener.stop()


class Importer:
    """Imports everybody once, then what changed since its last import began, by a clock that is right."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None
        self.states: dict[str, bool] = {}

    async def run(self, api: Api, *, count: int = 100, form: str = 'meta.lastModified gt "{}"') -> int:
        began = self._clock()
        target = f"v2/Users?count={count}"
        if self._since is not None:
            moment = datetime.fromtimestamp(self._since, UTC).isoformat(timespec="milliseconds")
            target += f"&filter={quote(form.format(moment.replace('+00:00', 'Z')))}"
        answer = await api.get(target)
        assert 200 == answer.status, answer.body
        self.states |= {user["id"]: user["active"] for user in answer.json["Resources"]}
        self._since = began
        return answer.numbers[0]


@pytest.fixture
def directory(tmp_path):
    """Ten people, published; polls are a minute apart, so that the server polls only when it is told to."""
    made = Directory(tmp_path, poll_seconds=60).add(*map(person, range(1, 11)))
    made.publish()
    return made


def fire(directory: Directory, number: int) -> None:
    directory.run(f"UPDATE people SET state = 'T' WHERE id = 'E{number:05d}'").publish()


def newest(directory: Directory) -> Path:
    return generation_directory(directory.config.data_dir, read_current(directory.config.data_dir))


LATER = 1000


async def test_the_newest_is_damaged_and_healed(directory, clock):
    """A restart on a damaged folder serves the generation before; what an import missed then comes after the healing."""
    importer = Importer(clock)
    async with server_on(directory, clock) as api:
        assert 10 == await importer.run(api)
        clock.now += LATER
        fire(directory, 1)
        await api.follow()
        path = newest(directory) / "User.1.1.json"
        damaged = path.with_name("aside")
        damaged.write_bytes(path.read_bytes()[:-1] + b" ")
        damaged.replace(path)
    clock.now += LATER
    async with server_on(directory, clock) as api:
        assert api.live.serves_previous
        assert 0 == await importer.run(api)
        clock.now += LATER
        directory.publish()
        await api.follow()
        assert not api.live.serves_previous
        clock.now += 1
        assert 1 == await importer.run(api)
        assert not importer.states["E00001"]
        clock.now += LATER
        assert 0 == await importer.run(api)


@pytest.mark.parametrize("form", [
    'meta.lastModified gt "{}"', 'meta.lastModified ge "{}"', 'not (meta.lastModified le "{}")',
    'not (meta.lastModified lt "{}")', 'meta[lastModified gt "{}"]',
])  # fmt: skip
async def test_the_newest_cannot_be_opened_for_a_while(directory, clock, form):
    """What was published while the server could not open it comes with the first import after it could."""
    importer = Importer(clock)
    async with server_on(directory, clock) as api:
        await importer.run(api)
        clock.now += LATER
        fire(directory, 2)
        path = newest(directory) / "User.1.1.offsets"
        path.rename(directory.folder / "aside")
        clock.now += LATER
        await api.follow()
        assert api.live.serves_previous
        assert 0 == await importer.run(api, form=form)
        clock.now += LATER
        (directory.folder / "aside").rename(path)
        await api.follow()
        clock.now += LATER
        assert 1 == await importer.run(api, form=form)
        assert not importer.states["E00002"]
        clock.now += LATER
        assert 0 == await importer.run(api, form=form)


@pytest.mark.parametrize("restart", [False, True])
async def test_the_server_is_late(directory, clock, restart):
    """A server that was paused answers an import from the old generation; the next import, also after a restart, gets it."""
    importer = Importer(clock)
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(server_on(directory, clock))
        await importer.run(api)
        clock.now += LATER
        fire(directory, 3)
        clock.now += LATER
        assert 0 == await importer.run(api)
        clock.now += LATER
        await api.follow()
        clock.now += LATER
        if restart:
            await stack.aclose()
            api = await stack.enter_async_context(server_on(directory, clock))
            clock.now += LATER
        assert 1 == await importer.run(api)
        assert not importer.states["E00003"]


async def test_a_run_goes_on_with_an_older_generation(directory, clock):
    """Users whom a run lists late, from its older generation, do not hide the newer one from the next import."""
    importer, other = Importer(clock), Importer(clock)
    async with server_on(directory, clock) as api:
        await importer.run(api)
        clock.now += LATER
        assert 200 == (await api.get("v2/Groups")).status
        fire(directory, 4)
        await api.follow()
        clock.now += LATER / 2  # the run is still pinned
        assert 0 == await importer.run(api)
        await api.follow()
        clock.now += LATER
        assert 1 == await importer.run(api)
        assert not importer.states["E00004"]
        clock.now += LATER
        assert 0 == await importer.run(api)
        assert 10 == await other.run(api)


async def test_in_time_nothing_is_sent_twice(directory, clock):
    """A server that takes each generation up in time sends what changed after the instant, exactly."""
    importer = Importer(clock)
    async with server_on(directory, clock) as api:
        await importer.run(api)
        for number in (5, 6, 7):
            clock.now += LATER
            fire(directory, number)
            await api.follow()
            clock.now += LATER
            assert 1 == await importer.run(api)
            clock.now += LATER
            assert 0 == await importer.run(api)


@pytest.mark.parametrize("what", ["garbage", "folder", "missing"])
async def test_without_what_was_noted(directory, clock, what, caplog):
    """A file that is garbage, lost or no file at all harms nothing: from the restart on it is known again."""
    importer = Importer(clock)
    path = directory.config.data_dir / SERVED
    if what == "garbage":
        path.write_bytes(b"\0\xff{garbage")
    if what == "folder":
        path.mkdir()
    async with server_on(directory, clock) as api:
        await importer.run(api)
        clock.now += LATER
        fire(directory, 8)
        clock.now += LATER
        assert 0 == await importer.run(api)
        for _ in range(3):
            await api.follow()
        assert 1 == await importer.run(api)
    told = [record.facts for record in caplog.records if record.getMessage() == "what was served when is not kept"]
    assert [str(path)] * (what == "folder") == [facts["file"] for facts in told]
    assert (what != "folder") == path.is_file()


@pytest.mark.parametrize("what", ["forbidden", "in the way"])
async def test_a_folder_that_cannot_be_written(directory, clock, caplog, what):
    """A data folder that the server may not write to is served as ever; it is told once, and what was served is known."""
    importer = Importer(clock)
    data_dir = directory.config.data_dir
    if what == "in the way":
        (data_dir / f"{SERVED}.tmp").mkdir()
    elif os.name == "nt" or os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    async with server_on(directory, clock) as api:
        await importer.run(api)
        clock.now += LATER
        fire(directory, 9)
        clock.now += LATER
        if what == "forbidden":
            data_dir.chmod(0o500)
        assert 0 == await importer.run(api)
        for _ in range(3):
            await api.follow()
        data_dir.chmod(0o700)
        assert 1 == await importer.run(api)
        assert 1 == [record.getMessage() for record in caplog.records].count("what was served when is not kept")
        if what == "in the way":
            (data_dir / f"{SERVED}.tmp").rmdir()
        await api.follow()
        assert api.live.served.notes == read_served(data_dir)


async def test_a_later_page_is_of_the_same_list(directory, clock):
    """A list that would be selected anew with more people, now that more is known, has to begin again."""
    importer = Importer(clock)
    async with server_on(directory, clock) as api:
        await importer.run(api)
        for number in (1, 2, 3):
            clock.now += LATER
            fire(directory, number)
            await api.follow()
        clock.now += LATER
        since = datetime.fromtimestamp(clock.now - 1.5 * LATER, UTC).isoformat(timespec="milliseconds")
        directory.run("UPDATE people SET dept = 'new' WHERE id < 'E00006'").publish()
        await api.follow()
        clock.now += 1
        words = quote(f'meta.lastModified gt "{since[:-6]}Z"')
        by_index = await api.get(f"v2/Users?count=2&startIndex=1&filter={words}")
        by_cursor = await api.get(f"v2/Users?count=2&cursor&filter={words}")
        assert (5, 5) == (by_index.json["totalResults"], by_cursor.json["totalResults"])
        api.live.served = Served([Note(0, 0)])
        follow = f"v2/Users?count=2&cursor={by_cursor.json['nextCursor']}&filter={words}"
        assert 200 == (await api.get(f"v2/Users?count=2&startIndex=3&filter={words}")).status
        assert 200 == (await api.get(follow)).status
        api.directory.listings = type(api.directory.listings)()
        for runs in api.pins._runs.values():
            for run in runs:
                run.selections.clear()
        assert 503 == (await api.get(f"v2/Users?count=2&startIndex=3&filter={words}")).status
        again = await api.get(follow)
        assert (400, "expiredCursor") == (again.status, again.json["scimType"])


async def test_what_is_served_is_noted(tmp_path):
    """The data folder says since when which generation has been served, one line each."""
    directory = Directory(tmp_path).add(person(1))
    created = [directory.publish().created_ms]
    async with serving(directory) as api:
        created.append(directory.add(person(2)).publish().created_ms)
        for _ in range(500):  # the server looks by itself too, and writes when it has swapped
            await api.follow()
            if len(read_served(directory.config.data_dir)) == len(created):
                break
            await asyncio.sleep(0.01)
    lines = (directory.config.data_dir / SERVED).read_bytes().splitlines()
    assert created == [msgspec.json.decode(line, type=Note).created_ms for line in lines]
