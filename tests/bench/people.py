"""The rows of the benchmark: people of 14 columns, prepared once as TDS rows and served at next to no cost."""

from __future__ import annotations

import decimal
import os
import uuid
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tds_results import PreparedRows
from tds_types import Column

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUERY = "SELECT * FROM [dbo].[People]"
COUNT = "SELECT COUNT_BIG(*) FROM [dbo].[People]"
URN = "urn:okta:bench:1.0:user:custom"

COLUMNS = [
    Column("id", "int"),
    Column("guid", "uniqueidentifier"),
    Column("login", "nvarchar(100)"),
    Column("mail", "nvarchar(100)"),
    Column("first_name", "nvarchar(50)"),
    Column("last_name", "nvarchar(50)"),
    Column("title", "nvarchar(50)"),
    Column("department", "nvarchar(50)"),
    Column("manager", "int"),
    Column("fte", "decimal(4,2)"),
    Column("hired", "date"),
    Column("changed", "datetime2(3)"),
    Column("active", "bit"),
    Column("about", "nvarchar(400)"),
]

MAPPING: dict[str, Any] = {
    "id": "id",
    "externalId": {"column": "guid", "type": "uniqueidentifier"},
    "userName": "login",
    "name": {"givenName": "first_name", "familyName": "last_name"},
    "displayName": "{first_name} {last_name}",
    "title": "title",
    "active": "active",
    "emails": [{"value": "mail", "type": "work", "primary": True}],
    "enterprise": {"department": "department", "manager": "manager"},
    URN: {
        "fte": {"column": "fte", "type": "decimal"},
        "hired": {"column": "hired", "type": "dateTime"},
        "changed": {"column": "changed", "type": "dateTime"},
        "about": "about",
    },
}

_FIRST = ("Zoë", "Łukasz", "Анна", "Νίκος", "山田", "محمد", "O'Brien", "José", "Anna", "दिव्या")
_LAST = ("Müller", "Иванова", "Παπαδόπουλος", "太郎", "القاسم", "D'Angelo", "Smith", "Nowak", "Ng", "शर्मा")
ABOUT = "Works on things that matter, in a team that cares; reachable in the morning. "
# Told apart from prepared files of other people.
_EDITION = 2


def rows(count: int) -> Iterator[tuple[Any, ...]]:
    """Yield the same people at every call."""
    hired, changed = date(1995, 1, 1), datetime(2020, 1, 1, 8, 30)
    for number in range(1, count + 1):
        yield (
            number,
            uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)),
            f"user{number}@example.com",
            f"first.last{number}@mail.example.com",
            _FIRST[number % 10],
            _LAST[number // 10 % 10],
            title(number),
            f"Department {number % 40}",
            number // 10 or None,
            decimal.Decimal(number % 100 + 1) / 100,
            hired + timedelta(days=number % 9000),
            changed + timedelta(seconds=number),
            number % 25 != 0,
            ABOUT * (1 + number % 3),
        )


def title(number: int) -> str:
    """Return the title: one in 250 has an x in it and is active, and one in 250 has an x and is not."""
    return f"Executive {number % 8}" if number % 250 in {0, 3} else f"Engineer {number % 50}"


def prepare(folder: Path, count: int) -> Path:
    """Write the TDS rows to a file, once; return its path."""
    path = folder / f"people-{_EDITION}.tds"
    if not path.exists():
        partial = path.with_suffix(".part")
        PreparedRows.write(partial, COLUMNS, rows(count), sql=QUERY)
        # Else the disk would be busy with it while the first things are measured.
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.rename(path)
    return path
