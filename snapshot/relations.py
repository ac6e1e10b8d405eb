"""What belongs to users beside their row, while a refresh runs: a scratch database on disk.

Groups, entitlements, memberships, assignments and values of multi-valued attributes are read before the users, in the
same transaction, and looked up user by user. Users are named by their key here (source.users.key).
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any, Self

import orjson

from snapshot.compiler import choose_primary, unique_entries
from snapshot.scim import ENTERPRISE_2_0, GROUP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from snapshot.config import Config
    from snapshot.rules import Plural
    from snapshot.scim import Resource

_CACHE_KIB = 16_384
_TABLES = """
    CREATE TABLE related(type TEXT, id TEXT, display TEXT, core BLOB, PRIMARY KEY(type, id)) WITHOUT ROWID;
    CREATE TABLE membership(member TEXT, grp TEXT, PRIMARY KEY(member, grp)) WITHOUT ROWID;
    CREATE TABLE inside(grp TEXT, parent TEXT, PRIMARY KEY(grp, parent)) WITHOUT ROWID;
    CREATE TABLE above(grp TEXT, ancestor TEXT, direct INTEGER, PRIMARY KEY(grp, ancestor)) WITHOUT ROWID;
    CREATE TABLE assignment(member TEXT, type TEXT, id TEXT, PRIMARY KEY(member, type, id)) WITHOUT ROWID;
    CREATE TABLE value(member TEXT, item INTEGER, sort, entry BLOB);
    CREATE TABLE person(key TEXT, id TEXT, display TEXT, PRIMARY KEY(key, id)) WITHOUT ROWID;
"""
# A group is above itself, and every group that it is in, however deep; UNION ends a circle.
_ABOVE = """
    INSERT INTO above
    WITH RECURSIVE up(grp, ancestor) AS (
        SELECT id, id FROM related WHERE type = 'Group'
        UNION SELECT up.grp, inside.parent FROM up JOIN inside ON inside.grp = up.ancestor
    ) SELECT grp, ancestor, grp = ancestor FROM up
"""
_GROUPS = """
    SELECT r.id, r.display, 1 FROM membership AS m JOIN related AS r ON r.type = 'Group' AND r.id = m.grp
    WHERE m.member = ? ORDER BY length(r.id), r.id
"""
_NESTED_GROUPS = """
    SELECT r.id, r.display, MAX(a.direct) FROM membership AS m JOIN above AS a ON a.grp = m.grp
    JOIN related AS r ON r.type = 'Group' AND r.id = a.ancestor
    WHERE m.member = ? GROUP BY r.id ORDER BY length(r.id), r.id
"""
_ASSIGNED = """
    SELECT r.id, r.display FROM assignment AS a JOIN related AS r ON r.type = a.type AND r.id = a.id
    WHERE a.member = ? AND a.type = ? ORDER BY length(r.id), r.id
"""
_ADD_PERSON = """
    INSERT INTO person VALUES (?, ?, ?) ON CONFLICT DO UPDATE
    SET display = COALESCE(MIN(display, excluded.display), display, excluded.display)
