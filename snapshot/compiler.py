"""Finds the columns of a source and makes the getters of single values: row in, JSON-ready value out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snapshot.canonical import inner_place
from snapshot.convert import is_plain_text, make_converter, to_text
from snapshot.errors import ConfigProblem, RejectError
from snapshot.rule import Rule, Target, template_parts
from snapshot.schema import BINARY, DATE_TIME, DECIMAL, STRING
from snapshot.strict import nearest, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from snapshot.rules import Plural, PluralItem

    Row = Sequence[Any]
    Getter = Callable[[Row], Any]

NULL_ID = "the id is NULL or blank"
RESERVED_ID = "the id is one that SCIM keeps for itself"
# `.search` is a path of its own (RFC 7644 section 3.4.3); dots alone are steps in a path, which clients take out even
# where they are percent-encoded (RFC 3986 section 6.2.2.3): nobody could read the resource.
_PATHS = frozenset({".search", ".", ".."})
# RFC 7643 section 3.1: not to be used within any identifier.
_KEYWORD = "bulkId"
# Proxies refuse it in a path, and SQLite counts no character behind it.
_NUL = "\0"


def is_reserved_id(resource_id: str) -> bool:
    """Tell whether no resource may have this id."""
    return _KEYWORD in resource_id or _NUL in resource_id or resource_id in _PATHS


def any_reserved_id(ids: Sequence[str]) -> bool:
    """Tell the same of many ids at once: whether there is one among them."""
    every = "\n".join(ids)
    return _KEYWORD in every or _NUL in every or not _PATHS.isdisjoint(ids)


class Compiler:
    """Finds columns and collects what is missing."""

    def __init__(self, columns: Sequence[str], timezone: str, where: str, section: str = "mapping") -> None:
        """Know the columns; `where` and `section` say in problems what is compiled."""
        self._columns = columns
        self._timezone = timezone
        self._where = where
        self._section = section
        self._places: dict[str, list[int]] = {}
        for place, column in enumerate(columns):
            self._places.setdefault(column, []).append(place)
        self._folded: dict[str, list[int]] = {}
        for place, column in enumerate(columns):
            self._folded.setdefault(column.casefold(), []).append(place)
        self.problems: list[ConfigProblem] = []
        self.warnings: list[str] = []

    @staticmethod
    def nothing(_row: Row) -> None:
        """Get nothing."""
        return

    def place(self, column: str, attribute: str, *, optional: bool = False) -> int | None:
        """Return the place of a column; exact name first, then without case as SQL Server does."""
        places = self._places.get(column) or self._folded.get(column.casefold(), [])
        if len(places) == 1:
            return places[0]
        if places:
            expected = "one column of that name: give the others aliases in the query"
            self.problems.append(
                ConfigProblem(
                    self._where, f"{self._section}.{attribute}", f"{len(places)} columns named {column}", expected
                )
            )
        elif optional:
            self.warnings.append(f"the source has no column {column}; {attribute} is left out")
        else:
            hint = nearest(column, self._columns) or f" ({', '.join(self._columns)})"
            problem = ConfigProblem(
                self._where, f"{self._section}.{attribute}", f'no column "{column}"', f"a column of the source{hint}"
            )
            self.problems.append(problem)
        return None

    def getter(self, target: Target, *, required: bool = False, reject_null: bool = False) -> Getter:
        """Return the getter of one target: raw value, conversion, default, required."""
        rule, name = target.rule, str(target.path)
        if rule.constant is not None:
            value = self.fixed(target, "constant", rule.constant)
            return lambda _row: value
        convert = make_converter(rule, target.attribute.type, name=name, timezone=self._timezone)
        if rule.template is not None:
            plain = self._template(rule.template, name, convert)
        else:
            place = self.place(rule.column or "", name, optional=rule.optional)
            if place is None and rule.default is None:
                return self.nothing
            if place is None:
                plain = self.nothing
            elif is_plain_text(rule, target.attribute.type):
                plain = _text_column(place)
            else:
                plain = _column(place, convert)
        if rule.default is not None:
            fallback = self.fixed(target, "default", rule.default)
            return lambda row: fallback if (value := plain(row)) is None else value
        if required or rule.required or reject_null:
            reason = NULL_ID if name == "id" else "the value is NULL or blank"

            def demanded(row: Row) -> Any:
                if (value := plain(row)) is None:
                    raise RejectError(name, reason)
                return value

            return demanded
        return plain

    def fixed(self, target: Target, key: str, value: Any) -> Any:
        """Return a constant or default in the form of its attribute; a problem if it has none."""
        name = str(target.path)
        if target.attribute.type not in {DECIMAL, DATE_TIME, BINARY}:
            return to_text(value) if target.attribute.type == STRING else value
        try:
            return make_converter(Rule(), target.attribute.type, name=name, timezone="UTC")(value)
        except RejectError as error:
            problem = ConfigProblem(
                self._where, f"{self._section}.{name}.{key}", shown(value), f"a value ({error.reason})"
            )
            self.problems.append(problem)
            return None

    def _template(self, template: str, name: str, convert: Callable[[Any], Any]) -> Getter:
        """Return a getter of a template: NULL columns leave no gap, all NULL is no value."""
        parts = [
            (literal, self.place(column, name) if column else None) for literal, column in template_parts(template)
        ]

        def get(row: Row) -> Any:
            texts, filled, gap = [], False, False
            for literal, place in parts:
                texts.append(literal)
                if place is None:
                    continue
                value = row[place]
                text = "" if value is None else to_text(value).strip()
                filled = filled or bool(text)
                gap = gap or not text
                texts.append(text)
            if not filled:
                return None
            result = "".join(texts)
            return convert(" ".join(result.split()) if gap else result)

        return get

    def plural(self, plural: Plural) -> Getter:
        """Return a getter of the entries that the row itself has: without a value they are left out, one is primary.

        With queries beside the row the choice of the primary one waits for their entries.
        """
        own = [item for item in plural.items if item.rows is None]
        waits = len(own) < len(plural.items)
        items = tuple(self.entry(item) for item in own)

        def get(row: Row) -> list[dict[str, Any]] | None:
            found = [entry for item in items if (entry := item(row)) is not None]
            if found and not waits:
                found = unique_entries(found)
                choose_primary(found)
            return found or None

        return get

    def list_of(self, plural: Plural) -> Getter:
        """Return a getter of the texts of a custom list that the row itself has, each once."""
        items = tuple((self.getter(item.targets[0]), item.separator) for item in plural.items if item.rows is None)

        def get(row: Row) -> list[str] | None:
            found: dict[str, None] = {}
            for getter, separator in items:
                if (value := getter(row)) is None:
                    continue
                for text in value.split(separator) if separator else (value,):
                    if text := text.strip():
                        found[text] = None
            return list(found) or None

        return get

    def entry(self, item: PluralItem) -> Getter:
        """Return a getter of one entry of a multi-valued attribute."""
        values = [
            (target.path.sub, self.getter(target))
            for target in item.targets
            if target.path.sub not in {"type", "display"}
        ]
        extras = [
            (target.path.sub, self.getter(target)) for target in item.targets if target.path.sub in {"type", "display"}
        ]
        kind, primary = item.type, item.primary

        def get(row: Row) -> dict[str, Any] | None:
            entry = {}
            for name, getter in values:
                if (value := getter(row)) is not None:
                    entry[name] = value
            if not entry:
                return None
            for name, getter in extras:
                if (value := getter(row)) is not None:
                    entry[name] = value
            if kind is not None:
                entry["type"] = kind
            if primary:
                entry["primary"] = True
            return entry

        return get

    def extension(self, targets: Iterable[Target], plurals: Iterable[Plural], urn: str) -> list[tuple[str, Getter]]:
        """Return the getters of one extension, named `attribute` or `attribute.sub`, in canonical order."""
        found = [
            (inner_place(plural.attribute.name), plural.attribute.name, self.list_of(plural))
            for plural in plurals
            if plural.urn == urn
        ]
        found += [
            (
                inner_place(target.path.name, target.path.sub),
                f"{target.path.name}.{target.path.sub}" if target.path.sub else target.path.name,
                self.getter(target),
            )
            for target in targets
            if target.path.urn == urn
        ]
        return [(name, getter) for _, name, getter in sorted(found, key=lambda item: item[0])]


def unique_entries(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out an entry with the type and value of one before it, which is preferred if either is.

    RFC 7643 section 2.4: the same (type, value) should not be there twice. What has no value, such as an address, is
    the same if all of it is.
    """
    if len(entries) == 1:
        return entries
    seen: dict[Any, dict[str, Any]] = {}
    for entry in entries:
        kept = seen.setdefault(entry_key(entry), entry)
        if entry.get("primary"):
            kept["primary"] = True
    return list(seen.values())


