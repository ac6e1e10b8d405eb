"""Checksums of the files of a generation: XXH3-128, which is as fast as memory; SHA-256 in those of older formats.

They find damage: a cut, a flipped bit, a block of another file. Who may write into the folder could make a checksum
fit, whatever it is; what a person approves is tied to its content by SHA-256 (quarantine.py).
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

import xxhash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

T = TypeVar("T")
R = TypeVar("R")

# Read, not mapped: an unreadable block of a mapped file ends the process instead of raising OSError.
_CHUNK_BYTES = 1 << 20
_THREADS = 4


class Digest(Protocol):
    """What hashlib and xxhash have in common."""

    def update(self, data: memoryview, /) -> None:
        """Take in some bytes."""
        ...

    def hexdigest(self) -> str:
        """Return what has come out so far."""
        ...


def xxh3(path: Path) -> str:
    """Return XXH3-128 (32 hex digits) of a file. Raises OSError."""
    return _read(path, xxhash.xxh3_128())


def sha256(path: Path) -> str:
    """Return SHA-256 (64 hex digits) of a file. Raises OSError."""
    return _read(path, hashlib.sha256())


def _read(path: Path, digest: Digest) -> str:
    view = memoryview(bytearray(_CHUNK_BYTES))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(view):
            digest.update(view[:size])
    return digest.hexdigest()


def at_once(check: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Call `check` for every item, several at the same time; raise what the first one in order raised."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="checksum") as executor:
        return list(executor.map(check, items))
