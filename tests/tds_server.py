"""A TDS 7.4 server for tests: real drivers talk to it over a real socket.

It answers from registered results, from prepared rows, or from an SQLite file, and misbehaves on demand.
As a process of its own: `python tests/tds_server.py --sqlite FILE --port 0`; the first line on standard
output is the port.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tds_connection import Connection
from tds_faults import Fault, FaultKind
from tds_login import Encryption
from tds_results import Count, Info, PreparedRows, Result
from tds_settings import Answers, FaultList, SessionLog, Settings
from tds_sql import SqlError
from tds_transport import Transport
from tds_types import Column

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from tds_login import Login
    from tds_settings import Maker, Match

__all__ = ["Column", "Count", "Fault", "FaultKind", "Info", "PreparedRows", "Result", "SqlError", "TdsServer"]

_LISTENER = "tds-listener"
_ENCRYPTIONS = {
    "not_supported": Encryption.NOT_SUPPORTED,
    "off": Encryption.OFF,
    "on": Encryption.REQUIRED,
    "required": Encryption.REQUIRED,
}


class TdsServer:
    """The server, as a context manager; it runs in threads of its own and leaves none behind.

    `certificate` is a PEM file with key and chain, or anything with `configure_cert(context)`, as trustme's
    certificates have. `encryption` is "not_supported", "off" (login only, unless the client asks for more) or
    "required"; by default "off" with a certificate and "not_supported" without. All other keywords are
    fields of Settings; `settings` may be changed while the server runs.
    """

    def __init__(
        self,
        sqlite: Path | str | None = None,
        *,
        certificate: Any = None,
        encryption: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        **settings: Any,
    ) -> None:
        self.host = host
        self.port = port
        self.sessions: list[SessionLog] = []
        self.settings = Settings(sqlite=Path(sqlite) if sqlite else None, **settings)
        if certificate is not None:
            self.settings.tls_7 = _context(certificate, strict=False)
            self.settings.tls_8 = _context(certificate, strict=True)
        chosen = encryption or ("off" if certificate is not None else "not_supported")
        self.settings.encryption = _ENCRYPTIONS[chosen]
        if certificate is None and chosen != "not_supported":
            raise ValueError(f"encryption {chosen!r} needs a certificate")
        self._answers = Answers()
        self._faults = FaultList()
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._transports: dict[int, Transport] = {}
        self._lock = threading.Lock()
        self._stopping = False

    # --- what it answers ---

    def answer(self, match: Match | Maker, answer: Any = None) -> None:
        """Register an answer; the one registered last is asked first.

        `match` is the exact text of a batch or statement (white space does not count), a compiled expression
        searched for in it, or a function `(sql, params, log)` that returns results or None. `answer` is a
        result, a list of results, or such a function. A SqlError among results is raised there.
        """
        self._answers.add(match, answer)

    def procedure(self, name: str, answer: str | Any) -> None:
        """Register a stored procedure, called by RPC or EXEC.

        `answer` is T-SQL that uses the parameters by name, a result, a list of results, or a function
        `(params, log)` of parameters by lower-case @name.
        """
        self._answers.add_procedure(name, answer)

    def prepared(self, path: Path) -> PreparedRows:
        """Load a file made by PreparedRows.write and answer its query with it."""
        rows = PreparedRows.load(path)
        self.answer(rows.sql, rows)
        self._answers.add(f"SELECT COUNT_BIG(*) FROM ({rows.sql}) AS q", _count(rows))
        return rows

    def use_certificate(self, certificate: Any) -> None:
        """Show another certificate from the next connection on; None takes TLS away."""
        self.settings.encryption = Encryption.NOT_SUPPORTED if certificate is None else Encryption.OFF
        self.settings.tls_7 = None if certificate is None else _context(certificate, strict=False)
        self.settings.tls_8 = None if certificate is None else _context(certificate, strict=True)

    def fault(self, fault: Fault) -> None:
        """Add a fault; several may be in force."""
        self._faults.add(fault)

    def clear_faults(self) -> None:
        self._faults.clear()

    @property
    def logins(self) -> list[Login]:
        """Every LOGIN7 received, in order."""
        return [log.login for log in self.sessions if log.login is not None]

    # --- its life ---

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Listen; `port` is the real port from here on."""
        self._listener = socket.create_server((self.host, self.port), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, _LISTENER)

    def close(self) -> None:
        """End every connection and thread."""
        with self._lock:
            self._stopping = True
            transports = list(self._transports.values())
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for transport in transports:
            transport.interrupt()
        for thread in self._threads:
            thread.join(10)

    def wait_idle(self, seconds: float = 5.0) -> bool:
        """Wait until no connection is open, so that logs are complete; tell whether that is so."""
        for thread in self._threads:
            if thread.name != _LISTENER:
                thread.join(seconds)
        return not self._transports

    def _start(self, target: Callable[..., None], name: str, *arguments: Any) -> None:
        thread = threading.Thread(target=target, name=name, args=arguments, daemon=True)
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        assert self._listener is not None
        while True:
            try:
                sock, peer = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._stopping:
                    sock.close()
                    return
                log = SessionLog(len(self.sessions) + 1, peer[:2])
                self.sessions.append(log)
                transport = self._transports[log.number] = Transport(sock)
            self._start(self._serve, f"tds-{log.number}", transport, log)

    def _serve(self, transport: Transport, log: SessionLog) -> None:
        Connection(transport, self.settings, self._answers, self._faults, log).run()
        with self._lock:
            self._transports.pop(log.number, None)


