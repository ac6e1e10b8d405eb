"""Rows to encoded resources, the first half of a refresh.

For SQL Server it runs in a process of its own: the driver and the mapping keep one processor busy, the
writer of the generation another. SQLite rows cost so little that they are read in place.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from snapshot.child import become_child, end_child, start_child
from snapshot.encode import EncodedParts, encode
from snapshot.errors import MappingError, RejectError, SnapshotError, SourceError
from snapshot.legacy import WHERE as ENVIRONMENT
from snapshot.legacy import named_after_variables
from snapshot.mapping import CompiledMapping
from snapshot.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

    from snapshot.config import Config


@dataclass(slots=True)
class Opened:
    """The source is connected and the mapping fits its columns."""

    isolation: str
    warnings: list[str]
    expected: int | None


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


def compile_mapping(config: Config, columns: Sequence[str]) -> CompiledMapping:
    """Compile the configured mapping against the columns of the source; MappingError if they do not fit."""
    try:
        return CompiledMapping(config.mapping, columns, timezone=config.source.timezone, where=config.where)
    except MappingError as error:
        if config.where != ENVIRONMENT:
            raise
        raise MappingError(named_after_variables(error.problems)) from None


def read(config: Config) -> Iterator[Opened | Batch]:
    """Yield one Opened, then batches to the very end of the result; SourceError if it was not read whole."""
    with open_source(config) as source:
        rows = source.read(config.source.users)
        compiled = compile_mapping(config, rows.columns)
        yield Opened(source.isolation, [*source.warnings, *compiled.warnings], rows.expected)
        place = 0
        for some in rows.batches():
            batch = Batch(rows=len(some))
            for row in some:
                place += 1
                try:
                    batch.resources.append(encode(compiled(row)))
                except RejectError as error:
                    batch.rejects.append(Reject(place, compiled.identify(row), error.attribute, error.reason))
            yield batch


@contextlib.contextmanager
def open_reading(config: Config) -> Iterator[Iterator[Opened | Batch]]:
    """Return what `read` yields, from a process of its own where that is faster."""
    if config.source.driver != "sqlserver":
        with contextlib.closing(read(config)) as stream:  # type: ignore[type-var]
            yield stream
        return
    process, receiver = start_child(_child, config, name="scim-reading")
    try:
        yield _receive(receiver)
    finally:
        receiver.close()
        end_child(process)


def _receive(receiver: Connection) -> Iterator[Opened | Batch]:
    while True:
        try:
            message = receiver.recv()
        except (EOFError, OSError):
            raise SourceError(
                "crashed", "The process that reads the rows ended without a word.", remedy="Look into the system log."
            ) from None
        if message is None:
            return
        if isinstance(message, SnapshotError):
            raise message
        yield message


def _child(config: Config, sender: Connection) -> None:
    become_child()
    with contextlib.suppress(BrokenPipeError):
        try:
            for message in read(config):
                sender.send(message)
            sender.send(None)
        except SnapshotError as error:
            sender.send(error)
        except Exception as error:  # noqa: BLE001 (a defect must not look like the end of the rows)
            sender.send(
                SourceError("driver", f"Unexpected {type(error).__name__}: {error}", remedy="Please report this.")
            )
