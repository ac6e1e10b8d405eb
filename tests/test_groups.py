"""Groups over whole refreshes: members, nesting, columns, rejects, times; both versions, both directions."""

from __future__ import annotations

import itertools
import json
import random
from urllib.parse import quote

import pytest
from related_folder import SUBGROUPS, RelatedFolder, check_agreement, person

from snapshot.filter import parse_filter
from snapshot.scim import GROUP, USER, ScimVersion
from snapshot.store import ChangeFacts
from snapshot.worker import outcome_counts

NO_USER = "no user with this key is published"
NO_GROUP = "no Group with this id is published"
MEMBERS = "groups.members"


@pytest.fixture
def folder(tmp_path):
    """Three people, two teams: E1 in both, E2 in T2, E3 in none."""
    made = RelatedFolder(tmp_path)
    made.write("people", person(1), person(2), person(3))
    made.write("teams", ("T1", "Finance", None), ("T2", "Board", None))
    made.write("in_team", ("E1", "T1"), ("E1", "T2"), ("E2", "T2"))
    return made


def nest(folder: RelatedFolder, nesting: str, *pairs: tuple[str, str]) -> RelatedFolder:
    """Put the first group of each pair into the second."""
    folder.settings["groups"] |= {"subgroups": SUBGROUPS, "nesting": nesting}
    return folder.write("part_of", *pairs)


def test_members_and_groups_in_both_versions(folder):
    """Groups name their members and users their groups; `$ref` and the type of a member are of 2.0 alone."""
    folder.refresh()
    check_agreement(folder)
    base = "https://scim.example.com/scim"
    new, old = (folder.resources(GROUP, version)["T2"] for version in (ScimVersion.V2_0, ScimVersion.V1_1))
    assert [
        {"value": "E1", "$ref": f"{base}/v2/Users/E1", "type": "User", "display": "Name 1"},
        {"value": "E2", "$ref": f"{base}/v2/Users/E2", "type": "User", "display": "Name 2"},
    ] == new["members"]
    assert [{"value": "E1", "display": "Name 1"}, {"value": "E2", "display": "Name 2"}] == old["members"]
    assert ["urn:ietf:params:scim:schemas:core:2.0:Group"] == new["schemas"]
    assert ["urn:scim:schemas:core:1.0"] == old["schemas"]
    assert f"{base}/v2/Groups/T2" == new["meta"]["location"]
    new, old = (folder.resources(USER, version)["E1"] for version in (ScimVersion.V2_0, ScimVersion.V1_1))
    assert [
        {"value": "T1", "$ref": f"{base}/v2/Groups/T1", "display": "Finance"},
        {"value": "T2", "$ref": f"{base}/v2/Groups/T2", "display": "Board"},
    ] == new["groups"]
    assert [{"value": "T1", "display": "Finance"}, {"value": "T2", "display": "Board"}] == old["groups"]
    assert "groups" not in folder.resources(USER)["E3"]


def test_a_group_without_members_and_without_a_name(folder):
    """An empty group is sent without members; one without a name goes by its id."""
    folder.write("teams", ("T1", None, None), ("T9", "  ", None)).refresh()
    assert ("T1", "T9") == tuple(item["displayName"] for item in folder.resources(GROUP).values())
    assert "members" not in folder.resources(GROUP)["T9"]


@pytest.mark.parametrize("nesting", ["flatten", "keep"])
def test_circles_and_deep_nesting(folder, nesting):
    """A chain of 60 groups that bites its own tail, and a group in itself, end and lose nobody."""
    names = [f"D{number:02}" for number in range(60)]
    folder.write("teams", *((name, f"Team {name}", None) for name in names))
    folder.write("in_team", ("E1", "D00"), ("E2", "D59"))
    pairs = itertools.pairwise(names)
    nest(folder, nesting, *pairs, ("D59", "D00"), ("D30", "D30")).refresh()
    check_agreement(folder)
    assert names == folder.groups_of("E1") == folder.groups_of("E2")
    if nesting == "flatten":
        assert ["E1", "E2"] == folder.members_of("D17")
        assert "type" not in folder.resources(USER)["E1"]["groups"][0]
        return
    assert ["D16"] == folder.members_of("D17")
    assert ["E1", "D59"] == folder.members_of("D00")
    assert ["D29"] == folder.members_of("D30")
    kinds = {item["value"]: item["type"] for item in folder.resources(USER)["E1"]["groups"]}
    assert {"D00": "direct", **dict.fromkeys(names[1:], "indirect")} == kinds


