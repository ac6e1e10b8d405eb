"""A directory of made-up people, written into an SQLite file.

Person number k is a pure function of k and the number of people: every draw comes from a hash of k, so
the same count gives the same content on every machine and Python version. Rows are made one by one;
memory does not grow with their number.

The columns are declared with SQL Server's types: what reads the declarations can serve the same file as
SQL Server would.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from contextlib import closing
from datetime import date
from itertools import islice
from typing import TYPE_CHECKING

from snapshot.demo.company import HEAD, LEAD, MEMBER, SITES, TOP, Company
from snapshot.demo.memberships import TABLES, fixed_rows, rows_of
from snapshot.demo.names import Name, NamePool, name_pools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    Value = str | int | float | None
    Row = tuple[Value, ...]

# Raised whenever the content changes, so that an older file is made anew.
CONTENT_VERSION = 2

COLUMNS: dict[str, str] = {
    "employee_id": "nvarchar(12) NOT NULL PRIMARY KEY",
    "user_name": "nvarchar(100) NOT NULL",
    "work_email": "nvarchar(120)",
    "private_email": "nvarchar(120)",
    "first_name": "nvarchar(50) NOT NULL",
    "middle_name": "nvarchar(50)",
    "last_name": "nvarchar(80) NOT NULL",
    "preferred_name": "nvarchar(50)",
    "status": "nvarchar(12) NOT NULL",
    "job_title": "nvarchar(80) NOT NULL",
    "department": "nvarchar(50) NOT NULL",
    "cost_center": "char(6) NOT NULL",
    "manager_id": "nvarchar(12)",
    "office_phone": "varchar(25)",
    "mobile_phone": "varchar(25)",
    "street": "nvarchar(80)",
    "city": "nvarchar(50)",
    "postal_code": "nvarchar(12)",
    "country": "char(2)",
    "hire_date": "date NOT NULL",
    "fte": "decimal(4,2) NOT NULL",
    "remote": "bit NOT NULL",
    "badge": "uniqueidentifier NOT NULL",
    "last_changed": "datetime2(3) NOT NULL",
}

_DRAWS = struct.Struct("<16s24H")  # a 64-byte digest: the badge, then 24 draws of 0..65535
_DRAWN = 1 << 16
_BATCH_ROWS = 1000
_FIRST_HIRE = date(1988, 1, 4).toordinal()
_HIRE_DAYS = date(2025, 6, 30).toordinal() - _FIRST_HIRE
_LAST_CHANGE = date(2025, 12, 31).toordinal()
_MS_A_DAY = 24 * 60 * 60 * 1000
_FTE = (1.0,) * 12 + (0.8, 0.75, 0.6, 0.5)
# Of 65,536: how often a thing is so.
_TERMINATED, _LEAVE = 2621, 1311  # 4 %, 2 %
_NO_WORK_EMAIL, _NO_PRIVATE_EMAIL = 5243, 45875  # 8 %, 70 %
_NO_ADDRESS = 3277  # 5 %
_NO_PHONE, _ONLY_OFFICE, _ONLY_MOBILE = 5243, 26214, 45875  # 8 %, 32 % more, 30 % more; the rest has both
_DOUBLE_NAME, _MIDDLE_NAME, _PREFERRED_NAME = 1966, 6554, 3277  # 3 %, 10 %, 5 %
_REMOTE = 19661  # 30 %
_SHOUTED, _NATIVE = 655, 1966  # user names in capitals (1 %); with diacritics, where the name has some (2 %)
_LATIN_POOLS = 4  # the first pools are Latin: only there are double names and native user names made


class _Names:
    """Gives names and unique user names.

    Remembers how often each stem was given; their number is bounded by the name lists.
    """

    def __init__(self) -> None:
        self._pools = name_pools()
        self._slots = bytes(place for place, pool in enumerate(self._pools) for _ in range(pool.share))
        self._given: dict[str, int] = {}

    def draw(self, draws: Sequence[int]) -> tuple[Name, str | None, Name, str]:
        """Return first name, middle name, last name and user name, from six draws."""
        place = self._slots[draws[0] * len(self._slots) // _DRAWN]
        pool = self._pools[place]
        latin = place < _LATIN_POOLS
        first = pool.first[draws[1] % len(pool.first)]
        last = _double(pool, draws[2], draws[3]) if latin and draws[3] < _DOUBLE_NAME else _last(pool, draws[2])
        middle = pool.first[draws[4] % len(pool.first)].native if draws[4] < _MIDDLE_NAME else None
        style = draws[5]
        user_name = f"{first.ascii}.{last.ascii}"
        if latin and _SHOUTED <= style < _SHOUTED + _NATIVE:
            user_name = f"{first.lower}.{last.lower}"
        folded = user_name.casefold()
        count = self._given[folded] = self._given.get(folded, 0) + 1
        if count > 1:
            user_name += str(count)
        return first, middle, last, user_name.upper() if style < _SHOUTED else user_name


def _last(pool: NamePool, draw: int) -> Name:
    return pool.last[draw % len(pool.last)]


def _double(pool: NamePool, draw: int, other_draw: int) -> Name:
    """Join two last names, unless one of them is double already."""
    one, two = _last(pool, draw), _last(pool, other_draw)
    if one == two or "-" in one.native + two.native:
        return one
    return Name(f"{one.native}-{two.native}", f"{one.ascii}-{two.ascii}")


def person_id(number: int) -> str:
    """Return the employee id of person `number` (from 0)."""
    return f"E{number + 1:07}"


def people_rows(people: int) -> Iterator[Row]:
    """Yield that many people, in the order of COLUMNS."""
    company = Company.of(people)
    names = _Names()
    for number in range(people):
        badge, *draws = _DRAWS.unpack(hashlib.blake2b(b"person %d" % number).digest())
        first, middle, last, user_name = names.draw(draws[:6])
        hired = _FIRST_HIRE + draws[6] * _HIRE_DAYS // _DRAWN
        yield (
            person_id(number),
            user_name,
            *_emails(number, user_name, first, last, draws[7:9]),
            first.native,
            middle,
            last.native,
            first.native[:3].rstrip() if draws[9] < _PREFERRED_NAME else None,
            *_job(company, number, draws[10:13]),
            *_phones_and_address(draws[13:17]),
            date.fromordinal(hired).isoformat(),
            _FTE[draws[17] % len(_FTE)],
            int(draws[18] < _REMOTE),
            _guid(badge.hex().upper()),
            _timestamp(hired, draws[19], draws[20]),
        )


def _emails(number: int, user_name: str, first: Name, last: Name, draws: Sequence[int]) -> tuple[Value, Value]:
    """Return work and private address; either may be missing."""
    work = private = None
    if draws[0] >= _NO_WORK_EMAIL:
        plain = user_name.lower() if user_name.isascii() else f"{first.ascii}.{last.ascii}.{number + 1}"
        work = f"{plain}@demo.example"
    if draws[1] >= _NO_PRIVATE_EMAIL:
        private = f"{first.ascii}{number + 1}@home.example"
    return work, private


def _job(company: Company, number: int, draws: Sequence[int]) -> tuple[Value, ...]:
    """Return status, title, department, cost center and manager. Who leads others has not left."""
    rank = company.rank(number)
    department = company.department(number)
    boss = company.boss(number)
    status = "Active"
    if rank == MEMBER and draws[0] < _TERMINATED + _LEAVE:
        status = "Terminated" if draws[0] < _TERMINATED else "Leave"
    if rank == MEMBER:
        title = department.titles[draws[1] % len(department.titles)]
    else:
        title = {TOP: "Chief Executive Officer", HEAD: f"Head of {department.name}", LEAD: "Team Lead"}[rank]
    cost_center = f"{department.code}{draws[2] % 40:03}"
    return status, title, department.name, cost_center, None if boss is None else person_id(boss)


def _phones_and_address(draws: Sequence[int]) -> tuple[Value, ...]:
    """Return office phone, mobile phone, street, city, postal code and country; some have none of a kind."""
    which, digits, place, house = draws
    site = SITES[place % len(SITES)]
    office = mobile = None
    if which >= _NO_PHONE and not _ONLY_OFFICE <= which < _ONLY_MOBILE:
        office = f"{site.dial} {digits % 10_000:04}"
    if which >= _ONLY_OFFICE:
        mobile = f"{site.dial.split()[0]} 7700 9{digits * 10 + house % 10:06}"
    if house < _NO_ADDRESS:
        return office, mobile, None, None, None, None
    street = f"{site.streets[house % len(site.streets)]} {house % 197 + 1}"
    return office, mobile, street, site.city, f"{site.postal}{house % 900 + 100}", site.country


def _guid(hex_digits: str) -> str:
    """Return 32 hex digits as SQL Server shows a uniqueidentifier."""
    return "-".join((hex_digits[:8], hex_digits[8:12], hex_digits[12:16], hex_digits[16:20], hex_digits[20:]))


def _timestamp(hired: int, day_draw: int, time_draw: int) -> str:
    """Return a moment between the hiring and the end of 2025, to the millisecond."""
    day = date.fromordinal(hired + day_draw * (_LAST_CHANGE - hired) // _DRAWN).isoformat()
    seconds, milliseconds = divmod(time_draw * _MS_A_DAY // _DRAWN, 1000)
    minutes, second = divmod(seconds, 60)
    return f"{day} {minutes // 60:02}:{minutes % 60:02}:{second:02}.{milliseconds:03}"


def count_people(path: Path) -> int | None:
    """Return how many people the file holds; None without a file of this content version."""
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(path)) as database:
            if database.execute("PRAGMA user_version").fetchone() != (CONTENT_VERSION,):
                return None
            return int(database.execute("SELECT count(*) FROM people").fetchone()[0])
    except sqlite3.DatabaseError:
        return None


def write_people(path: Path, people: int, progress: Callable[[int], None] = lambda _: None) -> None:
    """Write the file anew; it appears complete or not at all.

    `progress` is told the number of people written so far, a thousand at a time.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    columns = ", ".join(f"{name} {declaration}" for name, declaration in COLUMNS.items())
    insert = f"INSERT INTO people VALUES ({', '.join('?' * len(COLUMNS))})"
    with closing(sqlite3.connect(unfinished, isolation_level=None)) as database:
        # Neither journal nor sync: a file that was not finished is thrown away.
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute(f"CREATE TABLE people ({columns})")
        for name, declaration in TABLES.items():
            database.execute(f"CREATE TABLE {name} ({declaration})")
        database.execute("BEGIN")
        _insert(database, fixed_rows())
        company = Company.of(people)
        rows = people_rows(people)
        done = 0
        while batch := list(islice(rows, _BATCH_ROWS)):
            database.executemany(insert, batch)
            for number in range(done, done + len(batch)):
                _insert(database, rows_of(company, number, person_id(number)))
            done += len(batch)
            progress(done)
        database.execute("COMMIT")
        database.execute(f"PRAGMA user_version = {CONTENT_VERSION}")
    unfinished.replace(path)


def _insert(database: sqlite3.Connection, rows: Iterator[tuple[str, tuple[str | int, ...]]]) -> None:
    for table, row in rows:
        database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
