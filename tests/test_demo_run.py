"""The demo as a newcomer runs it: real processes, real requests, Ctrl-C."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

import scheduler
from snapshot.control import read_status
from snapshot.demo.folder import HOST, SCHEDULER_LOCK
from snapshot.demo.run import run_demo
from snapshot.demo.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Iterator

TREE = Path(__file__).parent.parent
LAST_LINE = "Ctrl-C stops both processes."
WAIT_SECONDS = 60


class Demo:
    """One run of the demo; its output goes to a file, as Windows has no select for pipes."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._output = folder.with_name(f"{folder.name}-{time.monotonic_ns()}.out")
        options = ["--people", "50", "--port", str(port), "--folder", str(folder)]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "snapshot", "demo", *options],
                cwd=TREE,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    @property
    def curl_lines(self) -> list[str]:
        return [line.strip() for line in self.output.splitlines() if line.strip().startswith("curl")]

    def wait_until_served(self) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while LAST_LINE not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.1)

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS)


@contextlib.contextmanager
def running(folder: Path, port: int | None = None) -> Iterator[Demo]:
    demo = Demo(folder, port or free_port())
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait()
            wait_until_gone(demo)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder, where the system tells them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in command and int(path.parent.name) != os.getpid():
                found.append(command)
    return found


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def wait_until_gone(demo: Demo) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while processes_of(demo.folder) or not is_free(demo.port):
        assert time.monotonic() < deadline, processes_of(demo.folder)
        time.sleep(0.1)


def pasted(line: str) -> dict:
    """Run a printed curl line as a person does; without curl, send what it says."""
    if shutil.which("curl"):
        answer = subprocess.run(["sh", "-c", line], capture_output=True, check=True, timeout=30)
        assert answer.stderr == b""
        return json.loads(answer.stdout)
    words = shlex.split(line)
    url = urlsplit(words[-1])
    headers = {}
    if "-u" in words:
        credentials = base64.b64encode(words[words.index("-u") + 1].encode()).decode()
        headers["Authorization"] = f"Basic {credentials}"
    if "-H" in words:
        name, value = words[words.index("-H") + 1].split(": ", 1)
        headers[name] = value
    with contextlib.closing(http.client.HTTPConnection(url.netloc, timeout=30)) as connection:
        connection.request("POST" if "POST" in words else "GET", f"{url.path}?{url.query}", headers=headers)
        return json.loads(connection.getresponse().read())


@pytest.mark.slow
def test_demo_from_start_to_stop(tmp_path: Path):
    """The printed curl lines work when pasted, Ctrl-C ends both processes, and a second run finds its people."""
    with running(tmp_path / "demo") as demo:
        demo.wait_until_served()
        config_line, page_line, filter_line, groups_line, refresh_line = demo.curl_lines

        config = pasted(config_line)
        assert config["filter"]["supported"] is True
        assert config["urn:okta:schemas:scim:providerconfig:1.0"]["userManagementCapabilities"]

        page = pasted(page_line)
        assert (50, 1, 2) == (page["totalResults"], page["startIndex"], len(page["Resources"]))
        assert page["Resources"][0]["meta"]["location"].startswith(f"http://{HOST}:{demo.port}/scim/v1/Users/")

        found = pasted(filter_line)
        url = next(word for word in shlex.split(filter_line) if word.startswith("http"))
        wanted = parse_qs(urlsplit(url).query)["filter"][0]
        assert 1 == found["totalResults"]
        assert f'userName eq "{found["Resources"][0]["userName"]}"' == wanted

        groups = pasted(groups_line)
        assert (21, 5) == (groups["totalResults"], len(groups["Resources"]))
        assert "Executive Office" == groups["Resources"][0]["displayName"]
        assert "members" not in groups["Resources"][0]

        assert pasted(refresh_line)["id"]

        for base in ("/scim/v1/", "/scim/v2/"):
            assert f"http://{HOST}:{demo.port}{base}\n" in demo.output
        for log in ("scheduler.log", "server.log"):
            assert str(demo.folder / log) in demo.output
            assert (demo.folder / log).stat().st_size > 0
        assert 0 == demo.stop()
        assert demo.output.endswith("Stopped.\n")
        assert [] == processes_of(demo.folder)
        assert is_free(demo.port)

    with running(tmp_path / "demo", demo.port) as again:
        again.wait_until_served()
        assert "Using the 50 people" in again.output
        assert demo.curl_lines == again.curl_lines
        assert 50 == pasted(again.curl_lines[1])["totalResults"]
        assert 0 == again.stop(signal.SIGTERM)
        assert [] == processes_of(again.folder)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX does")
