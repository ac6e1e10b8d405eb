"""A T-SQL SELECT of the simple kind to SQLite's dialect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tds_sql import SqlError, Token, closing, split_commas, tokenize

if TYPE_CHECKING:
    from collections.abc import Callable

_RENAMED = {
    "COUNT_BIG": "COUNT",
    "ISNULL": "IFNULL",
    "LEN": "tsql_len",
    "LEFT": "tsql_left",
    "RIGHT": "tsql_right",
    "UPPER": "tsql_upper",
    "LOWER": "tsql_lower",
}
_RESULT_TYPES = {
    "COUNT_BIG": "bigint",
    "COUNT": "int",
    "LEN": "int",
    "DB_ID": "smallint",
    "OBJECT_ID": "int",
    "SYSUTCDATETIME": "datetime2(7)",
    "SYSDATETIME": "datetime2(7)",
    "SYSDATETIMEOFFSET": "datetimeoffset(7)",
    "GETDATE": "datetime",
    "GETUTCDATE": "datetime",
    "NEWID": "uniqueidentifier",
    "DATABASEPROPERTYEX": "sql_variant",
    "SERVERPROPERTY": "sql_variant",
    "HAS_PERMS_BY_NAME": "int",
    "IS_SRVROLEMEMBER": "int",
    "IS_MEMBER": "int",
    "DB_NAME": "nvarchar(128)",
    "SUSER_SNAME": "nvarchar(128)",
    "APP_NAME": "nvarchar(128)",
    "HOST_NAME": "nvarchar(128)",
    "CHANGE_TRACKING_CURRENT_VERSION": "bigint",
    "CHANGE_TRACKING_MIN_VALID_VERSION": "bigint",
    "MIN_ACTIVE_ROWVERSION": "binary(8)",
    "@@VERSION": "nvarchar(300)",
    "@@TRANCOUNT": "int",
    "@@SPID": "smallint",
    "@@ROWCOUNT": "int",
    "@@SERVERNAME": "nvarchar(128)",
    "@@LOCK_TIMEOUT": "int",
    "@@OPTIONS": "int",
}
_FIRST_ARGUMENT = frozenset({"MAX", "MIN", "ISNULL", "COALESCE", "NULLIF"})  # the type is that of the argument
_HINTS = frozenset({"NOLOCK", "READUNCOMMITTED", "READCOMMITTED", "HOLDLOCK", "READPAST", "TABLOCK", "SNAPSHOT"})
_END_OF_FROM = frozenset({"WHERE", "GROUP", "ORDER", "HAVING", "UNION", "EXCEPT", "INTERSECT"})
_NOT_ALIASES = _END_OF_FROM | {
    "ON",
    "JOIN",
    "INNER",
    "LEFT",
    "RIGHT",
    "FULL",
    "CROSS",
    "OUTER",
    "WITH",
    "AS",
    "OPTION",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the outer select list; `name` None keeps SQLite's, `type` None asks the declaration.

    `column`: it is a column, or has the type of one; what SQLite declares for it can be believed.
    """

    star: bool = False
    column: bool = True
    name: str | None = None
    type: str | None = None


@dataclass(slots=True)
class Select:
    """A translated query; `shape` has the same columns as `sql` and is only described, never run."""

    sql: str = ""
    shape: str = ""
    items: list[Item] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)  # as written, quotes removed


def quote(name: str) -> str:
    """Quote for SQLite with backticks: unlike double quotes they never turn into a string."""
    return "`" + name.replace("`", "``") + "`"


def translate(tokens: list[Token], resolve: Callable[[list[str]], str]) -> Select:
    """Translate a SELECT; `resolve` maps the parts of an object name to the table's name in SQLite."""
    select = Select()
    start, end = _select_list(tokens)
    items = split_commas(tokens[start:end])
    select.items = [_item(item) for item in items]
    translator = _Translator(resolve, select.objects)
    select.sql = translator.scope(tokens)
    shape: list[Token] = []
    for item in items:
        shape += [*([Token("sign", ",")] if shape else []), *_shape_of(item)]
    select.shape = _Translator(resolve, []).scope([*tokens[:start], *shape, *tokens[end:]], bind_null=True)
    return select


