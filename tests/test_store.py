"""The data folder: publish in one step, lock, prune, sweep; damage and full disks."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from people_folder import people, users_of

from snapshot import reader, store
from snapshot.errors import CorruptGenerationError, FormatVersionError, LockHeldError, NoSnapshotError, StoreError
from snapshot.reader import open_previous_good, open_snapshot
from snapshot.scim import USER
from snapshot.store import (
    generation_directory,
    list_numbers,
    prune,
    read_current,
    readable_current,
    stage,
    sweep,
    writer_lock,
)

TREE = Path(__file__).parent.parent
HOLDER = """
import sys, time
from pathlib import Path
from snapshot.store import writer_lock
with writer_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
PUBLISHER = """
import sys
from pathlib import Path
from snapshot.config import load_config
from snapshot.refresh import run_refresh
config = load_config(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    run_refresh(config)
"""


def start(code: str, argument: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", code, str(argument)], cwd=TREE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline()
    return process


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_the_lock_of_another_process(tmp_path):
    """A folder that another process writes to is refused at once, with its number; its death frees the folder."""
    process = start(HOLDER, tmp_path)
    try:
        with (
            pytest.raises(LockHeldError, match=f"is held by another process \\(process {process.pid}\\)") as caught,
            writer_lock(tmp_path),
        ):
            pass
        assert "stop the other one or use another data_dir" in caught.value.remedy
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with writer_lock(tmp_path), pytest.raises(LockHeldError), writer_lock(tmp_path):
        pass
    with writer_lock(tmp_path, "OTHER"):
        pass


@pytest.mark.parametrize("step", ["fsync", "rename", "replace"])
def test_a_step_that_fails(folder, monkeypatch, step):
    """When any step of publishing fails, it is a StoreError, CURRENT stays, and no generation is left lying."""
    folder.publish(people(2))

    def fail(*_arguments, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    with monkeypatch.context() as patch:
        if step == "rename":
            patch.setattr(Path, "rename", fail)
        else:
            patch.setattr(os, step, fail)
        with pytest.raises(StoreError, match="somewhere: No space left on device") as caught:
            folder.publish(people(3))
    assert "has room" in caught.value.remedy
    assert 1 == read_current(folder.data_dir)
    assert {"00000001"} == names(folder.data_dir / "generations")
    assert names(folder.data_dir) <= {"LOCK", "LOCK.pid", "CURRENT", "CURRENT.tmp", "generations"}
    assert 2 == folder.publish(people(3)).generation
    assert {"LOCK", "LOCK.pid", "CURRENT", "generations"} == names(folder.data_dir)


def test_current_moved_before_the_failure(folder, monkeypatch):
    """If only the last fsync fails, CURRENT names the new generation already, so it has to stay."""
    folder.publish(people(2))
    real = store._sync_directory

    def fail(path):
        if path == folder.data_dir:
            raise OSError(errno.EIO, "Input/output error")
        real(path)

    monkeypatch.setattr(store, "_sync_directory", fail)
    with pytest.raises(StoreError, match="Input/output error"):
        folder.publish(people(3))
    assert 2 == read_current(folder.data_dir)
    assert 3 == len(folder.users())


def test_a_file_in_the_place_of_the_folder(folder):
    """A data_dir that is a file is a StoreError with a remedy."""
    folder.data_dir.write_text("a file")
    with pytest.raises(StoreError, match="data") as caught:
        folder.publish(people(1))
    assert "exists, has room, and that this account may write to it" in caught.value.remedy


@pytest.mark.parametrize(
    "name", ["manifest.json", "index.sqlite", "User.1.1.json", "User.2.0.offsets", "rejects.jsonl", "changes.jsonl"]
)
@pytest.mark.parametrize("damage", ["cut", "altered", "gone", "longer"])
def test_damage_is_found(folder, name, damage):
    """A file that is missing, cut, longer or altered by one bit is found at opening, and named."""
    folder.publish([*people(3), (None, "x", None, 1)])
    folder.publish([*people(4), (None, "x", None, 1)])
    path = generation_directory(folder.data_dir, 2) / name
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        place = len(data) // 3
        altered = data[:place] + bytes([data[place] ^ 0x80]) + data[place + 1 :]
        path.write_bytes({"cut": data[:-1], "altered": altered, "longer": data + b"\0"}[damage])
    if (name, damage) == ("manifest.json", "cut"):
        path.write_bytes(data[:-20])
    with pytest.raises(CorruptGenerationError) as caught:
        open_snapshot(folder.data_dir)
    assert path == caught.value.path
    assert "Run a refresh" in caught.value.remedy
    assert 1 == open_previous_good(folder.data_dir, 2).generation


def test_a_newer_format(folder):
    """A generation of a newer version is refused with both numbers, not misread."""
    folder.publish(people(1))
    path = generation_directory(folder.data_dir, 1) / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "format_version": 5, "files": "elsewhere"}))
    with pytest.raises(FormatVersionError, match="format version 5; this program reads versions up to 4"):
        open_snapshot(folder.data_dir)


@pytest.mark.parametrize("text", [b"[]", b"{}", b"", b"\xff", b'{"format_version": 1}'])
def test_no_manifest(folder, text):
    """A manifest.json that is none is a damaged generation."""
    folder.publish(people(1))
    (generation_directory(folder.data_dir, 1) / "manifest.json").write_bytes(text)
    with pytest.raises(CorruptGenerationError, match="is not a manifest"):
        open_snapshot(folder.data_dir)


