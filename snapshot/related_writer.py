"""Write groups and entitlements, once every user of the generation is known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from snapshot.decode import shown_name_of
from snapshot.encode import Encoded, encode
from snapshot.history import History
from snapshot.reader import Bodies
from snapshot.scim import GROUP, USER, DecimalText, Resource, ScimVersion
from snapshot.type_writer import TypeWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snapshot.config import Config
    from snapshot.index import IndexWriter
    from snapshot.previous import Previous
    from snapshot.relations import Relations
    from snapshot.resource_types import ResourceType


class RelatedWriter:
    """Writes the resources of other types than users, with their history."""

    def __init__(
        self,
        directory: Path,
        config: Config,
        index: IndexWriter,
        relations: Relations,
        previous: Previous | None,
        marker_ms: int,
    ) -> None:
        self._directory = directory
        self._config = config
        self._index = index
        self._relations = relations
        self._previous = previous
        self._marker_ms = marker_ms

    def write(self, resource_type: ResourceType, users: int) -> TypeWriter:
        """Write all resources of one type; return the finished files. `users`: how many users there are."""
        writer = TypeWriter(self._directory, self._config, resource_type)
        try:
            history = History(self._previous, self._marker_ms, resource_type.name)
            members = self._members(users) if resource_type.name == GROUP else None
            for resource_id, raw in self._relations.related(resource_type.name):
                resource = _resource(resource_id, raw)
                if members is not None:
                    self._add_members(resource, members, writer.count)
                encoded = Encoded(encode(resource))
                created, modified = history.times(encoded.id, encoded.fingerprint)
                self._index.add_related(resource_type.name, writer.count, encoded, created, modified)
                writer.write(encoded, created, modified)
            writer.finish()
        except BaseException:
            writer.discard()
            raise
        return writer

    def _add_members(self, resource: Resource, members: _Members, ordinal: int) -> None:
        found = members.of(resource.id)
        subgroups = self._relations.subgroups(resource.id)
        self._index.add_subgroups(ordinal, subgroups)
        found += [{"value": id_, "type": GROUP, "display": display} for id_, display in subgroups]
        if found:
            resource.links["members"] = found

    def _members(self, users: int) -> _Members:
        bodies = Bodies(self._directory, USER, ScimVersion.V2_0, users)
        return _Members(self._index.members(lambda ordinal: shown_name_of(bodies.slice(ordinal, ordinal + 1))))


class _Members:
    """Walks the memberships beside the groups: both come in id order."""

    def __init__(self, walk: Iterator[tuple[str, str, str]]) -> None:
        self._walk = walk
        self._next = next(walk, None)

    def of(self, group: str) -> list[dict[str, Any]]:
        """Return the users that are in a group, in the order of their ids."""
        found = []
        while self._next is not None and self._next[0] == group:
            found.append({"value": self._next[1], "display": self._next[2]})
            self._next = next(self._walk, None)
        # Whoever is kept without a usable row comes after all others among the users; that is no change of the group.
        found.sort(key=lambda member: (len(member["value"]), member["value"]))
        return found


def _resource(resource_id: str, raw: bytes) -> Resource:
    """Return a group or an entitlement as Relations keep it."""
    stored = json.loads(raw, parse_float=DecimalText)
    return Resource(resource_id, "", active=True, core=stored["core"], extensions=stored["extensions"])
