"""Read the queries of groups, entitlements and values of attributes into Relations, before the users are read."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from snapshot.compiler import NULL_ID, RESERVED_ID, Compiler, complex_getter, is_reserved_id
from snapshot.convert import to_text
from snapshot.encode import encode_values
from snapshot.errors import ConfigProblem, MappingError, RejectError, SourceError
from snapshot.relations import value_sections
from snapshot.scim import GROUP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from snapshot.config import Config
    from snapshot.queries import Query
    from snapshot.related import RelatedMapping
    from snapshot.relations import Relations
    from snapshot.rules import PluralItem, ValueRows
    from snapshot.sources.rows import RowSource

    Row = Sequence[Any]
    # Returns what is stored of a row, None for a row without a value; RejectError for one that cannot be used.
    Use = Callable[[Row], tuple[Any, ...] | None]

# Okta's limit for the description of an entitlement.
_MAX_DESCRIPTION = 1_000
SAME_ID = "another row has the same id"


@dataclass(frozen=True, slots=True)
class RelationReject:
    """A row that cannot be used: its section, whose it is or which id it has, the attribute, and why."""

    section: str
    id: str
    attribute: str
    reason: str


@dataclass(slots=True)
class RelationBatch:
    """Some rows of one section: how many, and those that cannot be used."""

    section: str
    rows: int
    rejects: list[RelationReject] = field(default_factory=list)


class Section(NamedTuple):
    """One query beside the users: how its rows are understood, and where they go."""

    name: str
    query: Query
    compile: Callable[[Compiler], Use]
    store: Callable[[Relations, list[Any]], list[str]]


def load_relations(config: Config, source: RowSource, relations: Relations) -> Iterator[RelationBatch]:
    """Read everything that stands beside the users; yield how far it is."""
    for section in sections(config):
        with _naming(section.name):
            yield from _load(config, source, relations, section)
    relations.finish_related()


def _load(config: Config, source: RowSource, relations: Relations, section: Section) -> Iterator[RelationBatch]:
    rows = source.read(section.query)
    compiler = Compiler(rows.columns, config.source.timezone, config.where, section.name)
    use = section.compile(compiler)
    if compiler.problems:
        raise MappingError(compiler.problems)
    for some in rows.batches():
        batch = RelationBatch(section.name, len(some))
        made = []
        for row in some:
            try:
                if (one := use(row)) is not None:
                    made.append(one)
            except RejectError as error:
                batch.rejects.append(RelationReject(section.name, "", error.attribute, error.reason))
        twice = section.store(relations, made)
        batch.rejects += [RelationReject(section.name, id_, "id", SAME_ID) for id_ in twice]
        yield batch


@contextlib.contextmanager
def _naming(section: str) -> Iterator[None]:
    """Say of an error of the source in which query it happened."""
    try:
        yield
    except SourceError as error:
        cause = f"{section}: {error.cause}"
        raise SourceError(error.code, cause, remedy=error.remedy, number=error.number) from None


def check_relations(config: Config, source: RowSource) -> list[str]:
    """Compare every rule and column with what the queries give, without reading rows; return warnings."""
    warnings: list[str] = []
    problems: list[ConfigProblem] = []
    for section in sections(config):
        with _naming(section.name):
            columns = source.columns(section.query)
        compiler = Compiler(columns, config.source.timezone, config.where, section.name)
        section.compile(compiler)
        warnings += compiler.warnings
        problems += compiler.problems
    if problems:
        raise MappingError(problems)
    return warnings


def sections(config: Config) -> Iterator[Section]:
    """Yield every query beside the one of the users."""
    groups = config.groups
    if groups is not None:
        yield _related(GROUP, "groups", groups.query, groups.mapping)
        members, subgroups = groups.members, groups.subgroups
        if members is not None and not members.column:
            yield Section("groups.members", members, _pairs(members.user, members.group), _store(_add_members))
        if subgroups is not None:
            use = _pairs(subgroups.subgroup, subgroups.group)
            yield Section("groups.subgroups", subgroups, use, _store(_add_subgroups))
    for item in config.entitlements:
        section = f"entitlements.{item.name}"
        kind = None if item.kind == "role" else item.name
        yield _related(item.name, section, item.query, item.mapping, kind=kind)
        assigned = item.assignments
        if assigned is not None and not assigned.column:
            use = _pairs(assigned.user, assigned.entitlement)
            yield Section(f"{section}.assignments", assigned, use, _store(_add_assignments(item.name)))
    place = 0
    for plural in config.mapping.plurals:
        entries = [(entry, entry.rows) for entry in plural.items if entry.rows is not None]
        for name, (entry, rows) in zip(value_sections(plural), entries, strict=True):
            use = _values(entry, rows, is_list=bool(plural.urn))
            yield Section(name, rows.query, use, _store(_add_values(place)))
            place += 1


def _store(add: Callable[[Relations, list[Any]], None]) -> Callable[[Relations, list[Any]], list[str]]:
    """Return what stores rows of which none can be there twice."""

    def store(relations: Relations, rows: list[Any]) -> list[str]:
        add(relations, rows)
        return []

    return store


def _add_members(relations: Relations, rows: list[Any]) -> None:
    relations.add_members(rows)


def _add_subgroups(relations: Relations, rows: list[Any]) -> None:
    relations.add_subgroups(rows)


def _add_assignments(resource_type: str) -> Callable[[Relations, list[Any]], None]:
    return lambda relations, rows: relations.add_assignments(resource_type, rows)


def _add_values(place: int) -> Callable[[Relations, list[Any]], None]:
    return lambda relations, rows: relations.add_values(place, rows)


def _related(
    resource_type: str, section: str, query: Query, mapping: RelatedMapping, *, kind: str | None = None
) -> Section:
    """Return the section of groups or entitlements; `kind` becomes their `type`."""

    def compile_(compiler: Compiler) -> Use:
        get_id = compiler.getter(mapping.id)
        singles = {item.path.name: compiler.getter(item) for item in mapping.singles if not item.path.urn}
        extensions = [
            (urn, complex_getter(compiler.extension(mapping.singles, (), urn)))
            for urn in sorted(mapping.extension_urns)
        ]

        def use(row: Row) -> tuple[str, str, bytes]:
            resource_id = get_id(row)
            if resource_id is None:
                raise RejectError("id", NULL_ID)
            if is_reserved_id(resource_id):
                raise RejectError("id", RESERVED_ID)
            core = {"id": resource_id}
            if (external := singles.get("externalId", compiler.nothing)(row)) is not None:
                core["externalId"] = external
            # Without a name it goes by its id: better than a group that vanishes.
            core["displayName"] = display = singles["displayName"](row) or resource_id
            if kind is not None:
                core["type"] = kind
            if (text := singles.get("description", compiler.nothing)(row)) is not None:
                core["description"] = text[:_MAX_DESCRIPTION]
            values = {urn: value for urn, get in extensions if (value := get(row)) is not None}
            return _valid(resource_id), display, encode_values({"core": core, "extensions": values})

        return use

    return Section(section, query, compile_, lambda relations, rows: relations.add_related(resource_type, rows))


def _pairs(first: str, second: str) -> Callable[[Compiler], Use]:
    def compile_(compiler: Compiler) -> Use:
        places = compiler.place(first, first), compiler.place(second, second)

        def use(row: Row) -> tuple[str, str]:
            left, right = (key_text(row[place], name) for place, name in zip(places, (first, second), strict=True))  # type: ignore[index]
            return left, right

        return use

    return compile_


def _values(entry: PluralItem, rows: ValueRows, *, is_list: bool) -> Callable[[Compiler], Use]:
    def compile_(compiler: Compiler) -> Use:
        user = compiler.place(rows.user, "user")
        order = compiler.place(rows.order, "order") if rows.order else None
        preferred = compiler.getter(entry.is_primary) if entry.is_primary is not None else compiler.nothing
        get = compiler.getter(entry.targets[0]) if is_list else compiler.entry(entry)

        def use(row: Row) -> tuple[str, Any, bytes] | None:
            key = key_text(row[user], rows.user)  # type: ignore[index]
            value = get(row)
            if value is None:
                return None
            if preferred(row):
                value["primary"] = True
            return key, _sortable(row[order]) if order is not None else None, encode_values(value)

        return use

    return compile_


def key_text(value: Any, column: str) -> str:
    """Return a key as text, so that numbers, texts and uniqueidentifiers of several tables meet."""
    text = "" if value is None else to_text(value).strip()
    if not text:
        raise RejectError(column, "the value is NULL or blank")
    return _valid(text)


def _valid(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RejectError("(row)", "the text is no valid Unicode") from None
    return text


def _sortable(value: Any) -> Any:
    """Return what orders values, in a form that SQLite keeps."""
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value if value is None or isinstance(value, (int, float, str, bytes)) else to_text(value)
