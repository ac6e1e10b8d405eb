"""Fingerprints and times: what counts as a change, what does not, and what a damaged folder still knows."""

from __future__ import annotations

import shutil
import time

import pytest
from people_folder import PeopleFolder, people, person

from snapshot.approval import approve, reject
from snapshot.errors import PublishRefusedError
from snapshot.filter import parse_filter
from snapshot.scim import USER
from snapshot.store import generation_directory, read_current, writer_lock

CUSTOM = "urn:okta:acme_hr_1:1.0:user:custom"
COLUMNS = "id, login, mail, state, touched, dept, boss, hired"


def row(number: int, *, touched: str = "", dept: str = "R&D", hired: str | None = "2020-01-02") -> tuple:
    return (*person(number), touched, dept, "E00001", hired)


def meta(folder: PeopleFolder) -> dict[str, dict[str, str]]:
    return {user["id"]: user["meta"] for user in folder.users()}


def damage(folder: PeopleFolder, number: int, *names: str) -> None:
    for name in names:
        path = generation_directory(folder.data_dir, number) / name
        path.write_bytes(path.read_bytes()[:-9] + b"\0" * 9)


def newer_than(folder: PeopleFolder, moment: str) -> int:
    return len(folder.snapshot().select(USER, parse_filter(f'meta.lastModified gt "{moment}"')))


def test_only_what_is_served_counts(folder):
    """A column that is not mapped may change every night: nobody changes, nothing is published."""
    folder.fill([row(1, touched="monday"), row(2, touched="monday")], COLUMNS)
    first = folder.refresh()
    folder.fill([row(2, touched="tuesday"), row(1, touched="tuesday")], COLUMNS)
    assert first.generation == folder.refresh().generation


def test_the_order_in_the_configuration_does_not_count(folder):
    """Whoever sorts config.toml anew changes nobody."""
    mapping = folder.settings["mapping"]
    mapping |= {
        "name": {"givenName": "mail", "familyName": "login"},
        "enterprise": {"department": "dept", "manager": {"value": "boss", "displayName": "login"}, "division": "dept"},
        CUSTOM: {"b": "dept", "a": "mail"},
        "urn:okta:other_1:1.0:user:custom": {"z": "dept", "y": "boss"},
    }
    folder.fill([row(1), row(2)], COLUMNS).refresh()
    before = folder.users()
    folder.settings["mapping"] = {
        name: dict(reversed(value.items())) if isinstance(value, dict) and name != "active" else value
        for name, value in reversed(mapping.items())
    }
    manifest = folder.refresh()
    assert (0, before) == (manifest.changes.changed, folder.users())


def test_a_mapped_created(folder):
    """meta.created may come from a column; a change of it is a change; NULL is the time of publication."""
    folder.settings["mapping"]["meta"] = {"created": "hired"}
    first = folder.fill([row(1, hired="1969-07-20 20:17:40.5"), row(2, hired=None)], COLUMNS).refresh()
    assert ["1969-07-20T20:17:40.500Z", first.created_at] == [item["created"] for item in meta(folder).values()]
    versions = [item["version"] for item in meta(folder).values()]
    folder.fill([row(1, hired="1969-07-20 20:17:40.5"), row(2, hired=None)], COLUMNS)
    assert 1 == folder.refresh().generation
    second = folder.fill([row(1, hired="1970-01-01"), row(2, hired=None)], COLUMNS).refresh()
    now = meta(folder)
    assert ("1970-01-01T00:00:00.000Z", second.created_at) == (now["E00001"]["created"], now["E00001"]["lastModified"])
    assert first.created_at == now["E00002"]["created"] == now["E00002"]["lastModified"]
    assert (True, False) == tuple(item["version"] != old for item, old in zip(now.values(), versions, strict=True))
    folder.fill([row(2, hired=None)], COLUMNS).refresh()
    assert "1970-01-01T00:00:00.000Z" == meta(folder)["E00001"]["created"]


