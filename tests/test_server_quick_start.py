"""What the server spares itself at its start, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

ROOT = Path(__file__).resolve().parent.parent
CODE = """
import gc, json, os
{before}
import server.__main__ as program
from aiohttp import connector
told = dict(
    authorities=len(connector._SSL_CONTEXT_VERIFIED.get_ca_certs()),
    collects=gc.isenabled(),
    file=os.environ.get("SSL_CERT_FILE"),
)
try:
    program.main(["--version"])
except SystemExit:
    pass
told |= dict(frozen=gc.get_freeze_count(), collects_then=gc.isenabled())
print(json.dumps(told))
"""


def told(authorities: Path, *, before: str = "") -> dict:
    """Start as the program does, where the system's certificates are in a file of the test."""
    environment = {**os.environ, "SSL_CERT_FILE": str(authorities), "SSL_CERT_DIR": ""}
    command = [sys.executable, "-c", CODE.format(before=before)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, env=environment)
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture
def authorities(tmp_path):
    path = tmp_path / "authorities.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


def test_certificates_of_the_system_are_not_read(authorities):
    """aiohttp's client finds none; the environment is as it was, and the collector works once the program runs."""
    found = told(authorities)
    assert 0 == found["authorities"]
    assert str(authorities) == found["file"]
    assert not found["collects"]
    assert found["frozen"] > 10_000
    assert found["collects_then"]


def test_who_has_imported_aiohttp_keeps_them(authorities):
    """Nothing is changed for a program that uses aiohttp itself."""
    found = told(authorities, before="import aiohttp")
    assert (1, True, 0, True) == tuple(found[name] for name in ("authorities", "collects", "frozen", "collects_then"))
