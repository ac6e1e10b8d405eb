"""The SQL Server source: real pymssql over a real socket to the TDS test server.

What holds on any SQL Server, a real one too, is in test_sqlserver_any.py.
"""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import struct
import threading
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trustme
from sqlserver_fixtures import MAPPING, SETTINGS, Authority, make_config, refresh
from tds_clients import make_people
from tds_server import Fault, TdsServer

from snapshot.errors import SourceError
from snapshot.filter import parse_filter
from snapshot.reader import open_snapshot
from snapshot.scim import USER, ScimVersion
from snapshot.sources import open_source
from snapshot.sources.freetds import write_conf
from snapshot.sources.rows import check_row_count, split_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snapshot.config import Config


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(tmp_path: Path, authority: Authority) -> Iterator[TdsServer]:
    with TdsServer(make_people(tmp_path), certificate=authority.certificate(), **SETTINGS) as running:
        yield running
        assert [] == [log.failure for log in running.sessions if log.failure]


def users_of(config: Config) -> list[dict[str, Any]]:
    snapshot = open_snapshot(config.data_dir)
    text = snapshot.resources(USER, ScimVersion.V2_0, 0, snapshot.count(USER))
    return orjson.loads(b"[" + bytes(text) + b"]")


def test_a_table_becomes_users(server: TdsServer, tmp_path: Path) -> None:
    """Every SQL Server type of the table arrives as the SCIM value that the mapping names."""
    config = make_config(tmp_path, server)
    outcome = refresh(config)
    assert ("published", {"rows": 3, "users": 2, "rejects": 1}) == (
        outcome.state,
        {name: outcome.counts[name] for name in ("rows", "users", "rejects")},
    )
    user = users_of(config)[1]
    custom = user["urn:okta:acme_hr_1:1.0:user:custom"]
    assert "3a5d0a00-6739-4dfe-a8f7-844cd9dee3df" == user["id"]
    assert ("zoë 😀", True) == (user["userName"], user["active"])
    assert "5" == user["urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"]["manager"]["value"]
    assert {
        "fte": 0.8,
        "hired": "2009-01-14T00:00:00Z",
        "changed": "2014-06-30T01:02:03.456Z",
        "photo": "AAE=",
    } == custom


def test_the_rows_are_encrypted_and_the_login_is_ours(server: TdsServer, tmp_path: Path) -> None:
    """PRELOGIN demands encryption for the whole connection, and the application name tells DBAs who reads."""
    refresh(make_config(tmp_path, server))
    (log,) = server.sessions
    assert (1, True) == (log.client_encryption, log.encrypted)
    assert log.login is not None
    assert log.login.application.startswith("scim-snapshot/")
    assert not log.login.read_only


def test_every_query_runs_in_one_snapshot_transaction(server: TdsServer, tmp_path: Path) -> None:
    """COUNT_BIG and the rows are read at SNAPSHOT, inside one transaction."""
    refresh(make_config(tmp_path, server))
    (log,) = server.sessions
    texts = [statement.sql for statement in log.statements]
    assert 1 == texts.count("BEGIN TRANSACTION")
    reads = [statement for statement in log.statements if "[dbo].[Users]" in statement.sql]
    assert [
        ("SELECT COUNT_BIG(*) FROM [dbo].[Users]", 1, "SNAPSHOT"),
        ("SELECT * FROM [dbo].[Users]", 1, "SNAPSHOT"),
    ] == [(statement.sql, statement.depth, statement.isolation) for statement in reads]
    assert "SET NOCOUNT OFF" in texts
    assert not any("NOLOCK" in text.upper() for text in texts)