@pytest.mark.parametrize(
    "names",
    [
        ("index.sqlite",), ("manifest.json",), ("index.sqlite", "manifest.json"), ("User.1.1.json", "rejects.jsonl"),
        ("index.sqlite", "User.1.1.json", "User.1.1.offsets", "changes.jsonl"),
    ],
)  # fmt: skip
def test_times_outlive_damage(folder, names):
    """While the users of the newest generation can be read in any way, unchanged people keep both times."""
    folder.publish(people(20))
    folder.publish([*people(18), person(19, mail="new@x.com"), person(21)])
    before = meta(folder)
    damage(folder, 2, *names)
    manifest = folder.publish([*people(17), person(19, mail="new@x.com"), person(21)])
    assert (3, 2) == (manifest.generation, manifest.previous)
    now = meta(folder)
    changed = {name for name in now if before[name] != now[name]}
    # 20 was removed at the second publication: what remains of that one does not say so, so it is removed again.
    expected = {"E00018"} if "manifest.json" not in names and "index.sqlite" not in names else {"E00018", "E00020"}
    assert expected == changed
    assert not list(folder.data_dir.glob(".creating-*"))


def test_a_generation_that_is_lost_altogether(folder):
    """If nothing can be read of the newest generation, everybody gets a new lastModified: no change is lost."""
    folder.publish(people(3))
    created = {name: item["created"] for name, item in meta(folder).items()}
    lost = folder.publish([*people(2), person(3, mail="new@x.com")])
    shutil.rmtree(generation_directory(folder.data_dir, 2))
    # Person 3 has the old content again. Whoever imported the lost generation has to hear of it.
    manifest = folder.publish(people(3))
    assert (3, 1) == (manifest.generation, manifest.previous)
    assert "everybody gets a new lastModified" in manifest.warnings[0]
    assert 3 == newer_than(folder, lost.created_at)
    assert created == {name: item["created"] for name, item in meta(folder).items()}


def test_nothing_left_to_compare_with(folder):
    """With every earlier generation lost, the new one waits for a person."""
    folder.settings["guard"] = {}
    folder.publish(people(3))
    shutil.rmtree(generation_directory(folder.data_dir, 1))
    with pytest.raises(PublishRefusedError, match="nothing to compare with"):
        folder.publish(people(3))
    assert 1 == read_current(folder.data_dir)


@pytest.mark.parametrize("what", ["body", "CURRENT", "rejects", "configuration"])
def test_no_change_is_only_said_of_a_whole_folder(folder, what):
    """The same people are published anew if the served generation is damaged, or if anything else differs."""
    folder.publish([*people(3), person(4, state="?")])
    rows = [*people(3), person(4, state="?")]
    if what == "body":
        damage(folder, 1, "User.1.1.json")
    elif what == "CURRENT":
        (folder.data_dir / "CURRENT").unlink()
    elif what == "rejects":
        rows[3] = person(5, state="?")
    else:
        folder.settings["server"]["public_url"] = "https://elsewhere.example.com"
    before = {name: (item["created"], item["lastModified"]) for name, item in meta_or(folder, what).items()}
    manifest = folder.publish(rows)
    assert (2, 2) == (manifest.generation, read_current(folder.data_dir))
    now = {name: (item["created"], item["lastModified"]) for name, item in meta(folder).items()}
    assert before in ({}, now)


def meta_or(folder: PeopleFolder, what: str) -> dict[str, dict[str, str]]:
    return {} if what in {"body", "CURRENT"} else meta(folder)


def test_an_attribute_that_is_suddenly_empty(folder):
    """When a join breaks and an attribute of many people is empty at once, the generation waits."""
    folder.settings["guard"] = {}
    folder.settings["mapping"]["enterprise"] = {"department": "dept"}
    folder.fill([row(number) for number in range(1, 61)], COLUMNS).refresh()
    folder.fill([row(number, dept="" if number <= 12 else "R&D") for number in range(1, 61)], COLUMNS).refresh()
    folder.fill([row(number, dept="" if number <= 22 else "R&D") for number in range(1, 61)], COLUMNS)
    manifest = folder.refresh()
    urn = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department"
    assert {urn: (48, 10)} == {path: (facts.filled, facts.emptied) for path, facts in manifest.emptied.items()}
    folder.fill([row(number, dept="" if number <= 33 else "R&D") for number in range(1, 61)], COLUMNS)
    with pytest.raises(PublishRefusedError, match="department was filled for 38 users and is now empty for 11"):
        folder.refresh()


