"""A mapping that changes beside custom lists: the guard looks at the same attribute on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from people_folder import PeopleFolder

from snapshot.errors import PublishRefusedError

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
