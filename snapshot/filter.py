"""Filter text to a Filter tree (RFC 7644 section 3.4.2.2; SCIM Protocol 1.1 section 3.2.2.1).

No evaluation here: `snapshot.selection` turns a tree into ordinals. Lenient where real clients are:
curly quotes, dates without quotes or in single ones, attribute names and operators in any case, `email` for `emails`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING

import orjson

from snapshot.errors import FilterError
from snapshot.schema import ENTERPRISE_ATTRIBUTES, EXTERNAL_ID, ID, USER_ATTRIBUTES, find_attribute
from snapshot.scim import (
    CORE_1_1,
    ENTERPRISE_1_1,
    ENTERPRISE_2_0,
    GROUP_2_0,
    USER_2_0,
    AttributePath,
    canonical_urn,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

# A filter of an import has some 60 characters; one of 200 ORed addresses some 10,000.
MAX_LENGTH = 16_384
MAX_DEPTH = 50
MAX_TERMS = 1_000

Literal = str | int | float | bool | None


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
    """`path[inner]`: one value of a multi-valued attribute fulfils the inner filter."""

    path: AttributePath
    inner: Filter
    position: int = 0


Filter = Comparison | Present | And | Or | Not | ValuePath

OPERATORS = frozenset({"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"})
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<curly>[\u201c\u201d\u201e\u201f\u2033]
          (?:[^"\\\u201c\u201d\u201e\u201f\u2033]|\\.)*
          ["\u201c\u201d\u201e\u201f\u2033])
      | (?P<mark>[()\[\]])
      | (?P<word>[^\s()\[\]"\u201c\u201d\u201e\u201f\u2033]+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN_EQUAL = re.compile(r'([A-Za-z][A-Za-z0-9.]{0,63})[ ]+[eE][qQ][ ]+"([^"\\\x00-\x1f\u201c-\u201f\u2033]*)"[ ]*\Z')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\Z")
_SINGLE_QUOTED = re.compile(r"['\u2018\u2019\u201a\u201b](.*)['\u2018\u2019\u201b]\Z")
_NAME = re.compile(r"[A-Za-z$][A-Za-z0-9_$-]*\Z")
_INSTANT = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:[Tt ](?P<time>\d{2}:\d{2}(?::\d{2})?)(?:[.,](?P<fraction>\d+))?)?"
    # A + that was not percent-encoded comes as a blank.
    r"(?:\s*(?P<zone>[Zz]|[+-]\d{2}:?\d{2})|(?P<blank>[ ]\d{2}:?\d{2}))?\Z",
    re.ASCII,
)
# Names that clients use for others: Okta writes `email eq`, SCIM 1.1 says manager.managerId.
_ALIASES = {"email": "emails", "phonenumber": "phoneNumbers", "address": "addresses"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def parse_filter(text: str, extension_urns: Sequence[str] = ()) -> Filter:
    """Parse a filter; `extension_urns` are the custom extensions in use. Raises FilterError."""
    if len(text) > MAX_LENGTH:
        raise FilterError(f"The filter has {len(text)} characters; at most {MAX_LENGTH} are read.")
    # The filter that every client sends for every user needs no parser: attribute eq "text".
    if (match := _PLAIN_EQUAL.match(text)) is not None:
        return Comparison(_known_path(match[1], tuple(extension_urns)), "eq", match[2])
    return _Parser(_tokens(text), extension_urns).parse()


@lru_cache(maxsize=256)
def _known_path(text: str, extension_urns: tuple[str, ...]) -> AttributePath:
    return resolve_path(text, known_urns(extension_urns))


def parse_instant(text: str) -> int | None:
    """Return a date or date-time as microseconds since 1970-01-01T00:00Z; None if it is none.

    Without a zone it is UTC; digits beyond microseconds are cut; an offset after a blank is one after a plus.

    >>> parse_instant("1970-01-01T00:00:01.5Z")
    1500000
    """
    match = _INSTANT.match(text.strip())
    if match is None:
        return None
    try:
        moment = datetime.fromisoformat(f"{match['date']}T{match['time'] or '00:00'}").replace(tzinfo=UTC)
    except ValueError:
        return None
    offset = timedelta()
    zone = match["zone"] or match["blank"]
    if zone and zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        if hours > 23 or minutes > 59:  # noqa: PLR2004
            return None
        offset = timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)
    fraction = int(((match["fraction"] or "0") + "000000")[:6])
    since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc) - offset  # noqa: UP017
    return since // timedelta(microseconds=1) + fraction


def _tokens(text: str) -> list[_Token]:
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            raise FilterError(f"The text that begins at position {start} is not closed by a quote.", position=start)
        kind = match.lastgroup or ""
        value = match.group(kind)
        if kind == "curly":
            # A user may well have copied the filter from a help page that prints typographic quotes.
            kind, value = "string", '"' + value[1:-1] + '"'
        tokens.append(_Token(kind, value, match.start(match.lastgroup or 0)))
        position = match.end()
    if not tokens:
        raise FilterError("The filter is empty.", position=0)
    return tokens


class _Parser:
    """Recursive descent over the tokens: or < and < not < term."""

    def __init__(self, tokens: list[_Token], extension_urns: Sequence[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._terms = 0
        self._urns = known_urns(extension_urns)

    def parse(self) -> Filter:
        tree = self._or(depth=0)
        if (token := self._peek()) is not None:
            raise FilterError(f"Unexpected {token.text!r} at position {token.position}.", position=token.position)
        return tree

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self, expected: str) -> _Token:
        token = self._peek()
        if token is None:
            raise FilterError(f"The filter ends where {expected} was expected.")
        self._at += 1
        return token

    def _keyword(self, word: str) -> bool:
        token = self._peek()
        if token is not None and token.kind == "word" and token.text.casefold() == word:
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
        if depth > MAX_DEPTH:
            raise FilterError(f"The filter is nested deeper than {MAX_DEPTH} levels.")
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise FilterError(f"The filter has more than {MAX_TERMS} comparisons.")
        token = self._next("an attribute")
        if token.text == "(" and token.kind == "mark":
            return self._closed(")", depth)
        if token.kind != "word":
            raise FilterError(
                f"{token.text!r} at position {token.position} is not the name of an attribute.",
                position=token.position,
            )
        following = self._peek()
        if token.text.casefold() == "not" and following is not None and following.text == "(":
            self._at += 1
            return Not(self._closed(")", depth), token.position)
        path = resolve_path(token.text, self._urns, token.position)
        if following is not None and following.kind == "mark" and following.text == "[":
            self._at += 1
            return ValuePath(path, self._closed("]", depth), token.position)
        return self._comparison(path, token)

    def _closed(self, mark: str, depth: int) -> Filter:
        tree = self._or(depth + 1)
        token = self._next(f"a {mark}")
        if token.kind != "mark" or token.text != mark:
            raise FilterError(f"A {mark} was expected at position {token.position}.", position=token.position)
        return tree

    def _comparison(self, path: AttributePath, name: _Token) -> Filter:
        token = self._next(f"an operator after {name.text}")
        operator = token.text.casefold()
        if operator == "pr":
            return Present(path, name.position)
        if operator not in OPERATORS:
            raise FilterError(
                f"{token.text!r} at position {token.position} is not an operator (eq, gt, and so on).",
                position=token.position,
            )
        return Comparison(path, operator, self._literal(), name.position)

    def _literal(self) -> Literal:
        token = self._next("a value")
        if token.kind == "string":
            try:
                value = orjson.loads(token.text)
            except orjson.JSONDecodeError:
                raise FilterError(
                    f"The text at position {token.position} is not a JSON string.", position=token.position
                ) from None
            return str(value)
        folded = token.text.casefold()
        words: dict[str, Literal] = {"true": True, "false": False, "null": None}
        if token.kind == "word" and folded in words:
            return words[folded]
        if token.kind == "word" and _NUMBER.match(token.text):
            return float(token.text) if set("eE.") & set(token.text) else int(token.text[:400])
        if token.kind == "word":
            single = _SINGLE_QUOTED.match(token.text)
            instant = single[1] if single else token.text
            if parse_instant(instant) is not None:
                return instant
        raise FilterError(
            f'{token.text!r} at position {token.position} is not a value: write text in double quotes ("…").',
            position=token.position,
        )


def _balanced(kind: type[And | Or], terms: list[Filter]) -> Filter:
    """Join terms into a tree of logarithmic depth, so that 1,000 ORed terms need no deep recursion."""
    while len(terms) > 1:
        terms = [kind(*terms[at : at + 2]) if at + 1 < len(terms) else terms[at] for at in range(0, len(terms), 2)]
    return terms[0]


def known_urns(extension_urns: Sequence[str]) -> tuple[str, ...]:
    """Return every URN that may stand before an attribute, longest first."""
    urns = (USER_2_0, CORE_1_1, GROUP_2_0, ENTERPRISE_1_1, ENTERPRISE_2_0, *extension_urns)
    return tuple(sorted(set(urns), key=len, reverse=True))


def resolve_path(text: str, urns: Sequence[str], position: int = 0) -> AttributePath:
    """Turn an attribute as written into its canonical path; names of the schema get their own spelling.

    A URN stands before the name with a colon, or with a dot as Okta writes it.
    """
    urn, name = "", text
    folded = text.casefold()
    if folded.startswith("urn:"):
        urn = next(
            (
                item
                for item in urns
                if folded.startswith(item.casefold()) and text[len(item) : len(item) + 1] in {":", "."}
            ),
            "",
        )
        if not urn:
            raise FilterError(f"{text!r} at position {position} begins with no URN known here.", position=position)
        name = text[len(urn) + 1 :]
        urn = "" if urn in {USER_2_0, CORE_1_1, GROUP_2_0} else canonical_urn(urn)
    first, dot, sub = name.partition(".")
    if not _NAME.match(first) or (dot and not _NAME.match(sub)):
        raise FilterError(f"{text!r} at position {position} is not the name of an attribute.", position=position)
    if urn and urn != ENTERPRISE_2_0:
        return AttributePath(first, sub, urn)
    first = _ALIASES.get(first.casefold(), first) if not urn else first
    attribute = find_attribute(ENTERPRISE_ATTRIBUTES if urn else (ID, EXTERNAL_ID, *USER_ATTRIBUTES), first)
    if attribute is None:
        special = {"meta": "meta", "groups": "groups", "members": "members"}.get(first.casefold(), first)
        meta_subs = {"lastmodified": "lastModified", "created": "created", "resourcetype": "resourceType"}
        return AttributePath(special, meta_subs.get(sub.casefold(), sub), urn)
    if sub:
        if attribute.name == "manager" and sub.casefold() == "managerid":
            sub = "value"
        known = attribute.sub(sub)
        sub = known.name if known else sub
    elif attribute.sub("value"):
        sub = "value"  # RFC 7644 section 3.4.2.2: the simple form of a complex attribute means its value
    return AttributePath(attribute.name, sub, urn)
