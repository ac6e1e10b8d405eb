"""How old what is served is: the time since a refresh last made or confirmed it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from snapshot.control import confirmed_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.live import LiveSnapshot

log = logging.getLogger(__name__)


def confirmed_at_ms(live: LiveSnapshot) -> int | None:
    """Return when the source was last known to hold what is served, in ms; None before the first snapshot."""
    snapshot = live.current
    if snapshot is None:
        return None
    manifest = snapshot.manifest
    return confirmed_ms(
        live.scheduler,
        generation=snapshot.generation,
        created_ms=manifest.created_ms,
        approved=bool(manifest.refused),
    )


def snapshot_age_seconds(live: LiveSnapshot, *, clock: Callable[[], float] = time.time) -> float | None:
    """Return how old what is served is; None before the first snapshot, never negative."""
    confirmed = confirmed_at_ms(live)
    return None if confirmed is None else round(max(clock() - confirmed / 1000, 0.0), 1)


def is_stale(live: LiveSnapshot, max_age_seconds: int, *, clock: Callable[[], float] = time.time) -> bool:
    """Tell whether what is served is older than server.max_age_seconds; 0 sets no limit."""
    age = snapshot_age_seconds(live, clock=clock)
    return max_age_seconds > 0 and age is not None and age > max_age_seconds


class FreshnessWatch:
    """Logs once when the snapshot becomes stale, and once when it is fresh again."""

    def __init__(self, live: LiveSnapshot, max_age_seconds: int, *, clock: Callable[[], float] = time.time) -> None:
        self._live = live
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._stale = False

    def look(self) -> None:
        """Look once."""
        stale = is_stale(self._live, self._max_age_seconds, clock=self._clock)
        if stale == self._stale:
            return
        self._stale = stale
        facts = {
            "generation": self._live.current.generation if self._live.current else None,
            "age_seconds": snapshot_age_seconds(self._live, clock=self._clock),
            "max_age_seconds": self._max_age_seconds,
        }
        if stale:
            log.warning("the snapshot is stale; it goes on being served", extra={"facts": facts})
        else:
            log.info("the snapshot is fresh again", extra={"facts": facts})
