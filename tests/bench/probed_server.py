"""`python -m server` with a watch on its event loop: `probed_server.py FILE ARGUMENTS…`.

A task sleeps a millisecond again and again. How much longer that took is how long the loop could not turn. FILE gets,
at the end, a list of [time, lag, work] in seconds: the largest lag of each tenth of a second, and how much processor
time the loop's thread used within it. A lag without work is waiting for a processor or for the disk.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server import __main__ as server

if TYPE_CHECKING:
    from collections.abc import Coroutine

_SLEEP_SECONDS = 0.001
_BUCKETS_PER_SECOND = 10


async def watch(found: dict[int, tuple[float, float, float]]) -> None:
    """Note the largest lag of each bucket."""
    while True:
        began, worked = time.perf_counter(), time.thread_time()
        await asyncio.sleep(_SLEEP_SECONDS)
        lag = time.perf_counter() - began - _SLEEP_SECONDS
        now = time.time()
        bucket = int(now * _BUCKETS_PER_SECOND)
        known = found.get(bucket)
        if known is None or lag > known[1]:
            found[bucket] = (now, lag, time.thread_time() - worked)


async def watched(work: Coroutine[Any, Any, Any], found: dict[int, tuple[float, float, float]]) -> Any:
    """Do the work with the watch beside it."""
    task = asyncio.create_task(watch(found))
    try:
        return await work
    finally:
        task.cancel()


def main(path: Path, arguments: list[str]) -> int:
    """Run the server; write what was found; return its exit code."""
    found: dict[int, tuple[float, float, float]] = {}
    run = asyncio.run
    asyncio.run = lambda work, **options: run(watched(work, found), **options)
    code = server.main(arguments)
    path.write_text(json.dumps(list(found.values())), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
