"""The read side of a generation: `open_snapshot` checks and maps its files; a Snapshot slices pages.

Nothing is copied at open. The last one who holds a Snapshot frees it: drop the reference, never close
it while a request may use it.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
import threading
from array import array
from typing import TYPE_CHECKING, Any, ClassVar

from snapshot.checksum import at_once, sha256, xxh3
from snapshot.errors import CorruptGenerationError, NoSnapshotError, StoreError
from snapshot.layout import NAME as INDEX_NAME
from snapshot.lookup import Index
from snapshot.scim import ScimVersion
from snapshot.store import (
    GENERATIONS,
    MANIFEST,
    Manifest,
    generation_directory,
    list_numbers,
    read_current,
    read_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from snapshot.filter import Filter, Sort
    from snapshot.scim import AttributePath

_MAX_ATTEMPTS = 5
_NO_BYTES = memoryview(b"")
# A separator that is left out between two slices which touch is one byte: the comma.
_COMMA = 1


def body_name(resource_type: str, version: ScimVersion) -> str:
    """Return the name of the file that holds the encoded resources."""
    return f"{resource_type}.{version}.json"


def offsets_name(resource_type: str, version: ScimVersion) -> str:
    """Return the name of the file that holds where each resource begins (little-endian uint64, n + 1 of them)."""
    return f"{resource_type}.{version}.offsets"


class Bodies:
    """The encoded resources of one type in one version: comma-joined bytes and where each begins."""

    def __init__(self, directory: Path, resource_type: str, version: ScimVersion, count: int) -> None:
        self.count = count
        self.bytes = _map(directory / body_name(resource_type, version))
        raw = _map(directory / offsets_name(resource_type, version))
        if len(raw) != 8 * (count + 1):
            path = directory / offsets_name(resource_type, version)
            raise CorruptGenerationError(path, f"it has {len(raw)} bytes for {count} resources")
        if sys.byteorder == "big":
            swapped = array("Q", raw.tobytes())
            swapped.byteswap()
            self.offsets: Sequence[int] = swapped
        else:
            self.offsets = raw.cast("Q")

    @property
    def end(self) -> int:
        """Where the last resource ends, which is the size of the file of bodies."""
        return max(self.offsets[-1] - _COMMA, 0)

    def slice(self, first: int, last: int) -> memoryview:
        """Return the resources [first, last), comma-joined, as far as there are any."""
        last = min(last, self.count)
        if last <= first:
            return _NO_BYTES
        return self.bytes[self.offsets[first] : self.offsets[last] - _COMMA]

    def gather(self, ordinals: Sequence[int]) -> bytes:
        """Return the resources with these ordinals, comma-joined."""
        held, offsets = self.bytes, self.offsets
        return b",".join([held[offsets[at] : offsets[at + 1] - _COMMA] for at in ordinals])

    def close(self) -> None:
        """Unmap the files while other threads run; a file of which a slice is still held goes with the last slice."""
        for view in (self.bytes, self.offsets):
            if isinstance(view, memoryview) and isinstance(view.obj, mmap.mmap):
                mapped = view.obj
                view.release()
                with contextlib.suppress(BufferError):
                    mapped.close()


class Snapshot:
    """One opened generation."""

    # Less than this is unmapped at once: half a millisecond.
    large_bytes: ClassVar[int] = 64 << 20

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.generation = manifest.generation
        self.manifest = manifest
        self.directory = directory
        # A type may have no bodies in SCIM 1.1.
        self._bodies = {
            (name, version): Bodies(directory, name, version, facts.count)
            for name, facts in manifest.resource_types.items()
            for version in ScimVersion
            if body_name(name, version) in manifest.files
        }
        self.index = Index(directory / INDEX_NAME)

    def count(self, resource_type: str) -> int:
        """Return the number of resources of a type; 0 for a type that the generation does not hold."""
        facts = self.manifest.resource_types.get(resource_type)
        return facts.count if facts else 0

    def find(self, resource_type: str, resource_id: str) -> int | None:
        """Return the ordinal of the resource with exactly this id."""
        return self.index.find(resource_type, resource_id)

    def resources(self, resource_type: str, version: ScimVersion, first: int, last: int) -> memoryview:
        """Return the resources [first, last) as comma-joined JSON: one slice of the mapped file."""
        bodies = self._bodies.get((resource_type, version))
        return _NO_BYTES if bodies is None else bodies.slice(first, last)

    def gather(self, resource_type: str, version: ScimVersion, ordinals: Sequence[int]) -> bytes:
        """Return the resources with these ordinals as comma-joined JSON."""
        bodies = self._bodies.get((resource_type, version))
        return b"" if bodies is None else bodies.gather(ordinals)

    def look_up(self, resource_type: str, tree: Filter) -> Sequence[int] | None:
        """Return what `select` does where one look-up answers `attribute eq "text"`; None for other filters."""
        return self.index.look_up(resource_type, tree)

    def is_quick(self, resource_type: str, tree: Filter) -> bool:
        """Tell whether a filter is answered by B-tree look-ups, in microseconds."""
        return self.index.is_quick(resource_type, tree)

    def select(self, resource_type: str, tree: Filter | None, sort: Sort | None = None) -> Sequence[int]:
        """Return the ordinals that a filter selects, ascending or in the order of `sort`; None selects all.

        FilterError or SortError for what has no meaning.
        """
        return self.index.select(resource_type, tree, sort)

    def rank(self, resource_type: str, tree: Filter | None, sort: Sort) -> Iterator[tuple[Any, int]]:
        """Yield (what is sorted by, ordinal) in the order of `select`; the first is None where there is no value."""
        return self.index.rank(resource_type, tree, sort)

    def knows(self, resource_type: str, path: AttributePath) -> bool:
        """Tell whether a resource type has such an attribute, mapped or not."""
        return self.index.knows(resource_type, path)

    def __del__(self, _is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        """Unmap large files in a thread: the last reference may be dropped by an event loop.

        Gigabytes take tens of milliseconds, in which nothing else would run.
        """
        if _is_ending():
            return  # a thread begun now never runs, and starting it would wait for it for ever
        bodies = list(getattr(self, "_bodies", {}).values())
        if sum(len(item.bytes) for item in bodies) >= self.large_bytes:
            with contextlib.suppress(RuntimeError):  # the system has no more threads: unmapped here
                threading.Thread(target=_close, args=(bodies,), name="unmap").start()


def _close(bodies: Sequence[Bodies]) -> None:
    for item in bodies:
        item.close()


def open_snapshot(data_dir: Path) -> Snapshot:
    """Open the newest good generation, every file checked against its checksum. Blocking.

    Raises NoSnapshotError before the first generation, CorruptGenerationError or FormatVersionError
    for a generation that cannot be served.
    """
    error: Exception | None = None
    for _ in range(_MAX_ATTEMPTS):
        number = read_current(data_dir)
        if number is None:
            raise NoSnapshotError(data_dir)
        try:
            return open_generation(generation_directory(data_dir, number))
        except CorruptGenerationError as caught:
            error = caught
            if read_current(data_dir) == number:  # not pruned meanwhile: it is really broken
                break
    raise error or NoSnapshotError(data_dir)


def open_generation(directory: Path) -> Snapshot:
    """Open one generation whose files have the size and the checksum that the manifest says."""
    manifest = read_manifest(directory)
    check_files(directory, manifest)
    return Snapshot(directory, manifest)


def check_files(directory: Path, manifest: Manifest) -> None:
    """Compare every file with the manifest; CorruptGenerationError names the first one that differs."""
    at_once(lambda name: check_file(directory, manifest, name), manifest.files)


def check_file(directory: Path, manifest: Manifest, name: str) -> None:
    """Compare size and checksum of a file with the manifest; CorruptGenerationError names the file."""
    path = directory / name
    facts = manifest.files.get(name)
    if facts is None:
        raise CorruptGenerationError(path, "the manifest does not know it")
    try:
        size = path.stat().st_size
        if size != facts.bytes:
            raise CorruptGenerationError(path, f"it has {size} bytes, the manifest says {facts.bytes}")
        if (xxh3(path) != facts.xxh3) if facts.xxh3 else (sha256(path) != facts.sha256):
            raise CorruptGenerationError(path, "its checksum is not the one in the manifest")
    except OSError as error:
        raise CorruptGenerationError(path, error.strerror or "it cannot be read") from None


def open_previous_good(data_dir: Path, before: int) -> Snapshot | None:
    """Open the newest good generation older than `before`; None if there is none."""
    for number in reversed([item for item in list_numbers(data_dir / GENERATIONS) if item < before]):
        try:
            return open_generation(generation_directory(data_dir, number))
        except StoreError:
            continue
    return None


def _map(path: Path) -> memoryview:
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                return _NO_BYTES
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise CorruptGenerationError(path, f"it cannot be mapped ({error})") from None


__all__ = [
    "MANIFEST",
    "Bodies",
    "Snapshot",
    "body_name",
    "check_file",
    "check_files",
    "offsets_name",
    "open_generation",
    "open_previous_good",
    "open_snapshot",
]
