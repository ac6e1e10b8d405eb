"""The audit log: nobody's word about a generation goes unrecorded, and nothing but that word publishes it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from people_folder import people, person

from snapshot.approval import approve, reject
from snapshot.audit import decisions
from snapshot.errors import PublishRefusedError, StoreError
from snapshot.logs import now_text
from snapshot.store import list_numbers, read_current, writer_lock

TREE = Path(__file__).parent.parent
REFUSED = Path("quarantine", "00000002")


@pytest.fixture
def refused(folder):
    """A folder with generation 1 of 50 people published and generation 2 of 21 in quarantine."""
    folder.publish(people(50))
    folder.settings["guard"] = {"enabled": True}
    assert 2 == refuse(folder, [*people(20), person(60)])
    return folder


def refuse(folder, rows):
    with pytest.raises(PublishRefusedError) as caught:
        folder.publish(rows)
    return caught.value.generation


def lines(folder):
    path = folder.data_dir / "audit.jsonl"
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def decide(action, folder, number, **options):
    with writer_lock(folder.data_dir):
        return action(folder.config, number, who="os:jane", **options)


@pytest.mark.parametrize("action", [approve, reject])
def test_one_line_for_each_decision(refused, action):
    """A decision leaves exactly one line: who, what, about which content, with which counts and reasons."""
    manifest = json.loads((refused.data_dir / REFUSED / "manifest.json").read_text())
    before = now_text()
    decide(action, refused, 2)
    (line,) = lines(refused)
    assert before <= line.pop("at") <= now_text()
    assert {
        "who": "os:jane",
        "action": action.__name__,
        "generation": 2,
        "content": manifest["content"],
        "counts": {
            "User": 51,
            "tombstones": 30,
            "rows": 21,
            "rejects": 0,
            "added": 1,
            "changed": 0,
            "deactivated": 0,
            "removed": 30,
            "expired": 0,
        },
        "refused": manifest["refused"],
        "failed": "",
    } == line
    assert 64 == len(manifest["content"])
    assert manifest["refused"]
    assert (2 if action is approve else 1) == read_current(refused.data_dir)


def test_a_failed_publish_is_told(refused):
    """A decision that could not be carried out has a second line that says so, and can be taken again."""
    in_the_way = refused.data_dir / "generations/00000002"
    in_the_way.write_text("a file in the place of the generation")
    with pytest.raises(StoreError) as caught:
        decide(approve, refused, 2)
    first, second = lines(refused)
    assert ("", caught.value.cause) == (first.pop("failed"), second.pop("failed"))
    assert caught.value.cause
    assert first.pop("at") <= second.pop("at")
    assert first == second
    assert 1 == read_current(refused.data_dir)
    in_the_way.unlink()
    assert 2 == decide(approve, refused, 2).generation
    assert ["", caught.value.cause, ""] == [line["failed"] for line in lines(refused)]
    assert 2 == read_current(refused.data_dir)
    assert {person["id"] for person in refused.users()} == {row[0] for row in [*people(50), person(60)]}


# Dies in the moment before a file or folder gets the name that ends so; buffers are lost as in a crash.
DYING = """
import os, sys
from pathlib import Path
from snapshot import approval
from snapshot.config import load_config
from snapshot.store import writer_lock

def die(event, arguments):
    if event == sys.argv[3] and Path(os.fsdecode(arguments[int(sys.argv[4])])).as_posix().endswith(sys.argv[5]):
        os._exit(9)

config = load_config(Path(sys.argv[1]))
with writer_lock(config.data_dir):
    sys.addaudithook(die)
    getattr(approval, sys.argv[2])(config, 2, who="os:jane")
