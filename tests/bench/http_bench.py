"""Requests against a bare handler that returns the same bytes ready-made: same client, in turn."""

from __future__ import annotations

import statistics
import subprocess
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from compare import compare
from filter_bench import bench_filters
from load import Repeated, page, request, send_all
from place import ENVIRONMENT, Place, python, say
from refresh_bench import beside_a_million
from report import Line, Report
from servers import bare_handler, serving
from swap_bench import PAGE, import_requests

if TYPE_CHECKING:
    from servers import Server

# Ready-made pages of an import, spread over all people; the bare handler sends them in turn. Two hundred megabytes:
# were they few, it would send them from the cache of the processor, which no server of a million people can.
_READY_PAGES = 1000


def bench_http(place: Place, report: Report) -> None:
    """Measure starts, requests, a whole import, filters and memory of one server."""
    _bench_start(place, report)
    with serving(place) as server:
        at_start = server.private_mib()
        requests = _requests(place.count)
        bodies = {name: _body(server, asked) for name, (_, asked, _) in requests.items()}
        imported = import_requests(place.count)
        step = max(1, len(imported) // _READY_PAGES)
        ready = {f"import-{at}": _body(server, asked) for at, asked in enumerate(imported[::step])}
        with bare_handler(bodies | ready, place.folder / "bodies") as bare_port:
            for name, (what, asked, target) in requests.items():
                say(what)
                line = Line(name, what, "/s", None, target=target)
                pair = (server.port, asked), (bare_port, request(f"/{name}"))
                report.add(compare(place.effort, line, *pair))
            say("whole import")
            _bench_import(place, report, server, imported, bare_port, [request(f"/{name}") for name in ready])
        imported_mib = server.private_mib()
        bench_filters(place, report, server)
        highest = max(at_start, imported_mib, server.private_mib())
        note = f"at the start {at_start:.1f}, after imports {imported_mib:.1f} MiB"
        line = Line("server_memory", "server, private memory", "MiB", highest, target="<= 80 MiB", note=note)
        report.add(line)
        beside = beside_a_million(place, line, at_most=1.1)
        if beside is not line:
            report.add(replace(beside, name="server_memory_beside", what="  the same, against one million"))


def _requests(count: int) -> dict[str, tuple[str, bytes, str]]:
    """Return name -> (what, request, target)."""
    middle = count // 2 + 1
    guid = str(uuid.UUID(int=middle * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)))
    user_name = f'userName eq "USER{middle}@example.com"'
    return {
        "page_of_200": ("list page of 200", request(page(middle // 200 * 200 + 1, 200)), ">= 0.9 x"),
        "page_of_1000": ("list page of 1,000", request(page(1, 1000)), ">= 0.9 x"),
        "user_by_id": ("user by id", request(f"/scim/v2/Users/{middle}"), ">= 0.75 x"),
        "user_name_eq": ("userName eq", request(page(1, 200, user_name)), ">= 0.6 x"),
        "external_id_eq": ("externalId eq", request(page(1, 200, f'externalId eq "{guid}"')), ">= 0.6 x"),
    }


def _body(server: Server, asked: bytes) -> bytes:
    repeated = Repeated(server.port, asked)
    repeated.close()
    if b'"totalResults":0' in repeated.body:
        raise SystemExit(f"{asked.split()[1]!r} found nobody")
    return repeated.body


def _bench_start(place: Place, report: Report) -> None:
    say("server starts")
    starts, interpreters = [], []
    for _ in range(place.effort.starts):
        began = time.perf_counter()
        subprocess.run(python("-c", "pass"), env=ENVIRONMENT, check=True)
        interpreters.append(time.perf_counter() - began)
        with serving(place) as server:
            starts.append(server.start_seconds)
    interpreter = statistics.median(interpreters)
    note = f"{statistics.median(starts):.2f} s with the interpreter's own {interpreter:.2f} s"
    seconds = statistics.median(starts) - interpreter
    report.add(Line("server_start", "server start to first page", "s", seconds, target="<= 0.5 s", note=note))


def _bench_import(
    place: Place, report: Report, server: Server, imported: list[bytes], bare_port: int, ready: list[bytes]
) -> None:
    other = [ready[at % len(ready)] for at in range(len(imported))]
    pairs: list[tuple[float, float]] = []
    end = time.monotonic() + 2 * place.effort.import_seconds
    while not pairs or time.monotonic() < end:
        pairs.append((send_all(server.port, imported), send_all(bare_port, other)))
    ours, against = (statistics.median(pair[at] for pair in pairs) for at in (0, 1))
    ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
    what = f"whole import, one client, {len(imported):,} pages of {PAGE}"
    report.add(
        Line("whole_import", what, "s", ours, against, ratio, ">= 0.9 x", f"{len(pairs)} rounds; ratio of rates")
    )
