"""Users taken over from the generation before: the same files as if everybody had been written anew."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from people_folder import PeopleFolder, person

from snapshot.checksum import xxh3
from snapshot.reader import body_name, offsets_name, open_generation
from snapshot.scim import USER, ScimVersion
from snapshot.store import FileFacts, generation_directory, read_manifest, write_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from people_folder import Person

    from snapshot.store import Manifest

COUNT = 40
MADE_UP_TIME = b"2000-01-01T00:00:00.000Z"


def rows(changes: dict[int, str]) -> list[Person]:
    """Return people in order; some changed, inactive, gone, rejected, without mail or new between two others."""
    found = []
    for number in range(10, 10 * COUNT, 10):
        kind = changes.get(number // 10, "")
        if kind == "gone":
            continue
        state = {"inactive": 0, "rejected": 7}.get(kind, 1)
        mail = {"changed": f"other{number}@example.com", "no mail": None}.get(kind, "")
        found.append(person(number, state=state, mail=mail))
        if kind == "new":
            found.append(person(number + 5))
    return found


def content(folder: PeopleFolder, manifest: Manifest) -> dict[str, object]:
    """Return bodies, offsets and index of a generation, its own time replaced."""
    directory = generation_directory(folder.data_dir, manifest.generation)
    found: dict[str, object] = {}
    for version in ScimVersion:
        raw = (directory / body_name(USER, version)).read_bytes()
        found[body_name(USER, version)] = raw.replace(manifest.created_at.encode(), MADE_UP_TIME)
        found[offsets_name(USER, version)] = (directory / offsets_name(USER, version)).read_bytes()
    with contextlib.closing(sqlite3.connect(directory / "index.sqlite")) as db:
        for table in (USER, f"{USER}_emails"):
            lines = db.execute(f"SELECT * FROM {table} ORDER BY ordinal, rowid").fetchall()
            found[table] = [tuple(0 if value == manifest.created_ms else value for value in line) for line in lines]
    return found


def both_ways(path: Path, before: dict[int, str], after: dict[int, str], **policy: str) -> list[dict[str, object]]:
    """Refresh twice; return what the second generation holds if users are taken over, and if none can be."""
    folder = PeopleFolder(path)
    folder.settings["source"]["fetch_rows"] = 8
    folder.settings["policy"] = policy
    folder.publish(rows(before))
    found = []
    for name in ("taken over", "written anew"):
        copy = PeopleFolder(path / name)
        copy.path.mkdir()
        copy.settings = folder.settings
        shutil.copytree(folder.data_dir, copy.data_dir)
        if name == "written anew":
            directory = generation_directory(copy.data_dir, 1)
            manifest = msgspec.structs.replace(read_manifest(directory), product_version="0.0.0")
            write_manifest(directory, manifest)
        manifest = copy.publish(rows(after))
        open_generation(generation_directory(copy.data_dir, manifest.generation))
        found.append({"changes": manifest.changes, "rejects": manifest.rejects, **content(copy, manifest)})
    return found


KINDS = st.sampled_from(["changed", "inactive", "gone", "rejected", "no mail", "new"])
CHANGES = st.dictionaries(st.integers(1, COUNT - 1), KINDS, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=CHANGES, after=CHANGES, policy=st.fixed_dictionaries({"on_inactive": st.sampled_from(["send", "omit"])}))
def test_taken_over_or_written_anew(tmp_path_factory, before, after, policy):
    """Whatever changed between two refreshes, bodies, offsets, index and changes are the same both ways."""
    taken_over, anew = both_ways(tmp_path_factory.mktemp("folder"), before, after, **policy)
    assert anew == taken_over


@pytest.mark.parametrize("place", [1, 8, 9, 20, COUNT - 1])
def test_one_change(tmp_path, place):
    """One person who changed, at the edge of a block or within: everybody else is taken over."""
    taken_over, anew = both_ways(tmp_path, {}, {place: "changed"})
    assert anew == taken_over
    assert 1 == taken_over["changes"].changed


def test_runs_are_really_taken_over(tmp_path):
    """Bytes of those who are the same come from the files of the generation before: nothing is mapped for nothing."""
    folder = PeopleFolder(tmp_path)
    folder.settings["source"]["fetch_rows"] = 16
    folder.publish(rows({}))
    directory = generation_directory(folder.data_dir, 1)
    name = body_name(USER, ScimVersion.V2_0)
    raw = (directory / name).read_bytes()
    (directory / name).write_bytes(raw.replace(b"@example.com", b"@EXAMPLE.com"))
    manifest = read_manifest(directory)
    facts = FileFacts(bytes=len(raw), xxh3=xxh3(directory / name))
    write_manifest(directory, msgspec.structs.replace(manifest, files={**manifest.files, name: facts}))
    folder.publish(rows({20: "changed"}))
    anew = [user["id"] for user in folder.users() if user["userName"].endswith("@example.com")]
    assert [person(200)[0]] == anew
