"""The [mapping] section: which column, constant or template becomes which SCIM attribute.

The section mirrors the JSON of a user. Parsed here into frozen rules; `snapshot.mapping` compiles them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from snapshot.queries import KINDS, QUERY_KEYS, Query
from snapshot.rule import RULE_KEYS, RULE_MARKS, Rule, Target, is_rule, read_target
from snapshot.schema import (
    BOOLEAN,
    COMPLEX,
    DATE_TIME,
    ENTERPRISE_ATTRIBUTES,
    EXTERNAL_ID,
    ID,
    STRING,
    USER_ATTRIBUTES,
    Attribute,
    find_attribute,
)
from snapshot.scim import ENTERPRISE_2_0, RESERVED_URNS, AttributePath, canonical_urn
from snapshot.strict import Reader, nearest, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class ValueRows(msgspec.Struct, frozen=True):
    """A query that gives values of users, any number each. `user` and `order` are columns of it."""

    query: Query
    user: str
    order: str = ""


class PluralItem(msgspec.Struct, frozen=True):
    """One entry of a multi-valued attribute: fixed type and primary, and the targets of its values.

    With `rows` it is as many entries as the query has rows for the user; `is_primary` tells which is the preferred.
    """

    targets: tuple[Target, ...]
    type: str | None = None
    primary: bool = False
    rows: ValueRows | None = None
    is_primary: Target | None = None
    separator: str = ""


class Plural(msgspec.Struct, frozen=True):
    """A multi-valued attribute. `urn` only for one of a custom extension, whose values are plain texts."""

    attribute: Attribute
    items: tuple[PluralItem, ...]
    urn: str = ""

    @property
    def path(self) -> str:
        """Its name with the URN, as filters write it."""
        return f"{self.urn}:{self.attribute.name}" if self.urn else self.attribute.name


class Mapping(msgspec.Struct, frozen=True):
    """The whole mapping. `singles` holds core and extension attributes; extension URNs are canonical.

    `created` makes meta.created; without it that is the time of the first publication. `active` is always there:
    a person without a row any more is sent as inactive. `manager_key` is the column with the key of the manager's own
    row, from which `manager` is made.
    """

    id: Target
    singles: tuple[Target, ...]
    plurals: tuple[Plural, ...]
    created: Target | None = None
    manager_key: str = ""

    @property
    def extension_urns(self) -> tuple[str, ...]:
        """URNs of the extensions in use: enterprise first, then custom ones as configured."""
        urns = dict.fromkeys(target.path.urn for target in self.singles if target.path.urn)
        urns |= dict.fromkeys(plural.urn for plural in self.plurals if plural.urn)
        return tuple(sorted(urns, key=lambda urn: urn != ENTERPRISE_2_0))


_URN = re.compile(r"urn:[A-Za-z0-9][A-Za-z0-9-]{0,31}:[^\s\"\\]+\Z")
_ATTRIBUTE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")


def read_mapping(reader: Reader, table: object) -> Mapping | None:
    """Read the [mapping] table; None if anything in it is wrong (the reader holds the problems)."""
    if not isinstance(table, dict):
        reader.problem("mapping", shown(table), "a table")
        return None
    before = len(reader.problems)
    singles: list[Target] = []
    plurals: list[Plural] = []
    created: Target | None = None
    manager_key = ""
    for name, value in table.items():
        key = f'mapping."{name}"' if ":" in name else f"mapping.{name}"
        if name.casefold().startswith("urn:") or name == "enterprise":
            if canonical_urn(name) == ENTERPRISE_2_0:
                column, value = _manager(reader, value, key)  # noqa: PLW2901
                manager_key = column or manager_key
            for made in read_extension(reader, name, value, key):
                (singles if isinstance(made, Target) else plurals).append(made)  # type: ignore[arg-type]
            continue
        if name.casefold() == "meta":
            created = _meta(reader, value, key)
            continue
        attribute = find_attribute((ID, EXTERNAL_ID, *USER_ATTRIBUTES), name)
        if attribute is None:
            _unknown_attribute(reader, key, name)
        elif attribute.multi_valued:
            if plural := _plural(reader, attribute, value, key):
                plurals.append(plural)
        elif attribute.type == COMPLEX:
            singles.extend(_complex(reader, attribute, value, key, urn=""))
        elif target := read_target(reader, AttributePath(attribute.name), attribute, value, key):
            singles.append(target)
    check_once(reader, "mapping", [*(str(target.path) for target in singles), *(item.path for item in plurals)])
    found = {str(target.path): target for target in singles}
    stated = {name.casefold() for name in table}
    for needed, example in (("id", "employee_id"), ("userName", "email")):
        if needed.casefold() not in stated:
            reader.problem(f"mapping.{needed}", "nothing", f'a column, for example {needed} = "{example}"')
    if len(reader.problems) > before:
        return None
    active = find_attribute(USER_ATTRIBUTES, "active")
    if "active" not in found and active is not None:
        singles.append(Target(AttributePath("active"), active, Rule(constant=True)))
    return Mapping(
        id=found["id"],
        singles=tuple(target for target in singles if str(target.path) != "id"),
        plurals=tuple(plurals),
        created=created,
        manager_key=manager_key,
    )


def _manager(reader: Reader, table: object, key: str) -> tuple[str, object]:
    """Read manager = { user = "column" }; return the column, and the table with the attributes that are made of it."""
    stated = table.get("manager") if isinstance(table, dict) else None
    if not isinstance(table, dict) or not isinstance(stated, dict) or "user" not in stated:
        return "", table
    column = stated["user"]
    if not isinstance(column, str) or not column.strip():
        reader.problem(f"{key}.manager.user", shown(column), "the column with the key of the manager's own row")
    elif len(stated) > 1:
        others = ", ".join(name for name in stated if name != "user")
        reader.problem(f"{key}.manager", f"user beside {others}", "user alone: the rest comes from the manager's row")
    else:
        return column, {**table, "manager": {"value": {"column": column}, "displayName": {"column": column}}}
    return "", {**table, "manager": {}}


def _meta(reader: Reader, value: object, key: str) -> Target | None:
    """Read [mapping.meta]: only `created` can come from the source; lastModified is the time of publication."""
    if not isinstance(value, dict) or is_rule(value):
        reader.problem(key, shown(value), 'a table, for example created = "hire_date"')
        return None
    for name in value:
        if name.casefold() == "lastmodified":
            reader.problem(
                f"{key}.{name}",
                "meta.lastModified",
                "no such key: it is the time of publication, or an incremental import would lose changes",
            )
        elif name.casefold() != "created":
            reader.unknown(f"{key}.{name}", name, ("created",))
    stated = next((item for name, item in value.items() if name.casefold() == "created"), None)
    if stated is None:
        return None
    attribute = Attribute("created", DATE_TIME, description="When the resource was created.")
    return read_target(reader, AttributePath("meta", "created"), attribute, stated, f"{key}.created")


def check_once(reader: Reader, key: str, names: Iterable[str], *, noun: str = "attribute") -> None:
    """Note every name that stands there a second time, compared without case."""
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            reader.problem(key, f"{name} twice", f"each {noun} at most once")
        seen.add(name.casefold())


def _unknown_attribute(reader: Reader, key: str, name: str) -> None:
    known = [item.name for item in (ID, EXTERNAL_ID, *USER_ATTRIBUTES)]
    hint = nearest(name, known)
    if not hint and (inner := find_attribute(ENTERPRISE_ATTRIBUTES, name)):
        hint = f" ({inner.name} belongs under [mapping.enterprise])"
    if not hint:
        hint = ' (attributes of your own belong under [mapping."urn:…"])'
    reader.problem(key, "an unknown attribute", f"a SCIM user attribute{hint}")


def _complex(reader: Reader, attribute: Attribute, value: object, key: str, *, urn: str) -> Iterator[Target]:
    """Read a complex single-valued attribute: a table of sub-attributes (or the main one of `manager`)."""
    if attribute.name == "manager" and (isinstance(value, str) or is_rule(value)):
        value = {"value": value}
    if not isinstance(value, dict) or is_rule(value):
        names = ", ".join(sub.name for sub in attribute.sub_attributes)
        reader.problem(key, shown(value), f"a table of its sub-attributes ({names})")
        return
    for name, inner in value.items():
        sub = attribute.sub("value" if attribute.name == "manager" and name == "managerId" else name)
        if sub is None:
            reader.unknown(f"{key}.{name}", name, (item.name for item in attribute.sub_attributes))
        elif target := read_target(reader, AttributePath(attribute.name, sub.name, urn), sub, inner, f"{key}.{name}"):
            yield target


def read_extension(reader: Reader, name: str, table: object, key: str) -> Iterator[Target | Plural]:
    """Read the table of one extension: single values, and in a custom one lists of texts."""
    urn = canonical_urn(name)
    if not isinstance(table, dict):
        reader.problem(key, shown(table), "a table of attributes")
        return
    if urn == ENTERPRISE_2_0:
        for inner_name, value in table.items():
            attribute = find_attribute(ENTERPRISE_ATTRIBUTES, inner_name)
            inner_key = f"{key}.{inner_name}"
            if attribute is None:
                reader.unknown(inner_key, inner_name, (item.name for item in ENTERPRISE_ATTRIBUTES))
            elif attribute.type == COMPLEX:
                yield from _complex(reader, attribute, value, inner_key, urn=urn)
            elif target := read_target(reader, AttributePath(attribute.name, urn=urn), attribute, value, inner_key):
                yield target
        return
    if urn.casefold() in RESERVED_URNS or not _URN.match(urn):
        reader.problem(key, shown(name), "a URN of your own, for example urn:okta:acme_hr_1:1.0:user:custom")
        return
    for inner_name, value in table.items():
        inner_key = f"{key}.{inner_name}"
        if not _ATTRIBUTE_NAME.match(inner_name):
            reader.problem(
                inner_key, shown(inner_name), "a letter, then letters, digits, _ or - (RFC 7643 section 2.1)"
            )
            continue
        if is_list(value):
            if plural := _list(reader, inner_name, urn, value, inner_key):
                yield plural
            continue
        kind = (value.get("type") if isinstance(value, dict) else None) or STRING
        exact = Attribute(
            inner_name,
            STRING if kind == "uniqueidentifier" else str(kind),
            case_exact=kind == "binary",
            description="A custom attribute.",
        )
        if target := read_target(reader, AttributePath(inner_name, urn=urn), exact, value, inner_key):
            yield target


def is_list(value: object) -> bool:
    """Tell whether a custom attribute is a list: an array, a query, or a column with a separator."""
    return isinstance(value, list) or (isinstance(value, dict) and bool({"separator", *KINDS}.intersection(value)))


def _list(reader: Reader, name: str, urn: str, value: object, key: str) -> Plural | None:
    """Read a custom multi-valued attribute: its values are texts, in the order of columns and rows."""
    attribute = Attribute(name, STRING, multi_valued=True, description="A custom attribute.")
    before = len(reader.problems)
    items = []
    for place, entry in enumerate(value if isinstance(value, list) else [value], 1):
        entry_key = f"{key}[{place}]" if isinstance(value, list) else key
        entry = {"column": entry} if isinstance(entry, str) else entry  # noqa: PLW2901
        if not isinstance(entry, dict):
            reader.problem(
                entry_key, shown(entry), 'a column, or a table such as { column = "skills", separator = ";" }'
            )
            continue
        rows, rest = _value_rows(reader, entry, entry_key)
        separator = rest.pop("separator", "")
        if not isinstance(separator, str):
            reader.problem(f"{entry_key}.separator", shown(separator), 'a text, for example ";"')
            continue
        single = Attribute(name, STRING, description=attribute.description)
        if target := read_target(reader, AttributePath(name, urn=urn), single, rest, entry_key):
            items.append(PluralItem(targets=(target,), rows=rows, separator=separator))
    return Plural(attribute, tuple(items), urn) if len(reader.problems) == before and items else None


def _value_rows(reader: Reader, entry: dict[str, Any], key: str) -> tuple[ValueRows | None, dict[str, Any]]:
    """Take the query out of an entry; return it, and the rest."""
    if not any(name in entry for name in KINDS):
        return None, dict(entry)
    query = reader.struct(Query, {name: item for name, item in entry.items() if name in QUERY_KEYS}, key)
    rest = {name: item for name, item in entry.items() if name not in QUERY_KEYS}
    names = {name: rest.pop(name, "") for name in ("user", "order")}
    for name, column in names.items():
        if not isinstance(column, str):
            reader.problem(f"{key}.{name}", shown(column), "a column of the query")
    if not names["user"]:
        reader.problem(f"{key}.user", "nothing", "the column of the query with the key of the user")
    if query is None or not isinstance(names["order"], str) or not isinstance(names["user"], str):
        return None, rest
    return ValueRows(query, names["user"], names["order"]), rest


def _plural(reader: Reader, attribute: Attribute, value: object, key: str) -> Plural | None:
    """Read a multi-valued attribute: a column, a rule, or an array of entries."""
    entries = value if isinstance(value, list) else [value]
    before = len(reader.problems)
    items = [
        item
        for place, entry in enumerate(entries, 1)
        if (item := _plural_item(reader, attribute, entry, f"{key}[{place}]" if isinstance(value, list) else key))
    ]
    if sum(item.primary for item in items) > 1:
        reader.problem(key, "several entries with primary = true", "at most one (RFC 7643 section 2.4)")
    if len(reader.problems) > before:
        return None
    return Plural(attribute=attribute, items=tuple(items))


def _plural_item(reader: Reader, attribute: Attribute, entry: object, key: str) -> PluralItem | None:
    has_value = attribute.sub("value") is not None
    if isinstance(entry, str) and has_value:
        entry = {"value": entry}
    rows: ValueRows | None = None
    if isinstance(entry, dict):
        rows, entry = _value_rows(reader, entry, key)
    if not isinstance(entry, dict):
        reader.problem(
            key, shown(entry), f'a table, for example {{ value = "{attribute.name}_column", type = "work" }}'
        )
        return None
    if has_value and RULE_MARKS.intersection(entry):
        # { column = "email", case = "lower", type = "work" }: the rule of the value, with type and primary beside it.
        rule = {name: item for name, item in entry.items() if name in RULE_KEYS and name != "type"}
        entry = {"value": rule, **{name: item for name, item in entry.items() if name not in rule}}
    primary = entry.get("primary", False)
    is_primary: Target | None = None
    if rows is not None and not isinstance(primary, bool):
        preferred = attribute.sub("primary") or Attribute("primary", BOOLEAN)
        path = AttributePath(attribute.name, "primary")
        is_primary = read_target(reader, path, preferred, primary, f"{key}.primary")
        primary = False
    if not isinstance(primary, bool):
        reader.problem(f"{key}.primary", shown(primary), "true or false")
        return None
    kind = entry.get("type")
    if kind is not None and not isinstance(kind, (str, dict)):
        reader.problem(f"{key}.type", shown(kind), 'a text such as "work", or a rule such as { column = "kind" }')
        return None
    targets: list[Target] = []
    for name, value in entry.items():
        if name == "primary" or (name == "type" and isinstance(kind, str)):
            continue
        sub = attribute.sub(name)
        if sub is None:
            reader.unknown(f"{key}.{name}", name, (item.name for item in attribute.sub_attributes))
        elif target := read_target(reader, AttributePath(attribute.name, sub.name), sub, value, f"{key}.{name}"):
            targets.append(target)
    check_once(reader, key, (target.path.sub for target in targets))
    if has_value and not any(name.casefold() == "value" for name in entry):
        reader.problem(key, "no value", 'a value, for example value = "email"')
        return None
    if not targets:
        return None
    return PluralItem(
        targets=tuple(targets),
        type=kind if isinstance(kind, str) else None,
        primary=primary,
        rows=rows,
        is_primary=is_primary,
    )
