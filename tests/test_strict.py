"""Strict reading of TOML tables."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from snapshot.secret import Secret
from snapshot.strict import Reader, nearest, shown


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(msgspec.Struct, frozen=True):
    secret: Secret = Secret("")
    number: int = 0


class Outer(msgspec.Struct, frozen=True):
    name: str
    size: Annotated[int, msgspec.Meta(ge=1, le=9)] | None = None
    kind: Literal["a", "b"] = "a"
    either: Literal["keep"] | bool = "keep"
    scalar: str | int | None = None
    colour: Colour = Colour.RED
    names: tuple[str, ...] = ()
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()


def problems(table: object) -> list[str]:
    reader = Reader("f", Path())
    reader.struct(Outer, table, "t")
    return [str(problem) for problem in reader.problems]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": 5}, "f: t.name: found 5 (integer); expected string"),
        ({"name": "n", "size": 0}, "f: t.size: found 0 (integer); expected integer >= 1"),
        ({"name": "n", "size": True}, "f: t.size: found true (boolean); expected integer"),
        ({"name": "n", "kind": "c"}, 'f: t.kind: found "c" (string); expected one of "a", "b"'),
        ({"name": "n", "either": "c"}, 'f: t.either: found "c" (string); expected one of "keep", true, false'),
        ({"name": "n", "scalar": [1]}, "f: t.scalar: found [1] (array); expected integer or string"),
        ({"name": "n", "colour": "green"}, 'f: t.colour: found "green" (string); expected one of "red", "blue"'),
        ({"name": "n", "names": "x"}, 'f: t.names: found "x" (string); expected array'),
        ({"name": "n", "many": {}}, "f: t.many: found a table; expected an array of tables ([[t.many]])"),
        (
            {"name": "n", "nmae": 1},
            "f: t.nmae: found an unknown key; expected one of the known keys (did you mean name?)",
        ),
        ({}, "f: t.name: found nothing; expected a value (this key is required)"),
        ([], "f: t: found [] (array); expected a table"),
    ],
)
def test_a_wrong_value(table, message):
    """A wrong value is one line: file, key, what was found with its TOML type, what was expected."""
    assert [message] == problems(table)


def test_every_problem_is_found():
    """One reading reports every problem, those of inner tables with their whole key."""
    table = {"nam": 1, "size": "x", "many": [{}, {"number": "n"}], "inner": {"numbr": 1, "secret": 3}}
    assert [
        "f: t.nam: found an unknown key; expected one of the known keys (did you mean name?)",
        "f: t.name: found nothing; expected a value (this key is required)",
        'f: t.size: found "x" (string); expected integer',
        "f: t.inner.numbr: found an unknown key; expected one of the known keys (did you mean number?)",
        "f: t.inner.secret: found a value of type integer; expected a string",
        'f: t.many[2].number: found "n" (string); expected integer',
    ] == problems(table)


@pytest.mark.parametrize("inner", ["hunter2", ["hunter2"], 4711])
def test_what_stands_in_the_place_of_a_secret_is_not_shown(inner):
    """Where a table with a secret belongs, anything else may be the secret and is not shown."""
    (message,) = problems({"name": "n", "inner": inner})
    assert message.startswith("f: t.inner: found a value of type ")
    assert "hunter2" not in message
    assert "4711" not in message


def test_a_mistyped_reference_is_no_password():
    """A secret that begins like a reference but is none is a problem, and is not shown."""
    (message,) = problems({"name": "n", "inner": {"secret": "${evn:PASSWORD_X}"}})
    assert (
        "f: t.inner.secret: found a reference of no known kind; expected ${env:NAME}, ${file:PATH} or ${credential:NAME}"
        == message
    )


def test_values_are_cut():
    """A long value is cut, so that a problem stays a line."""
    assert len(shown("x" * 500)) < 80
    assert "a table" == shown({"a": 1})


def test_nearest():
    """The nearest known name is found without case, none if nothing is near."""
    assert " (did you mean userName?)" == nearest("USERNAM", ["id", "userName"])
    assert "" == nearest("zzz", ["id", "userName"])
