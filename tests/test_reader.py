"""A Snapshot that nobody holds any more lets go of its files, and of none that is still in use."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref
from pathlib import Path

from people_folder import PeopleFolder, people

from snapshot.reader import Snapshot
from snapshot.scim import USER, ScimVersion

ROOT = Path(__file__).resolve().parent.parent


def wait_for_unmapping() -> int:
    """Wait for the threads that unmap; return how many there were."""
    threads = [thread for thread in threading.enumerate() if thread.name == "unmap"]
    for thread in threads:
        thread.join(5)
    return len(threads)


class Large(Snapshot):
    """A snapshot that counts as large."""

    large_bytes = 1


def test_a_large_snapshot_is_unmapped_in_a_thread(folder: PeopleFolder):
    """With the last reference every mapped file is let go of, by a thread."""
    manifest = folder.publish(people(3))
    snapshot = Large(folder.data_dir / "generations" / "00000001", manifest)
    maps = [weakref.ref(view.obj) for item in snapshot._bodies.values() for view in (item.bytes, item.offsets)]
    assert len(maps) == 4
    del snapshot
    wait_for_unmapping()
    assert [] == [item for item in maps if item() is not None]


def test_a_slice_outlives_its_snapshot(folder: PeopleFolder):
    """A page that is still being sent keeps its bytes, whatever becomes of the snapshot."""
    manifest = folder.publish(people(3))
    snapshot = Large(folder.data_dir / "generations" / "00000001", manifest)
    whole = bytes(snapshot.resources(USER, ScimVersion.V2_0, 0, 3))
    page = snapshot.resources(USER, ScimVersion.V2_0, 0, 3)
    mapped = weakref.ref(page.obj)
    del snapshot
    wait_for_unmapping()
    assert whole == bytes(page)
    del page
    assert mapped() is None


def test_a_snapshot_that_could_not_be_opened_lets_go_too(folder: PeopleFolder):
    """Half an opening leaves nothing behind that would fail later."""
    folder.publish(people(1))
    snapshot = Large.__new__(Large)
    del snapshot
    assert 0 == wait_for_unmapping()


def test_a_program_that_holds_a_snapshot_ends(folder: PeopleFolder):
    """Who still holds a large snapshot when the interpreter ends is not held up by it."""
    folder.publish(people(3))
    program = (
        "import sys, pathlib; from snapshot.reader import Snapshot, open_snapshot; "
        "Snapshot.large_bytes = 1; sys.kept = open_snapshot(pathlib.Path(sys.argv[1])); "
        "sys.modules['kept'] = kept = open_snapshot(pathlib.Path(sys.argv[1])); print('end')"
    )
    command = [sys.executable, "-c", program, str(folder.data_dir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert (0, "end\n", "") == (done.returncode, done.stdout, done.stderr)
