"""One connection from PRELOGIN to its end (MS-TDS 3.3.5)."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import tds_packets as wire
from tds_answer import Answer, Cancelled
from tds_faults import AT_LOGIN, Fault, FaultKind
from tds_login import Encryption, Option, negotiate, read_login, read_prelogin, write_prelogin
from tds_packets import EnvChange, PacketType, Reader, Token
from tds_rows import ConnectionFault
from tds_rpc import read_rpc
from tds_session import Session
from tds_sql import SqlError
from tds_transport import Gone
from tds_types import COLLATIONS, DEFAULT_COLLATION

if TYPE_CHECKING:
    from tds_login import Login
    from tds_settings import Answers, FaultList, SessionLog, Settings
    from tds_transport import Transport


class Connection:
    """Talks to one client until one of the two ends it."""

    def __init__(
        self, transport: Transport, settings: Settings, answers: Answers, faults: FaultList, log: SessionLog
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._answers = answers
        self._faults = faults
        self._log = log

    def run(self) -> None:
        """Serve; note in the log why it ended. Never raises."""
        try:
            if self._prelogin():
                self._serve()
        except Gone as error:
            self._log.ended = str(error)
        except ConnectionFault as fault:
            self._end_by_fault(fault.kind)
        except Exception as error:  # noqa: BLE001 - a test reads it from the log
            self._log.failure = traceback.format_exc()
            self._log.ended = f"{type(error).__name__}: {error}"
        finally:
            self._transport.close()

    def _end_by_fault(self, kind: FaultKind) -> None:
        self._log.ended = f"fault {kind.value}"
        try:
            if kind in {FaultKind.RESET, FaultKind.RESET_LOGIN}:
                self._transport.reset()
            elif kind in {FaultKind.CLOSE, FaultKind.CLOSE_LOGIN}:
                self._transport.finish()
            else:
                self._transport.ignore_until_closed()
        except Gone:
            pass

    # --- before the session ---

    def _prelogin(self) -> bool:
        """Negotiate encryption; return False when the connection has to end."""
        transport, log = self._transport, self._log
        if self._faults.find({FaultKind.SILENT_PRELOGIN}, log.number):
            raise ConnectionFault(FaultKind.SILENT_PRELOGIN)
        log.tls_first = transport.starts_with_tls()
        if log.tls_first:
            if self._settings.tls_8 is None:
                raise Gone("TLS first, but the server has no certificate")
            transport.start_tls(self._settings.tls_8, wrapped=False)
            log.tls_version, log.alpn = transport.tls_version, transport.alpn
        kind, body = transport.read_message()
        if kind != PacketType.PRELOGIN:
            raise Gone(f"message type {kind} instead of PRELOGIN")
        asked = read_prelogin(body).get(Option.ENCRYPTION, b"\x02")[0]
        log.client_encryption = asked
        log.encryption = Encryption.STRICT if log.tls_first else negotiate(asked, self._settings.encryption)
        transport.send(PacketType.TABULAR_RESULT, write_prelogin(log.encryption))
        if log.tls_first:
            return True
        if log.encryption is Encryption.REQUIRED and asked == Encryption.NOT_SUPPORTED:
            log.ended = "the client cannot encrypt"
            transport.finish()
            return False
        if log.encryption is not Encryption.NOT_SUPPORTED:
            assert self._settings.tls_7 is not None
            transport.start_tls(self._settings.tls_7, wrapped=True)
            log.tls_version = transport.tls_version
        return True

    def _login(self) -> tuple[Login, str] | None:
        """Read LOGIN7 and answer it; return None when it was refused."""
        transport, log = self._transport, self._log
        kind, body = transport.read_message()
        if kind != PacketType.LOGIN7:
            raise Gone(f"message type {kind} instead of LOGIN7")
        if log.encryption is Encryption.OFF:
            transport.stop_tls()
        login = log.login = read_login(body)
        fault = self._faults.find(AT_LOGIN, log.number)
        if fault and fault.kind in {FaultKind.SILENT_LOGIN, FaultKind.CLOSE_LOGIN, FaultKind.RESET_LOGIN}:
            raise ConnectionFault(FaultKind(fault.kind))
        answer = Answer(transport)
        database = login.database or self._settings.default_database
        try:
            self._admit(login, database, fault)
        except SqlError as error:
            log.login_error = log.login_error or error.number
            answer.error(error)
            answer.done(wire.Done.ERROR)
            answer.end()
            transport.finish()
            log.ended = f"login refused: {error}"
            return None
        route = self._settings.read_only_route
        self._accept(login, database, answer, route if login.read_only else None)
        return login, database

    def _admit(self, login: Login, database: str, fault: Fault | None) -> None:
        settings = self._settings
        if fault:
            if fault.number != 50000:
                raise SqlError(fault.number, fault.message, severity=fault.severity, state=fault.state)
            raise SqlError(18456, f"Login failed for user '{login.user}'.", severity=14)
        if login.tds_version < wire.TDS_7_3_A and login.tds_version != wire.TDS_8_0:
            raise SqlError(17836, f"TDS version 0x{login.tds_version:08X} is not supported.", severity=20)
        if settings.users is not None and settings.users.get(login.user) != login.password:
            raise SqlError(18456, f"Login failed for user '{login.user}'.", severity=14)
        if settings.databases is not None and database not in {
            *settings.databases,
            settings.default_database,
        }:
            text = f'Cannot open database "{database}" requested by the login. The login failed.'
            raise SqlError(4060, text, severity=11)

    def _accept(self, login: Login, database: str, answer: Answer, route: tuple[str, int] | None) -> None:
        asked = login.packet_bytes or wire.DEFAULT_PACKET_BYTES
        limit = 16383 if self._log.encrypted else self._settings.max_packet_bytes
        size = max(512, min(asked, limit, wire.MAX_PACKET_BYTES))
        self._log.packet_bytes = size
        version = wire.TDS_8_0 if login.tds_version == wire.TDS_8_0 else min(login.tds_version, wire.TDS_7_4)
        answer.token(wire.env_change(EnvChange.DATABASE, database, self._settings.default_database))
        text = f"Changed database context to '{database}'."
        answer.token(wire.message(Token.INFO, 5701, text, severity=0, state=2))
        answer.token(wire.env_change(EnvChange.COLLATION, COLLATIONS[DEFAULT_COLLATION][0]))
        answer.token(wire.env_change(EnvChange.LANGUAGE, "us_english", ""))
        text = "Changed language setting to us_english."
        answer.token(wire.message(Token.INFO, 5703, text, severity=0))
        answer.token(wire.login_ack(version))
        answer.token(wire.env_change(EnvChange.PACKET_SIZE, str(size), str(wire.DEFAULT_PACKET_BYTES)))
        if route:
            answer.token(wire.routing(*route))
        answer.done()
        answer.end()
        self._transport.packet_bytes = size

    # --- the session ---

    def _serve(self) -> None:
        accepted = self._login()
        if accepted is None:
            return
        session = Session(self._settings, self._answers, self._faults, self._log, accepted[1])
        try:
            while True:
                kind, body = self._transport.read_message()
                answer = Answer(self._transport)
                try:
                    self._request(session, kind, body, answer)
                except Cancelled:
                    self._log.attentions += 1
                    answer.cancel()
        finally:
            session.close()

    def _request(self, session: Session, kind: int, body: bytes, answer: Answer) -> None:
        if kind == PacketType.SQL_BATCH:
            reader = Reader(body)
            reader.skip_all_headers()
            session.batch(body[reader.at :].decode("utf-16-le", "surrogatepass"), answer)
        elif kind == PacketType.RPC:
            session.rpc(read_rpc(body), answer)
        elif kind == PacketType.TRANSACTION_MANAGER:
            session.transaction_request(Reader(body), answer)
        elif kind == PacketType.ATTENTION:
            raise Cancelled
        else:
            raise Gone(f"message type {kind} is not supported")
