"""Rows to encoded resources, the first half of a refresh.

For SQL Server it runs in a process of its own: the driver keeps one processor busy, mapping and writing the generation
another. SQLite rows cost so little that they are read in place.

What stands beside the users (groups, entitlements, further values) is read first. If managers are made of their own
rows, everybody is spooled to disk until all are known.
"""

from __future__ import annotations

import contextlib
import pickle
import sqlite3
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from snapshot.block import Block, block_of, is_packed, pack, unpack
from snapshot.child import become_child, end_child, start_child
from snapshot.columnar import ColumnMapping
from snapshot.encode import EncodedParts, encode
from snapshot.errors import MappingError, RejectError, SnapshotError, SourceError, StoreError
from snapshot.layout import attributes_of
from snapshot.legacy import WHERE as ENVIRONMENT
from snapshot.legacy import named_after_variables
from snapshot.lookup import Index
from snapshot.mapping import CompiledMapping
from snapshot.relation_rows import RelationBatch, load_relations
from snapshot.relations import Relations, has_relations
from snapshot.sources import open_source
from snapshot.spool import Spool
from snapshot.user_links import UserLinks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from snapshot.config import Config
    from snapshot.sources.rows import Row, Rows
    from snapshot.user_links import Incomplete

if sys.platform == "linux":
    import fcntl

SPOOL = ".spool"
# The most that a process without privileges may ask for.
_PIPE_BYTES = 1 << 20


@dataclass(slots=True)
class Opened:
    """The source is connected and the mapping fits its columns."""

    isolation: str
    warnings: list[str]
    expected: int | None
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that cannot be a resource: its place among the rows, its id if it has one, and why."""

    row: int
    id: str
    attribute: str
    reason: str


@dataclass(slots=True)
class Batch:
    """Some rows, in order: resources, and those that cannot be any."""

    rows: int
    resources: list[EncodedParts] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


Message = Opened | Batch | Block | RelationBatch


def compile_mapping(config: Config, columns: Sequence[str]) -> CompiledMapping:
    """Compile the configured mapping against the columns of the source; MappingError if they do not fit."""
    with variables_named(config):
        return CompiledMapping(config.mapping, columns, timezone=config.source.timezone, where=config.where)


def column_mapping(config: Config, columns: Sequence[str]) -> ColumnMapping:
    """Compile the same mapping for blocks of rows."""
    by_row = compile_mapping(config, columns)
    timezone = config.source.timezone
    attributes = attributes_of(config)
    return ColumnMapping(config.mapping, columns, attributes, by_row=by_row, timezone=timezone, where=config.where)


@contextlib.contextmanager
def variables_named(config: Config) -> Iterator[None]:
    """Name environment variables in problems of a configuration that was made of them."""
    try:
        yield
    except MappingError as error:
        if config.where != ENVIRONMENT:
            raise
        raise MappingError(named_after_variables(error.problems)) from None


def read(
    config: Config,
    scratch: Path,
    previous: Path | None = None,
    *,
    as_block: Callable[[Sequence[Row]], Block | bytes] = block_of,
) -> Iterator[Message | bytes]:
    """Yield what stands beside the users, one Opened, then batches or blocks to the very end of the result.

    Users that are made of nothing but their row come as blocks of rows, not mapped yet.

    SourceError if anything was not read whole. `scratch`: where Relations are kept, if there are any. `previous`: the
    index of the generation before.
    """
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(config))
        relations = stack.enter_context(Relations(config, scratch)) if has_relations(config) else None
        if relations is not None:
            with variables_named(config):
                yield from load_relations(config, source, relations)
        rows = source.read(config.source.users)
        compiled = compile_mapping(config, rows.columns)
        links = None if relations is None else UserLinks(config, relations, rows.columns, _who_stays(config, previous))
        yield Opened(source.isolation, [*source.warnings, *compiled.warnings], rows.expected, rows.columns)
        if links is None:
            yield from map(as_block, rows.batches())
        elif config.mapping.manager_key:
            spool = stack.enter_context(Spool(scratch.with_name(SPOOL)))
            yield from _spooled(compiled, rows, links, spool)
        else:
            yield from _completed(compiled, rows, links)


def _who_stays(config: Config, previous: Path | None) -> Callable[[str], bool]:
    """Return what tells of an id whether its user is published even if the row is rejected."""
    if previous is None or config.policy.on_rejected != "keep":
        return lambda _resource_id: False
    index = Index(previous)

    def stays(resource_id: str) -> bool:
        known = index.known(resource_id)
        return known is not None and known[6] is None

    return stays


def _completed(compiled: CompiledMapping, rows: Rows, links: UserLinks) -> Iterator[Batch]:
    """Complete each user as it comes."""
    for batch, users in _mapped(compiled, rows, links):
        _complete(batch, users, links)
        yield batch


def _spooled(compiled: CompiledMapping, rows: Rows, links: UserLinks, spool: Spool) -> Iterator[Batch]:
    """Complete the users when everybody is known: a manager's row may come last."""
    for batch, users in _mapped(compiled, rows, links):
        spool.add(users)
        yield batch
    for users in spool:
        batch = Batch(rows=0)
        _complete(batch, users, links)
        yield batch


