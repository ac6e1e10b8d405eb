"""T-SQL's functions as functions of SQLite."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from tds_sql import SqlError
from tds_types import MAX, parse_type

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

_INTEGERS = {
    "tinyint": (0, 2**8),
    "smallint": (-(2**15), 2**15),
    "int": (-(2**31), 2**31),
    "bigint": (-(2**63), 2**63),
}


def convert(kind: str, value: Any, style: int | None = None) -> Any:
    """Do CONVERT and CAST on SQLite's storage classes, with SQL Server's errors 245, 8114, 8115, 8169."""
    if value is None:
        return None
    target = parse_type(kind)
    name = target.name
    if name in _INTEGERS:
        return _integer(name, value)
    if name in {"char", "nchar", "varchar", "nvarchar"}:
        text = value.hex().upper() if isinstance(value, bytes) else str(value)
        if style in {23, 102, 111} and len(text) >= 10:
            text = text[:10]
        elif style in {126, 127}:
            text = text.replace(" ", "T")
        size = None if target.size == MAX else target.size if "(" in kind else 30
        return text[:size]
    if name in {"decimal", "numeric", "money", "smallmoney"}:
        scale = target.scale if name in {"decimal", "numeric"} else 4
        try:
            return str(Decimal(str(value)).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP))
        except InvalidOperation:
            raise SqlError(8114, f"Error converting data type varchar to {name}.", state=5) from None
    if name in {"float", "real"}:
        return float(value)
    if name in {"binary", "varbinary"}:
        if isinstance(value, int):
            size = target.size if target.size != MAX else 8
            return value.to_bytes(size, "big", signed=value < 0)
        return value if isinstance(value, bytes) else str(value).encode("utf-16-le")
    if name == "bit":
        return 1 if str(value).strip().lower() in {"1", "true"} or (not isinstance(value, str) and value) else 0
    if name == "uniqueidentifier":
        try:
            return str(uuid.UUID(str(value)))
        except ValueError:
            text = "Conversion failed when converting from a character string to uniqueidentifier."
            raise SqlError(8169, text, state=2) from None
    return str(value)[:10] if name == "date" else value


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bytes):
        return int.from_bytes(value[-8:], "big", signed=len(value) >= 8)
    try:
        number = int(value) if not isinstance(value, str) else int(value.strip() or 0)
    except ValueError:
        text = f"Conversion failed when converting the varchar value '{value}' to data type {name}."
        raise SqlError(245, text) from None
    low, high = _INTEGERS[name]
    if not low <= number < high:
        raise SqlError(8115, f"Arithmetic overflow error converting expression to data type {name}.", state=2)
    return number


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def register(
    connection: sqlite3.Connection,
    facts: Mapping[str, Callable[..., Any]],
    keep_error: Callable[[SqlError], None],
) -> None:
    """Register the functions; `facts` are those that know about the session.

    SQLite hides the exception of a function, so `keep_error` receives it first.
    """
    functions: dict[str, tuple[int, Callable[..., Any]]] = {
        "tsql_convert": (-1, convert),
        "tsql_len": (
            1,
            lambda v: None if v is None else len(v if isinstance(v, bytes) else str(v).rstrip(" ")),
        ),
        "tsql_left": (2, lambda v, n: None if v is None else str(v)[:n]),
        "tsql_right": (2, lambda v, n: None if v is None else str(v)[-n:] if n else ""),
        "tsql_upper": (1, lambda v: None if v is None else str(v).upper()),
        "tsql_lower": (1, lambda v: None if v is None else str(v).lower()),
        "concat": (-1, lambda *parts: "".join(_text(part) or "" for part in parts)),
        "newid": (0, lambda: str(uuid.uuid4())),
        "year": (1, lambda v: None if v is None else int(str(v)[:4])),
        **dict.fromkeys(("getdate", "getutcdate", "sysdatetime", "sysutcdatetime"), (0, _now)),
        "sysdatetimeoffset": (0, lambda: _now() + " +00:00"),
        **{name: (-1, function) for name, function in facts.items()},
    }

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except SqlError as error:
                keep_error(error)
                raise
            except (ValueError, TypeError, OverflowError) as error:
                keep_error(SqlError(50000, f"{error}"))
                raise

        return call

    for name, (arguments, function) in functions.items():
        connection.create_function(name, arguments, guarded(function))
