"""Both programs as processes, for two apps: from a source that is down to a decision over HTTP."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from apps_folder import ADMIN_TOKEN, PASSWORDS, AppsFolder
from people_folder import people
from scheduler_fixtures import TREE, running, stop
from server_process import ServerProcess, wait_for

from snapshot.store import read_current

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals")]


@pytest.fixture
def apps(tmp_path):
    """Two apps with fifty people each, nothing published."""
    folder = AppsFolder(tmp_path)
    folder.hr.fill(people(50))
    folder.partners.fill(people(50))
    return folder


class Http:
    """Asks a server that runs; the credential is that of the app, or of administrators."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, path: str, method: str = "GET") -> tuple[int, Any]:
        name = path.split("/")[1]
        pair = base64.b64encode(f"{name}:{PASSWORDS.get(name)}".encode()).decode()
        header = f"Basic {pair}" if name in PASSWORDS else f"Bearer {ADMIN_TOKEN}"
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, headers={"Authorization": header})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def total(self, name: str, version: str = "v2") -> int | None:
        return self.ask(f"/{name}/scim/{version}/Users?count=1")[1].get("totalResults")

    def refresh(self, name: str) -> str:
        """Ask for a refresh; return the state in which it ended."""
        status, asked = self.ask(f"/admin/apps/{name}/refresh", "POST")
        assert status == 202
        return self.end_of(asked["status_url"])

    def end_of(self, path: str) -> str:
        found: dict[str, Any] = {}

        def ended() -> bool:
            found.update(self.ask(path)[1])
            return found["state"] not in {"queued", "running"}

        wait_for(ended, seconds=30)
        return found["state"]


def test_two_sources_from_end_to_end(apps):
    """One app is served while the source of the other is down; guard and decision of one leave the other alone."""
    apps.hr.database.rename(apps.hr.path / "away")
    apps.hr.settings["guard"] = {"enabled": True}
    toml = apps.toml()
    server = ServerProcess(toml)
    client = Http(server.port)
    try:
        with running(apps) as scheduler:
            wait_for(lambda: client.total("partners") == 50, seconds=30)
            assert (503, "not ready") == ((answer := client.ask("/-/ready"))[0], answer[1]["status"])
            assert {"hr": "not ready", "partners": "ready"} == {
                name: item["status"] for name, item in answer[1]["apps"].items()
            }
            assert 503 == client.ask("/hr/scim/v2/Users")[0]

            assert "failed" == client.refresh("hr")
            apps.partners.fill(people(48))
            assert "published" == client.refresh("partners")

            (apps.hr.path / "away").rename(apps.hr.database)
            assert "published" == client.refresh("hr")
            wait_for(lambda: client.ask("/-/ready")[0] == 200)
            assert [50, 50] == [client.total("hr", version) for version in ("v1", "v2")]

            apps.hr.fill(people(5))
            assert "refused" == client.refresh("hr")
            assert 50 == client.total("hr")
            assert ([2], []) == tuple(
                [item["generation"] for item in client.ask(f"/admin/apps/{name}/quarantine")[1]["quarantine"]]
                for name in ("hr", "partners")
            )
            apps.partners.fill(people(49))
            assert "published" == client.refresh("partners")
            status, asked = client.ask("/admin/apps/hr/quarantine/2/approve", "POST")
            assert (202, "published") == (status, client.end_of(asked["status_url"]))
            assert (2, 3) == (read_current(apps.hr.data_dir), read_current(apps.partners.data_dir))
            wait_for(lambda: client.ask("/-/status")[1]["apps"]["hr"]["snapshot"]["generation"] == 2)
            active = client.ask("/hr/scim/v2/Users?count=1&filter=active%20eq%20true")[1]["totalResults"]
            assert 5 == active
            log = stop(scheduler)
        assert "Traceback" not in log
        swapped = [(line["app"], line["generation"]) for line in server.events("swapped")]
        assert [("hr", 1), ("hr", 2)] == [item for item in swapped if item[0] == "hr"]
        assert [1, 2, 3] == [generation for name, generation in swapped if name == "partners"]
        assert "hr" in {line.get("app") for line in server.events("request")}
        # The scheduler has ended: each app says so.
        wait_for(lambda: {"not running"} == {item["scheduler"] for item in client.ask("/-/ready")[1]["apps"].values()})
    finally:
        server.stop()


def served(apps: AppsFolder, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server", "--config", str(apps.toml()), *options]
    return subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=30, check=False)


def test_the_check_of_the_server(apps):
    """--check reads the secrets of every app; with --app those of one; a name that is none is exit code 2."""
    done = served(apps, "--check")
    assert (0, f"OK: {apps.path / 'config.toml'}\n") == (done.returncode, done.stdout)
    apps.partners.settings["server"]["auth"][0]["password"] = "${env:NO_SUCH_VARIABLE_HERE}"
    done = served(apps, "--check")
    assert (2, True) == (done.returncode, "NO_SUCH_VARIABLE_HERE" in done.stderr)
    assert 0 == served(apps, "--check", "--app", "hr").returncode
    done = served(apps, "--check", "--app", "partner")
    assert 2 == done.returncode
    assert '--app: found "partner" (string); expected one of hr, partners (did you mean partners?)' in done.stderr


def test_what_two_apps_may_not_share(apps):
    """Neither program starts when two apps share a base path and a folder; both mistakes are told with both names."""
    apps.partners.settings["data_dir"] = "hr/data"
    apps.partners.settings["server"]["paths"] = {"/hr/scim/v2": "2.0"}
    for program in (["-m", "server"], ["scheduler.py", "--once"], ["-m", "snapshot", "status", "--app", "hr"]):
        command = [sys.executable, *program, "--config", str(apps.toml())]
        done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=30, check=False)
        assert (2, "") == (done.returncode, done.stdout)
        path, folder = done.stderr.splitlines()
        assert 'apps.partners.server.paths."/hr/scim/v2": found the base path of hr too' in path
        assert "apps.partners.data_dir: found the folder of hr too" in folder
