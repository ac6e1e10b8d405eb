"""LiveSnapshot: swaps, failures, retries and fall-back, with a fake folder and a clock that the test moves."""

from __future__ import annotations

import dataclasses
import gc
import logging
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from server_fixtures import Directory, person, serving, wait_a_tick

from server.live import Folder, LiveSnapshot, Waiting
from snapshot.control import SchedulerStatus
from snapshot.errors import CorruptGenerationError, FormatVersionError, StoreError

if TYPE_CHECKING:
    from server.served import Note


class FakeManifest:
    resource_types: dict = {}  # noqa: RUF012

    def __init__(self, created_ms: int):
        self.created_ms = created_ms


class FakeSnapshot:
    def __init__(self, generation: int, created_ms: int | None = None):
        self.generation = generation
        self.manifest = FakeManifest(generation * 1000 if created_ms is None else created_ms)


class FakeFolder:
    """A folder whose content the test sets; counts how often a generation is opened."""

    def __init__(self):
        self.number: int | None = None
        self.error: Exception | None = None
        self.previous: FakeSnapshot | None = None
        self.generations: list[int] = []
        self.befores: list[int] = []
        self.opens = 0
        self.now = 0.0
        self.status: SchedulerStatus | None = None
        self.quarantine: dict[int, tuple[str, ...] | None] | OSError = {}
        self.reads: list[int] = []
        self.notes: tuple[Note, ...] | Exception = ()
        self.writes: list[tuple[Note, ...]] = []
        self.write_error: Exception | None = None
        folder = Folder(
            read_current=self._current,
            open_newest=self._open,
            open_previous=self._open_previous,
            read_status=lambda _path: self.status,
            list_generations=lambda _path: self.generations,
            waiting_numbers=self._waiting_numbers,
            read_refused=self._read_refused,
            read_served=self._read_served,
            write_served=self._write_served,
        )
        self.folder = folder
        self.start()

    def start(self):
        """Begin a server process."""
        self.live = LiveSnapshot(Path("data"), folder=self.folder, clock=lambda: self.now, wall_clock=lambda: self.now)

    def _read_served(self, _path):
        if isinstance(self.notes, Exception):
            raise self.notes
        return self.notes

    def _write_served(self, _path, notes):
        self.writes.append(notes)
        if self.write_error is not None:
            raise self.write_error
        self.notes = notes

    def _current(self, _path):
        if isinstance(self.number, Exception):
            raise self.number
        return self.number

    def _waiting_numbers(self, _path):
        if isinstance(self.quarantine, OSError):
            raise self.quarantine
        return sorted(self.quarantine)

    def _read_refused(self, _path, number):
        self.reads.append(number)
        return self.quarantine[number]

    def _open_previous(self, _path, before):
        self.befores.append(before)
        return self.previous if self.previous is not None and self.previous.generation < before else None

    def _open(self, _path):
        self.opens += 1
        if self.error is not None:
            raise self.error
        return FakeSnapshot(self.number)


@pytest.fixture
def folder():
    return FakeFolder()


def swaps(caplog) -> list[dict]:
    return [record.facts for record in caplog.records if record.getMessage() == "swapped"]


def failures(caplog) -> list[dict]:
    return [record.facts for record in caplog.records if record.getMessage() == "generation cannot be opened"]


async def test_nothing_published_yet(folder):
    """Before the first generation there is no snapshot and nothing is opened."""
    await folder.live.poll()
    assert folder.live.current is None
    assert folder.opens == 0


async def test_a_newer_generation_is_swapped_in_once(folder, caplog):
    """A new number is opened once and logged in one line; the same number is not opened again."""
    caplog.set_level(logging.INFO)
    folder.number = 1
    for _ in range(3):
        await folder.live.poll()
    folder.number = 2
    for _ in range(3):
        await folder.live.poll()
    assert folder.opens == 2
    assert folder.live.current.generation == 2
    assert [(1, None), (2, 1)] == [(facts["generation"], facts["previous"]) for facts in swaps(caplog)]


