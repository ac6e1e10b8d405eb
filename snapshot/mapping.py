"""Compile the configured mapping once against the columns of the source; then rows become resources.

A compiled mapping is a tree of closures without any look-up by name, because it runs once per row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snapshot.canonical import core_place, extension_place, inner_place
from snapshot.convert import is_plain_text, make_converter, to_text
from snapshot.errors import ConfigProblem, MappingError, RejectError
from snapshot.rules import Mapping, Plural, PluralItem, Rule, Target, template_parts
from snapshot.schema import BINARY, DATE_TIME, DECIMAL, STRING
from snapshot.scim import Resource
from snapshot.strict import nearest, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Row = Sequence[Any]
    Getter = Callable[[Row], Any]

NULL_ID = "the id is NULL or blank"


class CompiledMapping:
    """Calling it with a row returns a Resource; RejectError says why a row cannot be one."""

    def __init__(self, mapping: Mapping, columns: Sequence[str], *, timezone: str, where: str) -> None:
        """Compile; raises MappingError that lists every mapped column the source does not send."""
        compiler = _Compiler(columns, timezone, where)
        self._id = compiler.getter(mapping.id, required=True)
        singles = sorted(
            (target for target in mapping.singles if not target.path.urn),
            key=lambda target: core_place(target.path.name, target.path.sub),
        )
        self._created = None if mapping.created is None else compiler.getter(mapping.created)
        self._user_name: Getter = compiler.nothing
        self._active: Getter | None = None
        members: dict[str, list[tuple[str, Getter]]] = {}
        for target in singles:
            name, sub = target.path.name, target.path.sub
            getter = compiler.getter(target, required=name == "userName", reject_null=name == "active")
            if name == "userName":
                self._user_name = getter
            elif name == "active":
                self._active = getter
            else:
                members.setdefault(name, []).append((sub, getter))
        steps: list[tuple[str, Getter]] = [
            (name, inner[0][1] if inner[0][0] == "" else _complex(inner)) for name, inner in members.items()
        ]
        steps += [(plural.attribute.name, compiler.plural(plural)) for plural in mapping.plurals]
        steps.sort(key=lambda step: core_place(step[0]))
        before = core_place("userName")
        self._head = tuple(step for step in steps if core_place(step[0]) < before)
        self._tail = tuple(step for step in steps if core_place(step[0]) > before)
        urns = sorted(mapping.extension_urns, key=extension_place)
        self._extensions = tuple((urn, _complex(compiler.extension(mapping, urn))) for urn in urns)
        self.warnings = tuple(compiler.warnings)
        if compiler.problems:
            raise MappingError(compiler.problems)

    def __call__(self, row: Row) -> Resource:
        """Map one row."""
        resource_id = self._id(row)
        if resource_id is None:
            raise RejectError("id", NULL_ID)
        core: dict[str, Any] = {"id": resource_id}
        for name, getter in self._head:
            if (value := getter(row)) is not None:
                core[name] = value
        core["userName"] = user_name = self._user_name(row)
        for name, getter in self._tail:
            if (value := getter(row)) is not None:
                core[name] = value
        active = True
        if self._active is not None and (truth := self._active(row)) is not None:
            core["active"] = active = truth
        extensions = {}
        for urn, getter in self._extensions:
            if (value := getter(row)) is not None:
                extensions[urn] = value
        created = None if self._created is None else self._created(row)
        return Resource(resource_id, user_name, active, core, extensions, created)

    def identify(self, row: Row) -> str:
        """Return the id of a row for the rejects report; empty if even that cannot be made."""
        try:
            return self._id(row) or ""
        except RejectError:
            return ""


def _complex(inner: list[tuple[str, Getter]]) -> Getter:
    """Return a getter of a complex value; a name with a dot (`manager.value`) nests once more."""
    nested: dict[str, list[tuple[str, Getter]]] = {}
    for name, getter in inner:
        first, _, rest = name.partition(".")
        nested.setdefault(first, []).append((rest, getter))
    steps = tuple((name, parts[0][1] if parts[0][0] == "" else _complex(parts)) for name, parts in nested.items())

    def get(row: Row) -> dict[str, Any] | None:
        result = {}
        for name, getter in steps:
            if (value := getter(row)) is not None:
                result[name] = value
        return result or None

    return get


class _Compiler:
    """Finds columns and collects what is missing."""

    def __init__(self, columns: Sequence[str], timezone: str, where: str) -> None:
        self._columns = columns
        self._timezone = timezone
        self._where = where
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
                ConfigProblem(self._where, f"mapping.{attribute}", f"{len(places)} columns named {column}", expected)
            )
        elif optional:
            self.warnings.append(f"the source has no column {column}; {attribute} is left out")
        else:
            hint = nearest(column, self._columns) or f" ({', '.join(self._columns)})"
            problem = ConfigProblem(
                self._where, f"mapping.{attribute}", f'no column "{column}"', f"a column of the source{hint}"
            )
            self.problems.append(problem)
        return None

    def getter(self, target: Target, *, required: bool = False, reject_null: bool = False) -> Getter:
        """Return the getter of one target: raw value, conversion, default, required."""
        rule, name = target.rule, str(target.path)
        if rule.constant is not None:
            value = self._fixed(target, "constant", rule.constant)
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
            fallback = self._fixed(target, "default", rule.default)
            return lambda row: fallback if (value := plain(row)) is None else value
        if required or rule.required or reject_null:
            reason = NULL_ID if name == "id" else "the value is NULL or blank"

            def demanded(row: Row) -> Any:
                if (value := plain(row)) is None:
                    raise RejectError(name, reason)
                return value

            return demanded
        return plain

    def _fixed(self, target: Target, key: str, value: Any) -> Any:
        """Return a constant or default in the form of its attribute; a problem if it has none."""
        name = str(target.path)
        if target.attribute.type not in {DECIMAL, DATE_TIME, BINARY}:
            return to_text(value) if target.attribute.type == STRING else value
        try:
            return make_converter(Rule(), target.attribute.type, name=name, timezone="UTC")(value)
        except RejectError as error:
            problem = ConfigProblem(self._where, f"mapping.{name}.{key}", shown(value), f"a value ({error.reason})")
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
        """Return a getter of a multi-valued attribute: entries without a value are left out, one is primary."""
        stated = any(item.primary for item in plural.items)
        # Where nothing is stated the first entry is the preferred one.
        items = tuple(
            self._entry(item, primary=item.primary or (not stated and place == 0))
            for place, item in enumerate(plural.items)
        )

        def get(row: Row) -> list[dict[str, Any]] | None:
            found = [entry for item in items if (entry := item(row)) is not None]
            if not found:
                return None
            for entry in found:
                if "primary" in entry:
                    break
            else:
                found[0]["primary"] = True
            return found

        return get

    def _entry(self, item: PluralItem, *, primary: bool) -> Getter:
        values = [
            (target.path.sub, self.getter(target))
            for target in item.targets
            if target.path.sub not in {"type", "display"}
        ]
        extras = [
            (target.path.sub, self.getter(target)) for target in item.targets if target.path.sub in {"type", "display"}
        ]
        kind = item.type

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

    def extension(self, mapping: Mapping, urn: str) -> list[tuple[str, Getter]]:
        """Return the getters of one extension, named `attribute` or `attribute.sub`."""
        return [
            (
                f"{target.path.name}.{target.path.sub}" if target.path.sub else target.path.name,
                self.getter(target),
            )
            for target in sorted(mapping.singles, key=lambda target: inner_place(target.path.name, target.path.sub))
            if target.path.urn == urn
        ]


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
