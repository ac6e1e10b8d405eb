"""Child processes by way of /proc."""

from __future__ import annotations

from pathlib import Path


def of(pid: int) -> list[int]:
    """Return the children that a process has made by multiprocessing, but for the one that tracks resources."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return [child for child in found if alive(child) and b"multiprocessing.spawn" in _command(child)]


def alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