def _count(rows: PreparedRows) -> Result:
    return Result([Column("", "bigint")], [(rows.row_count,)])


def _context(certificate: Any, *, strict: bool) -> ssl.SSLContext:
    """Make a context: TLS 1.2 inside PRELOGIN, as SQL Server does, or anything newer and ALPN for TDS 8.0."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if strict:
        context.set_alpn_protocols(["tds/8.0"])
    else:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if hasattr(certificate, "configure_cert"):
        certificate.configure_cert(context)
    else:
        context.load_cert_chain(certificate)
    return context


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A TDS 7.4 server for tests")
    parser.add_argument("--sqlite", type=Path, help="answer from this SQLite file")
    parser.add_argument("--prepared", type=Path, action="append", default=[], help="file of prepared rows; repeatable")
    parser.add_argument("--procedure", action="append", default=[], metavar="NAME=SQL", help="stored procedure")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--certificate", type=Path, help="PEM file with key and chain")
    parser.add_argument("--encryption", choices=sorted(_ENCRYPTIONS))
    parser.add_argument("--user", action="append", default=[], metavar="NAME:PASSWORD", help="default: anybody")
    parser.add_argument("--database", action="append", default=None, help="default: any name")
    parser.add_argument("--snapshot-isolation", choices=("on", "off"), default="on")
    parser.add_argument("--read-committed-snapshot", action="store_true")
    parser.add_argument("--read-only", action="store_true", help="answer READ_ONLY for Updateability")
    chosen = parser.parse_args(arguments)
    server = TdsServer(
        chosen.sqlite,
        certificate=chosen.certificate,
        encryption=chosen.encryption,
        host=chosen.host,
        port=chosen.port,
        users=dict(user.split(":", 1) for user in chosen.user) or None,
        databases=chosen.database,
        snapshot_isolation_state=int(chosen.snapshot_isolation == "on"),
        read_committed_snapshot=chosen.read_committed_snapshot,
        updateability="READ_ONLY" if chosen.read_only else "READ_WRITE",
    )
    for path in chosen.prepared:
        server.prepared(path)
    for each in chosen.procedure:
        name, _, sql = each.partition("=")
        server.procedure(name, sql)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with server:
        print(server.port, flush=True)
        stopped.wait()


if __name__ == "__main__":
    main()
