"""Where rows come from: a table, a query or a stored procedure, as the configuration states them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from snapshot.strict import shown

if TYPE_CHECKING:
    from snapshot.strict import Reader

KINDS = ("table", "query", "procedure")


class Query(msgspec.Struct, frozen=True):
    """Where the rows come from: exactly one of table, query, procedure."""

    table: str = ""
    query: str = ""
    procedure: str = ""
    parameters: dict[str, str | int | float | bool] = {}
    count_query: str = ""


class UsersQuery(Query, frozen=True):
    """The rows of the users. `key`: the column by which other queries name a user; none: what is mapped to `id`."""

    key: str = ""


QUERY_KEYS = frozenset(field.encode_name for field in msgspec.structs.fields(Query))


def check_query(reader: Reader, query: Query, key: str, *, driver: str) -> None:
    """Note what contradicts itself in one query."""
    given = [name for name in KINDS if getattr(query, name)]
    if len(given) != 1:
        reader.problem(key, " and ".join(given) or "none of them", "exactly one of table, query, procedure")
    if query.parameters and query.table:
        reader.problem(f"{key}.parameters", "parameters beside table", "parameters only with query or procedure")
    if driver == "sqlite" and query.procedure:
        reader.problem(f"{key}.procedure", shown(query.procedure), "table or query (SQLite has no procedures)")
