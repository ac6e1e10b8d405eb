"""Filters: one that no index helps with, what it does to others meanwhile, and one for what changed lately."""

from __future__ import annotations

import statistics
import threading
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from compare import compare, seconds_of
from load import Latencies, page, request, send_all
from place import Place, say
from report import Line, Report
from swap_bench import PAGE, changed_since, import_requests, total_of

if TYPE_CHECKING:
    from servers import Server

# Each selects the same people; another text each time, so that nothing kept from before can answer.
_PARTS = ("x", "xe", "xec", "xecu", "xecut", "xecuti", "xecutiv", "xecutive")
_INCREMENTAL_ROUNDS = 15


def bench_filters(place: Place, report: Report, server: Server) -> None:
    """Measure both kinds."""
    say("filters")
    _bench_unindexed(place, report, server)
    _bench_meanwhile(place, report, server)
    _bench_incremental(place, report, server)


def _unindexed(part: str) -> str:
    return f'title co "{part}" and not (active eq false)'


def _bench_unindexed(place: Place, report: Report, server: Server) -> None:
    found = total_of(server.port, request(page(1, 1, _unindexed("X"))))
    size = min(PAGE, found // 2)
    seconds = [seconds_of(server.port, request(page(1, size, _unindexed(part)))) for part in _PARTS]
    report.details["unindexed filter, seconds"] = seconds
    note = f"selects {found:,}; median of {len(seconds)}, the slowest {max(seconds) * 1000:.1f} ms"
    ours = statistics.median(seconds) * 1000
    report.add(Line("filter_first", "unindexed filter, first page", "ms", ours, target="<= 400 ms", note=note))
    second = request(page(size + 1, size, _unindexed(_PARTS[0])))
    ours = seconds_of(server.port, second) * 1000
    report.add(Line("filter_second", "  its second page, asked once", "ms", ours))
    # The same number of people a page; the selected ones do not lie side by side.
    line = Line("filter_further", "  its further pages, against a plain page", "/s", None, target=">= 0.9 x")
    plain = request(page(size + 1, size))
    report.add(compare(place.effort, line, (server.port, second), (server.port, plain)))


def _bench_meanwhile(place: Place, report: Report, server: Server) -> None:
    """Send pages while another connection sends one unindexed filter after the other."""
    end = time.monotonic() + max(1.0, place.effort.import_seconds / 2)
    filters = [request(page(1, PAGE, _unindexed(part))) for part in _PARTS]
    sent = Latencies()
    other = threading.Thread(
        target=send_all, args=(server.port, filters, sent), kwargs={"until": lambda: time.monotonic() > end}
    )
    latencies = Latencies()
    other.start()
    send_all(server.port, import_requests(place.count), latencies, until=lambda: not other.is_alive())
    other.join()
    failures = sent.failures + latencies.failures
    note = f"{len(latencies.seconds):,} pages, {len(sent.seconds)} filters, {failures} failed"
    ours = latencies.percentile_ms(0.99)
    report.add(Line("filter_meanwhile", "  page requests meanwhile: p99", "ms", ours, target="<= 50 ms", note=note))


def _bench_incremental(place: Place, report: Report, server: Server) -> None:
    before = place.generations()[-2]
    found = total_of(server.port, changed_since(place, before))
    moment = datetime.fromisoformat(place.manifest(before)["created_at"])
    seconds = []
    for at in range(_INCREMENTAL_ROUNDS):
        since = (moment + timedelta(milliseconds=at)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        seconds.append(seconds_of(server.port, request(page(1, PAGE, f'meta.lastModified gt "{since}"'))))
    note = f"selects {found:,}; median of {len(seconds)}, the slowest {max(seconds) * 1000:.1f} ms"
    ours = statistics.median(seconds) * 1000
    report.add(Line("filter_incremental", "incremental filter, first page", "ms", ours, target="<= 10 ms", note=note))