def _select_list(tokens: list[Token]) -> tuple[int, int]:
    depth, start = 0, None
    for index, token in enumerate(tokens):
        depth += (token.text == "(") - (token.text == ")")
        if depth:
            continue
        if start is None and token.upper == "SELECT":
            start = index + 1
        elif start is not None and token.upper in {"FROM", "WHERE", "UNION", "ORDER", "OPTION"}:
            return _after_top(tokens, start), index
    if start is None:
        raise SqlError(102, f"Incorrect syntax near '{tokens[0].text}'.", severity=15)
    return _after_top(tokens, start), len(tokens)


def _after_top(tokens: list[Token], at: int) -> int:
    while at < len(tokens) and tokens[at].upper in {"DISTINCT", "ALL", "TOP"}:
        if tokens[at].upper == "TOP":
            at = closing(tokens, at + 1) if tokens[at + 1].text == "(" else at + 1
        at += 1
    return at


def _item(tokens: list[Token]) -> Item:
    if tokens and tokens[-1].text == "*" and (len(tokens) == 1 or tokens[-2].text == "."):
        return Item(star=True)
    body, alias = _without_alias(tokens)
    is_column = all(token.is_name or token.text == "." for token in body)
    kind = None
    believed = is_column
    if body:
        first = body[0]
        whole_call = len(body) > 1 and body[1].text == "(" and closing(body, 1) == len(body) - 1
        word = first.upper
        if whole_call and word in {"CONVERT", "TRY_CONVERT"}:
            kind = "".join(token.text for token in split_commas(body[2:-1])[0])
        elif whole_call and word in {"CAST", "TRY_CAST"}:
            at = max(index for index, token in enumerate(body) if token.upper == "AS")
            kind = "".join(token.text for token in body[at + 1 : -1])
        elif whole_call or (len(body) == 1 and first.kind == "variable"):
            believed = word in _FIRST_ARGUMENT
            kind = _RESULT_TYPES.get(word or first.text.upper())
        elif len(body) == 1 and first.kind == "string":
            prefix = "nvarchar" if first.text[0] in "Nn" else "varchar"
            kind = f"{prefix}({max(len(first.string), 1)})"
    name = alias if alias is not None else (None if is_column else "")
    return Item(name=name, type=kind, column=believed)


def _without_alias(tokens: list[Token]) -> tuple[list[Token], str | None]:
    if len(tokens) > 2 and tokens[-2].upper == "AS":
        alias = tokens[-1]
        return tokens[:-2], alias.string if alias.kind == "string" else alias.name
    if len(tokens) > 2 and tokens[1].text == "=" and tokens[0].is_name:
        return tokens[2:], tokens[0].name
    if len(tokens) > 1 and tokens[-1].is_name and tokens[-1].upper != "END":
        before = tokens[-2]
        if before.text == ")" or before.is_name or before.kind in {"string", "number"}:
            return tokens[:-1], tokens[-1].name
    return tokens, None


def _shape_of(item: list[Token]) -> list[Token]:
    body, alias = _without_alias(item)
    if (
        body
        and body[0].upper in _FIRST_ARGUMENT
        and body[1:2]
        and body[1].text == "("
        and closing(body, 1) == len(body) - 1
    ):
        body = split_commas(body[2:-1])[0]
    if alias is None:
        return body
    return [*body, Token("word", "AS"), Token("quoted", "[" + alias.replace("]", "]]") + "]")]


