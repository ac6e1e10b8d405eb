"""Scheduler: the refreshes of one app, the decisions on it, and its word in status.json. Knows no schedule."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from snapshot import control
from snapshot.commandline import EXIT_FAILED, EXIT_OK, EXIT_REFUSED
from snapshot.config import config_digest
from snapshot.decisions import carry_out
from snapshot.errors import StoreError
from snapshot.logs import now_text
from snapshot.pause import LOGIN_REFUSED, LoginPause
from snapshot.progress import ProgressLine, summary
from snapshot.store import generation_directory, quarantine_directory, read_current, read_manifest
from snapshot.worker import failed, outcome_counts, refresh_with_deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from snapshot.config import Config
    from snapshot.folder import LockedFolder

log = logging.getLogger("scheduler")

LOCK_NAME = "SCHEDULER.LOCK"


class Scheduler:
    """Refreshes one app, and carries out decisions on it: never two at once. Its data folder is its own."""

    def __init__(
        self,
        config: Config,
        *,
        refresh: Callable[..., control.RefreshOutcome] = refresh_with_deadline,
        folder: LockedFolder | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """With `stop` a refresh that runs ends when that is set; with `folder` nothing is written to another one."""
        self._config = config
        self._folder = folder
        self._refresh = refresh
        self._data_dir = config.data_dir
        self._stop = stop or threading.Event()
        self._running = threading.Lock()
        self._line = ProgressLine(sys.stderr, config.name)
        old = control.read_status(self._data_dir)
        self._status = control.SchedulerStatus(
            pid=os.getpid(),
            started_at=now_text(),
            updated_at=now_text(),
            phase="starting",
            last_success=old.last_success if old else None,
            last_outcome=old.last_outcome if old else None,
            failures_in_a_row=old.failures_in_a_row if old else 0,
        )
        self._status_lock = threading.Lock()
        self._last_written = 0.0
        self._pause = LoginPause()
        self._pause_ends_at = ""
        self._planned: Callable[[], datetime | None] = lambda: None

    @property
    def name(self) -> str:
        """The name of the app; empty for the only one."""
        return self._config.name

    @property
    def data_dir(self) -> Path:
        """The data folder of the app."""
        return self._data_dir

    def once(self) -> int:
        """Refresh now; print the result; return the exit code."""
        self._abandon_requests()
        outcome = self.refresh()
        self._say(phase="stopped")
        text = f"{self.name}: {summary(outcome)}" if self.name else summary(outcome)
        print(text, file=sys.stdout if _is_good(outcome) else sys.stderr)
        if _is_good(outcome):
            return EXIT_OK
        return EXIT_REFUSED if outcome.state == "refused" else EXIT_FAILED

    def prepare(self) -> datetime | None:
        """Settle what an earlier scheduler left behind; return when what is served was last confirmed.

        None if nothing is served that this configuration made.
        """
        self._abandon_requests()
        self._settle_approval()
        return self.confirmed_at()

    def begin(self, planned: Callable[[], datetime | None]) -> None:
        """Say that the schedule has begun; `planned` tells when the next refresh comes."""
        self._planned = planned
        self._say(phase="idle")

    def tell(self) -> None:
        """Write status.json anew, for example because the next refresh has been planned."""
        self._say()

    def end(self) -> None:
        """Say that the schedule has ended."""
        self._say(phase="stopped")

    def refresh(self) -> control.RefreshOutcome:
        """Refresh once, in a child process, and say everywhere how it ended."""
        with self._running:
            outcome = self._refresh_if_there()
            good = _is_good(outcome)
            self._note_pause(outcome)
            self._say(
                phase="idle",
                progress=None,
                last_outcome=outcome,
                last_success=outcome if good else self._status.last_success,
                # To be stopped is no failure of the source.
                failures_in_a_row=0 if good else self._status.failures_in_a_row + (outcome.code != "stopped"),
            )
        facts: dict[str, object] = {
            "state": outcome.state,
            "generation": outcome.generation,
            "seconds": outcome.seconds,
            **outcome.counts,
        }
        if good:
            event = "refresh published" if outcome.state == "published" else "refresh found no change"
            log.info(event, extra={"facts": facts})
        else:
            facts |= {"code": outcome.code, "reason": outcome.reason, "remedy": outcome.remedy}
            log.error(
                "refresh %s; the last good snapshot goes on being served",
                outcome.state,
                extra={"facts": facts},
            )
        for warning in outcome.warnings:
            log.warning(warning)
        if outcome.code == LOGIN_REFUSED and (until := self._paused_until()):
            log.warning("the database refused the login: scheduled refreshes wait", extra={"facts": {"until": until}})
        return outcome

    def _refresh_if_there(self) -> control.RefreshOutcome:
        """Refresh, and answer those who asked; where the data folder is gone, nothing is read nor written."""
        try:
            if self._folder is not None:
                self._folder.check()
        except StoreError as error:
            return failed("store", error.cause, error.remedy, time.monotonic())
        self._carry_out_decisions()  # asked before this refresh, which may make them void
        requests: list[control.RefreshRequest] = []
        with _notes():
            requests = control.take_requests(self._data_dir)
        self._say(phase="refreshing")
        outcome = self._refresh(self._config, on_progress=self._progress, stop=self._stop, folder=self._folder)
        self._line.clear()
        if self._is_there():
            with _notes():
                control.answer_requests(self._data_dir, requests, outcome)
                control.forget_old_requests(self._data_dir)
        return outcome

    def _is_there(self) -> bool:
        """Tell whether the data folder is the one that was locked; if not, nothing may be made there."""
        return self._folder is None or self._folder.is_there

    def decide(self) -> None:
        """Carry out the decisions on generations in quarantine that were asked for, in their order."""
        with self._running:
            self._carry_out_decisions()

    def _carry_out_decisions(self) -> None:
        with _notes():
            for request in control.list_decisions(self._data_dir):
                if not self._is_there():
                    return
                read_at = self._read_at(request.target)
                answered = carry_out(self._config, request)
                if answered.state == "published" and answered.generation is not None:
                    self._note_approval(answered.generation, answered.counts, read_at or answered.finished_at)
                self._say()

    def _note_approval(self, generation: int, counts: dict[str, int], read_at: str) -> None:
        """What was approved is served from now on; if it is what the last refresh was refused for, that is settled.

        Its time is the one at which its rows were read: an approval makes an old read no fresher.
        """
        outcome = control.RefreshOutcome(state="published", at=read_at, generation=generation, counts=counts)
        if self._was_refused(generation):
            self._say(last_success=outcome, last_outcome=outcome, failures_in_a_row=0)
        else:
            self._say(last_success=outcome)

    def _was_refused(self, generation: int | None) -> bool:
        """Tell whether this is the generation that the last refresh was refused for."""
        last = self._status.last_outcome
        return last is not None and last.state == "refused" and last.generation == generation is not None

    def _read_at(self, generation: int | None) -> str:
        """Return when the rows of a generation in quarantine were last read; empty if nobody knows."""
        last = self._status.last_outcome
        if last is not None and self._was_refused(generation):
            return last.at  # a refusal that repeats itself has read the same again
        if generation is None:
            return ""
        with contextlib.suppress(StoreError):
            return read_manifest(quarantine_directory(self._data_dir, generation)).created_at
        return ""

    def _settle_approval(self) -> None:
        """Notice that what the last refresh was refused for was approved at the command line, and is served."""
        last = self._status.last_outcome
        if last is None or last.state != "refused" or not self._running.acquire(blocking=False):
            return
        try:
            with contextlib.suppress(StoreError):
                number = read_current(self._data_dir)
                if number is not None and self._was_refused(number):
                    manifest = read_manifest(generation_directory(self._data_dir, number))
                    self._note_approval(number, outcome_counts(manifest, manifest.changes), self._read_at(number))
        finally:
            self._running.release()

    def _note_pause(self, outcome: control.RefreshOutcome) -> None:
        self._pause.note(outcome.code)
        if outcome.code == LOGIN_REFUSED:
            self._pause_ends_at = now_text(datetime.now(UTC) + timedelta(seconds=self._pause.seconds_left))

    def refresh_by_schedule(self) -> None:
        """Refresh, unless the database refused the login a short while ago."""
        if not self._pause.seconds_left:
            self.refresh()

    def tick(self) -> Callable[[], object] | None:
        """Say now and then that we are alive; return what was asked for and can be done now, None if nothing."""
        job = None
        with contextlib.suppress(StoreError):
            if self._folder is not None:
                self._folder.check()  # what asks in another folder asks another scheduler
            self._settle_approval()
            kinds = {item.kind for item in control.list_requests(self._data_dir) if item.state == "queued"}
            if kinds and not self._running.locked():
                job = self.refresh if kinds == {"refresh"} else self.decide
        if time.monotonic() - self._last_written > control.HEARTBEAT_SECONDS:
            self._say()
        return job

    def _progress(self, progress: control.Progress) -> None:
        self._line.show(progress)
        self._say(progress=progress)

    def _say(self, **changes: Any) -> None:
        """Write status.json; a folder that cannot be written, or that is gone, must not stop the schedule."""
        with self._status_lock:
            self._status = msgspec.structs.replace(
                self._status,
                updated_at=now_text(),
                next_run_at=self.next_run_at(),
                paused_until=self._paused_until(),
                **changes,
            )
            self._last_written = time.monotonic()
            if not self._is_there():
                return  # each refresh says so
            try:
                control.write_status(self._data_dir, self._status)
            except OSError as error:
                log.warning("status.json cannot be written", extra={"facts": {"reason": str(error)}})

    def next_run_at(self) -> str:
        """Return when the next refresh comes, by the schedule and after a pause; empty if none is planned."""
        planned = self._planned()
        return max(now_text(planned), self._paused_until()) if planned else ""

    def _paused_until(self) -> str:
        """Return when the pause after a refused login ends; empty without one."""
        return self._pause_ends_at if self._pause.seconds_left else ""

    def confirmed_at(self) -> datetime | None:
        """Return when a refresh last made or confirmed the generation being served.

        None if there is none that this configuration made.
        """
        try:
            number = read_current(self._data_dir)
            if number is None:
                return None
            manifest = read_manifest(generation_directory(self._data_dir, number))
        except StoreError as error:
            log.warning("the published generation cannot be read", extra={"facts": {"reason": error.cause}})
            return None
        if manifest.config_digest != config_digest(self._config):
            log.info("the query, the mapping or the public URL has changed: a refresh is due")
            return None
        confirmed_ms = control.confirmed_ms(
            self._status, generation=number, created_ms=manifest.created_ms, approved=bool(manifest.refused)
        )
        return datetime.fromtimestamp(confirmed_ms / 1000, UTC)

    def _abandon_requests(self) -> None:
        """Answer requests that a scheduler which died has left as running."""
        refresh = control.RefreshOutcome(
            state="failed", at=now_text(), reason="The scheduler stopped during this refresh."
        )
        decision = control.RefreshOutcome(
            state="failed",
            at=now_text(),
            reason="The scheduler stopped while it carried this out.",
            remedy="Look at the quarantine, and decide again if the generation is still there.",
        )
        with _notes():
            for request in control.list_requests(self._data_dir):
                if request.state == "running":
                    outcome = refresh if request.kind == "refresh" else decision
                    control.answer_requests(self._data_dir, [request], outcome)


def _is_good(outcome: control.RefreshOutcome) -> bool:
    """Tell whether what is served is what the source holds: newly published, or found unchanged."""
    return outcome.state in {"published", "unchanged"}


@contextlib.contextmanager
def _notes() -> Iterator[None]:
    """Requests that cannot be read or answered must not keep a refresh from running."""
    try:
        yield
    except (OSError, StoreError) as error:
        log.warning("the requests cannot be read or answered", extra={"facts": {"reason": str(error)}})
