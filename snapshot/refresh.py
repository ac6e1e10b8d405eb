"""One refresh: rows -> resources -> bytes and index -> guard -> published generation.

Anything that fails before the publish leaves CURRENT as it was. A bad row is a reject with a reason;
a failed read is a failed refresh, never a shorter snapshot.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from array import array
from typing import TYPE_CHECKING

import msgspec
import orjson

from snapshot.bodies import BodyWriter
from snapshot.config import config_digest
from snapshot.control import Progress
from snapshot.encode import Encoded, time_text
from snapshot.errors import PublishRefusedError, SourceError, StoreError
from snapshot.guard import reasons_to_refuse
from snapshot.history import History, changes, publication_ms, stamp_ms
from snapshot.index import NAME as INDEX_NAME
from snapshot.index import IndexWriter
from snapshot.mapping import NULL_ID
from snapshot.reader import Snapshot, body_name, offsets_name, previous_snapshot
from snapshot.reading import Batch, Opened, Reject, compile_mapping, open_reading
from snapshot.scim import USER, ScimVersion
from snapshot.sources import open_source
from snapshot.stamp import STAMPED_FILES, stamp_generation
from snapshot.store import (
    ChangeFacts,
    Manifest,
    Staging,
    TypeFacts,
    prune,
    prune_quarantine,
    stage,
    writer_lock,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from snapshot.config import Config

    Report = Callable[[Progress], None]

REJECTS = "rejects.jsonl"
CHANGES = "changes.jsonl"
_REPORT_SECONDS = 0.5


def run_refresh(config: Config, *, report: Report | None = None) -> Manifest:
    """Read, publish and prune; return the manifest of the generation published.

    Raises SourceError, MappingError or StoreError when nothing could be published, and
    PublishRefusedError when the guard put the generation into quarantine.
    """
    with writer_lock(config.data_dir), stage(config.data_dir) as staging:
        previous = previous_snapshot(config.data_dir)
        refresh = _Refresh(config, staging, previous, report or (lambda _progress: None))
        try:
            manifest = refresh.run()
        except sqlite3.Error as error:
            # The source's own errors are SourceErrors by now: this is the index, and mostly a full disk.
            raise StoreError(
                f"{staging.directory / INDEX_NAME}: {error}.", remedy=f"Check that {config.data_dir} has room."
            ) from error
        finally:
            refresh.discard()
        if manifest.refused:
            staging.quarantine(manifest)
            prune_quarantine(config.data_dir, config.store.keep_generations)
            raise PublishRefusedError(manifest.generation, manifest.refused)
        staging.publish(manifest)
        prune(config.data_dir, config.store.keep_generations)
        return manifest


def check_source(config: Config) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Connect, compare the mapping with the columns, read no row; return (isolation, columns, warnings)."""
    with open_source(config) as source:
        columns = source.columns(config.source.users)
        compiled = compile_mapping(config, columns)
        return source.isolation, columns, (*source.warnings, *compiled.warnings)


class _Refresh:
    """The state of one refresh: open files, counters, phases."""

    def __init__(self, config: Config, staging: Staging, previous: Snapshot | None, report: Report) -> None:
        self._config = config
        self._staging = staging
        self._previous = previous
        self._report = report
        self._directory = staging.directory
        self._marker_ms = publication_ms(previous)
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
        self._kept = 0
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
            users, active = self._index.count()
            self._index.finish()
        with self._phase("changes"):
            facts = self._write_changes(users)
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
            resource_types={USER: TypeFacts(count=users, active=active)},
            rows=self._rows,
            rejects=self._rejected,
            reject_reasons=self._reject_reasons,
            changes=facts,
            seconds={name: round(seconds, 3) for name, seconds in self._seconds.items()},
            files=self._staging.files,
            previous=previous.generation if previous else None,
            warnings=tuple(opened.warnings),
            isolation=opened.isolation,
        )
        reasons = reasons_to_refuse(self._config.guard, manifest, previous)
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
        """Write one resource."""
        key = (len(encoded.id), encoded.id)
        if key <= self._last_key:
            self._sorted = False
        self._last_key = key
        created, modified = self._history.times(encoded.id, encoded.fingerprint)
        self._index.add(self._kept, encoded, created, modified)
        created_text, modified_text = time_text(created), time_text(modified)
        for body in self._bodies:
            body.add(encoded, created_text, modified_text)
        self._kept += 1

    def _take_reject(self, reject: Reject) -> None:
        if reject.attribute == "id" and reject.reason == NULL_ID and self._config.policy.null_id == "fail":
            raise SourceError(
                "query", f"Row {reject.row} has no id.", remedy='Mend it, or set policy.null_id = "reject".'
            )
        self._reject(reject.id, reject.attribute, reject.reason, row=reject.row)

    def _reject(self, resource_id: str, attribute: str, reason: str, *, row: int | None = None) -> None:
        """Note a reject; `row` is unknown for a duplicate, which shows only after all rows were read."""
        self._rejected += 1
        key = f"{attribute}: {reason}"
        self._reject_reasons[key] = self._reject_reasons.get(key, 0) + 1
        # The id may hold lone surrogates, the very reason of the reject.
        safe_id = resource_id.encode("utf-8", "backslashreplace").decode()
        line: dict[str, int | str] = {"id": safe_id, "attribute": attribute, "reason": reason}
        if row is not None:
            line = {"row": row, **line}
        self._rejects.write(orjson.dumps(line) + b"\n")

    def _order(self) -> None:
        """Apply the duplicate policies, and bring everything into id order if it did not arrive so."""
        self._tell("order")
        with self._phase("order"):
            removed = self._drop_duplicates("id") if not self._sorted else 0
            removed += self._drop_duplicates("user_name")
            if self._sorted and not removed:
                for body in self._bodies:
                    body.finish()
                return
            order = array("Q", self._index.reorder())
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
            if self._previous is None:
                return self._marker_ms  # nobody can have imported before the first generation
            size = sum((self._directory / name).stat().st_size for name in STAMPED_FILES)
            ahead = stamp_ms(self._previous, body_bytes=size, poll_seconds=self._config.server.poll_seconds)
            moment_ms = max(ahead, self._marker_ms)
            stamp_generation(self._directory, self._marker_ms, moment_ms)
            return moment_ms

    def _write_changes(self, users: int) -> ChangeFacts:
        """Write changes.jsonl against the generation before; the first generation has none."""
        path = self._directory / CHANGES
        if self._previous is None:
            path.touch()
            return ChangeFacts(added=users)
        counts: dict[str, int] = {}
        with path.open("wb", buffering=1 << 16) as file:
            for resource_id, change in changes(self._previous, self._directory / INDEX_NAME, self._marker_ms):
                counts[change] = counts.get(change, 0) + 1
                file.write(orjson.dumps({"change": change, "id": resource_id}) + b"\n")
        return ChangeFacts(**counts)

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
        for body in self._bodies:
            body.discard()
        self._rejects.close()
        self._index.discard()
