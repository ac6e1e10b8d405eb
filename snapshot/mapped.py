"""MappedBlock: what a block of rows became."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

# The rows of the table of one multi-valued attribute, as columns: places of the users in their block, then the values.
Entries = list[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row of a block that cannot be a user; `place` counts from 0."""

    place: int
    id: str
    attribute: str
    reason: str


@dataclass(frozen=True, slots=True)
class IndexColumns:
    """What the index holds of users: `keys` are its columns, `entries` the rows of each multi-valued attribute."""

    keys: list[Sequence[Any]]
    entries: list[Entries]


@dataclass(slots=True)
class MappedBlock:
    """The users of a block, each list in the order of the rows.

    `core` and `tail` are the parts of the shared JSON (`Encoded`), without its first brace. `created` is a mapped
    meta.created in ms. `indexed` makes the columns of the index, for those who are written anew.
    """

    size: int
    ids: list[str]
    user_names: list[str]
    active: list[bool]
    created: list[int | None] | None
    urns: list[tuple[str, ...]]
    core: list[bytes]
    tail: list[bytes]
    ids_as_json: list[bytes]
    indexed: Callable[[], IndexColumns]
    rejects: list[RejectedRow] = field(default_factory=list)