"""
_NOBODY = """NOT EXISTS (
    SELECT 1 FROM person AS p JOIN published."User" AS u ON u.id = p.id AND u.removed IS NULL WHERE p.key = x.member
)"""
_NO_USER = "no user with this key is published"


def has_relations(config: Config) -> bool:
    """Tell whether anything is read beside the rows of the users, or looked up in other rows."""
    mapping = config.mapping
    return bool(
        config.groups is not None
        or config.entitlements
        or mapping.manager_key
        or any(item.rows for plural in mapping.plurals for item in plural.items)
    )


def value_sections(plural: Plural) -> list[str]:
    """Return the name of each query that gives values of an attribute; [2] is its second entry."""
    return [f"mapping.{plural.path}[{at}]" for at, item in enumerate(plural.items, 1) if item.rows is not None]


class Relations:
    """The scratch database. One process writes it, and another one reads it afterwards; a context manager."""

    def __init__(self, config: Config, path: Path) -> None:
        """Make or open it."""
        self._config = config
        is_new = not path.exists()
        self._db = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "temp_store=FILE"):
            self._db.execute(f"PRAGMA {pragma}")
        if is_new:
            self._db.executescript(_TABLES)
        self._db.execute("BEGIN")
        groups = config.groups
        self._is_nested = groups is not None and groups.subgroups is not None
        self._keeps_nesting = self._is_nested and groups is not None and groups.nesting == "keep"
        # (attribute, the places of its queries among those of the mapping), for attributes that have any
        self._plurals: list[tuple[Plural, list[int]]] = []
        # The section of each query of the mapping, by its place.
        self._value_sections: list[str] = []
        for plural in config.mapping.plurals:
            first = len(self._value_sections)
            self._value_sections += value_sections(plural)
            if first < len(self._value_sections):
                self._plurals.append((plural, list(range(first, len(self._value_sections)))))
        self.changes_order = bool(self._plurals) or bool(config.mapping.manager_key)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; what was written stays."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("COMMIT")
        self._db.close()

    # Written while the rows are read

    def add_related(self, resource_type: str, rows: Iterable[tuple[str, str, bytes]]) -> list[str]:
        """Add groups or entitlements (id, display, JSON); return the ids that were there already.

        Which of several stays does not depend on the order of the rows.
        """
        twice = []
        insert = "INSERT OR IGNORE INTO related VALUES (?, ?, ?, ?)"
        replace = "UPDATE related SET display = ?, core = ? WHERE type = ? AND id = ? AND core > ?"
        for id_, display, core in rows:
            if not self._db.execute(insert, (resource_type, id_, display, core)).rowcount:
                twice.append(id_)
                self._db.execute(replace, (display, core, resource_type, id_, core))
        return twice

    def add_members(self, rows: Iterable[tuple[str, str]]) -> None:
        """Add memberships (key of the user, id of the group)."""
        self._db.executemany("INSERT OR IGNORE INTO membership VALUES (?, ?)", rows)

    def add_subgroups(self, rows: Iterable[tuple[str, str]]) -> None:
        """Add which group (id) is in which (id)."""
        self._db.executemany("INSERT OR IGNORE INTO inside VALUES (?, ?)", rows)

    def add_assignments(self, resource_type: str, rows: Iterable[tuple[str, str]]) -> None:
        """Add assignments (key of the user, id of the entitlement)."""
        self._db.executemany(
            "INSERT OR IGNORE INTO assignment VALUES (?, ?, ?)", [(member, resource_type, id_) for member, id_ in rows]
        )

    def add_values(self, item: int, rows: Iterable[tuple[str, Any, bytes]]) -> None:
        """Add values of a multi-valued attribute (key of the user, what orders them, entry as JSON)."""
        self._db.executemany(
            "INSERT INTO value VALUES (?, ?, ?, ?)", [(member, item, sort, entry) for member, sort, entry in rows]
        )

    def add_people(self, rows: Iterable[tuple[str, str, str | None]]) -> None:
        """Add who has a row (key, id, name to display). What is known of several does not depend on their order."""
        self._db.executemany(_ADD_PERSON, rows)

    def finish_related(self) -> None:
        """Make the look-ups quick, once everything but the users is there."""
        self._db.execute("CREATE INDEX value_by_member ON value(member, item)")
        if self._is_nested:
            self._db.execute(_ABOVE)

    # Looked up user by user

    def complete(self, resource: Resource, key: str, manager_key: str | None) -> Resource:
        """Add to a user what belongs to it beside its row."""
        resource.links = self.links(key)
        for plural, items in self._plurals:
            self._add_values(resource, plural, items, key)
        if manager_key is not None and (manager := self._manager(manager_key)) is not None:
            resource.extensions.setdefault(ENTERPRISE_2_0, {})["manager"] = manager
        return resource

    def links(self, key: str) -> dict[str, list[dict[str, Any]]]:
        """Return groups, roles and entitlements of a user, in the order in which they are written."""
        links: dict[str, list[dict[str, Any]]] = {}
        if self._config.groups is not None:
            query = _NESTED_GROUPS if self._is_nested else _GROUPS
            groups = [
                {"value": id_, "display": display, **self._kind(is_direct)}
                for id_, display, is_direct in self._db.execute(query, (key,))
            ]
            if groups:
                links["groups"] = groups
        for kind in ("roles", "entitlements"):
            found = [
                {"value": id_, "display": display, **({"type": item.name} if kind == "entitlements" else {})}
                for item in self._config.entitlements
                if item.attribute == kind
                for id_, display in self._db.execute(_ASSIGNED, (key, item.name))
            ]
            if found:
                links[kind] = found
        return links

    def _kind(self, is_direct: int) -> dict[str, str]:
        if not self._keeps_nesting:
            return {}
        return {"type": "direct" if is_direct else "indirect"}

    def _add_values(self, resource: Resource, plural: Plural, items: list[int], key: str) -> None:
        holder = resource.extensions.setdefault(plural.urn, {}) if plural.urn else resource.core
        name = plural.attribute.name
        found: list[Any] = list(holder.pop(name, ()))
        for item in items:
            query = "SELECT entry FROM value WHERE member = ? AND item = ? ORDER BY sort, entry"
            found += [orjson.loads(entry) for (entry,) in self._db.execute(query, (key, item))]
        if plural.urn:
            found = list(dict.fromkeys(found))
        elif found:
            found = unique_entries(found)
            choose_primary(found)
        if found:
            holder[name] = found
        elif plural.urn and not holder:
            del resource.extensions[plural.urn]

    def _manager(self, key: str) -> dict[str, str] | None:
        query = "SELECT id, display FROM person WHERE key = ? ORDER BY length(id), id LIMIT 1"
        row = self._db.execute(query, (key,)).fetchone()
        if row is None:
            return None
        return {"value": row[0], "displayName": row[1]} if row[1] else {"value": row[0]}

    # Read when all users are known

    def related(self, resource_type: str) -> Iterator[tuple[str, bytes]]:
        """Yield (id, core JSON) of the groups or of the entitlements of one type, in id order."""
        query = "SELECT id, core FROM related WHERE type = ? ORDER BY length(id), id"
        return self._db.execute(query, (resource_type,))

    def subgroups(self, group: str) -> list[tuple[str, str]]:
        """Return (id, display) of the groups that are members of a group themselves."""
        if not self._keeps_nesting:
            return []
        query = """
            SELECT r.id, r.display FROM inside AS i JOIN related AS r ON r.type = 'Group' AND r.id = i.grp
            WHERE i.parent = ? AND i.grp <> i.parent ORDER BY length(r.id), r.id
        """
        return self._db.execute(query, (group,)).fetchall()

    def key_of(self, resource_id: str) -> str | None:
        """Return the key of the user with this id; None if no row has it."""
        self._db.execute("CREATE INDEX IF NOT EXISTS person_by_id ON person(id, key)")
        query = "SELECT key FROM person WHERE id = ? ORDER BY key LIMIT 1"
        row = self._db.execute(query, (resource_id,)).fetchone()
        return row[0] if row else None

    def dangling(self, users: Path) -> Iterator[tuple[str, str, str, str, str]]:
        """Yield what names nobody or nothing: (section, the key or id that nobody has, other side, attribute, reason).

        `users` is the finished index. The other side of a value is empty.

        Who is only sent as removed has no row, and so belongs to nothing.
        """
        self._db.execute("COMMIT")
        self._db.execute("ATTACH DATABASE ? AS published", (str(users),))
        self._db.execute("BEGIN")
        for section, attribute, table, kind, column in self._named():
            of_type = f"x.type = '{kind}' AND " if table == "assignment" else ""
            owner = "member" if table != "inside" else "parent" if column == "grp" else "grp"
            missing = f"NOT EXISTS (SELECT 1 FROM related WHERE type = '{kind}' AND id = x.{column})"
            reason = f"no {kind} with this id is published"
            yield from self._unmet(section, attribute, table, (column, owner), of_type + missing, reason)
            if owner == "member":
                yield from self._unmet(section, attribute, table, (owner, column), of_type + _NOBODY, _NO_USER)
        for plural, items in self._plurals:
            for item in items:
                condition = f"x.item = {item} AND {_NOBODY}"
                sides = "member", "''"
                yield from self._unmet(self._value_sections[item], plural.path, "value", sides, condition, _NO_USER)

    def _named(self) -> Iterator[tuple[str, str, str, str, str]]:
        """Yield (section, attribute, table, resource type, column that names one) of all that names something."""
        if self._config.groups is not None:
            yield "groups.members", "groups", "membership", GROUP, "grp"
            yield "groups.subgroups", "members", "inside", GROUP, "grp"
            yield "groups.subgroups", "members", "inside", GROUP, "parent"
        for entitlements in self._config.entitlements:
            section = f"entitlements.{entitlements.name}.assignments"
            yield section, entitlements.attribute, "assignment", entitlements.name, "id"

    def _unmet(
        self, section: str, attribute: str, table: str, sides: tuple[str, str], condition: str, reason: str
    ) -> Iterator[tuple[str, str, str, str, str]]:
        query = f"SELECT {', '.join(sides)} FROM {table} AS x WHERE {condition} ORDER BY 1, 2"
        for key, other in self._db.execute(query):
            yield section, key, other, attribute, reason
