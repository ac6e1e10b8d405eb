"""Each way in which a SQL Server can fail us, while a server serves: nobody is missing, and the next refresh publishes.

Real pymssql over a real socket to the TDS test server; a refresh in a fresh process, as the scheduler runs it;
`python -m server` on the same folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from open_server import ServerProcess, server_process
from people_folder import PeopleFolder
from sqlserver_fixtures import PASSWORD, SETTINGS, Authority, refresh, source_of
from tds_server import Column, Fault, FaultKind, Result, TdsServer

from snapshot.refresh import run_refresh
from snapshot.store import read_current

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snapshot.control import RefreshOutcome

PEOPLE = 12
# Of the person whose row a fault strikes.
STRUCK = 6
CUSTOM = "urn:okta:acme_hr_1:1.0:user:custom"
COLUMNS = [
    Column("id", "int"),
    Column("login", "nvarchar(50)"),
    Column("title", "nvarchar(50)"),
    Column("active", "bit"),
    Column("hired", "date"),
]
QUERY = "SELECT id, login, title, active, hired FROM dbo.Users"
STAR, COUNT = r"SELECT \*", "COUNT_BIG"


class World:
    """A SQL Server, a data folder with a good generation, and a server in front of it."""

    def __init__(self, folder: PeopleFolder, authority: Authority, tds: TdsServer) -> None:
        self.folder = folder
        self.authority = authority
        self.tds = tds
        self.changes = 0
        self.server: ServerProcess
        columns = Result(COLUMNS, self.rows)
        tds.answer("SELECT * FROM [dbo].[Users]", columns)
        tds.answer(QUERY, columns)
        tds.answer("SELECT COUNT_BIG(*) FROM [dbo].[Users]", Result([Column("", "bigint")], [(PEOPLE,)]))
        folder.settings |= {
            "source": self.source(),
            "mapping": {
                "id": "id",
                "userName": "login",
                "title": "title",
                "active": "active",
                CUSTOM: {"hired": {"column": "hired", "type": "dateTime"}},
            },
            "guard": {},
            "server": {"port": 0, "auth": [{"type": "none"}], "poll_seconds": 0.02},
            "log": {"format": "json"},
        }

    def source(self, **changes: Any) -> dict[str, Any]:
        limits = {"login_timeout_seconds": 1, "query_timeout_seconds": 1, "retries": 0}
        return source_of(self.tds, **{**limits, "users": {"table": "dbo.Users"}, **changes})

    def rows(self) -> Iterator[tuple[Any, ...]]:
        for number in range(1, PEOPLE + 1):
            yield number, f"user{number}", f"Title {self.changes}" if number == 1 else "", number != 2, "2020-01-31"

    def refresh(self, *, deadline_seconds: int = 60, **source: Any) -> RefreshOutcome:
        self.folder.settings["source"] = self.source(**source)
        self.folder.settings["schedule"] = {"deadline_seconds": deadline_seconds}
        return refresh(self.folder.config)

    def publish(self) -> None:
        """Change a person, refresh (without a child around it, to be quick), and see the change served."""
        self.changes += 1
        self.folder.settings["source"] = self.source()
        manifest = run_refresh(self.folder.config)
        assert (PEOPLE, 0) == (manifest.resource_types["User"].count, manifest.rejects)
        self.wait_until_served()
        assert PEOPLE == len(self.server.users())

    def wait_until_served(self) -> None:
        self.server.wait_for(lambda users: users["1"]["title"] == f"Title {self.changes}")

    def mend(self) -> None:
        self.tds.clear_faults()
        self.tds.use_certificate(self.authority.certificate())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    path = tmp_path_factory.mktemp("faults")
    authority = Authority(path)
    with TdsServer(certificate=authority.certificate(), **SETTINGS) as tds:
        made = World(PeopleFolder(path), authority, tds)
        with server_process(made.folder.toml()) as made.server:
            assert "published" == made.refresh().state
            made.server.wait_for(lambda users: len(users) == PEOPLE)
            yield made
        assert [] == [log.failure for log in tds.sessions if log.failure]


@dataclass(frozen=True)
class Case:
    """One fault, and what the refresh must make of it: state, code, and what the cause says."""

    name: str
    code: str
    cause: str
    fault: Fault | None = None
    certificate: str = ""
    source: dict[str, Any] = field(default_factory=dict)
    deadline_seconds: int = 60
    state: str = "failed"
    title: str = ""  # of the person whose row it strikes, where that is published


def anywhere(kind: str, code: str, cause: str, **options: Any) -> list[Case]:
    """Return the fault before the first row, in the middle, and after the last row but before the end."""
    places = {"first": 0, "middle": STRUCK - 1, "last": PEOPLE}
    return [
        Case(f"{kind}-{name}", code, cause.format(rows=rows), Fault(kind, match=STAR, after_rows=rows, **options))
        for name, rows in places.items()
    ]


CASES = [
    Case("refuse-login", "login_refused", "refused the login of scim_reader", Fault("refuse-login")),
    Case("silent-login", "unreachable", "the login was broken off or not answered", Fault("silent-login")),
    Case("silent-prelogin", "unreachable", "did not answer within 1 seconds", Fault("silent-prelogin")),
    Case("close-login", "unreachable", "closed the connection during the login", Fault("close-login")),
    Case("reset-login", "unreachable", "the login was broken off", Fault("reset-login")),
    *anywhere("error", "query", "Something went wrong (error 50000)"),
    *anywhere("deadlock", "deadlock", "victim of a deadlock"),
    *anywhere("reset", "connection_lost", "connection to SQL Server is dead"),
    *anywhere("close", "connection_lost", "SQL Server closed the connection in the middle of a result"),
    *anywhere("done-error", "truncated", "After {rows} rows of dbo.Users the server sent no row count"),
    *anywhere("silence", "timeout", "SQL Server did not answer in time"),
    Case("error-in-count", "query", "Something went wrong", Fault("error", match=COUNT)),
    Case("done-error-in-count", "truncated", "COUNT_BIG(*) of dbo.Users gave no number", Fault("done-error", match=COUNT)),
    Case("slow", "deadline", "not finished after 2 seconds", Fault("slow", match=STAR, seconds=1.0), source={"query_timeout_seconds": 5}, deadline_seconds=2),
    Case("one-counted-less", "truncated", "12 rows of dbo.Users were read, but the server reports 11", Fault("wrong-count", match=STAR)),
    Case("one-counted-more", "truncated", "12 rows of dbo.Users were read, but the server reports 13", Fault("wrong-count", match=STAR, count_delta=1)),
    Case("column-vanished-from-table", "mapping", 'mapping.userName: found no column "login"', Fault("missing-column", match=STAR, column="login")),
    Case("column-vanished-from-query", "missing_column", "Invalid column name 'title'", Fault("missing-column", match="SELECT id", column="title"), source={"users": {"query": QUERY}}),
    Case("type-changed-unusable", "guard", "12 of 12 rows are rejects", Fault("changed-type", match=STAR, column="hired", type="time(0)"), state="refused"),
    Case("type-changed-usable", "", "", Fault("changed-type", match=STAR, column="id", type="nvarchar(20)"), state="published"),
    # The driver makes a question mark of it, so there is nothing to tell: docs/sql-server.md, "Broken characters".
    Case("lone-surrogate", "", "", Fault("lone-surrogate", match=STAR, column="title", after_rows=STRUCK - 1), state="published", title="bad ? surrogate"),
    Case("ten-megabytes-in-one-cell", "", "", Fault("huge-cell", match=STAR, column="title", after_rows=STRUCK - 1), state="published", title="x" * 5_000_000),
    Case("permission", "permission", "SELECT permission was denied on the object 'Users'", Fault("permission", match=STAR)),
    Case("snapshot-disallowed", "isolation", "SNAPSHOT isolation is not allowed", Fault("snapshot-disallowed")),
    Case("certificate-of-another", "certificate", "is not for localhost", certificate="another"),
    Case("certificate-of-unknown-ca", "certificate", "is not trusted", certificate="unknown"),
    Case("certificate-expired", "certificate", "certificate has expired", certificate="expired"),
    Case("no-tls", "encryption", "does not support encryption", certificate="none"),
]  # fmt: skip


def certificate_of(world: World, name: str) -> Any:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    return {
        "another": lambda: world.authority.certificate("elsewhere.example"),
        "unknown": lambda: trustme.CA().issue_cert("localhost"),
        "expired": lambda: world.authority.ca.issue_cert("localhost", not_after=yesterday),
        "none": lambda: None,
    }[name]()


def test_every_fault_has_its_case() -> None:
    """No misbehaviour that the test server can play is left out here."""
    assert set(FaultKind) == {case.fault.kind for case in CASES if case.fault}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_nobody_is_missing(world: World, case: Case) -> None:
    """Whatever SQL Server does, everybody is served as before, the cause is told, and the next refresh publishes."""
    generation, body, before = read_current(world.folder.data_dir), world.server.body(), world.server.users()
    assert PEOPLE == len(before)
    world.changes += 1
    try:
        if case.fault:
            world.tds.fault(case.fault)
        else:
            world.tds.use_certificate(certificate_of(world, case.certificate))
        outcome = world.refresh(deadline_seconds=case.deadline_seconds, **case.source)
    finally:
        world.mend()
    assert (case.state, case.code) == (outcome.state, outcome.code)
    assert PASSWORD not in repr(outcome)
    if case.state == "published":
        world.wait_until_served()
        after = world.server.users()
        assert before.keys() == after.keys()
        changed = {name for name in before if before[name] != after[name]}
        assert changed == ({"1", str(STRUCK)} if case.title else {"1"})
        assert case.title == after[str(STRUCK)].get("title", "")
    else:
        assert case.cause in outcome.reason
        assert outcome.remedy
        assert generation == read_current(world.folder.data_dir)
        assert body == world.server.body()
        assert not list(world.folder.data_dir.glob(".creating-*"))
    world.publish()
