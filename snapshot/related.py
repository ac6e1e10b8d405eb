"""The sections [groups] and [entitlements.NAME]: what users belong to and are entitled to, and who.

Parsed into frozen structs; `snapshot.relations` reads the rows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from snapshot.queries import KINDS, QUERY_KEYS, Query, check_query
from snapshot.rule import Target, read_target
from snapshot.rules import check_once, read_extension
from snapshot.schema import ENTITLEMENT_ATTRIBUTES, EXTERNAL_ID, GROUP_ATTRIBUTES, ID, Attribute, find_attribute
from snapshot.scim import GROUP_DESCRIPTION_URN, AttributePath
from snapshot.strict import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from snapshot.strict import Reader

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}\Z")
_ENDPOINT = re.compile(r"/[A-Za-z][A-Za-z0-9._-]{0,62}\Z")
# Names of resource types and endpoints that mean something already.
_TAKEN_NAMES = frozenset({"user", "group", "schema", "resourcetype", "serviceproviderconfig", "attribute"})
# On Windows no file can begin with them.
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))}
)
_TAKEN_ENDPOINTS = frozenset(
    {"/users", "/groups", "/schemas", "/resourcetypes", "/serviceproviderconfig", "/serviceproviderconfigs"}
    | {"/bulk", "/me", "/.search"}
)


class Members(Query, frozen=True):
    """Who is in which group: two columns of a query, or one `column` of the users query with ids of groups."""

    group: str = ""
    user: str = ""
    column: str = ""
    separator: str = ""


class Subgroups(Query, frozen=True):
    """Which group is in which group: two columns of a query."""

    group: str = ""
    subgroup: str = ""


class Assignments(Query, frozen=True):
    """Who has which entitlement: two columns of a query, or one `column` of the users query with ids of them."""

    entitlement: str = ""
    user: str = ""
    column: str = ""
    separator: str = ""


class RelatedMapping(msgspec.Struct, frozen=True):
    """How the rows of groups or entitlements become resources."""

    id: Target
    singles: tuple[Target, ...]

    @property
    def extension_urns(self) -> tuple[str, ...]:
        """URNs of the extensions in use, as configured."""
        return tuple(dict.fromkeys(target.path.urn for target in self.singles if target.path.urn))


class Groups(msgspec.Struct, frozen=True):
    """The groups of people. nesting: "flatten": who is in a subgroup is a member; "keep": the subgroup is."""

    query: Query
    mapping: RelatedMapping
    members: Members | None = None
    subgroups: Subgroups | None = None
    nesting: Literal["flatten", "keep"] = "flatten"


class Entitlements(msgspec.Struct, frozen=True):
    """One type of entitlements or roles, as Okta discovers them: a resource type with an endpoint of its own."""

    name: str
    kind: Literal["entitlement", "role"]
    endpoint: str
    description: str
    query: Query
    mapping: RelatedMapping
    assignments: Assignments | None = None
    scim_1_1: bool = False

    @property
    def attribute(self) -> str:
        """The attribute of users that names them."""
        return "roles" if self.kind == "role" else "entitlements"


class GroupKeys(msgspec.Struct, frozen=True):
    """The keys of [groups] beside rows and rules."""

    nesting: Literal["flatten", "keep"] = "flatten"
    members: Members | None = None
    subgroups: Subgroups | None = None


class EntitlementKeys(msgspec.Struct, frozen=True):
    """The keys of [entitlements.NAME] beside rows and rules."""

    kind: Literal["entitlement", "role"] = "entitlement"
    endpoint: str = ""
    scim_1_1: bool = False
    assignments: Assignments | None = None


def read_groups(reader: Reader, table: object, *, driver: str) -> Groups | None:
    """Read [groups]; None if anything in it is wrong."""
    if not isinstance(table, dict):
        reader.problem("groups", shown(table), "a table")
        return None
    before = len(reader.problems)
    attributes = (EXTERNAL_ID, *(item for item in GROUP_ATTRIBUTES if item.name != "members"))
    query, mapping, rest = _read_rows(reader, table, "groups", attributes, described_in=GROUP_DESCRIPTION_URN)
    keys = reader.struct(GroupKeys, rest, "groups")
    if keys is not None and query is not None:
        check_query(reader, query, "groups", driver=driver)
        if keys.members is not None:
            _check_pairs(reader, keys.members, "groups.members", ("group", "user"), driver)
        if keys.subgroups is not None:
            _check_pairs(reader, keys.subgroups, "groups.subgroups", ("group", "subgroup"), driver)
    if len(reader.problems) > before or keys is None or query is None or mapping is None:
        return None
    return Groups(query, mapping, keys.members, keys.subgroups, keys.nesting)


def read_entitlements(reader: Reader, tables: object, *, driver: str) -> tuple[Entitlements, ...]:
    """Read every [entitlements.NAME]."""
    if not isinstance(tables, dict):
        reader.problem("entitlements", shown(tables), "tables such as [entitlements.License]")
        return ()
    found = [
        item
        for name, table in tables.items()
        if (item := _entitlements(reader, name, table, f"entitlements.{name}", driver)) is not None
    ]
    check_once(reader, "entitlements", (item.name for item in found), noun="name")
    for item in found:
        first = next(other for other in found if other.attribute == item.attribute)
        if item.scim_1_1 != first.scim_1_1:  # users have one attribute for all of them
            expected = f"{str(first.scim_1_1).lower()}, as of {first.name}: both are {item.attribute} of users"
            reader.problem(f"entitlements.{item.name}.scim_1_1", str(item.scim_1_1).lower(), expected)
    check_once(reader, "entitlements", (item.endpoint for item in found), noun="endpoint")
    return tuple(found)


def _entitlements(reader: Reader, name: str, table: object, key: str, driver: str) -> Entitlements | None:
    if not isinstance(table, dict):
        reader.problem(key, shown(table), "a table such as [entitlements.License]")
        return None
    before = len(reader.problems)
    named = bool(_NAME.match(name)) and name.casefold() not in _TAKEN_NAMES | _DEVICES
    if not named:
        reader.problem(key, shown(name), "a name of letters and digits that means nothing else, for example License")
    attributes = tuple(item for item in ENTITLEMENT_ATTRIBUTES if item.name != "type")
    query, mapping, rest = _read_rows(reader, table, key, attributes)
    keys = reader.struct(EntitlementKeys, rest, key)
    if keys is None or query is None:
        return None
    endpoint = keys.endpoint or ("/Roles" if keys.kind == "role" and name == "Role" else f"/{name}s")
    # One that is made of the name is as wrong as the name.
    if (keys.endpoint or named) and (not _ENDPOINT.match(endpoint) or endpoint.casefold() in _TAKEN_ENDPOINTS):
        reader.problem(f"{key}.endpoint", shown(endpoint), "a path of its own, for example /Licenses")
    check_query(reader, query, key, driver=driver)
    if keys.assignments is not None:
        _check_pairs(reader, keys.assignments, f"{key}.assignments", ("entitlement", "user"), driver)
    if len(reader.problems) > before or mapping is None:
        return None
    return Entitlements(
        name=name,
        kind=keys.kind,
        endpoint=endpoint,
        description=f"The {'roles' if keys.kind == 'role' else 'entitlements'} of type {name}.",
        query=query,
        mapping=mapping,
        assignments=keys.assignments,
        scim_1_1=keys.scim_1_1,
    )


def _read_rows(
    reader: Reader, table: dict[str, object], key: str, attributes: tuple[Attribute, ...], *, described_in: str = ""
) -> tuple[Query | None, RelatedMapping | None, dict[str, object]]:
    """Take query and rules out of a table; return them and the rest.

    `described_in`: the URN of the extension that `description` is in, where the schema has none.
    """
    targets: list[Target] = []
    rest: dict[str, object] = {}
    before = len(reader.problems)
    for name, value in table.items():
        inner = f'{key}."{name}"' if ":" in name else f"{key}.{name}"
        attribute = find_attribute((ID, *attributes), name)
        if name in QUERY_KEYS:
            continue
        if name.casefold().startswith("urn:"):
            for made in read_extension(reader, name, value, inner):
                if isinstance(made, Target):
                    targets.append(made)
                else:
                    reader.problem(f"{inner}.{made.attribute.name}", "a list", "a single value")
        elif attribute is not None:
            if target := read_target(reader, AttributePath(attribute.name), attribute, value, inner):
                targets.append(target)
        elif described_in and name == "description":
            attribute = Attribute("description", description="A text about the group.")
            path = AttributePath("description", urn=described_in)
            if target := read_target(reader, path, attribute, value, inner):
                targets.append(target)
        else:
            rest[name] = value
    for needed in ("id", "displayName"):
        if needed not in table:
            reader.problem(f"{key}.{needed}", "nothing", f'a column, for example {needed} = "{needed}"')
    check_once(reader, key, (str(target.path) for target in targets))
    query = reader.struct(Query, {name: table[name] for name in table if name in QUERY_KEYS}, key)
    if len(reader.problems) > before:
        return query, None, rest
    found = {str(target.path): target for target in targets}
    return query, RelatedMapping(found["id"], tuple(item for item in targets if item is not found["id"])), rest


def _check_pairs(
    reader: Reader, pairs: Members | Subgroups | Assignments, key: str, columns: Iterable[str], driver: str
) -> None:
    """Note what contradicts itself: a query with both of its columns, or a column of the users query alone."""
    column = getattr(pairs, "column", "")
    if column:
        given = [name for name in (*KINDS, *columns) if getattr(pairs, name)]
        if given:
            reader.problem(key, f"column beside {', '.join(given)}", "a column of the users query, or a query")
        return
    if getattr(pairs, "separator", ""):
        reader.problem(f"{key}.separator", "a separator without column", "it only beside column")
    check_query(reader, pairs, key, driver=driver)
    for name in columns:
        if not getattr(pairs, name):
            reader.problem(f"{key}.{name}", "nothing", f"the column of the query that names the {name}")
