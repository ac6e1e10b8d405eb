"""The same page in other forms: HEAD, compressed, and with a line in the log."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from compare import compare
from load import Connection, Latencies, page, request, send_all
from place import Place, say
from report import Line, Report
from servers import serving
from swap_bench import PAGE, import_requests

if TYPE_CHECKING:
    from servers import Server

_GZIP = ("Accept-Encoding: gzip",)


def bench_variants(place: Place, report: Report) -> None:
    """Measure all of them."""
    with serving(place) as server:
        say("HEAD and compression")
        target = page(1, PAGE)
        _bench_head(place, report, server, target)
        _bench_gzip(place, report, server, target)
    _bench_log(place, report)


def _bench_head(place: Place, report: Report, server: Server, target: str) -> None:
    line = Line("head", f"HEAD of a page of {PAGE}, against GET", "/s", None)
    asked = request(target, method="HEAD")
    connection = Connection(server.port)
    answers = [connection.ask(asked) for _ in range(2)]  # a body after the first head would spoil the second one
    connection.close()
    if all(answer.good for answer in answers):
        line = compare(place.effort, line, (server.port, asked), (server.port, request(target)))
    length = answers[0].header("content-length") or "none"
    report.add(replace(line, note=f"Content-Length: {length}"))


def _bench_gzip(place: Place, report: Report, server: Server, target: str) -> None:
    what = f"gzip of a page of {PAGE}, against the page as it is"
    connection = Connection(server.port)
    plain = len(connection.ask(request(target)).body)
    answer = connection.ask(request(target, headers=_GZIP))
    compressed, encoding = len(answer.body), answer.header("content-encoding")
    small = connection.ask(request("/scim/v2/Users/1", headers=_GZIP)).header("content-encoding")
    connection.close()
    if encoding != "gzip":
        report.add(Line("gzip", what, "/s", None))
        return
    note = f"{compressed:,} of {plain:,} bytes; a single user: {small or 'as it is'}"
    line = Line("gzip", what, "/s", None, note=note)
    asked = request(target, headers=_GZIP)
    report.add(compare(place.effort, line, (server.port, asked), (server.port, request(target))))
    report.add(Line("gzip_size", "  its size, of that of the page", "%", 100 * compressed / plain))
    end = time.monotonic() + max(1.0, place.effort.import_seconds / 2)
    pages = [request(page(start, PAGE), headers=_GZIP) for start in range(1, place.count + 1, PAGE)]
    other = threading.Thread(
        target=send_all, args=(server.port, pages, Latencies()), kwargs={"until": lambda: time.monotonic() > end}
    )
    latencies = Latencies()
    other.start()
    send_all(server.port, import_requests(place.count), latencies, until=lambda: not other.is_alive())
    other.join()
    ours = latencies.percentile_ms(0.99)
    report.add(Line("gzip_meanwhile", "  plain page requests meanwhile: p99", "ms", ours, target="<= 50 ms"))


def _bench_log(place: Place, report: Report) -> None:
    say("log lines")
    targets = {"log_page": (f"page of {PAGE}", page(1, PAGE)), "log_user": ("user by id", "/scim/v2/Users/1")}
    with serving(place, level="info") as telling, serving(place) as silent:
        for name, (what, target) in targets.items():
            asked = request(target)
            line = Line(name, f"{what} with a line in the log, against none", "/s", None, target=">= 0.95 x")
            report.add(compare(place.effort, line, (telling.port, asked), (silent.port, asked)))