@pytest.mark.parametrize("version", ScimVersion)
def test_a_subgroup_is_told_from_a_user_of_the_same_id(folder, version):
    """A group whose id is also that of a user refers to the group, with its type, in both versions."""
    folder.write("teams", ("E1", "Inner", None), ("T2", "Outer", None)).write("in_team", ("E1", "T2"))
    nest(folder, "keep", ("E1", "T2")).refresh()
    check_agreement(folder)
    members = folder.resources(GROUP, version)["T2"]["members"]
    assert ["E1", "E1"] == [item["value"] for item in members]
    assert "Group" == members[1]["type"]
    if version is ScimVersion.V2_0:
        assert ["/v2/Users/E1", "/v2/Groups/E1"] == [
            item["$ref"].removeprefix("https://scim.example.com/scim") for item in members
        ]
    else:
        assert {"value": "E1", "display": "Name 1"} == members[0]


def test_direct_and_indirect_at_once(folder):
    """Who is in a group directly and through a subgroup is a direct member, once."""
    nest(folder, "keep", ("T1", "T2")).refresh()
    assert {"T1": "direct", "T2": "direct"} == {i["value"]: i["type"] for i in folder.resources(USER)["E1"]["groups"]}
    assert ["E1", "E2", "T1"] == folder.members_of("T2")


@pytest.mark.parametrize(
    ("separator", "text"), [(";", "T2; T1 ;;T1; "), (" | ", "T1 | T2"), (",", "T1,T2,"), ("", "T1")]
)
def test_a_column_with_ids(folder, separator, text):
    """A column of the users query holds ids; blanks around them, empty ones and repetitions do not count."""
    folder.settings["groups"]["members"] = {"column": "teams", **({"separator": separator} if separator else {})}
    folder.write("people", person(1, teams=text), person(2), person(3, teams=f"  {separator}"))
    manifest = folder.refresh()
    check_agreement(folder)
    assert (["T1", "T2"] if separator else ["T1"]) == folder.groups_of("E1")
    assert [] == folder.rejects(manifest)


def test_dangling_ids_in_a_column_are_counted(folder):
    """An unknown id in a column is a reject of the section, counted in the manifest too."""
    folder.settings["groups"]["members"] = {"column": "teams", "separator": ";"}
    folder.write("people", person(1, teams="T1;T8"), person(2, teams=7))
    manifest = folder.refresh()
    assert [(MEMBERS, "7", "groups", NO_GROUP), (MEMBERS, "T8", "groups", NO_GROUP)] == folder.rejects(manifest)
    assert [("7", "E2"), ("T8", "E1")] == folder.missing(manifest)
    assert 2 == manifest.related[MEMBERS].rejects
    assert 0 == manifest.rejects


@pytest.mark.parametrize(
    ("keys", "written"),
    [
        ((1, 2), ("1", " 2 ")),
        ((1.0, 2.0), (1, 2)),
        (("00000000-0000-4000-8000-00000000000a", "B"), ("00000000-0000-4000-8000-00000000000a", "B  ")),
    ],
)
def test_keys_of_other_kinds_meet(folder, keys, written):
    """source.users.key names the column of the key; numbers, texts and blanks around them make no difference."""
    folder.settings["source"]["users"]["key"] = "no"
    folder.write("people", person(1, no=keys[0]), person(2, no=keys[1]))
    folder.write("in_team", (written[0], "T1"), (written[1], "T2"))
    manifest = folder.refresh()
    assert [] == folder.rejects(manifest)
    assert (["E1"], ["E2"]) == (folder.members_of("T1"), folder.members_of("T2"))


