"""Secrets: references, literals, hashes; never shown."""

from __future__ import annotations

import contextlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.errors import SecretError
from snapshot.secret import Secret, hash_secret, parse_hash, verify_hash


def test_never_shown():
    """Neither repr nor str nor a format shows the secret."""
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"


def test_environment(monkeypatch):
    """${env:NAME} is read when asked for, not before; unset or empty is an error that names the reference."""
    secret = Secret("${env:SCIM_TEST_SECRET}")
    monkeypatch.delenv("SCIM_TEST_SECRET", raising=False)
    with pytest.raises(SecretError, match=r"\$\{env:SCIM_TEST_SECRET\} cannot be read: .* is not set"):
        secret.reveal()
    monkeypatch.setenv("SCIM_TEST_SECRET", "")
    with pytest.raises(SecretError, match="it is empty"):
        secret.reveal()
    monkeypatch.setenv("SCIM_TEST_SECRET", "pä$$ ")
    assert "pä$$ " == secret.reveal()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"pw", "pw"),
        (b"pw\n", "pw"),
        (b"pw\r\n", "pw"),
        (b"pw\n\n", "pw\n"),
        (b" pw ", " pw "),
        (b"\xef\xbb\xbfpw\n", "pw"),
    ],
)
def test_file(tmp_path, data, expected):
    """${file:PATH} starts from the folder of the configuration; one line end and a BOM are dropped."""
    (tmp_path / "secret").write_bytes(data)
    assert expected == Secret("${file:secret}", base=tmp_path).reveal()
    assert expected == Secret(f"${{file:{tmp_path}/secret}}").reveal()


@pytest.mark.parametrize(
    ("data", "reason"),
    [(None, "No such file"), (b"", "it is empty"), (b"\xff\xfe", "is not UTF-8"), (b"x" * 20_000, "larger than")],
)
def test_bad_file(tmp_path, data, reason):
    """A file that is missing, empty, no text or too long is an error that does not show what it holds."""
    if data is not None:
        (tmp_path / "secret").write_bytes(data)
    with pytest.raises(SecretError, match=reason) as caught:
        Secret("${file:secret}", base=tmp_path).reveal()
    assert "xxx" not in str(caught.value)


def test_credential(tmp_path, monkeypatch):
    """${credential:NAME} is the file that systemd put into CREDENTIALS_DIRECTORY."""
    secret = Secret("${credential:db}")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(SecretError, match="CREDENTIALS_DIRECTORY is not set"):
        secret.reveal()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "db").write_text("pw\n")
    assert "pw" == secret.reveal()


def test_kinds():
    """Empty, literal, reference, hash and known are told apart."""
    facts = {
        text: (Secret(text).is_empty, Secret(text).is_literal, Secret(text).is_hash)
        for text in ("", "pw", "${env:A}", "${env:A} ", "x${env:A}", "scrypt$1$2")
    }
    assert {
        "": (True, False, False),
        "pw": (False, True, False),
        "${env:A}": (False, False, False),
        "${env:A} ": (False, True, False),
        "x${env:A}": (False, True, False),
        "scrypt$1$2": (False, False, True),
    } == facts


def test_known_text_is_never_a_reference():
    """A secret from an environment variable is taken as it stands, whatever it looks like."""
    for text in ("${env:HOME}", "scrypt$x"):
        secret = Secret.known(text)
        assert text == secret.reveal()
        assert (False, False) == (secret.is_literal, secret.is_hash)


def test_it_reaches_the_child(tmp_path):
    """A secret survives the way into the child process that refreshes."""
    (tmp_path / "s").write_text("pw")
    assert "pw" == pickle.loads(pickle.dumps(Secret("${file:s}", base=tmp_path))).reveal()  # noqa: S301
    assert "${env:A}" == pickle.loads(pickle.dumps(Secret.known("${env:A}"))).reveal()  # noqa: S301


def test_hash():
    """A hash verifies its own secret only, is salted, and holds no part of the secret."""
    one, two = hash_secret("pä:$$wörd"), hash_secret("pä:$$wörd")
    assert one != two
    assert verify_hash("pä:$$wörd", one)
    assert not verify_hash("pä:$$wörD", one)
    assert not verify_hash("", one)
    assert "rd" not in one.split("$")


@pytest.mark.parametrize(
    "text",
    [
        "", "scrypt$", "scrypt$my$pass$word$for$you", "scrypt$3$8$1$AAAA$AAAA", "scrypt$16384$8$1$AAAA$",
        "scrypt$1073741824$8$1$AAAA$AAAA", "scrypt$16384$0$1$AAAA$AAAA", "scrypt$16384$8$1$%%$AAAA",
    ],
)  # fmt: skip
def test_what_is_no_hash(text):
    """A broken hash is a ValueError that shows no part of it, as it may be a password."""
    with pytest.raises(ValueError) as caught:
        parse_hash(text)
    assert "pass" not in str(caught.value)
    assert "my" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_no_hash_or_is_parsed(text):
    """No text makes the parser raise anything but ValueError."""
    with contextlib.suppress(ValueError):
        parse_hash("scrypt$" + text)
