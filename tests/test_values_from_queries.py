"""Values of multi-valued attributes from queries, and managers from their own rows, over whole refreshes."""

from __future__ import annotations

import pytest
from related_folder import RelatedFolder, person

from snapshot.scim import ENTERPRISE_1_1, ENTERPRISE_2_0, USER, ScimVersion
from snapshot.store import ChangeFacts

URN = "urn:okta:acme_hr_1:1.0:user:custom"
PHONES = "mapping.phoneNumbers[1]"
NO_USER = "no user with this key is published"


@pytest.fixture
def folder(tmp_path):
    """Three people; the phones of E1 come out of order."""
    made = RelatedFolder(tmp_path)
    made.write("people", person(1, boss="E2"), person(2, boss="E3"), person(3))
    return made.write("phones", ("E1", "+3", "home", 0, 3), ("E1", "+1", "work", 0, 1), ("E1", "+2", "mobile", 1, 2))


def phones(folder: RelatedFolder, user: str = "E1") -> list[tuple]:
    return [
        (item["value"], item.get("type"), item.get("primary", False))
        for item in folder.resources(USER)[user].get("phoneNumbers", [])
    ]


def test_order_type_and_primary(folder):
    """Values stand in the order of `order`; the one that is said to be primary alone is."""
    folder.refresh()
    assert [("+1", "work", False), ("+2", "mobile", True), ("+3", "home", False)] == phones(folder)
    assert [] == phones(folder, "E2")


@pytest.mark.parametrize(("flags", "primary"), [((0, 0), "+1"), ((1, 1), "+1"), ((0, 1), "+2"), ((None, "x"), None)])
def test_primary_is_exactly_one(folder, flags, primary):
    """None is said to be primary: the first is. Several are: the first of them. A flag that is none: a reject."""
    folder.write("phones", ("E1", "+1", "work", flags[0], 1), ("E1", "+2", "work", flags[1], 2))
    manifest = folder.refresh()
    found = phones(folder)
    if primary is None:
        assert [("+1", "work", True)] == found
        ((section, _, attribute, _),) = folder.rejects(manifest)
        assert (PHONES, "phoneNumbers.primary") == (section, attribute)
        return
    if len(found) > 1:
        assert [primary] == [value for value, _, is_primary in found if is_primary]


def test_entries_that_say_the_same(folder):
    """An entry that stands there twice is sent once, and is preferred if either row says so."""
    folder.write("phones", ("E1", "+1", "work", 0, 1), ("E1", "+1", "work", 1, 9), ("E1", "+2", "work", 0, 2)).refresh()
    assert [("+1", "work", True), ("+2", "work", False)] == phones(folder)


def test_another_display_is_no_other_entry(folder):
    """Rows with the same type and value are one entry whatever else they say: that of the first."""
    folder.settings["mapping"]["phoneNumbers"][0]["display"] = "place"
    folder.write("phones", ("E1", "+1", "work", 1, 9), ("E1", "+1", "work", 0, 2)).refresh()
    assert [("+1", "work", True)] == phones(folder)
    assert "2" == folder.resources(USER)["E1"]["phoneNumbers"][0]["display"]


def test_dangling_and_empty_values(folder):
    """Rows for nobody and rows without a key are rejects of their own section; rows without a value say nothing."""
    folder.write("phones", ("E9", "+9", "work", 0, 1), (None, "+8", "work", 0, 1), ("E1", None, "work", 0, 1))
    manifest = folder.refresh()
    assert [
        (PHONES, "", "who", "the value is NULL or blank"),
        (PHONES, "E9", "phoneNumbers", NO_USER),
    ] == folder.rejects(manifest)
    assert (3, 2) == (manifest.related[PHONES].rows, manifest.related[PHONES].rejects)
    assert [] == phones(folder)


