"""The two clients that the tests of the TDS server read with, and what they read."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pymssql
import pytds
from tds_results import Result
from tds_types import Column

if TYPE_CHECKING:
    from pathlib import Path

    from tds_server import TdsServer

GUID = uuid.UUID("3a5d0a00-6739-4dfe-a8f7-844cd9dee3df")


def via_pymssql(server: TdsServer, **options: Any) -> Any:
    chosen = {"user": "sa", "password": "pä$$", "database": "HR", "autocommit": True, **options}
    return pymssql.connect(server=chosen.pop("host", "127.0.0.1"), port=server.port, **chosen)


def via_pytds(server: TdsServer, **options: Any) -> Any:
    chosen = {"user": "sa", "password": "pä$$", "database": "HR", "autocommit": True, **options}
    return pytds.connect("127.0.0.1", port=server.port, **chosen)


CLIENTS = {"pymssql": via_pymssql, "python-tds": via_pytds}


def number_of(error: Any) -> int:
    """Return the error number: pymssql puts it, or (number, text), first in args; python-tds has msg_no."""
    if isinstance(error, pytds.Error):
        return error.msg_no
    first = error.args[0]
    return first if isinstance(first, int) else first[0]


def connect_in_new_process(target: TdsServer, **options: Any) -> str:
    """Connect with pymssql in a fresh process; return "number text" of the failure, or "ok".

    pymssql keeps the number of a failed connect in a global and shows it again for later, milder failures.
    """
    code = (
        "import json, pymssql, sys\n"
        "try: pymssql.connect(**json.loads(sys.argv[1])).close(); print('ok')\n"
        "except pymssql.Error as error: print(error.args[0][0], error.args[0][1].decode())\n"
    )
    chosen = {"server": "127.0.0.1", "port": target.port, "user": "sa", "password": "x", **options}
    command = [sys.executable, "-c", code, json.dumps(chosen)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def rows_of(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def make_people(folder: Path) -> Path:
    """Make a database of three people in WAL mode, its columns declared with SQL Server's types."""
    path = folder / "people.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(
            "CREATE TABLE Users (id uniqueidentifier, login nvarchar(50), fte decimal(4,2), hired date, "
            "changed datetime2(3), active bit, manager int, photo [varbinary(max)])"
        )
        database.executemany(
            "INSERT INTO Users VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (str(GUID), "zoë 😀", "0.80", "2009-01-14", "2014-06-30 01:02:03.456", 1, 5, b"\0\1"),
                (str(uuid.UUID(int=2)), "o'brien", 1, "0001-01-01", None, 0, None, None),
                (str(uuid.UUID(int=3)), None, None, None, None, None, None, None),
            ],
        )
        database.execute('CREATE TABLE "hr.Department" (id int, name varchar(20))')
        database.execute("INSERT INTO `hr.Department` VALUES (1, 'Sales')")
        database.commit()
    return path


def plain_freetds_conf(folder: Path) -> str:
    """Write an empty freetds.conf, so that no other one is read; return its path for FREETDSCONF."""
    path = folder / "empty.conf"
    path.write_text("[global]\n")
    return str(path)


NUMBERS = Result(
    [Column("n", "int"), Column("name", "nvarchar(30)")], lambda: ((at, f"row {at}") for at in range(5000))
)


def read_until_error(connection: Any, sql: str = "numbers") -> tuple[int, Any, Any]:
    """Return (rows read, exception or None, rowcount)."""
    cursor = connection.cursor()
    count = 0
    try:
        cursor.execute(sql)
        while rows := cursor.fetchmany(100):
            count += len(rows)
    except (pymssql.Error, pytds.Error) as error:
        return count, error, cursor.rowcount
    return count, None, cursor.rowcount
