"""What pymssql and FreeTDS raise, as one sentence with a remedy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from snapshot.errors import SourceError
from snapshot.sources.tls_probe import probe

if TYPE_CHECKING:
    from snapshot.config import Config

# number of the error -> (code, sentence, remedy). 1…19999 are SQL Server's, 20000… are FreeTDS's.
_KNOWN: dict[int, tuple[str, str, str]] = {
    18456: ("login_refused", "SQL Server refused the login of {login}.", "Check source.username, source.password and source.database, and that SQL logins are enabled."),
    18452: ("login_refused", "SQL Server does not trust the domain of this Windows login.", "Run as an account of a trusted domain."),
    18470: ("login_refused", "The login {login} is disabled.", "A DBA enables it: ALTER LOGIN … ENABLE."),
    18486: ("login_refused", "The login {login} is locked.", "A DBA unlocks it: ALTER LOGIN … WITH PASSWORD = '…' UNLOCK."),
    18487: ("login_refused", "The password of {login} has expired.", "A DBA sets a new one."),
    18488: ("login_refused", "The password of {login} must be changed first.", "A DBA sets a new one."),
    4060: ("permission", "The login {login} may not open the database {database}.", "A DBA runs in it: CREATE USER … FOR LOGIN …; and check source.database."),
    916: ("permission", "The login {login} may not use the database {database}.", "A DBA runs in it: CREATE USER … FOR LOGIN …."),
    229: ("permission", "The login may not read what the query needs.", "A DBA runs: GRANT SELECT ON … TO …."),
    230: ("permission", "The login may not read a column that the query needs.", "A DBA runs: GRANT SELECT ON … TO …."),
    208: ("missing_object", "The table, view or procedure does not exist, or the login may not see it.", "Check source.users and write schema.table."),
    2812: ("missing_object", "The stored procedure does not exist, or the login may not see it.", "Check source.users.procedure."),
    207: ("missing_column", "A column of the query does not exist.", "Check source.users.query."),
    3952: ("isolation", "SNAPSHOT isolation is not allowed in this database.", "A DBA runs: ALTER DATABASE … SET ALLOW_SNAPSHOT_ISOLATION ON."),
    3960: ("isolation", "The snapshot transaction was aborted by a concurrent change.", "It is read again at the next refresh."),
    1205: ("deadlock", "SQL Server chose this read as the victim of a deadlock.", "SNAPSHOT isolation avoids this (source.isolation). It is read again at the next refresh."),
    1222: ("timeout", "A lock was not granted in time.", "SNAPSHOT isolation avoids waiting for locks (source.isolation)."),
    20003: ("timeout", "SQL Server did not answer in time.", "Raise source.query_timeout_seconds, or look for blocking."),
    20006: ("connection_lost", "The connection broke while sending.", "Check network and server."),
    20017: ("connection_lost", "SQL Server closed the connection in the middle of a result.", "Check network and server."),
    20047: ("connection_lost", "The connection to SQL Server is dead.", "Check network and server."),
    20012: ("unreachable", "The server name is not usable.", "Check source.server."),
    20013: ("unreachable", "The host {server} is not known.", "Check source.server and DNS."),
}  # fmt: skip
# 0: "Connection to the database failed for an unknown reason", for example a host that is not known.
_CONNECT_FAILED = frozenset({0, 20002, 20004, 20008, 20009, 20014})
# The password breaks a rule of the server. This and a refused login are all that a changed password may lead to.
_PASSWORD_POLICY = range(18463, 18469)
# What a known number may mean before the login was accepted. Never a code that is retried at once, nor one that ends
# the pause after a refused login (snapshot/pause.py): who tries a login again and again gets it locked.
_AT_LOGIN = frozenset({"login_refused", "permission", "unreachable"})
_CLOSED = frozenset({20006, 20017, 20047})
_BROKEN_OFF = _CLOSED | {20003}
_MESSAGE = re.compile(r"DB-Lib error message.*\Z", re.DOTALL)
_MAX_TEXT = 300


def explain(error: BaseException, config: Config, *, login: bool = False) -> SourceError:
    """Return the SourceError for what the driver raised, `login`: before the login was accepted.

    Texts of the server are kept short, on one line.
    """
    number, raw = _number_and_text(error)
    text = " ".join(_MESSAGE.sub("", raw).split()).rstrip(".")[:_MAX_TEXT]
    source = config.source
    facts = {
        "login": source.username or "the Windows account of this process",
        "database": source.database,
        "server": source.server,
    }
    if number == 20014 and "18456" in raw:  # noqa: PLR2004 (the refusal of the login is the cause)
        number = 18456
    if number == 20047 and "20003" in raw:  # noqa: PLR2004 (a time-out in mid-result)
        number = 20003
    if number in _KNOWN and (not login or _KNOWN[number][0] in _AT_LOGIN):
        code, sentence, remedy = _KNOWN[number]
        detail = f" ({text})" if text and code in {"permission", "missing_object", "missing_column", "query"} else ""
        return SourceError(code, sentence.format(**facts) + detail, remedy=remedy, number=number)
    if number in _CONNECT_FAILED or (login and number in _BROKEN_OFF):
        return _connect_failed(number, text, config)
    if login and number in _PASSWORD_POLICY:
        return SourceError(
            "login_refused",
            f"SQL Server did not accept the password of {facts['login']}: {text or type(error).__name__} (error {number}).",
            remedy="A DBA sets a new one.",
            number=number,
        )
    if login:
        return SourceError(
            "unreachable",
            f"SQL Server at {source.server} lets nobody in: {text or type(error).__name__} (error {number}).",
            remedy=(
                f"Check that the server and the database {source.database} are online (start, failover, restore, "
                "single-user mode), and the SQL Server error log. It is tried again at the next refresh."
            ),
            number=number,
        )
    return SourceError(
        "query",
        f"SQL Server said: {text or type(error).__name__} (error {number}).",
        remedy="Check source.users.",
        number=number,
    )


def _number_and_text(error: BaseException) -> tuple[int, str]:
    arguments: Any = error.args
    while len(arguments) == 1 and isinstance(arguments[0], tuple):
        arguments = arguments[0]
    number = arguments[0] if arguments and isinstance(arguments[0], int) else getattr(error, "number", 0) or 0
    raw = arguments[-1] if arguments else getattr(error, "message", "")
    return int(number), raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)


def _connect_failed(number: int, text: str, config: Config) -> SourceError:
    """Tell apart what FreeTDS reports as one error: nobody listens, no TLS, certificate not trusted."""
    found = probe(config)
    if found is not None:
        return SourceError(found.code, found.cause, remedy=found.remedy, number=number)
    source = config.source
    if source.instance and number not in _CLOSED:  # what listens behind the name of an instance was not probed
        return SourceError(
            "unreachable",
            f"No connection to SQL Server at {source.server}\\{source.instance} (error {number}{': ' + text if text else ''}).",
            remedy="Check that it runs, and the firewall (UDP 1434 for a named instance; a fixed port is safer).",
            number=number,
        )
    where = f"{source.server}\\{source.instance}" if source.instance else f"{source.server}:{source.port or 1433}"
    what = "closed the connection during the login" if number in _CLOSED else "the login was broken off or not answered"
    remedy = "Look at the SQL Server error log. It is tried again at the next refresh."
    if source.auth != "sql":
        remedy = "Check the ticket of this account (klist), the SPN and the SQL Server error log."
    return SourceError(
        "unreachable",
        f"SQL Server at {where} was reached, but {what} (error {number}{': ' + text if text else ''}).",
        remedy=remedy,
        number=number,
    )
