"""Quarantine over HTTP: what waits, whom it would change, and a decision that is bound to what was seen."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import orjson
import pytest
import xxhash
from server_fixtures import ADMIN_TOKEN, Directory, basic, person, serving

from server.changes import people_by_change
from snapshot import control
from snapshot.config import Guard
from snapshot.control import SchedulerStatus
from snapshot.decisions import carry_out
from snapshot.errors import CorruptGenerationError, PublishRefusedError
from snapshot.logs import now_text
from snapshot.store import (
    ChangeFacts,
    FileFacts,
    generation_directory,
    quarantine_directory,
    read_current,
    read_manifest,
    write_manifest,
)

PATH = "/admin/quarantine"
DIGEST = "5f" * 16


@pytest.fixture
def directory(tmp_path):
    """Generation 1 of 60 people is published; 2 waits: 20 became inactive, 5 have no row, 1 is new, 1 is changed."""
    made = Directory(tmp_path).add(*[person(number) for number in range(60)])
    made.publish()
    made.config = msgspec.structs.replace(made.config, guard=Guard())
    made.run("UPDATE people SET state = 'T' WHERE id < 'E00020'")
    made.run("DELETE FROM people WHERE id >= 'E00055'")
    made.run("UPDATE people SET first = 'New' WHERE id = 'E00030'").add(person(100))
    refuse(made)
    alter(made, 2, content=DIGEST)
    return made


def refuse(directory: Directory) -> int:
    with pytest.raises(PublishRefusedError) as caught:
        directory.publish()
    return caught.value.generation


def place(directory: Directory, number: int):
    return quarantine_directory(directory.config.data_dir, number)


def alter(directory: Directory, number: int, **facts) -> None:
    """Change the manifest of a generation in quarantine."""
    write_manifest(place(directory, number), msgspec.structs.replace(read_manifest(place(directory, number)), **facts))


def put_changes(directory: Directory, lines: bytes, **facts) -> None:
    """Give generation 2 other changes, as if it had been written with them."""
    (place(directory, 2) / "changes.jsonl").write_bytes(lines)
    files = read_manifest(place(directory, 2)).files
    held = FileFacts(bytes=len(lines), xxh3=xxhash.xxh3_128_hexdigest(lines))
    alter(directory, 2, files={**files, "changes.jsonl": held}, **facts)


def requests(directory: Directory) -> list[control.RefreshRequest]:
    return control.list_requests(directory.config.data_dir)


@pytest.fixture
async def api(directory):
    async with serving(directory) as api:
        yield api


async def post(api, path, body: bytes | None = None):
    return await api.send("POST", path, auth=f"Bearer {ADMIN_TOKEN}", data=body)


async def test_the_list(api, directory):
    """Each generation that waits is listed with its numbers, its digest and the guard's reasons."""
    manifest = read_manifest(place(directory, 2))
    answer = await api.admin("GET", PATH)
    assert 200 == answer.status
    (item,) = answer.json["quarantine"]
    assert (2, 1, DIGEST, False) == tuple(item[name] for name in ("generation", "previous", "content", "superseded"))
    assert manifest.created_at == item["created_at"]
    assert manifest.resource_types["User"].count == item["counts"]["User"]["count"]
    assert 20 == item["changes"]["deactivated"]
    assert (56, 0) == (item["rows"], item["rejects"])
    assert list(manifest.refused) == item["refused"]
    assert item["refused"]


async def test_every_field_is_described(api):
    """Each field that the quarantine is answered with stands in docs/operations.md."""
    found = set((await api.admin("GET", f"{PATH}/2")).json)
    found |= set((await api.admin("GET", PATH)).json["quarantine"][0])
    text = (Path(__file__).parent.parent / "docs" / "operations.md").read_text(encoding="utf-8")
    assert {"people", "content", "superseded"} <= found
    assert [] == [name for name in sorted(found) if f'"{name}"' not in text]


async def test_an_empty_quarantine(tmp_path):
    """Without a folder, and before the first generation, nothing waits."""
    async with serving(Directory(tmp_path)) as api:
        assert [] == (await api.admin("GET", PATH)).json["quarantine"]
        assert 404 == (await api.admin("GET", f"{PATH}/1")).status


