"""The generation that a refresh is compared with: its index, and its bodies as far as they can be read.

History needs the index only, so damaged bodies cost nothing. A damaged index or manifest is built again from the
SCIM 2.0 bodies, where each user proves itself by its meta.version: people who did not change keep their times. If
that is not possible either, an older generation tells who there was; what was said last is unknown then, so
everybody gets a new lastModified, or a change could be lost.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

import msgspec

from snapshot import __version__
from snapshot.canonical import canonical
from snapshot.config import config_digest
from snapshot.decode import Decoded, decode
from snapshot.encode import Encoded, encode, time_text
from snapshot.errors import CorruptGenerationError, StoreError
from snapshot.index import IndexWriter
from snapshot.layout import NAME as INDEX_NAME
from snapshot.lookup import Index
from snapshot.reader import Bodies, check_file, check_files, offsets_name
from snapshot.relations import has_relations
from snapshot.scim import USER, ScimVersion
from snapshot.store import (
    CREATING,
    FORMAT_VERSION,
    GENERATIONS,
    ChangeFacts,
    Manifest,
    TypeFacts,
    generation_directory,
    list_numbers,
    read_manifest,
    readable_current,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snapshot.config import Config

_SALVAGED = f"{CREATING}salvaged"
_NO_BYTES = memoryview(b"")


class Previous:
    """One generation as a refresh sees it.

    `is_stale`: a newer one was published, but cannot be read. `is_salvaged`: the index was built again.
    """

    def __init__(
        self, directory: Path, manifest: Manifest, index: Index, *, is_stale: bool = False, is_salvaged: bool = False
    ) -> None:
        self.directory = directory
        self.manifest = manifest
        self.generation = manifest.generation
        self.index = index
        self.is_stale = is_stale
        self.is_salvaged = is_salvaged
        self._bodies: dict[tuple[str, ScimVersion], Bodies] = {}

    def count(self, resource_type: str) -> int:
        """Return the number of resources of a type."""
        facts = self.manifest.resource_types.get(resource_type)
        return facts.count if facts else 0

    def resources(self, resource_type: str, version: ScimVersion, first: int, last: int) -> memoryview:
        """Return the resources [first, last) as comma-joined JSON; nothing if the files cannot be read.

        The bytes are not checked against the manifest: whoever uses them checks each resource.
        """
        try:
            return self.bodies(resource_type, version).slice(first, last)
        except CorruptGenerationError:
            return _NO_BYTES

    def bodies(self, resource_type: str, version: ScimVersion) -> Bodies:
        """Return all resources of a type; CorruptGenerationError if the files do not fit together."""
        bodies = self._bodies.get((resource_type, version))
        if bodies is None:
            bodies = Bodies(self.directory, resource_type, version, self.count(resource_type))
            self._bodies[resource_type, version] = bodies
        return bodies


def can_be_copied(config: Config, previous: Previous) -> bool:
    """Tell whether users who are as before can be taken over from its files: made by the same rules, and undamaged."""
    manifest = previous.manifest
    if (
        previous.is_stale
        or previous.is_salvaged
        or has_relations(config)
        or set(manifest.resource_types) != {USER}
        or (manifest.config_digest, manifest.format_version, manifest.product_version)
        != (config_digest(config), FORMAT_VERSION, __version__)
    ):
        return False
    try:
        check_files(previous.directory, manifest)
    except StoreError:
        return False
    return True


@contextlib.contextmanager
def open_previous(config: Config) -> Iterator[Previous | None]:
    """Open the generation in force, or the newest one before it whose people can be known; None if there is none.

    The caller holds the writer lock.
    """
    data_dir = config.data_dir
    number = readable_current(data_dir)
    salvaged = data_dir / _SALVAGED
    try:
        yield None if number is None else _newest(config, number, salvaged)
    finally:
        # A caller that still holds the index keeps the file on Windows; the next refresh sweeps it.
        shutil.rmtree(salvaged, ignore_errors=True)


def _newest(config: Config, number: int, salvaged: Path) -> Previous | None:
    data_dir = config.data_dir
    older = [item for item in list_numbers(data_dir / GENERATIONS) if item < number]
    for candidate in (number, *reversed(older)):
        directory = generation_directory(data_dir, candidate)
        with contextlib.suppress(StoreError):
            return _open(config, directory, candidate, salvaged, is_stale=candidate != number)
    return None


def _open(config: Config, directory: Path, number: int, salvaged: Path, *, is_stale: bool) -> Previous:
    try:
        manifest = read_manifest(directory)
    except CorruptGenerationError:
        manifest = None
    if manifest is not None and manifest.format_version > 1:
        with contextlib.suppress(CorruptGenerationError):
            check_file(directory, manifest, INDEX_NAME)
            return Previous(directory, manifest, Index(directory / INDEX_NAME), is_stale=is_stale)
    counts, newest_ms = _salvage(config, directory, salvaged)
    if manifest is None:
        manifest = _known_manifest(number, counts, newest_ms)
    elif manifest.resource_types[USER].count != counts[USER]:
        raise CorruptGenerationError(directory, "it holds fewer users than the manifest says")
    else:
        # Of another type nothing is known where its bodies are damaged: its resources count as new.
        known = {name: facts for name, facts in manifest.resource_types.items() if counts.get(name) == facts.count}
        manifest = msgspec.structs.replace(manifest, resource_types=known)
    return Previous(directory, manifest, Index(salvaged / INDEX_NAME), is_stale=is_stale, is_salvaged=True)


def _known_manifest(number: int, counts: dict[str, int], newest_ms: int) -> Manifest:
    """Return what the bodies alone tell of a generation; no configuration has this digest."""
    return Manifest(
        generation=number,
        created_at=time_text(newest_ms).decode("ascii"),
        created_ms=newest_ms,
        config_digest="",
        resource_types={name: TypeFacts(count=count) for name, count in counts.items()},
        rows=counts[USER],
        rejects=0,
        changes=ChangeFacts(),
        seconds={},
        files={},
    )


def _salvage(config: Config, directory: Path, salvaged: Path) -> tuple[dict[str, int], int]:
    """Build the index of a generation again from its bodies; return (resources a type, the newest lastModified in ms).

    CorruptGenerationError if a single user cannot be proven. Who was being sent as removed is then an inactive user
    like others, and begins as removed once more. Types whose bodies cannot be proven are left out.
    """
    shutil.rmtree(salvaged, ignore_errors=True)
    salvaged.mkdir()
    writer = IndexWriter(salvaged / INDEX_NAME, config)
    counts: dict[str, int] = {}
    newest_ms = 0
    try:
        for ordinal, found in enumerate(_proven(directory, USER)):
            # Format 1 had the attributes in the order of the configuration.
            encoded = Encoded(encode(canonical(found.resource)))
            writer.add(ordinal, encoded, found.created_ms, found.modified_ms)
            newest_ms = max(newest_ms, found.modified_ms)
            counts[USER] = ordinal + 1
        counts.setdefault(USER, 0)
        for name in writer.related_types:
            try:
                whole = [(found.encoded, found.created_ms, found.modified_ms) for found in _proven(directory, name)]
            except CorruptGenerationError:
                continue
            for ordinal, (encoded, created_ms, modified_ms) in enumerate(whole):
                writer.add_related(name, ordinal, encoded, created_ms, modified_ms)
                newest_ms = max(newest_ms, modified_ms)
            counts[name] = len(whole)
        writer.finish()
    finally:
        writer.discard()
    return counts, newest_ms


def _proven(directory: Path, resource_type: str) -> Iterator[Decoded]:
    """Yield every resource of one type; CorruptGenerationError if one cannot be proven."""
    path = directory / offsets_name(resource_type, ScimVersion.V2_0)
    try:
        count = max(path.stat().st_size // 8 - 1, 0)
    except OSError as error:
        raise CorruptGenerationError(path, error.strerror or "it cannot be read") from None
    bodies = Bodies(directory, resource_type, ScimVersion.V2_0, count)
    if bodies.end != len(bodies.bytes):
        raise CorruptGenerationError(directory, "bodies and offsets do not fit together")
    for ordinal in range(count):
        found = decode(bytes(bodies.slice(ordinal, ordinal + 1)), resource_type)
        if found is None:
            raise CorruptGenerationError(directory, f"{resource_type} {ordinal} cannot be read back")
        yield found
