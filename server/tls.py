"""The server's certificate: loaded once, and again when its files change.

A broken new file keeps the old certificate and is told once. TLS 1.2 or newer.
"""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

from snapshot.errors import SnapshotError

if TYPE_CHECKING:
    from pathlib import Path

    from snapshot.config import Config

log = logging.getLogger(__name__)


class CertificateError(SnapshotError):
    """Certificate or key cannot be used. Never holds the key's password."""


class Certificate:
    """An SSLContext that follows its files. `reload` blocks for the time of reading two small files."""

    def __init__(self, certificate: Path, key: Path, password: str) -> None:
        """Load both files; raises CertificateError."""
        self._certificate = certificate
        self._key = key
        self._password = password
        self._seen = self._look()
        self.context = self._load(_new_context())

    def reload(self) -> bool:
        """Load the files again if they changed; return whether a new certificate is in use."""
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            # First into a context that nobody uses: a half-replaced pair must not get into the live one.
            self._load(_new_context())
            self._load(self.context)
        except CertificateError as error:
            log.error("certificate not replaced", extra={"facts": {"cause": error.cause}})  # noqa: TRY400
            return False
        log.info("certificate replaced")
        return True

    def _look(self) -> tuple[object, ...]:
        found: list[object] = []
        for path in (self._certificate, self._key):
            try:
                stat = path.stat()
            except OSError:
                found.append(None)
            else:
                found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        return tuple(found)

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        try:
            # An empty password rather than None: with None OpenSSL asks on the terminal.
            context.load_cert_chain(self._certificate, self._key, password=self._password)
        except ssl.SSLError as error:
            cause = f"{self._certificate} and {self._key} cannot be used together ({error.reason or error})."
            raise CertificateError(cause) from None
        except OSError as error:
            cause = f"{self._certificate} or {self._key} cannot be read: {error.strerror}."
            raise CertificateError(cause) from None
        return context


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def open_certificate(config: Config) -> Certificate | None:
    """Return the configured certificate, None without [server.tls].

    Raises CertificateError or SecretError.
    """
    tls = config.server.tls
    if tls is None:
        return None
    return Certificate(config.path(tls.certificate), config.path(tls.key), tls.key_password.reveal())
