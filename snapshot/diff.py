"""What differs between any two generations: who, and of whom which attributes.

Memory stays small for any number of people: SQLite walks the two indexes side by side and keeps three numbers a
difference in a temporary table on disk; bodies are read only of people who differ, one after the other.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import orjson

from snapshot.attributes import quoted
from snapshot.changes import ADDED, CHANGED, DEACTIVATED, EXPIRED, REMOVED
from snapshot.decode import display_name_of, user_name_of
from snapshot.errors import CorruptGenerationError, NoSnapshotError, StoreError
from snapshot.reader import open_generation
from snapshot.scim import RESERVED_URNS, USER, DecimalText, ScimVersion
from snapshot.store import (
    GENERATIONS,
    QUARANTINE,
    generation_directory,
    list_numbers,
    quarantine_directory,
    read_manifest,
    readable_current,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snapshot.reader import Snapshot

# What matters most comes first.
KINDS = (REMOVED, DEACTIVATED, CHANGED, ADDED, EXPIRED)
_WITH_ATTRIBUTES = frozenset({DEACTIVATED, CHANGED})
_RANK = {kind: rank for rank, kind in enumerate(KINDS)}

# `removed` is NULL for people with a row. Who has none in the new generation and was not known in the old one came and
# went in between, and counts as removed, as in changes.jsonl.
_COMPARE = f"""
    INSERT INTO difference
    SELECT rank, length(id), new, old FROM (
        SELECT
            CASE
                WHEN {{new_removed}} IS NULL AND (o.id IS NULL OR {{old_removed}} IS NOT NULL) THEN {_RANK[ADDED]}
                WHEN {{new_removed}} IS NOT NULL AND (o.id IS NULL OR {{old_removed}} IS NULL) THEN {_RANK[REMOVED]}
                WHEN n.fingerprint = o.fingerprint THEN NULL
                WHEN o.active AND NOT n.active THEN {_RANK[DEACTIVATED]}
                ELSE {_RANK[CHANGED]}
            END AS rank,
            n.id AS id, n.ordinal AS new, o.ordinal AS old
        FROM new.User AS n LEFT JOIN old.User AS o ON o.id = n.id
        UNION ALL
        SELECT CASE WHEN {{old_removed}} IS NULL THEN {_RANK[REMOVED]} ELSE {_RANK[EXPIRED]} END, o.id, NULL, o.ordinal
        FROM old.User AS o WHERE NOT EXISTS (SELECT 1 FROM new.User WHERE id = o.id)
    ) WHERE rank IS NOT NULL ORDER BY rank, length(id), id
"""
_PEOPLE = """
    SELECT d.rank, COALESCE(n.id, o.id), d.new, d.old FROM difference AS d
    LEFT JOIN new.User AS n ON n.ordinal = d.new LEFT JOIN old.User AS o ON o.ordinal = d.old
    ORDER BY d.rowid
"""
# Of one other type; (kind, id, ordinal in new, ordinal in old).
_RESOURCES = f"""
    SELECT '{REMOVED}', o.id, NULL, o.ordinal
    FROM {{old}} AS o LEFT JOIN {{new}} AS n ON n.id = o.id WHERE n.id IS NULL
    UNION ALL SELECT CASE WHEN o.id IS NULL THEN '{ADDED}' ELSE '{CHANGED}' END, n.id, n.ordinal, o.ordinal
    FROM {{new}} AS n LEFT JOIN {{old}} AS o ON o.id = n.id WHERE o.id IS NULL OR o.fingerprint <> n.fingerprint
