"""Secrets in the configuration: references, literals and scrypt hashes.

A `Secret` keeps what the configuration said and reads the value only when asked, so the server never
touches the database password although it reads the same file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from snapshot.errors import SecretError

_REFERENCE = re.compile(r"\$\{(env|file|credential):([^}]+)\}\Z")
# 16 MiB of memory and about 35 ms a check: slow for a thief, paid once a client (the server caches).
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 1 << 14, 8, 1
_SCRYPT_MAX_MEMORY_BYTES = 256 << 20
_HASH_PREFIX = "scrypt$"
_HASH_FIELDS = 6
_MAX_SECRET_BYTES = 16 << 10


class Secret:
    """A secret of the configuration, unread. `repr` and `str` never show it."""

    __slots__ = ("_base", "_known", "_text")

    def __init__(self, text: str, *, base: Path | None = None, known: bool = False) -> None:
        self._text = text
        self._base = base or Path()
        self._known = known

    @classmethod
    def known(cls, text: str) -> Secret:
        """Make a secret whose value is `text` as it stands, for example from an environment variable."""
        return cls(text, known=True)

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    @property
    def is_hash(self) -> bool:
        """Whether the configuration holds a scrypt hash of the secret, not the secret."""
        return not self._known and self._text.startswith(_HASH_PREFIX)

    @property
    def is_literal(self) -> bool:
        """Whether the secret stands in the configuration in clear text."""
        return bool(self._text) and not self._known and not self.is_hash and _REFERENCE.match(self._text) is None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was configured."""
        return not self._text

    def reveal(self) -> str:
        """Return the secret (or its hash), read from where the reference points.

        One trailing line end of a file is dropped. Raises SecretError for a reference that leads nowhere.
        """
        match = None if self._known else _REFERENCE.match(self._text)
        if match is None:
            return self._text
        kind, name = match.groups()
        value = self._read(kind, name)
        if not value:
            raise SecretError(self._text, "it is empty")
        return value

    def _read(self, kind: str, name: str) -> str:
        if kind == "env":
            value = os.environ.get(name)
            if value is None:
                raise SecretError(self._text, f"the environment variable {name} is not set")
            return value
        if kind == "credential":
            folder = os.environ.get("CREDENTIALS_DIRECTORY")
            if not folder:
                raise SecretError(self._text, "CREDENTIALS_DIRECTORY is not set (systemd LoadCredential=)")
            path = Path(folder) / name
        else:
            path = self._base / name
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_SECRET_BYTES + 1)
            if len(data) > _MAX_SECRET_BYTES:
                raise SecretError(self._text, f"{path} is larger than {_MAX_SECRET_BYTES} bytes")
            text = data.decode("utf-8-sig")
        except OSError as error:
            raise SecretError(self._text, f"{path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SecretError(self._text, f"{path} is not UTF-8 text") from None
        return text.removesuffix("\n").removesuffix("\r")


def hash_secret(secret: str) -> str:
    """Return a salted scrypt hash (RFC 7914) as one line for the configuration."""
    salt = secrets.token_bytes(16)
    digest = _scrypt(secret, salt, _SCRYPT_N, _SCRYPT_R, _SCRYPT_P)
    encoded = (base64.b64encode(part).decode("ascii") for part in (salt, digest))
    return _HASH_PREFIX + "$".join((str(_SCRYPT_N), str(_SCRYPT_R), str(_SCRYPT_P), *encoded))


def parse_hash(text: str) -> tuple[int, int, int, bytes, bytes]:
    """Return (n, r, p, salt, digest) of a hash made by `hash_secret`; ValueError if it is none."""
    fields = text.split("$")
    if len(fields) != _HASH_FIELDS or not text.startswith(_HASH_PREFIX):
        raise ValueError("not a scrypt hash")
    try:
        n, r, p = (int(field) for field in fields[1:4])
    except ValueError:
        raise ValueError("its parameters are no numbers") from None  # the field may be a part of a password
    try:
        salt, digest = (base64.b64decode(field, validate=True) for field in fields[4:])
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if n < 2 or n & (n - 1) or r < 1 or p < 1 or 128 * n * r * p > _SCRYPT_MAX_MEMORY_BYTES or not digest:  # noqa: PLR2004
        raise ValueError("scrypt parameters out of range")
    return n, r, p, salt, digest


def verify_hash(secret: str, text: str) -> bool:
    """Tell in constant time whether `secret` has the hash `text`. Takes about 35 ms and 16 MiB."""
    n, r, p, salt, digest = parse_hash(text)
    return hmac.compare_digest(_scrypt(secret, salt, n, r, p), digest)


def _scrypt(secret: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        secret.encode(), salt=salt, n=n, r=r, p=p, maxmem=_SCRYPT_MAX_MEMORY_BYTES + (1 << 20), dklen=32
    )
