"""One refresh: rows -> resources -> bytes and index -> guard -> published generation.

Anything that fails before the publish leaves CURRENT as it was. A bad row is a reject with a reason;
a failed read is a failed refresh, never a shorter snapshot.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from array import array
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec
import orjson

from snapshot.bodies import BodyWriter
from snapshot.changes import NAME as CHANGES
from snapshot.changes import Change, Comparison
from snapshot.config import config_digest
from snapshot.control import Progress
from snapshot.decode import user_name_of
from snapshot.encode import Encoded, time_text
from snapshot.errors import PublishRefusedError, SourceError, StoreError
from snapshot.guard import reasons_to_refuse
from snapshot.history import History, publication_ms, stamp_ms
from snapshot.index import IndexWriter
from snapshot.layout import NAME as INDEX_NAME
from snapshot.mapping import NULL_ID
from snapshot.previous import Previous, open_previous
from snapshot.quarantine import content_digest, same_in_quarantine
from snapshot.reader import Bodies, body_name, offsets_name, open_generation
from snapshot.reading import Batch, Opened, Reject, compile_mapping, open_reading
from snapshot.scim import USER, ScimVersion
from snapshot.sources import open_source
from snapshot.stamp import STAMPED_FILES, stamp_generation
from snapshot.store import (
    ChangeFacts,
    EmptiedFacts,
    Manifest,
    Staging,
    TypeFacts,
    generation_directory,
    prune,
    prune_quarantine,
    read_current,
    stage,
    supersede_quarantine,
    was_published,
    writer_lock,
)
from snapshot.tombstones import Tombstones

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from snapshot.config import Config

    Report = Callable[[Progress], None]

REJECTS = "rejects.jsonl"
_REPORT_SECONDS = 0.5
_DIGEST_BYTES = 16
_DIGEST_MODULUS = 1 << (8 * _DIGEST_BYTES)


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
        with open_previous(config) as previous:
            work = _Refresh(config, staging, previous, report or (lambda _progress: None))
            try:
                manifest = work.run()
            except sqlite3.Error as error:
                # The source's own errors are SourceErrors by now: this is the index, and mostly a full disk.
                raise StoreError(
                    f"{staging.directory / INDEX_NAME}: {error}.", remedy=f"Check that {config.data_dir} has room."
                ) from error
            finally:
                work.discard()
        if previous is not None and _is_unchanged(config, manifest, previous.manifest):
            supersede_quarantine(config.data_dir)
            return Refreshed(previous.manifest, published=False)
        if manifest.refused:
            raise PublishRefusedError(_put_aside(config, staging, manifest), manifest.refused)
        manifest = staging.publish(manifest)
        prune(config.data_dir, config.store.keep_generations)
        return Refreshed(manifest, published=True)


def _is_unchanged(config: Config, new: Manifest, previous: Manifest) -> bool:
    """Tell whether the generation in force says the same, and is whole: a damaged one is always replaced."""
    if (
        new.changes != ChangeFacts()
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
    """Connect, compare the mapping with the columns, read no row; return (isolation, columns, warnings)."""
    with open_source(config) as source:
        columns = source.columns(config.source.users)
        compiled = compile_mapping(config, columns)
        return source.isolation, columns, (*source.warnings, *compiled.warnings)


class _Refresh:
    """The state of one refresh: open files, counters, phases."""

    def __init__(self, config: Config, staging: Staging, previous: Previous | None, report: Report) -> None:
        self._config = config
        self._staging = staging
        self._previous = previous
        self._report = report
        self._directory = staging.directory
        # Of a damaged generation the newest time of a user may be all that is known.
        self._marker_ms = max(publication_ms(config.data_dir), previous.manifest.created_ms + 1 if previous else 0)
        # A generation that was published before may be lost for us and still be served.
        self._is_first = previous is None and not was_published(config.data_dir)
        self._history = History(previous, self._marker_ms)
        self._index = IndexWriter(self._directory / INDEX_NAME, config.mapping)
        self._bodies = [
            BodyWriter(
                self._directory / body_name(USER, version),
                self._directory / offsets_name(USER, version),
                version,
                config.base_url(version),
            )
            for version in ScimVersion
        ]
        self._rejects = (self._directory / REJECTS).open("wb", buffering=1 << 16)
        self._reject_reasons: dict[str, int] = {}
        self._rejected = 0
        self._rows = 0
        self._written = 0
        self._rowless_from = 0
        self._kept = 0
        self._omitted = 0
        self._rejects_sum = 0
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

    def run(self) -> Manifest:
        """Do it all up to the manifest."""
        opened = self._read()
        self._order()
        self._tell("index")
        with self._phase("index"):
            users, active, removed = self._index.count()
            self._index.finish()
        with self._phase("changes"):
            facts, emptied = self._compare(users)
        self._tell("publish")
        with self._phase("checksum"):
            self._rejects.close()
            names = {INDEX_NAME, REJECTS, CHANGES, *(name for body in self._bodies for name in body.names)}
            for name in names.difference(STAMPED_FILES):
                self._staging.adopt(name)
        moment_ms = self._stamp()
        with self._phase("checksum"):
            for name in STAMPED_FILES:
                self._staging.adopt(name)
        previous = self._previous.manifest if self._previous else None
        manifest = Manifest(
            generation=self._staging.number,
            created_at=time_text(moment_ms).decode("ascii"),
            created_ms=moment_ms,
            config_digest=config_digest(self._config),
            resource_types={USER: TypeFacts(count=users, active=active, removed=removed)},
            rows=self._rows,
            rejects=self._rejected,
            reject_reasons=self._reject_reasons,
            rejects_digest=f"{self._rejects_sum:032x}",
            kept=self._kept,
            omitted=self._omitted,
            changes=facts,
            emptied=emptied,
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
        with self._phase("read"), open_reading(self._config) as stream:
            opened = next(stream)
            assert isinstance(opened, Opened)  # noqa: S101 (for the type checker)
            expected = opened.expected
            if expected is None and self._previous is not None:
                expected = self._previous.manifest.rows
            for batch in stream:
                assert isinstance(batch, Batch)  # noqa: S101
                self._rows += batch.rows
                for reject in batch.rejects:
                    self._take_reject(reject)
                for parts in batch.resources:
                    self._take(Encoded(parts))
                self._tell("read", expected=expected)
        return opened

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
        self._index.add(self._written, encoded, created, modified, removed)
        created_text, modified_text = time_text(created), time_text(modified)
        for body in self._bodies:
            body.add(encoded, created_text, modified_text)
        self._written += 1

    def _add_rowless(self) -> None:
        """Add the users of the generation before that no row stands for, after all the others."""
        self._rowless_from = self._written
        if self._previous is None:
            return
        policy, mapping = self._config.policy, self._config.mapping
        tombstones = Tombstones(self._previous, policy, mapping, self._marker_ms)
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
        self._reject(reject.id, reject.attribute, reject.reason, row=reject.row)
        self._history.note_reject(reject.id)

    def _reject(self, resource_id: str, attribute: str, reason: str, *, row: int | None = None) -> None:
        """Note a reject; `row` is unknown for a duplicate, which shows only after all rows were read."""
        self._rejected += 1
        key = f"{attribute}: {reason}"
        self._reject_reasons[key] = self._reject_reasons.get(key, 0) + 1
        # The id may hold lone surrogates, the very reason of the reject.
        safe_id = resource_id.encode("utf-8", "backslashreplace").decode()
        line: dict[str, int | str] = {"id": safe_id, "attribute": attribute, "reason": reason}
        # A sum, because rows may come in any order: the same rejects give the same digest.
        digest = blake2b(orjson.dumps(line), digest_size=_DIGEST_BYTES).digest()
        self._rejects_sum = (self._rejects_sum + int.from_bytes(digest, "little")) % _DIGEST_MODULUS
        if row is not None:
            line = {"row": row, **line}
        self._rejects.write(orjson.dumps(line) + b"\n")

    def _order(self) -> None:
        """Apply the duplicate policies, and bring everything into id order if it did not arrive so."""
        self._tell("order")
        with self._phase("order"):
            removed = self._drop_duplicates("id") if not self._sorted else 0
            removed += self._drop_duplicates("user_name")
            self._add_rowless()
            if self._sorted and not removed:
                for body in self._bodies:
                    body.finish()
                return
            order = array("Q", self._index.reorder(self._rowless_from))
            for body in self._bodies:
                body.reorder(order)

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
                self._reject(
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
            size = sum((self._directory / name).stat().st_size for name in STAMPED_FILES)
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
            stack.callback(self._index.discard)
            stack.callback(self._rejects.close)
            for body in self._bodies:
                stack.callback(body.discard)
