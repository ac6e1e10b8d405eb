"""`python -m snapshot`: hash-secret, status, rejects, quarantine, audit; and the options that all programs share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from people_folder import PeopleFolder, people, person

from snapshot import __version__, quarantine_commands
from snapshot.__main__ import main
from snapshot.control import RefreshOutcome, SchedulerStatus, write_status
from snapshot.errors import PublishRefusedError
from snapshot.logs import now_text
from snapshot.quarantine_commands import who_am_i
from snapshot.secret import verify_hash
from snapshot.store import read_current, writer_lock

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


def refused_manifest(folder: PeopleFolder) -> dict[str, Any]:
    return json.loads((folder.data_dir / "quarantine/00000002/manifest.json").read_text())


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
    assert (None, "", None, False, []) == tuple(facts.values())
    assert 1 == tool(folder, "rejects")
    assert 0 == tool(folder, "quarantine")
    assert "No generation is in quarantine." in capsys.readouterr().out
    assert 0 == tool(folder, "quarantine", "list", "--json")
    assert [] == json.loads(capsys.readouterr().out)
    assert 0 == tool(folder, "audit")
    assert "Nobody has approved or rejected anything yet." in capsys.readouterr().out
    assert 0 == tool(folder, "audit", "--json")
    assert "" == capsys.readouterr().out


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


def test_status_of_people_without_a_row(folder, capsys):
    """People who are only sent as inactive, and those who are kept in spite of a reject, are told apart."""
    folder.publish(people(30))
    folder.publish([*people(15), person(16, state="?"), person(17, state="?")])
    assert 0 == tool(folder, "status")
    out = capsys.readouterr().out
    assert "17 users, 17 active." in out
    assert "13 people without a row are sent as inactive." in out
    assert "Rejects: 2, 2 of them kept as published before (" in out


CURRENTS = {"missing": None, "zero": b"0\n", "garbage": b"x", "gone": b"00000009\n", "pruned": b"00000001\n"}


@pytest.mark.parametrize("text", CURRENTS.values(), ids=CURRENTS)
def test_status_when_current_is_damaged(refused, capsys, text):
    """Without a good CURRENT the damage is told, with the newest generation, the scheduler and the quarantine: exit 1."""
    generations = refused.data_dir / "generations"
    (generations / "00000001").rename(generations / "00000003")
    quarantine = refused.data_dir / "quarantine"
    (quarantine / "00000002").rename(quarantine / "00000010")
    current = refused.data_dir / "CURRENT"
    current.unlink() if text is None else current.write_bytes(text)
    assert 1 == tool(refused, "status")
    found = capsys.readouterr()
    assert "" == found.err
    for expected in (str(refused.data_dir), "Run a refresh", "50 users", "never run", "In quarantine: 10"):
        assert expected in found.out
    assert 1 == tool(refused, "status", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert (50, [10]) == (facts["generation"]["resource_types"]["User"]["count"], facts["quarantine"])
    assert str(refused.data_dir) in facts["damage"]


def test_status_when_the_manifest_is_damaged(refused, capsys):
    """A manifest that cannot be read hides neither the scheduler, nor why it is paused, nor the quarantine."""
    now = now_text()
    status = SchedulerStatus(pid=7, started_at=now, updated_at=now, phase="idle", paused_until="2099-01-01T00:00:00Z")
    write_status(refused.data_dir, status)
    path = refused.data_dir / "generations" / "00000001" / "manifest.json"
    path.write_bytes(b"{")
    assert 1 == tool(refused, "status")
    found = capsys.readouterr()
    assert "" == found.err
    for expected in (str(path), "Scheduler (process 7): idle", "paused until 2099-01-01", "In quarantine: 2"):
        assert expected in found.out
    assert "Nothing is published" not in found.out
    assert 1 == tool(refused, "status", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert (None, "2099-01-01T00:00:00Z") == (facts["generation"], facts["scheduler"]["paused_until"])
    assert str(path) in facts["damage"]


def test_status_shows_what_waits(refused, capsys):
    """A generation in quarantine that is void does not wait for anybody."""
    assert 0 == tool(refused, "status")
    assert "In quarantine: 2 (" in capsys.readouterr().out
    refused.publish(people(50))  # the source is right again
    assert 0 == tool(refused, "status")
    assert "In quarantine" not in capsys.readouterr().out
    assert 0 == tool(refused, "status", "--json")
    assert [] == json.loads(capsys.readouterr().out)["quarantine"]


@pytest.mark.parametrize("name", ["index.sqlite", "User.1.1.json", "User.2.0.offsets", "changes.jsonl"])
@pytest.mark.parametrize("how", ["gone", "altered", "cut"])
@pytest.mark.parametrize("count", [1, 2])
def test_status_when_a_file_is_damaged(folder, capsys, name, how, count):
    """A damaged file of the generation in force is told, with the newest generation that can be served: exit 1."""
    for number in range(1, count + 1):
        folder.publish(people(10 * number))
    assert 0 == tool(folder, "status")
    capsys.readouterr()
    path = folder.data_dir / "generations" / f"{count:08}" / name
    raw = path.read_bytes() or b"?"
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(bytes([raw[0] ^ 1]) + raw[1:] if how == "altered" else raw + b"\0")
    assert 1 == tool(folder, "status")
    found = capsys.readouterr()
    assert ("", True, count == 2) == (found.err, str(path) in found.out, "Generation 1, " in found.out)
    assert "Nothing is published" not in found.out
    assert 1 == tool(folder, "status", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert (str(path) in facts["damage"], count == 2) == (True, facts["generation"] is not None)


def test_status_after_a_refresh_without_change(folder, capsys):
    """A refresh that found nothing new is no failure and gives no alarm."""
    folder.publish(people(2))
    now = now_text()
    same = RefreshOutcome(state="unchanged", at="T", generation=1)
    write_status(
        folder.data_dir, SchedulerStatus(pid=7, started_at=now, updated_at=now, phase="idle", last_outcome=same)
    )
    assert 0 == tool(folder, "status")
    out = capsys.readouterr().out
    assert "Last refresh found no change at T." in out
    assert "Last refresh unchanged" not in out


def test_rejects(folder, capsys):
    """The rejects of the newest generation are printed as JSON lines."""
    folder.publish([*people(2), (None, "x", None, 1), ("Ü", "y", None, "?")])
    assert 0 == tool(folder, "rejects")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(3, "", "id"), (4, "Ü", "active")] == [(line["row"], line["id"], line["attribute"]) for line in lines]


def test_quarantine(refused, capsys):
    """The list shows why it was refused and the first people of each kind, those who would be gone first."""
    assert 0 == tool(refused, "quarantine")
    head, reason, *rest = capsys.readouterr().out.splitlines()
    content = refused_manifest(refused)["content"]
    assert head.startswith("Generation 2, read ")
    assert f", content {content[:12]}: 21 users; 1 added, 0 changed, 0 deactivated, 30 removed, 0 expired" in head
    assert reason.startswith("  refused: 30 of 50 users are gone")
    assert [
        *(f"  removed      E{number:05d}  user{number}@example.com" for number in range(21, 31)),
        "  removed      … and 20 more: python -m snapshot quarantine show 2",
        "  added        E00060  user60@example.com",
    ] == rest
    assert 0 == tool(refused, "status")
    assert "In quarantine: 2" in capsys.readouterr().out


def test_quarantine_as_json(refused, capsys):
    """The list for machines holds the same facts."""
    assert 0 == tool(refused, "quarantine", "list", "--json")
    (found,) = json.loads(capsys.readouterr().out)
    assert (2, 1, 21, None) == tuple(found[name] for name in ("generation", "previous", "users", "superseded_by"))
    assert 64 == len(found["content"])
    assert {"added": 1, "changed": 0, "deactivated": 0, "removed": 30, "expired": 0} == found["changes"]
    assert 1 == len(found["refused"])
    assert [10, 1] == [len(found["first"][kind]) for kind in ("removed", "added")]
    assert {"change": "added", "id": "E00060", "userName": "user60@example.com"} == found["first"]["added"][0]


def test_quarantine_show(refused, capsys):
    """Every person is shown by kind, for people and for machines."""
    assert 0 == tool(refused, "quarantine", "show", "2")
    lines = capsys.readouterr().out.splitlines()[2:]
    expected = [f"  removed      E{number:05d}  user{number}@example.com" for number in range(21, 51)]
    assert [*expected, "  added        E00060  user60@example.com"] == lines
    assert 0 == tool(refused, "quarantine", "show", "2", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (2, 31) == (found["generation"], len(found["people"]))
    assert {"change": "removed", "id": "E00021", "userName": "user21@example.com"} == found["people"][0]
    assert 1 == tool(refused, "quarantine", "show", "1")
    assert "No generation 1 is in quarantine. Waiting: 2." in capsys.readouterr().err


def test_a_first_generation_in_quarantine(folder, capsys):
    """Without a generation before, everybody in it is shown as added."""
    folder.publish(people(3))
    shutil.rmtree(folder.data_dir / "generations")
    (folder.data_dir / "generations").mkdir()
    folder.settings["guard"] = {"enabled": True}
    with pytest.raises(PublishRefusedError) as caught:
        folder.publish(people(12))
    number = caught.value.generation
    assert 0 == tool(folder, "quarantine")
    out = capsys.readouterr().out
    assert "compared with no generation, so everybody counts as added" in out
    assert f"  added        … and 2 more: python -m snapshot quarantine show {number}" in out
    assert 0 == tool(folder, "quarantine", "show", str(number))
    assert 12 == capsys.readouterr().out.count("\n  added        E000")


def test_a_damaged_generation_bars_no_other(refused, capsys):
    """A damaged generation in quarantine is named as such; the others are listed, and show refuses it."""
    with pytest.raises(PublishRefusedError):
        refused.publish(people(10))
    (refused.data_dir / "quarantine/00000002/changes.jsonl").write_bytes(b'{"change":"added","id":"E1"}\n')
    assert 0 == tool(refused, "quarantine")
    out = capsys.readouterr().out
    assert "Generation 2 is damaged: " in out
    assert "changes.jsonl: it has 29 bytes" in out
    assert "Generation 3, read " in out
    assert 0 == tool(refused, "quarantine", "list", "--json")
    first, second = json.loads(capsys.readouterr().out)
    assert ({"generation", "error"}, 3) == (first.keys(), second["generation"])
    assert 1 == tool(refused, "quarantine", "show", "2")
    assert "changes.jsonl" in capsys.readouterr().err


def test_approve(refused, capsys):
    """An approved generation is served, with the time of its approval on all that is new in it."""
    before = {user["id"]: user["meta"] for user in refused.users()}
    created = refused_manifest(refused)["created_at"]
    assert 0 == tool(refused, "quarantine", "approve", "2")
    assert (
        "Generation 2 is published. It holds 21 users; 1 added, 0 changed, 0 deactivated, 30 removed, 0 expired.\n"
        == capsys.readouterr().out
    )
    assert 2 == read_current(refused.data_dir)
    users = {user["id"]: user for user in refused.users()}
    assert (51, 21) == (len(users), sum(user["active"] for user in users.values()))
    approved = refused.snapshot().manifest.created_at
    assert created < users["E00060"]["meta"]["lastModified"] == users["E00050"]["meta"]["lastModified"] == approved
    assert before["E00001"] == users["E00001"]["meta"]
    assert [] == list((refused.data_dir / "quarantine").iterdir())
    refused.settings["guard"] = {"enabled": False}
    manifest = refused.publish([*people(20), person(60), person(61)])
    assert (3, 1, 0, 0) == (
        manifest.generation,
        manifest.changes.added,
        manifest.changes.changed,
        manifest.changes.removed,
    )


@pytest.mark.parametrize("action", ["approve", "reject"])
def test_a_decision_about_what_was_seen(refused, capsys, action):
    """--content takes the first eight digits or more, in any case; anything else decides nothing."""
    content = refused_manifest(refused)["content"]
    other = f"{int(content[:8], 16) ^ 1:08x}"
    for wrong, said in (
        ("", "--content (empty) is not eight or more hexadecimal digits"),
        (content[:7], "is not eight or more hexadecimal digits"),
        ("notahexword", "is not eight or more hexadecimal digits"),
        (content + "0", "is not eight or more hexadecimal digits"),
        (other, f"Generation 2 holds other content ({content[:12]}) than {other}. Look at it again"),
        (content[:-1] + ("0" if content[-1] != "0" else "1"), "Generation 2 holds other content"),
    ):
        assert 1 == tool(refused, "quarantine", action, "2", "--content", wrong)
        assert said in capsys.readouterr().err
    assert 1 == read_current(refused.data_dir)
    assert (refused.data_dir / "quarantine/00000002").is_dir()
    assert not (refused.data_dir / "audit.jsonl").exists()
    assert 0 == tool(refused, "quarantine", action, "2", "--content", content[:8].upper())
    assert not (refused.data_dir / "quarantine/00000002").exists()


def test_a_decision_waits_for_the_refresh(refused, capsys, monkeypatch):
    """While a refresh runs, a decision waits for a while, and then says why nothing was decided."""
    monkeypatch.setattr("snapshot.quarantine_commands._PATIENCE_SECONDS", 0.2)
    with writer_lock(refused.data_dir):
        assert 1 == tool(refused, "quarantine", "approve", "2")
    err = capsys.readouterr().err
    assert f"A refresh is running (process {os.getpid()}), so nothing was decided. Try again when it has ended." in err
    assert 1 == read_current(refused.data_dir)
    assert not (refused.data_dir / "audit.jsonl").exists()


def test_a_decision_gets_the_lock_that_becomes_free(refused, capsys):
    """A refresh that ends within the patience does not hinder the decision."""
    held, free = threading.Event(), threading.Event()

    def refresh():
        with writer_lock(refused.data_dir):
            held.set()
            free.wait(30)

    thread = threading.Thread(target=refresh)
    thread.start()
    held.wait(30)
    threading.Timer(0.5, free.set).start()
    assert 0 == tool(refused, "quarantine", "approve", "2")
    thread.join()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show"], "Which one? python -m snapshot quarantine show N"),
        (["list", "2"], "list takes no number"),
        (["show", "2", "--content", "00000000"], "--content belongs to approve and reject"),
        (["approve", "2", "--json"], "--json belongs to list and show"),
    ],
)
def test_what_does_not_go_together(folder, capsys, arguments, said):
    """Parts of the command that mean nothing together are exit code 2, not silence."""
    with pytest.raises(SystemExit) as caught:
        tool(folder, "quarantine", *arguments)
    assert 2 == caught.value.code
    assert said in capsys.readouterr().err


def test_audit(refused, capsys):
    """Who decided what, when and with which counts is shown, and as JSON lines for machines."""
    assert 0 == tool(refused, "quarantine", "reject", "2")
    content = json.loads((refused.data_dir / "audit.jsonl").read_text())["content"]
    capsys.readouterr()
    assert 0 == tool(refused, "audit")
    head, reason = capsys.readouterr().out.splitlines()
    counts = "21 users; 1 added, 0 changed, 0 deactivated, 30 removed, 0 expired"
    assert head.endswith(f"  {who_am_i()}  reject 2  content {content[:12]}: {counts}")
    assert reason.startswith("  refused: 30 of 50 users are gone")
    assert 0 == tool(refused, "audit", "--json")
    assert (refused.data_dir / "audit.jsonl").read_text() == capsys.readouterr().out


def test_audit_with_a_line_cut_short(refused, capsys):
    """What a crash left of a line is named, is no obstacle, and is left out for machines."""
    path = refused.data_dir / "audit.jsonl"
    path.write_bytes(b'{"at":"2026-01-01T00:00')
    assert 0 == tool(refused, "quarantine", "reject", "2")
    with path.open("ab") as file:
        file.write(b'{"at":"\xc3')
    capsys.readouterr()
    assert 0 == tool(refused, "audit")
    lines = capsys.readouterr().out.splitlines()
    assert ["(a line that cannot be read", "(a line that cannot be read"] == [lines[at][:27] for at in (0, -1)]
    assert "reject 2" in lines[1]
    assert 0 == tool(refused, "audit", "--json")
    (line,) = capsys.readouterr().out.splitlines()
    assert "reject" == json.loads(line)["action"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such variables")
def test_nobody_decides_under_another_name(monkeypatch):
    """The account in the audit log is the system's word: no variable changes it; sudo's caller is told beside it."""
    import pwd  # noqa: PLC0415 (Windows has none)

    monkeypatch.setattr(quarantine_commands, "_LOGIN_UID", Path("nowhere"))
    name = pwd.getpwuid(os.getuid()).pw_name
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "somebody-else")
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert f"os:{name}" == who_am_i()
    monkeypatch.setenv("SUDO_USER", "jane")
    assert (f"os:{name} (sudo: jane)" if os.getuid() == 0 else f"os:{name}") == who_am_i()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file")
@pytest.mark.parametrize(("kept", "said"), [("54321", " (login: 54321)"), ("4294967295", ""), ("", ""), ("own", "")])
def test_who_logged_in(monkeypatch, tmp_path, kept, said):
    """One who acts as the account of the services is named with the account that the kernel saw log in."""
    import pwd  # noqa: PLC0415 (Windows has none)

    (tmp_path / "loginuid").write_text(str(os.getuid()) if kept == "own" else kept)
    monkeypatch.setattr(quarantine_commands, "_LOGIN_UID", tmp_path / "loginuid")
    monkeypatch.delenv("SUDO_USER", raising=False)
    name = pwd.getpwuid(os.getuid()).pw_name
    assert f"os:{name}{said}" == who_am_i()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives a folder away")
@pytest.mark.parametrize("action", ["approve", "reject"])
@pytest.mark.parametrize("owner", ["nobody", "'#54321'"])
def test_another_account_decides_nothing(refused, capsys, action, owner):
    """Whoever does not own data_dir is told as whom to decide; no file is made there that the services cannot write."""
    import pwd  # noqa: PLC0415 (Windows has none)

    uid = pwd.getpwnam(owner).pw_uid if owner.isalpha() else 54321
    os.chown(refused.data_dir, uid, -1)
    before = sorted(refused.data_dir.rglob("*"))
    assert 1 == tool(refused, "quarantine", action, "2")
    assert f"sudo -u {owner} python -m snapshot quarantine {action} 2" in capsys.readouterr().err
    assert (1, before) == (read_current(refused.data_dir), sorted(refused.data_dir.rglob("*")))
    os.chown(refused.data_dir, os.geteuid(), -1)
    assert 0 == tool(refused, "quarantine", action, "2")


def test_output_that_cannot_be_written(folder):
    """A full disk behind standard output is a sentence and exit code 1, not a traceback."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    folder.publish(people(2))
    command = [sys.executable, "-m", "snapshot", "status", "--config", str(folder.toml())]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, cwd=TREE, stdout=full, stderr=subprocess.PIPE, timeout=30, check=False)
    assert (1, b"standard output: No space left on device.\n") == (done.returncode, done.stderr)


