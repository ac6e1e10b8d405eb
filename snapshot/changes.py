"""What differs between a finished index and the generation before: person by person, and emptied attributes."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from snapshot.errors import CorruptGenerationError
from snapshot.layout import MEMBERS_VIEW
from snapshot.scim import USER
from snapshot.store import EmptiedFacts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snapshot.lookup import Index

NAME = "changes.jsonl"
ADDED, CHANGED, DEACTIVATED, REMOVED, EXPIRED = "added", "changed", "deactivated", "removed", "expired"


@dataclass(frozen=True, slots=True)
class Change:
    """One person that differs; `new` and `old` are the ordinals in the two generations, None where there is none."""

    kind: str
    id: str
    new: int | None
    old: int | None


# Who carries the new time is new, changed, or has just lost the row.
_STAMPED = """
    SELECT
        CASE
            WHEN n.removed IS NOT NULL AND {removed} IS NULL THEN 'removed'
            WHEN n.removed IS NOT NULL THEN 'changed'
            WHEN o.id IS NULL OR {removed} IS NOT NULL THEN 'added'
            WHEN o.active AND NOT n.active THEN 'deactivated'
            ELSE 'changed'
        END,
        n.id, n.ordinal, o.ordinal
    FROM new.User AS n LEFT JOIN main.User AS o ON o.id = n.id WHERE n.last_modified = ?
    ORDER BY n.ordinal
"""
# Nothing is delivered of these any more; a removed one has been delivered as such until now.
_GONE = """
    SELECT CASE WHEN {removed} IS NULL THEN 'removed' ELSE 'expired' END, id, NULL, ordinal
    FROM main.User AS o WHERE NOT EXISTS (SELECT 1 FROM new.User WHERE id = o.id) ORDER BY ordinal
"""
_STILL_THERE = """
    FROM new.User AS n JOIN main.User AS o ON o.id = n.id
    WHERE n.last_modified = ? AND n.removed IS NULL AND {removed} IS NULL
"""
_STILL_THERE_RELATED = 'FROM new."{name}" AS n JOIN main."{name}" AS o ON o.id = n.id WHERE n.last_modified = ?'


_STAMPED_RELATED = """
    SELECT CASE WHEN o.id IS NULL THEN 'added' ELSE 'changed' END, n.id, n.ordinal, o.ordinal
    FROM {new} AS n LEFT JOIN {old} AS o ON o.id = n.id WHERE n.last_modified = ? ORDER BY n.ordinal
"""
_GONE_RELATED = """
    SELECT 'removed', o.id, NULL, o.ordinal
    FROM {old} AS o LEFT JOIN {new} AS n ON n.id = o.id WHERE n.id IS NULL ORDER BY o.ordinal
