"""`python -m snapshot demo`: make the people, run scheduler and server, say how to try them, stop cleanly."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from snapshot.control import read_status
from snapshot.demo.child import PATIENCE_SECONDS
from snapshot.demo.children import Child
from snapshot.demo.folder import HOST, OKTA_USER, DemoFolder
from snapshot.demo.screen import Screen
from snapshot.errors import LockHeldError, SnapshotError
from snapshot.store import read_current, writer_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snapshot.control import SchedulerStatus

MAX_PEOPLE = 9_999_999
# A server whose demo was killed a moment ago may still be closing its port.
_PORT_GRACE_SECONDS = 2.0
_POLL_SECONDS = 0.2
_PROBE_TIMEOUT_SECONDS = 2.0
_HTTP_OK = 200
_MAX_PORT = 65535


class _Stopped(Exception):  # noqa: N818 (not an error)
    """The person asked the demo to stop."""


class _Failed(Exception):  # noqa: N818 (its text is the message)
    """The demo cannot go on; the text says why."""


def run_demo(*, people: int, folder: Path, port: int) -> int:
    """Run the demo until Ctrl-C or SIGTERM; return the exit code. Port 0 means any free one."""
    screen = Screen(sys.stdout)
    stop = threading.Event()
    with _signals_set(stop):
        try:
            _check_numbers(people, port)
            port = _free_port(port)
            demo = DemoFolder(folder.absolute())
            with _folder_held(demo):
                _serve(demo, people, port, screen, stop)
        except _Stopped:
            screen.line("Stopped.")
        except (_Failed, SnapshotError, OSError) as error:
            screen.end_progress()
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


def _check_numbers(people: int, port: int) -> None:
    if not 1 <= people <= MAX_PEOPLE:
        raise _Failed(f"PEOPLE is {people}; it must be between 1 and {MAX_PEOPLE}.")
    if not 0 <= port <= _MAX_PORT:
        raise _Failed(f"PORT is {port}; it must be between 0 and {_MAX_PORT}.")


def _serve(demo: DemoFolder, people: int, port: int, screen: Screen, stop: threading.Event) -> None:
    """Make what is missing, run both processes until `stop`; always ends with _Stopped or _Failed."""
    _wait_for_scheduler(demo, stop)
    _prepare(demo, people, port, screen, stop)
    screen.line("Starting scheduler and server.")
    started_at = datetime.now(UTC)
    children: list[Child] = []
    try:
        # One after the other into the list, so that the first is stopped when the second cannot start.
        children.extend(Child.start(name, demo.config, demo.log(name)) for name in ("scheduler", "server"))
        # The server logs every "not yet": it is asked only when there is something to serve.
        while read_current(demo.data) is None or not _ready(port):
            _check(children, stop)
            status = read_status(demo.data)
            _check_refresh(status, started_at, children[0])
            screen.progress(_refresh_text(status))
            stop.wait(_POLL_SECONDS)
        screen.end_progress()
        screen.line(_instructions(demo, port))
        while True:
            _check(children, stop)
            stop.wait(_POLL_SECONDS)
    finally:
        screen.end_progress()
        if stop.is_set():
            screen.line("Stopping both processes.")
        # The server first: it reads what the other writes.
        for child in reversed(children):
            child.stop()


def _wait_for_scheduler(demo: DemoFolder, stop: threading.Event) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not demo.scheduler_gone():
        if stop.wait(_POLL_SECONDS):
            raise _Stopped
        if time.monotonic() > deadline:
            raise _Failed(f"A scheduler works on {demo.data}: stop it, or use another --folder.")


def _prepare(demo: DemoFolder, people: int, port: int, screen: Screen, stop: threading.Event) -> None:
    def progress(done: int) -> None:
        if stop.is_set():
            raise _Stopped
        screen.progress(f"Making people: {done:,} of {people:,} ({done * 100 // people} %)")

    began = time.monotonic()
    if demo.write_people(people, progress):
        screen.end_progress()
        screen.line(f"Made {people:,} people in {demo.people} ({time.monotonic() - began:.1f} s).")
    else:
        screen.line(f"Using the {people:,} people in {demo.people}.")
    demo.okta_password()
    demo.admin_token()
    demo.write_config(port)


def _check(children: list[Child], stop: threading.Event) -> None:
    if stop.is_set():
        raise _Stopped
    for child in children:
        if (code := child.exit_code()) is not None:
            raise _Failed(f"The {child.name} ended with exit code {code}. The end of {child.log}:\n{child.tail()}")


def _check_refresh(status: SchedulerStatus | None, started_at: datetime, scheduler: Child) -> None:
    """Give up when the refresh of this run failed: the next one would be minutes away."""
    if status is None or status.pid != scheduler.pid or status.last_outcome is None:
        return
    outcome = status.last_outcome
    if outcome.state not in {"published", "unchanged"} and datetime.fromisoformat(outcome.at) >= started_at:
        raise _Failed(f"The refresh {outcome.state}. {outcome.reason} {outcome.remedy}".rstrip())


def _refresh_text(status: SchedulerStatus | None) -> str:
    """Say in one line how far the first refresh is."""
    if status is None or not status.alive or status.progress is None:
        return "Waiting for the first refresh"
    progress = status.progress
    text = f"Refresh, {progress.phase}: {progress.rows:,} rows"
    if progress.expected_rows:
        text += f" of {progress.expected_rows:,} ({progress.rows * 100 // progress.expected_rows} %)"
    if progress.rows_per_second:
        text += f", {progress.rows_per_second:,.0f} a second"
    return text


def _ready(port: int) -> bool:
    """Ask the server whether it serves a snapshot."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_PROBE_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == _HTTP_OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _instructions(demo: DemoFolder, port: int) -> str:
    """Return what a person needs: addresses, credentials, lines to paste, where things are."""
    base = f"http://{HOST}:{port}"
    password, token = demo.okta_password(), demo.admin_token()
    # Double quotes only: these lines work in a POSIX shell, in cmd and in PowerShell.
    curl = "curl.exe -sS" if os.name == "nt" else "curl -sS"
    login = f'{curl} -u "{OKTA_USER}:{password}"'
    user_filter = quote(f'userName eq "{demo.example_user_name()}"', safe="")
    return f"""
Generation {read_current(demo.data)} is served. In Okta, the base URL of the connector is one of

  SCIM 1.1   {base}/scim/v1/
  SCIM 2.0   {base}/scim/v2/

with basic authentication, user {OKTA_USER}, password {password}
The administrator's bearer token is {token}

Try, in another terminal:

  {login} "{base}/scim/v2/ServiceProviderConfig"

  {login} "{base}/scim/v1/Users?startIndex=1&count=2"

  {login} "{base}/scim/v2/Users?filter={user_filter}"

  {login} "{base}/scim/v2/Groups?excludedAttributes=members&count=5"

and, to ask for a refresh:

  {curl} -X POST -H "Authorization: Bearer {token}" "{base}/admin/refresh"

Configuration   {demo.config}
People          {demo.people}
Logs            {demo.log("scheduler")}
                {demo.log("server")}

Ctrl-C stops both processes."""


@contextlib.contextmanager
def _folder_held(demo: DemoFolder) -> Iterator[None]:
    """Hold the folder: two demos on it would write each other's configuration."""
    demo.path.mkdir(parents=True, exist_ok=True)
    try:
        with writer_lock(demo.path, "demo.lock"):
            yield
    except LockHeldError as error:
        raise _Failed(f"Another demo ({error.holder}) runs in {demo.path}: stop it, or use another --folder.") from None


def _free_port(port: int) -> int:
    """Return the port if it is free on the loopback address; wait a moment for one that is being closed."""
    deadline = time.monotonic() + _PORT_GRACE_SECONDS
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if os.name == "posix":
                # As the server will: connections that are closing do not count.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                if time.monotonic() < deadline:
                    time.sleep(_POLL_SECONDS)
                    continue
                raise _Failed(
                    f"Port {port} is taken on {HOST} ({error}). Choose another one, for example: "
                    f"PORT={port + 1} make demo, or: python -m snapshot demo --port {port + 1}"
                ) from None
            return int(probe.getsockname()[1])


@contextlib.contextmanager
def _signals_set(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM (on Windows Ctrl-Break) set `stop`."""
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
