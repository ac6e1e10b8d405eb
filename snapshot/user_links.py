"""What the row of a user says about other resources: its key, its manager, groups and entitlements in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from snapshot.canonical import canonical
from snapshot.compiler import Compiler
from snapshot.convert import to_text
from snapshot.errors import MappingError, RejectError
from snapshot.relation_rows import key_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from snapshot.config import Config
    from snapshot.related import Assignments, Members
    from snapshot.relations import Relations
    from snapshot.scim import Resource

    Row = Sequence[Any]


class Incomplete(NamedTuple):
    """A user as its row alone says, the number of the row, and the keys of the user and of the manager."""

    row: int
    resource: Resource
    key: str
    manager_key: str | None


class UserLinks:
    """Reads these columns row by row, and completes users with what Relations hold."""

    def __init__(
        self, config: Config, relations: Relations, columns: Sequence[str], stays: Callable[[str], bool]
    ) -> None:
        """Find the columns; MappingError if the users query does not send one.

        `stays` tells of an id whether its user goes on being published though the row is rejected.
        """
        self._relations = relations
        self._stays = stays
        self._key_column = config.source.users.key
        self._shows_inactive = config.policy.on_inactive == "send"
        self._key, self._manager, self._groups, self._assigned = _find(config, columns)
        self._people: list[tuple[str, str, str | None]] = []
        self._members: list[tuple[str, str]] = []

    def begin(self, place: int, row: Row, resource: Resource) -> Incomplete:
        """Take what the row says beside the user itself; RejectError if it has no key."""
        key = self._key_of(row, resource.id)
        manager = None if self._manager is None else _texts(row[self._manager], "")
        # Who is left out is nobody's manager.
        is_shown = resource.active or self._shows_inactive
        self._note(row, key, resource.id, display_of(resource.core), is_shown=is_shown)
        return Incomplete(place, resource, key, manager[0] if manager else None)

    def note_reject(self, row: Row, resource_id: str, display: str | None) -> None:
        """Take the same of a row that is rejected; a user who is published nevertheless may be somebody's manager."""
        try:
            if resource_id:
                key, is_shown = self._key_of(row, resource_id), self._stays(resource_id)
                self._note(row, key, resource_id, display, is_shown=is_shown)
        except RejectError:
            pass  # it belongs to nothing then

    def flush(self) -> None:
        """Write what was taken."""
        self._relations.add_people(self._people)
        self._relations.add_members(self._members)
        self._people.clear()
        self._members.clear()

    def complete(self, user: Incomplete) -> Resource:
        """Return the user with groups, entitlements, manager and further values."""
        resource = self._relations.complete(user.resource, user.key, user.manager_key)
        return canonical(resource) if self._relations.changes_order else resource

    def _key_of(self, row: Row, resource_id: str) -> str:
        return key_text(resource_id if self._key is None else row[self._key], self._key_column or "id")

    def _note(self, row: Row, key: str, resource_id: str, display: str | None, *, is_shown: bool) -> None:
        if is_shown:
            self._people.append((key, resource_id, display))
        if self._groups is not None:
            place, separator = self._groups
            self._members += [(key, text) for text in _texts(row[place], separator)]
        for name, (place, separator) in self._assigned:
            texts = _texts(row[place], separator)
            if texts:
                self._relations.add_assignments(name, [(key, text) for text in texts])


class _Places(NamedTuple):
    """Where the columns stand: of the key, of the manager's key, of ids of groups, of ids of entitlements by type."""

    key: int | None
    manager: int | None
    groups: tuple[int, str] | None
    assigned: list[tuple[str, tuple[int, str]]]


def _find(config: Config, columns: Sequence[str]) -> _Places:
    compiler = Compiler(columns, config.source.timezone, config.where, "source.users")
    key, manager = config.source.users.key, config.mapping.manager_key
    members = config.groups.members if config.groups is not None else None
    found = _Places(
        compiler.place(key, "key") if key else None,
        compiler.place(manager, "manager") if manager else None,
        _listed(compiler, members, "groups.members.column"),
        [
            (item.name, listed)
            for item in config.entitlements
            if (listed := _listed(compiler, item.assignments, f"entitlements.{item.name}.assignments.column"))
        ],
    )
    if compiler.problems:
        raise MappingError(compiler.problems)
    return found


def check_columns(config: Config, columns: Sequence[str]) -> None:
    """Raise MappingError unless the users query sends the columns that name other resources."""
    _find(config, columns)


def _listed(compiler: Compiler, pairs: Members | Assignments | None, attribute: str) -> tuple[int, str] | None:
    """Return the place of a column that holds ids, and what separates them."""
    if pairs is None or not pairs.column:
        return None
    place = compiler.place(pairs.column, attribute)
    return None if place is None else (place, pairs.separator)


def _texts(value: Any, separator: str) -> list[str]:
    """Return the ids in one value; text that is no valid Unicode is none."""
    text = "" if value is None else to_text(value).encode("utf-8", "ignore").decode()
    parts = text.split(separator) if separator else [text]
    return [part for item in parts if (part := item.strip())]


def display_of(core: dict[str, Any]) -> str:
    """Return the name by which others show a user."""
    name = core.get("name")
    return str(core.get("displayName") or (name.get("formatted") if name else None) or core["userName"])