async def test_a_superseded_generation(api, directory):
    """A generation older than the one being served says so; approving it is a conflict, rejecting it is not."""
    directory.config = msgspec.structs.replace(directory.config, guard=Guard(enabled=False))
    directory.publish()
    (item,) = (await api.admin("GET", PATH)).json["quarantine"]
    assert item["superseded"] is True
    refused = await post(api, f"{PATH}/2/approve")
    assert 409 == refused.status
    assert "superseded" in refused.json["detail"]
    assert [] == requests(directory)
    assert 202 == (await post(api, f"{PATH}/2/reject")).status


async def test_what_waits_when_the_source_is_right_again(api, directory):
    """Once a refresh has found the served people to be right, what was refused before can only be rejected."""
    directory.run("DELETE FROM people WHERE id = 'E00100'")
    directory.run("UPDATE people SET state = 'A' WHERE id < 'E00020'")
    directory.run("UPDATE people SET first = 'Given30' WHERE id = 'E00030'")
    directory.add(*[person(number) for number in range(55, 60)])
    assert directory.publish().generation == 1
    await api.follow()
    assert 0 == (await api.get("/-/ready", auth=None)).json["quarantined"]
    (item,) = (await api.admin("GET", PATH)).json["quarantine"]
    assert item["superseded"] is True
    assert 409 == (await post(api, f"{PATH}/2/approve")).status


async def test_the_people(api, directory):
    """One generation is shown with the people whom it would change, those whom a mistake hurts first."""
    found = (await api.admin("GET", f"{PATH}/2")).json
    assert (2, DIGEST) == (found["generation"], found["content"])
    people = found["people"]
    assert ["deactivated", "removed"] == list(people)[:2]
    assert [f"E{number:05d}" for number in range(20)] == [item["id"] for item in people["deactivated"]["people"]]
    changes = read_manifest(place(directory, 2)).changes
    for kind, shown in people.items():
        assert (getattr(changes, kind), False) == (len(shown["people"]), shown["more"])
    assert ["E00100"] == [item["id"] for item in people["added"]["people"]]


@pytest.mark.parametrize(
    ("query", "shown", "more"),
    [("?count=3", 3, True), ("?count=20", 20, False), ("?count=0", 0, True), ("", 20, False)],
)
async def test_some_of_the_people(api, query, shown, more):
    """`count` bounds the people of each kind, and it is said when there are more."""
    found = (await api.admin("GET", f"{PATH}/2{query}")).json["people"]["deactivated"]
    assert (shown, more) == (len(found["people"]), found["more"])


@pytest.mark.parametrize("query", ["?count=x", "?count=1&count=2"])
async def test_a_bad_count(api, query):
    """A count that is no number, or that is given twice, is a 400."""
    assert 400 == (await api.admin("GET", f"{PATH}/2{query}")).status


async def test_at_most_a_thousand(tmp_path):
    """However many are asked for, at most a thousand of a kind are named."""
    directory = Directory(tmp_path).add(person(1))
    directory.publish()
    directory.config = msgspec.structs.replace(directory.config, guard=Guard())
    directory.run("DELETE FROM people")
    refuse(directory)
    lines = b"".join(b'{"change":"added","id":"%d"}\n' % number for number in range(1500))
    put_changes(directory, lines, changes=ChangeFacts(added=1500))
    async with serving(directory) as api:
        found = (await api.admin("GET", f"{PATH}/2?count=1000000")).json["people"]["added"]
        assert (1000, True) == (len(found["people"]), found["more"])


@pytest.mark.parametrize("kind", ["approve", "reject"])
async def test_a_decision_leaves_a_note(api, directory, kind):
    """A decision is a request, bound to the content that is there, that says who asked; the server does nothing else."""
    for body in (None, b'{"content":"%s"}' % DIGEST.encode(), b"{}"):
        answer = await post(api, f"{PATH}/2/{kind}", body)
        assert 202 == answer.status
        (request,) = requests(directory)
        assert (kind, 2, DIGEST, "admin", "queued") == (
            request.kind, request.target, request.content, request.asked_by, request.state,
        )  # fmt: skip
        assert (request.id, kind) == (answer.json["id"], answer.json["kind"])
        assert f"/admin/refresh/{request.id}" == answer.headers["Location"] == answer.json["status_url"]
        assert {"seen": None, "running": False} == answer.json["scheduler"]
    assert place(directory, 2).is_dir()
    assert 1 == read_current(directory.config.data_dir)
    shown = await api.admin("GET", answer.json["status_url"])
    assert (kind, "queued", None) == (shown.json["kind"], shown.json["state"], shown.json["progress"])
    assert [kind] == [item["kind"] for item in (await api.admin("GET", "/admin/refresh")).json["requests"]]