def test_values_of_the_row_come_first(folder):
    """Columns of the row and two queries make one list: the row, then query by query."""
    entry = folder.settings["mapping"]["phoneNumbers"][0]
    second = {"query": "SELECT id AS who, no FROM people", "user": "who", "value": "no", "type": "fax"}
    folder.settings["mapping"]["phoneNumbers"] = [second, {"value": "teams", "type": "work"}, entry]
    folder.write("people", person(1, no="+0", teams="+7"), person(2, no="+5"))
    manifest = folder.refresh()
    assert ["+7", "+0", "+1", "+2", "+3"] == [value for value, _, _ in phones(folder)]
    assert {"mapping.phoneNumbers[1]", "mapping.phoneNumbers[3]"} <= manifest.related.keys()
    assert [("+5", "fax")] == [(value, kind) for value, kind, _ in phones(folder, "E2")]


@pytest.mark.parametrize(
    "kind", ["work", {"column": "kind", "case": "lower"}, {"column": "kind", "values": {"H": "home"}}]
)
def test_rules_of_a_type(folder, kind):
    """`type` is a fixed text, or a rule over the row of the query."""
    folder.settings["mapping"]["phoneNumbers"][0]["type"] = kind
    folder.write("phones", ("E1", "+1", "H", 0, 1)).refresh()
    wanted = {"work": "work"}.get(kind) if isinstance(kind, str) else ("h" if "case" in kind else "home")
    assert [("+1", wanted)] == [(value, found) for value, found, _ in phones(folder)]


def test_addresses_from_a_query(folder):
    """Addresses have several columns each, and the type of their row."""
    folder.settings["mapping"]["addresses"] = [
        {
            "table": "homes", "user": "who", "streetAddress": "{street} {house}", "locality": "city",
            "type": {"column": "kind"}, "primary": "main",
        }
    ]  # fmt: skip
    folder.write(
        "homes", ("E1", "Rue", 7, "Nice", "other", 0), ("E1", "Weg", 1, "Bern", "home", 1), ("E1", None, None, None, "work", 0),
        columns="who, street, house, city, kind, main",
    ).refresh()  # fmt: skip
    assert [
        {"streetAddress": "Rue 7", "locality": "Nice", "type": "other"},
        {"streetAddress": "Weg 1", "locality": "Bern", "type": "home", "primary": True},
    ] == folder.resources(USER)["E1"]["addresses"]


def test_a_list_of_ones_own(folder):
    """A custom list comes from a query, sorted, each text once; it goes when the rows go."""
    folder.settings["mapping"][URN] = {
        "skills": [{"column": "teams", "separator": ";"}, {"table": "licenses", "user": "id", "column": "name"}]
    }
    folder.write("people", person(1, teams="b; a;b"), person(2))
    folder.write("licenses", ("E1", "c", None), ("E1", "a", None), ("E2", "z", None)).refresh()
    assert {"skills": ["b", "a", "c"]} == folder.resources(USER)["E1"][URN]
    folder.write("licenses").refresh()
    assert {"skills": ["b", "a"]} == folder.resources(USER)["E1"][URN]
    assert URN not in folder.resources(USER)["E2"]
    assert URN not in folder.resources(USER)["E2"]["schemas"]


def test_whose_row_is_rejected_keeps_the_values(folder):
    """A user whose row is rejected keeps phones and manager as they were; a tombstone does too."""
    folder.refresh()
    before = folder.resources(USER)["E1"]
    folder.run("UPDATE people SET state = 'odd' WHERE id = 'E1'")
    assert ChangeFacts() == folder.refresh().changes
    assert before == folder.resources(USER)["E1"]
    folder.run("DELETE FROM people WHERE id = 'E1'")
    folder.refresh()
    after = folder.resources(USER)["E1"]
    assert (before["phoneNumbers"], before[ENTERPRISE_2_0]) == (after["phoneNumbers"], after[ENTERPRISE_2_0])


def test_a_value_moves_one_time_alone(folder):
    """A phone more gives that user a new lastModified, and nobody else."""
    folder.refresh()
    users = folder.times(USER)
    folder.run("INSERT INTO phones VALUES ('E3', '+9', 'work', 0, 1)")
    manifest = folder.refresh()
    assert {**users, "E3": manifest.created_at} == folder.times(USER)