"""
_NO_ROWS = "(SELECT NULL AS id, NULL AS ordinal, NULL AS fingerprint WHERE 0)"


@dataclass(frozen=True, slots=True)
class AttributeDifference:
    """One attribute that differs; `old` and `new` are JSON, None where the attribute has no value."""

    path: str
    old: bytes | None
    new: bytes | None


@dataclass(frozen=True, slots=True)
class PersonDifference:
    """One person that differs; only changed and deactivated ones have attributes."""

    kind: str
    id: str
    user_name: str | None
    attributes: tuple[AttributeDifference, ...] = ()


@dataclass(frozen=True, slots=True)
class ResourceDifference:
    """One group or entitlement that differs: removed, changed or added."""

    kind: str
    type: str
    id: str
    display_name: str | None


def open_pair(data_dir: Path, numbers: tuple[int, ...]) -> tuple[Snapshot, Snapshot]:
    """Open the two generations that a person means, every file checked.

    Two numbers: from the first to the second. One: from it to the generation in force. None: from the generation
    before to the one in force. Raises StoreError that names which generations there are.
    """
    if len(numbers) == 2:  # noqa: PLR2004
        first, second = numbers
    else:
        current = readable_current(data_dir)
        if current is None:
            raise NoSnapshotError(data_dir)
        first, second = numbers[0] if numbers else _before(data_dir, current), current
    return _open(data_dir, first), _open(data_dir, second)


def _before(data_dir: Path, current: int) -> int:
    """Return the generation that the one in force was compared with, or else the newest older one there is."""
    published = list_numbers(data_dir / GENERATIONS)
    try:
        previous = read_manifest(generation_directory(data_dir, current)).previous
    except CorruptGenerationError as error:
        raise StoreError(error.cause, remedy=_what_there_is(data_dir)) from None
    if previous in published:
        return previous
    older = [number for number in published if number < current]
    if not older:
        raise StoreError(
            f"There is no generation before {current} to compare it with.", remedy=_what_there_is(data_dir)
        )
    return older[-1]


def _open(data_dir: Path, number: int) -> Snapshot:
    places = (generation_directory(data_dir, number), quarantine_directory(data_dir, number))
    directory = next((place for place in places if place.is_dir()), None)
    if directory is None:
        raise StoreError(f"There is no generation {number} in {data_dir}.", remedy=_what_there_is(data_dir))
    try:
        return open_generation(directory)
    except CorruptGenerationError as error:
        raise StoreError(error.cause, remedy=_what_there_is(data_dir)) from None


def _what_there_is(data_dir: Path) -> str:
    return " ".join(
        f"{words} {', '.join(map(str, list_numbers(data_dir / folder))) or 'none'}."
        for words, folder in (("Published:", GENERATIONS), ("In quarantine:", QUARANTINE))
    )


def in_quarantine(snapshot: Snapshot) -> bool:
    """Tell whether an opened generation waits for a decision."""
    return snapshot.directory.parent.name == QUARANTINE


class Diff:
    """Two opened generations side by side; a context manager. `counts` by kind and `id_width` are known at once."""

    def __init__(self, old: Snapshot, new: Snapshot) -> None:
        self.old = old
        self.new = new
        self.counts = dict.fromkeys(KINDS, 0)
        self.id_width = 0

    def __enter__(self) -> Self:
        """Compare who is there with which content."""
        # "" is a database of its own in a temporary file, which SQLite removes.
        self._db = sqlite3.connect("", uri=True, isolation_level=None)
        try:
            with self._guarded():
                self._compare()
        except StoreError:
            self._db.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the files."""
        self._db.close()

    def _compare(self) -> None:
        self._db.execute("PRAGMA temp_store=FILE")
        self._db.execute("PRAGMA journal_mode=OFF")
        for name, snapshot in (("old", self.old), ("new", self.new)):
            self._db.execute(f"ATTACH DATABASE ? AS {name}", (snapshot.index.uri,))
        self._db.execute("CREATE TABLE difference(rank INTEGER, width INTEGER, new INTEGER, old INTEGER)")
        removed = {
            "old_removed": "o.removed" if self.old.index.has_removed else "NULL",
            "new_removed": "n.removed" if self.new.index.has_removed else "NULL",
        }
        self._db.execute(_COMPARE.format(**removed))
        for rank, count, width in self._db.execute("SELECT rank, COUNT(*), MAX(width) FROM difference GROUP BY rank"):
            self.counts[KINDS[rank]] = count
            self.id_width = max(self.id_width, width)

    def people(self) -> Iterator[PersonDifference]:
        """Yield everybody who differs: by kind, in the order of KINDS, then by id."""
        with self._guarded():
            for rank, resource_id, new, old in self._db.execute(_PEOPLE):
                kind = KINDS[rank]
                # A removed person is named as they were while they had a row.
                first, second = ((self.old, old), (self.new, new)) if kind == REMOVED else (
                    (self.new, new), (self.old, old)
                )  # fmt: skip
                raw = _body(*first) or _body(*second)
                attributes = _differing(_body(self.old, old), _body(self.new, new)) if kind in _WITH_ATTRIBUTES else ()
                yield PersonDifference(kind, resource_id, user_name_of(raw), tuple(attributes))

    def resources(self) -> Iterator[ResourceDifference]:
        """Yield every group and entitlement that differs, type by type."""
        types = dict.fromkeys([*self.old.manifest.resource_types, *self.new.manifest.resource_types])
        for name in types:
            if name == USER:
                continue
            tables = {
                side: f"{side}.{quoted(name)}" if snapshot.index.has(name) else _NO_ROWS
                for side, snapshot in (("old", self.old), ("new", self.new))
            }
            with self._guarded():
                for kind, resource_id, new, old in self._db.execute(_RESOURCES.format(**tables)):
                    raw = _body(self.new, new, name) or _body(self.old, old, name)
                    yield ResourceDifference(kind, name, resource_id, display_name_of(raw))

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            # Both files are as they were written: this is mostly a full disk under the temporary table.
            raise StoreError(
                f"Generations {self.old.generation} and {self.new.generation} cannot be compared: {error}.",
                remedy="Check that the folder for temporary files has room.",
            ) from error


