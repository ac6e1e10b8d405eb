"""Writes the token stream of one answer: packets as they fill, DONE tokens with the right MORE bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tds_packets import HEADER_BYTES, Command, Done, PacketType, Token, done, message

if TYPE_CHECKING:
    from tds_sql import SqlError
    from tds_transport import Transport

_PACKETS_PER_WRITE = 32


class Cancelled(Exception):  # noqa: N818
    """The client sent Attention; the answer ends with a DONE that says so (2.2.1.7)."""


class Answer:
    """One response message.

    A DONE token is held back until it is known whether anything follows, because only then is its MORE bit
    known. Within a procedure statements end with DONEINPROC and the whole ends with DONEPROC.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._buffer = bytearray()
        self._room = transport.packet_bytes - HEADER_BYTES
        self._write_bytes = self._room * _PACKETS_PER_WRITE
        self._held: tuple[Done, int, int, Token] | None = None
        self.in_procedure = 0

    def token(self, data: bytes) -> None:
        """Add a token that is not a row."""
        self._settle(more=True)
        self.row(data)

    def row(self, data: bytes | memoryview) -> None:
        """Add the bytes of one row or of many."""
        self._buffer += data
        if len(self._buffer) > self._write_bytes:
            self._send_full_packets()

    def rows(self, body: memoryview) -> None:
        """Add the bytes of very many rows, with few copies."""
        for start in range(0, len(body), self._write_bytes):
            self.row(body[start : start + self._write_bytes])

    def done(self, status: Done = Done.FINAL, *, command: int = Command.NONE, rows: int = 0) -> None:
        """End a statement."""
        self._settle(more=True)
        token = Token.DONEINPROC if self.in_procedure else Token.DONE
        self._held = (status, command, rows, token)

    def done_procedure(self, status: Done = Done.FINAL) -> None:
        """End a procedure: DONEPROC."""
        self._settle(more=True)
        self._held = (status, Command.EXECUTE, 0, Token.DONEPROC)

    def error(self, error: SqlError, *, server: str = "TDSTEST", procedure: str = "") -> None:
        """Add an ERROR token; `done` with the error bit has to follow."""
        self.token(
            message(
                Token.ERROR,
                error.number,
                error.message,
                severity=error.severity,
                state=error.state,
                server=server,
                procedure=procedure,
            )
        )

    def flush(self) -> None:
        """Send what there is, without ending the message."""
        if self._buffer:
            self._transport.send(PacketType.TABULAR_RESULT, self._buffer, last=False)
            self._buffer = bytearray()

    def end(self) -> None:
        """Send the rest with the end-of-message bit."""
        if self._held is None:
            self.done()
        self._settle(more=False)
        self._transport.send(PacketType.TABULAR_RESULT, self._buffer)
        self._buffer = bytearray()

    def cancel(self) -> None:
        """Acknowledge an Attention; what was not sent yet is dropped only at packet borders."""
        self._held = None
        self._buffer += done(Done.ATTENTION)
        self._transport.send(PacketType.TABULAR_RESULT, self._buffer)
        self._buffer = bytearray()

    def check_attention(self) -> None:
        """Raise Cancelled when the client has asked for it."""
        if self._transport.attention_waits():
            raise Cancelled

    def _settle(self, *, more: bool) -> None:
        if self._held is not None:
            status, command, rows, token = self._held
            self._held = None
            self._buffer += done(status | (Done.MORE if more else 0), command=command, rows=rows, token=token)

    def _send_full_packets(self) -> None:
        full = (len(self._buffer) - 1) // self._room * self._room
        with memoryview(self._buffer) as view:
            self._transport.send(PacketType.TABULAR_RESULT, view[:full], last=False)
        del self._buffer[:full]
        self.check_attention()
