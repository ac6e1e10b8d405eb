"""Strict reading of TOML tables into frozen msgspec structs: every problem found, none guessed away.

msgspec checks each value; what it does not do is done here: all problems at once, the nearest known
name for an unknown key, and never the value of a secret.
"""

from __future__ import annotations

import difflib
import enum
import re
import typing
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from snapshot.errors import ConfigProblem
from snapshot.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

StructT = TypeVar("StructT", bound=msgspec.Struct)

_MAX_SHOWN = 60
# What people write for a SCIM name that its spelling would not lead to.
_SYNONYMS = {
    "firstname": "givenName",
    "lastname": "familyName",
    "surname": "familyName",
    "mail": "emails",
    "phone": "phoneNumbers",
    "mobile": "phoneNumbers",
}
# What msgspec calls a type, and what TOML calls it.
_MSGSPEC_NAMES = {"bool": "boolean", "int": "integer", "str": "string", "object": "table"}
_MSGSPEC_NAME = re.compile(rf"\b({'|'.join(_MSGSPEC_NAMES)})\b")
_TOML_NAMES = {
    bool: "boolean",
    int: "integer",
    float: "float",
    str: "string",
    list: "array",
    dict: "table",
}


def shown(value: object) -> str:
    """Return a value as a problem names it: its text, cut, and its TOML type."""
    if isinstance(value, dict):
        return "a table"
    text = repr(value)
    if isinstance(value, str):
        text = '"' + value + '"'
    elif isinstance(value, bool):
        text = str(value).lower()
    if len(text) > _MAX_SHOWN:
        text = text[: _MAX_SHOWN - 1] + "…"
    return f"{text} ({_TOML_NAMES.get(type(value), type(value).__name__)})"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ' (did you mean …?)' for the known name most like `name`, else all names if few."""
    names = list(known)
    folded = {item.casefold(): item for item in names}
    if (synonym := _SYNONYMS.get(name.casefold())) in names:
        return f" (did you mean {synonym}?)"
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f" (did you mean {folded[close[0]]}?)" if close else ""


class Reader:
    """Reads tables of one file; collects the problems. `named` tells what the file calls a key that is read."""

    def __init__(self, where: str, base: Path, *, named: Callable[[str], str] = str) -> None:
        self.where = where
        self.base = base
        self.named = named
        self.problems: list[ConfigProblem] = []

    def problem(self, key: str, found: str, expected: str) -> None:
        """Note one problem."""
        self.problems.append(ConfigProblem(self.where, self.named(key), found, expected))

    def unknown(self, key: str, name: str, known: Iterable[str]) -> None:
        """Note an unknown key, with the nearest known one."""
        names = sorted(known)
        hint = nearest(name, names) or f" ({', '.join(names)})"
        self.problem(key, "an unknown key", f"one of the known keys{hint}")

    def struct(self, kind: type[StructT], table: object, key: str) -> StructT | None:
        """Read one table into a struct of type `kind`; None if anything in it is wrong."""
        if not isinstance(table, dict):
            # In the place of a table with a secret in it may well stand the secret.
            is_secret = any(_without_none(field.type) is Secret for field in msgspec.structs.fields(kind))
            self.problem(key or "(top)", _kind_of(table) if is_secret else shown(table), "a table")
            return None
        before = len(self.problems)
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        for name in table:
            if name not in fields:
                self.unknown(_join(key, name), name, fields)
        values: dict[str, Any] = {}
        for name, field in fields.items():
            if name in table:
                values[field.name] = self.value(field.type, table[name], _join(key, name))
            elif field.required:
                self.problem(_join(key, name), "nothing", "a value (this key is required)")
        return kind(**values) if len(self.problems) == before else None

    def value(self, kind: Any, value: object, key: str) -> Any:
        """Read one value of the type `kind`: a struct, an array of structs, a secret or what msgspec knows."""
        inner = _without_none(kind)
        if inner is Secret:
            if isinstance(value, Secret):
                return value
            if not isinstance(value, str):
                self.problem(key, _kind_of(value), "a string")
                return None
            if value.startswith("${") and Secret(value).is_literal:
                # Not shown: it may be a password after all, which then has to stand in a file.
                self.problem(key, "a reference of no known kind", "${env:NAME}, ${file:PATH} or ${credential:NAME}")
                return None
            return Secret(value, base=self.base)
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            return self.struct(inner, value, key)
        item = typing.get_args(inner)[0] if typing.get_origin(inner) is tuple else None
        if isinstance(item, type) and issubclass(item, msgspec.Struct):
            if not isinstance(value, list):
                self.problem(key, shown(value), f"an array of tables ([[{self.named(key)}]])")
                return None
            return tuple(self.struct(item, entry, f"{key}[{place}]") for place, entry in enumerate(value, 1))
        try:
            return msgspec.convert(value, inner, strict=True)
        except msgspec.ValidationError as error:
            expected = str(error).split(" - at ")[0].removeprefix("Expected ").split(", got ")[0].replace("`", "")
            expected = expected.removesuffix(" | null")  # TOML has none
            expected = _MSGSPEC_NAME.sub(lambda match: _MSGSPEC_NAMES[match.group()], expected).replace(" | ", " or ")
            if expected.startswith("Invalid enum value"):
                expected = "one of " + ", ".join(_choices(inner))
            self.problem(key, shown(value), expected)
            return None


def _join(key: str, name: str) -> str:
    quoted = name if name.replace("_", "").replace("-", "").isalnum() else f'"{name}"'
    return f"{key}.{quoted}" if key else quoted


def _without_none(kind: Any) -> Any:
    """Return X for `X | None`, else the type itself."""
    options = [option for option in typing.get_args(kind) if option is not type(None)]
    is_optional = type(None) in typing.get_args(kind)
    return options[0] if is_optional and len(options) == 1 else kind


def _kind_of(value: object) -> str:
    return f"a value of type {_TOML_NAMES.get(type(value), type(value).__name__)}"


def _choices(kind: Any) -> list[str]:
    """Return the texts that a Literal, an enum or a union of them allows, as TOML writes them."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [f'"{item.value}"' for item in kind]
    if kind is bool:
        return ["true", "false"]
    inner = [
        _choices(item) if typing.get_origin(item) or isinstance(item, type) else [f'"{item}"']
        for item in typing.get_args(kind)
    ]
    return [text for texts in inner for text in texts]