def test_nothing_survives_a_killed_demo(tmp_path: Path):
    """After kill -9 of the demo both processes end by themselves, and a new demo runs at once."""
    with running(tmp_path / "demo") as demo:
        demo.wait_until_served()
        demo.stop(signal.SIGKILL)
        with running(tmp_path / "demo", demo.port) as again:
            again.wait_until_served()
            assert 0 == again.stop()
        wait_until_gone(demo)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX does")
def test_dead_child_ends_the_demo(tmp_path: Path):
    """When one process dies, the demo says which, shows the end of its log, stops the other and fails."""
    with running(tmp_path / "demo") as demo:
        demo.wait_until_served()
        status = read_status(demo.folder / "data")
        assert status is not None
        os.kill(status.pid, signal.SIGKILL)
        assert 1 == demo.process.wait(WAIT_SECONDS)
        assert "The scheduler ended with exit code -9. The end of" in demo.output
        assert [] == processes_of(demo.folder)
        assert is_free(demo.port)


@pytest.mark.slow
def test_second_demo_on_a_folder(tmp_path: Path):
    """A second demo on the same folder says so in one line and leaves the first one alone."""
    with running(tmp_path / "demo") as demo:
        demo.wait_until_served()
        with running(tmp_path / "demo") as second:
            assert 1 == second.process.wait(WAIT_SECONDS)
            assert second.output.startswith(f"Another demo (process {demo.process.pid}) runs in ")
            assert 1 == second.output.count("\n")
        assert 50 == pasted(demo.curl_lines[1])["totalResults"]


@pytest.mark.slow
def test_port_taken(tmp_path: Path):
    """With the port taken the demo says so in one line, with what to type instead, and starts nothing."""
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with running(tmp_path / "demo", port) as demo:
            assert 1 == demo.process.wait(WAIT_SECONDS)
            assert demo.output.startswith(f"Port {port} is taken on 127.0.0.1")
            assert f"PORT={port + 1} make demo" in demo.output
            assert 1 == demo.output.count("\n")
        assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(("people", "port"), [(0, 8080), (10_000_000, 8080), (10, -1), (10, 65536)])
def test_numbers_out_of_range(people: int, port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A number of people or a port that cannot be is refused in one line that names it."""
    assert 1 == run_demo(people=people, folder=tmp_path / "demo", port=port)
    shown = capsys.readouterr()
    assert "" == shown.out
    assert shown.err.startswith(("PEOPLE is", "PORT is"))
    assert 1 == shown.err.count("\n")


def test_lock_has_one_name():
    """The demo waits for the lock that the scheduler holds."""
    assert scheduler.LOCK_NAME == SCHEDULER_LOCK


class Terminal:
    """A stream that says it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_progress_on_a_terminal():
    """On a terminal a progress line is replaced by the next one, and cleared before a line that stays."""
    terminal = Terminal()
    screen = Screen(terminal)  # type: ignore[arg-type]
    for text in ("9 of 10 rows", "all"):
        time.sleep(0.12)
        screen.progress(text)
    screen.line("Done.")
    assert terminal.text == "\r9 of 10 rows\rall         \r   \rDone.\n"