def test_dangling_memberships(folder):
    """Unknown users and groups, NULL and blank keys are rejects with section and reason, and in no body."""
    folder.write("in_team", ("E1", "T1"), ("E9", "T1"), ("E1", "T9"), (None, "T1"), ("E2", None), ("E3", " "))
    manifest = folder.refresh()
    assert [
        (MEMBERS, "", "team", "the value is NULL or blank"),
        (MEMBERS, "", "team", "the value is NULL or blank"),
        (MEMBERS, "", "who", "the value is NULL or blank"),
        (MEMBERS, "E9", "groups", NO_USER),
        (MEMBERS, "T9", "groups", NO_GROUP),
    ] == folder.rejects(manifest)
    assert [("E9", "T1"), ("T9", "E1")] == folder.missing(manifest)
    assert 5 == outcome_counts(manifest, manifest.changes)["related_rejects"]
    assert (6, 5) == (manifest.related[MEMBERS].rows, manifest.related[MEMBERS].rejects)
    assert (["T1"], ["E1"]) == (folder.groups_of("E1"), folder.members_of("T1"))
    check_agreement(folder)


def test_dangling_subgroups(folder):
    """A nesting that names an unknown group on either side is a reject of its own section."""
    manifest = nest(folder, "flatten", ("T9", "T1"), ("T2", "T8"), ("T1", "T2")).refresh()
    reason = "no Group with this id is published"
    assert [
        ("groups.subgroups", "T8", "members", reason),
        ("groups.subgroups", "T9", "members", reason),
    ] == folder.rejects(manifest)
    assert [("T8", "T2"), ("T9", "T1")] == folder.missing(manifest)
    assert ["E1", "E2"] == folder.members_of("T2")


def test_any_order_of_rows_is_no_change(folder):
    """The same rows in any order, with duplicates among them, publish nothing."""
    nest(folder, "flatten", ("T1", "T2"))
    tables = {
        "people": [person(number, boss=f"E{(number * 7) % 20 + 1}") for number in range(1, 21)],
        "teams": [("T1", "Finance", None), ("T2", "Board", None), ("T2", "Bord", None), ("T2", "Board", None)],
        "in_team": [(f"E{number}", f"T{number % 3}") for number in range(30)] * 2,
        "has_license": [(f"E{number}", "L1") for number in range(25)] * 2,
        "licenses": [("L1", "Office", "B"), ("L1", "Office", "A")],
        "phones": [(f"E{number}", f"+{place}", "work", 0, None) for number in range(1, 5) for place in range(6)] * 2,
    }
    for name, rows in tables.items():
        folder.write(name, *rows)
    first = folder.refresh()
    for seed in range(5):
        shuffle = random.Random(seed).shuffle
        for name, rows in tables.items():
            shuffle(rows)
            folder.write(name, *rows)
        again = folder.refresh()
        assert first.generation == again.generation
    check_agreement(folder)
    assert ("groups", "T2", "id", "another row has the same id") in folder.rejects(first)
    assert ["Board"] == [x["displayName"] for x in folder.resources(GROUP).values() if x["id"] == "T2"]


def test_who_has_no_row_belongs_to_nothing(folder):
    """A tombstone is in no group, its memberships are rejects, and the group gets a new lastModified."""
    folder.refresh()
    before = folder.times(GROUP)
    folder.run("DELETE FROM people WHERE id = 'E2'")
    manifest = folder.refresh()
    check_agreement(folder)
    assert ([], False) == (folder.groups_of("E2"), folder.resources(USER)["E2"]["active"])
    assert [(MEMBERS, "E2", "groups", NO_USER)] == folder.rejects(manifest)
    assert before["T1"] == folder.times(GROUP)["T1"]
    assert before["T2"] < folder.times(GROUP)["T2"] == manifest.created_at
    folder.run("INSERT INTO people VALUES ('E2', 'user2@example.com', 'Name 2', 1, NULL, NULL, NULL)")
    folder.refresh()
    assert ["T2"] == folder.groups_of("E2")


def test_who_is_rejected_goes_on_belonging(folder):
    """A user whose row is rejected keeps content and groups, and groups that it gets now."""
    folder.refresh()
    before = folder.times(USER)
    folder.run("UPDATE people SET state = 'odd' WHERE id = 'E2'")
    manifest = folder.refresh()
    assert (1, 1, ChangeFacts()) == (manifest.rejects, manifest.kept, manifest.changes)
    assert ["E1", "E2"] == folder.members_of("T2")
    assert before["E2"] == folder.times(USER)["E2"]
    folder.run("INSERT INTO in_team VALUES ('E2', 'T1')")
    folder.refresh()
    assert ["T1", "T2"] == folder.groups_of("E2")
    check_agreement(folder)


