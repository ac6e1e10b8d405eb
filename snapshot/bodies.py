"""Write the encoded resources of one type in one version: comma-joined bytes and where each begins.

Resources are appended as they arrive. If they did not arrive in id order, `reorder` copies them once.
The time of publication is put in at the end, in place, because only then is it known.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import struct
import sys
from array import array
from dataclasses import dataclass
from itertools import accumulate, groupby, islice
from typing import TYPE_CHECKING, Protocol

from snapshot.encode import CREATED, LAST_MODIFIED, Dresser, Encoded, Undressed
from snapshot.errors import CorruptGenerationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


_BUFFER_BYTES = 1 << 20
_OFFSETS_BUFFERED = 1 << 16
_REORDERED_AT_ONCE = 2_000
_PAIR = struct.Struct("<QQ")
_UNSORTED = ".unsorted"
_COMMA = b","
_WITH_COMMA = len(_COMMA).__add__


class Before(Protocol):
    """The bodies of another generation: all of them comma-joined, and where each begins."""

    bytes: memoryview
    offsets: Sequence[int]


@dataclass(frozen=True, slots=True)
class Run:
    """Some resources one after the other; `first` is where they are in the generation before, None: they are new."""

    count: int
    first: int | None


def runs_of(same: Sequence[bool], known_from: int) -> list[Run]:
    """Return the runs of users that are the known ones from an ordinal on, where `same` tells who is as before."""
    runs, place = [], 0
    for is_same, group in groupby(same):
        count = len(list(group))
        runs.append(Run(count, known_from + place if is_same else None))
        place += count
    return runs


class BodyWriter:
    """The body and offsets file of one version."""

    def __init__(self, body: Path, offsets: Path, dresser: Dresser) -> None:
        self.names = (body.name, offsets.name)
        self._body_path, self._offsets_path = body, offsets
        self._dresser = dresser
        self._open()

    def _open(self) -> None:
        self._body = self._body_path.open("wb", buffering=_BUFFER_BYTES)
        self._offsets_file = self._offsets_path.open("wb", buffering=_BUFFER_BYTES)
        self._offsets = array("Q")
        self._end = 0

    def add(self, encoded: Encoded, created: bytes, modified: bytes) -> None:
        """Append one resource."""
        self._append(self._dresser.dress(encoded, created, modified))

    def dressed(self, block: Undressed, created: Sequence[bytes], modified: Sequence[bytes]) -> list[bytes]:
        """Return the final bytes of many resources without links; there is at least one."""
        return self._dresser.dress_block(block, created, modified)

    def add_block(self, block: Undressed, created: Sequence[bytes], modified: Sequence[bytes]) -> None:
        """Append them."""
        self._extend(self.dressed(block, created, modified))

    def _extend(self, bodies: list[bytes]) -> None:
        start = self._end
        if start:
            self._body.write(_COMMA)
        self._body.write(_COMMA.join(bodies))
        self._offsets.extend(accumulate(map(_WITH_COMMA, map(len, bodies)), initial=start))
        self._end = self._offsets.pop()
        if len(self._offsets) >= _OFFSETS_BUFFERED:
            self._write_offsets()

    def add_runs(self, runs: Sequence[Run], bodies: Iterable[bytes], before: Before) -> None:
        """Append many resources: those of runs that are as `before`, taken from there, and `bodies` between them."""
        anew = iter(bodies)
        end = self._end
        pieces: list[bytes | memoryview] = []
        if end:
            pieces.append(b"")  # for the comma
        for run in runs:
            if run.first is None:
                for body in islice(anew, run.count):
                    pieces.append(body)
                    self._offsets.append(end)
                    end += len(body) + 1
                continue
            places = before.offsets[run.first : run.first + run.count + 1]
            start, stop = places[0], places[-1]
            pieces.append(before.bytes[start : stop - 1])
            self._offsets.extend(map((end - start).__add__, places[:-1]))
            end += stop - start
        self._body.write(_COMMA.join(pieces))
        self._end = end
        if len(self._offsets) >= _OFFSETS_BUFFERED:
            self._write_offsets()

    def copy(self, body: Path, offsets: Path, count: int) -> None:
        """Take the first `count` resources over from files with the same bytes; nothing was written before."""
        with offsets.open("rb") as file:
            self._offsets.frombytes(file.read(8 * (count + 1)))
        if sys.byteorder == "big":
            self._offsets.byteswap()
        self._end = self._offsets.pop()
        left = self._end - 1
        with body.open("rb", buffering=0) as file:
            while left:
                chunk = file.read(min(left, _BUFFER_BYTES))
                if not chunk:
                    raise CorruptGenerationError(body, "it ends too early")
                self._body.write(chunk)
                left -= len(chunk)
        self._write_offsets()

    def _append(self, body: bytes) -> None:
        start = self._end
        if start:
            self._body.write(_COMMA)
        self._body.write(body)
        self._end = start + len(body) + 1
        self._offsets.append(start)
        if len(self._offsets) >= _OFFSETS_BUFFERED:
            self._write_offsets()

    def _write_offsets(self) -> None:
        if sys.byteorder == "big":
            self._offsets.byteswap()
        self._offsets_file.write(self._offsets.tobytes())
        del self._offsets[:]

    def finish(self) -> None:
        """Write the last offset and close."""
        self._offsets.append(self._end)
        self._write_offsets()
        self.discard()

    def discard(self) -> None:
        """Close the files as they are, the second one also when there is no room for the end of the first."""
        try:
            self._body.close()
        finally:
            self._offsets_file.close()

    def _copy_in_order(self, body: int, offsets: int, order: array[int]) -> None:
        with (
            contextlib.closing(mmap.mmap(body, 0, access=mmap.ACCESS_READ)) as bodies,
            contextlib.closing(mmap.mmap(offsets, 0, access=mmap.ACCESS_READ)) as ends,
        ):
            for some in _batches(order):
                places = [_PAIR.unpack_from(ends, 8 * ordinal) for ordinal in some]
                self._extend([bodies[start : end - 1] for start, end in places])

    def reorder(self, order: array[int]) -> None:
        """Write the files anew with the resources `order` names, in that order; close them."""
        self.finish()
        body = self._body_path.rename(self._body_path.with_name(self._body_path.name + _UNSORTED))
        offsets = self._offsets_path.rename(self._offsets_path.with_name(self._offsets_path.name + _UNSORTED))
        self._open()
        if order:
            with body.open("rb") as old_body, offsets.open("rb") as old_offsets:
                self._copy_in_order(old_body.fileno(), old_offsets.fileno(), order)
        self.finish()
        body.unlink()
        offsets.unlink()


def _batches(order: array[int]) -> Iterator[array[int]]:
    for first in range(0, len(order), _REORDERED_AT_ONCE):
        yield order[first : first + _REORDERED_AT_ONCE]


def stamp_bodies(body: Path, offsets: Path, stamps: Iterable[tuple[int, bool]], marker: bytes, moment: bytes) -> None:
    """Put the time of publication into new and changed resources, where the provisional `marker` stands.

    `stamps` are (ordinal, whether `created` is new too). Both texts have the same length.
    """
    with (
        body.open("r+b", buffering=0) as file,
        offsets.open("rb") as places,
        contextlib.closing(mmap.mmap(places.fileno(), 0, access=mmap.ACCESS_READ)) as ends,
    ):
        for ordinal, created_too in stamps:
            start, end = _PAIR.unpack_from(ends, 8 * ordinal)
            file.seek(start)
            text = file.read(end - start - 1)
            for key in (CREATED, LAST_MODIFIED) if created_too else (LAST_MODIFIED,):
                at = text.index(key + marker) + len(key)
                file.seek(start + at)
                if file.write(moment) != len(moment):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(body))