def test_nothing_published(tmp_path):
    """Before the first generation there is none, which is no damage."""
    with pytest.raises(NoSnapshotError):
        open_snapshot(tmp_path)
    assert read_current(tmp_path / "nowhere") is None


@pytest.mark.parametrize("text", [b"", b"x", b"-1", b"1 2", b"9" * 19, b"9" * 40, "٣".encode()])
def test_current_holds_no_number(tmp_path, text):
    """A CURRENT that holds anything but a number is named as damaged."""
    (tmp_path / "CURRENT").write_bytes(text)
    with pytest.raises(CorruptGenerationError, match="CURRENT: it does not hold a generation number"):
        read_current(tmp_path)


@pytest.mark.parametrize("text", [b"0", b"00000001", b"x", None])
def test_a_current_that_misleads(folder, text):
    """Without a usable number in CURRENT the newest generation is what the guard compares with."""
    for count in range(1, 6):
        folder.publish(people(count))
    assert [3, 4, 5] == list_numbers(folder.data_dir / "generations")
    if text is None:
        (folder.data_dir / "CURRENT").unlink()
    else:
        (folder.data_dir / "CURRENT").write_bytes(text)
    assert 5 == readable_current(folder.data_dir)


def test_a_folder_that_is_gone_is_not_made_anew(folder):
    """Where the data folder was, a refresh makes nothing: the guard would find nothing to compare with."""
    with pytest.raises(StoreError, match="No such file"), stage(folder.data_dir / "gone"):
        pass
    assert not (folder.data_dir / "gone").exists()


def test_pruned_while_it_is_opened(folder, monkeypatch):
    """A reader whose generation is pruned under its hands takes the newer one."""
    folder.publish(people(1))
    folder.publish(people(2))
    real = reader.read_current
    answers = iter([1])
    monkeypatch.setattr(reader, "read_current", lambda path: next(answers, None) or real(path))
    prune(folder.data_dir, 1)
    assert 2 == open_snapshot(folder.data_dir).generation


def test_pruned_while_it_is_read(folder):
    """A snapshot that is open stays readable after its generation was pruned."""
    folder.publish(people(3))
    old = folder.snapshot()
    for count in (4, 5, 6, 7):
        folder.publish(people(count))
    assert [3, 4, 5] == list_numbers(folder.data_dir / "generations")
    assert 3 == len(users_of(old))
    assert 1 == old.find(USER, "E00002")


def test_a_generation_that_is_no_directory_is_pruned_all_the_same(folder):
    """Something else of that name does not fail a refresh that has published."""
    for count in range(1, 4):
        folder.publish(people(count))
    path = folder.data_dir / "generations" / "00000001"
    shutil.rmtree(path)
    path.write_text("not a directory", encoding="utf-8")
    assert 4 == folder.publish(people(4)).generation
    assert [2, 3, 4] == list_numbers(folder.data_dir / "generations")


def test_prune(folder):
    """The newest generations up to CURRENT are kept; what is newer than CURRENT is left alone."""
    for count in range(1, 5):
        folder.publish(people(count))
    assert [2, 3, 4] == list_numbers(folder.data_dir / "generations")
    store.set_current(folder.data_dir, 3)
    assert [2] == prune(folder.data_dir, 1)
    assert [3, 4] == list_numbers(folder.data_dir / "generations")
    assert 5 == folder.publish(people(1)).generation


def test_pruning_quarantine_leaves_no_half_of_a_generation(tmp_path, monkeypatch):
    """A refused generation is out of the way before its files go: who dies amid the removal leaves nothing to list."""
    for number in (1, 2, 3):
        (tmp_path / "quarantine" / f"{number:08d}").mkdir(parents=True)
    monkeypatch.setattr(store.shutil, "rmtree", lambda *_arguments, **_options: None)
    store.prune_quarantine(tmp_path, 1)
    assert [3] == list_numbers(tmp_path / "quarantine")
    monkeypatch.undo()
    sweep(tmp_path)
    assert {"quarantine"} == names(tmp_path)


def test_sweep(tmp_path):
    """What a writer that died has left is removed; nothing else is."""
    for name in (".creating-00000007", ".creating-pruned-00000001", "generations/00000001", "requests"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").touch()
    (tmp_path / "CURRENT.tmp").touch()
    (tmp_path / "notes.txt").touch()
    sweep(tmp_path)
    assert {"generations", "requests", "notes.txt"} == names(tmp_path)


def test_numbers_only_grow(tmp_path):
    """The next number is above every generation, published, in quarantine, or only named by CURRENT."""
    for folder in ("generations/00000003", "quarantine/00000005", "generations/notes"):
        (tmp_path / folder).mkdir(parents=True)
    with stage(tmp_path) as staging:
        assert 6 == staging.number
        assert ".creating-00000006" == staging.directory.name
    assert not staging.directory.exists()
    store.set_current(tmp_path, 99_999_999)
    with stage(tmp_path) as staging:
        assert 100_000_000 == staging.number
    assert "100000000" == store.directory_name(100_000_000)


def test_a_torn_note_is_never_seen(tmp_path):
    """A small file is replaced in one step: readers see the old or the new content."""
    path = tmp_path / "note"
    for number in range(50):
        store.replace_file(path, b"%d" % number * 1000, durable=False)
        assert b"%d" % number * 1000 == path.read_bytes()
    assert {"note"} == names(tmp_path)
