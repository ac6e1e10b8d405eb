"""`python -m server` as a process: start, answer, stop, and the exit codes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from server.__main__ import BAD_CONFIG, FAILED, OK, main

ROOT = Path(__file__).resolve().parent.parent
CONFIG = """
data_dir = "data"
[source]
driver = "sqlite"
path = "people.db"
users.table = "people"
[mapping]
id = "id"
userName = "login"
[server]
port = {port}
[[server.auth]]
type = "basic"
username = "okta"
password = "{password}"
[log]
format = "json"
"""


def write_config(folder: Path, *, port: int = 0, more: str = "", **secrets: str) -> Path:
    path = folder / "config.toml"
    path.write_text(CONFIG.format(port=port, password=secrets.get("password", "pw")) + more, encoding="utf-8")
    return path


def start(config: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "server", "--config", str(config)],
        cwd=config.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_check(tmp_path, capsys):
    """--check says OK, and warns of a password in clear text only if the configuration does."""
    assert main(["--config", str(write_config(tmp_path)), "--check"]) == OK
    assert capsys.readouterr().out.startswith("OK: ")


def test_a_broken_configuration(tmp_path, capsys):
    """Exit code 2 and a line for each problem."""
    path = write_config(tmp_path, more='[nonsense]\n[schedule]\ninterval_seconds = "x"\n')
    assert main(["--config", str(path)]) == BAD_CONFIG
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert any("nonsense" in line for line in lines)


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_secret_that_leads_nowhere(tmp_path, capsys, check):
    """Exit code 2 and one line that names the reference."""
    path = write_config(tmp_path, password="${env:NO_SUCH_VARIABLE_HERE}")
    assert main(["--config", str(path), *check]) == BAD_CONFIG
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "NO_SUCH_VARIABLE_HERE" in line


def test_a_missing_certificate(tmp_path, capsys):
    """Exit code 2 and one line that names the file."""
    path = write_config(tmp_path, more='[server.tls]\ncertificate = "no.pem"\nkey = "no.key"\n')
    assert main(["--config", str(path), "--check"]) == BAD_CONFIG
    assert "no.pem" in capsys.readouterr().err


def test_a_taken_port(tmp_path, capsys):
    """Exit code 1 and one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--config", str(write_config(tmp_path, port=taken.getsockname()[1]))]) == FAILED
    assert "is taken by another program" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_start_answer_stop(tmp_path, number):
    """The process serves before any snapshot exists and stops in good order on a signal, without a traceback."""
    process = start(write_config(tmp_path))
    try:
        # A warning about the password in clear text comes first.
        line = next(line for line in process.stderr if '"127.0.0.1",' in line)
        port = int(re.search(r'"127\.0\.0\.1",(\d+)', line).group(1))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/healthy", timeout=5) as answer:
            assert answer.status == 200
        began = time.monotonic()
        process.send_signal(number)
        _, rest = process.communicate(timeout=10)
        assert process.returncode == OK
        assert time.monotonic() - began < 5
        assert "Traceback" not in rest
        assert '"event":"stopping"' in rest
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_without_the_c_parser(tmp_path):
    """The pure-Python parser of aiohttp is refused with exit code 1 and a sentence."""
    process = start(write_config(tmp_path), AIOHTTP_NO_EXTENSIONS="1")
    _, text = process.communicate(timeout=20)
    assert process.returncode == FAILED
    assert "C parser" in text
    assert "Traceback" not in text
