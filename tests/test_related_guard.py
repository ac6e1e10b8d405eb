"""The guard over groups, entitlements and who has them; what a person sees of a refused generation; approving it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from related_folder import RelatedFolder, check_agreement, person
from server_fixtures import ADMIN_TOKEN, PASSWORD, serving
from server_fixtures import USER as LOGIN

from snapshot.__main__ import main
from snapshot.approval import approve
from snapshot.config import Guard
from snapshot.errors import PublishRefusedError
from snapshot.guard import reasons_to_refuse
from snapshot.progress import summary
from snapshot.scim import GROUP, USER
from snapshot.store import ChangeFacts, EmptiedFacts, Manifest, TypeFacts, writer_lock
from snapshot.worker import refresh_with_deadline


def manifest(groups: int, memberships: int) -> Manifest:
    """Return what the guard looks at."""
    return Manifest(
        generation=1,
        created_at="",
        created_ms=0,
        config_digest="",
        resource_types={"User": TypeFacts(count=10), "Group": TypeFacts(count=groups)},
        rows=10,
        rejects=0,
        changes=ChangeFacts(),
        seconds={},
        files={},
        links={"groups": memberships},
    )


@pytest.mark.parametrize(
    ("digest", "changed", "of_users", "limits", "refused"),
    [
        ("new", 51, 0, {}, ["51 of 100 resources of type Group"]),
        ("new", 50, 5, {}, []),
        ("old", 100, 10, {}, []),  # a source may change everything for good reasons
        ("new", 100, 6, {}, ["6 of 10 users", "100 of 100 resources of type Group"]),
        ("new", 100, 0, {"max_changed_percent": 100}, []),
        ("new", 100, 0, {"enabled": False}, []),
    ],
)
def test_a_changed_configuration(digest, changed, of_users, limits, refused):
    """Users and each other type count by themselves when a changed configuration changes most of them."""
    facts = {"changes": ChangeFacts(changed=of_users), "type_changes": {"Group": ChangeFacts(changed=changed)}}
    before, after = manifest(100, 100), msgspec.structs.replace(manifest(100, 100), config_digest=digest, **facts)
    before = msgspec.structs.replace(before, config_digest="old")
    reasons = reasons_to_refuse(Guard(**limits), after, before)
    assert [f"and {item} with them" for item in refused] == [reason.split(", ")[-2] for reason in reasons]


@pytest.mark.parametrize(
    ("filled", "emptied", "refused"),
    [(100, 21, True), (100, 20, False), (50, 11, True), (50, 10, False), (49, 49, False)],
)
def test_an_attribute_of_groups_that_is_emptied(filled, emptied, refused):
    """What most groups had, of all groups, may be lost by a fifth of them, or ten; what fewer had is not watched."""
    facts = {"Group description": EmptiedFacts(filled=filled, emptied=emptied)}
    after = msgspec.structs.replace(manifest(100, 100), emptied=facts)
    reasons = reasons_to_refuse(Guard(), after, manifest(100, 100))
    told = f"description was filled for {filled} resources of type Group and is now empty for {emptied} of them"
    assert refused == any(told in reason for reason in reasons) == bool(reasons)


@pytest.mark.parametrize(
    ("before", "after", "limits", "refused"),
    [
        ((100, 1000), (80, 800), {}, []),
        ((100, 1000), (79, 800), {}, ["21 of 100 resources of type Group"]),
        ((100, 1000), (100, 799), {}, ["201 of 1000 groups of users"]),
        ((100, 1000), (79, 799), {}, ["21 of 100 resources of type Group", "201 of 1000 groups of users"]),
        ((11, 11), (1, 1), {}, []),
        ((11, 12), (0, 1), {}, ["11 of 11 resources of type Group", "11 of 12 groups of users"]),
        ((1, 1), (0, 0), {}, ["1 of 1 resources of type Group", "1 of 1 groups of users"]),
        ((0, 0), (0, 0), {}, []),
        ((0, 0), (50, 50), {}, []),
        ((100, 100), (99, 99), {"always_allowed_related_removed": 0, "max_related_removed_percent": 1}, []),
        (
            (100, 100),
            (98, 99),
            {"always_allowed_related_removed": 0, "max_related_removed_percent": 1},
            ["2 of 100 resources of type Group"],
        ),
        ((100, 100), (1, 1), {"max_related_removed_percent": 100}, []),
        ((100, 100), (0, 1), {"max_related_removed_percent": 100}, ["100 of 100 resources of type Group"]),
        ((100, 1000), (0, 0), {"enabled": False}, []),
    ],
)  # fmt: skip
def test_the_edges(before, after, limits, refused):
    """Exactly the limit passes, one more does not; all at once never do; growth always does."""
    reasons = reasons_to_refuse(Guard(**limits), manifest(*after), manifest(*before))
    assert refused == [reason.partition(" are gone")[0] for reason in reasons]


@pytest.fixture
def folder(tmp_path):
    """30 people, each in two of 20 teams; the guard is on."""
    made = RelatedFolder(tmp_path)
    made.settings["guard"] = {}
    made.settings["server"] |= {
        "port": 0,
        "auth": [{"type": "basic", "username": LOGIN, "password": PASSWORD}],
        "admin": {"type": "bearer", "token": ADMIN_TOKEN},
    }
    made.write("people", *(person(number) for number in range(30)))
    made.write("teams", *((f"T{number:02}", f"Team {number}", None) for number in range(20)))
    made.write("in_team", *((f"E{number}", f"T{(number + turn) % 20:02}") for number in range(30) for turn in (0, 1)))
    made.write("licenses", ("L1", "Office", None))
    made.refresh()
    return made


def refuse(folder: RelatedFolder) -> int:
    with pytest.raises(PublishRefusedError) as caught:
        folder.refresh()
    return caught.value.generation


def tool(folder: RelatedFolder, *arguments: str) -> int:
    command, *rest = arguments
    return main([command, "--config", str(folder.toml()), *rest])


def test_all_memberships_gone(folder):
    """A members query that suddenly finds nothing is refused, and the groups are served as before."""
    folder.write("in_team")
    refuse(folder)
    check_agreement(folder)
    assert 60 == sum(len(folder.members_of(group)) for group in folder.resources(GROUP))


def test_most_groups_gone(folder, capsys):
    """The quarantine names each group that would go, and those that would change, for people and for machines."""
    folder.run("DELETE FROM teams WHERE id < 'T12'")
    folder.run("INSERT INTO teams VALUES ('T99', 'Neu Ü', NULL)")
    number = refuse(folder)
    assert 0 == tool(folder, "quarantine")
    out = capsys.readouterr().out
    assert "; 12 Group removed, 1 Group added\n" in out
    assert "  removed      Group T00  Team 0\n" in out
    assert f"  removed      Group … and 2 more: python -m snapshot quarantine show {number}\n" in out
    assert "  added        Group T99  Neu Ü\n" in out
    assert 0 == tool(folder, "quarantine", "show", str(number))
    lines = capsys.readouterr().out.splitlines()
    assert [f"  removed      Group T{at:02}  Team {at}" for at in range(12)] == [
        x for x in lines if "removed      Group" in x
    ]
    assert 0 == tool(folder, "quarantine", "show", str(number), "--json")
    found = json.loads(capsys.readouterr().out)
    assert {"added": 1, "changed": 0, "deactivated": 0, "removed": 12, "expired": 0} == found["type_changes"]["Group"]
    assert {"change": "removed", "type": "Group", "id": "T00", "displayName": "Team 0"} == found["resources"][0]
    assert 13 == len(found["resources"])
    assert 0 == tool(folder, "quarantine", "--json")
    (found,) = json.loads(capsys.readouterr().out)
    assert 11 == len(found["first_resources"])


def test_a_changed_mapping_of_groups(folder):
    """A mapping that changes most groups waits, although nobody is changed by it; the same from the source does not."""
    folder.settings["groups"]["description"] = "about"
    folder.write("teams", *((f"T{number:02}", f"Team {number}", "about us") for number in range(20)))
    with pytest.raises(PublishRefusedError) as caught:
        folder.refresh()
    (reason,) = caught.value.reasons
    assert "and 20 of 20 resources of type Group with them" in reason
    with writer_lock(folder.data_dir):
        approve(folder.config, caught.value.generation, who="test")
    folder.write("teams", *((f"T{number:02}", f"Team {number}", "changed") for number in range(20)))
    assert {"Group": ChangeFacts(changed=20)}.items() <= folder.refresh().type_changes.items()


@pytest.mark.parametrize("what", ["Group", "License"])
def test_an_attribute_of_groups_or_entitlements_that_is_suddenly_empty(folder, what):
    """A column of groups or entitlements that is suddenly empty for many is refused; for a few it is not."""
    table = {"Group": "teams", "License": "licenses"}[what]
    path = {"Group": "urn:okta:custom:group:1.0:description", "License": "description"}[what]
    folder.settings["groups"]["description"] = "about"
    folder.settings["guard"] = {"enabled": False}
    folder.write(table, *((f"X{number:02}", f"X {number}", "about us") for number in range(30))).refresh()
    folder.settings["guard"] = {}
    folder.run(f"UPDATE {table} SET about = NULL WHERE id < 'X10'")
    manifest = folder.refresh()
    assert {f"{what} {path}": EmptiedFacts(filled=30, emptied=10)} == manifest.emptied
    folder.run(f"UPDATE {table} SET about = '' WHERE id < 'X21'")
    with pytest.raises(PublishRefusedError) as caught:
        folder.refresh()
    assert [f"{path} was filled for 20 resources of type {what} and is now empty for 11 of them"] == [
        reason.partition(", at most")[0] for reason in caught.value.reasons
    ]


def test_groups_that_lose_all_their_members(folder):
    """Members are watched as any attribute: many small groups without members are refused beside one large one."""
    folder.settings["guard"] = {"enabled": False}
    everybody = [(f"E{number}", "T00") for number in range(30)]
    folder.write("in_team", *everybody, *((f"E{number}", f"T{number:02}") for number in range(1, 15))).refresh()
    folder.settings["guard"] = {"always_allowed_related_removed": 20}
    folder.run("DELETE FROM in_team WHERE team > 'T00'")
    with pytest.raises(PublishRefusedError) as caught:
        folder.refresh()
    (reason,) = caught.value.reasons
    assert "members was filled for 15 resources of type Group and is now empty for 14 of them" in reason


def test_all_assignments_of_one_type_gone(folder):
    """One type of entitlements that nobody has any more is refused, however many of another type there are."""
    query = "SELECT DISTINCT team AS id FROM in_team"
    badges = {"table": "in_team", "entitlement": "team", "user": "who"}
    folder.settings["entitlements"]["Badge"] = {"query": query, "id": "id", "displayName": "id", "assignments": badges}
    folder.settings["guard"] = {"enabled": False}
    folder.write("has_license", *((f"E{number}", "L1") for number in range(5))).refresh()
    folder.settings["guard"] = {}
    folder.write("has_license")
    with pytest.raises(PublishRefusedError) as caught:
        folder.refresh()
    assert ["5 of 5 entitlements.License of users are gone"] == [
        reason.partition(", at most")[0] for reason in caught.value.reasons
    ]


async def test_over_http(folder):
    """GET /admin/quarantine/{n} shows the same, up to `count` of each kind, and whether there are more."""
    folder.run("DELETE FROM teams WHERE id < 'T12'")
    number = refuse(folder)
    async with serving(folder) as api:
        found = (await api.admin("GET", f"/admin/quarantine/{number}?count=3")).json
        group = found["resources"]["Group"]
        assert [{"id": f"T{at:02}", "displayName": f"Team {at}"} for at in range(3)] == group["removed"]["resources"]
        assert (True, False) == (group["removed"]["more"], group["added"]["more"])
        assert {"removed": {"resources": [], "more": False}}.items() <= found["resources"]["License"].items()
        assert 12 == found["type_changes"]["Group"]["removed"]
        path = folder.data_dir / "quarantine" / f"{number:08}" / "related_changes.jsonl"
        path.write_bytes(path.read_bytes().replace(b"Team 0", b"Team X"))
        found = (await api.admin("GET", f"/admin/quarantine/{number}")).json
        assert {"generation", "superseded", "damage"} == found.keys()


def test_what_is_approved_carries_the_time_of_approval(folder):
    """Users and groups of an approved generation that differ are newer than the refusal, all others keep their times."""
    users, groups = folder.times(USER), folder.times(GROUP)
    folder.run("DELETE FROM in_team WHERE team < 'T08'")
    number = refuse(folder)
    quarantined = msgspec.json.decode(
        (folder.data_dir / "quarantine" / f"{number:08}" / "manifest.json").read_bytes(), type=Manifest
    )
    done = approve(folder.config, number, who="tester")
    assert done.created_at > quarantined.created_at
    check_agreement(folder)
    for before, resource_type in ((users, USER), (groups, GROUP)):
        after = folder.times(resource_type)
        assert {done.created_at} == {after[key] for key in before if before[key] != after[key]}
    assert {f"T{at:02}" for at in range(8)} == {key for key, time in folder.times(GROUP).items() if time != groups[key]}
    assert done.generation == folder.refresh().generation


def test_status_counts_them(folder, capsys):
    """`status` tells how many there are of each type, and how many rows beside the users are rejects."""
    folder.run("INSERT INTO in_team VALUES ('E99', 'T01')")
    folder.refresh()
    assert 0 == tool(folder, "status")
    out = capsys.readouterr().out
    assert "20 Group, 1 License, 0 Role.\n" in out
    assert "Rejects: 0, and 1 of other rows (python -m snapshot rejects)\n" in out


def test_the_outcome_counts_them(folder):
    """What `--once` and status.json say of a refresh names groups and entitlements where they name users."""
    outcome = refresh_with_deadline(folder.config, on_progress=lambda _progress: None)
    assert ("unchanged", 20, 1) == (outcome.state, outcome.counts["groups"], outcome.counts["entitlements"])
    assert "30 users (30 active), 20 groups, 1 entitlements from 30 rows" in summary(outcome)


def test_a_diff_shows_who_changed_groups(folder, capsys):
    """`diff` names the users whose groups differ, as any attribute, and each group and entitlement that differs."""
    folder.run("DELETE FROM in_team WHERE who = 'E3'")
    folder.run("INSERT INTO has_license VALUES ('E4', 'L1')")
    folder.run("INSERT INTO teams VALUES ('T99', 'Neu Ü', NULL)")
    folder.run("INSERT INTO roles VALUES ('R1', 'Boss')")
    folder.refresh()
    assert 0 == tool(folder, "diff", "1", "2", "--format", "json", "--values")
    found = json.loads(capsys.readouterr().out)
    assert [("E3", ["groups"]), ("E4", ["entitlements"])] == [
        (person["id"], [item["path"] for item in person["attributes"]]) for person in found["changes"]
    ]
    assert [
        ("changed", "Group", "T03", "Team 3"),
        ("changed", "Group", "T04", "Team 4"),
        ("added", "Group", "T99", "Neu Ü"),
        ("added", "Role", "R1", "Boss"),
    ] == [tuple(item.values()) for item in found["resources"]]
    assert 0 == tool(folder, "diff", "2", "1")
    out = capsys.readouterr().out
    assert "removed      Group T99  Neu Ü\nchanged      Group T03  Team 3\n" in out
    folder.run("UPDATE licenses SET about = 'x'")
    folder.refresh()
    assert 0 == tool(folder, "diff")
    assert capsys.readouterr().out.endswith("0 expired\nchanged      License L1  Office\n")


def test_the_documents_name_the_fields():
    """Each field of the two answers stands in docs/operations.md."""
    text = (Path(__file__).parent.parent / "docs" / "operations.md").read_text(encoding="utf-8")
    assert '"resources"' in text
    assert '"type_changes"' in text