async def test_numbers_never_go_back(folder):
    """A smaller number in CURRENT changes nothing."""
    folder.number = 5
    await folder.live.poll()
    folder.number = 4
    await folder.live.poll()
    assert folder.live.current.generation == 5


async def test_a_failed_open_keeps_what_is_served(folder, caplog):
    """A broken generation is logged once, shown in the status and tried again with growing pauses."""
    folder.number = 1
    await folder.live.poll()
    folder.number = 2
    folder.error = CorruptGenerationError(Path("x"), "its checksum is wrong")
    for _ in range(600):
        folder.now += 1
        await folder.live.poll()
    assert folder.live.current.generation == 1
    assert folder.live.failed.generation == 2
    assert "checksum" in folder.live.failed.cause
    assert len(failures(caplog)) == 1
    assert 5 < folder.opens < 20
    folder.error = None
    folder.now += 100
    await folder.live.poll()
    assert folder.live.current.generation == 2
    assert folder.live.failed is None


async def test_a_restored_current_clears_the_failure(folder):
    """After garbage in CURRENT, the number of the generation being served ends the failure in the status."""
    folder.number = 1
    await folder.live.poll()
    folder.number = StoreError("CURRENT cannot be read.")
    await folder.live.poll()
    assert "CURRENT cannot be read." == folder.live.failed.cause
    folder.number = 1
    await folder.live.poll()
    assert folder.live.failed is None
    assert 1 == folder.opens


async def test_the_next_generation_is_tried_at_once(folder):
    """A generation after a broken one is not held up by the pauses of the broken one."""
    folder.number = 1
    folder.error = FormatVersionError(Path("x"), 2, 1)
    await folder.live.poll()
    folder.number = 2
    folder.error = None
    await folder.live.poll()
    assert folder.live.current.generation == 2


async def test_serving_the_previous_one(folder):
    """It is told that an older generation is served as long as the newest one cannot be opened, and only then."""
    folder.number = 7
    await folder.live.poll()
    assert not folder.live.serves_previous
    folder.number = 8
    folder.error = CorruptGenerationError(Path("x"), "a file is missing")
    await folder.live.poll()
    assert folder.live.serves_previous
    folder.error = None
    folder.now += 100
    await folder.live.poll()
    assert (8, False) == (folder.live.current.generation, folder.live.serves_previous)


async def test_nothing_served_is_not_the_previous_one(folder):
    """Without any good generation nothing is served, so no older one either."""
    folder.number = 7
    folder.error = CorruptGenerationError(Path("x"), "a file is missing")
    await folder.live.poll()
    assert not folder.live.serves_previous


async def test_the_quarantine_is_read_once(folder, caplog):
    """Why a generation was refused is read once; what cannot be read is tried again; only newer ones than served."""
    folder.number = 5
    folder.quarantine = {3: ("old",), 6: None}
    await folder.live.poll()
    await folder.live.poll()
    assert ((Waiting(6, None),), [6, 6]) == (folder.live.waiting, folder.reads)
    folder.quarantine[6] = ("too few",)
    await folder.live.poll()
    await folder.live.poll()
    assert (Waiting(6, ("too few",)),) == folder.live.waiting
    assert [6, 6, 6] == folder.reads
    folder.number = 6
    del folder.quarantine[6]
    await folder.live.poll()
    assert () == folder.live.waiting
    assert 1 == len([record for record in caplog.records if "waits in quarantine" in record.getMessage()])


async def test_a_quarantine_that_cannot_be_listed(folder):
    """A folder that cannot be listed keeps nothing from being served, and what was known stays known."""
    folder.number = 5
    folder.quarantine = {6: ("too few",)}
    await folder.live.poll()
    folder.quarantine = PermissionError(13, "denied")
    folder.number = 7
    await folder.live.poll()
    assert 7 == folder.live.current.generation
    assert (Waiting(6, ("too few",)),) == folder.live.waiting


