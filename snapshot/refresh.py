"""One refresh: rows -> resources -> bytes and index -> guard -> published generation.

Anything that fails before the publish leaves CURRENT as it was. A bad row is a reject with a reason;
a failed read is a failed refresh, never a shorter snapshot.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from operator import lt
from typing import TYPE_CHECKING

import msgspec
import orjson

from snapshot.block import Block
from snapshot.block_writer import BlockWriter
from snapshot.changes import NAME as CHANGES
from snapshot.changes import Change, Comparison
from snapshot.columnar import without_rows
from snapshot.compiler import NULL_ID
from snapshot.config import config_digest
from snapshot.control import Progress
from snapshot.decode import display_name_of, user_name_of
from snapshot.encode import Encoded, time_text, undress
from snapshot.errors import CorruptGenerationError, PublishRefusedError, SourceError, StoreError
from snapshot.guard import reasons_to_refuse
from snapshot.history import History, publication_ms, stamp_ms
from snapshot.index import IndexWriter, count_users
from snapshot.layout import NAME as INDEX_NAME
from snapshot.previous import Previous, can_be_copied, open_previous
from snapshot.quarantine import content_digest, same_in_quarantine
from snapshot.reader import Bodies, open_generation
from snapshot.reading import Batch, Opened, Reject, column_mapping, compile_mapping, open_reading, variables_named
from snapshot.rejects import RejectLog
from snapshot.related_changes import NAME as RELATED_CHANGES
from snapshot.related_writer import RelatedWriter
from snapshot.relation_rows import RelationBatch, check_relations
from snapshot.relations import Relations, has_relations
from snapshot.remains import was_published
from snapshot.resource_types import GROUPS, USERS, ResourceType, resource_types
from snapshot.scim import USER, ScimVersion
from snapshot.sources import open_source
from snapshot.stamp import stamp_generation, stamped_files
from snapshot.store import (
    ChangeFacts,
    EmptiedFacts,
    Manifest,
    RelatedFacts,
    Staging,
    TypeFacts,
    generation_directory,
    prune,
    prune_quarantine,
    read_current,
    stage,
    supersede_quarantine,
    writer_lock,
)
from snapshot.tombstones import Tombstones
from snapshot.type_writer import TypeWriter
from snapshot.user_links import check_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from snapshot.columnar import ColumnMapping
    from snapshot.config import Config
    from snapshot.reading import Batch, Message

    Report = Callable[[Progress], None]

_REPORT_SECONDS = 0.5
_SCRATCH = ".relations"


@dataclass(frozen=True, slots=True)
class Refreshed:
    """How a refresh ended well: the manifest of the generation in force, and whether this refresh published it."""

    manifest: Manifest
    published: bool


def run_refresh(config: Config, *, report: Report | None = None) -> Manifest:
    """Refresh; return the manifest of the generation in force, which may be the one before if nothing changed."""
    return refresh(config, report=report).manifest


def refresh(config: Config, *, report: Report | None = None) -> Refreshed:
    """Read, publish and prune; nothing is published if nothing changed.

    Raises SourceError, MappingError or StoreError when nothing could be published, and
    PublishRefusedError when the guard put the generation into quarantine.
    """
    with writer_lock(config.data_dir), stage(config.data_dir) as staging:
        with (
            open_previous(config) as previous,
            # Begun first: while its process starts, the files of the generation before are checked.
            open_reading(config, staging.directory / _SCRATCH, previous.index.path if previous else None) as stream,
        ):
            work = _Refresh(config, staging, previous, stream, report or (lambda _progress: None))
            try:
                manifest = work.run()
            except sqlite3.Error as error:
                # The source's own errors are SourceErrors by now: this is the index, and mostly a full disk.
                raise StoreError(
                    f"{staging.directory / INDEX_NAME}: {error}.", remedy=f"Check that {config.data_dir} has room."
                ) from error
            finally:
                work.discard()
        if previous is not None and (manifest is None or _is_unchanged(config, manifest, previous.manifest)):
            supersede_quarantine(config.data_dir)
            return Refreshed(previous.manifest, published=False)
        assert manifest is not None  # noqa: S101 (only what is as before has none)
        if manifest.refused:
            number = _put_aside(config, staging, manifest)
            raise PublishRefusedError(number, manifest.refused, options=config.command_options)
        manifest = staging.publish(manifest)
        prune(config.data_dir, config.store.keep_generations)
        return Refreshed(manifest, published=True)


def _is_unchanged(config: Config, new: Manifest, previous: Manifest) -> bool:
    """Tell whether the generation in force says the same, and is whole: a damaged one is always replaced."""
    if (
        new.changes != ChangeFacts()
        or any(facts != ChangeFacts() for facts in new.type_changes.values())
        or new.config_digest != previous.config_digest
        or new.rejects_digest != previous.rejects_digest
        or new.format_version != previous.format_version
    ):
        return False
    try:
        if read_current(config.data_dir) != previous.generation:
            return False
        open_generation(generation_directory(config.data_dir, previous.generation))
    except StoreError:
        return False
    return True


def _put_aside(config: Config, staging: Staging, manifest: Manifest) -> int:
    """Put a refused generation into quarantine and return its number; one that waits with the same content stays."""
    manifest = msgspec.structs.replace(manifest, content=content_digest(staging.directory, manifest))
    waiting = same_in_quarantine(config.data_dir, manifest)
    if waiting is not None:
        return waiting
    staging.quarantine(manifest)
    prune_quarantine(config.data_dir, config.store.keep_generations)
    return manifest.generation


def check_source(config: Config) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Connect, compare all rules with the columns, read no row; return (isolation, columns of the users, warnings)."""
    with open_source(config) as source:
        with variables_named(config):
            related = check_relations(config, source)
        columns = source.columns(config.source.users)
        compiled = compile_mapping(config, columns)
        check_columns(config, columns)
        return source.isolation, columns, (*source.warnings, *compiled.warnings, *related)


