"""Imports while a refresh publishes a new generation and the server swaps to it, and what the event loop makes of it."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from typing import TYPE_CHECKING

from load import Connection, Latencies, page, request, send_all
from place import ENVIRONMENT, Place, say
from refresh_bench import MILLION, configure, scheduler_command
from report import Line, Report
from servers import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from source_process import Source

CHANGED = 1000
PAGE = 200
# After CURRENT is written the server looks, opens, swaps; when the import run is over it lets the old one go.
_POLL_SECONDS = 0.5
_AFTER_SECONDS = 3.0
# Two generations of five million people do not fit into memory: they are read from the disk.
_MORE_SECONDS_A_MILLION = 10.0


def import_requests(count: int) -> list[bytes]:
    """Return the requests of a whole import."""
    return [request(page(start, PAGE)) for start in range(1, count + 1, PAGE)]


def changed_since(place: Place, generation: Path) -> bytes:
    """Return the request for who changed after a generation."""
    created_at = place.manifest(generation)["created_at"]
    return request(page(1, PAGE, f'meta.lastModified gt "{created_at}"'))


def total_of(port: int, asked: bytes) -> int:
    """Return totalResults."""
    connection = Connection(port)
    answer = connection.ask(asked)
    if not answer.good:
        raise SystemExit(f"{asked.split()[1]!r} answered {answer.head[:200]!r}")
    total: int = json.loads(bytes(answer.body))["totalResults"]
    connection.close()
    return total


def bench_swaps(place: Place, source: Source, report: Report) -> None:
    """Measure one import after the other: with nothing else, beside a bare loop, beside a refresh that publishes."""
    configure(place, source)
    probe = place.folder / "loop.json"
    requests = import_requests(place.count)
    after = _seconds_until_over(place)
    with serving(
        place, probe=probe, poll_seconds=_POLL_SECONDS, pin_ttl_seconds=place.effort.pin_ttl_seconds
    ) as server:
        say("import by itself")
        alone = Latencies()
        began = time.monotonic()
        send_all(server.port, requests, alone, until=lambda: time.monotonic() - began > place.effort.import_seconds)
        say("import beside a bare loop")
        beside = Latencies()
        with subprocess.Popen(source.bare_command(), env=ENVIRONMENT, stdout=subprocess.DEVNULL) as loop:
            send_all(server.port, requests, beside, until=lambda: loop.poll() is not None)
        say("import beside a refresh that publishes")
        during = Latencies()
        source.change(min(CHANGED, place.count))
        published_at = place.current.stat().st_mtime
        with (place.folder / "refresh.log").open("ab") as log:
            process = subprocess.Popen(scheduler_command(place), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=log)
        send_all(server.port, requests, during, until=_ended(process, after))
        if process.wait() or place.current.stat().st_mtime == published_at:
            raise SystemExit("the refresh beside the import has published nothing; see refresh.log")
        published_at = place.current.stat().st_mtime
    _tell_import(alone, beside, during, report)
    loaded = _blocked(probe, published_at, after)
    quiet = [_quiet_swap(place, requests, report) for _ in range(place.effort.swaps)]
    what = "swap while an import runs: longest the event loop was blocked"
    note = f"{len(quiet)} swaps; processor time within it: {max(quiet)[1]:.1f} ms"
    report.add(Line("swap_blocked", what, "ms", max(quiet)[0], target="<= 20 ms", note=note))
    note = f"processor time within it: {loaded[1]:.1f} ms"
    report.add(Line("swap_blocked_loaded", "  the same at the end of the refresh", "ms", loaded[0], note=note))


def _seconds_until_over(place: Place) -> float:
    return _AFTER_SECONDS + place.effort.pin_ttl_seconds + _MORE_SECONDS_A_MILLION * max(0, place.count / MILLION - 1)


def _ended(process: subprocess.Popen[bytes], seconds: float) -> Callable[[], bool]:
    """Return a function that tells whether the process has been over for so long."""
    ended_at: list[float] = []

    def asked() -> bool:
        if not ended_at and process.poll() is not None:
            ended_at.append(time.monotonic())
        return bool(ended_at) and time.monotonic() - ended_at[0] > seconds

    return asked


def _tell_import(alone: Latencies, beside: Latencies, during: Latencies, report: Report) -> None:
    note = f"{len(alone.seconds):,} requests without, {len(during.seconds):,} with"
    for name, share, target in (("p50", 0.5, ""), ("p99", 0.99, "<= 3 x")):
        ours, other = during.percentile_ms(share), alone.percentile_ms(share)
        what = f"import while a refresh runs and swaps: {name}"
        report.add(Line(f"import_refresh_{name}", what, "ms", ours, other, ours / other, target, note))
    what = "  p99 beside the bare loop instead of the refresh"
    ours, other = beside.percentile_ms(0.99), alone.percentile_ms(0.99)
    report.add(Line("import_bare_p99", what, "ms", ours, other, ours / other))
    what = "import while a refresh runs and swaps: longest request"
    target = "<= 250 ms"
    report.add(Line("import_refresh_max", what, "ms", during.largest_ms, alone.largest_ms, target=target))
    what = "import while a refresh runs and swaps: failed requests"
    failures = alone.failures + beside.failures + during.failures
    report.add(Line("import_refresh_failures", what, "", failures, alone.failures, target="= 0"))


def _quiet_swap(place: Place, requests: list[bytes], report: Report) -> tuple[float, float]:
    """Let the server begin with the generation before, import, and swap to the newest one without any refresh."""
    say("swap by itself")
    newest = place.current.read_text(encoding="ascii")
    before = place.generations()[-2].name
    probe = place.folder / "loop.json"
    _write_current(place, f"{before}\n")
    seconds = _seconds_until_over(place)
    try:
        with serving(
            place, probe=probe, poll_seconds=_POLL_SECONDS, pin_ttl_seconds=place.effort.pin_ttl_seconds
        ) as server:
            latencies = Latencies()
            end = time.monotonic() + 1.0 + seconds
            client = threading.Thread(
                target=send_all,
                args=(server.port, requests, latencies),
                kwargs={"until": lambda: time.monotonic() > end},
            )
            client.start()
            time.sleep(1.0)
            _write_current(place, newest)
            swapped_at = time.time()
            client.join()
            if total_of(server.port, changed_since(place, place.generations()[-2])) == 0:
                raise SystemExit("the server did not swap")
    finally:
        _write_current(place, newest)
    report.details.setdefault("swap failures", []).append(latencies.failures)
    return _blocked(probe, swapped_at, seconds)


def _write_current(place: Place, text: str) -> None:
    """Replace CURRENT, as a publication does."""
    partial = place.data / "CURRENT.tmp"
    partial.write_text(text, encoding="ascii")
    partial.replace(place.current)


def _blocked(probe: Path, at: float, seconds: float) -> tuple[float, float]:
    """Return the largest lag in the seconds after a moment, and the processor time within it; both in ms."""
    found: list[list[float]] = json.loads(probe.read_text(encoding="utf-8"))
    _, lag, work = max((item for item in found if at - 0.1 <= item[0] <= at + seconds), key=lambda item: item[1])
    return lag * 1000, work * 1000