def test_mail_addresses_that_are_suddenly_gone(folder):
    """The same for an attribute with many values."""
    folder.settings["guard"] = {}
    folder.publish(people(60))
    with pytest.raises(PublishRefusedError, match="emails was filled for 60 users and is now empty for 13 of them"):
        folder.publish([person(number, mail=None if number <= 13 else "") for number in range(1, 61)])


def test_a_changed_mapping(folder):
    """A mapping that changes more than half of the people waits; the same change in the source does not."""
    folder.settings["guard"] = {}
    folder.publish(people(30))
    folder.publish([person(number, mail=f"new{number}@x.com") for number in range(1, 31)])
    folder.settings["mapping"]["title"] = "login"
    with pytest.raises(PublishRefusedError, match="and 30 of 30 users with them"):
        folder.refresh()


def test_times_grow_whatever_the_clock(folder, monkeypatch):
    """Over any steps of the clock each generation is later than the one before, and its changes newer than both."""
    real = time.time_ns
    last = ""
    for place, hours in enumerate((0, -5, 3, -1, -100, 0.5)):
        monkeypatch.setattr(time, "time_ns", lambda hours=hours: real() + int(hours * 3600e9))
        manifest = folder.publish([*people(2), person(3, mail=f"m{place}@x.com")])
        assert manifest.created_at > last
        assert 0 == newer_than(folder, manifest.created_at)
        if last:
            assert 1 == newer_than(folder, last)
        last = manifest.created_at


@pytest.mark.parametrize("seconds", [0, 0.7])
def test_times_do_not_run_away_from_the_clock(folder, monkeypatch, seconds):
    """However quickly refreshes follow each other, the newest time is ahead of the clock by one guess, and grows."""
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now)
    poll_seconds = folder.config.server.poll_seconds
    last = folder.publish(people(3)).created_ms
    for turn in range(12):
        now += int(seconds * 1e9)
        created = folder.publish([*people(2), person(3, mail=f"m{turn}@x.com")]).created_ms
        assert last < created <= now // 1_000_000 + 2000 * poll_seconds + 1000
        last = created


def test_one_kind_of_phone_that_is_suddenly_gone(folder):
    """A column that fills only the addresses of one type is watched too."""
    folder.settings["guard"] = {}
    folder.settings["mapping"]["emails"] = [{"value": "login", "type": "work"}, {"value": "mail", "type": "home's"}]
    folder.publish(people(60))
    with pytest.raises(PublishRefusedError, match=r"emails\[type eq .home's.\] was filled for 60 users"):
        folder.publish([person(number, mail=None) for number in range(1, 61)])


def test_removed_people_are_not_removed_twice(folder):
    """Neither a changed mapping nor damage makes news of people who lost their row long ago."""
    folder.settings["guard"] = {"always_allowed_removed": 3, "max_changed_percent": 100}
    folder.publish(people(20))
    folder.publish(people(17))
    folder.publish(people(14))
    folder.settings["mapping"]["title"] = "login"
    manifest = folder.refresh()
    assert (0, 14) == (manifest.changes.removed, manifest.changes.changed)
    damage(folder, manifest.generation, "index.sqlite")
    manifest = folder.publish([*people(13), person(14, mail="new@x.com")])
    assert (0, 7) == (manifest.changes.removed, manifest.changes.changed)
    assert 6 == manifest.resource_types[USER].removed


