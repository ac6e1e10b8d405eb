"""The server of the product and the bare handler, as processes for as long as a block lasts."""

from __future__ import annotations

import contextlib
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from load import Connection, page, request
from memory import memory_of
from place import ENVIRONMENT, HERE, ROOT, Place, free_port, python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FIRST_PAGE = request(page(1, 200))
_START_SECONDS = 120.0
_STOP_SECONDS = 30.0
# A client that asks without a pause would take a processor from the server that starts.
_BETWEEN_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, and the seconds from the start of its process to its first answer."""

    port: int
    pid: int
    start_seconds: float

    def private_mib(self) -> float:
        """Return its private memory now."""
        found = memory_of(self.pid)
        if found is None:
            raise SystemExit("the server has ended")
        return found.private


@contextlib.contextmanager
def serving(place: Place, *, level: str = "warning", probe: Path | None = None, **settings: Any) -> Iterator[Server]:
    """Run `python -m server`; with `probe`, watch its event loop and write what was seen to that file at the end."""
    port = free_port()
    config = place.write_config(f"server-{level}", level=level, port=port, **settings)
    start = ("-m", "server") if probe is None else (HERE / "probed_server.py", probe)
    with (place.folder / f"server-{level}.log").open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(python(*start, "--config", config), env=ENVIRONMENT, cwd=ROOT, stderr=log)
    try:
        wait_for(port, _FIRST_PAGE, process)
        yield Server(port, process.pid, time.perf_counter() - began)
    finally:
        stop(process)


@contextlib.contextmanager
def bare_handler(bodies: dict[str, bytes], folder: Path) -> Iterator[int]:
    """Run the bare handler with these bodies; yield its port."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
    port = free_port()
    process = subprocess.Popen(python(HERE / "bare_http.py", folder, port), env=ENVIRONMENT)
    try:
        wait_for(port, request(f"/{next(iter(bodies))}"), process)
        yield port
    finally:
        stop(process)


def wait_for(port: int, asked: bytes, process: subprocess.Popen[bytes]) -> None:
    """Wait until a request is answered with 200."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            connection = Connection(port)
            good = connection.ask(asked).good
            connection.close()
            if good:
                return
        time.sleep(_BETWEEN_SECONDS)
    raise SystemExit(f"port {port} never answered {asked.split()[1]!r} with 200")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process in good order, or at last by force."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
