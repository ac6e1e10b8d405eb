"""Approving from quarantine: times, order, what may not be approved."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from server_fixtures import Directory, person

from snapshot import approval
from snapshot.approval import approve, reject
from snapshot.audit import decisions
from snapshot.config import Guard
from snapshot.errors import PublishRefusedError, StoreError
from snapshot.filter import parse_filter
from snapshot.logs import now_text
from snapshot.reader import open_snapshot
from snapshot.scim import USER
from snapshot.store import list_numbers, read_current


@pytest.fixture
def directory(tmp_path):
    """A published generation of 60 people whose guard is on."""
    made = Directory(tmp_path).add(*[person(number) for number in range(60)])
    made.publish()
    made.config = msgspec.structs.replace(made.config, guard=Guard())
    return made


def refuse(directory: Directory, statement: str, *values: str) -> int:
    """Change people, refresh, and return the number of the refused generation."""
    directory.run(statement, *values)
    with pytest.raises(PublishRefusedError) as caught:
        directory.publish()
    return caught.value.generation


def changed_since(directory: Directory, moment: str) -> int:
    snapshot = open_snapshot(directory.config.data_dir)
    return len(snapshot.select(USER, parse_filter(f'meta.lastModified gt "{moment}"')))


def test_an_import_between_refusal_and_approval_misses_nothing(directory):
    """Changes of an approved generation are newer than every import before the approval."""
    number = refuse(directory, "UPDATE people SET state = 'T' WHERE id < 'E00020'")
    imported = now_text()
    manifest = approve(directory.config, number, who="tester")
    assert number == read_current(directory.config.data_dir) == manifest.generation
    assert 20 == changed_since(directory, imported)


def test_a_second_quarantined_generation_is_stale(directory):
    """After one approval the next refused generation, which knew nothing of it, may not be approved."""
    data_dir = directory.config.data_dir
    first = refuse(directory, "UPDATE people SET state = 'T' WHERE id < 'E00020'")
    second = refuse(directory, "DELETE FROM people WHERE id > 'E00040'")
    approve(directory.config, first, who="tester")
    with pytest.raises(StoreError, match=f"Generation {second} is void"):
        approve(directory.config, second, who="tester")
    # Without that note what it was compared with bars it too.
    (data_dir / "SUPERSEDED").unlink()
    with pytest.raises(
        StoreError, match=f"Generation {second} was compared with generation 1, but {first} is in force"
    ):
        approve(directory.config, second, who="tester")
    assert first == read_current(data_dir)


def test_what_is_not_there_or_rejected_cannot_be_approved(directory):
    """Reject removes the generation; approving or rejecting a number that is not there is an error."""
    data_dir = directory.config.data_dir
    number = refuse(directory, "DELETE FROM people WHERE id > 'E00010'")
    reject(directory.config, number, who="tester")
    assert [] == list_numbers(data_dir / "quarantine")
    for act in (approve, reject):
        with pytest.raises(StoreError, match=f"No generation {number} is in quarantine"):
            act(directory.config, number, who="tester")


def test_a_missing_current_does_not_switch_the_guard_off(directory):
    """Without CURRENT a refresh is compared with the newest generation there is."""
    (directory.config.data_dir / "CURRENT").unlink()
    number = refuse(directory, "DELETE FROM people WHERE id > 'E00010'")
    assert read_current(directory.config.data_dir) is None
    approve(directory.config, number, who="tester")
    assert number == read_current(directory.config.data_dir)


def test_a_damaged_served_generation_does_not_bar_approval(directory):
    """What was compared with the remains of a damaged generation can be approved."""
    data_dir = directory.config.data_dir
    directory.run("UPDATE people SET first = 'New' WHERE id = 'E00001'")
    directory.publish()
    (data_dir / "generations" / "00000002" / "index.sqlite").write_bytes(b"")
    number = refuse(directory, "DELETE FROM people WHERE id > 'E00010'")
    approve(directory.config, number, who="tester")
    assert number == read_current(data_dir)


def test_a_source_that_is_right_again_voids_what_waits(directory):
    """When the rows are back, what was refused without them cannot be approved; the same loss again is a new case."""
    number = refuse(directory, "UPDATE people SET id = 'X' || id WHERE id > 'E00010'")
    directory.run("UPDATE people SET id = substr(id, 2) WHERE id LIKE 'X%'")
    assert 1 == directory.publish().generation
    with pytest.raises(StoreError, match=f"Generation {number} is void"):
        approve(directory.config, number, who="tester")
    again = refuse(directory, "UPDATE people SET id = 'X' || id WHERE id > 'E00010'")
    assert again > number
    assert again == approve(directory.config, again, who="tester").generation


def test_another_configuration_voids_what_waits(directory):
    """What was made with a mapping that is not configured any more is not published."""
    number = refuse(directory, "DELETE FROM people WHERE id > 'E00010'")
    policy = msgspec.structs.replace(directory.config.policy, on_removed="omit")
    config = msgspec.structs.replace(directory.config, policy=policy)
    with pytest.raises(StoreError, match="another query, mapping, policy or public URL than is configured now"):
        approve(config, number, who="tester")
    assert number == approve(directory.config, number, who="tester").generation


def test_an_approval_that_died_on_its_way(directory):
    """What was moved and did not become CURRENT waits again, for a decision as for the next refresh."""
    data_dir = directory.config.data_dir
    number = refuse(directory, "DELETE FROM people WHERE id > 'E00010'")
    for act in (directory.publish, lambda: approve(directory.config, number, who="tester")):
        if list_numbers(data_dir / "quarantine"):
            (data_dir / "quarantine" / f"{number:08d}").rename(data_dir / "generations" / f"{number:08d}")
        with contextlib.suppress(PublishRefusedError):
            act()
    assert number == read_current(data_dir)
    assert [] == list_numbers(data_dir / "quarantine")


def test_an_approval_that_cannot_make_it_current(directory):
    """When CURRENT cannot be written the generation waits again, and can be approved later."""
    data_dir = directory.config.data_dir
    number = refuse(directory, "DELETE FROM people WHERE id > 'E00010'")
    (data_dir / "CURRENT.tmp").mkdir()
    with pytest.raises(StoreError):
        approve(directory.config, number, who="tester")
    assert [number] == list_numbers(data_dir / "quarantine")
    assert 1 == read_current(data_dir)


def test_a_reject_that_removes_nothing_says_so(directory, monkeypatch):
    """A folder that cannot be removed, as with an open file on Windows, is a failure, in the audit log too."""
    number = refuse(directory, "DELETE FROM people WHERE id > 'E00010'")
    monkeypatch.setattr(approval, "remove", lambda *_: False)
    with pytest.raises(StoreError, match="cannot be removed"):
        reject(directory.config, number, who="tester")
    lines = [entry for _, entry in decisions(directory.config.data_dir)]
    assert [("reject", False), ("reject", True)] == [(entry.action, bool(entry.failed)) for entry in lines]