def test_times_of_a_damaged_generation_are_not_undercut(folder, monkeypatch):
    """With the newest manifest damaged and the clock set back, new times are still later than all that were sent."""
    folder.publish(people(3))
    folder.publish([*people(2), person(3, mail="new@x.com")])
    sent = max(item["lastModified"] for item in meta(folder).values())
    damage(folder, 2, "manifest.json")
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)
    folder.publish([*people(2), person(3, mail="newer@x.com")])
    assert meta(folder)["E00003"]["lastModified"] > sent


@pytest.mark.parametrize("text", [b"", b"\0" * 9, b"00000001\n"])
def test_a_folder_whose_generations_are_gone(folder, text):
    """Where CURRENT is left of what was published, the next generation is no first one: it waits for a person."""
    folder.settings["guard"] = {}
    folder.publish(people(3))
    shutil.rmtree(folder.data_dir / "generations")
    (folder.data_dir / "CURRENT").write_bytes(text)
    with pytest.raises(PublishRefusedError, match="nothing to compare with"):
        folder.publish(people(2))


def empty(folder: PeopleFolder) -> None:
    """Take away everything that was published."""
    shutil.rmtree(folder.data_dir / "generations")
    (folder.data_dir / "CURRENT").unlink()


def refuse(folder: PeopleFolder, count: int, match: str) -> int:
    with pytest.raises(PublishRefusedError, match=match) as caught:
        folder.publish(people(count))
    return caught.value.generation


@pytest.mark.parametrize("left", ["quarantine", "NUMBER", "audit.jsonl", "served.jsonl", "rejected"])
def test_an_emptied_folder(folder, left):
    """Whatever tells that people were published before, the next generation is no first one: it waits for a person."""
    folder.settings["guard"] = {}
    folder.publish(people(20))
    number = refuse(folder, 5, "15 of 20 users are gone")
    if left == "audit.jsonl":
        with writer_lock(folder.data_dir):
            approve(folder.config, number, who="test")
    if left == "rejected":
        with writer_lock(folder.data_dir):
            reject(folder.config, number, who="test")
    empty(folder)
    if left == "served.jsonl":
        (folder.data_dir / "served.jsonl").write_bytes(b'{"at_ms":1,"created_ms":1}\n')
    kept = (
        {"quarantine", "NUMBER"}
        if left == "quarantine"
        else {"audit.jsonl", "NUMBER"}
        if left == "rejected"
        else {left}
    )
    for path in folder.data_dir.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    refuse(folder, 5, "nothing to compare with")
    refuse(folder, 6, "nothing to compare with")


@pytest.mark.parametrize("is_rejected", [False, True])
def test_a_first_generation_after_refused_ones(folder, is_rejected):
    """A first generation needs no word of a person, also if generations before it were refused for holding nobody."""
    folder.settings["guard"] = {}
    number = refuse(folder, 0, "no user at all")
    if is_rejected:
        with writer_lock(folder.data_dir):
            reject(folder.config, number, who="test")
        refuse(folder, 0, "no user at all")
    assert folder.publish(people(3)).generation == number + 1 + is_rejected


def test_a_rejected_row_whose_id_is_no_text(folder):
    """An id that is not valid Unicode is the reject of one row, also when there is a generation before."""
    folder.publish(people(2))
    with folder.fill(people(3)).open() as database:
        database.execute("INSERT INTO people VALUES (CAST(X'61ff62' AS TEXT), 'x', NULL, 1)")
    manifest = folder.refresh()
    assert (1, 3) == (manifest.rejects, manifest.resource_types[USER].count)


@pytest.mark.parametrize("resource_id", ["\ud800", "E\udfff", "", "\0"])
def test_an_id_that_nobody_can_have(folder, resource_id):
    """Such an id is found nowhere, also while the generation before is walked through."""
    folder.publish(people(3000))
    index = folder.snapshot().index
    walk = index.every()
    next(walk)
    assert index.known("E00001") is not None
    assert index.find(USER, "E00001") is not None
    assert index.known(resource_id) is None
    assert index.find(USER, resource_id) is None
    assert 2999 == len(list(walk))