def _mapped(compiled: CompiledMapping, rows: Rows, links: UserLinks) -> Iterator[tuple[Batch, list[Incomplete]]]:
    """Yield each batch with its rejects, and the users of its other rows."""
    place = 0
    for some in rows.batches():
        batch = Batch(rows=len(some))
        users = []
        for row in some:
            place += 1
            try:
                resource = compiled(row)
                users.append(links.begin(place, row, resource))
            except RejectError as error:
                resource_id = compiled.identify(row)
                links.note_reject(row, resource_id, compiled.shown_name(row))
                batch.rejects.append(Reject(place, resource_id, error.attribute, error.reason))
        links.flush()
        yield batch, users


def _complete(batch: Batch, users: list[Incomplete], links: UserLinks) -> None:
    for user in users:
        try:
            batch.resources.append(encode(links.complete(user)))
        except RejectError as error:
            batch.rejects.append(Reject(user.row, user.resource.id, error.attribute, error.reason))


@contextlib.contextmanager
def open_reading(config: Config, scratch: Path, previous: Path | None = None) -> Iterator[Iterator[Message]]:
    """Return what `read` yields, from a process of its own where that is faster."""
    if config.source.driver != "sqlserver":
        with contextlib.closing(read(config, scratch, previous)) as stream:  # type: ignore[type-var]
            yield stream  # type: ignore[misc]  # in this process nothing is packed
        return
    process, receiver = start_child(_child, config, scratch, previous, name="scim-reading")
    _widen(receiver)
    try:
        yield _receive(receiver)
    finally:
        receiver.close()
        end_child(process)


def _widen(receiver: Connection) -> None:
    """Let the pipe hold a whole block, so that the child reads the next one meanwhile. Only Linux can."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(receiver.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _receive(receiver: Connection) -> Iterator[Message]:
    while True:
        try:
            raw = receiver.recv_bytes()
        except (EOFError, OSError):
            raise SourceError(
                "crashed", "The process that reads the rows ended without a word.", remedy="Look into the system log."
            ) from None
        if is_packed(raw):
            yield unpack(raw)
            continue
        message = pickle.loads(raw)  # noqa: S301 (our own child has written it)
        if message is None:
            return
        if isinstance(message, SnapshotError):
            raise message
        yield message


def _child(config: Config, scratch: Path, previous: Path | None, sender: Connection) -> None:
    become_child()
    with contextlib.suppress(BrokenPipeError):
        try:
            for message in read(config, scratch, previous, as_block=pack):
                if isinstance(message, bytes):
                    sender.send_bytes(message)
                else:
                    sender.send(message)
            sender.send(None)
        except SnapshotError as error:
            sender.send(error)
        except sqlite3.Error as error:
            # The scratch database, and mostly a full disk.
            sender.send(StoreError(f"{scratch}: {error}.", remedy=f"Check that {config.data_dir} has room."))
        except Exception as error:  # noqa: BLE001 (a defect must not look like the end of the rows)
            sender.send(
                SourceError("driver", f"Unexpected {type(error).__name__}: {error}", remedy="Please report this.")
            )