def entry_key(entry: Mapping[str, Any]) -> Any:
    """Return what two entries have in common if they say the same."""
    if entry.get("value") is not None:
        return entry.get("type"), entry["value"]
    return frozenset((name, value) for name, value in entry.items() if name != "primary" and value is not None)


def choose_primary(entries: list[dict[str, Any]]) -> None:
    """Leave exactly one entry primary: the first that is said to be, else the first (RFC 7643 section 2.4)."""
    chosen = next((entry for entry in entries if entry.get("primary")), entries[0])
    for entry in entries:
        if entry is not chosen:
            entry.pop("primary", None)
    chosen.setdefault("primary", True)


def complex_getter(inner: list[tuple[str, Getter]]) -> Getter:
    """Return a getter of a complex value; a name with a dot (`manager.value`) nests once more."""
    nested: dict[str, list[tuple[str, Getter]]] = {}
    for name, getter in inner:
        first, _, rest = name.partition(".")
        nested.setdefault(first, []).append((rest, getter))
    steps = tuple((name, parts[0][1] if parts[0][0] == "" else complex_getter(parts)) for name, parts in nested.items())

    def get(row: Row) -> dict[str, Any] | None:
        result = {}
        for name, getter in steps:
            if (value := getter(row)) is not None:
                result[name] = value
        return result or None

    return get


def _text_column(place: int) -> Getter:
    """Return the getter of the most common rule, a trimmed text: one call instead of two."""

    def get(row: Row) -> str | None:
        value = row[place]
        if value is None:
            return None
        return (value if value.__class__ is str else to_text(value)).strip() or None

    return get


def _column(place: int, convert: Callable[[Any], Any]) -> Getter:
    def get(row: Row) -> Any:
        value = row[place]
        return None if value is None else convert(value)

    return get