async def test_a_decision_is_no_refresh(api, directory):
    """A refresh that is asked for beside a decision is a request of its own."""
    await post(api, f"{PATH}/2/approve")
    asked = await post(api, "/admin/refresh")
    assert ("refresh", None) == (asked.json["kind"], asked.json["target"])
    assert {"refresh", "approve"} == {request.kind for request in requests(directory)}


async def test_an_approved_generation_is_served(api, directory):
    """From the request to the people: approved over HTTP, carried out, and served."""
    asked = (await post(api, f"{PATH}/2/approve")).json
    (request,) = control.list_decisions(directory.config.data_dir)
    carry_out(directory.config, request)
    await api.follow()
    assert (2, ()) == (api.live.current.generation, api.live.waiting)
    shown = (await api.admin("GET", asked["status_url"])).json
    assert ("published", 2) == (shown["state"], shown["generation"])
    assert 404 == (await post(api, f"{PATH}/2/approve")).status


@pytest.mark.parametrize("kind", ["approve", "reject"])
async def test_other_content(api, directory, kind):
    """A decision that names other content than what is there is a conflict, and leaves no note."""
    for content in ("00" * 16, DIGEST.upper(), "", "ä"):
        answer = await post(api, f"{PATH}/2/{kind}", orjson.dumps({"content": content}))
        assert 409 == answer.status, content
        assert "409" == answer.json["status"]
    assert [] == requests(directory)


@pytest.mark.parametrize(
    "body",
    [b"x", b"[]", b'"5f"', b"null", b"1", b'{"content":1}', b'{"content":null}', b'{"digest":"5f"}', b"\xff",
     b'{"content":"5f","more":1}', b"{" * 5000, b" "],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["approve", "reject"])
async def test_a_bad_body(api, directory, kind, body):
    """A body that is not an object with at most a digest is a 400, and leaves no note."""
    answer = await post(api, f"{PATH}/2/{kind}", body)
    assert (400, "invalidSyntax") == (answer.status, answer.json["scimType"])
    assert [] == requests(directory)


@pytest.mark.parametrize(
    "path", ["/3", "/1", "/x", "/-2", "/2.0", "/%D9%A2", "/..%2F2", "/" + "9" * 19, "/2/publish", "/2/approve/now"]
)
async def test_what_does_not_wait(api, directory, path):
    """A generation that does not wait, a name that is no number, or a path that is none is a 404."""
    assert 404 == (await api.admin("GET", PATH + path)).status
    for kind in ("approve", "reject"):
        assert 404 == (await post(api, f"{PATH}{path}/{kind}")).status
    assert [] == requests(directory)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "", "GET, HEAD"),
        ("DELETE", "/2", "GET, HEAD"),
        ("GET", "/2/approve", "POST"),
        ("PUT", "/2/reject", "POST"),
    ],
)
async def test_wrong_methods(api, directory, method, path, allow):
    """A wrong method is 405 with what is allowed, and decides nothing."""
    answer = await api.admin(method, PATH + path)
    assert (405, allow) == (answer.status, answer.headers["Allow"])
    assert [] == requests(directory)


@pytest.mark.parametrize("path", ["", "/2", "/2/approve", "/2/reject", "/x"])
async def test_the_scim_credential_decides_nothing(api, directory, path):
    """Only the admin credential sees the quarantine or decides."""
    for auth in (None, basic(), "Bearer wrong"):
        for method in ("GET", "POST"):
            assert 401 == (await api.send(method, PATH + path, auth=auth)).status
    assert [] == requests(directory)


async def test_a_damaged_manifest(api, directory):
    """A generation whose manifest is damaged is listed as such; it can be rejected, not approved."""
    (place(directory, 2) / "manifest.json").write_bytes(b"{")
    (item,) = (await api.admin("GET", PATH)).json["quarantine"]
    assert 2 == item["generation"]
    assert "manifest.json" in item["damage"]
    assert 200 == (await api.admin("GET", f"{PATH}/2")).status
    assert 409 == (await post(api, f"{PATH}/2/approve")).status
    assert 409 == (await post(api, f"{PATH}/2/reject", b'{"content":"5f"}')).status
    assert 202 == (await post(api, f"{PATH}/2/reject")).status
    (request,) = requests(directory)
    assert ("reject", "") == (request.kind, request.content)


