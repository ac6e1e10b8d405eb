"""Compile the configured mapping once against the columns of the source; then rows become resources.

A compiled mapping is a tree of closures without any look-up by name, because it runs once per row.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from snapshot.canonical import core_place, extension_place
from snapshot.compiler import NULL_ID, RESERVED_ID, Compiler, complex_getter, is_reserved_id
from snapshot.errors import MappingError, RejectError
from snapshot.scim import Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from snapshot.rules import Mapping

    Row = Sequence[Any]
    Getter = Callable[[Row], Any]


class CompiledMapping:
    """Calling it with a row returns a Resource; RejectError says why a row cannot be one."""

    def __init__(self, mapping: Mapping, columns: Sequence[str], *, timezone: str, where: str) -> None:
        """Compile; raises MappingError that lists every mapped column the source does not send."""
        compiler = Compiler(columns, timezone, where)
        self._id = compiler.getter(mapping.id, required=True)
        # The manager comes from the manager's own row, if its key is mapped.
        mapped = [item for item in mapping.singles if not (mapping.manager_key and item.path.name == "manager")]
        singles = sorted(
            (target for target in mapped if not target.path.urn),
            key=lambda target: core_place(target.path.name, target.path.sub),
        )
        self._created = None if mapping.created is None else compiler.getter(mapping.created)
        self._user_name: Getter = compiler.nothing
        self._active: Getter | None = None
        members: dict[str, list[tuple[str, Getter]]] = {}
        getters: dict[str, Getter] = {}
        for target in singles:
            name, sub = target.path.name, target.path.sub
            getter = compiler.getter(target, required=name == "userName", reject_null=name == "active")
            getters[str(target.path)] = getter
            if name == "userName":
                self._user_name = getter
            elif name == "active":
                self._active = getter
            else:
                members.setdefault(name, []).append((sub, getter))
        steps: list[tuple[str, Getter]] = [
            (name, parts[0][1] if parts[0][0] == "" else complex_getter(parts)) for name, parts in members.items()
        ]
        steps += [(plural.attribute.name, compiler.plural(plural)) for plural in mapping.plurals if not plural.urn]
        steps.sort(key=lambda step: core_place(step[0]))
        self._shown = [getters[path] for path in ("displayName", "name.formatted", "userName") if path in getters]
        before = core_place("userName")
        self._head = tuple(step for step in steps if core_place(step[0]) < before)
        self._tail = tuple(step for step in steps if core_place(step[0]) > before)
        urns = sorted(mapping.extension_urns, key=extension_place)
        inner = {urn: compiler.extension(mapped, mapping.plurals, urn) for urn in urns}
        self._extensions = tuple((urn, complex_getter(inner[urn])) for urn in urns)
        self.warnings = tuple(compiler.warnings)
        if compiler.problems:
            raise MappingError(compiler.problems)

    def __call__(self, row: Row) -> Resource:
        """Map one row."""
        resource_id = self._id(row)
        if resource_id is None:
            raise RejectError("id", NULL_ID)
        if is_reserved_id(resource_id):
            raise RejectError("id", RESERVED_ID)
        core: dict[str, Any] = {"id": resource_id}
        for name, getter in self._head:
            if (value := getter(row)) is not None:
                core[name] = value
        core["userName"] = user_name = self._user_name(row)
        for name, getter in self._tail:
            if (value := getter(row)) is not None:
                core[name] = value
        active = True
        if self._active is not None and (truth := self._active(row)) is not None:
            core["active"] = active = truth
        extensions = {}
        for urn, getter in self._extensions:
            if (value := getter(row)) is not None:
                extensions[urn] = value
        created = None if self._created is None else self._created(row)
        return Resource(resource_id, user_name, active, core, extensions, created)

    def shown_name(self, row: Row) -> str | None:
        """Return the name by which others show the user, also of a row that is rejected; None if it has none."""
        for getter in self._shown:
            with contextlib.suppress(RejectError):
                if (value := getter(row)) is not None:
                    return str(value)
        return None

    def identify(self, row: Row) -> str:
        """Return the id of a row for the rejects report; empty if even that cannot be made."""
        try:
            return self._id(row) or ""
        except RejectError:
            return ""
