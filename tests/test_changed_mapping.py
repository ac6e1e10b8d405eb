"""A mapping that changes beside custom lists: the guard looks at the same attribute on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from people_folder import PeopleFolder

from snapshot.errors import PublishRefusedError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

URN = "urn:okta:acme:1.0:user:custom"
COLUMNS = "id, login, mail, state, extra"
A, B = {"a": [{"column": "extra"}]}, {"b": [{"column": "mail"}]}


def rows(mail: str | None, extra: str | None) -> list[tuple[Any, ...]]:
    return [(f"E{number:03d}", f"user{number}", mail, 1, extra) for number in range(100)]


@pytest.fixture
def folder(tmp_path: Path) -> PeopleFolder:
    made = PeopleFolder(tmp_path)
    made.settings["guard"] = {"enabled": True, "max_changed_percent": 100.0}
    del made.settings["mapping"]["emails"]
    return made


def refresh(folder: PeopleFolder, mapped: dict[str, Any], people: list[tuple[Any, ...]]) -> int:
    folder.settings["mapping"][URN] = mapped
    folder.fill(people, COLUMNS)
    return folder.refresh().generation


@pytest.mark.parametrize(
    ("before", "mapped", "people"),
    [
        (B, A | B, rows("m", None)),  # the new list is empty, the old one is as it was
        (B, A | B, rows("n", None)),
        (A | B, B, rows("m", "x")),  # a list is mapped no longer
        (B, {"b": "mail"}, rows("m", None)),  # a list becomes a single value, and back
        ({"b": "mail"}, B, rows("m", None)),
    ],
)
def test_lists_that_come_and_go(folder, before, mapped, people):
    """A list that stays filled is not taken for another one that is empty, nor looked for where it was."""
    assert 1 == refresh(folder, before, rows("m", "x"))
    assert 2 == refresh(folder, mapped, people)


def test_a_further_attribute(folder):
    """An attribute of its own beside a list is no damage of the generation before."""
    refresh(folder, B, rows("m", None))
    folder.settings["mapping"]["nickName"] = "login"
    assert 2 == folder.refresh().generation
    assert ["m"] == folder.users()[0][URN]["b"]


@pytest.mark.parametrize(("before", "mapped"), [(B, B), (B, A | B), (A | B, B), (B, {"b": "mail"}), ({"b": "mail"}, B)])
def test_an_emptied_list(folder, before, mapped):
    """A list that is suddenly empty is noticed, also behind another one that is filled."""
    refresh(folder, before, rows("m", "x"))
    with pytest.raises(PublishRefusedError, match="b was filled for 100 users and is now empty for 100"):
        refresh(folder, mapped, rows(None, "x"))


def test_the_last_of_many_types_is_emptied(folder):
    """Of many types of one attribute those are watched that somebody had who differs, not the first of all."""
    columns = [f"m{number:02d}" for number in range(30)]
    folder.settings["mapping"]["emails"] = [{"value": name, "type": f"t{name}"} for name in columns]

    def people(last: str | None) -> list[tuple[Any, ...]]:
        # Half of them have every type but the last and stay as they are; the others have nothing but the last.
        rich = [(f"A{number:03d}", f"rich{number}", 1, *["x@example.com"] * 29, None) for number in range(50)]
        return rich + [(f"B{number:03d}", f"poor{number}", 1, *[None] * 29, last) for number in range(50)]

    folder.fill(people("y@example.com"), ", ".join(("id", "login", "state", *columns)))
    assert 1 == folder.refresh().generation
    folder.fill(people(None), ", ".join(("id", "login", "state", *columns)))
    with pytest.raises(PublishRefusedError, match=r'emails\[type eq "tm29"\] was filled for 50 users'):
        folder.refresh()


def test_index_and_bodies_that_hold_different_people(folder, monkeypatch):
    """A generation whose parts do not agree on how many people there are is not published."""
    monkeypatch.setattr("snapshot.refresh.count_users", lambda _path: (99, 99, 0))
    folder.fill(rows("m", "x"), COLUMNS)
    with pytest.raises(StoreError, match="The index holds 99 users, the bodies hold 100"):
        folder.refresh()
    assert not (folder.data_dir / "CURRENT").exists()
