"""Credentials: who gets in, what is remembered, and what a stranger can make the server do."""

from __future__ import annotations

import asyncio
import base64
import hmac
import threading

import pytest
from multidict import CIMultiDict

from server import credentials
from server.credentials import MAX_RUNNING_CHECKS, MAX_WAITING_CHECKS, Authenticator
from server.errors import TooManyRequestsError, UnauthorizedError
from snapshot.config import Credential
from snapshot.errors import SecretError
from snapshot.secret import Secret, hash_secret

HASH = hash_secret("right")


def basic(user: str, password: str | bytes) -> CIMultiDict[str]:
    secret = password.encode() if isinstance(password, str) else password
    return CIMultiDict({"Authorization": "Basic " + base64.b64encode(user.encode() + b":" + secret).decode()})


class SlowHash:
    """Counts verifications and holds them until released."""

    def __init__(self, *, held: bool = False):
        self.calls: list[str] = []
        self.running = self.most = 0
        self._lock = threading.Lock()
        self.release = threading.Event()
        if not held:
            self.release.set()

    def __call__(self, secret: str, _hash: str) -> bool:
        with self._lock:
            self.calls.append(secret)
            self.running += 1
            self.most = max(self.most, self.running)
        self.release.wait(10)
        with self._lock:
            self.running -= 1
        return secret == "right"


@pytest.fixture
def make():
    """Return a maker of authenticators that are closed afterwards."""
    made = []

    def one(*items: Credential, **options) -> Authenticator:
        made.append(Authenticator(items, **options))
        return made[-1]

    yield one
    for item in made:
        item.close()


def plain(user="u", /, **more) -> Credential:
    secret = more.pop("secret", "right")
    return Credential(type="basic", username=user, password=Secret(secret), **more)


def hashed(user="u", **more) -> Credential:
    return Credential(type="basic", username=user, password=Secret(HASH), **more)


async def refused(authenticator, headers) -> bool:
    try:
        await authenticator.authenticate(headers)
    except UnauthorizedError:
        return True
    return False


async def test_the_principal_is_the_name_of_the_credential(make):
    """The name, else the user name, else the kind appears in logs and pins."""
    assert await make(plain(name="okta")).authenticate(basic("u", "right")) == "okta"
    assert await make(plain()).authenticate(basic("u", "right")) == "u"
    bearer = make(Credential(type="bearer", token=Secret("t")))
    assert await bearer.authenticate(CIMultiDict({"Authorization": "Bearer t"})) == "bearer"


async def test_several_credentials_stand_side_by_side(make):
    """While a password is changed the old and the new one both open."""
    both = make(plain(name="old"), plain(secret="new", name="new"), hashed("h"))
    assert await both.authenticate(basic("u", "right")) == "old"
    assert await both.authenticate(basic("u", "new")) == "new"
    assert await both.authenticate(basic("h", "right")) == "h"
    assert await refused(both, basic("h", "new"))


async def test_the_password_of_another_user_does_not_open(make):
    """User name and password belong together, in clear and as a hash."""
    assert await refused(make(plain("a", secret="x"), plain("b", secret="y")), basic("a", "y"))
    assert await refused(make(hashed("a")), basic("b", "right"))


async def test_passwords_may_hold_colons_and_any_text(make):
    """Only the first colon separates; UTF-8 and ISO 8859-1 are both read."""
    one = make(plain(secret="a:b:ü"))
    assert await one.authenticate(basic("u", "a:b:ü")) == "u"
    assert await one.authenticate(basic("u", "a:b:ü".encode("latin-1"))) == "u"


@pytest.mark.parametrize(
    "value",
    ["", "Basic", "Basic ", "Basic ???", "Basic dTpy", "Basic " + base64.b64encode(b"nocolon").decode(), "Bearer", "x"],
)
async def test_malformed_credentials_are_refused(make, value):
    """What cannot be read is a wrong credential, not an error."""
    assert await refused(make(plain(), hashed("h")), CIMultiDict({"Authorization": value}))


async def test_two_authorization_headers_are_refused(make):
    """Nobody can tell which one would hold."""
    headers = basic("u", "right")
    headers.add("Authorization", "Basic x")
    assert await refused(make(plain()), headers)


async def test_none_opens_to_everybody(make):
    """The credential of kind none asks for nothing."""
    assert await make(Credential(type="none")).authenticate(CIMultiDict()) == "none"


