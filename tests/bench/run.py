"""make bench: the ratios and memory that tell whether the product is fast, side by side in one run.

    PEOPLE=1000000 python tests/bench/run.py          everything
    PARTS=http,variants python tests/bench/run.py     some of it, with the data of the last run
    QUICK=1 PEOPLE=20000 python tests/bench/run.py    with short rounds

Ratios only mean something within one run on one machine; absolute numbers are printed to understand them.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(HERE.parent), str(HERE)]

import people  # noqa: E402
from http_bench import bench_http  # noqa: E402
from phases_bench import bench_phases  # noqa: E402
from place import FULL, QUICK, Place, say  # noqa: E402
from refresh_bench import bench_refreshes, settle  # noqa: E402
from report import MISSED, Report, markdown_of  # noqa: E402
from source_process import Source  # noqa: E402
from swap_bench import bench_swaps  # noqa: E402
from variants_bench import bench_variants  # noqa: E402

PARTS = ("refresh", "phases", "swap", "http", "variants")
BASE = ROOT / ".bench"


def main() -> int:
    """Run the parts; print one table; write it as JSON."""
    count = int(os.environ.get("PEOPLE", "1000000"))
    quick = os.environ.get("QUICK", "") == "1"
    parts = os.environ.get("PARTS", ",".join(PARTS)).split(",")
    if unknown := set(parts) - set(PARTS):
        raise SystemExit(f"PARTS: there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    effort = QUICK if quick else FULL
    if rounds := os.environ.get("ROUNDS"):
        effort = replace(effort, refresh_rounds=int(rounds))
    report = bench(Place(BASE / str(count), count, effort), parts)
    if set(parts) == set(PARTS):
        report.write(BASE / ("bench-quick.json" if quick else f"bench-{count}.json"))
    report.write(BASE / "bench.json")
    (BASE / "bench.md").write_text(f"{markdown_of(report.lines)}\n", encoding="utf-8")
    print(f"\n{report.table()}\n")
    missed = sum(line.verdict == MISSED for line in report.lines)
    print(f"{missed} targets missed; they are meant for 1,000,000 people on two processors with nothing else to do.")
    facts = report.facts
    print(f"{facts['seconds']} s; load before {facts['load_before']}; {facts['stolen_percent']} % of the time stolen.")
    if os.environ.get("KEEP", "1") != "1":
        shutil.rmtree(BASE / str(count))
    for part, cause in report.details.get("failed", {}).items():
        print(f"FAILED: {part}: {cause}", file=sys.stderr)
    return 1 if "failed" in report.details else 0


def bench(place: Place, parts: list[str]) -> Report:
    """Measure the parts, one after the other."""
    place.folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    facts = {
        "people": place.count,
        "measured": time.strftime("%Y-%m-%d %H:%M"),
        "commit": _commit(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
    }
    ticks = _ticks()
    print("; ".join(f"{key} {value}" for key, value in facts.items()), flush=True)
    report = Report(facts)
    if {"refresh", "phases", "swap"} & set(parts):
        say(f"preparing the rows of {place.count:,} people of {len(people.COLUMNS)} columns")
        with Source(place) as source:
            if "swap" in parts and "refresh" not in parts:
                settle(place, source)
            for part, work in (("refresh", bench_refreshes), ("phases", bench_phases), ("swap", bench_swaps)):
                if part in parts:
                    _try(report, part, lambda work=work: work(place, source, report))
    for part, measure in (("http", bench_http), ("variants", bench_variants)):
        if part in parts:
            _try(report, part, lambda measure=measure: measure(place, report))
    stolen, every = (after - before for before, after in zip(ticks, _ticks(), strict=True))
    facts["stolen_percent"] = round(100 * stolen / max(1, every), 1)
    facts["seconds"] = round(time.monotonic() - began)
    return report


def _try(report: Report, part: str, measure: Callable[[], None]) -> None:
    """Measure a part; what fails is told at the end, after what did not."""
    try:
        measure()
    except (SystemExit, subprocess.CalledProcessError) as error:
        say(f"FAILED: {part}: {error}")
        report.details.setdefault("failed", {})[part] = str(error)


def _ticks() -> tuple[int, int]:
    """Return the time that other machines took from our processors since the start, and all time."""
    numbers = [int(number) for number in Path("/proc/stat").read_text(encoding="ascii").split()[1:9]]
    return numbers[7], sum(numbers)


def _commit() -> str:
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return "unknown"


if __name__ == "__main__":
    sys.exit(main())
