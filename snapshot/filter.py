"""Filter text to a Filter tree (RFC 7644 section 3.4.2.2; SCIM Protocol 1.1 section 3.2.2.1).

No evaluation here: `snapshot.selection` turns a tree into ordinals. Lenient where real clients are:
curly quotes, dates without quotes or in single ones, attribute names and operators in any case, `email` for `emails`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from snapshot.definitions import CORE_URNS, any_definition
from snapshot.errors import FilterError
from snapshot.scim import CORE_1_1, ENTERPRISE_1_1, ENTERPRISE_2_0, AttributePath, canonical_urn
from snapshot.tokens import Literal, Token, literal_of, parse_instant, tokens_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snapshot.schema import Attribute

# A filter of an import has some 60 characters; one of 200 ORed addresses some 10,000.
MAX_LENGTH = 16_384
MAX_DEPTH = 50
MAX_TERMS = 1_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """`path op value`; op is one of eq ne co sw ew gt ge lt le, in lower case."""

    path: AttributePath
    op: str
    value: Literal
    position: int = 0


@dataclass(frozen=True, slots=True)
class Present:
    """`path pr`."""

    path: AttributePath
    position: int = 0


@dataclass(frozen=True, slots=True)
class And:
    """Both sides hold."""

    left: Filter
    right: Filter


@dataclass(frozen=True, slots=True)
class Or:
    """At least one side holds."""

    left: Filter
    right: Filter


@dataclass(frozen=True, slots=True)
class Not:
    """The inner filter does not hold."""

    inner: Filter
    position: int = 0


@dataclass(frozen=True, slots=True)
class ValuePath:
    """`path[inner]`: one value of the attribute fulfils the inner filter, whose paths are names of sub-attributes."""

    path: AttributePath
    inner: Filter
    position: int = 0


Filter = Comparison | Present | And | Or | Not | ValuePath


@dataclass(frozen=True, slots=True)
class Sort:
    """The order of a list (RFC 7644 section 3.4.2.3): by the value of an attribute."""

    path: AttributePath
    descending: bool = False


OPERATORS = frozenset({"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"})
_PLAIN_EQUAL = re.compile(
    r'([A-Za-z][A-Za-z0-9.]{0,63})[ ]+[eE][qQ][ ]+"([^"\\\x00-\x1f\u201c-\u201f\u2033\ud800-\udfff]*)"[ ]*\Z'
)
_NAME = re.compile(r"[A-Za-z$][A-Za-z0-9_$-]*\Z")
# Names that clients use for others: Okta writes `email eq`, SCIM 1.1 says manager.managerId.
_ALIASES = {"email": "emails", "phonenumber": "phoneNumbers", "address": "addresses"}


def parse_filter(text: str, extension_urns: Sequence[str] = ()) -> Filter:
    """Parse a filter; `extension_urns` are the custom extensions in use. Raises FilterError."""
    if len(text) > MAX_LENGTH:
        raise FilterError(f"The filter has {len(text)} characters; at most {MAX_LENGTH} are read.")
    if (plain := plain_equal(text, extension_urns)) is not None:
        return plain
    return _Parser(tokens_of(text), extension_urns).parse()


def plain_equal(text: str, extension_urns: Sequence[str] = ()) -> Comparison | None:
    """Parse `attribute eq "text"`, which clients send for every user; None if it is any other filter, or too long.

    Raises FilterError for an attribute that there cannot be.
    """
    match = _PLAIN_EQUAL.match(text) if len(text) <= MAX_LENGTH else None
    return None if match is None else Comparison(_known_path(match[1], tuple(extension_urns)), "eq", match[2])


@lru_cache(maxsize=256)
def _known_path(text: str, extension_urns: tuple[str, ...]) -> AttributePath:
    return resolve_path(text, known_urns(extension_urns))


class _Parser:
    """Recursive descent over the tokens: or < and < not < term."""

    def __init__(self, tokens: list[Token], extension_urns: Sequence[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._terms = 0
        self._urns = known_urns(extension_urns)
        # The attribute whose value path is being read: names in it are those of its sub-attributes.
        self._outer: AttributePath | None = None

    def parse(self) -> Filter:
        tree = self._or(depth=0)
        if (token := self._peek()) is not None:
            raise FilterError(f"Unexpected {token.text!r} at position {token.position}.", position=token.position)
        return tree

    def _peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self, expected: str) -> Token:
        token = self._peek()
        if token is None:
            last = self._tokens[-1]
            end = last.position + len(last.text)
            raise FilterError(f"The filter ends at position {end} where {expected} was expected.", position=end)
        self._at += 1
        return token

    def _keyword(self, word: str) -> bool:
        token = self._peek()
        if token is not None and token.kind == "word" and token.text.casefold() == word:
            self._at += 1
            return True
        return False

    def _mark(self, mark: str) -> bool:
        token = self._peek()
        if token is not None and token.kind == "mark" and token.text == mark:
            self._at += 1
            return True
        return False

    def _or(self, depth: int) -> Filter:
        terms = [self._and(depth)]
        while self._keyword("or"):
            terms.append(self._and(depth))
        return _balanced(Or, terms)

    def _and(self, depth: int) -> Filter:
        terms = [self._term(depth)]
        while self._keyword("and"):
            terms.append(self._term(depth))
        return _balanced(And, terms)

    def _term(self, depth: int) -> Filter:
        token = self._next("an attribute")
        if depth > MAX_DEPTH:
            raise FilterError(
                f"The filter is nested deeper than {MAX_DEPTH} levels at position {token.position}.",
                position=token.position,
            )
        if token.text == "(" and token.kind == "mark":
            return self._closed(")", depth)
        if token.kind != "word":
            raise FilterError(
                f"{token.text!r} at position {token.position} is not the name of an attribute.",
                position=token.position,
            )
        if token.text.casefold() == "not" and self._mark("("):
            return Not(self._closed(")", depth), token.position)
        if self._outer is not None:
            path = _inner_path(self._outer, token.text, token.position)
        else:
            path = resolve_path(token.text, self._urns, token.position)
        if self._mark("["):
            return self._value_path(path, token.position, depth)
        return self._comparison(path, token.position)

    def _closed(self, mark: str, depth: int) -> Filter:
        tree = self._or(depth + 1)
        token = self._next(f"a {mark}")
        if token.kind != "mark" or token.text != mark:
            raise FilterError(f"A {mark} was expected at position {token.position}.", position=token.position)
        return tree

    def _value_path(self, path: AttributePath, position: int, depth: int) -> Filter:
        if self._outer is not None:
            raise FilterError(f"A value path within another, at position {position}.", position=position)
        self._outer = path
        inner = self._closed("]", depth)
        self._outer = None
        token = self._peek()
        if token is None or token.kind != "word" or not token.text.startswith("."):
            return ValuePath(path, inner, position)
        self._at += 1
        return _of_chosen(path, inner, self._comparison(_inner_path(path, token.text[1:], token.position), position))

    def _comparison(self, path: AttributePath, position: int) -> Present | Comparison:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise FilterError(
                f"The filter has more than {MAX_TERMS} comparisons; the next is at position {position}.",
                position=position,
            )
        token = self._next(f"an operator after {path}")
        operator = token.text.casefold()
        if token.kind == "word" and operator == "pr":
            return Present(path, position)
        if token.kind != "word" or operator not in OPERATORS:
            raise FilterError(
                f"{token.text!r} at position {token.position} is not an operator (eq, gt, and so on).",
                position=token.position,
            )
        return Comparison(path, operator, literal_of(self._next("a value")), position)


def _inner_path(outer: AttributePath, text: str, position: int) -> AttributePath:
    """Turn a name within `outer[…]` into the path of a sub-attribute, in the spelling of the schema."""
    if not _NAME.match(text):
        raise FilterError(f"{text!r} at position {position} is not the name of a sub-attribute.", position=position)
    return AttributePath(_sub_name(any_definition(outer.name, outer.urn), text))


def _of_chosen(path: AttributePath, chosen: Filter, term: Present | Comparison) -> Filter:
    """Return the filter that `path[chosen].sub op value` means: the sub-attribute of the values chosen, if any.

    The rules are those of other multi-valued attributes: null is having none, and `ne` counts having none as null.
    """
    position = term.position
    if isinstance(term, Comparison) and term.value is None and term.op in {"eq", "ne"}:
        present = ValuePath(path, And(chosen, Present(term.path, position)), position)
        return present if term.op == "ne" else Not(present, position)
    some = ValuePath(path, And(chosen, term), position)
    if isinstance(term, Comparison) and term.op == "ne":
        return Or(some, Not(ValuePath(path, chosen, position), position))
    return some


def _balanced(kind: type[And | Or], terms: list[Filter]) -> Filter:
    """Join terms into a tree of logarithmic depth, so that 1,000 ORed terms need no deep recursion."""
    while len(terms) > 1:
        terms = [kind(*terms[at : at + 2]) if at + 1 < len(terms) else terms[at] for at in range(0, len(terms), 2)]
    return terms[0]


def known_urns(extension_urns: Sequence[str]) -> tuple[str, ...]:
    """Return every URN that may stand before an attribute, longest first."""
    urns = (*CORE_URNS, ENTERPRISE_1_1, ENTERPRISE_2_0, *extension_urns)
    return tuple(sorted(set(urns), key=len, reverse=True))


def resolve_path(text: str, urns: Sequence[str], position: int = 0) -> AttributePath:
    """Turn an attribute as written into its canonical path; names of the schema get their own spelling.

    A URN stands before the name with a colon, or with a dot as Okta writes it. The one of SCIM 1.1 is that of every
    core schema; one of SCIM 2.0 stays with the path.
    """
    urn, core, name = "", "", text
    if text[:4].casefold() == "urn:":
        urn = next((item for item in urns if _begins_with(text, item)), "")
        if not urn:
            raise FilterError(f"{text!r} at position {position} begins with no URN known here.", position=position)
        name = text[len(urn) + 1 :]
        core = urn if urn in CORE_URNS and urn != CORE_1_1 else ""
        urn = "" if urn in CORE_URNS else canonical_urn(urn)
    first, dot, sub = name.partition(".")
    if not _NAME.match(first) or (dot and not _NAME.match(sub)):
        raise FilterError(f"{text!r} at position {position} is not the name of an attribute.", position=position)
    first = _ALIASES.get(first.casefold(), first) if not urn else first
    attribute = any_definition(first, urn)
    if attribute is None:
        return AttributePath(first, sub, urn, core)
    return AttributePath(attribute.name, _sub_name(attribute, sub), urn, core)


def _begins_with(text: str, urn: str) -> bool:
    return text[: len(urn)].casefold() == urn.casefold() and text[len(urn) : len(urn) + 1] in {":", "."}


def _sub_name(attribute: Attribute | None, name: str) -> str:
    """Return the schema's spelling of a sub-attribute; SCIM 1.1 writes manager.value as manager.managerId."""
    if attribute is None:
        return name
    if attribute.name == "manager" and name.casefold() == "managerid":
        return "value"
    found = attribute.sub(name)
    return found.name if found else name


__all__ = [
    "And", "Comparison", "Filter", "Literal", "Not", "Or", "Present", "Sort", "ValuePath", "known_urns", "parse_filter",
    "parse_instant", "resolve_path",
]  # fmt: skip