def test_a_row_written_between_two_queries_is_not_seen(server: TdsServer, tmp_path: Path) -> None:
    """Two queries of one refresh see one instant even when somebody writes between them."""
    config = make_config(tmp_path, server)
    with open_source(config) as source:
        rows = source.read(config.source.users)
        first = sum(len(batch) for batch in rows.batches())
        with contextlib.closing(sqlite3.connect(tmp_path / "people.db")) as database, database:
            database.execute(
                "INSERT INTO Users (id, login, active) VALUES ('00000000-0000-0000-0000-00000000000a', 'new', 1)"
            )
        second = sum(len(batch) for batch in source.read(config.source.users).batches())
    assert 3 == first
    assert first == second
    with open_source(config) as source:
        assert 4 == sum(len(batch) for batch in source.read(config.source.users).batches())


@pytest.mark.parametrize(
    ("settings", "source", "isolation", "warning"),
    [
        ({}, {}, "snapshot", None),
        ({"snapshot_isolation_state": 0, "read_committed_snapshot": True}, {}, "read committed snapshot", "READ_COMMITTED_SNAPSHOT"),
        ({"snapshot_isolation_state": 0}, {}, "read committed", "READ COMMITTED: a row that moves"),
        ({"updateability": "READ_ONLY"}, {"read_only": True}, "read-only replica", None),
        ({}, {"read_only": True}, "snapshot", "not routed to a read-only replica"),
        ({}, {"isolation": "read_committed"}, "read committed", "READ COMMITTED: a row that moves"),
    ],
)  # fmt: skip
def test_the_isolation_ladder(
    server: TdsServer,
    tmp_path: Path,
    settings: dict[str, Any],
    source: dict[str, Any],
    isolation: str,
    warning: str | None,
) -> None:
    """The best isolation there is gets chosen, and what is less than one instant is said."""
    for name, value in settings.items():
        setattr(server.settings, name, value)
    with open_source(make_config(tmp_path, server, **source)) as opened:
        assert isolation == opened.isolation
        assert warning is None or any(warning in text for text in opened.warnings)
        assert warning is not None or opened.warnings == []


@pytest.mark.parametrize(("isolation", "code"), [("snapshot", "isolation"), ("read_committed_snapshot", "isolation")])
def test_a_demanded_isolation_that_is_off_is_an_error(
    server: TdsServer, tmp_path: Path, isolation: str, code: str
) -> None:
    """Nothing weaker than the isolation that was asked for is used."""
    server.settings.snapshot_isolation_state = 0
    outcome = refresh(make_config(tmp_path, server, isolation=isolation))
    assert ("failed", code) == (outcome.state, outcome.code)