class _Refresh:
    """The state of one refresh: open files, counters, phases."""

    def __init__(
        self,
        config: Config,
        staging: Staging,
        previous: Previous | None,
        stream: Iterator[Message],
        report: Report,
    ) -> None:
        self._config = config
        self._stream = stream
        self._staging = staging
        self._previous = previous
        self._report = report
        self._directory = staging.directory
        # Of a damaged generation the newest time of a user may be all that is known.
        self._marker_ms = max(publication_ms(config.data_dir), previous.manifest.created_ms + 1 if previous else 0)
        # A generation that was published before may be lost for us and still be served.
        self._is_first = previous is None and not was_published(config.data_dir)
        self._history = History(previous, self._marker_ms)
        self._columns: ColumnMapping | None = None
        source = previous if previous is not None and can_be_copied(config, previous) else None
        before = None if source is None else source.index.uri
        self._index = IndexWriter(self._directory / INDEX_NAME, config, before=before)
        self._users = TypeWriter(self._directory, config, USERS)
        self._blocks = BlockWriter(self._index, self._users, source)
        self._related: dict[str, TypeWriter] = {}
        self._related_rows: dict[str, int] = {}
        self._scratch = staging.directory / _SCRATCH
        self._relations: Relations | None = None
        self._rejects = RejectLog(self._directory)
        self._rows = 0
        self._rowless_from = 0
        self._kept = 0
        self._omitted = 0
        self._warnings: list[str] = []
        if previous is not None and previous.is_stale:
            self._warnings.append(
                f"the newest generation cannot be read; compared with generation {previous.generation}, "
                "everybody gets a new lastModified"
            )
        self._sorted = True
        self._last_key = (0, "")
        self._seconds: dict[str, float] = {}
        self._began = time.monotonic()
        self._reported = 0.0

    def run(self) -> Manifest | None:
        """Do it all up to the manifest; None if the generation before says all of it, and is whole."""
        opened = self._read()
        if self._blocks.deferred is not None:
            if self._says_nothing_new():
                return None
            self._blocks.write_deferred()
        self._order()
        self._write_related()
        self._tell("index")
        with self._phase("index"), self._staging.syncing(*self._users.names):
            links = self._count_links()
            self._index.finish()
            self._reject_dangling()
        with self._phase("changes"), ThreadPoolExecutor(1, thread_name_prefix="count") as beside:
            counts = beside.submit(count_users, self._directory / INDEX_NAME)
            facts, emptied = self._compare(self._users.count)
            type_changes = self._compare_related()
            emptied |= self._emptied_related()
            users, active, removed = counts.result()
        if users != self._users.count:
            raise StoreError(f"The index holds {users} users, the bodies hold {self._users.count}.")
        self._tell("publish")
        with self._phase("checksum"):
            self._rejects.close()
            stamped = stamped_files(self._directory)
            names = {path.name for path in self._directory.iterdir()}
            self._staging.adopt(*sorted(names.difference(stamped)))
        moment_ms = self._stamp()
        with self._phase("checksum"):
            self._staging.adopt(*stamped)
        previous = self._previous.manifest if self._previous else None
        manifest = Manifest(
            generation=self._staging.number,
            created_at=time_text(moment_ms).decode("ascii"),
            created_ms=moment_ms,
            config_digest=config_digest(self._config),
            resource_types={
                USER: TypeFacts(count=users, active=active, removed=removed),
                **{name: TypeFacts(count=writer.count) for name, writer in self._related.items()},
            },
            rows=self._rows,
            rejects=self._rejects.users,
            reject_reasons=self._rejects.reasons,
            rejects_digest=self._rejects.digest,
            kept=self._kept,
            omitted=self._omitted,
            changes=facts,
            emptied=emptied,
            related={
                # A column of the users query has rejects, but no rows of its own.
                name: RelatedFacts(self._related_rows.get(name, 0), self._rejects.sections.get(name, 0))
                for name in self._related_rows | self._rejects.sections
            },
            links=links,
            type_changes=type_changes,
            seconds={name: round(seconds, 3) for name, seconds in self._seconds.items()},
            files=self._staging.files,
            previous=previous.generation if previous else None,
            warnings=(*opened.warnings, *self._warnings),
            isolation=opened.isolation,
        )
        lost = previous is None and not self._is_first
        reasons = reasons_to_refuse(self._config.guard, manifest, previous, lost=lost)
        return msgspec.structs.replace(manifest, refused=tuple(reasons))

    def _read(self) -> Opened:
        """Stream everything the source has through history, bodies and index."""
        self._tell("connect")
        opened: Opened | None = None
        expected: int | None = None
        with self._phase("read"):
            for message in self._stream:
                if isinstance(message, RelationBatch):
                    self._take_relations(message)
                elif isinstance(message, Opened):
                    opened, expected = message, message.expected
                    if expected is None and self._previous is not None:
                        expected = self._previous.manifest.rows
                    if not has_relations(self._config):
                        self._columns = column_mapping(self._config, message.columns)
                elif isinstance(message, Block):
                    self._take_block(message)
                    self._tell("read", expected=expected)
                else:
                    self._take_batch(message)
                    self._tell("read", expected=expected)
        assert opened is not None  # noqa: S101 (a stream that ends has begun)
        if has_relations(self._config):
            self._relations = Relations(self._config, self._scratch)
        return opened

    def _take_relations(self, batch: RelationBatch) -> None:
        self._related_rows[batch.section] = self._related_rows.get(batch.section, 0) + batch.rows
        for reject in batch.rejects:
            self._rejects.add_related(reject.section, reject.id, reject.attribute, reject.reason)
        self._tell("read")

    def _take_batch(self, batch: Batch) -> None:
        self._rows += batch.rows
        for reject in batch.rejects:
            self._take_reject(reject)
        for parts in batch.resources:
            self._take(Encoded(parts))

    def _take_block(self, block: Block) -> None:
        """Map and write a block of rows."""
        assert self._columns is not None  # noqa: S101 (Opened came first)
        place = self._rows
        self._rows += block.size
        mapped = self._columns(block)
        for reject in mapped.rejects:
            self._take_reject(Reject(place + reject.place + 1, reject.id, reject.attribute, reject.reason))
        if self._config.policy.on_inactive == "omit" and not all(mapped.active):
            self._omitted += mapped.active.count(False)
            block = without_rows(block, mapped, [not active for active in mapped.active])
            if not block.size:
                return
            mapped = self._columns(block)
        if not mapped.size:
            return
        if self._sorted:
            keys = [self._last_key, *zip(map(len, mapped.ids), mapped.ids, strict=True)]
            self._sorted = all(map(lt, keys, islice(keys, 1, None)))
            self._last_key = keys[-1]
        users = undress(mapped)
        times = self._history.times_of_block(mapped.ids, users.fingerprints)
        self._blocks.write(block, mapped, users, times, self._columns)

    def _says_nothing_new(self) -> bool:
        """Tell whether all is as in the generation in force, which is checked once more: else it is replaced."""
        previous = self._previous
        if (
            previous is None
            or self._blocks.deferred is None
            or self._rejects.digest != previous.manifest.rejects_digest
            or not self._same_without_row(previous, self._blocks.deferred)
        ):
            return False
        try:
            if read_current(self._config.data_dir) != previous.generation:
                return False
        except CorruptGenerationError:
            return False
        open_generation(previous.directory)
        return True

    def _same_without_row(self, previous: Previous, first: int) -> bool:
        """Tell whether the users from this ordinal on have no row and are sent as they were."""
        for user in Tombstones(previous, self._config.policy, self._config.mapping, self._marker_ms).of(self._history):
            if first == previous.count(USER):
                return False
            _, resource_id, fingerprint, created, modified, _, removed = previous.index.known_at(first)
            known = (resource_id, fingerprint, created, modified, removed)
            told = user.encoded
            if known != (told.id, told.fingerprint, user.created_ms, user.modified_ms, user.removed_ms):
                return False
            first += 1
        return first == previous.count(USER)

    def _take(self, encoded: Encoded) -> None:
        """Write one resource that a row stands for."""
        if not encoded.active and self._config.policy.on_inactive == "omit":
            self._omitted += 1
            return
        key = (len(encoded.id), encoded.id)
        if key <= self._last_key:
            self._sorted = False
        self._last_key = key
        created, modified = self._history.times(encoded.id, encoded.fingerprint)
        self._write(encoded, created if encoded.created is None else encoded.created, modified)

    def _write(self, encoded: Encoded, created: int, modified: int, removed: int | None = None) -> None:
        self._index.add(self._users.count, encoded, created, modified, removed)
        self._users.write(encoded, created, modified)

    def _add_rowless(self) -> None:
        """Add the users of the generation before that no row stands for, after all the others."""
        self._rowless_from = self._users.count
        if self._previous is None:
            return
        policy, mapping = self._config.policy, self._config.mapping
        tombstones = Tombstones(self._previous, policy, mapping, self._marker_ms, self._relations)
        names: set[str] = set()
        for user in tombstones.of(self._history):
            name = user.encoded.user_name.casefold()
            # Somebody else has that userName now, for example the same person under a new id.
            if name in names or self._index.has_user_name(name):
                continue
            names.add(name)
            self._kept += user.removed_ms is None
            self._write(user.encoded, user.created_ms, user.modified_ms, user.removed_ms)
        if tombstones.damaged:
            self._warnings.append(
                f"{tombstones.damaged} users without a row could not be kept: generation "
                f"{self._previous.generation} is damaged"
            )

    def _take_reject(self, reject: Reject) -> None:
        if reject.attribute == "id" and reject.reason == NULL_ID and self._config.policy.null_id == "fail":
            raise SourceError(
                "query", f"Row {reject.row} has no id.", remedy='Mend it, or set policy.null_id = "reject".'
            )
        self._rejects.add(reject.id, reject.attribute, reject.reason, row=reject.row)
        self._history.note_reject(reject.id)

    def _order(self) -> None:
        """Apply the duplicate policies, and bring everything into id order if it did not arrive so."""
        self._tell("order")
        with self._phase("order"):
            removed = self._drop_duplicates("id") if not self._sorted else 0
            removed += self._drop_duplicates("user_name")
            self._add_rowless()
            if self._sorted and not removed:
                self._users.finish()
                return
            self._users.reorder(array("Q", self._index.reorder(self._rowless_from)))

    def _write_related(self) -> None:
        """Write groups and entitlements, of which the members are known now."""
        if self._relations is None:
            return
        self._tell("related")
        with self._phase("related"):
            writer = RelatedWriter(
                self._directory, self._config, self._index, self._relations, self._previous, self._marker_ms
            )
            for resource_type in related_types(self._config):
                self._related[resource_type.name] = writer.write(resource_type, self._users.count)

    def _count_links(self) -> dict[str, int]:
        """Return how many groups, roles and entitlements users have, all of them together.

        Each type of entitlements has a query of its own, so each is counted where there are several.
        """
        tables = {item.table for item in self._index.attributes if item.resource_type == USER}
        names = [name for name in ("groups", "roles", "entitlements") if f"{USER}_{name}" in tables]
        found = {name: self._index.count_links(f"{USER}_{name}") for name in names}
        types = [item.name for item in self._config.entitlements if item.attribute == "entitlements"]
        if len(types) > 1:
            for name in types:
                found[f"entitlements.{name}"] = self._index.count_links(f"{USER}_entitlements", kind=name)
        return found

    def _reject_dangling(self) -> None:
        """Note every membership, assignment and value that belongs to nobody who is published."""
        if self._relations is not None:
            for section, key, other, attribute, reason in self._relations.dangling(self._directory / INDEX_NAME):
                self._rejects.add_related(section, key, attribute, reason, other=other)
        self._close_relations()

    def _close_relations(self) -> None:
        """Remove the scratch database: it is no part of the generation."""
        if self._relations is not None:
            self._relations.close()
            self._relations = None
        self._scratch.unlink(missing_ok=True)

    def _drop_duplicates(self, column: str) -> int:
        policy = self._config.policy.duplicate_id if column == "id" else self._config.policy.duplicate_user_name
        attribute = "id" if column == "id" else "userName"
        losers: list[int] = []
        for group in self._index.duplicates(column):
            if policy == "fail":
                raise SourceError(
                    "query",
                    f"{len(group)} rows have the same {attribute} (id {group[0][1]}).",
                    remedy=f'Mend it, or set policy.duplicate_{column} = "keep_one".',
                )
            first_loser = 0 if policy == "reject_all" else 1
            for ordinal, resource_id in group[first_loser:]:
                losers.append(ordinal)
                if not (column == "id" and first_loser):
                    self._history.note_reject(resource_id, lost_row=True)
                self._rejects.add(
                    resource_id,
                    attribute,
                    "another row has the same value, compared without case"
                    if column == "user_name"
                    else "another row has the same value",
                )
        self._index.remove(losers)
        return len(losers)

    def _stamp(self) -> int:
        """Put the time of publication in; return it (ms)."""
        with self._phase("stamp"):
            if self._is_first:
                return self._marker_ms  # nobody can have imported before the first generation
            size = sum((self._directory / name).stat().st_size for name in stamped_files(self._directory))
            ahead = stamp_ms(self._config.data_dir, body_bytes=size, poll_seconds=self._config.server.poll_seconds)
            moment_ms = max(ahead, self._marker_ms)
            stamp_generation(self._directory, self._marker_ms, moment_ms)
            return moment_ms

    def _compare(self, users: int) -> tuple[ChangeFacts, dict[str, EmptiedFacts]]:
        """Write changes.jsonl against the generation before; the first generation has none."""
        path = self._directory / CHANGES
        if self._previous is None:
            path.touch()
            return ChangeFacts(added=users), {}
        counts: dict[str, int] = {}
        new_index = self._directory / INDEX_NAME
        with (
            path.open("wb", buffering=1 << 16) as file,
            Comparison(
                self._previous.index, new_index, self._marker_ms, salvaged=self._previous.is_salvaged
            ) as comparison,
        ):
            bodies = Bodies(self._directory, USER, ScimVersion.V2_0, users)
            for change in comparison.people():
                counts[change.kind] = counts.get(change.kind, 0) + 1
                line = {"change": change.kind, "id": change.id, "userName": self._user_name(change, bodies)}
                file.write(orjson.dumps(line) + b"\n")
            emptied = comparison.emptied()
        return ChangeFacts(**counts), emptied

    def _compare_related(self) -> dict[str, ChangeFacts]:
        """Write related_changes.jsonl: which groups and entitlements differ; return how many of each type."""
        found: dict[str, ChangeFacts] = {}
        before = self._previous.manifest.resource_types if self._previous is not None else {}
        names = [*self._related, *(name for name in before if name != USER and name not in self._related)]
        if not names:
            return found
        with (self._directory / RELATED_CHANGES).open("wb") as file:
            for name in names:
                counts: dict[str, int] = {}
                for kind, resource_id, display in self._related_changes(name):
                    counts[kind] = counts.get(kind, 0) + 1
                    line = {"change": kind, "type": name, "id": resource_id, "displayName": display}
                    file.write(orjson.dumps(line) + b"\n")
                found[name] = ChangeFacts(**counts)
        return found

    def _emptied_related(self) -> dict[str, EmptiedFacts]:
        """Return the attributes that were filled for some group or entitlement and are empty now."""
        found: dict[str, EmptiedFacts] = {}
        previous = self._previous
        names = [name for name in self._related if previous is not None and previous.count(name)]
        if previous is None or not names:
            return found
        with Comparison(previous.index, self._directory / INDEX_NAME, self._marker_ms) as comparison:
            for name in names:
                found |= comparison.emptied_related(name)
        return found

    def _related_changes(self, name: str) -> Iterator[tuple[str, str, str | None]]:
        """Yield (kind, id, displayName) of every resource of a type that differs; none for the first generation."""
        previous = self._previous
        if previous is None:
            return
        writer = self._related.get(name)
        new = Bodies(self._directory, name, ScimVersion.V2_0, writer.count) if writer is not None else None
        index = self._directory / INDEX_NAME
        with Comparison(previous.index, index, self._marker_ms) as comparison:
            was_there = bool(previous.count(name))
            for change in comparison.related(name, in_old=was_there, in_new=new is not None):
                raw: bytes | memoryview = b""
                if new is not None and change.new is not None:
                    raw = new.slice(change.new, change.new + 1)
                elif change.old is not None:
                    raw = previous.resources(name, ScimVersion.V2_0, change.old, change.old + 1)
                yield change.kind, change.id, display_name_of(raw)

    def _user_name(self, change: Change, bodies: Bodies) -> str | None:
        """Return the userName of somebody who differs, from the bodies: the index holds it without case."""
        if change.new is not None:
            return user_name_of(bodies.slice(change.new, change.new + 1))
        if change.old is None or self._previous is None:
            return None
        return user_name_of(self._previous.resources(USER, ScimVersion.V2_0, change.old, change.old + 1))

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - began

    def _tell(self, phase: str, *, expected: int | None = None) -> None:
        now = time.monotonic()
        if phase == "read" and now - self._reported < _REPORT_SECONDS:
            return
        self._reported = now
        seconds = now - self._began
        rate = self._rows / seconds if seconds > 0 else 0.0
        left = (expected - self._rows) / rate if expected is not None and rate > 0 and expected >= self._rows else None
        self._report(
            Progress(
                phase=phase,
                rows=self._rows,
                expected_rows=expected,
                rows_per_second=round(rate, 1),
                seconds=round(seconds, 1),
                seconds_left=None if left is None else round(left, 1),
            )
        )

    def discard(self) -> None:
        """Close every file that a failure left open; harmless after success."""
        with contextlib.ExitStack() as stack:  # a full disk may keep one from closing, but not the others
            stack.callback(self._close_relations)
            stack.callback(self._index.discard)
            stack.callback(self._rejects.close)
            stack.callback(self._users.discard)


def related_types(config: Config) -> tuple[ResourceType, ...]:
    """Return the types beside users that have a section of their own."""
    found = tuple(item for item in resource_types(config) if item not in {USERS, GROUPS})
    return found if config.groups is None else (GROUPS, *found)