async def test_a_damaged_current_hides_neither_scheduler_nor_quarantine(folder):
    """While CURRENT cannot be read, the scheduler's word and the quarantine are still followed."""
    folder.number = 5
    await folder.live.poll()
    folder.number = StoreError("CURRENT cannot be read.")
    folder.quarantine = {4: ("old",), 6: ("too few",)}
    folder.status = SchedulerStatus(pid=1, started_at="", updated_at="", phase="idle")
    await folder.live.poll()
    assert ([6], folder.status) == ([item.generation for item in folder.live.waiting], folder.live.scheduler)


async def test_a_broken_newest_generation_at_start(folder):
    """A server that starts on a broken generation serves the good one before it."""
    folder.number = 7
    folder.error = CorruptGenerationError(Path("x"), "a file is missing")
    folder.previous = FakeSnapshot(6)
    await folder.live.poll()
    assert folder.live.current.generation == 6
    assert folder.live.failed.generation == 7


async def test_no_number_in_current_at_start(folder, caplog):
    """A server that starts on a damaged CURRENT serves the newest good generation, and looks again with pauses."""
    folder.number = CorruptGenerationError(Path("CURRENT"), "it does not hold a generation number")
    await folder.live.poll()
    assert folder.live.current is None
    folder.previous = FakeSnapshot(6)
    await folder.live.poll()
    assert folder.live.current is None
    folder.now += 100
    await folder.live.poll()
    assert 6 == folder.live.current.generation
    assert "does not hold a generation number" in folder.live.failed.cause
    for _ in range(20):
        folder.now += 100
        await folder.live.poll()
    assert 1 == len(failures(caplog)) == folder.live.swaps
    folder.number = 7
    await folder.live.poll()
    assert (7, None) == (folder.live.current.generation, folder.live.failed)


@pytest.mark.parametrize("number", [None, 0])
async def test_current_is_lost_at_start(folder, caplog, number):
    """Without a number in CURRENT the newest good generation is served, after the moment that a publication takes."""
    folder.number = number
    folder.generations = [5, 6]
    folder.previous = FakeSnapshot(6)
    folder.quarantine = {4: ("old",), 7: ("too few",)}
    await folder.live.poll()
    assert (None, None) == (folder.live.current, folder.live.failed)
    assert [7] == [item.generation for item in folder.live.waiting]
    folder.now += 2
    await folder.live.poll()
    assert (6, True) == (folder.live.current.generation, folder.live.serves_previous)
    assert "CURRENT" in folder.live.failed.cause
    for _ in range(100):
        folder.now += 10
        await folder.live.poll()
    assert 1 == len(failures(caplog)) == folder.live.swaps == len(folder.befores)
    folder.number = 7
    await folder.live.poll()
    assert (7, None) == (folder.live.current.generation, folder.live.failed)


async def test_current_is_lost_and_nothing_is_good(folder, caplog):
    """Generations that are all broken are looked at again with growing pauses, and told once."""
    folder.generations = [5, 6]
    for _ in range(600):
        folder.now += 1
        await folder.live.poll()
    assert folder.live.current is None
    assert (1, True) == (len(failures(caplog)), 5 < len(folder.befores) < 20)


async def test_the_first_publication_is_no_failure(folder, caplog):
    """A generation that has its number a moment before CURRENT names it is served when CURRENT does, without a word."""
    folder.generations = [1]
    folder.previous = FakeSnapshot(1)
    await folder.live.poll()
    folder.now += 1
    await folder.live.poll()
    folder.number = 1
    folder.now += 100
    await folder.live.poll()
    assert (1, None, []) == (folder.live.current.generation, folder.live.failed, failures(caplog))


async def test_current_is_lost_while_something_is_served(folder, caplog):
    """What is served stays, and the loss is told until CURRENT is back."""
    folder.number = 5
    await folder.live.poll()
    folder.number = None
    for _ in range(20):
        folder.now += 1
        await folder.live.poll()
    assert (5, True) == (folder.live.current.generation, folder.live.serves_previous)
    assert ([], 1) == (folder.befores, len(failures(caplog)))
    folder.number = 5
    await folder.live.poll()
    assert (None, False) == (folder.live.failed, folder.live.serves_previous)


