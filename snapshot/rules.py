"""The [mapping] section: which column, constant or template becomes which SCIM attribute.

The section mirrors the JSON of a user. Parsed here into frozen rules; `snapshot.mapping` compiles them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

import msgspec

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

Scalar = str | int | float | bool


class Rule(msgspec.Struct, frozen=True, rename={"true_values": "true", "false_values": "false"}):
    """How one value is made. Exactly one of column, constant and template is set."""

    column: str | None = None
    constant: Scalar | None = None
    template: str | None = None
    type: Literal["string", "boolean", "integer", "decimal", "dateTime", "binary", "uniqueidentifier"] | None = None
    trim: bool = True
    case: Literal["lower", "upper"] | None = None
    values: dict[str, Scalar] | None = None
    unmapped: Literal["reject", "keep", "omit"] | bool = "reject"
    true_values: tuple[Scalar, ...] | None = None
    false_values: tuple[Scalar, ...] | None = None
    default: Scalar | None = None
    required: bool = False
    optional: bool = False
    timezone: str | None = None
    format: str | None = None


RULE_KEYS = frozenset(field.encode_name for field in msgspec.structs.fields(Rule))
# A table of the mapping is a rule when it has one of these; else it is a complex attribute.
RULE_MARKS = frozenset({"column", "constant", "template"})


class Target(msgspec.Struct, frozen=True):
    """One mapped single value: the attribute path, its type and the rule that makes it."""

    path: AttributePath
    attribute: Attribute
    rule: Rule


class PluralItem(msgspec.Struct, frozen=True):
    """One entry of a multi-valued attribute: fixed type, display and primary, and the targets of its values."""

    targets: tuple[Target, ...]
    type: str | None = None
    primary: bool = False


class Plural(msgspec.Struct, frozen=True):
    """A multi-valued attribute made from columns of the row."""

    attribute: Attribute
    items: tuple[PluralItem, ...]


class Mapping(msgspec.Struct, frozen=True):
    """The whole mapping. `singles` holds core and extension attributes; extension URNs are canonical.

    `created` makes meta.created; without it that is the time of the first publication. `active` is always there:
    a person without a row any more is sent as inactive.
    """

    id: Target
    singles: tuple[Target, ...]
    plurals: tuple[Plural, ...]
    created: Target | None = None

    @property
    def extension_urns(self) -> tuple[str, ...]:
        """URNs of the extensions in use: enterprise first, then custom ones as configured."""
        urns = dict.fromkeys(target.path.urn for target in self.singles if target.path.urn)
        return tuple(sorted(urns, key=lambda urn: urn != ENTERPRISE_2_0))


_COLUMN_IN_TEMPLATE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
_URN = re.compile(r"urn:[A-Za-z0-9][A-Za-z0-9-]{0,31}:[^\s\"\\]+\Z")
_ATTRIBUTE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")


def template_parts(template: str) -> list[tuple[str, str]]:
    """Split a template into (literal, column) pairs; ValueError says what is wrong with it.

    >>> template_parts("{first} {last}")
    [('', 'first'), (' ', 'last')]
    """
    parts: list[tuple[str, str]] = []
    literal, end = "", 0
    for match in _COLUMN_IN_TEMPLATE.finditer(template):
        literal += template[end : match.start()]
        end = match.end()
        if match.group() in {"{{", "}}"}:
            literal += match.group()[0]
        elif match.group(1) and match.group(1).strip():
            parts.append((literal, match.group(1).strip()))
            literal = ""
        elif match.group(1):
            raise ValueError("no column between { and }")
        else:
            raise ValueError(f"a lone {match.group()} (write {match.group() * 2} for the character itself)")
    literal += template[end:]
    if literal:
        parts.append((literal, ""))
    return parts


def read_mapping(reader: Reader, table: object) -> Mapping | None:
    """Read the [mapping] table; None if anything in it is wrong (the reader holds the problems)."""
    if not isinstance(table, dict):
        reader.problem("mapping", shown(table), "a table")
        return None
    before = len(reader.problems)
    singles: list[Target] = []
    plurals: list[Plural] = []
    created: Target | None = None
    for name, value in table.items():
        key = f'mapping."{name}"' if ":" in name else f"mapping.{name}"
        if name.casefold().startswith("urn:") or name == "enterprise":
            singles.extend(_extension(reader, name, value, key))
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
        elif target := _target(reader, AttributePath(attribute.name), attribute, value, key):
            singles.append(target)
    _check_once(
        reader, "mapping", [*(str(target.path) for target in singles), *(item.attribute.name for item in plurals)]
    )
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
    )


def _meta(reader: Reader, value: object, key: str) -> Target | None:
    """Read [mapping.meta]: only `created` can come from the source; lastModified is the time of publication."""
    if not isinstance(value, dict) or _is_rule(value):
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
    return _target(reader, AttributePath("meta", "created"), attribute, stated, f"{key}.created")


def _check_once(reader: Reader, key: str, names: Iterable[str]) -> None:
    """Note every name that stands there a second time, compared without case."""
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            reader.problem(key, f"{name} twice", "each attribute at most once")
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
    if attribute.name == "manager" and (isinstance(value, str) or _is_rule(value)):
        value = {"value": value}
    if not isinstance(value, dict) or _is_rule(value):
        names = ", ".join(sub.name for sub in attribute.sub_attributes)
        reader.problem(key, shown(value), f"a table of its sub-attributes ({names})")
        return
    for name, inner in value.items():
        sub = attribute.sub("value" if attribute.name == "manager" and name == "managerId" else name)
        if sub is None:
            reader.unknown(f"{key}.{name}", name, (item.name for item in attribute.sub_attributes))
        elif target := _target(reader, AttributePath(attribute.name, sub.name, urn), sub, inner, f"{key}.{name}"):
            yield target


def _extension(reader: Reader, name: str, table: object, key: str) -> Iterator[Target]:
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
            elif target := _target(reader, AttributePath(attribute.name, urn=urn), attribute, value, inner_key):
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
        kind = (value.get("type") if isinstance(value, dict) else None) or STRING
        exact = Attribute(
            inner_name,
            STRING if kind == "uniqueidentifier" else str(kind),
            case_exact=kind == "binary",
            description="A custom attribute.",
        )
        if target := _target(reader, AttributePath(inner_name, urn=urn), exact, value, inner_key):
            yield target


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
        elif target := _target(reader, AttributePath(attribute.name, sub.name), sub, value, f"{key}.{name}"):
            targets.append(target)
    _check_once(reader, key, (target.path.sub for target in targets))
    if has_value and not any(name.casefold() == "value" for name in entry):
        reader.problem(key, "no value", 'a value, for example value = "email"')
        return None
    if not targets:
        return None
    return PluralItem(targets=tuple(targets), type=kind if isinstance(kind, str) else None, primary=primary)


def _is_rule(value: object) -> bool:
    return isinstance(value, dict) and bool(RULE_MARKS.intersection(value))


def _target(reader: Reader, path: AttributePath, attribute: Attribute, value: object, key: str) -> Target | None:
    rule = _rule(reader, attribute, value, key)
    return None if rule is None else Target(path=path, attribute=attribute, rule=rule)


def _rule(reader: Reader, attribute: Attribute, value: object, key: str) -> Rule | None:
    """Read one rule: a column name, a template ("{a} {b}"), or a table."""
    if isinstance(value, str):
        if not value.strip():
            reader.problem(key, shown(value), "the name of a column")
            return None
        value = {"template": value} if "{" in value else {"column": value}
    if not isinstance(value, dict):
        reader.problem(key, shown(value), 'a column ("first_name"), a template ("{first} {last}") or a table')
        return None
    rule = reader.struct(Rule, value, key)
    if rule is None:
        return None
    before = len(reader.problems)
    _check_rule(reader, attribute, rule, key, value)
    return rule if len(reader.problems) == before else None


def _check_rule(reader: Reader, attribute: Attribute, rule: Rule, key: str, table: dict[str, Any]) -> None:
    given = [name for name in ("column", "constant", "template") if getattr(rule, name) is not None]
    if len(given) != 1:
        reader.problem(key, " and ".join(given) or "none of them", "exactly one of column, constant and template")
    if rule.template is not None:
        try:
            if not any(column for _, column in template_parts(rule.template)):
                reader.problem(f"{key}.template", shown(rule.template), "at least one {column} (or use constant)")
        except ValueError as error:
            reader.problem(f"{key}.template", str(error), 'text with {column} in it, for example "{first} {last}"')
    if rule.type and rule.type != attribute.type and not (rule.type == "uniqueidentifier" and attribute.type == STRING):
        reader.problem(f"{key}.type", shown(rule.type), f"{attribute.type}, the type of {attribute.name} (or no type)")
    if attribute.type != "boolean" and (rule.true_values is not None or rule.false_values is not None):
        reader.problem(key, "true/false values", f"them only for a boolean; {attribute.name} is {attribute.type}")
    if isinstance(rule.unmapped, bool) and attribute.type != "boolean":
        reader.problem(f"{key}.unmapped", shown(rule.unmapped), '"reject", "keep" or "omit"')
    if "unmapped" in table and rule.values is None and attribute.type != "boolean":
        reader.problem(f"{key}.unmapped", shown(rule.unmapped), "it only beside values or on a boolean")
    for name in ("format", "timezone"):
        if attribute.type != DATE_TIME and getattr(rule, name) is not None:
            found = shown(getattr(rule, name))
            reader.problem(f"{key}.{name}", found, f"it only for a dateTime; {attribute.name} is {attribute.type}")
    if rule.optional and (rule.column is None or rule.required or attribute.required):
        expected = "it only beside column, for an attribute that may be missing"
        reader.problem(f"{key}.optional", "true (boolean)", expected)
    if attribute.type == BOOLEAN and rule.values is not None:
        _check_boolean_values(reader, rule, key)
    _check_constants(reader, attribute, rule, key)
    if rule.timezone is not None:
        check_timezone(reader, rule.timezone, f"{key}.timezone")
    overlap = _folded(rule.true_values) & _folded(rule.false_values)
    if overlap:
        reader.problem(key, f"{min(overlap)} as true and as false", "each value on one side only")


def _check_boolean_values(reader: Reader, rule: Rule, key: str) -> None:
    """The values of a boolean lead to true or false, never to a text that would be guessed about."""
    if rule.true_values is not None or rule.false_values is not None:
        reader.problem(f"{key}.values", "values beside true or false", "one of the two ways to state a boolean")
    for name, value in (rule.values or {}).items():
        if not isinstance(value, bool):
            reader.problem(f'{key}.values."{name}"', shown(value), "true or false")


def _check_constants(reader: Reader, attribute: Attribute, rule: Rule, key: str) -> None:
    """A constant or a default of a typed attribute must have that type: nothing is guessed from it."""
    wanted: dict[str, tuple[type, ...]] = {"boolean": (bool,), "integer": (int,), "decimal": (int, float)}
    kinds = wanted.get(attribute.type, (str, int, float, bool) if attribute.type == STRING else (str,))
    for name in ("constant", "default"):
        value = getattr(rule, name)
        if value is None:
            continue
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            reader.problem(f"{key}.{name}", shown(value), f"a value of type {attribute.type}")


def _folded(values: tuple[Scalar, ...] | None) -> set[str]:
    return {boolean_key(value) for value in values or ()}


def boolean_key(value: object) -> str:
    """Return the text by which true and false values are compared: no case, no outer blanks, 1.0 is 1."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().casefold()


def check_timezone(reader: Reader, name: str, key: str) -> None:
    """Note a problem unless `name` is a time zone of the IANA database."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        reader.problem(key, shown(name), "an IANA time zone, for example Europe/Paris or UTC")
