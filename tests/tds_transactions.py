"""The transaction of a session: depth, isolation, and the instant its reads see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tds_packets as wire
from tds_packets import EnvChange
from tds_sql import SqlError

if TYPE_CHECKING:
    from tds_answer import Answer
    from tds_settings import SessionLog, Settings
    from tds_sqlite import Database

_ONE_INSTANT = frozenset({"SNAPSHOT", "SERIALIZABLE", "REPEATABLE READ"})


class Transactions:
    """Keeps `log.depth` right and SQLite's read transaction in step with it."""

    def __init__(self, settings: Settings, log: SessionLog, sqlite: Database) -> None:
        self._settings = settings
        self._log = log
        self._sqlite = sqlite
        self._level_at_begin = ""
        self._descriptor = (0x3300000000 + log.number).to_bytes(8, "little")

    def begin(self, answer: Answer) -> None:
        """Open a transaction, or one level of nesting more."""
        self._log.depth += 1
        if self._log.depth == 1:
            self._level_at_begin = self._log.isolation
            answer.token(wire.env_change(EnvChange.BEGIN_TRANSACTION, self._descriptor))

    def end(self, answer: Answer, *, commit: bool) -> None:
        """Commit one level, or roll everything back; errors 3902 and 3903 without a transaction."""
        if not self._log.depth:
            word = "COMMIT" if commit else "ROLLBACK"
            raise SqlError(
                3902 if commit else 3903,
                f"The {word} TRANSACTION request has no corresponding BEGIN TRANSACTION.",
            )
        if commit and self._log.depth > 1:
            self._log.depth -= 1
        else:
            self.leave(answer, commit=commit)

    def leave(self, answer: Answer, *, commit: bool) -> None:
        """End the whole transaction, if there is one."""
        if not self._log.depth:
            return
        self._log.depth = 0
        self._sqlite.end_instant()
        kind = EnvChange.COMMIT_TRANSACTION if commit else EnvChange.ROLLBACK_TRANSACTION
        answer.token(wire.env_change(kind, b"", self._descriptor))

    def prepare_read(self) -> None:
        """Let the next query see the transaction's instant, or the newest one."""
        if self._log.depth and self._log.isolation in _ONE_INSTANT:
            self._sqlite.begin_instant()
        else:
            self._sqlite.end_instant()

    def check_snapshot(self, database: str) -> None:
        """Raise 3952 or 3951: snapshot isolation is not allowed, or was asked for too late."""
        if self._log.isolation != "SNAPSHOT":
            return
        if self._settings.snapshot_isolation_state != 1:
            raise snapshot_disallowed(database)
        if self._log.depth and self._level_at_begin != "SNAPSHOT":
            raise SqlError(
                3951,
                f"Transaction failed in database '{database}' because the statement was run under snapshot "
                "isolation but the transaction did not start in snapshot isolation. You cannot change the "
                "isolation level of the transaction to snapshot after the transaction has started unless the "
                "transaction was originally started under snapshot isolation level.",
            )


def snapshot_disallowed(database: str) -> SqlError:
    """Return error 3952."""
    return SqlError(
        3952,
        f"Snapshot isolation transaction failed accessing database '{database}' because snapshot isolation "
        "is not allowed in this database. Use ALTER DATABASE to allow snapshot isolation.",
    )