# Managers


def test_managers_in_both_versions(folder):
    """2.0 has value, $ref and displayName; 1.1 has managerId and no $ref."""
    folder.refresh()
    ref = "https://scim.example.com/scim/v2/Users/E2"
    assert {"value": "E2", "$ref": ref, "displayName": "Name 2"} == folder.manager_of("E1")
    old = folder.resources(USER, ScimVersion.V1_1)["E1"][ENTERPRISE_1_1]
    assert {"managerId": "E2", "displayName": "Name 2"} == old["manager"]
    assert ENTERPRISE_2_0 not in folder.resources(USER)["E3"]


@pytest.mark.parametrize("reverse", [False, True])
def test_managers_in_any_order(folder, reverse):
    """A manager's row may come before or after; a circle and oneself as manager are sent as they are."""
    rows = [person(1, boss="E2"), person(2, boss="E1"), person(3, boss="E3"), person(4, boss="E9"), person(5, boss=" ")]
    manifest = folder.write("people", *(reversed(rows) if reverse else rows)).refresh()
    managers = [folder.manager_of(f"E{number}") for number in range(1, 6)]
    assert ["E2", "E1", "E3", None, None] == [item and item["value"] for item in managers]
    assert [] == folder.rejects(manifest)


def test_a_manager_by_another_key(folder):
    """The manager's column holds source.users.key; the id comes from the manager's own row."""
    folder.settings["source"]["users"]["key"] = "no"
    folder.write("people", person(1, no=11, boss="12"), person(2, no="12", boss=11.0))
    folder.write("phones", (11, "+1", "work", 0, 1)).refresh()
    assert ("E2", "E1") == tuple(folder.manager_of(user)["value"] for user in ("E1", "E2"))
    assert ["+1"] == [value for value, _, _ in phones(folder)]


def test_a_renamed_manager_is_news_of_the_reports(folder):
    """displayName follows the manager's row, and moves the time of the direct reports alone."""
    folder.refresh()
    users = folder.times(USER)
    folder.run("UPDATE people SET name = 'Zoë' WHERE id = 'E3'")
    manifest = folder.refresh()
    assert {**users, "E2": manifest.created_at, "E3": manifest.created_at} == folder.times(USER)
    assert "Zoë" == folder.manager_of("E2")["displayName"]


def test_a_managers_row_is_rejected(folder):
    """A manager whose row is rejected goes on being named, if it goes on being published."""
    folder.refresh()
    folder.run("UPDATE people SET state = 'odd' WHERE id = 'E2'")
    assert ChangeFacts() == folder.refresh().changes
    assert "E2" == folder.manager_of("E1")["value"]


def test_a_manager_who_was_never_published(folder):
    """A manager whose row is rejected from the beginning, or is gone, is named by nobody."""
    folder.run("UPDATE people SET state = 'odd' WHERE id = 'E2'")
    folder.refresh()
    assert folder.manager_of("E1") is None
    folder.run("DELETE FROM people WHERE id = 'E2'")
    folder.refresh()
    assert folder.manager_of("E1") is None


def test_a_rejected_manager_who_would_be_removed(folder):
    """With on_rejected = remove a rejected manager is named by nobody."""
    folder.settings["policy"] = {"on_rejected": "remove"}
    folder.refresh()
    folder.run("UPDATE people SET state = 'odd' WHERE id = 'E2'")
    folder.refresh()
    assert folder.manager_of("E1") is None


def test_who_has_no_key_belongs_to_nothing(folder):
    """A row without the key of source.users.key is a reject."""
    folder.settings["source"]["users"]["key"] = "no"
    manifest = folder.write("people", person(1, no=None), person(2, no="2")).write("phones").refresh()
    assert ["E2"] == list(folder.resources(USER))
    assert {"no: the value is NULL or blank": 1} == manifest.reject_reasons
