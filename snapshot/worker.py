"""Run one refresh in a child process with a deadline, so that a server that hangs cannot hang the schedule.

The driver's time-outs are global to a process and some waits have none; killing the child always works,
and a generation that was being written then is swept.
"""

from __future__ import annotations

import contextlib
import time
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from snapshot.child import become_child, end_child, start_child
from snapshot.control import Progress, RefreshOutcome
from snapshot.errors import PublishRefusedError, SnapshotError, SourceError, StoreError
from snapshot.logs import now_text
from snapshot.refresh import run_refresh
from snapshot.scim import USER
from snapshot.store import sweep, writer_lock

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from multiprocessing.context import SpawnProcess

    from snapshot.config import Config
    from snapshot.store import Manifest

_POLL_SECONDS = 0.5
_TERMINATE_SECONDS = 5.0


def refresh_with_deadline(
    config: Config, *, on_progress: Callable[[Progress], None], stop: threading.Event | None = None
) -> RefreshOutcome:
    """Refresh in a child process; never raises for what goes wrong there, the outcome tells it.

    The child is killed when schedule.deadline_seconds are over or `stop` is set.
    """
    began = time.monotonic()
    process, receiver = start_child(_child, config, name="scim-refresh")
    try:
        outcome = _supervise(process, receiver, config, on_progress, stop, began)
    finally:
        if process.is_alive():
            end_child(process)
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


def _child(config: Config, sender: Connection) -> None:
    """Entry point of the child."""
    become_child()
    began = time.monotonic()
    sender.send(refresh_outcome(config, sender.send, began))
    sender.close()


def refresh_outcome(config: Config, report: Callable[[Progress], None], began: float) -> RefreshOutcome:
    """Refresh in this process and put what happens into an outcome."""
    try:
        manifest = run_refresh(config, report=report)
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
    return RefreshOutcome(
        state="published",
        at=now_text(),
        generation=manifest.generation,
        counts=outcome_counts(manifest),
        seconds=round(time.monotonic() - began, 3),
        warnings=manifest.warnings,
    )


def outcome_counts(manifest: Manifest) -> dict[str, int]:
    """Return the numbers that an administrator wants to see of a generation."""
    users, changes = manifest.resource_types[USER], manifest.changes
    return {
        "rows": manifest.rows,
        "users": users.count,
        "active": users.active,
        "rejects": manifest.rejects,
        "added": changes.added,
        "changed": changes.changed,
        "deactivated": changes.deactivated,
        "removed": changes.removed,
    }


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
