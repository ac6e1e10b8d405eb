"""The scheduler as a real process, and what it says in status.json while a test waits for it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from snapshot import control

if TYPE_CHECKING:
    from people_folder import PeopleFolder

TREE = Path(__file__).parent.parent


def run(folder: PeopleFolder, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scheduler.py", "--config", str(folder.toml()), *options]
    return subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=60, check=False)


@contextlib.contextmanager
def running(folder: PeopleFolder):
    """Run the scheduler until the block ends; its log goes to a file."""
    log = folder.path / f"log-{time.monotonic_ns()}"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "scheduler.py", "--config", folder.toml()], cwd=TREE, stderr=output, stdout=output
        )
    process.log = log
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(folder: PeopleFolder, process, condition, seconds: float = 20) -> control.SchedulerStatus:
    """Poll status.json, which must parse each time, until the condition holds."""
    deadline = time.monotonic() + seconds
    while True:
        path = folder.data_dir / "status.json"
        status = control.read_status(folder.data_dir)
        if path.exists():
            assert json.loads(path.read_bytes())
            assert status is not None
        if status is not None and status.pid == process.pid and condition(status):
            return status
        assert process.poll() is None, process.log.read_text()
        assert time.monotonic() < deadline, (status, process.log.read_text())
        time.sleep(0.02)


def stop(process, number: int = signal.SIGTERM) -> str:
    process.send_signal(number)
    assert 0 == process.wait(15)
    return process.log.read_text()
