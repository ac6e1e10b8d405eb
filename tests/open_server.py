"""`python -m server` as a process of its own, and what its users endpoint answers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_READY = 503
ROOT = Path(__file__).resolve().parent.parent


class ServerProcess:
    """A running server whose configuration asks for no credentials."""

    def __init__(self, port: int) -> None:
        self.port = port

    def body(self, path: str = "/scim/v2/Users?count=1000") -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body

    def users(self) -> dict[str, dict[str, Any]]:
        """Return the served users by id, after checking that the list is as long as it says."""
        found = json.loads(self.body())
        assert found["totalResults"] == found["itemsPerPage"] == len(found["Resources"])
        return {user["id"]: user for user in found["Resources"]}

    def wait_for(self, condition: Any, seconds: float = 10) -> None:
        """Wait until the served users fulfil a condition; a server without a snapshot yet is waited for too."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition(self.users()):
                    return
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != NOT_READY:
                    raise
            assert time.monotonic() < deadline
            time.sleep(0.02)


@contextlib.contextmanager
def server_process(config: Path) -> Iterator[ServerProcess]:
    """Run the server until the block ends; its log lies beside the configuration."""
    path = config.with_name("server.log")
    with path.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "server", "--config", str(config)],
            cwd=config.parent,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 20
        while (found := re.search(r'"127\.0\.0\.1",(\d+)', path.read_text())) is None:
            assert process.poll() is None, path.read_text()
            assert time.monotonic() < deadline, path.read_text()
            time.sleep(0.02)
        yield ServerProcess(int(found[1]))
    finally:
        process.kill()
        process.wait()
