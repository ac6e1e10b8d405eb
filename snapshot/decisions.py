"""Carry out what a person decided over HTTP: approve or reject a generation in quarantine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from snapshot import control
from snapshot.approval import approve, reject
from snapshot.errors import SnapshotError
from snapshot.logs import now_text
from snapshot.store import writer_lock
from snapshot.worker import outcome_counts

if TYPE_CHECKING:
    from snapshot.config import Config

log = logging.getLogger("scheduler")

# Somebody may be deciding at the command line at this moment.
_LOCK_SECONDS = 30.0


def carry_out(config: Config, request: control.RefreshRequest) -> control.RefreshRequest:
    """Carry out one decision and answer its request; never raises for what goes wrong with the generation.

    Raises OSError if the request itself cannot be written: then nothing was done.
    """
    running = control.begin_request(config.data_dir, request)
    facts = {"generation": request.target, "who": _who(request)}
    try:
        with writer_lock(config.data_dir, patience_seconds=_LOCK_SECONDS):
            answered = _decide(config, running)
    except SnapshotError as error:
        answered = msgspec.structs.replace(running, state="failed", reason=error.cause, remedy=error.remedy)
    except Exception as error:
        log.exception("a decision failed unexpectedly", extra={"facts": {"kind": request.kind, **facts}})
        reason = f"Unexpected {type(error).__name__}: {error}"
        answered = msgspec.structs.replace(running, state="failed", reason=reason, remedy="Please report this.")
    answered = msgspec.structs.replace(answered, finished_at=now_text())
    if answered.state == "failed":
        told = {"kind": request.kind, **facts, "reason": answered.reason, "remedy": answered.remedy}
        log.error("quarantine decision failed", extra={"facts": told})
    else:
        log.info("quarantine %s", "approved" if request.kind == "approve" else "rejected", extra={"facts": facts})
    control.write_request(config.data_dir, answered)
    return answered


def _decide(config: Config, request: control.RefreshRequest) -> control.RefreshRequest:
    number, content, who = request.target, request.content, _who(request)
    if number is None:
        return msgspec.structs.replace(request, state="failed", reason="The request names no generation.")
    if request.kind == "reject":
        reject(config, number, who=who, content=content)
        return msgspec.structs.replace(request, state="rejected")
    manifest = approve(config, number, who=who, content=content)
    return msgspec.structs.replace(
        request, state="published", generation=number, counts=outcome_counts(manifest, manifest.changes)
    )


def _who(request: control.RefreshRequest) -> str:
    return f"http:{request.asked_by}"