def test_the_order_of_members_outlives_a_reject(folder):
    """Who is kept without a usable row stays in the same place among the members: no group is changed by it."""
    folder.write("in_team", *((f"E{number}", "T1") for number in (1, 2, 3)))
    folder.refresh()
    groups = folder.times(GROUP)
    folder.run("UPDATE people SET state = 'odd' WHERE id = 'E1'")
    manifest = folder.refresh()
    assert (1, ChangeFacts()) == (manifest.kept, manifest.type_changes[GROUP])
    assert (["E1", "E2", "E3"], groups) == (folder.members_of("T1"), folder.times(GROUP))


def test_who_was_never_published_is_no_member(folder):
    """A row that is rejected at once makes its memberships rejects."""
    folder.run("UPDATE people SET state = 'odd' WHERE id = 'E2'")
    manifest = folder.refresh()
    assert ["E1"] == folder.members_of("T2")
    assert [(MEMBERS, "E2", "groups", NO_USER)] == folder.rejects(manifest)


@pytest.mark.parametrize("column", ["id", "login"])
def test_duplicates_that_lost(folder, column):
    """Of two rows with one id or one userName only the one that stays belongs to anything."""
    folder.settings["source"]["users"]["key"] = "no"
    first, second = list(person(1, no="K1")), list(person(2, no="K2"))
    second[0 if column == "id" else 1] = first[0 if column == "id" else 1]
    folder.write("people", first, second).write("in_team", ("K1", "T1"), ("K2", "T2"))
    manifest = folder.refresh()
    check_agreement(folder)
    (kept,) = folder.resources(USER).values()
    (group,) = kept["groups"]
    lost = {"T1": "K2", "T2": "K1"}[group["value"]]
    # A row that another one of the same user took the place of is told itself.
    assert ([] if column == "id" else [(MEMBERS, lost, "groups", NO_USER)]) == folder.rejects(manifest)
    assert {f"{'userName' if column == 'login' else 'id'}": 1} == {
        reason.partition(":")[0]: count for reason, count in manifest.reject_reasons.items() if "another row" in reason
    }


def test_two_users_with_one_key(folder):
    """Two users that share a key both belong to what the key belongs to, and no order of rows changes anything."""
    folder.settings["source"]["users"]["key"] = "no"
    rows = [person(1, no="K"), person(2, no="K", boss="K"), person(3, no="K3", boss="K")]
    folder.write("people", *rows).write("in_team", ("K", "T1"))
    first = folder.refresh()
    check_agreement(folder)
    assert ["E1", "E2"] == folder.members_of("T1")
    folder.write("people", *reversed(rows))
    assert first.generation == folder.refresh().generation


def test_inactive_people_that_are_omitted(folder):
    """With on_inactive = omit an inactive person is no member and nobody's manager."""
    folder.settings["policy"] = {"on_inactive": "omit"}
    folder.write("people", person(1, boss="E2"), person(2, state=0), person(3))
    manifest = folder.refresh()
    assert (["E1"], [(MEMBERS, "E2", "groups", NO_USER)]) == (folder.members_of("T2"), folder.rejects(manifest))
    assert folder.manager_of("E1") is None
    check_agreement(folder)


def test_a_membership_moves_two_times_alone(folder):
    """A new membership gives that user and that group a new lastModified, and nobody else."""
    folder.refresh()
    users, groups = folder.times(USER), folder.times(GROUP)
    folder.run("INSERT INTO in_team VALUES ('E3', 'T1')")
    manifest = folder.refresh()
    assert (ChangeFacts(changed=1), ChangeFacts(changed=1)) == (manifest.changes, manifest.type_changes[GROUP])
    for version in ScimVersion:
        after = {key: item["meta"]["lastModified"] for key, item in folder.resources(USER, version).items()}
        assert {**users, "E3": manifest.created_at} == after
        after = {key: item["meta"]["lastModified"] for key, item in folder.resources(GROUP, version).items()}
        assert {**groups, "T1": manifest.created_at} == after
    assert [{"change": "changed", "type": "Group", "id": "T1", "displayName": "Finance"}] == folder.lines(
        manifest.generation, "related_changes.jsonl"
    )