def test_reject(refused, capsys):
    """A rejected generation is removed; what is served stays."""
    assert 0 == tool(refused, "quarantine", "reject", "2")
    assert "Generation 2 is removed. It held 21 users; 1 added, " in capsys.readouterr().out
    assert [] == list((refused.data_dir / "quarantine").iterdir())
    assert (1, 50) == (read_current(refused.data_dir), len(refused.users()))


@pytest.mark.parametrize("action", ["approve", "reject"])
def test_no_such_generation(refused, capsys, action):
    """A number that is not in quarantine is a sentence and exit code 1; none at all is exit code 2."""
    assert 1 == tool(refused, "quarantine", action, "7")
    assert "No generation 7 is in quarantine." in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        tool(refused, "quarantine", action)
    assert 2 == caught.value.code
    assert f"Which one? python -m snapshot quarantine {action} N" in capsys.readouterr().err


def test_an_overtaken_generation(refused, capsys):
    """A generation in quarantine that a newer one has overtaken cannot be approved any more."""
    refused.settings["guard"] = {"enabled": False}
    refused.publish(people(51))
    assert 0 == tool(refused, "quarantine")
    assert "  superseded: generation 3 is in force; this one can only be rejected" in capsys.readouterr().out
    assert 0 == tool(refused, "quarantine", "list", "--json")
    assert 3 == json.loads(capsys.readouterr().out)[0]["superseded_by"]
    assert 1 == tool(refused, "quarantine", "approve", "2")
    assert "Generation 2 is older than generation 3" in capsys.readouterr().err
    assert 0 == tool(refused, "quarantine", "reject", "2")


def test_a_damaged_quarantine(refused, capsys):
    """A generation in quarantine that was damaged meanwhile is not published."""
    (refused.data_dir / "quarantine/00000002/User.1.1.json").write_bytes(b"")
    assert 1 == tool(refused, "quarantine", "approve", "2")
    assert "User.1.1.json" in capsys.readouterr().err
    assert 1 == read_current(refused.data_dir)


@pytest.mark.parametrize("command", ["status", "rejects", "quarantine", "diff", "audit"])
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
