"""Process 1: refresh the snapshot on schedule and on request. The only importer of APScheduler.

python scheduler.py [--config FILE] [--once | --check]
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from snapshot import control
from snapshot.commandline import EXIT_CONFIG, EXIT_FAILED, EXIT_OK, EXIT_REFUSED, make_parser, read_config
from snapshot.config import config_digest
from snapshot.decisions import carry_out
from snapshot.errors import ConfigProblem, SecretError, SnapshotError, StoreError
from snapshot.folder import locked_folder
from snapshot.logs import now_text, setup_logs
from snapshot.pause import LOGIN_REFUSED, LoginPause
from snapshot.progress import ProgressLine, summary
from snapshot.refresh import check_source
from snapshot.store import generation_directory, quarantine_directory, read_current, read_manifest, writer_lock
from snapshot.worker import failed, outcome_counts, refresh_with_deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from apscheduler.events import JobExecutionEvent

    from snapshot.config import Config
    from snapshot.folder import LockedFolder

log = logging.getLogger("scheduler")

LOCK_NAME = "SCHEDULER.LOCK"
_TICK_SECONDS = 1.0
# The time of publication lies ahead of the clock by what the server needs to swap (snapshot/history.py).
_STAMP_AHEAD = timedelta(minutes=10)
_CRON_FIELDS = 5
_WEEKDAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY = f"[0-7]|{'|'.join(_WEEKDAY_NAMES)}"
_WEEKDAYS = re.compile(rf"(\*|{_DAY})(?:-({_DAY}))?(?:/([1-7]))?")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = make_parser("scim-scheduler", "Read users from the database and publish snapshots for the SCIM server.")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--once", action="store_true", help="refresh now, print the result, exit")
    mode.add_argument("--check", action="store_true", help="check configuration, connection and columns, exit")
    options = parser.parse_args(arguments)
    config = read_config(options)
    if config is None:
        return EXIT_CONFIG
    setup_logs(config.log, process="scheduler")
    try:
        trigger = make_trigger(config)
    except ValueError as error:
        problem = ConfigProblem(
            config.where,
            "schedule.cron",
            f'"{config.schedule.cron}" ({error})',
            "five fields: minute hour day month weekday",
        )
        print(problem, file=sys.stderr)  # noqa: T201
        return EXIT_CONFIG
    for warning in config.warnings:
        log.warning(warning)
    try:
        config.source.password.reveal()  # a reference that leads nowhere is told now, not at the first refresh
        if options.check:
            return check(config)
        with writer_lock(config.data_dir, LOCK_NAME):
            program = Scheduler(config, folder=locked_folder(config.data_dir, LOCK_NAME))
            return program.once() if options.once else program.run(trigger)
    except SnapshotError as error:
        print(f"{error.cause} {error.remedy}".strip(), file=sys.stderr)  # noqa: T201
        return EXIT_CONFIG if isinstance(error, SecretError) else EXIT_FAILED


def check(config: Config) -> int:
    """Connect, compare the mapping with the columns, print what was found."""
    isolation, columns, warnings = check_source(config)
    print(f"Configuration: {config.where} is valid.")  # noqa: T201
    print(f"Source: connected; isolation: {isolation}; {len(columns)} columns: {', '.join(columns)}.")  # noqa: T201
    for warning in warnings:
        print(f"Warning: {warning}")  # noqa: T201
    print("Every mapped column exists. Nothing was read or published.")  # noqa: T201
    return EXIT_OK


def make_trigger(config: Config) -> CronTrigger | IntervalTrigger:
    """Return the APScheduler trigger of the schedule; ValueError for a cron expression that is none."""
    schedule = config.schedule
    jitter = schedule.jitter_seconds or None
    if not schedule.cron:
        # A jitter as long as the interval itself would let two runs change places.
        jitter = min(schedule.jitter_seconds, schedule.interval_seconds // 4) or None
        return IntervalTrigger(seconds=schedule.interval_seconds, jitter=jitter, timezone=UTC)
    fields = schedule.cron.split()
    if len(fields) == _CRON_FIELDS:
        fields[-1] = cron_weekdays(fields[-1])
    trigger = CronTrigger.from_crontab(" ".join(fields), timezone=ZoneInfo(schedule.timezone))
    trigger.jitter = jitter
    if trigger.get_next_fire_time(None, datetime.now(UTC)) is None:
        raise ValueError("that day never comes")
    return trigger


def cron_weekdays(field: str) -> str:
    """Return the weekdays of a cron expression by name: cron counts from Sunday = 0 (or 7), APScheduler from Monday.

    >>> cron_weekdays("1-5")
    'mon,tue,wed,thu,fri'
    """
    if field == "*":
        return field
    days: set[int] = set()
    for item in field.casefold().split(","):
        match = _WEEKDAYS.fullmatch(item)
        if match is None:
            raise ValueError(f"{item} is no weekday")
        first, last, step = match.groups()
        begin = 0 if first == "*" else _weekday(first)
        end = _weekday(last) if last else (6 if step or first == "*" else begin)
        if end < begin:
            end += 7  # fri-mon goes over the end of the week
        days.update(day % 7 for day in range(begin, end + 1, int(step or 1)))
    return ",".join(_WEEKDAY_NAMES[day] for day in sorted(days, key=lambda day: (day - 1) % 7))


def _weekday(text: str) -> int:
    return int(text) if text.isdecimal() else _WEEKDAY_NAMES.index(text)


class Scheduler:
    """Refreshes one data folder, and carries out decisions on it: on schedule, on request, never two at once."""

    def __init__(
        self,
        config: Config,
        *,
        refresh: Callable[..., control.RefreshOutcome] = refresh_with_deadline,
        folder: LockedFolder | None = None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._refresh = refresh
        self._data_dir = config.data_dir
        self._stop = threading.Event()
        self._running = threading.Lock()
        self._line = ProgressLine(sys.stderr)
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
        self._scheduler: BackgroundScheduler | None = None

    def once(self) -> int:
        """Refresh now; print the result; return the exit code."""
        self._handle_signals()
        self._abandon_requests()
        outcome = self.refresh()
        self._say(phase="stopped")
        print(summary(outcome), file=sys.stdout if _is_good(outcome) else sys.stderr)
        if _is_good(outcome):
            return EXIT_OK
        return EXIT_REFUSED if outcome.state == "refused" else EXIT_FAILED

    def run(self, trigger: CronTrigger | IntervalTrigger) -> int:
        """Refresh on schedule and on request until SIGTERM or Ctrl-C."""
        self._handle_signals()
        self._abandon_requests()
        scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(2)},
            # A late run is run, not dropped (the default drops it after one second); many late runs are one.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        scheduler.add_listener(_log_event, EVENT_JOB_MISSED | EVENT_JOB_ERROR)
        self._settle_approval()
        first = first_run(trigger, self._confirmed_at())
        scheduler.add_job(self._refresh_by_schedule, trigger, id="refresh", next_run_time=first)
        self._scheduler = scheduler
        self._say(phase="idle")  # before the start: the first refresh may begin at once and says so itself
        scheduler.start()
        self._say()
        log.info(
            "scheduler started",
            extra={"facts": {"data_dir": str(self._data_dir), "next_run_at": self._next_run_at()}},
        )
        while not self._stop.wait(_TICK_SECONDS):
            self._tick()
        scheduler.shutdown(wait=True)
        self._say(phase="stopped")
        log.info("scheduler stopped")
        return EXIT_OK

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

    def _refresh_by_schedule(self) -> None:
        """Refresh, unless the database refused the login a short while ago."""
        if not self._pause.seconds_left:
            self.refresh()

    def _tick(self) -> None:
        """Look for what was asked for, and say now and then that we are alive."""
        with contextlib.suppress(StoreError):
            if self._folder is not None:
                self._folder.check()  # what asks in another folder asks another scheduler
            self._settle_approval()
            kinds = {item.kind for item in control.list_requests(self._data_dir) if item.state == "queued"}
            if kinds and not self._running.locked() and self._scheduler is not None:
                # A job of its own: the schedule keeps its rhythm. Requests that come while it runs wait for the next.
                job = self.refresh if kinds == {"refresh"} else self.decide
                self._scheduler.add_job(job, id="asked", replace_existing=True)
        if time.monotonic() - self._last_written > control.HEARTBEAT_SECONDS:
            self._say()

    def _progress(self, progress: control.Progress) -> None:
        self._line.show(progress)
        self._say(progress=progress)

    def _say(self, **changes: Any) -> None:
        """Write status.json; a folder that cannot be written, or that is gone, must not stop the schedule."""
        with self._status_lock:
            self._status = msgspec.structs.replace(
                self._status,
                updated_at=now_text(),
                next_run_at=self._next_run_at(),
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

    def _next_run_at(self) -> str:
        job = self._scheduler.get_job("refresh") if self._scheduler and self._scheduler.running else None
        return max(now_text(job.next_run_time), self._paused_until()) if job and job.next_run_time else ""

    def _paused_until(self) -> str:
        """Return when the pause after a refused login ends; empty without one."""
        return self._pause_ends_at if self._pause.seconds_left else ""

    def _confirmed_at(self) -> datetime | None:
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

    def _handle_signals(self) -> None:
        def stop(_number: int, _frame: object) -> None:
            self._stop.set()

        for name in ("SIGTERM", "SIGINT", "SIGBREAK"):  # SIGBREAK: Ctrl-Break and console close on Windows
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), stop)


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


def first_run(trigger: CronTrigger | IntervalTrigger, published: datetime | None) -> datetime:
    """Return when the first refresh runs: now if the snapshot is older than the schedule wants it."""
    now = datetime.now(UTC)
    if published is None or published > now + _STAMP_AHEAD:  # far in the future: the clock was set back
        return now
    published = min(published, now)
    if isinstance(trigger, IntervalTrigger):
        following: datetime = published + trigger.interval
        return max(now, following)
    missed = trigger.get_next_fire_time(None, published + timedelta(seconds=1))
    if missed is not None and missed <= now:
        return now
    planned: datetime | None = trigger.get_next_fire_time(None, now)
    return planned or now


def _log_event(event: JobExecutionEvent) -> None:
    if event.code == EVENT_JOB_MISSED:
        log.warning("a scheduled refresh was missed", extra={"facts": {"scheduled_at": str(event.scheduled_run_time)}})
    else:
        log.error("a job of the scheduler failed", exc_info=event.exception, extra={"facts": {"job": event.job_id}})


if __name__ == "__main__":
    sys.exit(main())
