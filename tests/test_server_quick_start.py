"""What the server spares itself at its start, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = """
import gc, json, os, ssl
if {first}:
    import server.__main__ as program
else:
    import server.app, aiohttp.connector
    program = None
from aiohttp import connector
told = dict(authorities=len(connector._SSL_CONTEXT_VERIFIED.get_ca_certs()), collects=gc.isenabled())
if program is not None:
    try:
        program.main(["--version"])
    except SystemExit:
        pass
    told |= dict(frozen=gc.get_freeze_count(), collects_then=gc.isenabled())
print(json.dumps(told))
"""


def told(*, first: bool) -> dict:
    command = [sys.executable, "-c", CODE.format(first=first)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def test_certificates_of_the_system_are_not_read():
    """aiohttp's client finds no authorities, and the collector works again once the program runs."""
    found = told(first=True)
    assert 0 == found["authorities"]
    assert not found["collects"]
    assert found["frozen"] > 10_000
    assert found["collects_then"]


def test_who_only_imports_the_application_keeps_them():
    """Nothing is changed for a program that imports the server's modules."""
    assert told(first=False)["collects"]