@pytest.mark.parametrize("damage", ["cut", "a name changed", "missing", "no change"])
async def test_damaged_changes(api, directory, damage):
    """People are never left out or misnamed: of damaged changes only the damage is told, and which file it is in."""
    path = place(directory, 2) / "changes.jsonl"
    lines = path.read_bytes()
    if damage == "cut":
        path.write_bytes(lines[: len(lines) // 2])
    elif damage == "a name changed":
        path.write_bytes(lines.replace(b"user1@", b"user2@", 1))
        assert lines != path.read_bytes()
    elif damage == "missing":
        path.unlink()
    else:
        put_changes(directory, b'{"change":"deactivated"\n')
    answer = await api.admin("GET", f"{PATH}/2")
    assert (200, {"generation", "superseded", "damage"}) == (answer.status, set(answer.json))
    assert (2, False) == (answer.json["generation"], answer.json["superseded"])
    assert "changes.jsonl" in answer.json["damage"]


def compared_with_none(tmp_path) -> Directory:
    """Make a folder where generation 2 of 30 people waits, and nothing of generation 1 can be read."""
    made = Directory(tmp_path).add(*[person(number) for number in range(30)])
    made.publish()
    for path in generation_directory(made.config.data_dir, 1).iterdir():
        path.write_bytes(b"")
    made.config = msgspec.structs.replace(made.config, guard=Guard())
    assert 2 == refuse(made)
    manifest = read_manifest(place(made, 2))
    assert (None, 30) == (manifest.previous, manifest.resource_types["User"].count)
    return made


@pytest.mark.parametrize(("count", "more"), [(0, True), (3, True), (29, True), (30, False), (1000, False)])
async def test_people_who_were_compared_with_nobody(tmp_path, count, more):
    """Without a generation to compare with, everybody is new, and they are named."""
    async with serving(compared_with_none(tmp_path)) as api:
        people = (await api.admin("GET", f"{PATH}/2?count={count}")).json["people"]
        expected = [
            {"id": f"E{number:05d}", "userName": f"user{number}@example.com"} for number in range(min(count, 30))
        ]
        assert {"people": expected, "more": more} == people.pop("added")
        assert [{"people": [], "more": False}] * 4 == list(people.values())


@pytest.mark.parametrize("name", ["User.2.0.json", "User.2.0.offsets"])
async def test_damaged_people_who_were_compared_with_nobody(tmp_path, name):
    """They are named from files that are whole, or not at all."""
    directory = compared_with_none(tmp_path)
    path = place(directory, 2) / name
    raw = bytearray(path.read_bytes())
    raw[10] ^= 1
    path.write_bytes(raw)
    async with serving(directory) as api:
        answer = await api.admin("GET", f"{PATH}/2")
        assert (200, {"generation", "superseded", "damage"}) == (answer.status, set(answer.json))
        assert name in answer.json["damage"]


@pytest.mark.parametrize("kind", ["approve", "reject"])
async def test_the_beginning_of_the_content(api, directory, kind):
    """Eight digits or more are enough to name the content, as at the command line; fewer or others are a conflict."""
    for content in (DIGEST[:7], DIGEST[1:9], DIGEST[:8] + "g", DIGEST + "5f", DIGEST[:8] + "\n"):
        assert 409 == (await post(api, f"{PATH}/2/{kind}", orjson.dumps({"content": content}))).status, content
    assert [] == requests(directory)
    assert 202 == (await post(api, f"{PATH}/2/{kind}", orjson.dumps({"content": DIGEST[:8]}))).status
    (request,) = requests(directory)
    assert (kind, 2, DIGEST) == (request.kind, request.target, request.content)


async def test_a_folder_that_cannot_be_written(api, directory):
    """A decision that cannot be noted is a 503."""
    (directory.config.data_dir / "requests").write_text("a file")
    assert 503 == (await post(api, f"{PATH}/2/approve")).status


# --- the server's word on what waits ---


async def test_what_waits_is_told(api, directory, caplog):
    """Each generation that waits is counted and logged once, with its reasons; a decided one no more."""
    for _ in range(3):
        await api.follow()
    assert 1 == (await api.get("/-/ready", auth=None)).json["quarantined"]
    reasons = list(read_manifest(place(directory, 2)).refused)
    status = (await api.admin("GET", "/-/status")).json
    assert [{"generation": 2, "refused": reasons}] == status["quarantine"]
    directory.run("UPDATE people SET first = 'Newer' WHERE id = 'E00031'")
    refuse(directory)
    await api.follow()
    assert 2 == (await api.get("/-/ready", auth=None)).json["quarantined"]
    shutil.rmtree(place(directory, 2))
    await api.follow()
    assert [3] == [item["generation"] for item in (await api.admin("GET", "/-/status")).json["quarantine"]]
    records = [*caplog.get_records("setup"), *caplog.records]  # the server started before the test did
    told = [record for record in records if "waits in quarantine" in record.getMessage()]
    assert [2, 3] == [record.facts["generation"] for record in told]
    assert {"WARNING"} == {record.levelname for record in told}


async def test_what_is_superseded_does_not_wait(api, directory):
    """A generation older than the published one needs no decision, so it is not counted."""
    directory.config = msgspec.structs.replace(directory.config, guard=Guard(enabled=False))
    directory.publish()
    await api.follow()
    assert 0 == (await api.get("/-/ready", auth=None)).json["quarantined"]


async def test_readiness_names_nobody(api, directory):
    """Readiness is open to everybody, so it tells numbers and no names, paths or reasons."""
    status = SchedulerStatus(pid=1, started_at=now_text(), updated_at=now_text(), phase="idle")
    control.write_status(directory.config.data_dir, status)
    await api.follow()
    body = (await api.get("/-/ready", auth=None)).body
    assert {
        "status": "ready",
        "snapshot_age_seconds": orjson.loads(body)["snapshot_age_seconds"],
        "max_age_seconds": 0,
        "quarantined": 1,
        "serving_previous": False,
        "scheduler": "running",
    } == orjson.loads(body)


# --- changes.jsonl ---


def write_changes(folder, *lines: dict, tail: bytes = b"") -> None:
    (folder / "changes.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines) + tail)


def test_names_stand_beside_ids(tmp_path):
    """A person has the user name that the line holds, and none where an older line holds none."""
    write_changes(tmp_path, {"change": "removed", "id": "1", "userName": "zoë"}, {"change": "removed", "id": "2"})
    found = people_by_change(tmp_path, ChangeFacts(removed=2), 10)
    assert [{"id": "1", "userName": "zoë"}, {"id": "2"}] == found["removed"]["people"]


@pytest.mark.parametrize(
    ("count", "changed", "removed"),
    [
        (0, ([], True), ([], True)),
        (1, (["c0"], True), (["r0"], True)),
        (2, (["c0", "c1"], True), (["r0", "r1"], False)),
    ],
)
def test_each_kind_has_its_own_count(tmp_path, count, changed, removed):
    """Kinds are counted apart, wherever their lines stand in the file."""
    lines = [{"change": "changed", "id": f"c{number}"} for number in range(500)]
    lines += [{"change": "removed", "id": f"r{number}"} for number in range(2)]
    write_changes(tmp_path, *lines)
    found = people_by_change(tmp_path, ChangeFacts(changed=500, removed=2), count)
    for kind, (ids, more) in (("changed", changed), ("removed", removed)):
        assert (ids, more) == ([item["id"] for item in found[kind]["people"]], found[kind]["more"])


def test_no_more_is_read_than_needed(tmp_path):
    """The file is read up to the last line that is needed: what stands behind it is not looked at."""
    lines = [{"change": "removed", "id": "r0"}, *({"change": "added", "id": f"a{number}"} for number in range(4))]
    write_changes(tmp_path, *lines, tail=b"damaged" * 10_000)
    totals = ChangeFacts(added=1000, removed=1)
    found = people_by_change(tmp_path, totals, 3)
    assert (["a0", "a1", "a2"], True) == ([item["id"] for item in found["added"]["people"]], found["added"]["more"])
    with pytest.raises(CorruptGenerationError):
        people_by_change(tmp_path, totals, 4)


def test_a_line_without_end_is_not_kept(tmp_path):
    """A file without line ends is refused after its first mebibyte, not read whole."""
    with (tmp_path / "changes.jsonl").open("wb") as file:
        file.write(b'{"change":"removed","id":"')
        file.truncate(1 << 33)
    with pytest.raises(CorruptGenerationError):
        people_by_change(tmp_path, ChangeFacts(removed=1), 1)


def test_the_first_generation_names_nobody(tmp_path):
    """Everybody is new in the first generation, and its file is empty: nobody is named, and no more are promised."""
    write_changes(tmp_path)
    assert {"people": [], "more": False} == people_by_change(tmp_path, ChangeFacts(added=1000), 10)["added"]
