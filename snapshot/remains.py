"""Whether anything was ever published in a data folder, as far as what is left of it tells.

A folder that lost its generations must not count as a first start: the next generation would be published whatever it
holds, for there is nothing to compare it with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapshot.audit import decisions
from snapshot.store import CURRENT, GENERATIONS, NUMBER, QUARANTINE, SERVED, list_numbers, read_number

if TYPE_CHECKING:
    from pathlib import Path


def was_published(data_dir: Path) -> bool:
    """Tell whether anything was ever published here, also if nothing of it can be read any more. Raises OSError.

    Each number is given once. Those of generations that were refused before the first publication are still in
    quarantine, or were rejected; any other one was published, or was pruned from a quarantine that held many.
    """
    if (data_dir / CURRENT).exists() or (data_dir / SERVED).exists() or list_numbers(data_dir / GENERATIONS):
        return True
    refused = set(list_numbers(data_dir / QUARANTINE))
    approved: set[int] = set()
    for _, entry in decisions(data_dir):
        if entry is None:
            continue
        if entry.action == "reject":
            refused.add(entry.generation)
        elif entry.failed:
            approved.discard(entry.generation)
        else:
            approved.add(entry.generation)
    return bool(approved) or len(refused) < max(read_number(data_dir / NUMBER), *refused, 0)
