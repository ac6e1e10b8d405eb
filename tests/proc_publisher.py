"""A program that publishes in children and kills them: before a step on the data folder, or after some seconds.

It imports everything once and forks for each kill, so that a kill costs a refresh and no start of Python.
One JSON line in, one out; `KillingPublisher` in test_kills.py is the other side. Linux only.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import sys
import time
import traceback
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snapshot import checksum, store
from snapshot.approval import approve
from snapshot.config import load_config
from snapshot.errors import PublishRefusedError
from snapshot.refresh import run_refresh
from snapshot.store import writer_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from snapshot.config import Config

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# What only reads, and what only fills a table: a kill before each row tells nothing that a kill before COMMIT does not.
_UNNOTED_SQL = ("SELECT", "PRAGMA", "INSERT", "--")
_BY_PATH = {"os.remove": 1, "os.mkdir": 2, "os.rmdir": 1, "os.truncate": None, "shutil.rmtree": 1}


class Steps:
    """Notes what this process does to the files of a folder, and kills it just before one of them; 0: never."""

    def __init__(self, folder: Path, kill_before: int, report: int) -> None:
        self._folder = str(folder)
        self._kill_before = kill_before
        self._report = report
        self.told: list[str] = []

    def install(self) -> None:
        """Begin to note; there is no way back, a process has its audit hooks until it ends."""
        sys.addaudithook(self._audit)
        fsync = os.fsync

        def noted(descriptor: int) -> None:
            self._step("fsync", Path(f"/proc/self/fd/{descriptor}").readlink())
            fsync(descriptor)

        os.fsync = noted  # type: ignore[assignment]
        connect = sqlite3.connect

        def traced(database: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(database, *arguments, **options)
            if self._inside(database):
                connection.set_trace_callback(self._statement)
            return connection

        sqlite3.connect = traced  # type: ignore[assignment]
        for module in (store, checksum):
            module.ThreadPoolExecutor = OneByOne  # type: ignore[attr-defined]

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & _WRITING and self._inside(path):
                self._step(event, path)
        elif event == "os.rename":
            source, target, *_ = arguments
            if self._inside(source) or self._inside(target):
                self._step(event, source, target)
        elif event in _BY_PATH:
            place = _BY_PATH[event]
            # A name below an open directory: shutil.rmtree of one of ours, nobody else works like that.
            relative = place is not None and len(arguments) > place and arguments[place] not in (-1, None)
            if relative or self._inside(arguments[0]):
                self._step(event, arguments[0])

    def _statement(self, text: str) -> None:
        if not text.startswith(_UNNOTED_SQL):
            self._step("sqlite", " ".join(text.split()[:3]))

    def _inside(self, path: Any) -> bool:
        return isinstance(path, (str, Path)) and str(path).startswith(self._folder)

    def _step(self, *what: object) -> None:
        told = " ".join(str(item).replace(self._folder, "") for item in what)
        self.told.append(told)
        if len(self.told) == self._kill_before:
            os.write(self._report, json.dumps({"before": told}).encode())
            os.kill(os.getpid(), signal.SIGKILL)


class OneByOne(Executor):
    """Does at once and in order what threads do at the same time, so that step N of every run is the same one."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        pass

    def submit(self, fn: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Call it."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*arguments, **options))
        except Exception as error:  # noqa: BLE001 (whoever asks for the result gets it)
            future.set_exception(error)
        return future


def publish(config: Config, database: Path) -> None:
    """Change the source to its next round, refresh, and approve what the guard refuses."""
    with contextlib.closing(sqlite3.connect(database)) as source, source:
        source.execute("UPDATE round SET n = n + 1")
    try:
        run_refresh(config)
    except PublishRefusedError as refused:
        with writer_lock(config.data_dir):
            approve(config, refused.generation, who="publisher")


def _child(command: dict[str, Any], config: Config, report: int) -> None:
    database = Path(command["database"])
    steps = Steps(config.data_dir, command["before_step"] or 0, report)
    if command["before_step"] is not None:
        steps.install()
    publish(config, database)
    while command["after_seconds"] is not None:
        publish(config, database)
    os.write(report, json.dumps({"steps": steps.told}).encode())


def _fork(command: dict[str, Any], config: Config) -> dict[str, Any]:
    """Publish in a child and return how that ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _child(command, config, writing)
            code = 0
        except BaseException:  # noqa: BLE001 (whatever it is, the test has to hear of it)
            os.write(writing, json.dumps({"error": traceback.format_exc()}).encode())
        finally:
            os._exit(code)
    os.close(writing)
    if command["after_seconds"] is not None:
        time.sleep(command["after_seconds"])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as report:
        told = json.loads(report.read() or b"{}")
    return {"before": "", "steps": [], "error": "", **told, "killed": os.WIFSIGNALED(status)}


def main() -> None:
    """Answer commands until standard input ends."""
    configs: dict[str, Config] = {}
    for line in sys.stdin:
        command = json.loads(line)
        path = command["config"]
        config = configs.get(path)
        if config is None:
            config = configs[path] = load_config(Path(path))
        print(json.dumps(_fork(command, config)), flush=True)


if __name__ == "__main__":
    main()