async def test_current_names_one_that_is_gone_at_start(folder, caplog):
    """Without a good generation below the one that CURRENT names, the newest one above is served; it is told once."""
    folder.number = 1
    folder.error = CorruptGenerationError(Path("x"), "a file is missing")
    folder.previous = FakeSnapshot(6)
    await folder.live.poll()
    assert (6, True) == (folder.live.current.generation, folder.live.serves_previous)
    assert (1, True) == (folder.live.failed.generation, "missing" in folder.live.failed.cause)
    for _ in range(50):
        folder.now += 10
        await folder.live.poll()
    assert (1, 1, 1) == (len(failures(caplog)), folder.opens, folder.live.swaps)


async def test_an_older_current_is_serving_the_previous_one(folder):
    """Of a folder that was made anew it is told that what is served is not what CURRENT names."""
    folder.number = 5
    await folder.live.poll()
    folder.number = 1
    await folder.live.poll()
    assert (5, True) == (folder.live.current.generation, folder.live.serves_previous)
    assert "restart the server" in folder.live.failed.remedy


async def test_the_scheduler_is_heard_when_current_is_damaged(folder):
    """The scheduler's last word is followed also while CURRENT cannot be read."""
    folder.live._folder = dataclasses.replace(folder.live._folder, read_status=lambda _path: "last word")
    folder.number = StoreError("CURRENT cannot be read.")
    await folder.live.poll()
    assert "last word" == folder.live.scheduler


async def test_a_fall_back_that_fails_ends_nothing(folder):
    """A folder that cannot even be listed at the start is noted, and the watch goes on."""

    def fail(_path, _before):
        raise NotADirectoryError

    folder.live._folder = dataclasses.replace(folder.live._folder, open_previous=fail)
    folder.number = 2
    folder.error = CorruptGenerationError(Path("x"), "a file is missing")
    await folder.live.poll()
    assert (None, 2) == (folder.live.current, folder.live.failed.generation)
    folder.error = None
    folder.number = 3
    await folder.live.poll()
    assert 3 == folder.live.current.generation


@pytest.mark.parametrize("error", [StoreError("CURRENT cannot be read."), ValueError("unforeseen")])
async def test_a_poll_never_raises(folder, error):
    """Whatever the folder does, the watch goes on."""
    folder.number = error
    await folder.live.poll()
    folder.number = 1
    folder.error = ValueError("unforeseen")
    await folder.live.poll()
    assert folder.live.current is None
    folder.error = None
    folder.now += 100
    await folder.live.poll()
    assert folder.live.current.generation == 1


async def test_the_server_finds_the_first_snapshot_by_itself(tmp_path):
    """Started before the first generation, the server picks it up without a word."""
    directory = Directory(tmp_path).add(person(1))
    async with serving(directory) as api:
        assert (await api.get("v1/Users")).status == 503
        assert (await api.get("/-/ready", auth=None)).status == 503
        directory.publish()
        await api.follow()
        assert (await api.get("v1/Users")).numbers == (1, 1, 1)
        assert (await api.get("/-/ready", auth=None)).status == 200


async def test_an_old_snapshot_is_freed_after_the_swap(tmp_path):
    """Once no run holds it, the old generation's files are let go."""
    directory = Directory(tmp_path, pin_ttl_seconds=0.01).add(person(1))
    directory.publish()
    async with serving(directory) as api:
        await api.get("v1/Users")
        seen = weakref.ref(api.live.current)
        wait_a_tick()
        directory.add(person(2)).publish()
        await api.follow()
        assert api.live.current.generation == 2
        wait_a_tick()
        wait_a_tick()
        api.pins.expire()
        gc.collect()
        assert seen() is None
