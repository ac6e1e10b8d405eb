"""Run one refresh in a child process with a deadline, so that a server that hangs cannot hang the schedule.

The driver's time-outs are global to a process and some waits have none; killing the child always works,
and a generation that was being written then is swept.
"""

from __future__ import annotations

import contextlib
import time
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

import msgspec

from snapshot.child import become_child, end_child, start_child
from snapshot.control import Progress, RefreshOutcome
from snapshot.errors import PublishRefusedError, SnapshotError, SourceError, StoreError
from snapshot.logs import now_text
from snapshot.refresh import refresh
from snapshot.scim import GROUP, USER
from snapshot.store import ChangeFacts, sweep, writer_lock

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from multiprocessing.context import SpawnProcess

    from snapshot.config import Config
    from snapshot.folder import LockedFolder
    from snapshot.store import Manifest

# What may be gone a moment later. Never a refused login: who repeats it gets the account locked.
RETRIED = frozenset({"deadlock", "connection_lost"})
_POLL_SECONDS = 0.5
_TERMINATE_SECONDS = 5.0


def refresh_with_deadline(
    config: Config,
    *,
    on_progress: Callable[[Progress], None],
    stop: threading.Event | None = None,
    folder: LockedFolder | None = None,
) -> RefreshOutcome:
    """Refresh in a child process; never raises for what goes wrong there, the outcome tells it.

    The child is killed when schedule.deadline_seconds are over or `stop` is set. With `folder` each attempt begins
    only if that is still the data folder.
    """
    began = time.monotonic()
    process, receiver = start_child(_child, config, folder, name="scim-refresh")
    try:
        outcome = _supervise(process, receiver, config, on_progress, stop, began)
    finally:
        if process.is_alive():
            end_child(process)
            if folder is None or folder.is_there:
                with contextlib.suppress(StoreError, OSError), writer_lock(config.data_dir):
                    sweep(config.data_dir)
        receiver.close()
    return outcome


def _supervise(
    process: SpawnProcess,
    receiver: Connection,
    config: Config,
    on_progress: Callable[[Progress], None],
    stop: threading.Event | None,
    began: float,
) -> RefreshOutcome:
    deadline = began + config.schedule.deadline_seconds
    while True:
        if stop is not None and stop.is_set():
            return failed("stopped", "The scheduler was stopped during the refresh.", "", began)
        if time.monotonic() > deadline:
            return failed(
                "deadline",
                f"The refresh was not finished after {config.schedule.deadline_seconds} seconds and was ended.",
                "Look for blocking in SQL Server, or raise schedule.deadline_seconds.",
                began,
            )
        ready = wait([receiver, process.sentinel], timeout=_POLL_SECONDS)
        if receiver in ready:
            try:
                message = receiver.recv()
            except EOFError:
                message = None
            if isinstance(message, RefreshOutcome):
                process.join(_TERMINATE_SECONDS)
                return message
            if isinstance(message, Progress):
                on_progress(message)
                continue
        if process.sentinel in ready or receiver in ready:
            process.join(_TERMINATE_SECONDS)
            return failed(
                "crashed",
                f"The refresh process ended with exit code {process.exitcode} and no word.",
                "Look for a lack of memory in the system log.",
                began,
            )


def _child(config: Config, folder: LockedFolder | None, sender: Connection) -> None:
    """Entry point of the child."""
    become_child()
    began = time.monotonic()
    sender.send(refresh_outcome(config, sender.send, began, folder=folder))
    sender.close()


def refresh_outcome(
    config: Config, report: Callable[[Progress], None], began: float, *, folder: LockedFolder | None = None
) -> RefreshOutcome:
    """Refresh in this process and put what happens into an outcome.

    After a deadlock or a lost connection all of it is done again, source.retries times at most: a new
    connection, a new transaction, a new generation.
    """
    overcome: list[str] = []
    while True:
        outcome = _attempt(config, report, began, folder)
        if outcome.code not in RETRIED or len(overcome) == config.source.retries:
            return _with_attempts(outcome, overcome)
        pause = config.source.retry_seconds * 2 ** len(overcome)
        overcome.append(outcome.reason)
        report(Progress(phase="retry", seconds=round(time.monotonic() - began, 1), seconds_left=round(pause, 1)))
        time.sleep(pause)


def _with_attempts(outcome: RefreshOutcome, overcome: list[str]) -> RefreshOutcome:
    """Say in the outcome what the attempts before the last one failed of."""
    if not overcome:
        return outcome
    attempts = len(overcome) + 1
    before = " ".join(dict.fromkeys(overcome))
    if outcome.state == "failed":
        said = f"{outcome.reason} {attempts} attempts were made" + ("." if before == outcome.reason else f": {before}")
        return msgspec.structs.replace(outcome, attempts=attempts, reason=said)
    warning = f"The source was read at attempt {attempts}, after: {before}"
    return msgspec.structs.replace(outcome, attempts=attempts, warnings=(*outcome.warnings, warning))


def _attempt(
    config: Config, report: Callable[[Progress], None], began: float, folder: LockedFolder | None
) -> RefreshOutcome:
    """Refresh once."""
    try:
        if folder is not None:
            folder.check()
        refreshed = refresh(config, report=report)
    except PublishRefusedError as error:
        return RefreshOutcome(
            state="refused",
            at=now_text(),
            generation=error.generation,
            seconds=round(time.monotonic() - began, 3),
            code="guard",
            reason=error.cause,
            remedy=error.remedy,
        )
    except SnapshotError as error:
        code = error.code if isinstance(error, SourceError) else type(error).__name__.removesuffix("Error").lower()
        return failed(code, error.cause, error.remedy, began)
    except MemoryError:
        return failed("memory", "The refresh ran out of memory.", "Give the machine more memory.", began)
    except Exception as error:  # noqa: BLE001 (a defect must not look like a crash of the machine)
        return failed("defect", f"Unexpected {type(error).__name__}: {error}", "Please report this.", began)
    manifest = refreshed.manifest
    return RefreshOutcome(
        state="published" if refreshed.published else "unchanged",
        at=now_text(),
        generation=manifest.generation,
        counts=outcome_counts(manifest, manifest.changes if refreshed.published else ChangeFacts()),
        seconds=round(time.monotonic() - began, 3),
        warnings=manifest.warnings,
    )


def outcome_counts(manifest: Manifest, changes: ChangeFacts) -> dict[str, int]:
    """Return the numbers that an administrator wants to see of a generation and of what it changed."""
    users = manifest.resource_types[USER]
    return {
        "rows": manifest.rows,
        "users": users.count,
        "active": users.active,
        "tombstones": users.removed,
        "rejects": manifest.rejects,
        "kept": manifest.kept,
        **({"related_rejects": sum(item.rejects for item in manifest.related.values())} if manifest.related else {}),
        **_related_counts(manifest),
        **msgspec.structs.asdict(changes),
    }


def _related_counts(manifest: Manifest) -> dict[str, int]:
    """Return how many groups and entitlements there are, of all types together, where there is a section of them."""
    others = {name: facts.count for name, facts in manifest.resource_types.items() if name != USER}
    found = {"groups": others.pop(GROUP)} if GROUP in others else {}
    return {**found, "entitlements": sum(others.values())} if others else found


def failed(code: str, reason: str, remedy: str, began: float) -> RefreshOutcome:
    """Return the outcome of a refresh that published nothing."""
    return RefreshOutcome(
        state="failed",
        at=now_text(),
        seconds=round(time.monotonic() - began, 3),
        code=code,
        reason=reason,
        remedy=remedy,
    )
