"""Exceptions carry facts, and reach the process that waits for them."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import pytest

from snapshot import errors
from snapshot.errors import ConfigProblem

PROBLEM = ConfigProblem("c.toml", "a.b", "x", "y")
EXAMPLES = [
    errors.SnapshotError("Cause.", remedy="Remedy."),
    errors.ConfigError([PROBLEM]),
    errors.SecretError("${env:A}", "it is not set"),
    errors.SourceError("timeout", "Cause.", remedy="Remedy.", number=5),
    errors.MappingError([PROBLEM, PROBLEM]),
    errors.RejectError("title", "reason"),
    errors.StoreError("Cause.", remedy="Remedy."),
    errors.LockHeldError(Path("/d/LOCK"), "process 5"),
    errors.NoSnapshotError(Path("/d")),
    errors.CorruptGenerationError(Path("/d/1"), "reason"),
    errors.FormatVersionError(Path("/d/1"), 2, 1),
    errors.PublishRefusedError(5, ["too few"]),
    errors.FilterError("detail", position=3),
    errors.SortError("detail"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_they_survive_the_way_between_processes(error):
    """An exception that a child sends arrives with its type, its text and all its facts."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(error) is type(copy)
    assert str(error) == str(copy)
    assert vars(error) == vars(copy)


def test_every_exception_is_here():
    """A new exception gets its example in this file."""
    known = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)}
    assert known == {type(error) for error in EXAMPLES}


def test_a_problem_is_one_line():
    """A configuration problem says where, which key, what was found and what was expected."""
    assert "c.toml: a.b: found x; expected y" == str(PROBLEM)
    assert 2 == len(str(errors.MappingError([PROBLEM, PROBLEM])).splitlines())
