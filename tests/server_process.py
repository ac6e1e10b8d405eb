"""The server as a process of its own: `python -m server`, its log, and a keep-alive client on a real socket."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TREE = Path(__file__).parent.parent
USER, PASSWORD, ADMIN_TOKEN = "okta", "scim-password", "admin-token"
BASES = ("/scim/v1", "/scim/v2")
_START_SECONDS = 30.0
_ANSWER_SECONDS = 30.0
# Shorter than the server keeps a silent connection (server.listener.KEEPALIVE_SECONDS): it is made anew, as clients do.
_IDLE_SECONDS = 60.0


def server_settings(**changes: Any) -> dict[str, Any]:
    """Return the [server] table that `ServerProcess` and `Client` expect."""
    return {
        "port": 0,
        "public_url": "https://scim.example.com",
        "poll_seconds": 0.02,
        "shutdown_seconds": 1,
        "auth": [{"type": "basic", "username": USER, "password": PASSWORD}],
        "admin": {"type": "bearer", "token": ADMIN_TOKEN, "name": "admin"},
        **changes,
    }


class ServerProcess:
    """`python -m server`; its log goes to a file, so that no pipe can fill."""

    def __init__(self, config: Path) -> None:
        self._path = config.with_suffix(".log")
        with self._path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "server", "--config", str(config)],
                cwd=config.parent,
                env={**os.environ, "PYTHONPATH": str(TREE)},
                stderr=log,
            )
        try:
            listening = wait_for(lambda: self._alive_events("listening"), seconds=_START_SECONDS)
            self.port: int = listening[0]["addresses"][0][1]
        except BaseException:
            self.stop()
            raise

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def lines(self) -> list[dict[str, Any]]:
        """Return the whole lines of the log so far, decoded."""
        raw = self._path.read_bytes()
        return [json.loads(line) for line in raw[: raw.rfind(b"\n") + 1].splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == name]

    def _alive_events(self, name: str) -> list[dict[str, Any]]:
        assert self.running, f"the server ended: {self._path.read_text(encoding='utf-8')}"
        return self.events(name)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        """Return the sentence of a SCIM error, of either version, after checking that it is one."""
        content = self.json
        errors = content.get("Errors")
        if errors is not None:
            (error,) = errors
            assert (str(self.status), "description") == (str(error["code"]), next(iter(error.keys() - {"code"})))
            return error["description"]
        assert ["urn:ietf:params:scim:api:messages:2.0:Error"] == content["schemas"]
        assert str(self.status) == content["status"]
        return content["detail"]


class Client:
    """One client on one connection that is kept alive; `connections` counts how often it had to be made."""

    def __init__(self, port: int, *, peer: str = "127.0.0.1", password: str = PASSWORD) -> None:
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=_ANSWER_SECONDS, source_address=(peer, 0)
        )
        self._basic = "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode()
        self.connections = 0
        self._used = 0.0

    def get(self, target: str) -> Answer:
        return self._send(target, self._basic)

    def post(self, target: str, body: bytes) -> Answer:
        return self._send(target, self._basic, method="POST", body=body)

    def status(self) -> dict[str, Any]:
        answer = self._send("/-/status", f"Bearer {ADMIN_TOKEN}")
        assert answer.status == 200, answer.body
        return answer.json

    def _send(self, target: str, authorization: str, *, method: str = "GET", body: bytes | None = None) -> Answer:
        if time.monotonic() - self._used > _IDLE_SECONDS:
            self._connection.close()
        self._used = time.monotonic()
        if self._connection.sock is None:
            self.connections += 1
        self._connection.request(method, target, body=body, headers={"Authorization": authorization})
        response = self._connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())

    def close(self) -> None:
        self._connection.close()


def filtered(base: str, text: str) -> str:
    """Return the target of a list of users with a filter."""
    return f"{base}/Users?filter={quote(text)}"


@contextlib.contextmanager
def running(config: Path) -> Iterator[tuple[ServerProcess, Client]]:
    """Start the server and a client of it; end both with the block."""
    server = ServerProcess(config)
    client = Client(server.port)
    try:
        yield server, client
    finally:
        client.close()
        server.stop()


def wait_for(look: Callable[[], Any], *, seconds: float = 15.0) -> Any:
    """Return what `look` returns as soon as that is true; AssertionError if it does not become so in time."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"not within {seconds} seconds"
        time.sleep(0.005)
    return found
