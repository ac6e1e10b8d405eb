"""Sends the rows of one result, and stops in the middle of them when a fault says so."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

from tds_faults import Fault, FaultKind
from tds_results import PreparedRows, Result
from tds_sql import SqlError
from tds_types import row_encoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tds_answer import Answer

DEADLOCK = (
    "Transaction (Process ID 51) was deadlocked on lock resources with another process and has been chosen "
    "as the deadlock victim. Rerun the transaction."
)


class ConnectionFault(Exception):  # noqa: N818
    """A fault that ends the connection, or keeps it silent."""

    def __init__(self, kind: FaultKind) -> None:
        super().__init__(kind.value)
        self.kind = kind


class NoErrorToken(SqlError):  # noqa: N818
    """An error of which the client sees only the bit in DONE."""


def send_rows(result: Result | PreparedRows, fault: Fault | None, answer: Answer, *, compressed: bool) -> int:
    """Send the rows and return their number; raise what the fault asks for after its number of rows."""
    if isinstance(result, PreparedRows) and (fault is None or fault.kind == FaultKind.WRONG_COUNT):
        answer.rows(result.body)
        return result.row_count
    sent = 0
    for data in _encoded(result, compressed=compressed):
        if fault is not None and sent >= fault.after_rows:
            if fault.kind == FaultKind.SLOW:
                answer.flush()
                time.sleep(fault.seconds)
                answer.check_attention()
            else:
                _strike(fault, answer)
        answer.row(data)
        sent += 1
    if fault is not None and sent == fault.after_rows:
        _strike(fault, answer)
    return sent


def _encoded(result: Result | PreparedRows, *, compressed: bool) -> Iterator[bytes | memoryview]:
    if isinstance(result, PreparedRows):
        yield from result.iterate_encoded()
        return
    encode = row_encoder(result.columns, compressed=compressed)
    for row in result.iterate():
        try:
            yield encode(row)
        except (ValueError, TypeError, ArithmeticError, struct.error) as error:
            raise SqlError(8114, f"Error converting data type: {error} in {row!r:.200}", state=5) from error


def _strike(fault: Fault, answer: Answer) -> None:
    match fault.kind:
        case FaultKind.ERROR:
            raise SqlError(fault.number, fault.message, severity=fault.severity, state=fault.state)
        case FaultKind.DEADLOCK:
            raise SqlError(1205, DEADLOCK, severity=13, state=45)
        case FaultKind.DONE_ERROR:
            raise NoErrorToken(0, "")
        case FaultKind.RESET | FaultKind.CLOSE | FaultKind.SILENCE:
            answer.flush()
            raise ConnectionFault(FaultKind(fault.kind))
        case _:
            return
