"""`python -m snapshot`: hash-secret, status, rejects, quarantine; and the options that all programs share."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from people_folder import PeopleFolder, people, person

from snapshot import __version__
from snapshot.__main__ import main
from snapshot.control import RefreshOutcome, SchedulerStatus, write_status
from snapshot.errors import PublishRefusedError
from snapshot.logs import now_text
from snapshot.secret import verify_hash
from snapshot.store import read_current

TREE = Path(__file__).parent.parent


def tool(folder: PeopleFolder, *arguments: str) -> int:
    command, *rest = arguments
    return main([command, "--config", str(folder.toml()), *rest])


@pytest.fixture
def refused(folder):
    """A folder with generation 1 of 50 people published and generation 2 of 20 in quarantine."""
    folder.publish(people(50))
    folder.settings["guard"] = {"enabled": True}
    with pytest.raises(PublishRefusedError):
        folder.publish([*people(20), person(60)])
    return folder


@pytest.mark.parametrize("secret", ["hunter2", "pä$$:wörd ", "x" * 1000])
def test_hash_secret(secret):
    """The hash that is printed verifies the secret from standard input, which is not shown."""
    command = [sys.executable, "-m", "snapshot", "hash-secret", "--stdin"]
    done = subprocess.run(
        command, cwd=TREE, input=f"{secret}\nnext\n".encode(), capture_output=True, timeout=30, check=True
    )
    (line,) = done.stdout.decode().splitlines()
    assert verify_hash(secret, line)
    assert secret.encode() not in done.stdout + done.stderr


def test_no_empty_secret():
    """An empty secret gets no hash."""
    command = [sys.executable, "-m", "snapshot", "hash-secret", "--stdin"]
    done = subprocess.run(command, cwd=TREE, input=b"\n", capture_output=True, timeout=30, check=False)
    assert (1, b"") == (done.returncode, done.stdout)


def test_hash_secret_typed_twice(monkeypatch, capsys):
    """At a terminal the secret is typed twice, and both must be the same."""
    typed = iter(["one", "two", "one", "one"])
    monkeypatch.setattr("getpass.getpass", lambda _prompt: next(typed))
    assert 1 == main(["hash-secret"])
    assert "do not match" in capsys.readouterr().err
    assert 0 == main(["hash-secret"])
    assert verify_hash("one", capsys.readouterr().out.strip())


def test_status_before_the_first_generation(folder, capsys):
    """Nothing published: exit code 1 and a sentence, not a traceback."""
    assert 1 == tool(folder, "status")
    out = capsys.readouterr().out
    assert "Nothing is published in" in out
    assert "The scheduler has never run on this folder." in out
    assert 1 == tool(folder, "status", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert (None, None, False, []) == tuple(facts.values())
    assert 1 == tool(folder, "rejects")
    assert 0 == tool(folder, "quarantine")
    assert "No generation is in quarantine." in capsys.readouterr().out


def test_status(folder, capsys):
    """What is published, what the scheduler does and how the last refresh failed, as text and as JSON."""
    folder.publish([*people(1200), person(1201, state=0), (None, "x", None, 1)])
    failed = RefreshOutcome(state="failed", at="T", reason="Nothing listens.", remedy="Check it.")
    now = now_text()
    status = SchedulerStatus(pid=7, started_at=now, updated_at=now, phase="idle", last_outcome=failed, next_run_at="N")
    write_status(folder.data_dir, status)
    assert 0 == tool(folder, "status")
    out = capsys.readouterr().out
    assert "1,201 users, 1,200 active." in out
    assert "Rejects: 1 " in out
    assert "Scheduler (process 7): idle, next run N" in out
    assert "Last refresh failed at T: Nothing listens. Check it." in out
    assert 0 == tool(folder, "status", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert (1, True) == (facts["generation"]["generation"], facts["scheduler_alive"])
    write_status(
        folder.data_dir, SchedulerStatus(pid=7, started_at=now, updated_at="2020-01-01T00:00:00Z", phase="idle")
    )
    assert 0 == tool(folder, "status")
    assert "NOT RUNNING" in capsys.readouterr().out


def test_rejects(folder, capsys):
    """The rejects of the newest generation are printed as JSON lines."""
    folder.publish([*people(2), (None, "x", None, 1), ("Ü", "y", None, "?")])
    assert 0 == tool(folder, "rejects")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(3, "", "id"), (4, "Ü", "active")] == [(line["row"], line["id"], line["attribute"]) for line in lines]


def test_quarantine(refused, capsys):
    """The list shows what would change and why it was refused."""
    assert 0 == tool(refused, "quarantine")
    out = capsys.readouterr().out
    assert "Generation 2, read " in out
    assert "21 users; 1 added, 0 changed, 0 deactivated, 30 removed" in out
    assert "refused: 30 of 50 users are gone" in out
    path = next(line.split(": ", 1)[1] for line in out.splitlines() if "what would change" in line)
    assert 31 == len(Path(path).read_text().splitlines())
    assert 0 == tool(refused, "status")
    assert "In quarantine: 2" in capsys.readouterr().out


def test_approve(refused, capsys):
    """An approved generation is served, with the time of its approval on all that is new in it."""
    before = refused.users()
    created = json.loads((refused.data_dir / "quarantine/00000002/manifest.json").read_text())["created_at"]
    assert 0 == tool(refused, "quarantine", "approve", "2")
    assert "Generation 2 is published." in capsys.readouterr().out
    assert 2 == read_current(refused.data_dir)
    users = {user["id"]: user["meta"] for user in refused.users()}
    assert 21 == len(users)
    assert created < users["E00060"]["lastModified"] == refused.snapshot().manifest.created_at
    assert before[0]["meta"] == users["E00001"]
    assert [] == list((refused.data_dir / "quarantine").iterdir())
    refused.settings["guard"] = {"enabled": False}
    manifest = refused.publish([*people(20), person(60)])
    assert (3, 0, 0) == (manifest.generation, manifest.changes.added, manifest.changes.changed)


def test_reject(refused, capsys):
    """A rejected generation is removed; what is served stays."""
    assert 0 == tool(refused, "quarantine", "reject", "2")
    assert "Generation 2 is removed." in capsys.readouterr().out
    assert [] == list((refused.data_dir / "quarantine").iterdir())
    assert (1, 50) == (read_current(refused.data_dir), len(refused.users()))


@pytest.mark.parametrize("action", ["approve", "reject"])
def test_no_such_generation(refused, capsys, action):
    """A number that is not in quarantine is a sentence and exit code 1; none at all is exit code 2."""
    assert 1 == tool(refused, "quarantine", action, "7")
    assert "No generation 7 is in quarantine." in capsys.readouterr().err
    assert 2 == tool(refused, "quarantine", action)
    assert f"Which one? python -m snapshot quarantine {action} N" in capsys.readouterr().err


def test_an_overtaken_generation(refused, capsys):
    """A generation in quarantine that a newer one has overtaken cannot be approved any more."""
    refused.settings["guard"] = {"enabled": False}
    refused.publish(people(50))
    assert 1 == tool(refused, "quarantine", "approve", "2")
    assert "Generation 2 is older than generation 3" in capsys.readouterr().err


def test_a_damaged_quarantine(refused, capsys):
    """A generation in quarantine that was damaged meanwhile is not published."""
    (refused.data_dir / "quarantine/00000002/User.1.1.json").write_bytes(b"")
    assert 1 == tool(refused, "quarantine", "approve", "2")
    assert "User.1.1.json" in capsys.readouterr().err
    assert 1 == read_current(refused.data_dir)


@pytest.mark.parametrize("command", ["status", "rejects", "quarantine"])
def test_a_bad_configuration(folder, capsys, command):
    """Exit code 2 and every problem, one line each."""
    folder.settings |= {"sorce": 1, "log": 5}
    assert 2 == tool(folder, command)
    assert 2 == len(capsys.readouterr().err.splitlines())


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["status", "--config", "x", "--from-environment"], ["quarantine", "burn"]]
)
def test_wrong_arguments(capsys, arguments):
    """Wrong arguments are exit code 2 and the usage."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert 2 == caught.value.code
    assert "usage: " in capsys.readouterr().err


def test_from_environment(tmp_path, monkeypatch, capsys):
    """--from-environment reads the variables of the old connector even beside a config.toml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text("broken")
    for name, value in {"DB_SERVER": "s", "DB_NAME": "n", "SCIM_PASSWORD": "p", "SCIM_DATA_DIR": "d"}.items():
        monkeypatch.setenv(name, value)
    assert 1 == main(["status", "--from-environment"])
    assert f"Nothing is published in {tmp_path / 'd'} yet." in capsys.readouterr().out
    assert 2 == main(["status"])


def test_version(capsys):
    """--version tells the version of the distribution."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert f"scim-snapshot {__version__}" == capsys.readouterr().out.strip()
