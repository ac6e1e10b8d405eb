"""Members of groups: found by filters, and the same as long as nobody comes or goes."""

from __future__ import annotations

import json

import pytest
from people_folder import PeopleFolder, people

from snapshot.filter import parse_filter
from snapshot.scim import GROUP, ScimVersion


@pytest.fixture
def teams(folder) -> PeopleFolder:
    """Two groups: 1 with everybody, 2 with the second user."""
    folder.settings["groups"] = {
        "table": "teams",
        "id": "id",
        "displayName": "name",
        "members": {"table": "in_team", "group": "team", "user": "person"},
    }
    folder.fill(people(3))
    with folder.open() as database:
        database.executescript("""
            CREATE TABLE teams (id, name);
            INSERT INTO teams VALUES (1, 'Everybody'), (2, 'Two');
            CREATE TABLE in_team (person, team);
            INSERT INTO in_team SELECT id, 1 FROM people;
            INSERT INTO in_team VALUES ('E00002', 2);
        """)
    folder.refresh()
    return folder


def groups_of(folder: PeopleFolder) -> list[dict]:
    snapshot = folder.snapshot()
    body = bytes(snapshot.resources(GROUP, ScimVersion.V2_0, 0, snapshot.count(GROUP)))
    return json.loads(b"[" + body + b"]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('members.value eq "E00002"', [0, 1]),
        ('members.display sw "USER1@"', [0]),
        ('members[value eq "E00003" and type eq "user"]', [0]),
        ('members.type eq "Group"', []),
        ("members pr", [0, 1]),
    ],
)
def test_members_are_found_where_users_have_no_name_but_user_name(teams, text, expected):
    """Neither displayName nor name.formatted is mapped: members go by userName, and filters find them so."""
    assert expected == list(teams.snapshot().select(GROUP, parse_filter(text, ())))


def test_a_member_whose_row_is_rejected_does_not_change_its_group(teams):
    """Somebody who is kept as last published stays at the same place among the members: the group keeps its time."""
    before = groups_of(teams)
    assert ["E00001", "E00002", "E00003"] == [member["value"] for member in before[0]["members"]]
    with teams.open() as database:
        database.execute("UPDATE people SET state = 7 WHERE id = 'E00001'")
        database.execute("UPDATE people SET mail = 'new@example.com' WHERE id = 'E00002'")
    assert 1 == teams.refresh().kept
    assert before == groups_of(teams)