FAULTS: list[tuple[str, Fault, str, str]] = [
    ("refuse-login", Fault("refuse-login"), "login_refused", "SQL Server refused the login of scim_reader."),
    ("silent-login", Fault("silent-login"), "unreachable", "was reached, but the login was broken off or not answered (error 20002)"),
    ("silent-prelogin", Fault("silent-prelogin"), "unreachable", "did not answer within 3 seconds"),
    ("error", Fault("error", match=r"SELECT \*", after_rows=1), "query", "SQL Server said: Something went wrong (error 50000)"),
    ("deadlock", Fault("deadlock", match=r"SELECT \*", after_rows=1), "deadlock", "victim of a deadlock"),
    ("reset", Fault("reset", match=r"SELECT \*", after_rows=1), "connection_lost", "is dead"),
    ("close", Fault("close", match=r"SELECT \*", after_rows=1), "connection_lost", "closed the connection in the middle"),
    ("done-error", Fault("done-error", match=r"SELECT \*", after_rows=1), "truncated", "After 1 rows of dbo.Users the server sent no row count."),
    ("silence", Fault("silence", match=r"SELECT \*", after_rows=1), "timeout", "did not answer in time"),
    ("wrong-count", Fault("wrong-count", match=r"SELECT \*"), "truncated", "3 rows of dbo.Users were read, but the server reports 2."),
    ("permission", Fault("permission", match=r"SELECT \*"), "permission", "The SELECT permission was denied on the object 'Users'"),
    ("snapshot-disallowed", Fault("snapshot-disallowed"), "isolation", "SNAPSHOT isolation is not allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "code", "cause"), [case[1:] for case in FAULTS], ids=[case[0] for case in FAULTS])
def test_a_fault_of_the_server_publishes_nothing(
    server: TdsServer, tmp_path: Path, fault: Fault, code: str, cause: str
) -> None:
    """Whatever the server does wrong, the refresh fails with cause and remedy and the good snapshot stays."""
    config = make_config(tmp_path, server)
    assert "published" == refresh(config).state
    before = users_of(config)
    server.fault(fault)
    outcome = refresh(config)
    assert ("failed", code) == (outcome.state, outcome.code)
    assert cause in outcome.reason
    assert outcome.remedy
    assert 1 == open_snapshot(config.data_dir).generation
    assert before == users_of(config)
    server.clear_faults()
    assert "unchanged" == refresh(config).state


@pytest.mark.parametrize("number", [18452, 18456, *range(18463, 18469), 18470, 18486, 18487, 18488])
def test_a_refused_password_is_told(server: TdsServer, tmp_path: Path, number: int) -> None:
    """Each number by which SQL Server refuses a login or its password is code login_refused: the schedule waits."""
    server.fault(Fault("refuse-login", number=number, message="The server's words.", severity=14))
    outcome = refresh(make_config(tmp_path, server))
    assert ("failed", "login_refused") == (outcome.state, outcome.code)
    assert outcome.remedy


@pytest.mark.parametrize("number", [233, 945, 976, 983, 4064, 17142, 17809, 18401, 18461, 40613])
def test_a_server_that_lets_nobody_in_refuses_no_password(server: TdsServer, tmp_path: Path, number: int) -> None:
    """A failover, a start, single-user mode: unreachable, in the server's words, by one login; nothing pauses."""
    server.fault(Fault("refuse-login", number=number, message="The database is recovering.", severity=14))
    outcome = refresh(make_config(tmp_path, server))
    assert ("failed", "unreachable", 1) == (outcome.state, outcome.code, outcome.attempts)
    assert f"SQL Server at localhost lets nobody in: The database is recovering (error {number})." == outcome.reason
    assert "are online" in outcome.remedy
    assert 1 == len(server.logins)


@pytest.mark.parametrize(
    ("source", "code", "cause"),
    [
        ({"password": "wrong"}, "login_refused", "SQL Server refused the login of scim_reader."),
        ({"database": "Nope"}, "permission", 'Cannot open database "Nope"'),
        ({"tls": {}}, "certificate", "is not trusted"),
        ({"server": "127.0.0.1"}, "certificate", "is not for 127.0.0.1"),
        ({"tls": {"ca": "missing.pem"}}, "certificate", "There is no file"),
        ({"users": {"table": "dbo.Nope"}}, "missing_object", "Invalid object name 'dbo.Nope'"),
        ({"users": {"query": "SELECT nope FROM dbo.Users"}}, "missing_column", "Invalid column name 'nope'"),
        ({"server": "no-such-host.invalid"}, "unreachable", "The host no-such-host.invalid is not known."),
    ],
)
def test_a_wrong_setting_gets_its_cause_in_one_sentence(
    server: TdsServer, tmp_path: Path, source: dict[str, Any], code: str, cause: str
) -> None:
    """Login, database, certificate, name, table, column: each is told apart, and no secret is shown."""
    outcome = refresh(make_config(tmp_path, server, **source))
    assert ("failed", code) == (outcome.state, outcome.code)
    assert cause in outcome.reason
    assert "\n" not in outcome.reason + outcome.remedy
    assert "pä$$" not in outcome.reason + outcome.remedy


@pytest.mark.parametrize(
    ("source", "first"),
    [
        ({"server": "127.0.0.1", "tls": {"ca": "ca.pem", "hostname": "localhost"}}, 0x12),
        ({"server": "127.0.0.1", "tls": {"ca": "ca.pem", "verify": "ca"}}, 0x12),
        ({"tls": {"verify": "none"}}, 0x12),
        ({"tls": {"ca": "ca.pem", "encryption": "strict"}}, 0x16),
        ({"packet_size": 15872}, 0x12),
    ],
)
def test_the_ways_to_verify(server: TdsServer, tmp_path: Path, source: dict[str, Any], first: int) -> None:
    """Another host name, CA only, no verification and TDS 8.0 strict all connect, encrypted."""
    assert "published" == refresh(make_config(tmp_path, server, **source)).state
    (log,) = server.sessions
    assert log.encrypted
    assert (first == 0x16) is log.tls_first


def test_a_server_without_tls_is_refused(tmp_path: Path, authority: Authority) -> None:
    """Rows are never read in clear, and the cause is told."""
    with TdsServer(make_people(tmp_path), **SETTINGS) as plain:
        outcome = refresh(make_config(tmp_path, plain))
        assert ("failed", "encryption") == (outcome.state, outcome.code)
        assert [] == plain.logins


def test_a_foreign_certificate_gets_no_login(tmp_path: Path, authority: Authority) -> None:
    """A server whose CA is not ours never sees the password."""
    with TdsServer(make_people(tmp_path), certificate=trustme.CA().issue_cert("localhost"), **SETTINGS) as foreign:
        outcome = refresh(make_config(tmp_path, foreign))
        assert ("failed", "certificate") == (outcome.state, outcome.code)
        assert [] == foreign.logins


def test_a_closed_port_is_told(tmp_path: Path, authority: Authority) -> None:
    """Nothing listening is told apart from a certificate that is not trusted."""
    with TdsServer(make_people(tmp_path), certificate=authority.certificate(), **SETTINGS) as running:
        config = make_config(tmp_path, running)
    outcome = refresh(config)
    assert ("failed", "unreachable") == (outcome.state, outcome.code)
    assert f"Nothing listens at localhost:{config.source.port}." == outcome.reason


def test_a_query_gets_its_values_as_parameters(server: TdsServer, tmp_path: Path) -> None:
    """SQL Server binds the configured values itself; no value becomes part of the text of the query."""
    nasty = "'; DROP TABLE Users; --"
    query = "SELECT id, login, active, fte, hired, changed, manager, photo FROM dbo.Users WHERE active = @on AND login <> @nasty"
    config = make_config(tmp_path, server, users={"query": query, "parameters": {"on": True, "nasty": nasty}})
    assert {"rows": 1} == {"rows": refresh(config).counts["rows"]}
    (read,) = [statement for statement in server.sessions[0].queries if "WHERE" in statement.sql]
    assert (query, {"@on": 1, "@nasty": nasty}) == (read.sql, read.params)


def test_a_procedure_is_read_and_must_count(server: TdsServer, tmp_path: Path) -> None:
    """A stored procedure is read to its end; one that hides its row count is refused with the remedy."""
    config = make_config(tmp_path, server, users={"procedure": "scim.GetUsers", "parameters": {"boss": 5}})
    server.procedure("scim.GetUsers", "SELECT * FROM dbo.Users WHERE manager = @boss")
    assert "published" == refresh(config).state
    server.procedure("scim.GetUsers", "SET NOCOUNT ON; SELECT * FROM dbo.Users WHERE manager = @boss")
    outcome = refresh(config)
    assert ("failed", "truncated") == (outcome.state, outcome.code)
    assert outcome.remedy.startswith("Put SET NOCOUNT OFF before the SELECT of scim.GetUsers")
    server.procedure("scim.GetUsers", "SET NOCOUNT ON; SET NOCOUNT OFF; SELECT * FROM dbo.Users WHERE manager = @boss")
    assert "unchanged" == refresh(config).state


def test_a_count_query_is_compared_with_the_rows(server: TdsServer, tmp_path: Path) -> None:
    """A count_query of the same transaction that gives another number fails the refresh."""
    users = {"query": "SELECT * FROM dbo.Users", "count_query": "SELECT COUNT_BIG(*) FROM dbo.Users"}
    assert "published" == refresh(make_config(tmp_path, server, users=users)).state
    users["count_query"] += " WHERE active = 1"
    outcome = refresh(make_config(tmp_path, server, users=users))
    assert ("truncated", "3 rows of the query were read, but COUNT(*) in the same transaction gives 1.") == (
        outcome.code,
        outcome.reason,
    )


def test_a_named_instance_is_looked_up_by_the_browser(server: TdsServer, tmp_path: Path) -> None:
    r"""HOST\INSTANCE asks the SQL Server Browser on UDP 1434 for the port."""
    browser = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        browser.bind(("127.0.0.1", 1434))
    except OSError:
        pytest.skip("UDP port 1434 is taken on this machine")
    browser.settimeout(10)

    def answer() -> None:
        with contextlib.suppress(TimeoutError):
            _, peer = browser.recvfrom(256)
            text = (
                f"ServerName;SQL01;InstanceName;HRINST;IsClustered;No;Version;16.0.1000.6;tcp;{server.port};;".encode()
            )
            browser.sendto(struct.pack("<BH", 5, len(text)) + text, peer)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        config = make_config(tmp_path, server, instance="HRINST", port=None, login_timeout_seconds=20)
        outcome = refresh(config)
        assert ("published", "") == (outcome.state, outcome.reason)
    finally:
        thread.join()
        browser.close()


def test_a_column_that_is_not_there_names_the_nearest(server: TdsServer, tmp_path: Path) -> None:
    """A mapped column that the table lacks is an error with file, key and the nearest column."""
    outcome = refresh(make_config(tmp_path, server, mapping={**MAPPING, "userName": "logn"}))
    assert "failed" == outcome.state
    assert (
        'config.toml: mapping.userName: found no column "logn"; expected a column of the source (did you mean login?)'
        == outcome.reason
    )


def test_names_are_quoted_identifiers() -> None:
    """schema.table is split and quoted; quotes inside of a name stay part of the name."""
    assert ["dbo", "Users"] == split_name("dbo.Users")
    assert ["HR data", "v]x"] == split_name("[HR data].[v]]x]")
    assert ["a.b"] == split_name('"a.b"')
    for broken in ("", "dbo.", "a b; DROP TABLE x]", "[open"):
        with pytest.raises(SourceError):
            split_name(broken) if broken != "a b; DROP TABLE x]" else split_name("[a].b]")


@pytest.mark.parametrize(
    ("read", "reported", "counted", "good"),
    [(3, 3, 3, True), (3, 3, None, True), (3, None, 3, True), (3, 2, 3, False), (3, 3, 4, False), (0, 0, 1, False)],
)
def test_every_number_must_agree(read: int, reported: int | None, counted: int | None, good: bool) -> None:
    """The rows read must be what the server reports and what COUNT(*) gives."""
    expectation = contextlib.nullcontext() if good else pytest.raises(SourceError)
    with expectation:
        check_row_count(read=read, reported=reported, counted=counted, what="t")


def test_the_system_trust_store_is_written_out(tmp_path: Path, authority: Authority, server: TdsServer) -> None:
    """`ca = "system"` gives FreeTDS the trust store of the operating system as a PEM file."""
    config = make_config(tmp_path, server, tls={})
    folder = tmp_path / "conf"
    folder.mkdir()
    text = write_conf(config, folder).read_text(encoding="utf-8")
    assert f"ca file = {folder / 'ca.pem'}" in text
    assert (folder / "ca.pem").read_text(encoding="ascii").startswith("-----BEGIN CERTIFICATE-----")
    assert "check certificate hostname = yes" in text
    assert "encryption = require" in text


def test_what_was_read_can_be_filtered(server: TdsServer, tmp_path: Path) -> None:
    """The filter userName eq finds the user whatever the case, also beyond ASCII."""
    config = make_config(tmp_path, server)
    refresh(config)
    snapshot = open_snapshot(config.data_dir)
    assert [1] == list(snapshot.select(USER, parse_filter('userName eq "ZOË 😀"')))
