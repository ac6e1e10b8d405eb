"""Process 1: refresh the snapshots on schedule and on request. The only importer of APScheduler.

python scheduler.py [--config FILE] [--app NAME] [--once | --check]
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from snapshot.app_scheduler import LOCK_NAME, Scheduler
from snapshot.commandline import EXIT_CONFIG, EXIT_FAILED, EXIT_OK, EXIT_REFUSED, make_parser, read_instance
from snapshot.errors import ConfigError, ConfigProblem, SecretError, SnapshotError
from snapshot.folder import locked_folder
from snapshot.logs import logs_of, setup_logs
from snapshot.refresh import check_source
from snapshot.store import writer_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from apscheduler.events import JobExecutionEvent

    from snapshot.config import Config
    from snapshot.instance import Instance

log = logging.getLogger("scheduler")

_TICK_SECONDS = 1.0
# A refresh and what was asked for, in each app: one that hangs must not take the place of another app's.
_THREADS_PER_APP = 2
# The exit codes, the worst first: a refusal waits for a person, a failure for who knows what.
_WORST_FIRST = (EXIT_CONFIG, EXIT_FAILED, EXIT_REFUSED, EXIT_OK)
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
    instance = read_instance(options)
    if instance is None:
        return EXIT_CONFIG
    setup_logs(instance.shared.log, process="scheduler")
    try:
        triggers = _make_triggers(instance)
        # A reference that leads nowhere is told now, not at the first refresh.
        for config in instance.apps:
            config.source.password.reveal()
    except (ConfigError, SecretError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return EXIT_CONFIG
    for warning in instance.warnings:
        log.warning(warning)
    if options.check:
        return _worst(_code_of(config, check) for config in instance.apps)
    stop = threading.Event()
    _handle_signals(stop)
    if options.once:
        return _worst(_code_of(config, _once, stop) for config in instance.apps)
    try:
        with contextlib.ExitStack() as locks:
            apps = [locks.enter_context(_locked(config, stop)) for config in instance.apps]
            return run(apps, triggers, stop)
    except SnapshotError as error:
        print(f"{error.cause} {error.remedy}".strip(), file=sys.stderr)  # noqa: T201
        return EXIT_FAILED


def _make_triggers(instance: Instance) -> list[CronTrigger | IntervalTrigger]:
    """Return the trigger of each app; ConfigError for cron expressions that are none."""
    triggers, problems = [], []
    for config in instance.apps:
        try:
            triggers.append(make_trigger(config))
        except ValueError as error:
            found = f'"{config.schedule.cron}" ({error})'
            expected = "five fields: minute hour day month weekday"
            problems.append(ConfigProblem(config.where, "schedule.cron", found, expected))
    if problems:
        raise ConfigError(problems)
    return triggers


def _worst(codes: Iterable[int]) -> int:
    return min(codes, key=_WORST_FIRST.index)


def _code_of(config: Config, work: Callable[..., int], *arguments: object) -> int:
    """Return the exit code of work on one app; its error is told, and does not keep the others waiting."""
    with logs_of(config.name):
        try:
            return work(config, *arguments)
        except SnapshotError as error:
            _complain(config, f"{error.cause} {error.remedy}".strip())
            return EXIT_CONFIG if isinstance(error, SecretError) else EXIT_FAILED


def _complain(config: Config, text: str) -> None:
    print(f"{config.name}: {text}" if config.name else text, file=sys.stderr)  # noqa: T201


def check(config: Config) -> int:
    """Connect, compare the mapping with the columns, print what was found."""
    isolation, columns, warnings = check_source(config)
    lines = [
        f"Configuration: {config.where} is valid.",
        f"Source: connected; isolation: {isolation}; {len(columns)} columns: {', '.join(columns)}.",
        *(f"Warning: {warning}" for warning in warnings),
        "Every mapped column exists. Nothing was read or published.",
    ]
    for line in lines:
        print(f"{config.name}: {line}" if config.name else line)  # noqa: T201
    return EXIT_OK


def _once(config: Config, stop: threading.Event) -> int:
    """Refresh one app now, unless the program was stopped meanwhile."""
    if stop.is_set():
        _complain(config, "Not refreshed: the program was stopped.")
        return EXIT_FAILED
    with _locked(config, stop) as app:
        return app.once()


@contextlib.contextmanager
def _locked(config: Config, stop: threading.Event) -> Iterator[Scheduler]:
    """Hold the data folder of an app for as long as the block runs; StoreError if another scheduler has it."""
    with writer_lock(config.data_dir, LOCK_NAME):
        yield Scheduler(config, folder=locked_folder(config.data_dir, LOCK_NAME), stop=stop)


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


def run(apps: Sequence[Scheduler], triggers: Sequence[CronTrigger | IntervalTrigger], stop: threading.Event) -> int:
    """Refresh every app on its own schedule and on request until `stop` is set."""
    scheduler = BackgroundScheduler(
        timezone=UTC,
        executors={"default": ThreadPoolExecutor(_THREADS_PER_APP * len(apps))},
        # A late run is run, not dropped (the default drops it after one second); many late runs are one.
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
    )
    scheduler.add_listener(_log_event, EVENT_JOB_MISSED | EVENT_JOB_ERROR)
    for app, trigger in zip(apps, triggers, strict=True):
        with logs_of(app.name):
            first = first_run(trigger, app.prepare())
            work = (app.name, app.refresh_by_schedule)
            scheduler.add_job(_work, trigger, work, id=_job_id("refresh", app), next_run_time=first)
            # Before the start: the first refresh may begin at once and says so itself.
            app.begin(functools.partial(_next_run, scheduler, app))
    scheduler.start()
    watches = [threading.Thread(target=_watch, args=(app, scheduler, stop), daemon=True) for app in apps]
    for watch in watches:
        watch.start()
    while not stop.wait(_TICK_SECONDS):
        pass  # on Windows a wait without an end would not notice Ctrl-C
    scheduler.shutdown(wait=True)
    for app, watch in zip(apps, watches, strict=True):
        watch.join(_TICK_SECONDS)
        app.end()
    log.info("scheduler stopped")
    return EXIT_OK


def _watch(app: Scheduler, scheduler: BackgroundScheduler, stop: threading.Event) -> None:
    """Look for what is asked of one app, in a thread of its own: a folder that hangs must not hold up the others."""
    with logs_of(app.name):
        app.tell()
        log.info(
            "scheduler started",
            extra={"facts": {"data_dir": str(app.data_dir), "next_run_at": app.next_run_at()}},
        )
        told = ""
        while not stop.wait(_TICK_SECONDS):
            try:
                asked = app.tick()
                if asked is not None and not stop.is_set():
                    # A job of its own: the schedule keeps its rhythm. Requests that come while it runs wait.
                    scheduler.add_job(_work, args=(app.name, asked), id=_job_id("asked", app), replace_existing=True)
            except Exception as error:
                if str(error) != told:  # once, not every second
                    log.exception("looking for requests failed")
                told = str(error)


def _work(name: str, job: Callable[[], object]) -> None:
    """Run a job of one app; what it logs names the app."""
    with logs_of(name):
        job()


def _job_id(kind: str, app: Scheduler) -> str:
    return f"{kind} {app.name}".strip()


def _next_run(scheduler: BackgroundScheduler, app: Scheduler) -> datetime | None:
    job = scheduler.get_job(_job_id("refresh", app)) if scheduler.running else None
    planned: datetime | None = job.next_run_time if job else None
    return planned


def _handle_signals(stop: threading.Event) -> None:
    def note(_number: int, _frame: object) -> None:
        stop.set()

    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):  # SIGBREAK: Ctrl-Break and console close on Windows
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), note)


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
