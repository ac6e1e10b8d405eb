"""What SQL Server tells about itself: @@ variables, property functions and a few system views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tds_session import Session
    from tds_sqlite import Database

_DATABASE_ID = 5


def facts(session: Session) -> dict[str, Callable[..., Any]]:
    """Return the functions whose answer depends on the session."""
    settings, log = session.settings, session.log

    def variable(name: str) -> Any:
        return {
            "@@VERSION": settings.version,
            "@@TRANCOUNT": log.depth,
            "@@SPID": 50 + log.number,
            "@@ROWCOUNT": session.sender.rowcount,
            "@@SERVERNAME": "TDSTEST",
            "@@LOCK_TIMEOUT": int(log.options.get("LOCK_TIMEOUT", "-1")),
            "@@OPTIONS": 512 if session.sender.nocount else 0,
        }.get(name)

    def database_property(_name: str, which: str) -> Any:
        return {
            "updateability": settings.updateability,
            "collation": "SQL_Latin1_General_CP1_CI_AS",
            "status": "ONLINE",
        }.get(which.lower())

    def server_property(which: str) -> Any:
        return {
            "productversion": "16.0.1000.6",
            "productmajorversion": "16",
            "edition": "Developer Edition (64-bit)",
            "engineedition": 3,
            "servername": "TDSTEST",
            "collation": "SQL_Latin1_General_CP1_CI_AS",
        }.get(which.lower())

    def has_permission(_securable: str | None, _kind: str | None, permission: str | None, *_: Any) -> int:
        return int(str(permission).upper() in {each.upper() for each in settings.permissions})

    def in_role(role: str, *_: Any) -> int:
        return int(role.lower() in {each.lower() for each in settings.roles})

    login = log.login
    return {
        "tsql_global": variable,
        "db_name": lambda *_: session.database,
        "db_id": lambda *_: _DATABASE_ID,
        "databasepropertyex": database_property,
        "serverproperty": server_property,
        "has_perms_by_name": has_permission,
        "is_srvrolemember": in_role,
        "is_member": in_role,
        "is_rolemember": in_role,
        "suser_sname": lambda *_: login.user if login else None,
        "original_login": lambda: login.user if login else None,
        "app_name": lambda: login.application if login else None,
        "host_name": lambda: login.host if login else None,
        "change_tracking_current_version": lambda: None,
        "min_active_rowversion": lambda: bytes(7) + b"\x01",
    }


def install_system_tables(session: Session, database: Database) -> None:
    """Offer sys.databases, sys.dm_exec_connections and sys.dm_exec_sessions."""
    settings, log = session.settings, session.log

    def databases() -> tuple[str, list[tuple]]:
        declarations = (
            "name sysname, database_id int, snapshot_isolation_state tinyint, snapshot_isolation_state_desc "
            "nvarchar(60), is_read_committed_snapshot_on bit, is_read_only bit, collation_name sysname, "
            "compatibility_level tinyint, state_desc nvarchar(60)"
        )
        state = settings.snapshot_isolation_state
        words = ("OFF", "ON", "IN_TRANSITION_TO_OFF", "IN_TRANSITION_TO_ON")
        read_only = int(settings.updateability == "READ_ONLY")
        tail = ("SQL_Latin1_General_CP1_CI_AS", 160, "ONLINE")
        mine = (
            session.database,
            _DATABASE_ID,
            state,
            words[state],
            int(settings.read_committed_snapshot),
            read_only,
        )
        return declarations, [("master", 1, 1, "ON", 0, 0, *tail), (*mine, *tail)]

    def connections() -> tuple[str, list[tuple]]:
        encrypted = "TRUE" if log.encrypted else "FALSE"
        declarations = "session_id int, encrypt_option nvarchar(40), auth_scheme nvarchar(40), net_packet_size int"
        return declarations, [(50 + log.number, encrypted, "SQL", log.packet_bytes)]

    def sessions() -> tuple[str, list[tuple]]:
        login = log.login
        declarations = (
            "session_id int, program_name nvarchar(128), host_name nvarchar(128), login_name nvarchar(128), "
            "transaction_isolation_level smallint"
        )
        levels = ("", "READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "SNAPSHOT")
        level = levels.index(log.isolation) if log.isolation in levels else 0
        return declarations, [
            (50 + log.number, login.application, login.host, login.user, level) if login else (50, "", "", "", level)
        ]

    database.add_system_table("sys.databases", databases)
    database.add_system_table("sys.dm_exec_connections", connections)
    database.add_system_table("sys.dm_exec_sessions", sessions)
