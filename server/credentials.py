"""Who may ask: presented credentials against the configured ones. Knows no aiohttp.

What is compared are MACs under a key that lives as long as the process, always against every
configured credential, so neither the time nor the order tells which one was nearly right. A scrypt
hash is verified once (35 ms), then remembered as the MAC of what was presented. Verifications are
limited in number, so a stranger cannot burn the processor.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from server.errors import TooManyRequestsError, UnauthorizedError
from snapshot.secret import verify_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from snapshot.config import Credential

REALM = "scim-snapshot"
# Two at a time keep one core free on the smallest machine; 34 checks of 35 ms are about half a second.
MAX_RUNNING_CHECKS = 2
MAX_WAITING_CHECKS = 32
_ACCEPTED_REMEMBERED = 1024
_REFUSED_REMEMBERED = 256
_RETRY_AFTER_SECONDS = 2
_MAX_PRESENTED_BYTES = 16 << 10


class Headers(Protocol):
    """The request headers, as far as they are needed here."""

    def getall(self, key: str, default: Sequence[str]) -> Sequence[str]:
        """Return every value of a header."""
        ...


@dataclass(frozen=True, slots=True)
class _Presented:
    """What a request presents: kind is basic, bearer, or header:<name>; user is empty but for basic."""

    kind: str
    user: bytes
    secret: bytes

    def digest(self, key: bytes) -> bytes:
        # BLAKE2b with a key is a MAC (RFC 7693); OpenSSL's HMAC costs ten times as much for texts this short.
        text = b"\0".join((self.kind.encode(), self.user, self.secret))
        return hashlib.blake2b(text, key=key, digest_size=32).digest()


@dataclass(frozen=True, slots=True)
class _Accepted:
    """One configured credential: its digest, or its scrypt hash."""

    principal: str
    kind: str
    user: bytes
    digest: bytes = b""
    scrypt: str = ""


class Authenticator:
    """Checks requests against the credentials of one part of the server."""

    def __init__(
        self, credentials: Sequence[Credential], *, check_hash: Callable[[str, str], bool] = verify_hash
    ) -> None:
        """Read the secrets. Raises SecretError for a reference that leads nowhere."""
        self._key = secrets.token_bytes(32)
        self._check_hash = check_hash
        self._open_principal = next((principal(item) for item in credentials if item.type == "none"), None)
        accepted = [self._accepted(item) for item in credentials if item.type != "none"]
        self._plain = tuple(item for item in accepted if not item.scrypt)
        self._hashed = tuple(item for item in accepted if item.scrypt)
        self._header_names = tuple(dict.fromkeys(item.header for item in credentials if item.type == "header"))
        self.challenges = _challenges(credentials)
        self._recent: OrderedDict[bytes, str] = OrderedDict()
        self._known: OrderedDict[bytes, str] = OrderedDict()
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self._checks: dict[bytes, asyncio.Task[str | None]] = {}
        self._executor = ThreadPoolExecutor(MAX_RUNNING_CHECKS, thread_name_prefix="scrypt") if self._hashed else None

    def close(self) -> None:
        """Let the threads go."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def recall(self, headers: Headers) -> str | None:
        """Return the principal of headers that were accepted before; None sends the caller to `authenticate`.

        The look-up is by a MAC of everything presented, so its time tells nothing about a secret.
        """
        return self._recent.get(self._seal(headers))

    async def authenticate(self, headers: Headers) -> str:
        """Return the principal's name; raises UnauthorizedError or TooManyRequestsError."""
        found: str | None = None
        for presented in self._presented(headers):
            name = self._compare(presented)
            if name is None and self._hashed:
                name = await self._verify(presented)
            found = found or name
        found = found or self._open_principal
        if found is None:
            raise UnauthorizedError(self.challenges)
        self._recent[self._seal(headers)] = found
        if len(self._recent) > _ACCEPTED_REMEMBERED:
            self._recent.popitem(last=False)
        return found

    def _seal(self, headers: Headers) -> bytes:
        """Return a MAC of all the headers that can hold a credential."""
        values = headers.getall("Authorization", ())
        for name in self._header_names:
            values = [*values, "\n", *headers.getall(name, ())]
        return hashlib.blake2b(_bytes("\n".join(values)), key=self._key, digest_size=32).digest()

    def _accepted(self, item: Credential) -> _Accepted:
        secret = item.password if item.type == "basic" else item.token
        text = secret.reveal()
        kind = f"header:{item.header.lower()}" if item.type == "header" else item.type
        user = item.username.encode() if item.type == "basic" else b""
        if secret.is_hash:
            return _Accepted(principal(item), kind, user, scrypt=text)
        digest = _Presented(kind, user, text.encode()).digest(self._key)
        return _Accepted(principal(item), kind, user, digest=digest)

    def _presented(self, headers: Headers) -> list[_Presented]:
        found = []
        values = headers.getall("Authorization", ())
        if len(values) == 1 and len(values[0]) <= _MAX_PRESENTED_BYTES:
            scheme, _, rest = values[0].strip().partition(" ")
            if scheme.lower() == "basic" and (pair := _decode_basic(rest.strip())) is not None:
                found.append(_Presented("basic", *pair))
            elif scheme.lower() == "bearer":
                found.append(_Presented("bearer", b"", _bytes(rest.strip())))
        for name in self._header_names:
            values = headers.getall(name, ())
            if len(values) == 1 and len(values[0]) <= _MAX_PRESENTED_BYTES:
                found.append(_Presented(f"header:{name.lower()}", b"", _bytes(values[0].strip())))
        return found

    def _compare(self, presented: _Presented) -> str | None:
        digest = presented.digest(self._key)
        name: str | None = None
        for item in self._plain:  # every one, also after a match
            if hmac.compare_digest(digest, item.digest):
                name = item.principal
        return name

    async def _verify(self, presented: _Presented) -> str | None:
        """Verify against the scrypt hashes, or remember having done so."""
        digest = presented.digest(self._key)
        if (name := self._known.get(digest)) is not None:
            self._known.move_to_end(digest)
            return name
        if digest in self._refused or not any(item.kind == presented.kind for item in self._hashed):
            return None
        check = self._checks.get(digest)
        if check is None:
            if len(self._checks) >= MAX_RUNNING_CHECKS + MAX_WAITING_CHECKS:
                raise TooManyRequestsError(
                    "Too many credentials are being checked at this moment.",
                    retry_after_seconds=_RETRY_AFTER_SECONDS,
                )
            check = self._checks[digest] = asyncio.create_task(self._check(digest, presented))
        # Shielded: a client that goes away must not cancel the check that others wait for.
        return await asyncio.shield(check)

    async def _check(self, digest: bytes, presented: _Presented) -> str | None:
        try:
            loop = asyncio.get_running_loop()
            name = await loop.run_in_executor(self._executor, self._check_all, presented)
        finally:
            del self._checks[digest]
        if name is None:
            self._refused[digest] = None
            if len(self._refused) > _REFUSED_REMEMBERED:
                self._refused.popitem(last=False)
        else:
            self._known[digest] = name
            if len(self._known) > _ACCEPTED_REMEMBERED:
                self._known.popitem(last=False)
        return name

    def _check_all(self, presented: _Presented) -> str | None:
        """Verify against every hash of that kind, so an unknown user costs what a wrong password costs."""
        secret = presented.secret.decode("utf-8", "replace")
        name: str | None = None
        for item in self._hashed:
            if item.kind == presented.kind:
                right = self._check_hash(secret, item.scrypt)
                if right & hmac.compare_digest(item.user, presented.user):
                    name = item.principal
        return name


def principal(item: Credential) -> str:
    """Return the name under which a credential appears in logs and pins."""
    return item.name or item.username or item.type


def _challenges(credentials: Sequence[Credential]) -> tuple[str, ...]:
    """Return the WWW-Authenticate challenges for the configured kinds (RFC 7617, RFC 6750)."""
    kinds = {item.type for item in credentials}
    found = []
    if "basic" in kinds:
        found.append(f'Basic realm="{REALM}", charset="UTF-8"')
    if "bearer" in kinds:
        found.append(f'Bearer realm="{REALM}"')
    if not found:
        found.append(f'ApiKey realm="{REALM}"')
    return tuple(found)


def _decode_basic(text: str) -> tuple[bytes, bytes] | None:
    """Return (user, password) of Basic credentials; None if they are malformed (RFC 7617)."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    user, colon, password = raw.partition(b":")
    if not colon:
        return None
    return _as_utf8(user), _as_utf8(password)


def _as_utf8(raw: bytes) -> bytes:
    """Return the bytes as UTF-8; older clients send ISO 8859-1 (RFC 7617 section 2.1 leaves it open)."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1").encode()
    return raw


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")
