"""Sends results with their metadata, counts, and the faults that are meant for them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import tds_packets as wire
from tds_faults import BEFORE_ROWS, IN_ROWS, IN_VALUES, Fault, FaultKind
from tds_packets import Command, Done, Token
from tds_results import Count, Info, Result, with_value_fault
from tds_rows import ConnectionFault, send_rows
from tds_sql import SqlError
from tds_transactions import snapshot_disallowed
from tds_types import column_metadata

if TYPE_CHECKING:
    from tds_answer import Answer
    from tds_settings import FaultList, SessionLog, Settings, Statement

_INSERT = 0xC3  # CurCmd of INSERT


class Sender:
    """Writes results into answers; keeps NOCOUNT and @@ROWCOUNT."""

    def __init__(self, settings: Settings, faults: FaultList, log: SessionLog) -> None:
        self.nocount = False
        self.rowcount = 0
        self._settings = settings
        self._faults = faults
        self._log = log

    def done(self, answer: Answer, rows: int, command: int = Command.SELECT) -> None:
        """End a statement that counts rows; under NOCOUNT the count is left out."""
        hidden = self.nocount and self._settings.nocount_hides_count
        answer.done(Done.FINAL if hidden else Done.COUNT, command=command, rows=0 if hidden else rows)

    def send(self, result: Any, statement: Statement, answer: Answer, database: str) -> None:
        """Send one result, or raise it if it is an error."""
        match result:
            case SqlError():
                raise result
            case Info():
                answer.token(wire.message(Token.INFO, result.number, result.message, severity=result.severity))
            case Count():
                if not (self.nocount and answer.in_procedure):
                    self.done(answer, result.rows, _INSERT)
            case _:
                self._send_rows(result, statement, answer, database)

    def _send_rows(self, result: Any, statement: Statement, answer: Answer, database: str) -> None:
        where = (self._log.number, statement.query or 0, statement.sql)
        early = self._faults.find(BEFORE_ROWS | IN_VALUES, *where) if statement.query else None
        if early:
            _refuse(early, statement.sql, database)
            if isinstance(result, Result):
                result = with_value_fault(result, early)
        late = self._faults.find(IN_ROWS | {FaultKind.WRONG_COUNT}, *where) if statement.query else None
        answer.token(column_metadata(result.columns))
        try:
            sent = send_rows(result, late, answer, compressed=self._settings.compressed_rows)
        except (ConnectionFault, SqlError):
            statement.rows = late.after_rows if late else None
            raise
        statement.rows = self.rowcount = counted = sent
        if isinstance(result, Result):
            counted = sent if result.announced is None else result.announced
            if result.order:
                answer.token(wire.order(result.order))
        if late and late.kind == FaultKind.WRONG_COUNT:
            counted += late.count_delta
        self.done(answer, counted)


def _refuse(fault: Fault, sql: str, database: str) -> None:
    """Raise the error of a fault that refuses the query; return for any other."""
    if fault.kind == FaultKind.SNAPSHOT_DISALLOWED:
        raise snapshot_disallowed(database)
    if fault.kind == FaultKind.MISSING_COLUMN:
        if re.search(rf"\b{re.escape(fault.column)}\b", sql, re.IGNORECASE):
            raise SqlError(207, f"Invalid column name '{fault.column}'.")
    elif fault.kind == FaultKind.PERMISSION:
        found = re.search(r"\bFROM\s+(?:\[?(\w+)\]?\.)?\[?(\w+)", sql, re.IGNORECASE)
        schema, name = (found[1] or "dbo", found[2]) if found else ("dbo", sql.rpartition(" ")[2])
        text = f"The SELECT permission was denied on the object '{name}', database '{database}', schema '{schema}'."
        raise SqlError(229, text, severity=14, state=5)
