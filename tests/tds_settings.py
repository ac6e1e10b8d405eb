"""What the test server is told, and what it writes down about each connection."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tds_login import Encryption

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from tds_faults import Fault, FaultKind
    from tds_login import Login
    from tds_results import Answerable

VERSION = (
    "Microsoft SQL Server 2022 (RTM) - 16.0.1000.6 (X64) \n\tOct  8 2022 05:58:25 \n\tCopyright (C) 2022 "
    "Microsoft Corporation\n\tDeveloper Edition (64-bit) on Linux <X64>"
)
Match = str | re.Pattern[str]
Maker = Callable[[str, Mapping[str, Any], "SessionLog"], "Answerable | Sequence[Answerable] | None"]


@dataclass
class Settings:
    """All that a test may choose; each connection reads it afresh, so it may change between two."""

    sqlite: Path | None = None
    types: Mapping[str, str] = field(default_factory=dict)  # result column name -> type, over the declared one
    users: Mapping[str, str] | None = None  # None: anybody
    databases: Collection[str] | None = None  # None: any name
    default_database: str = "master"
    encryption: Encryption = Encryption.NOT_SUPPORTED
    tls_7: ssl.SSLContext | None = None
    tls_8: ssl.SSLContext | None = None
    snapshot_isolation_state: int = 1  # 0 OFF, 1 ON, 2 IN_TRANSITION_TO_OFF, 3 IN_TRANSITION_TO_ON
    read_committed_snapshot: bool = False
    updateability: str = "READ_WRITE"
    version: str = VERSION
    permissions: Collection[str] = ("SELECT", "CONNECT")  # what HAS_PERMS_BY_NAME answers 1 for
    roles: Collection[str] = ("public",)  # what IS_SRVROLEMEMBER and IS_MEMBER answer 1 for
    max_packet_bytes: int = 32767
    compressed_rows: bool = True  # NBCROW for rows with NULL
    nocount_hides_count: bool = True  # under SET NOCOUNT ON a DONE carries no count, as on SQL Server
    read_only_route: tuple[str, int] | None = None  # where logins with read-only intent are sent


@dataclass(slots=True)
class Statement:
    """One statement as the server executed it."""

    sql: str
    params: Mapping[str, Any]
    isolation: str
    depth: int  # transactions open when it began
    query: int | None = None  # ordinal among the connection's queries with rows
    rows: int | None = None
    error: int | None = None


@dataclass(slots=True)
class SessionLog:
    """What one connection did; it stays readable after the connection has ended."""

    number: int
    peer: tuple[str, int]
    tls_first: bool = False  # the connection opened with a ClientHello (TDS 8.0)
    tls_version: str | None = None
    alpn: str | None = None
    client_encryption: int | None = None  # the ENCRYPTION byte of PRELOGIN
    encryption: Encryption | None = None  # what the server answered
    login: Login | None = None
    login_error: int | None = None
    packet_bytes: int = 4096
    isolation: str = "READ COMMITTED"
    depth: int = 0
    options: dict[str, str] = field(default_factory=dict)  # SET options in capitals
    statements: list[Statement] = field(default_factory=list)
    attentions: int = 0
    ended: str = ""  # why the connection ended; empty while it lasts
    failure: str = ""  # a traceback when the server itself failed

    @property
    def encrypted(self) -> bool:
        """Tell whether rows travel encrypted."""
        return self.encryption in {Encryption.ON, Encryption.REQUIRED, Encryption.STRICT}

    @property
    def queries(self) -> list[Statement]:
        """The statements that asked for rows of a table, a procedure or a registered answer."""
        return [statement for statement in self.statements if statement.query is not None]


class Answers:
    """Registered answers and procedures, looked up by exact text, expression or function; newest first."""

    def __init__(self) -> None:
        self._makers: list[tuple[Match | None, Any]] = []
        self._procedures: dict[str, Any] = {}

    def add(self, match: Match | Maker, answer: Any = None) -> None:
        """Register; see TdsServer.answer."""
        if callable(match):
            self._makers.insert(0, (None, match))
        else:
            self._makers.insert(0, (normal(match) if isinstance(match, str) else match, answer))

    def add_procedure(self, name: str, answer: Any) -> None:
        self._procedures[normal_name(name)] = answer

    def find(self, sql: str, params: Mapping[str, Any], log: SessionLog) -> list[Answerable] | None:
        """Return the results for a text, or None when nothing is registered for it."""
        text = normal(sql)
        for match, answer in self._makers:
            if match is None:
                found = answer(sql, params, log)
            elif (match == text) if isinstance(match, str) else match.search(text):
                found = answer(sql, params, log) if callable(answer) else answer
            else:
                continue
            if found is not None:
                return as_list(found)
        return None

    def procedure(self, name: str) -> Any:
        """Return what is registered for a procedure: SQL, a result, results or a function; else None."""
        dotted = normal_name(name)
        return self._procedures.get(dotted, self._procedures.get(dotted.rpartition(".")[2]))


def as_list(found: Any) -> list[Answerable]:
    """Return one result or several as a list."""
    return list(found) if isinstance(found, (list, tuple)) else [found]


def normal(sql: str) -> str:
    """Return the text without surplus white space and closing semicolon."""
    return " ".join(sql.split()).rstrip("; ")


def normal_name(name: str) -> str:
    """Return a dotted name in lower case without brackets."""
    return re.sub(r"[\[\]\"]", "", name).strip().lower()


class FaultList:
    """The faults in force; counts how often each struck."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._struck: dict[int, int] = {}

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()
        self._struck.clear()

    def find(
        self, kinds: Collection[FaultKind], connection: int, query: int | None = None, sql: str = ""
    ) -> Fault | None:
        """Return the first fault of these kinds that strikes here, and count it."""
        for fault in self._faults:
            struck = self._struck.get(id(fault), 0)
            if fault.kind not in kinds or (fault.times is not None and struck >= fault.times):
                continue
            if fault.strikes(connection, query, sql):
                self._struck[id(fault)] = struck + 1
                return fault
        return None
