"""How the test server misbehaves on demand."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """What goes wrong. Those marked (rows) happen after `after_rows` rows of a matching query."""

    REFUSE_LOGIN = "refuse-login"  # error 18456, or `number`
    SILENT_LOGIN = "silent-login"  # LOGIN7 is never answered
    SILENT_PRELOGIN = "silent-prelogin"  # PRELOGIN is never answered
    CLOSE_LOGIN = "close-login"  # the connection ends instead of an answer to LOGIN7
    RESET_LOGIN = "reset-login"  # the same with TCP RST
    ERROR = "error"  # (rows) ERROR `number`, DONE with the error bit
    DEADLOCK = "deadlock"  # (rows) error 1205; the transaction is rolled back
    RESET = "reset"  # (rows) TCP RST
    CLOSE = "close"  # (rows) TCP FIN without DONE
    DONE_ERROR = "done-error"  # (rows) DONE with the error bit and no ERROR token
    SILENCE = "silence"  # (rows) nothing more is sent, not even the answer to Attention
    SLOW = "slow"  # (rows) from there on, `seconds` before each row
    WRONG_COUNT = "wrong-count"  # DONE counts `count_delta` rows more than were sent
    LONE_SURROGATE = "lone-surrogate"  # row number `after_rows` + 1 has invalid UTF-16 in `column`
    HUGE_CELL = "huge-cell"  # row number `after_rows` + 1 has `cell_bytes` bytes in `column`, now nvarchar(max)
    MISSING_COLUMN = "missing-column"  # error 207 for `column`
    CHANGED_TYPE = "changed-type"  # `column` is served as `type`
    PERMISSION = "permission"  # error 229 for the first object of the query
    SNAPSHOT_DISALLOWED = "snapshot-disallowed"  # error 3952


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and where it strikes.

    `connection` and `query` are ordinals from 1: of the server's accepted connections, and of the queries
    with rows within a connection; None means each. `match` is a regular expression looked for in the text of
    the statement. `times`: how often it strikes before it is spent.
    """

    kind: FaultKind | str
    _: KW_ONLY
    connection: int | None = None
    query: int | None = None
    match: str = ""
    times: int | None = None
    after_rows: int = 0
    column: str = ""
    type: str = "nvarchar(50)"
    seconds: float = 0.05
    count_delta: int = -1
    cell_bytes: int = 10_000_000
    number: int = 50000
    severity: int = 16
    state: int = 1
    message: str = "Something went wrong."

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", FaultKind(self.kind))

    def strikes(self, connection: int, query: int | None, sql: str = "") -> bool:
        """Tell whether this fault is meant for that connection, query and text."""
        if self.connection not in {None, connection}:
            return False
        if query is not None and self.query not in {None, query}:
            return False
        return not self.match or re.search(self.match, sql, re.IGNORECASE) is not None


AT_LOGIN = frozenset(
    {
        FaultKind.REFUSE_LOGIN,
        FaultKind.SILENT_LOGIN,
        FaultKind.SILENT_PRELOGIN,
        FaultKind.CLOSE_LOGIN,
        FaultKind.RESET_LOGIN,
    }
)
IN_ROWS = frozenset(
    {
        FaultKind.ERROR,
        FaultKind.DEADLOCK,
        FaultKind.RESET,
        FaultKind.CLOSE,
        FaultKind.DONE_ERROR,
        FaultKind.SILENCE,
        FaultKind.SLOW,
    }
)
BEFORE_ROWS = frozenset({FaultKind.MISSING_COLUMN, FaultKind.PERMISSION, FaultKind.SNAPSHOT_DISALLOWED})
IN_VALUES = frozenset({FaultKind.LONE_SURROGATE, FaultKind.HUGE_CELL, FaultKind.CHANGED_TYPE})
