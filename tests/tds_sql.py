"""Enough of T-SQL's grammar for a test server: tokens, statements, EXEC and its literals."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
      |(?P<string>N?'(?:[^']|'')*')
      |(?P<quoted>\[(?:[^\]]|\]\])*\]|"(?:[^"]|"")*")
      |(?P<hex>0x[0-9A-F]*)
      |(?P<number>\d+(?:\.\d*)?(?:E[+-]?\d+)?|\.\d+)
      |(?P<variable>@@?[\w$\#@]+)
      |(?P<word>[^\W\d][\w$\#@]*|\#\#?\w+)
      |(?P<sign><>|<=|>=|!=|.)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


class SqlError(Exception):
    """An error the server answers with an ERROR token."""

    def __init__(self, number: int, message: str, *, severity: int = 16, state: int = 1) -> None:
        super().__init__(f"{number}: {message}")
        self.number = number
        self.message = message
        self.severity = severity
        self.state = state


class Token(NamedTuple):
    """One lexical token; `text` is as written, `start` its place in the SQL it came from."""

    kind: str
    text: str
    start: int = 0

    @property
    def upper(self) -> str:
        """The word in capitals; empty for anything that is not a bare word."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def is_name(self) -> bool:
        return self.kind in {"word", "quoted"}

    @property
    def name(self) -> str:
        """The identifier without its quotes."""
        if self.kind != "quoted":
            return self.text
        end = self.text[-1]
        return self.text[1:-1].replace(end * 2, end)

    @property
    def string(self) -> str:
        """The value of a string literal."""
        return self.text[self.text.index("'") + 1 : -1].replace("''", "'")


def tokenize(sql: str) -> list[Token]:
    """Cut into tokens, without white space and comments."""
    found = (Token(match.lastgroup or "", match[0], match.start()) for match in _TOKEN.finditer(sql))
    return [token for token in found if token.kind != "space"]


def closing(tokens: list[Token], opening: int) -> int:
    """Return the index of the parenthesis that closes the one at `opening`."""
    depth = 0
    for index in range(opening, len(tokens)):
        depth += (tokens[index].text == "(") - (tokens[index].text == ")")
        if depth == 0:
            return index
    raise SqlError(102, "Incorrect syntax near '('.", severity=15)


def split_commas(tokens: list[Token]) -> list[list[Token]]:
    """Split at the commas outside parentheses."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.text == "(") - (token.text == ")")
        if token.text == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts if parts != [[]] else []


def text_of(tokens: list[Token], sql: str) -> str:
    """Return the part of the SQL that consecutive tokens were cut from."""
    return sql[tokens[0].start : tokens[-1].start + len(tokens[-1].text)] if tokens else ""


_STARTERS = frozenset(
    {"ALTER", "BEGIN", "COMMIT", "CREATE", "DECLARE", "DELETE", "DROP", "EXEC", "EXECUTE", "GRANT", "IF",
     "INSERT", "MERGE", "PRINT", "RAISERROR", "ROLLBACK", "SAVE", "SELECT", "SET", "TRUNCATE", "UPDATE",
     "USE", "WAITFOR", "WITH"}
)  # fmt: skip
_SELECT_CONTINUES = frozenset({"UNION", "ALL", "EXCEPT", "INTERSECT"})


def split_statements(sql: str) -> list[list[Token]]:
    """Split a batch into statements at semicolons and at words that only start a statement."""
    statements: list[list[Token]] = [[]]
    depth = 0
    tokens = tokenize(sql)
    for index, token in enumerate(tokens):
        depth += (token.text == "(") - (token.text == ")")
        current = statements[-1]
        if depth == 0 and token.text == ";":
            statements.append([])
        elif depth == 0 and current and _starts(token, current, tokens[index + 1 : index + 2]):
            statements.append([token])
        else:
            current.append(token)
    return [statement for statement in statements if statement]


def _starts(token: Token, current: list[Token], following: list[Token]) -> bool:
    word, first, previous = token.upper, current[0].upper, current[-1]
    if word not in _STARTERS or (following and following[0].text == "."):
        return False
    if word == "SELECT":
        if previous.upper in _SELECT_CONTINUES:
            return False
        holds_select = any(part.upper == "SELECT" for part in _top_level(current))
        return first not in {"WITH", "INSERT"} or holds_select
    if word == "WITH":
        return not (following and following[0].text == "(") and first != "CREATE"
    if word == "SET":
        return first not in {"UPDATE", "MERGE", "ALTER"}
    if first == "IF":
        return False
    return word not in {"UPDATE", "DELETE", "INSERT"} or first not in {"MERGE", "GRANT"}


def _top_level(tokens: list[Token]) -> list[Token]:
    depth, found = 0, []
    for token in tokens:
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0:
            found.append(token)
    return found


def literal(tokens: list[Token], variables: dict[str, Any]) -> Any:
    """Evaluate a literal or variable, as EXEC, DECLARE and SET allow them."""
    sign = 1
    if tokens and tokens[0].text in {"-", "+"}:
        sign = -1 if tokens[0].text == "-" else 1
        tokens = tokens[1:]
    if len(tokens) == 1:
        token = tokens[0]
        if token.kind == "string":
            return token.string
        if token.kind == "hex":
            return bytes.fromhex(token.text[2:])
        if token.kind == "number":
            return sign * (int(token.text) if token.text.isdigit() else Decimal(token.text))
        if token.kind == "variable" and token.text.lower() in variables:
            return variables[token.text.lower()]
        if token.upper in {"NULL", "DEFAULT"}:
            return None
        if token.kind == "word":
            return token.text
        if token.kind == "variable":
            raise SqlError(137, f'Must declare the scalar variable "{token.text}".', severity=15, state=2)
    raise SqlError(102, f"Incorrect syntax near '{' '.join(token.text for token in tokens)}'.", severity=15)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a stored procedure: dotted name without quotes, and values by lower-case @name."""

    procedure: str
    named: dict[str, Any] = field(default_factory=dict)
    positional: tuple[Any, ...] = ()

    @property
    def short_name(self) -> str:
        """The last part of the name in lower case."""
        return self.procedure.rpartition(".")[2].lower()


def parse_exec(tokens: list[Token], variables: dict[str, Any]) -> Call:
    """Parse `EXEC [@status =] name [@p =] value, ...`."""
    rest = tokens[1:]
    if len(rest) > 1 and rest[0].kind == "variable" and rest[1].text == "=":
        rest = rest[2:]
    parts = []
    while rest and rest[0].is_name:
        parts.append(rest.pop(0).name)
        if not rest or rest[0].text != ".":
            break
        rest.pop(0)
    if not parts:
        raise SqlError(102, "Incorrect syntax near 'EXEC'.", severity=15)
    named, positional = {}, []
    for argument in split_commas(rest):
        words = [token for token in argument if token.upper not in {"OUTPUT", "OUT"}]
        if len(words) > 1 and words[1].text == "=":
            named[words[0].text.lower()] = literal(words[2:], variables)
        else:
            positional.append(literal(words, variables))
    return Call(".".join(parts), named, tuple(positional))
