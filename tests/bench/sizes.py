"""make bench-sizes: what several sizes need, side by side, from the files that their runs have written.

python tests/bench/sizes.py 1000000 2000000 5000000
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from report import Report, aligned, as_markdown, read_report, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

# Name of a line, what is shown of it, its title.
_ROWS = (
    ("refresh_first", "ours", "refresh, first"),
    ("refresh_first", "ratio", "  against the bare loop"),
    ("refresh_changed", "ours", "refresh, 1 % changed"),
    ("refresh_changed", "ratio", "  against the bare loop"),
    ("refresh_unchanged", "ours", "refresh, nothing changed"),
    ("refresh_unchanged", "ratio", "  against the bare loop"),
    ("memory_first", "ours", "private memory of all its processes, first"),
    ("memory_changed", "ours", "  1 % changed"),
    ("memory_unchanged", "ours", "  nothing changed"),
    ("generation_mib", "ours", "size of a generation on disk"),
    ("server_start", "ours", "server start to first page"),
    ("server_memory", "ours", "server, private memory"),
    ("swap_blocked", "ours", "event loop blocked by a swap"),
    ("page_of_200", "ours", "list page of 200"),
    ("page_of_200", "ratio", "  against the bare handler"),
    ("whole_import", "ours", "whole import"),
    ("whole_import", "ratio", "  against the bare handler"),
    ("filter_first", "ours", "unindexed filter, first page"),
    ("filter_meanwhile", "ours", "  page requests meanwhile: p99"),
    ("filter_incremental", "ours", "incremental filter, first page"),
)


def main(sizes: Sequence[str]) -> int:
    """Print the table of the sizes, and once more as it stands in the documents."""
    folder = Path(__file__).resolve().parent.parent.parent / ".bench"
    rows = table_of([read_report(folder / f"bench-{size}.json") for size in sizes])
    # The cells of the last column are not moved to the right, so an empty one ends the rows.
    print(f"{aligned([(*row, '') for row in rows])}\n\n{as_markdown(rows)}")
    return 0


def table_of(reports: Sequence[Report]) -> list[tuple[str, ...]]:
    """Return a column for each report, below its number of people."""
    rows = [("people", *(f"{report.facts['people']:,}" for report in reports))]
    rows += [(title, *(_cell(report, name, value) for report in reports)) for name, value, title in _ROWS]
    return rows


def _cell(report: Report, name: str, value: str) -> str:
    line = report.find(name)
    if line is None:
        return ""
    if value == "ratio":
        return "" if line.ratio is None else f"{line.ratio:.2f} x"
    return shown(line.ours, line.unit)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
