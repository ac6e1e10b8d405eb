"""What belongs to the made-up people: departments as groups, further phones, licenses and roles.

As the people themselves, everything is a pure function of the person's number and their count.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from snapshot.demo.company import BOARD, DEPARTMENTS, MEMBER, TOP, Company

if TYPE_CHECKING:
    from collections.abc import Iterator

    Row = tuple[str | int, ...]

TABLES: dict[str, str] = {
    "departments": "code int NOT NULL PRIMARY KEY, name nvarchar(50) NOT NULL, purpose nvarchar(100)",
    "works_in": "employee_id nvarchar(12) NOT NULL, department_code int NOT NULL",
    "phones": (
        "employee_id nvarchar(12) NOT NULL, number varchar(25) NOT NULL, kind nvarchar(10) NOT NULL, "
        "place tinyint NOT NULL"
    ),
    "licenses": "license_id nvarchar(12) NOT NULL PRIMARY KEY, name nvarchar(50) NOT NULL, terms nvarchar(100)",
    "has_license": "employee_id nvarchar(12) NOT NULL, license_id nvarchar(12) NOT NULL",
    "roles": "role_id nvarchar(12) NOT NULL PRIMARY KEY, name nvarchar(50) NOT NULL",
    "has_role": "employee_id nvarchar(12) NOT NULL, role_id nvarchar(12) NOT NULL",
}
_LICENSES = (
    ("office", "Office Suite", "Mail, calendar, documents"),
    ("design", "Design Studio", "One machine a person"),
    ("reports", "Report Builder", "Named users"),
    ("remote", "Remote Access", "Renewed every year"),
)
_ROLES = (("approver", "Approver"), ("signatory", "Signatory"), ("first-aid", "First Aider"))
# Of 256: how often a thing is so.
_MORE_PHONES, _MANY_PHONES, _MORE_LICENSES, _FIRST_AID, _SECOND_DEPARTMENT = 38, 8, 90, 13, 10


def fixed_rows() -> Iterator[tuple[str, Row]]:
    """Yield (table, row) of what there is whoever works there."""
    for department in (BOARD, *DEPARTMENTS):
        titles = ", ".join(department.titles[:2])
        yield "departments", (department.code, department.name, f"Where people work as {titles}" if titles else "")
    for license_ in _LICENSES:
        yield "licenses", license_
    for role in _ROLES:
        yield "roles", role


def rows_of(company: Company, number: int, employee_id: str) -> Iterator[tuple[str, Row]]:
    """Yield (table, row) of everything that belongs to one person (from 0)."""
    draws = hashlib.blake2b(b"memberships %d" % number, digest_size=8).digest()
    own = company.department(number).code
    yield "works_in", (employee_id, own)
    if draws[0] < _SECOND_DEPARTMENT and own != (other := DEPARTMENTS[draws[1] % len(DEPARTMENTS)].code):
        yield "works_in", (employee_id, other)
    if draws[2] < _MORE_PHONES:
        for place, kind in enumerate(("home", "other", "pager") if draws[2] < _MANY_PHONES else ("home",), 1):
            yield "phones", (employee_id, f"+1 555 {draws[3]:03} {draws[4]:03}{place}", kind, place)
    yield "has_license", (employee_id, "office")
    if draws[5] < _MORE_LICENSES:
        yield "has_license", (employee_id, _LICENSES[1 + draws[5] % 3][0])
    rank = company.rank(number)
    if rank != MEMBER:
        yield "has_role", (employee_id, "approver")
    if rank == TOP:
        yield "has_role", (employee_id, "signatory")
    if draws[6] < _FIRST_AID:
        yield "has_role", (employee_id, "first-aid")
