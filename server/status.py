"""What is to be known of one app as it is served: for probes in few words, for administrators in whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from server.freshness import confirmed_at_ms, is_stale, snapshot_age_seconds
from server.notes import scheduler_facts, scheduler_word
from snapshot.logs import now_text

if TYPE_CHECKING:
    from server.directory import Directory
    from snapshot.control import SchedulerStatus


def health_of(directory: Directory) -> dict[str, Any]:
    """Return whether people are served, and whether the last refresh reached their database."""
    live = directory.live
    return {
        "status": "healthy" if live.current is not None else "unhealthy",
        "database": "connected" if _database_answers(live.scheduler) else "disconnected",
        "snapshot_age_seconds": snapshot_age_seconds(live),
    }


def _database_answers(scheduler: SchedulerStatus | None) -> bool:
    """Tell whether the last refresh reached the database; the server itself never asks it."""
    return scheduler is not None and scheduler.last_outcome is not None and scheduler.last_outcome.state != "failed"


def readiness_of(directory: Directory) -> dict[str, Any]:
    """Return whether people are served, and fresh enough."""
    live = directory.live
    max_age_seconds = directory.config.server.max_age_seconds
    served = "stale" if is_stale(live, max_age_seconds) else "ready"
    return {
        "status": "not ready" if live.current is None else served,
        "snapshot_age_seconds": snapshot_age_seconds(live),
        "max_age_seconds": max_age_seconds,
        "quarantined": len(live.waiting),
        "serving_previous": live.serves_previous,
        "scheduler": scheduler_word(live),
    }


def status_of(directory: Directory) -> dict[str, Any]:
    """Return everything that an administrator may see of one app."""
    config, live, pins = directory.config, directory.live, directory.pins
    snapshot = live.current
    served = None
    if snapshot is not None:
        manifest = snapshot.manifest
        served = {
            "generation": snapshot.generation,
            "previous": manifest.previous,
            "created_at": manifest.created_at,
            "confirmed_at": _time_text(confirmed_at_ms(live)),
            "age_seconds": snapshot_age_seconds(live),
            "counts": {name: facts.count for name, facts in manifest.resource_types.items()},
            "tombstones": {name: facts.removed for name, facts in manifest.resource_types.items()},
            "rejects": manifest.rejects,
            "warnings": manifest.warnings,
        }
    return {
        "snapshot": served,
        "max_age_seconds": config.server.max_age_seconds,
        "stale": is_stale(live, config.server.max_age_seconds),
        "quarantine": live.waiting,
        "swaps": live.swaps,
        "swapped_at": live.swapped_at,
        "failed_open": live.failed,
        "pins": {
            "count": len(pins),
            "generations": {str(key): n for key, n in pins.generations().items()},
        },
        "scheduler": {**scheduler_facts(live), "last_word": live.scheduler},
        "config": config.where,
        "warnings": config.warnings,
    }


def _time_text(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else now_text(datetime.fromtimestamp(milliseconds / 1000, UTC))
