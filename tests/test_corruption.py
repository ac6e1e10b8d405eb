"""Damage to the newest generation or to CURRENT: found at opening, never served, told, and mended by the next refresh."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import shutil
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from people_folder import PeopleFolder
from server_fixtures import Directory, person, serving
from server_process import BASES, filtered, running, server_settings, wait_for

from snapshot.errors import CorruptGenerationError, FormatVersionError, StoreError
from snapshot.reader import open_generation, open_snapshot
from snapshot.scim import USER, ScimVersion
from snapshot.store import FORMAT_VERSION, generation_directory, list_numbers, read_current, read_manifest, set_current

FILES = (
    "manifest.json",
    "index.sqlite",
    "User.1.1.json",
    "User.1.1.offsets",
    "User.2.0.json",
    "User.2.0.offsets",
    "rejects.jsonl",
    "changes.jsonl",
)
# Without a good one of these the next refresh does not know what the generation knew.
HISTORY = ("manifest.json", "index.sqlite")
FLIPS = 600
NAMED_2, NAMED_4 = (quote(f'userName eq "user{number}@example.com"') for number in (2, 4))


def flip(path: Path, place: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def flip_at(part: float):
    return lambda path: flip(path, int(part * (path.stat().st_size - 1)), 3)


def cut_to(part: float):
    return lambda path: path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])


def put_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_unreadable(path: Path) -> None:
    if os.name == "nt":
        pytest.skip("Windows knows no mode that keeps the owner from reading")
    if os.geteuid():
        path.chmod(0)
    else:  # no mode keeps root from reading, but a link to itself does
        path.unlink()
        path.symlink_to(path)


DAMAGES = {
    "flipped at the start": flip_at(0),
    "flipped at a quarter": flip_at(0.25),
    "flipped in the middle": flip_at(0.5),
    "flipped at the end": flip_at(1),
    "cut in half": cut_to(0.5),
    "cut by a byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer by a byte": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "emptied": cut_to(0),
    "missing": Path.unlink,
    "a directory": put_a_directory,
    "unreadable": make_unreadable,
}
FLIPPED = "flipped in the middle"
CURRENTS = {
    "garbage": b"\xff\0garbage\n",
    "empty": b"",
    "no such number": b"00000099\n",
    "huge": b"123456789012\n",
    "too huge": b"9" * 30 + b"\n",
    "negative": b"-1\n",
}


class HeldFile:
    """A directory that holds one file, in memory: thousands of flips cost no disk."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __truediv__(self, _name: str) -> HeldFile:
        return self

    def read_bytes(self) -> bytes:
        return self._data


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Two generations whose every file holds something. Tests get copies."""
    directory = make(tmp_path_factory.mktemp("published"))
    return directory.config.data_dir


@pytest.fixture
def data_dir(published, tmp_path):
    return Path(shutil.copytree(published, tmp_path / "data"))


def make(folder: Path) -> Directory:
    """Publish three people, then the second one changed and a fourth one added; each time with a reject."""
    directory = Directory(folder).add(*map(person, (1, 2, 3)), person(9, id=None))
    directory.publish()
    directory.run("UPDATE people SET first = 'Changed' WHERE id = 'E00002'").add(person(4))
    directory.publish()
    return directory


def newest(data_dir: Path) -> Path:
    return generation_directory(data_dir, 2)


def times(data_dir: Path, generation: int) -> dict[str, tuple[str, str]]:
    snapshot = open_generation(generation_directory(data_dir, generation))
    body = bytes(snapshot.resources(USER, ScimVersion.V2_0, 0, snapshot.count(USER)))
    return {
        user["id"]: (user["meta"]["created"], user["meta"]["lastModified"]) for user in json.loads(b"[" + body + b"]")
    }


def told(caplog) -> list[dict]:
    return [record.facts for record in caplog.records if record.levelno >= logging.WARNING]


def test_every_file_is_damaged_here(data_dir):
    """The files that these tests damage are all that a generation has, and none is empty."""
    assert set(FILES) == {path.name for path in newest(data_dir).iterdir()}
    assert set(FILES) == {"manifest.json", *read_manifest(newest(data_dir)).files}
    assert all(path.stat().st_size for path in newest(data_dir).iterdir())


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_found_at_opening(data_dir, name, damage):
    """Whatever happened to whichever file, the generation is not opened, and the error names the file."""
    path = newest(data_dir) / name
    DAMAGES[damage](path)
    with pytest.raises(CorruptGenerationError) as caught:
        open_snapshot(data_dir)
    assert path == caught.value.path
    assert str(path) in caught.value.cause
    assert "Run a refresh" in caught.value.remedy


def test_no_bit_of_a_generation_may_flip(data_dir):
    """One flipped bit anywhere, in any file, is found at opening."""
    seed = random.SystemRandom().randrange(1 << 32)
    dice = random.Random(seed)
    for number in range(FLIPS):
        path = newest(data_dir) / FILES[number % len(FILES)]
        place, bit = dice.randrange(path.stat().st_size), dice.randrange(8)
        flip(path, place, bit)
        with pytest.raises((CorruptGenerationError, FormatVersionError)) as caught:  # noqa: PT012 (the message)
            open_snapshot(data_dir)
            pytest.fail(f"bit {bit} of byte {place} of {path.name} flipped unnoticed (seed {seed})")
        assert path == caught.value.path
        flip(path, place, bit)
    assert 2 == open_snapshot(data_dir).generation


def test_no_bit_of_a_manifest_may_flip(data_dir):
    """Each single bit of manifest.json, which no other file vouches for, is guarded by its own checksum."""
    whole = (newest(data_dir) / "manifest.json").read_bytes()
    assert read_manifest(newest(data_dir)) == read_manifest(HeldFile(whole))
    unnoticed = []
    for place, byte in enumerate(whole):
        for bit in range(8):
            try:
                read_manifest(HeldFile(whole[:place] + bytes([byte ^ (1 << bit)]) + whole[place + 1 :]))
            except (CorruptGenerationError, FormatVersionError):
                continue
            unnoticed.append((place, bit))
    assert [] == unnoticed


@pytest.mark.parametrize("damage", [FLIPPED, "cut in half", "missing"])
@pytest.mark.parametrize("name", FILES)
async def test_a_server_that_starts_on_damage(tmp_path, caplog, name, damage):
    """The generation before is served whole, the state says why, the log once; the next refresh heals and keeps times."""
    directory = make(tmp_path)
    data_dir = directory.config.data_dir
    before, after = times(data_dir, 1), times(data_dir, 2)
    path = newest(data_dir) / name
    DAMAGES[damage](path)
    async with serving(directory) as api:
        for base in ("v1", "v2"):
            whole = await api.get(f"{base}/Users")
            assert ((3, 1, 3), sorted(before)) == (whole.numbers, whole.ids)
            assert before == {
                user["id"]: (user["meta"]["created"], user["meta"]["lastModified"]) for user in whole.json["Resources"]
            }
            assert 404 == (await api.get(f"{base}/Users/E00004")).status
            found = await api.get(f"{base}/Users?filter={NAMED_2}")
            assert ["Given2"] == [user["name"]["givenName"] for user in found.json["Resources"]]
        for _ in range(20):
            await api.follow()
        status = (await api.admin("GET", "/-/status")).json
        assert (1, 2) == (status["snapshot"]["generation"], status["failed_open"]["generation"])
        assert str(path) in status["failed_open"]["cause"]
        assert "Run a refresh" in status["failed_open"]["remedy"]
        (line,) = told(caplog)
        assert (2, status["failed_open"]["cause"]) == (line["generation"], line["cause"])
        assert 200 == (await api.get("/-/ready", auth=None)).status
        await asyncio.sleep(0.1)  # until the time that generation 2 was stamped with, a little ahead, has come
        manifest = directory.publish()
        await api.follow()
        assert 3 == manifest.generation == api.live.current.generation
        assert ["E00001", "E00002", "E00003", "E00004"] == (await api.get("v2/Users")).ids
        assert (await api.admin("GET", "/-/status")).json["failed_open"] is None
    healed = times(data_dir, 3)
    for key in ("E00001", "E00003"):
        assert before[key] == after[key] == healed[key]
    assert before["E00002"][0] == healed["E00002"][0]
    for key in ("E00002", "E00004"):
        # Their times are known from the damaged generation alone. Where it cannot be asked they are new, never older.
        known = damage == FLIPPED and name not in HISTORY
        assert after[key] == healed[key] if known else after[key] <= healed[key]


@pytest.mark.parametrize("damage", [FLIPPED, "a directory"])
@pytest.mark.parametrize("name", FILES)
async def test_damage_under_a_running_server(tmp_path, caplog, name, damage):
    """What is served stays, with an import under way; the damage is told once and tried again; a refresh heals."""
    directory = make(tmp_path)
    data_dir = directory.config.data_dir
    path = newest(data_dir) / name
    set_current(data_dir, 1)
    async with serving(directory) as api:
        assert ((3, 1, 2), ["E00001", "E00002"]) == ((page := await api.get("v2/Users?count=2")).numbers, page.ids)
        DAMAGES[damage](path)
        set_current(data_dir, 2)
        for _ in range(20):
            await api.follow()
        assert ((3, 3, 1), ["E00003"]) == (
            (page := await api.get("v2/Users?count=2&startIndex=3")).numbers,
            page.ids,
        )
        assert (3, 1, 3) == (await api.get("v1/Users")).numbers
        status = (await api.admin("GET", "/-/status")).json
        assert (1, 2) == (status["snapshot"]["generation"], status["failed_open"]["generation"])
        assert str(path) in status["failed_open"]["cause"]
        (line,) = told(caplog)
        assert (2, 1) == (line["generation"], line["serving"])
        directory.publish()
        await api.follow()
        assert (4, 1, 4) == (await api.get("v1/Users")).numbers
        assert api.live.failed is None


@pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody remove a file that is mapped")
async def test_files_that_go_while_they_are_served(tmp_path):
    """A generation that is removed from under a running server is served on, as it is after pruning."""
    directory = make(tmp_path)
    async with serving(directory) as api:
        shutil.rmtree(newest(directory.config.data_dir))
        for base in ("v1", "v2"):
            assert (4, 1, 4) == (await api.get(f"{base}/Users")).numbers
            assert "Changed" == (await api.get(f"{base}/Users/E00002")).json["name"]["givenName"]
            found = await api.get(f"{base}/Users?filter={NAMED_4}")
            assert ["E00004"] == found.ids


@pytest.mark.parametrize("text", CURRENTS.values(), ids=CURRENTS)
async def test_a_server_that_starts_on_a_damaged_current(tmp_path, caplog, text):
    """The newest good generation is served, the state says so; the next refresh heals.

    All times are kept, unless CURRENT names a generation that is lost: then everybody counts as changed.
    """
    directory = make(tmp_path)
    data_dir = directory.config.data_dir
    after = times(data_dir, 2)
    (data_dir / "CURRENT").write_bytes(text)
    async with serving(directory) as api:
        for base in ("v1", "v2"):
            assert ((4, 1, 4), sorted(after)) == ((whole := await api.get(f"{base}/Users")).numbers, whole.ids)
        for _ in range(20):
            await api.follow()
        status = (await api.admin("GET", "/-/status")).json
        assert 2 == status["snapshot"]["generation"]
        assert str(data_dir) in status["failed_open"]["cause"]
        assert 1 == len(told(caplog))
        manifest = directory.publish()
        await api.follow()
        status = (await api.admin("GET", "/-/status")).json
        assert (manifest.generation, None) == (status["snapshot"]["generation"], status["failed_open"])
    assert manifest.generation == read_current(data_dir) > 2
    now = times(data_dir, manifest.generation)
    if text.strip().isdigit() and len(text.strip()) <= 18:
        assert {key: (created, manifest.created_at) for key, (created, _) in after.items()} == now
    else:
        assert after == now


LOST = {"missing": None, "zero": b"00000000\n", "one that was pruned": b"00000001\n"}


@pytest.mark.parametrize("text", LOST.values(), ids=LOST)
async def test_a_server_that_starts_without_current(tmp_path, caplog, text):
    """The newest good generation is served and the state says so once; the next publication ends that."""
    directory = make(tmp_path)
    data_dir = directory.config.data_dir
    shutil.rmtree(generation_directory(data_dir, 1))
    if text is None:
        (data_dir / "CURRENT").unlink()
    else:
        (data_dir / "CURRENT").write_bytes(text)
    async with serving(directory) as api:
        deadline = time.monotonic() + 10
        while api.live.current is None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        for base in ("v1", "v2"):
            assert (4, 1, 4) == (await api.get(f"{base}/Users")).numbers
        for _ in range(20):
            await api.follow()
        status = (await api.admin("GET", "/-/status")).json
        assert 2 == status["snapshot"]["generation"]
        assert str(data_dir) in status["failed_open"]["cause"]
        assert "Run a refresh" in status["failed_open"]["remedy"]
        assert (await api.get("/-/ready", auth=None)).json["serving_previous"] is True
        assert 1 == len(told(caplog))
        assert 3 == directory.publish().generation
        await api.follow()
        assert (4, 1, 4) == (await api.get("v2/Users")).numbers
        assert (await api.admin("GET", "/-/status")).json["failed_open"] is None


async def test_a_refresh_without_current_keeps_times(tmp_path):
    """After the loss of CURRENT everybody keeps the times of the newest generation."""
    directory = make(tmp_path)
    data_dir = directory.config.data_dir
    after = times(data_dir, 2)
    (data_dir / "CURRENT").unlink()
    assert 3 == directory.publish().generation
    assert after == times(data_dir, 3)


async def test_a_folder_without_generations_is_not_damaged(tmp_path, caplog):
    """Before the first generation the server is not ready, and nothing has failed."""
    directory = make(tmp_path)
    data_dir = directory.config.data_dir
    (data_dir / "CURRENT").unlink()
    for folder in (data_dir / "generations").iterdir():
        shutil.rmtree(folder)
    async with serving(directory) as api:
        await asyncio.sleep(2.2)
        assert 503 == (await api.get("v2/Users")).status
        assert (await api.admin("GET", "/-/status")).json["failed_open"] is None
        assert [] == [line for line in told(caplog) if "cause" in line]


async def test_a_directory_in_the_place_of_current(tmp_path):
    """The newest good generation is served; a refresh cannot heal this and says what stands in its way."""
    directory = make(tmp_path)
    put_a_directory(directory.config.data_dir / "CURRENT")
    async with serving(directory) as api:
        assert (4, 1, 4) == (await api.get("v2/Users")).numbers
        assert "CURRENT cannot be read" in (await api.admin("GET", "/-/status")).json["failed_open"]["cause"]
    with pytest.raises(StoreError, match="CURRENT"):
        directory.publish()
    assert [1, 2] == list_numbers(directory.config.data_dir / "generations")


@pytest.mark.parametrize("name", FILES)
async def test_when_every_generation_is_damaged(tmp_path, caplog, name):
    """Nothing good is left: every list and user is a 503 SCIM error, never an empty list, until the next refresh."""
    directory = make(tmp_path)
    data_dir = directory.config.data_dir
    for number in (1, 2):
        (generation_directory(data_dir, number) / name).unlink()
    async with serving(directory) as api:
        for target in ("Users", "Users?count=0", "Users/E00001", f"Users?filter={NAMED_2}", "Groups"):
            for base in ("v1", "v2"):
                answer = await api.get(f"{base}/{target}")
                assert (503, True) == (answer.status, "Retry-After" in answer.headers)
                assert "503" == answer.json["status"]
                assert "Resources" not in answer.json
        for _ in range(20):
            await api.follow()
        assert 503 == (await api.get("/-/ready", auth=None)).status
        status = (await api.admin("GET", "/-/status")).json
        assert (None, 2) == (status["snapshot"], status["failed_open"]["generation"])
        assert 1 == len([line for line in told(caplog) if "cause" in line])
        await asyncio.sleep(0.1)
        assert 3 == directory.publish().generation
        await api.follow()
        assert (4, 1, 4) == (await api.get("v1/Users")).numbers


async def test_a_newer_format_is_refused(tmp_path, caplog):
    """A generation of a newer program is not misread: both versions are named, the generation before is served."""
    directory = make(tmp_path)
    path = newest(directory.config.data_dir) / "manifest.json"
    manifest = json.loads(path.read_bytes())
    path.write_text(json.dumps({**manifest, "format_version": FORMAT_VERSION + 1}))
    with pytest.raises(FormatVersionError) as caught:
        open_snapshot(directory.config.data_dir)
    assert (path, FORMAT_VERSION + 1, FORMAT_VERSION) == (caught.value.path, caught.value.found, caught.value.expected)
    async with serving(directory) as api:
        assert (3, 1, 3) == (await api.get("v2/Users")).numbers
        cause = (await api.admin("GET", "/-/status")).json["failed_open"]["cause"]
        assert f"format version {FORMAT_VERSION + 1}; this program reads versions up to {FORMAT_VERSION}" in cause
        assert [cause] == [line["cause"] for line in told(caplog)]


@pytest.mark.slow
def test_a_server_process_lives_with_damage(tmp_path):
    """The real server goes on through every damage to CURRENT and to the newest generation, and its log stays short."""
    folder = PeopleFolder(tmp_path)
    folder.settings["server"] = server_settings()
    folder.settings["log"] = {"format": "json"}
    for count in (3, 4):
        folder.publish([(f"E{i}", f"user{i}@example.com", None, 1) for i in range(1, count + 1)])
    flip(newest(folder.data_dir) / "User.2.0.json", 100, 0)
    with running(folder.toml()) as (server, client):

        def totals() -> set[int]:
            lists = [
                client.get(target) for base in BASES for target in (f"{base}/Users", filtered(base, "active eq true"))
            ]
            assert {200} == {answer.status for answer in lists}
            for answer in lists:
                assert answer.json["totalResults"] == len(answer.json["Resources"])
            return {answer.json["totalResults"] for answer in lists}

        def failed() -> dict | None:
            return client.status()["failed_open"]

        wait_for(lambda: client.status()["snapshot"])
        assert (2, {3}) == (failed()["generation"], totals())
        # A hundred polls and a second try of the damaged generation, and not a line more.
        time.sleep(2.5)
        assert 1 == len(server.events("generation cannot be opened"))
        folder.refresh()
        wait_for(lambda: failed() is None)
        assert {4} == totals()
        good = (folder.data_dir / "CURRENT").read_bytes()
        for text in CURRENTS.values():
            (folder.data_dir / "CURRENT").write_bytes(text)
            wait_for(failed)
            assert {4} == totals()
            (folder.data_dir / "CURRENT").write_bytes(good)
            wait_for(lambda: failed() is None)
        lines = server.lines()
        # One a damage; a poll may meet the file in the moment when it is written and still empty.
        assert len(CURRENTS) < len(server.events("generation cannot be opened")) <= 1 + 3 * len(CURRENTS)
        assert not [line for line in lines if "traceback" in line]
        assert {"configuration", "generation cannot be opened"} == {
            line["event"] for line in lines if line["level"] in {"warning", "error"}
        }
        assert server.running
        assert 1 == client.connections