def test_a_renamed_group_changes_its_members(folder):
    """A new displayName of a group is news of the group and of who is in it; a user's name of the groups it is in."""
    folder.refresh()
    folder.run("UPDATE teams SET name = 'Big board' WHERE id = 'T2'")
    manifest = folder.refresh()
    assert (ChangeFacts(changed=2), ChangeFacts(changed=1)) == (manifest.changes, manifest.type_changes[GROUP])
    check_agreement(folder)
    folder.run("UPDATE people SET name = 'Zoë' WHERE id = 'E1'")
    manifest = folder.refresh()
    assert (ChangeFacts(changed=1), ChangeFacts(changed=2)) == (manifest.changes, manifest.type_changes[GROUP])
    check_agreement(folder)


def test_an_unchanged_directory_publishes_nothing(folder):
    """A second refresh of the same tables keeps the generation; one dangling membership more is published as a reject."""
    first = folder.refresh()
    assert first.generation == folder.refresh().generation
    folder.run("INSERT INTO in_team VALUES ('E8', 'T1')")
    second = folder.refresh()
    assert (first.generation + 1, ChangeFacts()) == (second.generation, second.changes)


def test_groups_that_go_and_come(folder):
    """A group without a row is gone from the list and from its members; a new one is added."""
    folder.refresh()
    folder.write("teams", ("T1", "Finance", None), ("T3", "New", None))
    manifest = folder.refresh()
    assert ChangeFacts(added=1, removed=1) == manifest.type_changes[GROUP]
    assert ["T1", "T3"] == list(folder.resources(GROUP))
    assert ([], ["T1"]) == (folder.groups_of("E2"), folder.groups_of("E1"))
    assert [("added", "T3", "New"), ("removed", "T2", "Board")] == [
        (line["change"], line["id"], line["displayName"])
        for line in folder.lines(manifest.generation, "related_changes.jsonl")
    ]


def test_the_section_is_taken_away(folder):
    """Without [groups] users belong to nothing and the list is empty; with it again everything is back."""
    folder.refresh()
    groups = folder.settings.pop("groups")
    manifest = folder.refresh()
    assert ChangeFacts(removed=2) == manifest.type_changes[GROUP]
    assert ([], 0) == (folder.groups_of("E1"), folder.snapshot().count(GROUP))
    folder.settings["groups"] = groups
    assert ChangeFacts(added=2) == folder.refresh().type_changes[GROUP]
    check_agreement(folder)


ODD = [
    "a/b",
    'it\'s "quoted"',
    "Zoë Ünal",
    "100%25",
    "a b+c",
    "?x=1&y#z",
    "...",
    "\\",
    "\U0001d518",
    '{"value":"x"}',
    ',"type":"Group"',
]


def test_ids_that_need_quoting(folder):
    """Ids with slash, quotes, umlauts and % stand as they are in `value`, and percent-encoded in `$ref` and location."""
    folder.write("people", *((f"{odd}u", f"user{n}", odd, 1, None, None, None) for n, odd in enumerate(ODD)))
    folder.write("teams", *((odd, f"{odd}name", None) for odd in ODD))
    folder.write("in_team", *((f"{odd}u", odd) for odd in ODD))
    nest(folder, "keep", *((odd, ODD[0]) for odd in ODD[1:]))
    manifest = folder.refresh()
    assert [] == folder.rejects(manifest)
    check_agreement(folder)
    base = "https://scim.example.com/scim/v2"
    for odd in ODD:
        group = folder.resources(GROUP)[odd]
        assert f"{base}/Groups/{quote(odd, safe='')}" == group["meta"]["location"]
        assert f"{base}/Users/{quote(odd + 'u', safe='')}" == group["members"][0]["$ref"]
        assert f"{base}/Groups/{quote(odd, safe='')}" in [
            x["$ref"] for x in folder.resources(USER)[f"{odd}u"]["groups"]
        ]
    assert [f"{base}/Groups/{quote(x['value'], safe='')}" for x in folder.resources(GROUP)[ODD[0]]["members"][1:]] == [
        x["$ref"] for x in folder.resources(GROUP)[ODD[0]]["members"][1:]
    ]
    folder.run("UPDATE people SET state = 'odd'")
    assert ChangeFacts() == folder.refresh().changes


