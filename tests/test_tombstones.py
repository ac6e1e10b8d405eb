"""People without a row that could be used: kept, sent as removed, left out; and back again."""

from __future__ import annotations

import time

import orjson
import pytest
from people_folder import PeopleFolder, people, person, users_of

from snapshot.errors import PublishRefusedError
from snapshot.filter import parse_filter
from snapshot.scim import USER, ScimVersion
from snapshot.store import generation_directory

DAY = 86_400
CUSTOM = "urn:okta:acme_hr_1:1.0:user:custom"


def by_id(folder: PeopleFolder, version: ScimVersion = ScimVersion.V2_0) -> dict[str, dict]:
    return {user["id"]: user for user in folder.users(version)}


def newer_than(folder: PeopleFolder, moment: str) -> list[str]:
    snapshot = folder.snapshot()
    found = snapshot.select(USER, parse_filter(f'meta.lastModified gt "{moment}"'))
    return [orjson.loads(bytes(snapshot.resources(USER, ScimVersion.V1_1, place, place + 1)))["id"] for place in found]


def later(monkeypatch, seconds: float) -> None:
    """Let the clock go on."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + int(seconds * 1e9))


@pytest.mark.parametrize("rows", [people(5), people(5)[::-1]], ids=["sorted", "unsorted"])
def test_a_row_that_is_gone(folder, rows):
    """Both versions go on sending the person as inactive, with all else as it was and a new lastModified."""
    folder.publish(rows)
    before = {version: by_id(folder, version) for version in ScimVersion}
    manifest = folder.publish([row for row in rows if row[0] != "E00002"])
    assert (1, 0, 0) == (manifest.changes.removed, manifest.changes.changed, manifest.changes.deactivated)
    facts = manifest.resource_types[USER]
    assert (5, 4, 1) == (facts.count, facts.active, facts.removed)
    for version in ScimVersion:
        now = by_id(folder, version)
        old, new = before[version].pop("E00002"), now.pop("E00002")
        assert before[version] == now
        assert (old["meta"]["created"], manifest.created_at) == (new["meta"]["created"], new["meta"]["lastModified"])
        assert old["meta"].pop("version") != new["meta"].pop("version")
        assert {**old, "active": False, "meta": 0} == {**new, "meta": 0}
    assert ["E00002"] == newer_than(folder, before[ScimVersion.V2_0]["E00001"]["meta"]["lastModified"])
    snapshot = folder.snapshot()
    assert 1 == len(snapshot.select(USER, parse_filter("active eq false")))
    assert 1 == len(snapshot.select(USER, parse_filter('userName eq "USER2@example.com"')))


def test_unchanged_while_it_lasts(folder, monkeypatch):
    """A removed person keeps its times over refreshes and is left out when the days are over, which is no removal."""
    folder.settings["policy"] = {"tombstone_days": 3}
    folder.settings["guard"] = {"always_allowed_removed": 1}
    folder.publish(people(5))
    removed = folder.publish(people(4))
    gone = by_id(folder)["E00005"]["meta"]
    later(monkeypatch, 2.9 * DAY)
    assert removed.generation == folder.publish(people(4)).generation
    manifest = folder.publish([*people(4), person(9)])
    assert gone == by_id(folder)["E00005"]["meta"]
    assert (1, 0) == (manifest.changes.added, manifest.changes.removed)
    later(monkeypatch, 0.2 * DAY)
    manifest = folder.publish([*people(4), person(9)])
    assert (0, 1) == (manifest.changes.removed, manifest.changes.expired)
    assert [{"change": "expired", "id": "E00005", "userName": "user5@example.com"}] == folder.lines(
        manifest.generation, "changes.jsonl"
    )
    assert "E00005" not in by_id(folder)


@pytest.mark.parametrize("state", [1, 0])
def test_a_row_that_comes_back(folder, state):
    """Whoever has a row again is as before, with a new lastModified even if the content is the same; created stays."""
    folder.publish([*people(4), person(5, state=state)])
    first = by_id(folder)["E00005"]
    folder.publish(people(4))
    manifest = folder.publish([*people(4), person(5, state=state)])
    now = by_id(folder)["E00005"]
    assert (1, 0, 0) == (manifest.changes.added, manifest.changes.changed, manifest.resource_types[USER].removed)
    assert {**first, "meta": 0} == {**now, "meta": 0}
    assert (first["meta"]["created"], manifest.created_at) == (now["meta"]["created"], now["meta"]["lastModified"])
    assert first["meta"]["version"] == now["meta"]["version"]


def test_somebody_who_was_inactive(folder):
    """The removal of an inactive person is told of too."""
    folder.publish([*people(2), person(3, state=0)])
    moment = by_id(folder)["E00003"]["meta"]["lastModified"]
    assert 1 == folder.publish(people(2)).changes.removed
    assert ["E00003"] == newer_than(folder, moment)


def test_omit(folder):
    """With on_removed = "omit" the person is gone at once; also one that was being sent until now."""
    folder.publish(people(4))
    folder.publish(people(3))
    folder.settings["policy"] = {"on_removed": "omit"}
    manifest = folder.publish(people(2))
    assert ["E00001", "E00002"] == list(by_id(folder))
    assert (1, 1) == (manifest.changes.removed, manifest.changes.expired)


def test_the_guard_counts_them(folder):
    """People that would be sent as removed are counted; the refused generation holds them as such."""
    folder.settings["guard"] = {"always_allowed_removed": 1}
    folder.publish(people(50))
    with pytest.raises(PublishRefusedError, match="3 of 50 users are gone"):
        folder.publish(people(47))
    assert 3 == len(folder.lines(2, "changes.jsonl", folder="quarantine"))
    assert 50 == len(by_id(folder))


def test_a_user_name_that_somebody_else_has_now(folder):
    """Two people never have one userName: who has a row has it, whoever had it is left out."""
    folder.publish(people(4))
    manifest = folder.publish([*people(3), ("NEW", "USER4@example.com", None, 1)])
    assert ["E00001", "E00002", "E00003", "NEW"] == sorted(by_id(folder))
    assert (1, 1, 0) == (manifest.changes.added, manifest.changes.removed, manifest.resource_types[USER].removed)


def test_two_removed_people_with_one_user_name(folder):
    """Of two removed people with one userName one is sent."""
    folder.publish(people(4))
    folder.publish([*people(3), ("NEW", "user4@example.com", None, 1)])
    folder.publish(people(3))
    folder.publish([*people(3), person(4)])
    folder.publish(people(3))
    names = [user["userName"] for user in folder.users()]
    assert len(names) == len(set(names)) == 4


@pytest.mark.parametrize("rows", [people(5), people(5)[::-1]], ids=["sorted", "unsorted"])
def test_a_row_that_is_rejected_now(folder, rows):
    """The person is there, only the row is bad: the last good content stays, bytes and times included."""
    folder.publish(rows)
    before = {version: by_id(folder, version) for version in ScimVersion}
    manifest = folder.publish([(*row[:3], "?") if row[0] == "E00002" else row for row in rows])
    assert (1, 1, 0, 0) == (
        manifest.rejects, manifest.kept, manifest.changes.removed, manifest.resource_types[USER].removed
    )  # fmt: skip
    assert before == {version: by_id(folder, version) for version in ScimVersion}
    again = folder.publish([(*row[:3], "?") if row[0] == "E00002" else row for row in rows])
    assert manifest.generation == again.generation
    mended = folder.publish(rows)
    assert (0, 0, 0) == (mended.rejects, mended.kept, mended.changes.changed)
    assert before == {version: by_id(folder, version) for version in ScimVersion}


def test_rejected_and_then_gone(folder):
    """When the bad row disappears, the person is removed."""
    folder.publish(people(3))
    folder.publish([*people(2), person(3, state="?")])
    assert 1 == folder.publish(people(2)).changes.removed
    assert by_id(folder)["E00003"]["active"] is False


def test_rejected_while_removed(folder):
    """A bad row does not bring a removed person back."""
    folder.publish(people(3))
    folder.publish(people(2))
    manifest = folder.publish([*people(2), person(3, state="?")])
    assert (0, 1) == (manifest.kept, manifest.resource_types[USER].removed)
    assert by_id(folder)["E00003"]["active"] is False


def test_on_rejected_remove(folder):
    """With on_rejected = "remove" a bad row is like none."""
    folder.settings["policy"] = {"on_rejected": "remove"}
    folder.publish(people(3))
    manifest = folder.publish([*people(2), person(3, state="?")])
    assert (0, 1) == (manifest.kept, manifest.changes.removed)


@pytest.mark.parametrize("column", ["id", "user_name"])
def test_duplicates_that_are_all_rejected(folder, column):
    """Somebody whose rows are rejected as duplicates stays as last published, unless somebody has the userName."""
    folder.settings["policy"] = {f"duplicate_{column}": "reject_all"}
    folder.publish(people(4))
    before = by_id(folder)
    double = person(4, mail="other@x") if column == "id" else ("E9", "USER4@example.com", None, 1)
    manifest = folder.publish([*people(4), double])
    assert (2, 1) == (manifest.rejects, manifest.kept)
    assert before == by_id(folder)


def test_on_inactive_omit(folder):
    """With on_inactive = "omit" inactive people are left out; one who becomes inactive is sent as removed first."""
    folder.settings["policy"] = {"on_inactive": "omit"}
    first = folder.publish([*people(3), person(4, state=0)])
    assert ["E00001", "E00002", "E00003"] == list(by_id(folder))
    assert (4, 1) == (first.rows, first.omitted)
    manifest = folder.publish([*people(2), person(3, state=0), person(4, state=0)])
    assert (2, 1) == (manifest.omitted, manifest.changes.removed)
    assert by_id(folder)["E00003"]["active"] is False
    assert "E00004" not in by_id(folder)


def rich(folder: PeopleFolder) -> list[tuple]:
    """Map attributes of every kind; return rows with values that are hard to carry over."""
    folder.settings["mapping"] = {
        "id": "id",
        "userName": "login",
        "name": {"familyName": "mail"},
        "emails": [{"value": "mail", "type": "work"}, {"value": "login", "type": "other"}],
        "enterprise": {"manager": "mail", "department": "mail"},
        CUSTOM: {"fte": {"column": "state", "type": "decimal"}, "since": {"constant": "2020"}},
    }
    text = 'A "quoted" \\ \N{GREEK SMALL LETTER ALPHA}\u2028 "active":true,"meta":{"created":"x'
    return [("a", "al", text, "0.10"), ("b", "bo", text, "12345678901234567890.123456789"), ("c", "cy", None, None)]


def test_every_value_is_carried_over(folder):
    """Whatever a person had is sent until the end: decimals with every digit, quotes, extensions, the manager."""
    rows = rich(folder)
    folder.publish([*rows, ("d", "di", None, None)])
    bodies = {version: by_id(folder, version) for version in ScimVersion}
    folder.publish([("d", "di", None, None)])
    for version in ScimVersion:
        for user in folder.users(version):
            if user["id"] != "d":
                assert {**bodies[version][user["id"]], "active": False, "meta": 0} == {**user, "meta": 0}
    snapshot = folder.snapshot()
    body = bytes(snapshot.resources(USER, ScimVersion.V1_1, 0, snapshot.count(USER)))
    assert b'"fte":12345678901234567890.123456789' in body
    assert b'"managerId"' in body
    assert snapshot.generation == folder.publish([("d", "di", None, None)]).generation


def test_what_is_no_longer_mapped_is_not_sent(folder):
    """A mapping that gives an attribute away no longer takes it from removed people too."""
    rows = rich(folder)
    folder.publish([*rows, ("d", "di", None, None)])
    folder.publish([("d", "di", None, None)])
    mapping = folder.settings["mapping"]
    del mapping["name"], mapping["emails"], mapping["enterprise"]["department"]
    mapping[CUSTOM] = {"since": {"constant": "2020"}}
    manifest = folder.publish([("d", "di", None, None)])
    user = by_id(folder)["a"]
    assert {"schemas", "id", "userName", "active", "meta"} <= user.keys()
    assert {"since": "2020"} == user[CUSTOM]
    assert not {"name", "emails"} & user.keys()
    assert manifest.created_at == user["meta"]["lastModified"]


def test_a_damaged_body(folder):
    """Whose last content cannot be proven is left out and counted, with a warning; nothing unproven is published."""
    folder.publish(people(5))
    path = generation_directory(folder.data_dir, 1) / "User.2.0.json"
    path.write_bytes(path.read_bytes().replace(b'"user5@example.com"', b'"user6@example.com"'))
    manifest = folder.publish(people(3))
    assert ["E00001", "E00002", "E00003", "E00004"] == sorted(by_id(folder))
    assert 2 == manifest.changes.removed
    assert ("1 users without a row could not be kept: generation 1 is damaged",) == manifest.warnings


def test_users_of_both_versions_agree(folder):
    """The removed are in both bodies, at the same place."""
    folder.publish(people(30)[::-1])
    folder.publish(people(30)[5:20])
    snapshot = folder.snapshot()
    old, new = (users_of(snapshot, version) for version in ScimVersion)
    assert [user["id"] for user in old] == [user["id"] for user in new]
    assert [user["active"] for user in old] == [user["active"] for user in new]
    assert 15 == sum(user["active"] for user in old)
