"""The isolation ladder: one instant for all queries of a refresh, without blocking anybody.

Read-only replica (always row versions) -> SNAPSHOT -> READ_COMMITTED_SNAPSHOT (one instant a statement)
-> READ COMMITTED (may miss or repeat a row that moves; said loudly). NOLOCK is not on it: it can skip
committed rows, and a skipped row is a deactivated employee.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snapshot.errors import SourceError

if TYPE_CHECKING:
    from snapshot.config import Source

_ALLOW = "ALTER DATABASE [{}] SET ALLOW_SNAPSHOT_ISOLATION ON"


def begin(connection: Any, source: Source) -> tuple[str, list[str]]:
    """Set the session up, choose the level, begin the transaction; return (level, warnings)."""
    warnings: list[str] = []
    cursor = connection.cursor()
    # NOCOUNT must stay off: with it SQL Server sends no row count at the end of a result, and the
    # count is what tells a whole result from a cut one.
    cursor.execute(
        "SET NOCOUNT OFF; SET XACT_ABORT ON; SET DEADLOCK_PRIORITY LOW; "
        f"SET LOCK_TIMEOUT {int(source.lock_timeout_seconds) * 1000}"
    )
    level = _choose(cursor, source, warnings)
    words = "SNAPSHOT" if level == "snapshot" else "READ COMMITTED"
    cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {words}")
    cursor.execute("BEGIN TRANSACTION")
    return level, warnings


def _choose(cursor: Any, source: Source, warnings: list[str]) -> str:
    cursor.execute("SELECT CAST(DATABASEPROPERTYEX(DB_NAME(), 'Updateability') AS nvarchar(20))")
    read_only = str((cursor.fetchone() or ("",))[0]) == "READ_ONLY"
    cursor.fetchall()
    if source.read_only and not read_only:
        warnings.append(
            "read_only = true, but this database can be written: the connection was not routed to a read-only "
            "replica (check that source.server is the availability group listener)"
        )
    if read_only and source.isolation == "auto":
        return "read-only replica"
    cursor.execute(
        "SELECT snapshot_isolation_state, is_read_committed_snapshot_on FROM sys.databases WHERE database_id = DB_ID()"
    )
    row = cursor.fetchone() or (0, False)
    cursor.fetchall()
    snapshot, rcsi = int(row[0]) == 1, bool(row[1])
    wanted = source.isolation
    remedy = f"A DBA runs once: {_ALLOW.format(source.database.replace(']', ']]'))}"
    if wanted in {"auto", "snapshot"} and snapshot:
        return "snapshot"
    if wanted == "snapshot":
        raise SourceError("isolation", "SNAPSHOT isolation is not allowed in this database.", remedy=remedy + ".")
    if wanted in {"auto", "read_committed_snapshot"} and rcsi:
        warnings.append(f"READ_COMMITTED_SNAPSHOT: each query sees its own instant. {remedy}")
        return "read committed snapshot"
    if wanted == "read_committed_snapshot":
        raise SourceError(
            "isolation",
            "READ_COMMITTED_SNAPSHOT is off in this database.",
            remedy='A DBA turns it on, or set source.isolation = "auto".',
        )
    warnings.append(f"READ COMMITTED: a row that moves while it is read can be missed or read twice. {remedy}")
    return "read committed"
