"""Users of the generation before that no accepted row stands for: kept as they were, sent as removed, or left out.

A row that is rejected now is a person who is there: the last good content stays. A row that is gone is a
person who left: sent as `active: false` for a while, because an incremental import cannot see what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from snapshot.decode import decode
from snapshot.encode import Encoded, encode
from snapshot.history import Seen
from snapshot.scim import USER, Resource, ScimVersion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snapshot.config import Policy
    from snapshot.history import History
    from snapshot.lookup import Known
    from snapshot.previous import Previous
    from snapshot.relations import Relations
    from snapshot.rules import Mapping

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Rowless:
    """One user to be published without a row; `removed_ms` None: kept as published before."""

    encoded: Encoded
    created_ms: int
    modified_ms: int
    removed_ms: int | None


class Tombstones:
    """Decides and rebuilds, user by user. `damaged` counts those whose last content cannot be trusted."""

    def __init__(
        self, previous: Previous, policy: Policy, mapping: Mapping, moment_ms: int, relations: Relations | None = None
    ) -> None:
        self._previous = previous
        self._relations = relations
        self._policy = policy
        self._moment_ms = moment_ms
        self._mapped = _Mapped(mapping)
        self.damaged = 0

    def of(self, history: History) -> Iterator[Rowless]:
        """Yield the users that go on being published, in the order of the generation before."""
        for ordinal, seen in history.rowless():
            known = self._previous.index.known_at(ordinal)
            rejected = seen is Seen.REJECT and self._policy.on_rejected == "keep"
            if known[6] is None and rejected:
                found = self._kept(known)
            elif self._policy.on_removed == "tombstone" and not self._is_over(known):
                found = self._removed(known)
            else:
                continue
            if found is None:
                self.damaged += 1
            else:
                yield found

    def _is_over(self, known: Known) -> bool:
        removed = known[6]
        return removed is not None and self._moment_ms - removed >= self._policy.tombstone_days * _DAY_MS

    def _kept(self, known: Known) -> Rowless | None:
        resource = self._last_content(known)
        if resource is None:
            return None
        resource = self._mapped.only(resource)
        resource.links = self._links(resource.id)
        encoded = Encoded(encode(resource))
        _, _, fingerprint, created, modified, _, _ = known
        return Rowless(encoded, created, self._modified(encoded, fingerprint, modified), None)

    def _removed(self, known: Known) -> Rowless | None:
        resource = self._last_content(known)
        if resource is None:
            return None
        resource.active = resource.core["active"] = False
        resource.links = {}  # without a row somebody belongs to nothing
        encoded = Encoded(encode(self._mapped.only(resource)))
        _, _, fingerprint, created, modified, _, removed = known
        if removed is None:
            return Rowless(encoded, created, self._moment_ms, self._moment_ms)
        return Rowless(encoded, created, self._modified(encoded, fingerprint, modified), removed)

    def _modified(self, encoded: Encoded, fingerprint: bytes, modified: int) -> int:
        same = encoded.fingerprint == fingerprint and not self._previous.is_stale
        return modified if same else self._moment_ms

    def _links(self, resource_id: str) -> dict[str, list[dict[str, Any]]]:
        """Return what somebody belongs to today, whose row cannot be used."""
        key = self._relations.key_of(resource_id) if self._relations is not None else None
        return self._relations.links(key) if self._relations is not None and key is not None else {}

    def _last_content(self, known: Known) -> Resource | None:
        """Read back what was published; None unless the index has the same digest of it."""
        ordinal, _, fingerprint, *_ = known
        found = decode(bytes(self._previous.resources(USER, ScimVersion.V2_0, ordinal, ordinal + 1)))
        return found.resource if found is not None and found.encoded.fingerprint == fingerprint else None


class _Mapped:
    """Cuts a resource down to what is mapped today: a mapping that no longer gives an attribute away means it."""

    def __init__(self, mapping: Mapping) -> None:
        paths = [target.path for target in mapping.singles]
        self._core: dict[str, set[str]] = {"id": {""}}
        for path in paths:
            if not path.urn:
                self._core.setdefault(path.name, set()).add(path.sub)
        self._extensions: dict[str, dict[str, set[str]]] = {}
        for plural in mapping.plurals:
            holder = self._extensions.setdefault(plural.urn, {}) if plural.urn else self._core
            holder[plural.attribute.name] = {""}
        for path in paths:
            if path.urn:
                self._extensions.setdefault(path.urn, {}).setdefault(path.name, set()).add(path.sub)

    def only(self, resource: Resource) -> Resource:
        """Return the resource with mapped attributes only; an extension that is left empty is gone."""
        cut = {urn: _cut(values, self._extensions.get(urn, {})) for urn, values in resource.extensions.items()}
        extensions = {urn: values for urn, values in cut.items() if values}
        return replace(resource, core=_cut(resource.core, self._core), extensions=extensions)


def _cut(values: dict[str, Any], mapped: dict[str, set[str]]) -> dict[str, Any]:
    """Return the attributes, and of complex ones the sub-attributes, that are mapped."""
    kept = {}
    for name, value in values.items():
        subs = mapped.get(name)
        if subs is None:
            continue
        if "" not in subs and isinstance(value, dict):
            value = {sub: item for sub, item in value.items() if sub in subs}  # noqa: PLW2901
            if not value:
                continue
        kept[name] = value
    return kept
