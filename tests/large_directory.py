"""A generated directory with groups of any size: the rows, a refresh of them in a process of its own, and its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from snapshot.scim import GROUP, USER, ScimVersion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from related_folder import RelatedFolder

    from snapshot.reader import Snapshot

ROOT = Path(__file__).resolve().parent.parent
# So that a membership is one number.
_FACTOR = 1_000_000
_REFRESH = """
import json, sys
from pathlib import Path
from snapshot.config import load_config
from snapshot.refresh import run_refresh
manifest = run_refresh(load_config(Path(sys.argv[1])))
try:  # not ru_maxrss: a child begins with that of its parent, here the tests themselves
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
except OSError:
    peak = None
print(json.dumps({"generation": manifest.generation, "links": manifest.links, "seconds": manifest.seconds, "mib": peak}))
"""


@dataclass(frozen=True)
class Size:
    """How large it is: group 0 has the first `largest` people, person 0 is in the first `busiest` groups.

    All others are in `each` groups.
    """

    people: int
    groups: int
    each: int
    largest: int
    busiest: int

    def memberships(self) -> Iterator[tuple[int, int]]:
        """Yield (person, group), each once."""
        for person in range(self.people):
            groups = {1 + (person * 31 + turn * 7919) % (self.groups - 1) for turn in range(self.each)}
            if person == 0:
                groups = set(range(self.busiest))
            elif person < self.largest:
                groups.add(0)
            for group in groups:
                yield person, group


def write(folder: RelatedFolder, size: Size) -> set[int]:
    """Fill the tables; return every membership as one number. Every tenth person has two phones, all have managers."""
    folder.settings["source"]["users"]["key"] = "no"
    del folder.settings["entitlements"]["Role"]
    pairs = {person * _FACTOR + group for person, group in size.memberships()}
    with folder.open() as database:
        database.execute("PRAGMA synchronous = OFF")
        for table, rows in {
            "people": (
                (f"E{number:06}", f"user{number}@example.com", f"Person {number}", 1, number // 10, number, None)
                for number in range(size.people)
            ),
            "teams": ((f"G{number:05}", f"Group {number}", None) for number in range(size.groups)),
            "in_team": ((pair // _FACTOR, f"G{pair % _FACTOR:05}") for pair in sorted(pairs, reverse=True)),
            "phones": (
                (number, f"+1 555 {place}", "work", place, place)
                for number in range(0, size.people, 10)
                for place in range(2)
            ),
            "licenses": ((f"L{number}", f"License {number}", None) for number in range(10)),
            "has_license": ((number, f"L{number % 10}") for number in range(size.people)),
        }.items():
            marks = ", ".join("?" * len(_columns(database, table)))
            database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    return pairs


def _columns(database, table: str) -> list[str]:
    return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def refresh(folder: RelatedFolder) -> dict:
    """Refresh in a fresh process; return its figures: the seconds of each phase, and the peak of memory in MiB."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCIM_TEST_PASSWORD": "x"}
    command = [sys.executable, "-c", _REFRESH, str(folder.toml())]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def memberships_of_groups(snapshot: Snapshot, version: ScimVersion) -> set[int]:
    """Return what the members of all groups say, as numbers; each is there once."""
    found: list[int] = []
    for group in _each(snapshot, GROUP, version):
        number = int(group["id"][1:])
        found += [int(item["value"][1:]) * _FACTOR + number for item in group.get("members", [])]
    assert len(found) == len(set(found))
    return set(found)


def memberships_of_users(snapshot: Snapshot, version: ScimVersion) -> set[int]:
    """Return what the groups of all users say, as numbers; each is there once."""
    found: list[int] = []
    for user in _each(snapshot, USER, version):
        number = int(user["id"][1:]) * _FACTOR
        found += [number + int(item["value"][1:]) for item in user.get("groups", [])]
    assert len(found) == len(set(found))
    return set(found)


def _each(snapshot: Snapshot, resource_type: str, version: ScimVersion) -> Iterator[dict]:
    for ordinal in range(snapshot.count(resource_type)):
        yield orjson.loads(snapshot.resources(resource_type, version, ordinal, ordinal + 1))
