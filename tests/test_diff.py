"""`python -m snapshot diff`: who differs between two generations, in which attributes, in three formats."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from snapshot.__main__ import main
from snapshot.diff import Diff, open_pair
from snapshot.diff_formats import _cell
from snapshot.errors import PublishRefusedError
from snapshot.quarantine_commands import decide
from snapshot.store import FORMAT_VERSION

TREE = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden" / "format-1"
CUSTOM = "urn:okta:acme_hr_1:1.0:user:custom"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
COLUMNS = "id, login, first, last, mail, home_mail, dept, badge, rate, state, hired"
MAPPING = {
    "id": "id",
    "userName": "login",
    "name": {"givenName": "first", "familyName": "last"},
    "emails": [{"value": "mail", "type": "work"}, {"value": "home_mail", "type": "home"}],
    "active": {"column": "state", "true": ["A"], "false": ["T"]},
    "enterprise": {"department": "dept"},
    CUSTOM: {"badge": "badge", "rate": {"column": "rate", "type": "decimal"}},
}
SECRETS = ("Given", "Family", "work-", "home-", "Dept", "Badge", "1.2345")


def row(number, **changes):
    """Return one row of the table; every value but id and login holds one of SECRETS."""
    made = {
        "id": f"E{number:04d}",
        "login": f"user{number}@example.com",
        "first": f"Given{number}",
        "last": f"Family{number}",
        "mail": f"work-{number}@example.com",
        "home_mail": f"home-{number}@example.com",
        "dept": f"Dept{number}",
        "badge": f"Badge{number}",
        "rate": "1.234567890123456789012345678901",
        "state": "A",
        "hired": "2020-01-02T03:04:05Z",
    }
    return tuple({**made, **changes}.values())


@pytest.fixture
def directory(folder):
    """A folder whose people have attributes of every shape."""
    folder.settings["mapping"] = json.loads(json.dumps(MAPPING))
    folder.settings["store"] = {"keep_generations": 10}
    return folder


def publish(directory, *rows):
    return directory.fill(rows, COLUMNS).refresh()


def run(directory, *arguments):
    return main(["diff", *map(str, arguments), "--config", str(directory.toml())])


def printed(directory, capsys, *arguments):
    assert 0 == run(directory, *arguments)
    return capsys.readouterr().out


def document(directory, capsys, *arguments):
    return json.loads(printed(directory, capsys, *arguments, "--format", "json"))


def kinds(changes):
    return [(item["change"], item["id"]) for item in changes]


@pytest.fixture
def four(directory):
    """Generations 1 to 4, with one person or more of each kind from 1 to 2, and tombstones after that."""
    publish(directory, *(row(number) for number in range(1, 7)))
    publish(
        directory,
        row(1),
        row(2, first="GivenNew", home_mail=None, badge=None),
        row(3, state="T"),
        row(6, dept="DeptNew", rate="1.234567890123456789012345678902"),
        row(10000),
        row(7, id="Z7", login="Ünal@example.com"),
    )
    publish(directory, row(1), row(2), row(3), row(4), row(6))
    directory.settings["policy"] = {"on_removed": "omit"}
    publish(directory, row(1), row(2), row(3), row(4), row(6))
    return directory


def test_text(four, capsys):
    """A line of counts, then everybody who differs: the gravest kind first, in the order of ids, with attributes."""
    head, *lines = printed(four, capsys, 1, 2).splitlines()
    created = [json.loads(path.read_text())["created_at"] for path in sorted(four.data_dir.glob("generations/*/man*"))]
    assert (
        f"Generation 1 ({created[0]}) -> 2 ({created[1]}): 2 added, 2 changed, 1 deactivated, 2 removed, 0 expired"
        == head
    )
    assert [
        "removed      E0004   user4@example.com",
        "removed      E0005   user5@example.com",
        "deactivated  E0003   user3@example.com  active",
        f"changed      E0002   user2@example.com  name.givenName, emails, {CUSTOM}:badge",
        f"changed      E0006   user6@example.com  {ENTERPRISE}:department, {CUSTOM}:rate",
        "added        Z7      Ünal@example.com",
        "added        E10000  user10000@example.com",
    ] == lines


def test_text_with_values(four, capsys):
    """With --values each attribute has its line with both values as JSON, decimals with every digit."""
    lines = printed(four, capsys, 1, 2, "--values").splitlines()
    at = lines.index("changed      E0006   user6@example.com")
    assert [
        f'             {ENTERPRISE}:department: "Dept6" -> "DeptNew"',
        f"             {CUSTOM}:rate: 1.234567890123456789012345678901 -> 1.234567890123456789012345678902",
    ] == lines[at + 1 : at + 3]
    assert f'             {CUSTOM}:badge: "Badge2" -> (none)' in lines


def test_json(four, capsys):
    """One document: both generations, counts of every kind, and the people with the names of their attributes."""
    found = document(four, capsys, 1, 2)
    assert {"generation", "created_at", "state", "users"} == found["from"].keys() == found["to"].keys()
    assert (1, 2, "published", 6) == (
        found["from"]["generation"],
        found["to"]["generation"],
        found["to"]["state"],
        found["from"]["users"],
    )
    assert {"removed": 2, "deactivated": 1, "changed": 2, "added": 2, "expired": 0} == found["counts"]
    assert {
        "change": "changed",
        "id": "E0002",
        "userName": "user2@example.com",
        "attributes": ["name.givenName", "emails", f"{CUSTOM}:badge"],
    } in found["changes"]
    assert {"change": "added", "id": "Z7", "userName": "Ünal@example.com", "attributes": []} in found["changes"]


def test_json_with_values(four, capsys):
    """With --values the values are JSON themselves: null where there is none, decimals with every digit."""
    raw = printed(four, capsys, 1, 2, "--values", "--format", "json")
    people = {item["id"]: item for item in json.loads(raw, parse_float=str)["changes"]}
    emails = [
        {"value": "work-2@example.com", "type": "work", "primary": True},
        {"value": "home-2@example.com", "type": "home"},
    ]
    assert [
        {"path": "name.givenName", "old": "Given2", "new": "GivenNew"},
        {"path": "emails", "old": emails, "new": emails[:1]},
        {"path": f"{CUSTOM}:badge", "old": "Badge2", "new": None},
    ] == people["E0002"]["attributes"]
    assert {
        "path": f"{CUSTOM}:rate",
        "old": "1.234567890123456789012345678901",
        "new": "1.234567890123456789012345678902",
    } == people["E0006"]["attributes"][1]
    assert [{"path": "active", "old": True, "new": False}] == people["E0003"]["attributes"]


def test_csv(four, capsys):
    """RFC 4180: a header, a row an attribute, a row for people without, lines that end in CR LF."""
    raw = printed(four, capsys, 1, 2, "--values", "--format", "csv")
    assert raw.count("\n") == raw.count("\r\n") == 11
    header, *rows = csv.reader(io.StringIO(raw, newline=""))
    assert ["change", "id", "userName", "attribute", "old", "new"] == header
    assert ["removed", "E0004", "user4@example.com", "", "", ""] == rows[0]
    assert ["deactivated", "E0003", "user3@example.com", "active", "true", "false"] == rows[2]
    assert ["changed", "E0002", "user2@example.com", "name.givenName", '"Given2"', '"GivenNew"'] == rows[3]
    assert ["changed", "E0002", "user2@example.com", f"{CUSTOM}:badge", '"Badge2"', ""] == rows[5]


@pytest.mark.parametrize("style", ["text", "json", "csv"])
def test_no_value_is_shown_unasked(four, capsys, style):
    """Without --values nothing of a person is printed but id, userName and the names of attributes."""
    out = printed(four, capsys, 1, 2, "--format", style)
    assert [] == [secret for secret in SECRETS if secret in out]
    out = printed(four, capsys, 1, 2, "--values", "--format", style)
    assert ["Given", "work-", "home-", "Dept", "Badge", "1.2345"] == [secret for secret in SECRETS if secret in out]


def test_removed_people_who_are_still_sent(four, capsys):
    """A tombstone is removed when it appears, expired when it is no longer sent, and added when the row is back."""
    found = document(four, capsys, 2, 3)
    # 10000 and 7 lose their rows; 4 gets its row back; 5 was a tombstone before and still is.
    assert [("removed", "Z7"), ("removed", "E10000")] == kinds(found["changes"])[:2]
    assert "Ünal@example.com" == found["changes"][0]["userName"]
    assert ("added", "E0004") in kinds(found["changes"])
    assert not any(item["id"] == "E0005" for item in found["changes"])
    assert [("expired", "Z7"), ("expired", "E0005"), ("expired", "E10000")] == kinds(
        document(four, capsys, 3, 4)["changes"]
    )
    # Who came and went in between was no difference to generation 1 but for being sent as inactive now.
    assert [("removed", "Z7"), ("removed", "E0005"), ("removed", "E10000")] == kinds(
        document(four, capsys, 1, 3)["changes"]
    )
    assert [("removed", "E0005")] == kinds(document(four, capsys, 1, 4)["changes"])


def test_a_tombstone_that_changes(directory, capsys):
    """A person without a row whose delivered content changes, because less is mapped now, is changed."""
    publish(directory, row(1), row(2))
    publish(directory, row(1))
    del directory.settings["mapping"]["enterprise"]
    publish(directory, row(1))
    found = document(directory, capsys, 2, 3)
    assert [("changed", "E0001"), ("changed", "E0002")] == kinds(found["changes"])
    assert [[f"{ENTERPRISE}:department"]] * 2 == [item["attributes"] for item in found["changes"]]


def test_a_value_of_another_type(directory, capsys):
    """true and 1 are two values, and so are 1 and 1.0: a mapping that changes the type changes the people."""
    for kind in ("boolean", "integer", "decimal"):
        directory.settings["mapping"][CUSTOM]["badge"] = {"column": "badge", "type": kind}
        publish(directory, row(1, badge="1"))
    raw = printed(directory, capsys, 1, 2, "--values"), printed(directory, capsys, 2, 3, "--values")
    assert [f"{CUSTOM}:badge: true -> 1", f"{CUSTOM}:badge: 1 -> 1.0"] == [
        text.splitlines()[-1].strip() for text in raw
    ]


def test_a_mapped_time_of_creation(directory, capsys):
    """A changed meta.created is named, for it may be mapped; the rest of meta never is."""
    directory.settings["mapping"]["meta"] = {"created": "hired"}
    publish(directory, row(1))
    publish(directory, row(1, hired="2021-01-01T00:00:00Z"))
    found = document(directory, capsys, "--values")
    old, new = "2020-01-02T03:04:05.000Z", "2021-01-01T00:00:00.000Z"
    assert [[{"path": "meta.created", "old": old, "new": new}]] == [item["attributes"] for item in found["changes"]]


def test_which_generations_are_meant(four, capsys):
    """No number: the one before and the one in force; one number: from it to the one in force; two: as given."""

    def pair(*numbers):
        found = document(four, capsys, *numbers)
        return found["from"]["generation"], found["to"]["generation"]

    assert (3, 4) == pair()
    assert (1, 4) == pair(1)
    assert (4, 2) == pair(4, 2)
    shutil.rmtree(four.data_dir / "generations/00000003")
    assert (2, 4) == pair()


def test_backwards(four, capsys):
    """From a newer to an older generation, what was added is removed and the values change places."""
    found = document(four, capsys, 2, 1, "--values")
    assert {"removed": 2, "deactivated": 0, "changed": 3, "added": 2, "expired": 0} == found["counts"]
    active = next(item for item in found["changes"] if item["id"] == "E0003")
    assert [{"path": "active", "old": False, "new": True}] == active["attributes"]


@pytest.mark.parametrize(("style", "expected"), [("text", "No difference.\n"), ("csv", None), ("json", None)])
def test_no_difference(four, capsys, style, expected):
    """A generation does not differ from itself; the documents for machines are whole all the same."""
    out = printed(four, capsys, 2, 2, "--format", style)
    if style == "json":
        assert [] == json.loads(out)["changes"]
    else:
        assert (expected or "change,id,userName,attribute,old,new\r\n") == out


def test_quarantine_is_looked_into(directory, capsys):
    """A generation in quarantine is compared like a published one, and named as what it is."""
    publish(directory, *(row(number) for number in range(1, 51)))
    directory.settings["guard"] = {"enabled": True}
    with pytest.raises(PublishRefusedError):
        publish(directory, *(row(number) for number in range(1, 11)))
    found = document(directory, capsys, 1, 2)
    assert (40, "published", "quarantine") == (
        found["counts"]["removed"],
        found["from"]["state"],
        found["to"]["state"],
    )
    assert ", in quarantine): 0 added, 0 changed, 0 deactivated, 40 removed" in printed(directory, capsys, 1, 2)
    decide(directory.config, "approve", 2)
    assert "published" == document(directory, capsys)["to"]["state"]


def test_what_is_missing_is_said(four, capsys):
    """A number that is nowhere is exit code 1 and the numbers that there are."""
    assert 1 == run(four, 1, 99)
    assert "There is no generation 99" in (err := capsys.readouterr().err)
    assert "Published: 1, 2, 3, 4. In quarantine: none." in err


def test_nothing_to_compare_with(directory, capsys):
    """Nothing published, or only one generation: a sentence and exit code 1."""
    assert 1 == run(directory)
    assert "No generation has been published in" in capsys.readouterr().err
    publish(directory, row(1))
    assert 1 == run(directory)
    assert "There is no generation before 1 to compare it with. Published: 1." in capsys.readouterr().err


@pytest.mark.parametrize("name", ["User.2.0.json", "index.sqlite", "changes.jsonl", "manifest.json"])
def test_a_damaged_generation_is_not_compared(four, capsys, name):
    """One wrong bit in any file is exit code 1, the name of that file, and the numbers that there are."""
    path = four.data_dir / "generations/00000002" / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert 1 == run(four, 1, 2)
    captured = capsys.readouterr()
    assert "" == captured.out
    assert str(path) in captured.err
    assert "Published: 1, 2, 3, 4." in captured.err


@pytest.mark.parametrize("style", ["text", "json", "csv"])
def test_an_older_format(directory, capsys, style):
    """A generation of an older format is compared with one of this one, in both directions."""
    shutil.copytree(GOLDEN, directory.data_dir)
    manifest = publish(directory, row(1, id="E1", first="Given1"), row(20, id="E20"))
    assert (3, FORMAT_VERSION) == (manifest.generation, manifest.format_version)
    found = document(directory, capsys, 2, 3, "--values")
    assert {"removed", "changed", "added"} == {item["change"] for item in found["changes"]}
    given = next(item for item in found["changes"][-2]["attributes"] if item["path"] == "name.givenName")
    assert {"path": "name.givenName", "old": "Øyvind", "new": "Given1"} == given
    back = document(directory, capsys, 3, 2)
    assert found["counts"]["added"] == back["counts"]["removed"] == 1
    assert found["counts"]["removed"] == back["counts"]["added"] == 2
    assert "" != printed(directory, capsys, 3, 2, "--format", style)


def test_cells_that_a_spreadsheet_would_run(directory, capsys):
    """Cells that begin like a formula get an apostrophe, in every column; commas, quotes and lines are quoted."""
    bad = ["=1+1", "+1", "-1", "@SUM(A1)", 'a,"b"\r\nc']
    publish(directory, row(1, rate="2"))
    publish(directory, row(1, rate="-2"), *(row(10 + at, id=text, login=f"={at}") for at, text in enumerate(bad)))
    raw = printed(directory, capsys, "--format", "csv", "--values")
    rows = list(csv.reader(io.StringIO(raw, newline="")))
    assert {*(f"'{text}" for text in bad[:4]), bad[4]} == {cells[1] for cells in rows[2:]}
    assert {f"'={at}" for at in range(5)} == {cells[2] for cells in rows[2:]}
    assert ["2.0", "'-2.0"] == rows[1][4:]
    # The mapping strips these, so no table leads here.
    assert ["'\tx", "'\rx", "x\t="] == [_cell(text) for text in ("\tx", "\rx", "x\t=")]


def test_a_terminal_is_not_steered(directory, capsys):
    """Control characters and invisible ones in ids, names and values are shown as escapes in text."""
    publish(directory, row(1))
    publish(directory, row(1, first="a\u202eb"), row(2, id="E\x1b[2J", login="x\ny\u200b\x9b"))
    out = printed(directory, capsys, "--values")
    assert r"E\x1b[2J  x\ny\u200b\x9b" in out
    assert r'"Given1" -> "a\u202eb"' in out
    assert all(character.isprintable() or character == "\n" for character in out)


def test_random_states_agree_with_a_plain_comparison(directory, capsys):
    """For random tables the kinds and attributes are those that a comparison of the rows gives."""
    chance = random.Random(7)

    def state():
        return {
            number: row(number, first=f"Given{chance.randrange(2)}", state=chance.choice("AAT"))
            for number in chance.sample(range(200), 150)
        }

    states = [state() for _ in range(3)]
    for rows in states:
        publish(directory, *rows.values())
    for first, second in ((1, 2), (2, 3), (1, 3), (3, 1)):
        old, new = states[first - 1], states[second - 1]
        expected = {}
        for number in range(200):
            name = f"E{number:04d}"
            before, after = old.get(number), new.get(number)
            if before and after and before != after:
                gone = before[9] == "A" and after[9] == "T"
                paths = [path for at, path in ((2, "name.givenName"), (9, "active")) if before[at] != after[at]]
                expected[name] = ("deactivated" if gone else "changed", paths)
            elif after and not before:
                expected[name] = ("added", [])
            elif before and not after:
                expected[name] = ("removed", [])
            elif not (before or after) and {first, second} == {1, 3} and number in states[1]:
                # Not there in 1, without a row in 3, and there in between.
                expected[name] = ("removed" if second == 3 else "expired", [])
        found = document(directory, capsys, first, second)["changes"]
        assert expected == {item["id"]: (item["change"], item["attributes"]) for item in found}
        order = ["removed", "deactivated", "changed", "added", "expired"]
        assert found == sorted(found, key=lambda item: (order.index(item["change"]), len(item["id"]), item["id"]))


def test_memory_does_not_grow_with_the_differences(directory):
    """Thousands of changed people are compared in the memory of a few."""
    publish(directory, *(row(number, last="Family" * 50) for number in range(4000)))
    publish(directory, *(row(number, last="Changed" * 50) for number in range(4000)))
    old, new = open_pair(directory.data_dir, ())
    body = old.directory / "User.2.0.json"
    assert body.stat().st_size > 4_000_000
    tracemalloc.start()
    try:
        with Diff(old, new) as diff:
            assert 4000 == sum(1 for person in diff.people() if person.attributes[0].path == "name.familyName")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500_000


def command(directory, *arguments):
    return [sys.executable, "-m", "snapshot", "diff", *arguments, "--config", str(directory.toml())]


def test_a_closed_pipe(directory):
    """A reader that has seen enough, as head has, ends the command without a word."""
    publish(directory, row(1))
    publish(directory, *(row(number) for number in range(5000)))
    with subprocess.Popen(command(directory), cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"Generation 1 ")
        process.stdout.close()
        assert b"" == process.stderr.read()
        assert 0 == process.wait(30)


def test_any_code_page(directory, monkeypatch):
    """On a narrow code page text is escaped instead of failing, and documents for machines are UTF-8."""
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    publish(directory, row(1))
    publish(directory, row(1), row(2, login="Łukasz😀@example.com"))

    def out(*arguments):
        return subprocess.run(
            command(directory, *arguments), cwd=TREE, capture_output=True, timeout=30, check=True
        ).stdout

    assert rb"added        E0002  \u0141ukasz\U0001f600@example.com" in out()
    assert "Łukasz😀@example.com" == json.loads(out("--format", "json").decode())["changes"][0]["userName"]
    assert "Łukasz😀@example.com" in out("--format", "csv").decode()


def test_at_most_two_numbers(directory, capsys):
    """A third number is a wrong command line."""
    with pytest.raises(SystemExit) as caught:
        run(directory, 1, 2, 3)
    assert 2 == caught.value.code
    assert "at most two numbers" in capsys.readouterr().err