def _body(snapshot: Snapshot, ordinal: int | None, resource_type: str = USER) -> bytes:
    return b"" if ordinal is None else bytes(snapshot.resources(resource_type, ScimVersion.V2_0, ordinal, ordinal + 1))


def _differing(old_raw: bytes, new_raw: bytes) -> Iterator[AttributeDifference]:
    """Yield the attributes that differ, in the order of the resource."""
    old, new = _attributes(old_raw), _attributes(new_raw)
    for path in dict.fromkeys([*old, *new]):
        before, after = old.get(path), new.get(path)
        if before != after:
            yield AttributeDifference(path, _json(before), _json(after))


def _attributes(raw: bytes) -> dict[str, Any]:
    """Return path -> value of one SCIM 2.0 user: single values by themselves, multi-valued attributes as a whole.

    Of meta only `created` counts, which may be mapped; all else there follows from the content. Numbers stay text, so
    that no digit is lost.
    """
    whole: dict[str, Any] = json.loads(raw, parse_float=DecimalText, parse_int=DecimalText)
    urns = {urn for urn in whole.pop("schemas") if urn.casefold() not in RESERVED_URNS}
    created = whole.pop("meta")["created"]
    found: dict[str, Any] = {}
    for name, value in whole.items():
        if name in urns:
            for inner, inner_value in value.items():
                _add(found, f"{name}:{inner}", inner_value)
        else:
            _add(found, name, value)
    found["meta.created"] = created
    return found


def _add(found: dict[str, Any], path: str, value: Any) -> None:
    if isinstance(value, dict):
        found.update((f"{path}.{sub}", item) for sub, item in value.items())
    else:
        found[path] = value


def _json(value: Any) -> bytes | None:
    return None if value is None else orjson.dumps(value, _number, orjson.OPT_PASSTHROUGH_DATACLASS)


def _number(value: object) -> orjson.Fragment:
    if isinstance(value, DecimalText):
        return orjson.Fragment(value.text)
    raise TypeError(f"{type(value).__name__} has no JSON form")