def test_external_id_and_description(folder):
    """externalId is core; a description stands in Okta's extension, and an extension of one's own beside it."""
    urn = "urn:okta:acme:1.0:group:custom"
    folder.settings["groups"] |= {"externalId": "name", "description": "about", urn: {"size": {"column": "about"}}}
    folder.write("teams", ("T1", "Finance", "Money"), ("T2", "Board", None)).refresh()
    group = folder.resources(GROUP)["T1"]
    assert ("Finance", {"description": "Money"}, {"size": "Money"}) == (
        group["externalId"], group["urn:okta:custom:group:1.0"], group[urn]
    )  # fmt: skip
    assert ["urn:ietf:params:scim:schemas:core:2.0:Group"] == folder.resources(GROUP)["T2"]["schemas"]
    first = folder.times(GROUP)
    folder.run("UPDATE teams SET about = 'Much money' WHERE id = 'T1'")
    manifest = folder.refresh()
    assert (ChangeFacts(), ChangeFacts(changed=1)) == (manifest.changes, manifest.type_changes[GROUP])
    assert first["T2"] == folder.times(GROUP)["T2"]


@pytest.mark.parametrize("damage", ["index", "manifest"])
def test_times_outlive_a_damaged_generation(folder, damage):
    """Users, groups and entitlements keep created and lastModified when the index or the manifest is lost."""
    folder.settings["groups"] |= {"description": "about"}
    folder.write("teams", ("T1", "Finance", "Money"), ("T2", "Board", None))
    folder.write("licenses", ("L1", "Office", None)).write("has_license", ("E1", "L1"))
    folder.write("phones", ("E1", "+1", "work", 0, 1))
    nest(folder, "keep", ("T1", "T2"))
    folder.run("UPDATE people SET boss = 'E2' WHERE id = 'E1'").refresh()
    folder.run("UPDATE teams SET name = 'Bosses' WHERE id = 'T2'")
    second = folder.refresh()
    types = (USER, GROUP, "License")
    before = [folder.times(name) for name in types]
    path = folder.data_dir / "generations" / f"{second.generation:08}"
    if damage == "index":
        (path / "index.sqlite").write_bytes(b"no database")
    else:
        (path / "manifest.json").write_text(json.dumps({"generation": 2}))
    third = folder.refresh()
    assert second.generation < third.generation
    assert (ChangeFacts(), dict.fromkeys(("Group", "License", "Role"), ChangeFacts())) == (
        third.changes,
        third.type_changes,
    )
    assert before == [folder.times(name) for name in types]
    check_agreement(folder)


def test_damaged_groups_cost_nobody_else_anything(folder):
    """If neither index nor the bodies of groups can be read, groups are new; users keep their times."""
    first = folder.refresh()
    users = folder.times(USER)
    path = folder.data_dir / "generations" / f"{first.generation:08}"
    (path / "index.sqlite").unlink()
    (path / "Group.2.0.json").write_bytes(b"{}")
    second = folder.refresh()
    assert (ChangeFacts(), ChangeFacts(added=2)) == (second.changes, second.type_changes[GROUP])
    assert (users, {"T1": second.created_at, "T2": second.created_at}) == (folder.times(USER), folder.times(GROUP))


def test_filters_know_both_directions(folder):
    """Groups are found by member, users by group, with names compared without case."""
    nest(folder, "keep", ("T1", "T2")).refresh()
    snapshot = folder.snapshot()
    for resource_type, text, expected in (
        (USER, 'groups eq "T2"', ["E1", "E2"]),
        (USER, 'groups[type eq "direct" and display eq "finance"]', ["E1"]),
        (USER, "not (groups pr)", ["E3"]),
        (GROUP, 'members eq "E2"', ["T2"]),
        (GROUP, 'members[type eq "group"]', ["T2"]),
        (GROUP, 'members.display eq "NAME 1"', ["T1", "T2"]),
        (GROUP, 'members eq "T1"', ["T2"]),
    ):
        ids = list(folder.resources(resource_type))
        assert expected == [ids[ordinal] for ordinal in snapshot.select(resource_type, parse_filter(text))], text
