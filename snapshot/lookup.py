"""Index: the read side of the SQLite index of one generation, which is never written again."""

from __future__ import annotations

import sqlite3
from array import array
from itertools import chain
from typing import TYPE_CHECKING, Any

from snapshot.attributes import quoted
from snapshot.errors import CorruptGenerationError
from snapshot.layout import IndexedAttribute
from snapshot.scim import USER
from snapshot.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from snapshot.filter import Filter, Sort
    from snapshot.scim import AttributePath

# (ordinal, id, fingerprint, created ms, last_modified ms, active, removed ms or None)
Known = tuple[int, str, bytes, int, int, int, int | None]


def is_text(text: str) -> bool:
    """Tell whether SQLite can be asked for a text: one with lone surrogates is none, and is found nowhere."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Index:
    """The read side: look-ups in one finished index, which is never written again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        try:
            # immutable: no locks, no journal; the file of a generation never changes. Scans have a connection
            # of their own: SQLite serves one thread at a time, and a look-up must not wait for a scan.
            self._db = sqlite3.connect(self.uri, uri=True, check_same_thread=False)
            self._scans = sqlite3.connect(self.uri, uri=True, check_same_thread=False)
            self._tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master")}
            self.has_removed = "removed" in self._columns(USER)  # format 1 had no removed resources
            self._selections = self._read_attributes()
            self._finds = {name: f"SELECT ordinal FROM {quoted(name)} WHERE id = ?" for name in self._tables}
        except sqlite3.Error as error:
            raise CorruptGenerationError(path, f"SQLite says: {error}") from None

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self._db.execute(f"PRAGMA table_info({quoted(table)})")}

    def _read_attributes(self) -> dict[str, Selection]:
        # Up to format 2 there were only users.
        owner = "type" if "type" in self._columns("attribute") else f"'{USER}'"
        attributes: dict[str, dict[str, IndexedAttribute]] = {}
        query = f"SELECT {owner}, path, tbl, col, kind, indexed FROM attribute"
        for resource_type, path, table, column, kind, indexed in self._db.execute(query):
            item = IndexedAttribute(path, table, column, kind, bool(indexed))
            attributes.setdefault(resource_type, {})[item.path.casefold()] = item
        return {name: Selection(name, items) for name, items in attributes.items()}

    def has(self, resource_type: str) -> bool:
        """Tell whether there are resources of this type; older generations have only users."""
        return resource_type in self._tables

    def find(self, resource_type: str, resource_id: str) -> int | None:
        """Return the ordinal of the resource with exactly this id."""
        query = self._finds.get(resource_type)
        if query is None or not is_text(resource_id):
            return None
        try:
            row = self._db.execute(query, (resource_id,)).fetchone()
        except sqlite3.Error as error:
            raise CorruptGenerationError(self.path, f"SQLite says: {error}") from None
        return row[0] if row else None

    def _known(self, resource_type: str) -> str:
        """Return the query for what is known of resources; only users can be inactive, or without a row."""
        removed = "removed" if self.has_removed else "NULL"
        state = f"active, {removed}" if resource_type == USER else "1, NULL"
        return f"SELECT ordinal, id, fingerprint, created, last_modified, {state} FROM {quoted(resource_type)}"

    def known(self, resource_id: str, resource_type: str = USER) -> Known | None:
        """Return what is known of one resource."""
        if not self.has(resource_type) or not is_text(resource_id):  # the id of a rejected row may be no valid text
            return None
        query = f"{self._known(resource_type)} WHERE id = ?"
        row: Known | None = self._db.execute(query, (resource_id,)).fetchone()
        return row

    def known_at(self, ordinal: int, resource_type: str = USER) -> Known:
        """Return what is known of the resource with this ordinal."""
        row: Known = self._db.execute(f"{self._known(resource_type)} WHERE ordinal = ?", (ordinal,)).fetchone()
        return row

    def every(self, resource_type: str = USER) -> Iterator[Known]:
        """Yield what is known of every resource, in order."""
        if not self.has(resource_type):
            return iter(())
        return self._db.execute(f"{self._known(resource_type)} ORDER BY ordinal")

    def select(self, resource_type: str, tree: Filter | None, sort: Sort | None = None) -> array[int]:
        """Return the ordinals of the resources that a filter selects, ascending or in the order of `sort`.

        FilterError or SortError for what has no meaning, whether there are such resources or not.
        """
        if tree is not None and sort is None and (found := self.look_up(resource_type, tree)) is not None:
            return found
        selection = self._selection(resource_type)
        condition, values = selection.condition(tree) if tree is not None else ("1", [])
        if sort is not None:
            join, order = selection.order(sort)
        else:
            # SQLite would rather read the whole table in its order than sort the few that a B-tree leads to.
            join, order = "", "+ordinal" if tree is not None and selection.is_bounded(tree) else "ordinal"
        db = self._db if tree is not None and self.is_quick(resource_type, tree) else self._scans
        query = f"SELECT ordinal FROM {quoted(resource_type)} {join} WHERE {condition} ORDER BY {order}"
        return self._ordinals(resource_type, db, query, values)

    def look_up(self, resource_type: str, tree: Filter) -> array[int] | None:
        """Return what `select` does where one look-up answers `attribute eq "text"`; None for other filters."""
        found = self._selection(resource_type).look_up(tree)
        return None if found is None else self._ordinals(resource_type, self._db, found[0], found[1:])

    def _ordinals(self, resource_type: str, db: sqlite3.Connection, query: str, values: Sequence[Any]) -> array[int]:
        if not self.has(resource_type):
            return array("Q")
        try:
            return array("Q", chain.from_iterable(db.execute(query, values)))
        except sqlite3.Error as error:
            raise CorruptGenerationError(self.path, f"SQLite says: {error}") from None

    def rank(self, resource_type: str, tree: Filter | None, sort: Sort) -> Iterator[tuple[Any, int]]:
        """Yield (what is sorted by, ordinal) in the order in which `select` returns the ordinals; None for no value."""
        selection = self._selection(resource_type)
        condition, values = selection.condition(tree) if tree is not None else ("1", [])
        _, key = selection.sort_key(sort.path)
        join, order = selection.order(sort)
        if not self.has(resource_type):
            return
        query = f"SELECT {key}, ordinal FROM {quoted(resource_type)} {join} WHERE {condition} ORDER BY {order}"
        try:
            yield from self._scans.execute(query, values)
        except sqlite3.Error as error:
            raise CorruptGenerationError(self.path, f"SQLite says: {error}") from None

    def knows(self, resource_type: str, path: AttributePath) -> bool:
        """Tell whether a resource type has such an attribute, mapped or not."""
        return self._selection(resource_type).knows(path)

    def is_quick(self, resource_type: str, tree: Filter) -> bool:
        """Tell whether B-tree look-ups answer the filter, in microseconds."""
        return self._selection(resource_type).is_quick(tree)

    def _selection(self, resource_type: str) -> Selection:
        return self._selections.get(resource_type) or Selection(resource_type, {})

    def __del__(self) -> None:
        """Close the files with the last reference: whoever still answers from here keeps them open."""
        for name in ("_db", "_scans"):
            if (db := getattr(self, name, None)) is not None:
                db.close()
