"""Scheduler and server as child processes that end with the demo."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import snapshot
from snapshot.demo.child import PATIENCE_SECONDS

_TAIL_LINES = 12
_TAIL_BYTES = 16 << 10
_KILL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Child:
    """One running process. Closing its standard input stops it (see `snapshot.demo.child`)."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, name: str, config: Path, log: Path) -> Child:
        """Start `python -m NAME --config CONFIG`, writing to the log file anew."""
        # A group of its own: Ctrl-C in the terminal reaches the demo alone, which stops the others in order.
        flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        tree = str(Path(snapshot.__file__).parent.parent)
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (tree, os.environ.get("PYTHONPATH"))))
        environment["PYTHONUNBUFFERED"] = "1"
        environment["PYTHONUTF8"] = "1"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "snapshot.demo.child", name, "--config", str(config)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=os.name == "posix",
                creationflags=flags,
            )
        return cls(name, log, process)

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self.process.pid

    def exit_code(self) -> int | None:
        """Return the exit code; None while the process runs."""
        return self.process.poll()

    def tail(self) -> str:
        """Return the last lines of the log."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:]) or "  (nothing)"

    def stop(self) -> None:
        """Ask the process to stop, wait, and kill it when it takes too long."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        try:
            self.process.wait(PATIENCE_SECONDS + _KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            self.process.wait()

    def _kill(self) -> None:
        if sys.platform == "win32":
            self.process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
