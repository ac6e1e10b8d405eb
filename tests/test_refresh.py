"""One refresh: what a generation holds, policies, rejects, changes, times."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import orjson
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from people_folder import PeopleFolder, people, person, users_of

from snapshot.config import config_digest
from snapshot.errors import MappingError, PublishRefusedError, SourceError, StoreError
from snapshot.filter import parse_filter
from snapshot.reader import open_generation
from snapshot.refresh import run_refresh
from snapshot.scim import USER, ScimVersion
from snapshot.store import generation_directory, read_current

TREE = Path(__file__).parent.parent
ANY_FOLDER = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def ids(folder: PeopleFolder) -> list[str]:
    return [user["id"] for user in folder.users()]


def shortlex(names) -> list[str]:
    return sorted(names, key=lambda name: (len(name), name))


def times(folder: PeopleFolder) -> dict[str, tuple[str, str]]:
    """Return (created, lastModified) by id, after checking that both bodies and the index say the same."""
    snapshot = folder.snapshot()
    found = {}
    for version in ScimVersion:
        for user in users_of(snapshot, version):
            pair = (user["meta"]["created"], user["meta"]["lastModified"])
            assert pair == found.setdefault(user["id"], pair)
    for _, resource_id, _, created, modified, *_ in snapshot.index.every():
        stored = [round(parse_time(text) * 1000) for text in found[resource_id]]
        assert [created, modified] == stored
    return found


def parse_time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def check_whole(folder: PeopleFolder) -> None:
    """Index, bodies and offsets agree about every user, in both versions; those with a row are in shortlex order."""
    snapshot = folder.snapshot()
    order = [resource_id for _, resource_id, *_ in snapshot.index.every()]
    rowless = len(order) - snapshot.manifest.kept - snapshot.manifest.resource_types[USER].removed
    assert shortlex(order[:rowless]) == order[:rowless]
    assert list(range(len(order))) == [ordinal for ordinal, *_ in snapshot.index.every()]
    assert len(order) == snapshot.count(USER)
    for version in ScimVersion:
        users = users_of(snapshot, version)
        assert order == [user["id"] for user in users]
        for ordinal, user in enumerate(users):
            assert user == orjson.loads(snapshot.resources(USER, version, ordinal, ordinal + 1))
            assert ordinal == snapshot.find(USER, user["id"])
            found = snapshot.select(USER, parse_filter(f"userName eq {json.dumps(user['userName'])}"))
            assert [ordinal] == list(found)


def test_a_generation(folder):
    """The manifest tells the truth: counts, digest, sizes and checksums of exactly the files that are there."""
    rows = [*people(20), person(21, state=0), person(22, state="?"), (None, "x", None, 1)]
    manifest = folder.publish(rows)
    directory = generation_directory(folder.data_dir, 1)
    facts = manifest.resource_types[USER]
    assert (23, 2, 21, 20) == (manifest.rows, manifest.rejects, facts.count, facts.active)
    assert config_digest(folder.config) == manifest.config_digest
    assert manifest.files.keys() == {path.name for path in directory.iterdir()} - {"manifest.json"}
    for name, file in manifest.files.items():
        data = (directory / name).read_bytes()
        assert (len(data), xxhash.xxh3_128_hexdigest(data)) == (file.bytes, file.xxh3)
    assert manifest == open_generation(directory).manifest
    assert {"read", "order", "index", "checksum"} <= manifest.seconds.keys()
    assert (1, None, 21) == (read_current(folder.data_dir), manifest.previous, manifest.changes.added)
    check_whole(folder)
    names = {path.name for path in folder.data_dir.iterdir()}
    assert not {name for name in names if name.startswith(".creating") or name.endswith(".tmp")}


def test_zero_rows(folder):
    """An empty table makes an empty generation, if the guard lets it pass."""
    manifest = folder.publish([])
    assert (0, 0) == (manifest.rows, manifest.resource_types[USER].count)
    assert [] == folder.users()
    assert b"" == bytes(folder.snapshot().resources(USER, ScimVersion.V1_1, 0, 10))


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=4)
# "." and ".." cannot stand in a path: they are rejects.
IDS = NAMES.map(str.strip).filter(lambda name: name not in {"", ".", ".."})


@ANY_FOLDER
@given(st.lists(IDS, max_size=30, unique=True), st.integers(1, 7))
def test_any_order_of_rows(tmp_path_factory, names, page):
    """In whatever order rows come, users stand in shortlex order, and pages put together are all of them once."""
    folder = PeopleFolder(tmp_path_factory.mktemp("f"))
    folder.publish([(name, f"user {place}", None, 1) for place, name in enumerate(names)])
    check_whole(folder)
    assert shortlex(names) == ids(folder)
    snapshot = folder.snapshot()
    pages = [
        orjson.loads(b"[" + bytes(snapshot.resources(USER, ScimVersion.V2_0, first, first + page)) + b"]")
        for first in range(0, len(names) + 1, page)
    ]
    assert shortlex(names) == [user["id"] for each in pages for user in each]


DUPLICATES = [("b", "B", None, 1), ("a", "A", "1", 1), ("c", "C", None, 1), ("a", "A2", "2", 1), ("a", "A", "1", 1)]


@pytest.mark.parametrize(
    ("policy", "expected", "rejects"), [("keep_one", ["a", "b", "c"], 2), ("reject_all", ["b", "c"], 3)]
)
def test_duplicate_ids(folder, policy, expected, rejects):
    """Of rows with one id one is kept or none, as the policy says; the others are listed."""
    folder.settings["policy"] = {"duplicate_id": policy}
    manifest = folder.publish(DUPLICATES)
    assert expected == ids(folder)
    check_whole(folder)
    assert rejects == manifest.rejects
    line = {"id": "a", "attribute": "id", "reason": "another row has the same value"}
    assert [line] * rejects == folder.lines(1, "rejects.jsonl")
    assert {"id: another row has the same value": rejects} == manifest.reject_reasons


def test_neighbours_with_one_id(folder):
    """Rows in id order may have the same id too; it is found without sorting anything else."""
    manifest = folder.publish([person(1), person(2), (*person(2)[:1], "other", None, 1), person(3)])
    assert (1, 3) == (manifest.rejects, len(ids(folder)))
    check_whole(folder)


def test_which_duplicate_is_kept_does_not_depend_on_the_order(folder):
    """Of two different rows with one id the same is kept however the rows come, so nobody changes back and forth."""
    folder.publish(DUPLICATES)
    first = folder.users(), times(folder)
    folder.publish(DUPLICATES[::-1])
    assert first == (folder.users(), times(folder))


@pytest.mark.parametrize("policy", ["keep_one", "reject_all"])
def test_duplicate_user_names(folder, policy):
    """userNames are compared without case; the active user is kept before the inactive, then the smallest id."""
    folder.settings["policy"] = {"duplicate_user_name": policy}
    rows = [
        ("1", "AL", None, 0),
        ("20", "al", None, 1),
        ("3", "Al", None, 1),
        ("4", "STRASSE", None, 1),
        ("5", "straße", None, 1),
    ]
    folder.publish([*rows, ("6", "bo", None, 1)])
    assert (["3", "4", "6"] if policy == "keep_one" else ["6"]) == ids(folder)
    check_whole(folder)
    losers = {"1", "20", "5"} if policy == "keep_one" else {"1", "20", "3", "4", "5"}
    lines = folder.lines(1, "rejects.jsonl")
    assert losers == {line["id"] for line in lines}
    assert {("userName", "another row has the same value, compared without case")} == {
        (line["attribute"], line["reason"]) for line in lines
    }


@pytest.mark.parametrize(
    ("policy", "rows", "cause"),
    [
        ("duplicate_id", DUPLICATES, r"3 rows have the same id \(id a\)"),
        ("duplicate_user_name", [("1", "x", None, 1), ("2", "X", None, 1)], r"2 rows have the same userName \(id 1\)"),
        ("null_id", [("1", "x", None, 1), (None, "y", None, 1)], "Row 2 has no id"),
    ],
)
def test_the_policy_fail(folder, policy, rows, cause):
    """With "fail" the refresh fails, says which policy, and what is served stays."""
    folder.publish(people(2))
    folder.settings["policy"] = {policy: "fail"}
    with pytest.raises(SourceError, match=cause) as caught:
        folder.publish(rows)
    assert f"policy.{policy}" in caught.value.remedy
    assert ["E00001", "E00002"] == ids(folder)


def test_rejects(folder):
    """Each rejected row is listed with its number, its id where it has one, the attribute and the reason."""
    rows = [person(1), (None, "x", None, 1), (" ", "y", None, 1), ("E7", None, None, 1), ("E8", "z", None, "??")]
    with folder.fill(rows).open() as database:
        database.execute("INSERT INTO people VALUES ('E9', CAST(X'61ff62' AS TEXT), NULL, 1)")
    manifest = folder.refresh()
    lines = folder.lines(1, "rejects.jsonl")
    surrogate = lines.pop()
    assert [
        {"row": 2, "id": "", "attribute": "id", "reason": "the id is NULL or blank"},
        {"row": 3, "id": "", "attribute": "id", "reason": "the id is NULL or blank"},
        {"row": 4, "id": "E7", "attribute": "userName", "reason": "the value is NULL or blank"},
        {"row": 5, "id": "E8", "attribute": "active", "reason": "the value is in neither the true nor the false list"},
    ] == lines
    assert (6, "E9", "(row)") == (surrogate["row"], surrogate["id"], surrogate["attribute"])
    assert (5, 6) == (manifest.rejects, manifest.rows)
    assert 2 == manifest.reject_reasons["id: the id is NULL or blank"]
    assert "??" not in (generation_directory(folder.data_dir, 1) / "rejects.jsonl").read_text()


def test_changes(folder):
    """changes.jsonl and the manifest count who was added, changed, deactivated and removed."""
    folder.publish([*people(6), person(7, state=0)])
    assert [] == folder.lines(1, "changes.jsonl")
    rows = [person(1), person(2, state=0), person(3, mail="new@x.com"), person(5), person(7, state=1), person(8)]
    manifest = folder.publish(rows)
    assert [
        {"change": change, "id": f"E0000{number}", "userName": f"user{number}@example.com"}
        for change, number in (
            ("deactivated", 2),
            ("changed", 3),
            ("changed", 7),
            ("added", 8),
            ("removed", 4),
            ("removed", 6),
        )
    ] == folder.lines(2, "changes.jsonl")
    facts = manifest.changes
    assert (1, 2, 1, 2) == (facts.added, facts.changed, facts.deactivated, facts.removed)
    assert 1 == manifest.previous


def test_times_over_refreshes(folder):
    """Who does not change keeps created and lastModified; who changes gets the time of that publication."""
    folder.publish(people(5))
    first = times(folder)
    assert {folder.snapshot().manifest.created_at} == {text for pair in first.values() for text in pair}
    for _ in range(2):
        time.sleep(0.003)
        assert 1 == folder.publish(people(5)).generation
        assert first == times(folder)
    time.sleep(0.003)
    changed = [person(1), person(2, mail="new@x.com"), *people(6)[2:]]
    for rows in (changed, changed[::-1]):
        manifest = folder.publish(rows)
        now = times(folder)
        stamp = now["E00006"][0]
        assert (first["E00002"][0], stamp) == now["E00002"]
        assert (stamp, stamp) == now["E00006"]
        assert {key: first[key] for key in ("E00001", "E00003", "E00004", "E00005")} == {
            key: now[key] for key in ("E00001", "E00003", "E00004", "E00005")
        }
        assert (2, stamp) == (manifest.generation, manifest.created_at)  # the second time there was nothing to publish


def test_stamps_after_reordering(folder):
    """Changed and new users are stamped rightly when rows come unsorted and duplicates are dropped."""
    folder.publish(people(40))
    first = times(folder)
    rows = [
        person(number, mail=f"new{number}@x.com") if number % 3 == 0 else person(number) for number in range(50, 1, -1)
    ]
    manifest = folder.publish([*rows, person(9), ("E999999", "USER7@example.com", None, 1)])
    check_whole(folder)
    now = times(folder)
    lines = {line["id"]: line["change"] for line in folder.lines(2, "changes.jsonl")}
    for resource_id, (created, modified) in now.items():
        change = lines.get(resource_id)
        assert (manifest.created_at if change == "added" else first[resource_id][0]) == created
        assert (manifest.created_at if change else first[resource_id][1]) == modified
    removed = {key: change for key, change in lines.items() if change == "removed"}
    assert dict.fromkeys(["E00001"], "removed") == removed


PEOPLE = st.dictionaries(
    st.integers(1, 12), st.tuples(st.sampled_from([0, 1]), st.sampled_from(["", "m@x"])), max_size=12
)


@settings(ANY_FOLDER, max_examples=15)
@given(st.lists(st.tuples(PEOPLE, st.randoms(use_true_random=False)), min_size=2, max_size=4))
def test_any_history(tmp_path_factory, generations):
    """Over any refreshes, times and changes are those of a plain model in memory."""
    folder = PeopleFolder(tmp_path_factory.mktemp("f"))
    known: dict[str, tuple] = {}
    generation = 0
    for place, (rows, random) in enumerate(generations):
        table = [person(number, state=state, mail=mail) for number, (state, mail) in rows.items()]
        random.shuffle(table)
        manifest = folder.publish(table)
        moment = manifest.created_at
        before, known = known, {}
        lines = {}
        for row in table:
            old = before.get(row[0])
            if old is None:
                known[row[0]] = (row, moment, moment)
                lines[row[0]] = "added"
            elif old[0] == row:
                known[row[0]] = old
            else:
                known[row[0]] = (row, old[1], moment)
                lines[row[0]] = "added" if old[0] is None else "deactivated" if old[0][3] > row[3] else "changed"
        for gone in before.keys() - known.keys():
            row, created, modified = before[gone]
            # A person without a row is sent as removed from then on; None stands for that here.
            known[gone] = (None, created, modified if row is None else moment)
            if row is not None:
                lines[gone] = "removed"
        assert {key: (created, modified) for key, (_, created, modified) in known.items()} == times(folder)
        if place and not lines:
            assert generation == manifest.generation  # nothing changed, nothing was published
            continue
        generation = manifest.generation
        found = {line["id"]: line["change"] for line in folder.lines(generation, "changes.jsonl")}
        assert (lines if place else {}) == found
        check_whole(folder)


def test_a_clock_that_steps_back(folder, monkeypatch):
    """Times of publication grow even when the clock of the machine goes back an hour."""
    folder.publish(people(3))
    first = folder.snapshot().manifest.created_ms
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3600 * 10**9)
    folder.publish([person(1, mail="new@x.com"), *people(3)[1:]])
    second = folder.snapshot().manifest
    # No further than one more than before: the clock has an hour to go until it is there.
    assert first + 1 == second.created_ms
    assert second.created_at == times(folder)["E00001"][1]
    assert first < folder.publish(people(4)).created_ms


@pytest.mark.parametrize("name", ["index.sqlite", "manifest.json", "User.1.1.json"])
@pytest.mark.parametrize("damage", ["cut", "altered", "gone"])
def test_a_damaged_generation_before(folder, name, damage):
    """If the newest generation is damaged, what can be read of it tells who changed, and the refresh mends the folder."""
    folder.publish(people(3))
    first = times(folder)
    folder.publish([*people(2), person(3, mail="new@x.com"), person(4)])
    second = times(folder)
    path = generation_directory(folder.data_dir, 2) / name
    data = path.read_bytes()
    middle = len(data) // 2
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:middle] if damage == "cut" else data[:middle] + bytes([255] * 64) + data[middle + 64 :])
    manifest = folder.publish(people(3))
    assert (3, 3, 2) == (read_current(folder.data_dir), manifest.generation, manifest.previous)
    now = times(folder)
    assert [first["E00001"], first["E00002"]] == [now["E00001"], now["E00002"]]
    assert (first["E00003"][0], manifest.created_at) == now["E00003"]  # changed and changed back
    assert (second["E00004"][0], manifest.created_at) == now["E00004"]  # removed


@pytest.mark.parametrize("text", [b"", b"garbage\n", b"\xff\xfe"])
def test_a_damaged_current(folder, text):
    """A CURRENT that holds no number is mended by the next refresh; no number is used twice."""
    folder.publish(people(2))
    first = times(folder)
    (folder.data_dir / "CURRENT").write_bytes(text)
    assert 2 == folder.publish(people(2)).generation
    assert first == times(folder)


@pytest.mark.parametrize("cause", ["no file", "no table", "no column", "locked", "not a database"])
def test_a_source_that_fails(folder, cause):
    """A source that cannot be read fails the refresh with a cause and a remedy; what is served stays."""
    folder.publish(people(2))
    folder.settings["source"]["lock_timeout_seconds"] = 1
    errors = {
        "no file": "There is no SQLite file", "no table": "no such table", "no column": 'no column "logn"',
        "locked": "locked", "not a database": "not a database",
    }  # fmt: skip
    with folder.open() as lock:
        if cause == "no file":
            folder.settings["source"]["path"] = "nowhere.db"
        elif cause == "no table":
            folder.settings["source"]["users"] = {"table": "peple"}
        elif cause == "no column":
            folder.settings["mapping"]["userName"] = "logn"
        elif cause == "locked":
            lock.execute("BEGIN EXCLUSIVE")
        else:
            (folder.path / "text.db").write_text("no database " * 500)
            folder.settings["source"]["path"] = "text.db"
        with pytest.raises(MappingError if cause == "no column" else SourceError, match=errors[cause]):
            folder.refresh()
    assert 1 == read_current(folder.data_dir)
    assert ["E00001", "E00002"] == ids(folder)
    assert ["00000001"] == [path.name for path in (folder.data_dir / "generations").iterdir()]


def test_the_guard(folder):
    """A refused generation waits in quarantine with its reasons; what is served stays, and the disk does not fill."""
    folder.settings["guard"] = {"always_allowed_removed": 1}
    folder.publish(people(50))
    for number in range(2, 8):
        with pytest.raises(PublishRefusedError, match="20 of 50 users are gone") as caught:
            folder.publish([*people(30), person(100 + number)])
        assert number == caught.value.generation
        assert 21 == len(folder.lines(number, "changes.jsonl", folder="quarantine"))
    assert 1 == read_current(folder.data_dir)
    assert 50 == len(folder.users())
    names = sorted(path.name for path in (folder.data_dir / "quarantine").iterdir())
    assert ["00000005", "00000006", "00000007"] == names
    assert 8 == folder.publish(people(51)).generation


def test_a_full_disk(folder, monkeypatch):
    """When the disk is full in the middle, the refresh fails as a StoreError and leaves nothing behind."""
    folder.publish(people(2))
    real = Path.open

    class Full:
        def __init__(self, file):
            self._file = file

        def __getattr__(self, name):
            return getattr(self._file, name)

        def write(self, _data):
            raise OSError(28, "No space left on device")

    def opened(path, mode="r", *args, **options):
        file = real(path, mode, *args, **options)
        return Full(file) if path.name == "User.2.0.json" and "w" in mode else file

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(StoreError, match="No space left on device"):
        folder.publish(people(3))
    monkeypatch.setattr(Path, "open", real)
    assert {"LOCK", "LOCK.pid", "CURRENT", "generations"} == {path.name for path in folder.data_dir.iterdir()}
    assert 1 == read_current(folder.data_dir)


def test_the_progress(folder):
    """Progress names the phases in order and counts the rows."""
    folder.fill(people(5))
    seen = []
    run_refresh(folder.config, report=seen.append)
    phases = [phase for phase in dict.fromkeys(item.phase for item in seen) if phase != "read"]  # too quick to tell
    assert ["connect", "order", "index", "publish"] == phases
    assert 5 == seen[-1].rows


MEMORY = """
import sys
from pathlib import Path
from snapshot.config import load_config
from snapshot.refresh import run_refresh
run_refresh(load_config(Path(sys.argv[1])))
# Not ru_maxrss: a child begins with that of its parent, here the tests themselves.
print(Path("/proc/self/status").read_text(encoding="ascii").split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_memory_does_not_grow_with_the_rows(folder):
    """A refresh of ten times the rows needs about the same memory: rows stream by and are not kept."""
    kib = []
    for count in (8_000, 80_000):
        folder.fill(people(count))
        folder.settings["data_dir"] = f"data{count}"
        command = [sys.executable, "-c", MEMORY, str(folder.toml())]
        done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=True, timeout=100)
        kib.append(int(done.stdout))
    # The bodies of 72,000 more users are some 60 MB; the caches of SQLite may fill up.
    assert kib[1] - kib[0] < 45_000
