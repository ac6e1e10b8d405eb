"""Every exception of the snapshot side; each carries its facts as attributes.

No exception of a driver or library crosses a seam: a source turns what pymssql or sqlite3 raised into
a `SourceError`, the store turns an `OSError` into a `StoreError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class SnapshotError(Exception):
    """Base of every error that an administrator may be shown: a cause and, where there is one, a remedy."""

    def __init__(self, cause: str, *, remedy: str = "") -> None:
        super().__init__(f"{cause} {remedy}".strip())
        self.cause = cause
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by facts, so that an error crosses from one process to another whole."""
        return _revive, (type(self), self.args, self.__dict__)


def _revive(kind: type[SnapshotError], arguments: tuple[Any, ...], facts: dict[str, Any]) -> SnapshotError:
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(facts)
    return error


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing wrong in the configuration: where, what was found, what was expected."""

    where: str
    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.where}: {self.key}: found {self.found}; expected {self.expected}"


class ConfigError(SnapshotError):
    """The configuration cannot be used; `problems` holds every problem found, not only the first."""

    def __init__(self, problems: Sequence[ConfigProblem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class SecretError(SnapshotError):
    """A secret reference (environment, file, systemd credential) leads nowhere. Never holds the secret."""

    def __init__(self, reference: str, cause: str) -> None:
        super().__init__(f"The secret {reference} cannot be read: {cause}.")
        self.reference = reference


class SourceError(SnapshotError):
    """Reading the source failed, so the refresh fails and the last good snapshot stays.

    `code` is one of: unreachable, login_refused, certificate, encryption, permission, missing_object,
    missing_column, query, isolation, deadlock, connection_lost, timeout, truncated, driver, crashed.
    """

    def __init__(self, code: str, cause: str, *, remedy: str = "", number: int | None = None) -> None:
        super().__init__(cause, remedy=remedy)
        self.code = code
        self.number = number


class MappingError(SnapshotError):
    """The mapping does not fit the columns that the source sends."""

    def __init__(self, problems: Sequence[ConfigProblem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.remedy = "Correct the mapping, or the columns of the source: python scheduler.py --check compares them."
        self.problems = tuple(problems)


class RejectError(SnapshotError):
    """One row cannot become a resource. Carries the attribute and the reason, never the value."""

    def __init__(self, attribute: str, reason: str) -> None:
        super().__init__(f"{attribute}: {reason}")
        self.attribute = attribute
        self.reason = reason


class StoreError(SnapshotError):
    """The data folder cannot be used as asked."""


class LockHeldError(StoreError):
    """Another process writes to this data folder."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(
            f"{path} is held by another process ({holder}).",
            remedy="Only one scheduler may write to a data folder: stop the other one or use another data_dir.",
        )
        self.path = path
        self.holder = holder


class NoSnapshotError(StoreError):
    """No generation has been published in this data folder yet."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"No generation has been published in {path} yet.", remedy="Run a refresh.")
        self.path = path


class CorruptGenerationError(StoreError):
    """A file of a published generation is missing, cut or altered."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: {reason}.",
            remedy="This generation is not served. Run a refresh to publish a new one.",
        )
        self.path = path
        self.reason = reason


class FormatVersionError(StoreError):
    """A generation was written in a format that this program does not read."""

    def __init__(self, path: Path, found: int, expected: int) -> None:
        super().__init__(
            f"{path} has format version {found}; this program reads versions up to {expected}.",
            remedy="Run scheduler and server in the same version, then run a refresh.",
        )
        self.path = path
        self.found = found
        self.expected = expected


class PublishRefusedError(SnapshotError):
    """The guard refused a generation; it waits in quarantine, the last good one is served."""

    def __init__(self, generation: int, reasons: Sequence[str], *, options: str = "") -> None:
        super().__init__(
            f"Generation {generation} is in quarantine: {'; '.join(reasons)}.",
            remedy=f"If this is right: python -m snapshot quarantine approve {generation}{options}",
        )
        self.generation = generation
        self.reasons = tuple(reasons)


class FilterError(SnapshotError):
    """A SCIM filter cannot be understood or is not supported; `position` is 0-based, in characters."""

    def __init__(self, detail: str, *, position: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.position = position


class SortError(SnapshotError):
    """A list cannot be sorted by the attribute that was asked for."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