"""


@pytest.mark.parametrize(
    ("action", "event", "argument", "path"),
    [
        ("approve", "open", 0, "quarantine/00000002/User.1.1.json"),
        ("approve", "os.rename", 1, "quarantine/00000002/manifest.json"),
        ("approve", "os.rename", 1, "generations/00000002"),
        ("approve", "os.rename", 1, "data/CURRENT"),
        ("reject", "os.rename", 0, "quarantine/00000002"),
        ("reject", "shutil.rmtree", 0, "pruned-00000002"),
    ],
)
def test_the_line_comes_first(refused, action, event, argument, path):
    """Whenever the program dies between the decision and its end, the line is there and CURRENT still stands."""
    # This file is opened for the check of the checksums, before anything is decided.
    expected = 0 if path.endswith("User.1.1.json") else 1
    command = [sys.executable, "-c", DYING, str(refused.toml()), action, event, str(argument), path]
    assert 9 == subprocess.run(command, cwd=TREE, timeout=30, check=False).returncode
    assert [(action, "")] * expected == [(line["action"], line["failed"]) for line in lines(refused)]
    assert 1 == read_current(refused.data_dir)
    # The next refresh goes on as if nothing had happened.
    refused.settings["guard"] = {"enabled": False}
    number = refused.publish(people(49)).generation
    assert number > 2
    assert number == read_current(refused.data_dir)


def test_a_crash_in_the_middle_of_a_line_costs_that_line_only(refused):
    """The next decision begins a line of its own after what a crash has left."""
    path = refused.data_dir / "audit.jsonl"
    path.write_bytes(b'{"at":"2026-01-01T00:00:00.000Z","who":"os:j')
    decide(reject, refused, 2)
    raw = path.read_bytes().splitlines()
    assert (2, b'{"at":"2026-01-01T00:00:00.000Z","who":"os:j') == (len(raw), raw[0])
    assert [None, "reject"] == [entry and entry.action for _, entry in decisions(refused.data_dir)]
    assert raw == [line for line, _ in decisions(refused.data_dir)]


def test_lines_are_only_ever_added(refused):
    """A later decision leaves the bytes of the earlier ones as they were."""
    decide(reject, refused, 2)
    before = (refused.data_dir / "audit.jsonl").read_bytes()
    assert 3 == refuse(refused, people(10))
    decide(approve, refused, 3)
    after = (refused.data_dir / "audit.jsonl").read_bytes()
    assert after.startswith(before)
    assert [("reject", 2), ("approve", 3)] == [(line["action"], line["generation"]) for line in lines(refused)]


@pytest.mark.parametrize("lost", [False, True])
def test_a_rejected_number_is_never_given_again(refused, lost):
    """After a reject the same refusal has a higher number, so an old `approve 2` meets nothing."""
    decide(reject, refused, 2)
    assert "00000002" == (refused.data_dir / "NUMBER").read_text().strip()
    if lost:
        # What a crash leaves beside the file is not taken for it.
        (refused.data_dir / "NUMBER.tmp").write_text("0000")
    assert 3 == refuse(refused, [*people(20), person(60)])
    with pytest.raises(StoreError, match="No generation 2 is in quarantine"):
        decide(approve, refused, 2)
    assert 1 == len(lines(refused))
    assert 1 == read_current(refused.data_dir)
    decide(reject, refused, 3)
    refused.settings["guard"] = {"enabled": False}
    assert 4 == refused.publish(people(20)).generation


@pytest.mark.parametrize("action", [approve, reject])
def test_other_content_than_was_seen(refused, action):
    """A decision about content that the generation does not hold decides nothing and leaves no line."""
    with pytest.raises(StoreError, match="Generation 2 holds other content"):
        decide(action, refused, 2, content="0" * 64)
    assert [] == lines(refused)
    assert (1, [2]) == (read_current(refused.data_dir), list_numbers(refused.data_dir / "quarantine"))


NAMES = [
    "User.1.1.json",
    "User.1.1.offsets",
    "User.2.0.json",
    "User.2.0.offsets",
    "changes.jsonl",
    "index.sqlite",
    "manifest.json",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_generation_that_was_tampered_with(refused, name):
    """One bit that is not what the refresh wrote, in any file, and the generation cannot be approved."""
    path = refused.data_dir / REFUSED / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(StoreError) as caught:
        decide(approve, refused, 2)
    assert str(path) in caught.value.cause
    assert [] == lines(refused)
    assert (1, 50) == (read_current(refused.data_dir), len(refused.users()))


def test_a_manifest_cannot_vouch_for_other_files(refused):
    """A manifest whose checksums were written anew does not pass either: it carries its own."""
    path = refused.data_dir / REFUSED / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["refused"] = []
    path.write_text(json.dumps(manifest, indent=2))
    with pytest.raises(StoreError, match="its checksum is not the one it holds"):
        decide(approve, refused, 2)
    assert 1 == read_current(refused.data_dir)


def test_a_refusal_that_repeats_itself_waits_once(refused):
    """The same refusal again keeps the generation that waits, with number, time and content; another one is new."""
    before = (refused.data_dir / REFUSED / "manifest.json").read_bytes()
    for _ in range(2):
        assert 2 == refuse(refused, [*people(20), person(60)])
    assert [2] == list_numbers(refused.data_dir / "quarantine")
    assert before == (refused.data_dir / REFUSED / "manifest.json").read_bytes()
    assert 3 == refuse(refused, people(20))
    assert 2 == refuse(refused, [*people(20), person(60)])
    assert [2, 3] == list_numbers(refused.data_dir / "quarantine")
    assert [] == [name for name in refused.data_dir.iterdir() if name.name.startswith(".creating")]
    decide(approve, refused, 2, content=json.loads(before)["content"])
    assert 2 == read_current(refused.data_dir)


def test_nothing_decided_is_no_file(folder):
    """Without a decision there is no log, and reading it gives nothing."""
    folder.publish(people(1))
    assert [] == list(decisions(folder.data_dir))
    with contextlib.suppress(StoreError):
        decide(approve, folder, 7)
    assert not (folder.data_dir / "audit.jsonl").exists()


def test_what_a_crash_left_can_be_rejected_and_does_not_stand_for_a_whole_one(refused):
    """A generation that an approval left half stamped does not hold back the same refusal; it can be removed."""
    command = [
        sys.executable,
        "-c",
        DYING,
        str(refused.toml()),
        "approve",
        "os.rename",
        "1",
        f"{REFUSED.as_posix()}/manifest.json",
    ]
    assert 9 == subprocess.run(command, cwd=TREE, timeout=30, check=False).returncode
    with pytest.raises(StoreError, match="its checksum is not the one in the manifest"):
        decide(approve, refused, 2)
    assert 3 == refuse(refused, [*people(20), person(60)])
    (refused.data_dir / REFUSED / "manifest.json").unlink()
    decide(reject, refused, 2)
    assert [3] == list_numbers(refused.data_dir / "quarantine")
    assert ("reject", 2, "") == tuple(lines(refused)[-1][name] for name in ("action", "generation", "content"))
    decide(approve, refused, 3)
    assert 3 == read_current(refused.data_dir)