class _Translator:
    def __init__(self, resolve: Callable[[list[str]], str], objects: list[str]) -> None:
        self._resolve = resolve
        self._objects = objects
        self._bind_null = False

    def scope(self, tokens: list[Token], *, bind_null: bool = False) -> str:  # noqa: PLR0915 - a branch a construct
        """Translate the tokens of one pair of parentheses, or of a whole query."""
        self._bind_null = self._bind_null or bind_null
        out: list[str] = []
        limit = offset = ""
        in_from = expects_object = False
        at = 0
        while at < len(tokens):
            token, word = tokens[at], tokens[at].upper
            following = tokens[at + 1] if at + 1 < len(tokens) else Token("sign", "")
            if expects_object and token.is_name:
                at = self._object(tokens, at, out)
                expects_object = False
                continue
            if word == "TOP" and out and out[-1].upper() in {"SELECT", "DISTINCT", "ALL"}:
                stop = closing(tokens, at + 1) if following.text == "(" else at + 1
                limit = self.scope(tokens[at + 1 : stop + 1])
                at = stop + 1
                continue
            if word in {"WITH", "OPTION"} and following.text == "(":
                at = closing(tokens, at + 1) + 1
                continue
            if token.text == "(" and in_from and following.upper in _HINTS:
                at = closing(tokens, at) + 1
                continue
            if word == "COLLATE":
                at += 2
                continue
            if word == "OFFSET":
                offset, at = following.text, at + 3
                if at < len(tokens) and tokens[at].upper == "FETCH":
                    limit, at = tokens[at + 2].text, at + 5
                continue
            if word in {"CAST", "TRY_CAST", "CONVERT", "TRY_CONVERT"} and following.text == "(":
                stop = closing(tokens, at + 1)
                out.append(self._convert(tokens[at + 2 : stop], cast=word.endswith("CAST")))
                at = stop + 1
                continue
            if word == "CHARINDEX" and following.text == "(":
                stop = closing(tokens, at + 1)
                needle, text = split_commas(tokens[at + 2 : stop])[:2]
                out.append(f"instr({self.scope(text)}, {self.scope(needle)})")
                at = stop + 1
                continue
            if token.text == "(":
                stop = closing(tokens, at)
                out.append("(" + self.scope(tokens[at + 1 : stop]) + ")")
                at, expects_object = stop + 1, False
                continue
            if token.is_name and (following.text == "." or token.kind == "quoted"):
                at = self._column(tokens, at, out)
                continue
            if word in {"FROM", "JOIN"} or (token.text == "," and in_from):
                in_from = expects_object = True
            elif word in _END_OF_FROM:
                in_from = False
            out.append(self._plain(tokens, at, is_call=following.text == "("))
            at += 1
        if limit or offset:
            out.append(f"LIMIT {limit or -1}" + (f" OFFSET {offset}" if offset else ""))
        return " ".join(out)

    def _plain(self, tokens: list[Token], at: int, *, is_call: bool) -> str:
        token = tokens[at]
        if token.kind == "string":
            return "'" + token.string.replace("'", "''") + "'"
        if token.kind == "hex":
            return f"x'{token.text[2:]}'"
        if token.kind == "variable":
            if token.text.startswith("@@"):
                return f"tsql_global('{token.text.upper()}')"
            return "NULL" if self._bind_null else token.text.lower()
        if token.text == "+":
            around = tokens[max(at - 1, 0) : at + 2]
            return "||" if any(near.kind == "string" for near in around) else "+"
        return _RENAMED.get(token.upper, token.text) if is_call else token.text

    @staticmethod
    def _chain(tokens: list[Token], at: int) -> tuple[list[str], int]:
        """Read `a.b.c` or `a.*`; an empty part, as in `db..t`, is left out."""
        parts = [tokens[at].name]
        at += 1
        while at < len(tokens) and tokens[at].text == ".":
            at += 1
            if at < len(tokens) and tokens[at].text != ".":
                parts.append("*" if tokens[at].text == "*" else tokens[at].name)
                at += 1
        return parts, at

    def _object(self, tokens: list[Token], at: int, out: list[str]) -> int:
        parts, at = self._chain(tokens, at)
        self._objects.append(".".join(parts))
        table = self._resolve(parts)
        out.append(quote(table))
        named = at < len(tokens) and (
            tokens[at].upper == "AS" or (tokens[at].is_name and tokens[at].upper not in _NOT_ALIASES)
        )
        if table != parts[-1] and not named:
            out.append("AS " + quote(parts[-1]))
        return at

    def _column(self, tokens: list[Token], at: int, out: list[str]) -> int:
        parts, at = self._chain(tokens, at)
        if at < len(tokens) and tokens[at].text == "(":
            out.append(parts[-1])  # schema.function(
        else:
            out.append(".".join("*" if part == "*" else quote(part) for part in parts[-2:]))
        return at

    def _convert(self, tokens: list[Token], *, cast: bool) -> str:
        if cast:
            at = max(index for index, token in enumerate(tokens) if token.upper == "AS")
            kind, arguments = tokens[at + 1 :], [tokens[:at]]
        else:
            kind, *arguments = split_commas(tokens)
        name = "".join(token.text for token in kind)
        values = [self.scope(argument) for argument in arguments]
        return f"tsql_convert('{name}', {', '.join(values)})"


def parse(sql: str, resolve: Callable[[list[str]], str]) -> Select:
    """Translate the text of one SELECT."""
    return translate(tokenize(sql), resolve)
