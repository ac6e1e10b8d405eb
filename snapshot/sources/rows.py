"""What every source offers, and what the sources have in common: names of tables, counts of rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from snapshot.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from snapshot.queries import Query

Row = tuple[Any, ...]


class Rows(Protocol):
    """The answer to one query."""

    columns: tuple[str, ...]
    expected: int | None

    def batches(self) -> Iterator[Sequence[Row]]:
        """Yield the rows in batches; SourceError if the answer was not read to its end, whole."""
        ...


class RowSource(Protocol):
    """An open source, inside its transaction."""

    isolation: str
    warnings: list[str]

    def read(self, query: Query) -> Rows:
        """Send one query; its rows stream from the result."""
        ...

    def columns(self, query: Query) -> tuple[str, ...]:
        """Return the columns that a query gives, without reading its rows."""
        ...


_PART = re.compile(r'\s*(?:\[((?:[^\]]|\]\])+)\]|"((?:[^"]|"")+)"|([^.\[\]"\s][^.\[\]"]*))\s*(\.|\Z)')


def split_name(name: str) -> list[str]:
    """Split `schema.table` into its parts; parts may be quoted as [a.b] or "a.b".

    >>> split_name("[HR data].v_users")
    ['HR data', 'v_users']
    """
    parts, at = [], 0
    while True:
        match = _PART.match(name, at)
        if match is None:
            raise SourceError("missing_object", f'"{name}" is not the name of a table.', remedy="Write schema.table.")
        bracketed, quoted, plain, end = match.groups()
        parts.append(
            bracketed.replace("]]", "]") if bracketed else (quoted.replace('""', '"') if quoted else plain.strip())
        )
        at = match.end()
        if not end:
            return parts


def check_row_count(*, read: int, reported: int | None, counted: int | None, what: str) -> None:
    """Raise SourceError unless the rows read are all the rows there are.

    `reported` is what the server said at the end of the result, `counted` what COUNT(*) gave in the same
    transaction; None where there is no such number.
    """
    for number, where in (
        (reported, "the server reports"),
        (counted, "COUNT(*) in the same transaction gives"),
    ):
        if number is not None and number != read:
            raise SourceError(
                "truncated",
                f"{read} rows of {what} were read, but {where} {number}.",
                remedy="Nothing was published. If it happens again, look at the network and the SQL Server error log.",
            )
