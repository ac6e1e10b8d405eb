"""The words of a filter: names, operators, brackets, and values as JSON writes them, or real clients do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from snapshot.errors import FilterError
from snapshot.scim import DecimalText

# A number with a fraction or an exponent is kept as written: a float would lose digits.
Literal = str | int | bool | DecimalText | None

_MAX_INT_DIGITS = 400
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<curly>[\u201c\u201d\u201e\u201f\u2033]
          (?:[^"\\\u201c\u201d\u201e\u201f\u2033]|\\.)*
          ["\u201c\u201d\u201e\u201f\u2033])
      | (?P<mark>[()\[\]])
      | (?P<moment>['\u2018\u2019\u201a\u201b]?
          [0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?:[.,][0-9]+)?
          (?:[Zz]|[+-][0-9]{2}:?[0-9]{2}|[ ][0-9]{2}:?[0-9]{2})?
          ['\u2018\u2019\u201b]?(?=[\s()\[\]]|\Z))
      | (?P<word>[^\s()\[\]"\u201c\u201d\u201e\u201f\u2033]+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\Z")
_SINGLE_QUOTED = re.compile(r"['\u2018\u2019\u201a\u201b](.*)['\u2018\u2019\u201b]\Z")
_INSTANT = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:[Tt ](?P<time>\d{2}:\d{2}(?::\d{2})?)(?:[.,](?P<fraction>\d+))?)?"
    # A + that was not percent-encoded comes as a blank.
    r"(?:\s*(?P<zone>[Zz]|[+-]\d{2}:?\d{2})|(?P<blank>[ ]\d{2}:?\d{2}))?\Z",
    re.ASCII,
)
_WORDS: dict[str, Literal] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Token:
    """One word, text or bracket of a filter; kind is word, string or mark."""

    kind: str
    text: str
    position: int


def tokens_of(text: str) -> list[Token]:
    """Split a filter into tokens; FilterError for a quote that is not closed, and for no token at all."""
    tokens: list[Token] = []
    position = 0
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
        elif kind == "moment":
            kind = "word"  # as any other date without double quotes, only that blanks belong to it
        tokens.append(Token(kind, value, match.start(match.lastgroup or 0)))
        position = match.end()
    if not tokens:
        raise FilterError("The filter is empty.", position=0)
    return tokens


def literal_of(token: Token) -> Literal:
    """Return the value that a token says: text, number, true, false, null, or a date without quotes (its text)."""
    if token.kind == "string":
        try:
            return str(orjson.loads(token.text))
        except orjson.JSONDecodeError:
            raise FilterError(
                f"The text at position {token.position} is not a JSON string.", position=token.position
            ) from None
    if token.kind == "word":
        folded = token.text.casefold()
        if folded in _WORDS:
            return _WORDS[folded]
        if (number := parse_number(token.text)) is not None:
            return number
        single = _SINGLE_QUOTED.match(token.text)
        instant = single[1] if single else token.text
        if parse_instant(instant) is not None:
            return instant
    raise FilterError(
        f'{token.text!r} at position {token.position} is not a value: write text in double quotes ("…").',
        position=token.position,
    )


def parse_number(text: str) -> int | DecimalText | None:
    """Return the number that JSON reads in a text; None if there is none."""
    if not _NUMBER.match(text):
        return None
    is_plain = len(text) <= _MAX_INT_DIGITS and not set("eE.") & set(text) and text != "-0"
    return int(text) if is_plain else DecimalText(text)


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
    since = moment - datetime(1970, 1, 1, tzinfo=UTC) - offset
    return since // timedelta(microseconds=1) + fraction
