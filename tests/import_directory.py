"""What the source holds, what a generation must hold after it, and what each list of it shows: plain Python, no product.

Users, groups and licenses. The rules are those of docs/operations.md (policy) and docs/mapping.md (groups, roles and
entitlements): a member is somebody who is published and has a row, `groups` of a user is the other side of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from snapshot.encode import time_text
from snapshot.scim import GROUP, USER, ScimVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

LICENSE = "License"
# In the order of a list over all of them; SCIM 1.1 has no licenses.
TYPES = {ScimVersion.V1_1: (USER, GROUP), ScimVersion.V2_0: (USER, GROUP, LICENSE)}
ACTIVE, INACTIVE, UNREADABLE = "A", "T", "?"
# Where the marker is.
DEPARTMENT = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department"

# (value, display) in the order of both, so that nothing is there twice unnoticed
Links = tuple[tuple[str, str], ...]


class Row(NamedTuple):
    """One row of the users query. The marker tells when it was last changed; UNREADABLE states are rejects."""

    marker: str
    state: str = ACTIVE


@dataclass(slots=True)
class Source:
    """Every table. Memberships and assignments may name who or what is not there."""

    people: dict[str, Row] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    licenses: dict[str, str] = field(default_factory=dict)
    members: set[tuple[str, str]] = field(default_factory=set)
    assigned: set[tuple[str, str]] = field(default_factory=set)

    def copy(self) -> Source:
        return Source(dict(self.people), dict(self.groups), dict(self.licenses), set(self.members), set(self.assigned))


class User(NamedTuple):
    """A user as a client reads it."""

    id: str
    name: str
    marker: str
    active: bool
    modified: str
    groups: Links = ()
    licenses: Links = ()


class Group(NamedTuple):
    """A group as a client reads it."""

    id: str
    name: str
    modified: str
    members: Links = ()


class License(NamedTuple):
    """A license as a client reads it."""

    id: str
    name: str
    modified: str


Resource = User | Group | License


@dataclass(frozen=True, slots=True)
class ListName:
    """A list: in which version, of which type ("": all), with which filter (as text, and as a function), in which order.

    `sort` is the value of sortBy, always userName or displayName; a minus before it: descending.
    """

    version: ScimVersion
    resource_type: str
    filter: str | None = None
    is_import: bool = True
    sort: str = ""
    takes: Callable[[Resource], bool] = field(default=lambda _item: True, compare=False)

    @property
    def key(self) -> str:
        return f"{self.resource_type} {self.filter} {self.sort}"

    @property
    def is_whole(self) -> bool:
        """Whether it is one resource type, all of it."""
        return self.is_import and self.filter is None

    def shown(self, item: Resource) -> Resource:
        """Return a resource as the version shows it."""
        if isinstance(item, User) and self.version is ScimVersion.V1_1:
            return item._replace(licenses=())
        return item


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """The exact content of one generation, by type. The order of an unsorted list is what the pages say, and stays."""

    number: int
    time: str
    resources: dict[str, tuple[Resource, ...]]
    removed: frozenset[str] = frozenset()
    # Who was seen at which place of a list.
    places: dict[ListName, dict[int, Resource]] = field(default_factory=dict)

    def check(self, name: ListName, start: int, count: int, total: int, page: tuple[Resource, ...]) -> None:
        """Compare a page with the generation: everything is in the list, and always at the same place of it."""
        expected = self.select(name)
        assert len(expected) == total
        assert max(min(count, total + 1 - start), 0) == len(page)
        assert not set(page) - set(expected)
        places = self.places.setdefault(name, {})
        for place, resource in enumerate(page, start):
            assert resource == places.setdefault(place, resource)
        assert len(places) == len(set(places.values()))
        if name.sort:
            ordered = sorted((item.name for item in expected), reverse=name.sort.startswith("-"))
            assert ordered[start - 1 : start - 1 + len(page)] == [item.name for item in page]

    def select(self, name: ListName) -> tuple[Resource, ...]:
        types = (name.resource_type,) if name.resource_type else TYPES[name.version]
        return tuple(name.shown(item) for kind in types for item in self.resources[kind] if name.takes(item))


def published_after(source: Source, before: Generation | None, number: int, created_ms: int) -> Generation:
    """Return the generation that these rows must become after the one before."""
    time = time_text(created_ms).decode("ascii")
    known = {
        kind: {item.id: item for item in before.resources[kind]} if before else {} for kind in (USER, GROUP, LICENSE)
    }
    gone = before.removed if before else frozenset()
    users, removed = _users(source, known[USER], gone, time)
    present = {item.id: item.name for item in users.values() if item.id not in removed}
    groups = [
        Group(
            key,
            name,
            time,
            links((user, present[user]) for user, group in source.members if group == key and user in present),
        )
        for key, name in source.groups.items()
    ]
    licenses = [License(key, name, time) for key, name in source.licenses.items()]
    found: dict[str, Iterable[Resource]] = {
        USER: users.values(),
        GROUP: (_as_before(item, known[GROUP]) for item in groups),
        LICENSE: (_as_before(item, known[LICENSE]) for item in licenses),
    }
    resources = {kind: tuple(sorted(items, key=lambda item: (len(item.id), item.id))) for kind, items in found.items()}
    return Generation(number, time, resources, frozenset(removed))


def _users(
    source: Source, known: Mapping[str, User], gone: frozenset[str], time: str
) -> tuple[dict[str, User], set[str]]:
    """Return who is published, and who of them has no row."""
    users, removed = {}, set()
    for key, row in source.people.items():
        old = known.get(key)
        if row.state == UNREADABLE and (old is None or key in gone):
            if old is not None:  # who was removed stays so until there is a row that can be read
                users[key] = old
                removed.add(key)
            continue
        new = User(key, user_name(key), row.marker, row.state == ACTIVE, time)
        if row.state == UNREADABLE:  # kept as published before, but for what it belongs to now
            new = old._replace(modified=time)
        new = new._replace(
            groups=_named(key, source.members, source.groups), licenses=_named(key, source.assigned, source.licenses)
        )
        users[key] = new if key in gone else _as_before(new, known)
    for key, old in known.items():
        if key not in source.people:
            users[key] = old if key in gone else old._replace(active=False, modified=time, groups=(), licenses=())
            removed.add(key)
    return users, removed


def _as_before(new: Resource, known: Mapping[str, Resource]) -> Resource:
    """Return the resource with the time of what was published before, if it says the same."""
    old = known.get(new.id)
    return old if old is not None and new._replace(modified=old.modified) == old else new


def _named(key: str, pairs: set[tuple[str, str]], names: Mapping[str, str]) -> Links:
    return links((other, names[other]) for who, other in pairs if who == key and other in names)


def links(pairs: Iterable[tuple[str, str]]) -> Links:
    return tuple(sorted(pairs))


def check_closed(seen: Mapping[str, Iterable[Resource]]) -> None:
    """Check that what one import read of every type fits together: nothing dangles, and both directions agree."""
    users = {item.id: item for item in seen[USER]}
    groups = {item.id: item for item in seen[GROUP]}
    members = {(user, group.id, shown) for group in groups.values() for user, shown in group.members}
    assert {(user, group, users[user].name) for user, group, _ in members} == members
    of_users = {(user.id, group, shown) for user in users.values() for group, shown in user.groups}
    assert {(user, group, groups[group].name) for user, group, _ in of_users} == of_users
    assert {pair[:2] for pair in members} == {pair[:2] for pair in of_users}
    if LICENSE in seen:
        names = {item.id: item.name for item in seen[LICENSE]}
        assert all(names[key] == shown for user in users.values() for key, shown in user.licenses)


def user_name(person_id: str) -> str:
    return f"{person_id.lower()}@example.com"


def changed_after(version: ScimVersion, resource_type: str, time: str) -> ListName:
    return ListName(version, resource_type, f'meta.lastModified gt "{time}"', takes=lambda item: item.modified > time)


def named(version: ScimVersion, person_id: str) -> ListName:
    text = user_name(person_id)
    return ListName(version, USER, f'userName eq "{text}"', is_import=False, takes=lambda item: item.name == text)


def with_member(version: ScimVersion, person_id: str) -> ListName:
    """Return the list of groups that somebody is in."""
    return ListName(
        version,
        GROUP,
        f'members.value eq "{person_id}"',
        is_import=False,
        takes=lambda item: person_id in dict(item.members),
    )


def in_group(version: ScimVersion, group_id: str) -> ListName:
    """Return the list of users of a group."""
    return ListName(
        version, USER, f'groups eq "{group_id}"', is_import=False, takes=lambda item: group_id in dict(item.groups)
    )


def active_and_marked(version: ScimVersion, marker: str) -> ListName:
    """Return the list of active users of a department: no look-up answers it, a thread scans."""
    text = f'active eq true and {DEPARTMENT} eq "{marker}"'
    return ListName(version, USER, text, is_import=False, takes=lambda item: item.active and item.marker == marker)


def being_active(version: ScimVersion, active: bool) -> ListName:
    word = "true" if active else "false"
    return ListName(version, USER, f"active eq {word}", is_import=False, takes=lambda item: item.active is active)


def in_order(version: ScimVersion, sort: str) -> ListName:
    """Return the list of all users by userName, or of all groups by displayName."""
    return ListName(version, USER if "user" in sort else GROUP, is_import=False, sort=sort)
