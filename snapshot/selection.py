"""A Filter to SQL over one index: conditions whose values are always bound parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snapshot.errors import FilterError
from snapshot.filter import And, Comparison, Filter, Not, Or, Present, ValuePath, parse_instant
from snapshot.layout import IndexedAttribute, instant_key
from snapshot.schema import BOOLEAN, DATE_TIME, DECIMAL, USER_ATTRIBUTES, find_attribute, known_user_attribute
from snapshot.scim import USER, AttributePath
from snapshot.strict import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

_MICROSECONDS = 1_000
_WORDS: dict[type, str] = {Present: "pr", Not: "not", ValuePath: "a value path ([…])"}


class Selection:
    """Turns filters into SQL over the attributes that an index holds, by folded path."""

    def __init__(self, attributes: Mapping[str, IndexedAttribute]) -> None:
        self.attributes = attributes

    def is_quick(self, tree: Filter) -> bool:
        """Tell whether B-tree look-ups answer the filter, in microseconds."""
        if isinstance(tree, And):
            return self.is_quick(tree.left) and self.is_quick(tree.right)
        if isinstance(tree, Or):
            return self.is_quick(tree.left) and self.is_quick(tree.right)
        if isinstance(tree, Comparison) and tree.op == "eq":
            found = self.attributes.get(str(tree.path).casefold())
            return found is not None and found.indexed
        return False

    def condition(self, tree: Filter) -> tuple[str, list[Any]]:
        """Return a condition and its values; FilterError if the filter is not supported."""
        if isinstance(tree, (And, Or)):
            left, left_values = self.condition(tree.left)
            right, right_values = self.condition(tree.right)
            word = "AND" if isinstance(tree, And) else "OR"
            return f"({left} {word} {right})", left_values + right_values
        if isinstance(tree, Comparison):
            return self._comparison(tree)
        raise FilterError(
            f"{_WORDS[type(tree)]} at position {tree.position} is not supported; "
            'supported are eq, and, or, and meta.lastModified gt "…".',
            position=tree.position,
        )

    def _comparison(self, comparison: Comparison) -> tuple[str, list[Any]]:
        found = self.attributes.get(str(comparison.path).casefold())
        if found is not None and found.kind == "published" and comparison.op == "gt":
            instant = parse_instant(comparison.value) if isinstance(comparison.value, str) else None
            if instant is None:
                raise FilterError(
                    f"{comparison.path} is compared with a dateTime such as 2026-01-02T03:04:05Z.",
                    position=comparison.position,
                )
            return f"{found.column} > ?", [_clamp(instant // _MICROSECONDS)]
        if comparison.op != "eq" or (found is not None and found.kind == "published"):
            raise FilterError(
                f"{comparison.path} {comparison.op} is not supported; "
                'supported are eq on mapped attributes, and, or, and meta.lastModified gt "…".',
                position=comparison.position,
            )
        if found is None:
            return self._unmapped(comparison)
        key = _literal_key(found.kind, comparison)
        if found.table == USER:
            return (f"{found.column} IS NULL", []) if key is None else (f"{found.column} = ?", [key])
        if key is None:
            return f"ordinal NOT IN (SELECT ordinal FROM {found.table} WHERE {found.column} IS NOT NULL)", []
        return f"ordinal IN (SELECT ordinal FROM {found.table} WHERE {found.column} = ?)", [key]

    def _unmapped(self, comparison: Comparison) -> tuple[str, list[Any]]:
        """An attribute of the schema that is not mapped has no value; a name of no schema is an error."""
        path = comparison.path
        if known_user_attribute(path) or self._has_children(path):
            return ("1", []) if comparison.value is None else ("0", [])
        hint = nearest(str(path), (item.path for item in self.attributes.values()))
        raise FilterError(f"{path} is not an attribute of a user{hint}.", position=comparison.position)

    def _has_children(self, path: AttributePath) -> bool:
        attribute = find_attribute(USER_ATTRIBUTES, path.name)
        return attribute is not None and not path.sub and bool(attribute.sub_attributes)


_INT64 = 1 << 63


def _clamp(number: int) -> int:
    return max(-_INT64, min(_INT64 - 1, number))


def _literal_key(kind: str, comparison: Comparison) -> Any:
    """Return the stored form of a filter's value; FilterError if the types cannot be compared."""
    value = comparison.value
    if value is None:
        return None
    if kind in {"text", "exact"}:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return text.casefold() if kind == "text" else text
    if kind == BOOLEAN:
        truth = {"true": True, "false": False}.get(str(value).casefold())
        if truth is None:
            raise FilterError(f"{comparison.path} is compared with true or false.", position=comparison.position)
        return int(truth)
    if kind == DATE_TIME:
        instant = parse_instant(value) if isinstance(value, str) else None
        if instant is None:
            raise FilterError(
                f"{comparison.path} is compared with a dateTime such as 2026-01-02T03:04:05Z.",
                position=comparison.position,
            )
        return instant_key(instant)
    try:
        if kind == DECIMAL or (isinstance(value, float) and not value.is_integer()):
            return float(value)
        return _clamp(int(value))
    except (ValueError, OverflowError):
        raise FilterError(f"{comparison.path} is compared with a number.", position=comparison.position) from None
