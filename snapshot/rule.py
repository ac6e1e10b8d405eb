"""One rule of the configuration: which column, constant or template becomes one value, and how."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from snapshot.schema import BOOLEAN, DATE_TIME, STRING, Attribute
from snapshot.strict import shown

if TYPE_CHECKING:
    from snapshot.scim import AttributePath
    from snapshot.strict import Reader

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


_COLUMN_IN_TEMPLATE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")


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


def is_rule(value: object) -> bool:
    """Tell whether a table of the mapping is a rule; else it is a complex attribute."""
    return isinstance(value, dict) and bool(RULE_MARKS.intersection(value))


def read_target(reader: Reader, path: AttributePath, attribute: Attribute, value: object, key: str) -> Target | None:
    """Read the rule of one attribute; None if anything in it is wrong."""
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
