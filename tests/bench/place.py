"""Where one size of the benchmark lives: its folder, its files, its configurations, how its processes are started."""

from __future__ import annotations

import json
import os
import socket
import sys
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import people

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE.parent), str(HERE)])}
AUTHORIZATION = "Basic " + b64encode(b"okta:bench").decode("ascii")
# Fixed, so that no port stands in what is served: the same people are the same bytes in every run.
_PUBLIC_URL = "http://localhost:8080"


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure.

    Rates are taken in many short slices, in turn: what else the machine does then falls on both sides alike.
    """

    refresh_rounds: int
    refresh_budget_seconds: float
    slice_seconds: float
    slices: int
    import_seconds: float
    starts: int
    swaps: int
    pin_ttl_seconds: float


FULL = Effort(3, 470.0, 0.1, 45, 12.0, 5, 2, 4.0)
QUICK = Effort(1, 20.0, 0.05, 9, 0.7, 3, 1, 0.7)


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one size."""

    folder: Path
    count: int
    effort: Effort

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def current(self) -> Path:
        return self.data / "CURRENT"

    def generations(self) -> list[Path]:
        """Return the published generations, the oldest first."""
        return sorted((self.data / "generations").iterdir())

    def manifest(self, generation: Path | None = None) -> dict[str, Any]:
        """Return what a generation says of itself; without an argument, the newest one."""
        chosen = generation or self.generations()[-1]
        found: dict[str, Any] = json.loads((chosen / "manifest.json").read_text(encoding="utf-8"))
        return found

    def write_config(self, name: str, *, source_port: int = 1433, level: str = "warning", **server: Any) -> Path:
        """Write a configuration over the one data folder; further keywords are keys of [server]."""
        server = {"public_url": _PUBLIC_URL, **server}
        path = self.folder / f"{name}.toml"
        path.write_text(
            f"""data_dir = "data"
mapping = {toml(people.MAPPING)}
[source]
driver = "sqlserver"
server = "localhost"
port = {source_port}
database = "HR"
username = "bench"
password = "bench"
users = {{ table = "dbo.People" }}
tls = {{ ca = "ca.pem" }}
[store]
keep_generations = 2
[server]
{"".join(f"{key} = {toml(value)}{chr(10)}" for key, value in server.items())}
auth = [{{ type = "basic", username = "okta", password = "bench" }}]
[log]
level = "{level}"
format = "json"
""",
            encoding="utf-8",
        )
        return path


def toml(value: object) -> str:
    """Write a value as TOML, tables in one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def free_port() -> int:
    """Return a port that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def python(*arguments: object) -> list[str]:
    """Return the command that runs this interpreter."""
    return [sys.executable, *map(str, arguments)]


def say(text: str) -> None:
    """Tell how far the benchmark is."""
    print(f"{text} …", flush=True)