async def test_every_credential_is_compared_in_constant_time(make, monkeypatch):
    """A match does not end the comparison early, and all of it goes through compare_digest."""
    compared = []
    genuine = hmac.compare_digest

    def compare(left, right):
        compared.append(right)
        return genuine(left, right)

    one = make(plain("a"), plain("b"), plain("c"))
    monkeypatch.setattr(credentials.hmac, "compare_digest", compare)
    for user in ("a", "b", "c", "nobody"):
        compared.clear()
        await refused(one, basic(user, "right"))
        assert len(compared) == 3


async def test_a_hash_is_verified_once(make):
    """The second request with the same credentials costs no scrypt, right or wrong."""
    check = SlowHash()
    one = make(hashed(), check_hash=check)
    for _ in range(5):
        assert await one.authenticate(basic("u", "right")) == "u"
        assert await refused(one, basic("u", "wrong"))
    assert sorted(check.calls) == ["right", "wrong"]


async def test_an_unknown_user_costs_what_a_wrong_password_costs(make):
    """Every hash is verified either way, so time does not tell which user names exist."""
    check = SlowHash()
    one = make(hashed("a"), hashed("b"), check_hash=check)
    await refused(one, basic("a", "wrong"))
    first = len(check.calls)
    await refused(one, basic("nobody", "wrong2"))
    assert first == len(check.calls) - first == 2


async def test_requests_with_the_same_credentials_wait_for_one_verification(make):
    """Many connections that begin together cost one scrypt."""
    check = SlowHash(held=True)
    one = make(hashed(), check_hash=check)
    waiting = [asyncio.create_task(one.authenticate(basic("u", "right"))) for _ in range(100)]
    await asyncio.sleep(0.05)
    check.release.set()
    assert {"u"} == set(await asyncio.gather(*waiting))
    assert check.calls == ["right"]


async def test_verifications_are_limited(make):
    """A stranger's thousand passwords occupy two threads and a short queue; the rest get 429."""
    check = SlowHash(held=True)
    one = make(hashed(), check_hash=check)
    tries = [asyncio.create_task(one.authenticate(basic("u", f"p{number}"))) for number in range(100)]
    await asyncio.sleep(0.05)
    check.release.set()
    results = await asyncio.gather(*tries, return_exceptions=True)
    kinds = [type(result) for result in results]
    assert kinds.count(UnauthorizedError) == MAX_RUNNING_CHECKS + MAX_WAITING_CHECKS
    assert kinds.count(TooManyRequestsError) == 100 - MAX_RUNNING_CHECKS - MAX_WAITING_CHECKS
    assert check.most <= MAX_RUNNING_CHECKS


async def test_known_credentials_pass_while_strangers_wait(make):
    """A flood of wrong passwords does not keep out who has been verified already."""
    check = SlowHash()
    one = make(hashed(), check_hash=check)
    await one.authenticate(basic("u", "right"))
    check.release.clear()
    tries = [asyncio.create_task(one.authenticate(basic("u", f"p{number}"))) for number in range(100)]
    await asyncio.sleep(0.05)
    assert await one.authenticate(basic("u", "right")) == "u"
    check.release.set()
    await asyncio.gather(*tries, return_exceptions=True)


async def test_what_is_remembered_is_bounded(make):
    """Any number of wrong passwords leaves a bounded memory, and none of it in clear text."""
    check = SlowHash()
    one = make(hashed(), check_hash=check)
    for number in range(300):
        await refused(one, basic("u", f"wrong{number}"))
    assert len(one._refused) <= 256
    assert all(len(key) == 32 for key in one._refused)


async def test_a_real_hash_is_verified(make):
    """The hash that `hash-secret` makes opens for its password and for no other."""
    one = make(hashed())
    assert await one.authenticate(basic("u", "right")) == "u"
    assert await refused(one, basic("u", "Right"))


def test_a_secret_that_leads_nowhere_stops_the_start():
    """A reference to a missing variable is an error at start, not at the first request."""
    with pytest.raises(SecretError):
        Authenticator([plain(secret="${env:NO_SUCH_VARIABLE_HERE}")])


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([plain()], ('Basic realm="scim-snapshot", charset="UTF-8"',)),
        ([Credential(type="bearer", token=Secret("t"))], ('Bearer realm="scim-snapshot"',)),
        ([Credential(type="header", header="X-Key", token=Secret("t"))], ('ApiKey realm="scim-snapshot"',)),
    ],
)
def test_challenges_name_the_configured_kinds(make, items, expected):
    """A 401 says which kind of credential is wanted."""
    assert expected == make(*items).challenges
