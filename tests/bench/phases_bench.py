"""Where the time of a first refresh goes: each step by itself, over rows that are in memory, on one processor.

In a refresh the steps up to `pack` run in the process that reads, the others in the one that writes, both at the same
time; a sum of these numbers is therefore not the duration of a refresh.
"""

from __future__ import annotations

import os
import shutil
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

import people
from place import Place, say
from report import Line, Report

from snapshot.block import pack, unpack
from snapshot.checksum import xxh3
from snapshot.config import load_config
from snapshot.encode import Dresser, time_text, undress
from snapshot.index import IndexWriter
from snapshot.reading import column_mapping
from snapshot.resource_types import USERS
from snapshot.scim import ScimVersion
from snapshot.type_writer import TypeWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from source_process import Source

_MOST_PEOPLE = 200_000
_BLOCK_ROWS = 2_000
_MOMENT_MS = 1_700_000_000_000


class _Steps:
    """Processor time of each step, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        found = work()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - began
        return found


def bench_phases(place: Place, source: Source, report: Report) -> None:
    """Measure the steps one after the other."""
    say("steps of a refresh, one at a time")
    count = min(place.count, _MOST_PEOPLE)
    fetch = source.bare_loop().seconds / place.count
    folder = place.folder / "phases"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    step = _Steps()
    waited = _write_generation(place, folder, count, step)
    shutil.rmtree(folder)
    report.add(Line("step_fetch", "one step alone, a person: fetch, which is the bare loop", "µs", fetch * 1e6))
    for name, seconds in {**step.seconds, "fsync, which is waiting": waited}.items():
        report.add(Line(f"step_{name.partition(',')[0].replace(' ', '_')}", f"  {name}", "µs", seconds / count * 1e6))


def _write_generation(place: Place, folder: Path, count: int, step: _Steps) -> float:
    """Write what a generation has of users; return the seconds of waiting for the disk."""
    config = load_config(place.write_config("phases"))
    columns = column_mapping(config, [column.name for column in people.COLUMNS])
    dressers = [Dresser(version, config.base_url(version)) for version in ScimVersion]
    users = TypeWriter(folder, config, USERS)
    index = IndexWriter(folder / "index.sqlite", config)
    rows = people.rows(count)
    moment = time_text(_MOMENT_MS)
    while some := list(islice(rows, _BLOCK_ROWS)):
        packed = step("pack", lambda some=some: pack(some))
        block = step("unpack", lambda packed=packed: unpack(packed))
        mapped = step("map", lambda block=block: columns(block))
        undressed = step("fingerprint", lambda mapped=mapped: undress(mapped))
        times = [_MOMENT_MS] * mapped.size
        texts = [moment] * mapped.size
        step(
            "encode both versions",
            lambda undressed=undressed, texts=texts: [item.dress_block(undressed, texts, texts) for item in dressers],
        )
        step("encode and write", lambda undressed=undressed, times=times: users.write_block(undressed, times, times))
        ordinals = range(users.count - mapped.size, users.count)
        step(
            "index rows",
            lambda ordinals=ordinals, mapped=mapped, undressed=undressed, times=times: index.add_block(
                ordinals, mapped, undressed.fingerprints, times, times
            ),
        )
    step("encode and write", users.finish)
    step.seconds["write"] = step.seconds.pop("encode and write") - step.seconds["encode both versions"]
    step("index look for duplicates", lambda: [list(index.duplicates(column)) for column in ("id", "user_name")])
    step("index B-trees", index.finish)
    began = time.perf_counter()
    for name in users.names:
        with (folder / name).open("rb+") as file:
            os.fsync(file.fileno())
    waited = time.perf_counter() - began
    step("checksum", lambda: [xxh3(path) for path in folder.iterdir()])
    return waited
