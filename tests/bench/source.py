"""The source of the benchmark as a process of its own: the TDS test server with prepared people."""

from __future__ import annotations

import sys
from pathlib import Path

from people import COUNT
from tds_results import PreparedRows, Result
from tds_server import TdsServer
from tds_types import Column


def main() -> None:
    """Serve until standard input ends; print the port first."""
    rows, certificate = Path(sys.argv[1]), sys.argv[2]
    with TdsServer(certificate=certificate, users={"bench": "bench"}, databases=["HR"]) as server:
        prepared: PreparedRows = server.prepared(rows)
        server.answer(COUNT, Result([Column("", "bigint")], [(prepared.row_count,)]))
        print(server.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