"""
_HAS_MEMBERS = """(
    EXISTS (SELECT 1 FROM {index}.User_groups WHERE v_value = {row}.id)
    OR EXISTS (SELECT 1 FROM {index}.Group_subgroups WHERE ordinal = {row}.ordinal)
)"""
# A type that an index knows nothing of.
_NONE = "(SELECT NULL AS id, NULL AS ordinal, NULL AS last_modified WHERE 0)"

# Types of one multi-valued attribute that are watched.
_MAX_TYPES = 20


class Comparison:
    """A finished index beside that of the generation before; a context manager."""

    def __init__(self, previous: Index, new_index: Path, moment_ms: int, *, salvaged: bool = False) -> None:
        """Compare; `salvaged`: it is not known any more which inactive users had no row."""
        self._previous = previous
        self._new_index = new_index
        self._moment_ms = moment_ms
        self._removed = "o.removed" if previous.has_removed else "NULL"
        if salvaged:
            # Counted as removed when they lost the row, or inactive: neither is news for the guard.
            self._removed = "CASE WHEN o.active THEN NULL ELSE 0 END"

    def __enter__(self) -> Self:
        """Open both files."""
        self._db = sqlite3.connect(self._previous.uri, uri=True)
        with self._guarded():
            self._db.execute("ATTACH DATABASE ? AS new", (str(self._new_index),))
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close both files."""
        self._db.close()

    def people(self) -> Iterator[Change]:
        """Yield everybody who differs: those who are there in order, then those who are gone."""
        with self._guarded():
            (known,) = self._db.execute("SELECT COUNT(*) FROM main.User").fetchone()
            (total,) = self._db.execute("SELECT COUNT(*) FROM new.User").fetchone()
            appeared = 0
            for row in self._db.execute(_STAMPED.format(removed=self._removed), (self._moment_ms,)):
                appeared += row[3] is None
                yield Change(*row)
            if total - appeared < known:
                for row in self._db.execute(_GONE.format(removed=self._removed)):
                    yield Change(*row)

    def related(self, resource_type: str, *, in_old: bool, in_new: bool) -> Iterator[Change]:
        """Yield every resource of another type that differs; an index may know nothing of the type."""
        old = f'main."{resource_type}"' if in_old else _NONE
        new = f'new."{resource_type}"' if in_new else _NONE
        with self._guarded():
            for row in self._db.execute(_STAMPED_RELATED.format(old=old, new=new), (self._moment_ms,)):
                yield Change(*row)
            for row in self._db.execute(_GONE_RELATED.format(old=old, new=new)):
                yield Change(*row)

    def emptied(self) -> dict[str, EmptiedFacts]:
        """Return the attributes that were filled for somebody who is still there and are empty now."""
        with self._guarded():
            still_there = _STILL_THERE.format(removed=self._removed)
            return self._emptied(
                dict(self._tests(still_there)), still_there, f"FROM main.User AS o WHERE {self._removed} IS NULL"
            )

    def emptied_related(self, resource_type: str) -> dict[str, EmptiedFacts]:
        """Return the same of another type that both indexes hold, by type and attribute: `License description`."""
        with self._guarded():
            tests = {f"{resource_type} {path}": test for path, test in self._tests_of(resource_type)}
            still_there = _STILL_THERE_RELATED.format(name=resource_type)
            return self._emptied(tests, still_there, f'FROM main."{resource_type}" AS o WHERE TRUE')

    def _emptied(self, tests: dict[str, tuple[str, str]], still_there: str, before_all: str) -> dict[str, EmptiedFacts]:
        if not tests:
            return {}
        sums = ", ".join(f"COALESCE(SUM({before} AND NOT {after}), 0)" for before, after in tests.values())
        row = self._db.execute(f"SELECT {sums} {still_there}", (self._moment_ms,)).fetchone()
        found = {}
        for (path, (before, _)), emptied in zip(tests.items(), row, strict=True):
            if emptied:
                (filled,) = self._db.execute(f"SELECT COUNT(*) {before_all} AND {before}").fetchone()
                found[path] = EmptiedFacts(filled=filled, emptied=emptied)
        return found

    def _tests_of(self, resource_type: str) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield, for each attribute of another type that both know, the SQL that tells whether it is filled."""
        columns = "SELECT path, tbl, col FROM {}.attribute WHERE type = ?"
        new = {path: column for path, _, column in self._db.execute(columns.format("new"), (resource_type,))}
        for path, table, column in self._db.execute(columns.format("main"), (resource_type,)).fetchall():
            if path not in new:
                continue
            if table == resource_type and column.startswith("a"):
                yield path, (f"o.{column} IS NOT NULL", f"n.{new[path]} IS NOT NULL")
            elif table == MEMBERS_VIEW and column == "v_value":
                # Not by the view: that of an older program need not be one that this SQLite understands.
                yield "members", (_HAS_MEMBERS.format(index="main", row="o"), _HAS_MEMBERS.format(index="new", row="n"))

    def _tests(self, still_there: str) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield, for each attribute that both know, the SQL that tells whether it is filled: in old, in new."""
        columns = "SELECT path, tbl, col FROM {}.attribute WHERE tbl = 'User' OR tbl GLOB 'User_*'"
        new = {path: (table, column) for path, table, column in self._db.execute(columns.format("new"))}
        for path, table, column in self._db.execute(columns.format("main")).fetchall():
            if path not in new:
                continue
            # The same attribute may have another table there: those of custom lists are numbered.
            new_table, new_column = new[path]
            if table == USER and (not column.startswith("a") or column == "active"):
                continue
            if column == "v_type":
                yield from self._tests_by_type(path.partition(".")[0], table, new_table, still_there)
            elif column != "v_primary":  # some entry always has that
                tests = _is_filled("main", "o", table, column), _is_filled("new", "n", new_table, new_column)
                yield path.removesuffix(".value"), tests

    def _tests_by_type(
        self, name: str, table: str, new_table: str, still_there: str
    ) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield the same for the values of each type, for example work addresses: one column may fill only those.

        Only of the types that somebody had who differs: nobody else's can have been emptied.
        """
        types = f"""
            SELECT DISTINCT v_type FROM main.{table}
            WHERE v_type IS NOT NULL AND ordinal IN (SELECT o.ordinal {still_there}) ORDER BY 1 LIMIT {_MAX_TYPES}
        """
        for (kind,) in self._db.execute(types, (self._moment_ms,)).fetchall():
            literal = "'" + kind.replace("'", "''").replace("\0", "") + "'"
            test = f"v_type = {literal}"
            yield (
                f'{name}[type eq "{kind}"]',
                (_has_row("main", "o", table, test), _has_row("new", "n", new_table, test)),
            )

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise CorruptGenerationError(self._previous.path, f"SQLite says: {error}") from None


def _is_filled(index: str, row: str, table: str, column: str) -> str:
    """Return the SQL that tells whether a person has any value of an attribute."""
    test = f"{column} IS NOT NULL"
    return f"{row}.{test}" if table == USER else _has_row(index, row, table, test)


def _has_row(index: str, row: str, table: str, condition: str) -> str:
    return f'EXISTS (SELECT 1 FROM {index}."{table}" WHERE ordinal = {row}.ordinal AND {condition})'
