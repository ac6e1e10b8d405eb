"""A Filter or a Sort to SQL over one resource type of an index; values are always bound parameters.

Conditions are two-valued where it shows: NULL counts as false, and `not` is `IS NOT TRUE`, the exact complement.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeGuard

from snapshot.attributes import Attributes, attribute_name, quoted
from snapshot.comparison import EXACT, NOTHING, PUBLISHED, TEXT, Column, Sql, condition, refuse, text_of
from snapshot.definitions import core_spellings, extension_spellings
from snapshot.errors import FilterError, SortError
from snapshot.filter import And, Comparison, Filter, Not, Or, Present, Sort, ValuePath
from snapshot.layout import MEMBERS_VIEW
from snapshot.scim import AttributePath

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from snapshot.layout import IndexedAttribute

# Each comparison that no B-tree answers is a scan; of a million users, one takes some 0.1 s.
MAX_SCANS = 100

# Multi-valued attributes whose single values few resources share, unlike those of groups or roles.
_FEW_EACH = frozenset({"emails", "phonenumbers", "ims"})
_MAX_REMEMBERED = 256
_BEFORE_ALL = 1 << 62  # more than any rowid
_TRUE, _FALSE = "1", "0"
_RESOURCE_TYPE, _SCHEMAS = "meta.resourcetype", "schemas"
_OF_TEXT: dict[str, Any] = {
    "eq": operator.eq,
    "co": operator.contains,
    "sw": str.startswith,
    "ew": str.endswith,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}


class Selection:
    """What the attributes of one resource type in an index make of filters and sorts."""

    def __init__(self, resource_type: str, indexed: Mapping[str, IndexedAttribute]) -> None:
        self._type = resource_type
        self._attributes = Attributes(resource_type, indexed)
        self._look_up_query = lru_cache(_MAX_REMEMBERED)(self._query_of)

    def look_up(self, tree: Filter) -> tuple[str, str] | None:
        """Return (query, value) of `attribute eq "text"` where a B-tree has the single value; None for the rest.

        What clients ask for one user after the other; what `condition` says of it, without taking the tree apart.
        """
        if not _is_text_eq(tree):
            return None
        found = self._look_up_query(tree.path)
        return None if found is None else (found[0], text_of(found[1], tree.value))

    def _query_of(self, path: AttributePath) -> tuple[str, str] | None:
        found = self._attributes.find(path)
        if found is None or not found.indexed or self._attributes.is_plural(found):
            return None
        column = self._attributes.column(path)
        if column.kind not in {TEXT, EXACT}:
            return None
        return f"SELECT ordinal FROM {quoted(self._type)} WHERE {column.sql} = ? ORDER BY +ordinal", column.kind

    def is_quick(self, tree: Filter) -> bool:
        """Tell whether B-tree look-ups answer the filter, in microseconds."""
        if _is_text_eq(tree) and self._look_up_query(tree.path) is not None:
            return True
        if isinstance(tree, And | Or):
            return self.is_quick(tree.left) and self.is_quick(tree.right)
        found = self._looked_up(tree)
        return found is not None and (not self._attributes.is_plural(found) or attribute_name(found) in _FEW_EACH)

    def is_bounded(self, tree: Filter) -> bool:
        """Tell whether a B-tree leads to the resources: by a value, or by the time since when they are as they are."""
        if isinstance(tree, And):
            return self.is_bounded(tree.left) or self.is_bounded(tree.right)
        if isinstance(tree, Or):
            return self.is_bounded(tree.left) and self.is_bounded(tree.right)
        if not isinstance(tree, Comparison) or tree.value is None:
            return False
        found = self._attributes.find(tree.path)
        if found is None or not found.indexed or self._attributes.is_plural(found):
            return False
        return tree.op in {"gt", "ge"} if found.kind == PUBLISHED else tree.op == "eq"

    def condition(self, tree: Filter) -> Sql:
        """Return a condition on rows of the main table, and its values; FilterError if it has no meaning."""
        scans = sum(self._looked_up(term) is None for term in _terms(tree))
        if scans > MAX_SCANS:
            raise FilterError(
                f"The filter has {scans} comparisons that need a scan of all resources; at most {MAX_SCANS} are done."
            )
        return self._condition(tree)

    def knows(self, path: AttributePath) -> bool:
        """Tell whether the resource type has such an attribute, mapped or not."""
        return self._attributes.why_not(path) is None

    def order(self, sort: Sort) -> tuple[str, str]:
        """Return a join that a sort needs and its ORDER BY terms, ties in ordinal order; SortError if there is none."""
        join, key = self.sort_key(sort.path)
        # RFC 7644 section 3.4.2.3: resources without a value come last, descending first.
        return join, f"{key} {'DESC NULLS FIRST' if sort.descending else 'ASC NULLS LAST'}, ordinal"

    def _looked_up(self, tree: Filter) -> IndexedAttribute | None:
        """Return what a B-tree finds the resources by; None if they have to be scanned."""
        if not isinstance(tree, Comparison) or tree.op != "eq" or tree.value is None:
            return None
        found = self._attributes.find(tree.path)
        return found if found is not None and found.indexed and found.kind != PUBLISHED else None

    def _condition(self, tree: Filter) -> Sql:
        if isinstance(tree, And | Or):
            return _joined(tree, self._condition(tree.left), self._condition(tree.right))
        if isinstance(tree, Not):
            return _negated(self._condition(tree.inner))
        if isinstance(tree, ValuePath):
            return self._value_path(tree)
        return self._term(tree)

    def _term(self, term: Comparison | Present) -> Sql:
        path = term.path
        name = str(path).casefold()
        if self._attributes.is_foreign(path):
            self._column(term)  # refuses it
        if name == _SCHEMAS:
            return self._schemas(term), []
        if name == _RESOURCE_TYPE:
            return _TRUE if _text_fulfils(term, (self._type,), EXACT) else _FALSE, []
        if self._attributes.is_complex(path):
            if isinstance(term, Present):
                return self._has_any(path), []
            if term.value is None and term.op in {"eq", "ne"}:
                has_any: Sql = (self._has_any(path), [])
                return has_any if term.op == "ne" else _negated(has_any)
        column = self._column(term)
        found = self._attributes.row(path)
        if found is None or not self._attributes.is_plural(found):
            return condition(column, term)
        return _any_value(quoted(found.table), column, term)

    def _column(self, term: Comparison | Present) -> Column:
        try:
            return self._attributes.column(term.path)
        except FilterError as error:
            refuse(term, error.detail)

    def _has_any(self, path: AttributePath) -> str:
        """Return the condition that a complex attribute has any value at all."""
        children = self._attributes.children(path)
        plural = next((item.table for item in children if self._attributes.is_plural(item)), None)
        if plural is not None:
            return f"ordinal IN (SELECT ordinal FROM {quoted(plural)})"
        return f"({' OR '.join(f'{quoted(item.column)} IS NOT NULL' for item in children)})" if children else _FALSE

    def _value_path(self, tree: ValuePath) -> Sql:
        """Translate `path[inner]`: of a multi-valued attribute one row, of a single-valued one its own columns."""
        path, attributes = tree.path, self._attributes
        found = attributes.find(path)
        is_plural = found is not None and attributes.is_plural(found)
        if attributes.is_foreign(path) or path.sub or not (is_plural or attributes.is_complex(path)):
            refuse(tree, attributes.why_not(path) or f"{path} has no sub-attributes; a value path needs some")
        inner, values = self._inner(path, tree.inner)
        found = found or next(iter(attributes.children(path)), None)
        if found is None:
            return _FALSE, []
        if attributes.is_plural(found):
            return f"ordinal IN (SELECT ordinal FROM {quoted(found.table)} WHERE {inner})", values
        return f"({self._has_any(path)} AND {inner})", values

    def _inner(self, outer: AttributePath, tree: Filter) -> Sql:
        """Translate a filter of sub-attributes to a condition on one row."""
        if isinstance(tree, And | Or):
            return _joined(tree, self._inner(outer, tree.left), self._inner(outer, tree.right))
        if isinstance(tree, Not):
            return _negated(self._inner(outer, tree.inner))
        if isinstance(tree, ValuePath):
            refuse(tree, f"{tree.path} is a value path within another")
        term = replace(tree, path=replace(outer, sub=tree.path.name))
        if str(term.path).casefold() == _RESOURCE_TYPE:
            return self._term(term)
        return condition(self._column(term), term)

    def _schemas(self, term: Comparison | Present) -> str:
        """Translate a comparison of `schemas`: the core one always, an extension if any of its attributes is there.

        A schema has one URN in each version; either of them is its value.
        """
        has_type = self._attributes.find(AttributePath("type")) is not None
        if _text_fulfils(term, core_spellings(self._type, has_type=has_type), TEXT):
            return _TRUE
        conditions = [
            f"ordinal IN (SELECT ordinal FROM {quoted(item.table)})"
            if self._attributes.is_plural(item)
            else f"{quoted(item.column)} IS NOT NULL"
            for urn, items in self._attributes.extensions().items()
            if _text_fulfils(term, extension_spellings(urn), TEXT)
            for item in items
        ]
        return f"({' OR '.join(conditions)})" if conditions else _FALSE

    def sort_key(self, path: AttributePath) -> tuple[str, str]:
        """Return (join, key) of a sort: of a multi-valued attribute the primary value, else the first."""
        if str(path).casefold() in {_RESOURCE_TYPE, _SCHEMAS} and not self._attributes.is_foreign(path):
            return "", NOTHING  # the same for all
        try:
            column = self._attributes.column(path).sql
        except FilterError as error:
            raise SortError(f"{error.detail}.") from None
        found = self._attributes.row(path)
        if found is None or not self._attributes.is_plural(found):
            return "", column
        table = quoted(found.table)
        primary = self._attributes.primary(found)
        if primary is None:
            own = f"{quoted(self._type)}.ordinal"
            # Rows of a table are in the order of the values; members are a view, which has none of its own.
            order = "v_type DESC, length(v_value), v_value" if found.table == MEMBERS_VIEW else "rowid"
            rows = f"SELECT {column} FROM {table} AS plural WHERE plural.ordinal = {own}"
            return "", f"({rows} ORDER BY {order} LIMIT 1)"
        # SQLite takes the other columns from the row that has the minimum: the primary one, else the first.
        place = f"MIN(rowid - ({quoted(primary.column)} IS TRUE) * {_BEFORE_ALL})"
        first = f"SELECT ordinal AS owner, {column} AS sort_key, {place} FROM {table} GROUP BY ordinal"
        return f"LEFT JOIN ({first}) ON owner = ordinal", "sort_key"


def _is_text_eq(tree: Filter) -> TypeGuard[Comparison]:
    return isinstance(tree, Comparison) and tree.op == "eq" and isinstance(tree.value, str)


def _any_value(table: str, column: Column, term: Comparison | Present) -> Sql:
    """Compare a multi-valued attribute: any of its values; having none counts as null."""
    inner, values = condition(column, term)
    rows = f"ordinal IN (SELECT ordinal FROM {table} WHERE {inner})"
    if isinstance(term, Present) or term.op not in {"eq", "ne"}:
        return rows, values
    if term.value is None:
        some = f"(SELECT ordinal FROM {table} WHERE {column.sql} IS NOT NULL)"
        return f"ordinal {'NOT ' if term.op == 'eq' else ''}IN {some}", []
    if term.op == "eq":
        return rows, values
    same, key = condition(column, replace(term, op="eq"))
    # Who has no row at all is not among those with this value; who has several is found by another one.
    return f"(ordinal NOT IN (SELECT ordinal FROM {table} WHERE {same}) OR {rows})", key + values


def _joined(tree: And | Or, left: Sql, right: Sql) -> Sql:
    return f"({left[0]} {'AND' if isinstance(tree, And) else 'OR'} {right[0]})", left[1] + right[1]


def _negated(inner: Sql) -> Sql:
    return f"({inner[0]}) IS NOT TRUE", inner[1]


def _terms(tree: Filter) -> Iterator[Comparison | Present]:
    """Yield each comparison of a filter, those within brackets too."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, And | Or):
            waiting += (item.left, item.right)
        elif isinstance(item, Not | ValuePath):
            waiting.append(item.inner)
        else:
            yield item


def _text_fulfils(term: Comparison | Present, spellings: tuple[str, ...], kind: str) -> bool:
    """Tell whether a comparison holds for a text that is known without looking; it may have several spellings."""
    if isinstance(term, Present):
        return True
    condition(Column(NOTHING, kind), term)  # refuses what has no meaning
    if term.value is None:
        return term.op == "ne"
    key = text_of(kind, term.value)
    known = [text_of(kind, item) for item in spellings]
    return key not in known if term.op == "ne" else any(_OF_TEXT[term.op](item, key) for item in known)
