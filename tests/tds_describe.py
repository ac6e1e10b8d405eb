"""sys.dm_exec_describe_first_result_set: the columns of a query that is not run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tds_faults import FaultKind
from tds_results import PreparedRows, Result, with_value_fault
from tds_sql import SqlError, closing, literal, parse_exec, split_statements
from tds_types import MAX, Column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tds_session import Session
    from tds_settings import Answers
    from tds_sql import Token

_FUNCTION = "dm_exec_describe_first_result_set"
COLUMNS = (
    Column("is_hidden", "bit"),
    Column("column_ordinal", "int"),
    Column("name", "nvarchar(128)"),
    Column("is_nullable", "bit"),
    Column("system_type_id", "int"),
    Column("system_type_name", "nvarchar(256)"),
    Column("max_length", "smallint"),
    Column("precision", "tinyint"),
    Column("scale", "tinyint"),
    Column("collation_name", "nvarchar(128)"),
    Column("error_number", "int"),
    Column("error_severity", "int"),
    Column("error_state", "int"),
    Column("error_message", "nvarchar(4000)"),
    Column("error_type", "int"),
    Column("error_type_desc", "nvarchar(60)"),
)
_SYSTEM_TYPES = {
    "tinyint": (48, 1, 3, 0), "smallint": (52, 2, 5, 0), "int": (56, 4, 10, 0), "bigint": (127, 8, 19, 0),
    "bit": (104, 1, 1, 0), "real": (59, 4, 24, 0), "float": (62, 8, 53, 0), "money": (60, 8, 19, 4),
    "smallmoney": (122, 4, 10, 4), "datetime": (61, 8, 23, 3), "smalldatetime": (58, 4, 16, 0),
    "date": (40, 3, 10, 0), "time": (41, 5, 16, 7), "datetime2": (42, 8, 27, 7),
    "datetimeoffset": (43, 10, 34, 7),
    "uniqueidentifier": (36, 16, 0, 0), "rowversion": (189, 8, 0, 0), "xml": (241, -1, 0, 0),
    "sql_variant": (98, 8016, 0, 0), "decimal": (106, 17, 38, 0), "numeric": (108, 17, 38, 0),
    "char": (175, 0, 0, 0), "varchar": (167, 0, 0, 0), "nchar": (239, 0, 0, 0), "nvarchar": (231, 0, 0, 0),
    "binary": (173, 0, 0, 0), "varbinary": (165, 0, 0, 0),
}  # fmt: skip


def describe(session: Session, sql: str) -> Result:
    """Describe the first query of a text; an error becomes a row, as on SQL Server."""
    try:
        columns = _columns(session, sql, session.answers)
        kinds = {FaultKind.MISSING_COLUMN, FaultKind.CHANGED_TYPE}
        fault = session.faults.find(kinds, session.log.number, None, sql)
        if fault:
            columns = list(with_value_fault(Result(columns), fault).columns)
    except SqlError as error:
        facts = (error.number, error.severity, error.state, error.message, 1, "MISC")
        return Result(COLUMNS, [(False, 0, *[None] * 8, *facts)])
    return Result(COLUMNS, [_row(number, column) for number, column in enumerate(columns, 1)])


def expand_describe(session: Session, tokens: list[Token], params: Mapping[str, Any]) -> list[Token]:
    """Replace `sys.dm_exec_describe_first_result_set(@q, ...)` by a table that holds the description."""
    for at, token in enumerate(tokens[:-1]):
        if token.is_name and token.name.lower() == _FUNCTION and tokens[at + 1].text == "(":
            stop = closing(tokens, at + 1)
            result = describe(session, str(literal(tokens[at + 2 : at + 3], dict(params))))
            declarations = ", ".join(f"{column.name} {column.type}" for column in result.columns)
            table = declarations, [tuple(row) for row in result.iterate()]
            session.sqlite.add_system_table(f"sys.{_FUNCTION}", lambda table=table: table)
            return [*tokens[: at + 1], *tokens[stop + 1 :]]
    return tokens


def _columns(session: Session, sql: str, answers: Answers) -> list[Column]:
    found: Any = answers.find(sql, {}, session.log)
    if found is None:
        statements = split_statements(sql)
        if not statements:
            return []
        tokens = statements[-1]
        if tokens[0].upper not in {"EXEC", "EXECUTE"}:
            return session.sqlite.describe(tokens)
        call = parse_exec(tokens, {})
        body = answers.procedure(call.procedure)
        if body is None:
            raise SqlError(2812, f"Could not find stored procedure '{call.procedure}'.", state=62)
        if isinstance(body, str):
            return _columns(session, body, answers)
        found = body(call.named, session.log) if callable(body) else body
    results = found if isinstance(found, (list, tuple)) else [found]
    return next(list(each.columns) for each in results if isinstance(each, (Result, PreparedRows)))


def _row(number: int, column: Column) -> tuple[Any, ...]:
    kind = column.sql_type
    type_id, length, precision, scale = _SYSTEM_TYPES[kind.name]
    if kind.size:
        length = -1 if kind.size == MAX else kind.size * (2 if kind.name.startswith("n") else 1)
    if kind.name in {"decimal", "numeric"}:
        precision, scale = kind.precision, kind.scale
    elif kind.name in {"time", "datetime2", "datetimeoffset"}:
        scale = kind.scale
    name = "timestamp" if kind.name == "rowversion" else str(kind)
    collation = column.collation if kind.name.endswith("char") else None
    return (
        False, number, column.name or None, column.nullable, type_id, name, length, precision, scale,
        collation,
        None, None, None, None, None, None,
    )  # fmt: skip
