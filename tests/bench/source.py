"""The source of the benchmark as a process of its own: the TDS test server with prepared people.

Prints its port. Each line `change N` on standard input changes N people, spread evenly, and is answered with the
number of those changed. Ends when standard input ends.
"""

from __future__ import annotations

import dataclasses
import mmap
import sys
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from people import ABOUT, COUNT
from tds_results import PreparedRows, Result
from tds_server import TdsServer
from tds_types import Column

if TYPE_CHECKING:
    from array import array

_ABOUT = ABOUT[1:].encode("utf-16-le")
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def main() -> None:
    """Serve until standard input ends."""
    path, certificate = Path(sys.argv[1]), sys.argv[2]
    with TdsServer(certificate=certificate, users={"bench": "bench"}, databases=["HR"]) as server:
        prepared = changeable(path)
        server.answer(prepared.sql, prepared)
        server.answer(COUNT, Result([Column("", "bigint")], [(prepared.row_count,)]))
        print(server.port, flush=True)
        for line in sys.stdin:
            print(change(prepared.body, prepared.lengths, int(line.split()[1])), flush=True)


def changeable(path: Path) -> PreparedRows:
    """Map prepared rows so that they can be changed in memory; the file stays as it is."""
    prepared = PreparedRows.load(path)
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    sum(view[:: mmap.PAGESIZE])  # read it now, not while something is measured
    # The lengths of the rows, four bytes each, end the file.
    end = len(view) - 4 * prepared.row_count
    return dataclasses.replace(prepared, body=view[end - len(prepared.body) : end])


def change(body: memoryview, lengths: array[int], wanted: int) -> int:
    """Change the first letter of what is told about some people, each time to another one."""
    ends = list(accumulate(lengths))
    chosen = range(0, len(ends), max(1, len(ends) // wanted))[:wanted]
    for ordinal in chosen:
        end = ends[ordinal]
        start = end - lengths[ordinal]
        at = start + bytes(body[start:end]).index(_ABOUT) - 2
        body[at] = _LETTERS[(_LETTERS.index(body[at]) + 1) % len(_LETTERS)]
    return len(chosen)


if __name__ == "__main__":
    main()
