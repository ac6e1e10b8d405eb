"""The parts of `make bench` that do not measure: what it says of made-up measurements, its people, its counting."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import people
import pytest
from load import Latencies
from memory import memory_of, tree_of
from place import QUICK, Place
from report import Line, Report, read_report
from sizes import table_of
from source import change, changeable

from snapshot.config import load_config

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("values", "target", "verdict"),
    [
        ({"ours": 30.0, "against": 20.0, "ratio": 1.5}, "<= 1.5 x", "met"),
        ({"ours": 31.0, "against": 20.0, "ratio": 1.55}, "<= 1.5 x", "MISSED"),
        ({"ours": 900.0, "against": 1000.0, "ratio": 0.9}, ">= 0.9 x", "met"),
        ({"ours": 400.0}, "<= 400 MiB", "met"),
        ({"ours": 400.1}, "<= 400 MiB", "MISSED"),
        ({"ours": 0.0}, "= 0", "met"),
        ({"ours": 1.0}, "= 0", "MISSED"),
        ({"ours": None}, ">= 1 x", "MISSED"),
        ({"ours": 7.0}, "", ""),
    ],
)
def test_verdict(values: dict[str, Any], target: str, verdict: str):
    """A target with x is held against the ratio, any other against the value; what is not offered misses it."""
    assert verdict == Line("name", "what", "MiB", target=target, **values).verdict


def reported(people: int, seconds: float) -> Report:
    report = Report({"people": people})
    report.add(Line("refresh_first", "refresh, first", "s", seconds, 20.0, seconds / 20, "<= 1.5 x", "rounds: 2"))
    report.add(Line("page_of_200", "list page of 200", "/s", 4000.0, 5000.0, 0.8, ">= 0.9 x"))
    report.add(Line("gzip", "gzip", "/s", None))
    report.details["rounds"] = [1, 2]
    return report


def test_table_shows_every_line():
    """Each line stands in the table with both values, ratio, target and verdict."""
    expected = """\
what                     ours  against  ratio    target
refresh, first        25.00 s  20.00 s   1.25  <= 1.5 x  met
list page of 200      4,000/s  5,000/s   0.80  >= 0.9 x  MISSED
gzip              not offered"""
    assert expected == reported(1_000_000, 25.0).table()


def test_report_is_read_as_it_was_written(tmp_path: Path):
    """What is written as JSON comes back the same, verdicts made anew."""
    written = reported(1_000_000, 25.0)
    written.write(tmp_path / "bench.json")
    assert written == read_report(tmp_path / "bench.json")


def test_sizes_stand_side_by_side():
    """Each size has its column, each figure its row; what a run has not measured is left empty."""
    rows = table_of([reported(1_000_000, 25.0), reported(2_000_000, 52.0)])
    assert ("people", "1,000,000", "2,000,000") == rows[0]
    assert ("refresh, first", "25.00 s", "52.00 s") in rows
    assert ("  against the bare loop", "1.25 x", "2.60 x") in rows
    assert ("server, private memory", "", "") in rows


def test_people_change_as_asked(tmp_path: Path):
    """As many rows as were asked for differ after each change, and only in memory."""
    path = people.prepare(tmp_path, 50)
    prepared = changeable(path)
    before = [bytes(row) for row in prepared.iterate_encoded()]
    assert 5 == change(prepared.body, prepared.lengths, 5)
    once = [bytes(row) for row in prepared.iterate_encoded()]
    assert 5 == change(prepared.body, prepared.lengths, 5)
    twice = [bytes(row) for row in prepared.iterate_encoded()]
    assert 5 == sum(old != new for old, new in zip(before, once, strict=True))
    assert 5 == sum(old != new for old, new in zip(once, twice, strict=True))
    assert before == [bytes(row) for row in changeable(path).iterate_encoded()]


def test_unindexed_filter_selects_some_people():
    """Some people have an x in their title, active ones and others."""
    found = [row[12] for row in people.rows(1000) if "x" in row[6]]
    assert (4, 4) == (found.count(True), found.count(False))


def test_configuration_is_valid(tmp_path: Path):
    """The configuration is one, and what is served does not depend on the port."""
    path = Place(tmp_path, 10, QUICK).write_config("server", level="info", port=1234, pin_ttl_seconds=2.5)
    config = load_config(path)
    assert (1234, 2.5, "info") == (config.server.port, config.server.pin_ttl_seconds, config.log.level)
    assert "http://localhost:8080" == config.server.public_url


def test_percentiles_are_of_what_was_measured():
    """99 of 100 requests are not above the 99th percentile."""
    latencies = Latencies()
    latencies.seconds.extend(number / 1000 for number in range(1, 101))
    assert (51.0, 100.0, 100.0) == (
        latencies.percentile_ms(0.5),
        latencies.percentile_ms(0.99),
        latencies.largest_ms,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts so")
def test_memory_of_a_process():
    """A process has memory of its own, which is part of all it has; one that is gone has none."""
    found = memory_of(os.getpid())
    assert found is not None
    assert 1 < found.private < found.resident
    assert os.getpid() in list(tree_of(os.getpid()))
    assert memory_of(2**22 + 1) is None
