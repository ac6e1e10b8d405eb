"""Memory of processes, as Linux counts it; in MiB.

private: anonymous and shared memory, what a process needs beyond the files that it maps (RssAnon + RssShmem).
resident: everything, pages of mapped files included, counted once in each process (VmRSS).
proportional: everything, pages that several processes map counted once together (Pss).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_SAMPLE_SECONDS = 0.05
# The kernel walks all pages of a process for this one, which costs the process time.
_PSS_SECONDS = 1.0
_KIB_PER_MIB = 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one process."""

    private: float
    resident: float


def memory_of(pid: int) -> Memory | None:
    """Return the memory of a process; None if it has ended."""
    fields = _fields(Path(f"/proc/{pid}/status"))
    if "VmRSS" not in fields:  # ended, but not yet waited for
        return None
    return Memory((fields["RssAnon"] + fields["RssShmem"]) / _KIB_PER_MIB, fields["VmRSS"] / _KIB_PER_MIB)


def tree_of(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants, whichever thread started them."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _text(path).split():
            yield from tree_of(int(child))


@dataclass(slots=True)
class Peak:
    """The highest sums over a process and all its descendants, each at one instant; `parts`: private of each process at the peak."""

    private: float = 0.0
    resident: float = 0.0
    proportional: float = 0.0
    processes: int = 0
    parts: list[float] = field(default_factory=list)


class MemoryWatch:
    """Samples a process and its descendants for as long as the block lasts."""

    def __init__(self, pid: int) -> None:
        self.peak = Peak()
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        proportional_at = 0.0
        while not self._done.wait(_SAMPLE_SECONDS):
            pids = list(tree_of(self._pid))
            parts = [found for pid in pids if (found := memory_of(pid)) is not None]
            private = sum(part.private for part in parts)
            if private > self.peak.private:
                self.peak.private = private
                self.peak.parts = [round(part.private, 1) for part in parts]
            self.peak.resident = max(self.peak.resident, sum(part.resident for part in parts))
            self.peak.processes = max(self.peak.processes, len(parts))
            if time.monotonic() >= proportional_at:
                kib = sum(_fields(Path(f"/proc/{pid}/smaps_rollup")).get("Pss", 0) for pid in pids)
                self.peak.proportional = max(self.peak.proportional, kib / _KIB_PER_MIB)
                proportional_at = time.monotonic() + _PSS_SECONDS


def _fields(path: Path) -> dict[str, int]:
    """Return the lines `Name:  123 kB` of a file in /proc."""
    split = (line.split() for line in _text(path).splitlines() if line.endswith(" kB"))
    return {parts[0].rstrip(":"): int(parts[1]) for parts in split}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
