"""The TDS test server against real clients: login, TLS, its process and its life."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pymssql
import pytds
import pytest
import trustme
from tds_clients import (
    CLIENTS,
    NUMBERS,
    connect_in_new_process,
    make_people,
    plain_freetds_conf,
    rows_of,
    via_pymssql,
    via_pytds,
)
from tds_login import Encryption
from tds_server import Column, PreparedRows, Result, TdsServer

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def _no_freetds_conf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FREETDSCONF", plain_freetds_conf(tmp_path))


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return make_people(tmp_path)


@pytest.mark.parametrize("client", CLIENTS)
def test_login_fields_are_read(client: str) -> None:
    """LOGIN7 is parsed: user, password in clear again, database, application, host."""
    with TdsServer() as server:
        CLIENTS[client](server, appname="scim-snapshot/1").close()
        login = server.logins[0]
        assert ("sa", "pä$$", "HR", "scim-snapshot/1") == (
            login.user,
            login.password,
            login.database,
            login.application,
        )
        assert socket.gethostname() == login.host
        assert login.read_only is False
        assert 0x74000004 == login.tds_version


@pytest.mark.parametrize(("option", "client"), [("read_only", "pymssql"), ("readonly", "python-tds")])
def test_read_only_intent_is_read_and_routed(option: str, client: str) -> None:
    """A login with ApplicationIntent=ReadOnly is known, and clients follow when it is sent elsewhere."""
    with TdsServer(updateability="READ_ONLY") as secondary, TdsServer() as primary:
        primary.settings.read_only_route = ("127.0.0.1", secondary.port)
        secondary.answer("q", Result([Column("a", "int")], [(2,)]))
        with contextlib.closing(CLIENTS[client](primary, **{option: True})) as connection:
            assert 2 == rows_of(connection, "q")[0][0]
        assert primary.logins[0].read_only
        assert secondary.logins[0].read_only


def test_login_is_refused_with_18456_and_4060() -> None:
    """A wrong password gets error 18456, an unknown database 4060, with the server's words."""
    with TdsServer(users={"reader": "secret"}, databases={"HR"}) as server:
        wrong = connect_in_new_process(server, user="reader", password="nope", database="HR")
        assert wrong.startswith("18456 Login failed for user 'reader'.")
        unknown = connect_in_new_process(server, user="reader", password="secret", database="Payroll")
        assert unknown.startswith('4060 Cannot open database "Payroll" requested by the login. The login failed.')
        with pytest.raises(pytds.OperationalError, match="Login failed for user 'reader'"):
            via_pytds(server, user="reader", password="nope")
        via_pymssql(server, user="reader", password="secret").close()
        assert [18456, 4060, 18456, None] == [log.login_error for log in server.sessions]


@pytest.mark.parametrize("size", [512, 4096, 16384, 32767])
def test_packet_size_is_negotiated(size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The client's packet size is honoured, and rows that span packets arrive whole."""
    path = tmp_path / "size.conf"
    path.write_text(f"[global]\n\tinitial block size = {size // 512 * 512}\n")
    monkeypatch.setenv("FREETDSCONF", str(path))
    rows = [(at, "x" * (at % 300)) for at in range(2000)]
    with TdsServer() as server:
        server.answer("q", Result([Column("a", "int"), Column("b", "nvarchar(300)")], rows))
        with contextlib.closing(via_pymssql(server)) as connection:
            assert rows == rows_of(connection, "q")
        with contextlib.closing(via_pytds(server, blocksize=size)) as connection:
            assert rows == [tuple(row) for row in rows_of(connection, "q")]
        assert size == server.sessions[1].packet_bytes


# --- TLS ---


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write a private freetds.conf and make FreeTDS read it."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    def write(encryption: str, *, check_name: str = "yes") -> None:
        conf = tmp_path / "freetds.conf"
        conf.write_text(
            f"[global]\n\tencryption = {encryption}\n\tca file = {tmp_path / 'ca.pem'}\n"
            f"\tcheck certificate hostname = {check_name}\n"
        )
        monkeypatch.setenv("FREETDSCONF", str(conf))

    return write


@pytest.mark.parametrize("encryption", ["require", "strict"])
def test_demanded_encryption_works_with_a_trusted_certificate(
    encryption: str, tls: Callable[..., None], authority: trustme.CA
) -> None:
    """`encryption = require` sends ENCRYPT_ON, `strict` begins with a ClientHello; rows arrive either way."""
    tls(encryption)
    rows = [(at, "é" * 200) for at in range(3000)]
    with TdsServer(certificate=authority.issue_cert("localhost")) as server:
        server.answer("q", Result([Column("a", "int"), Column("b", "nvarchar(200)")], rows))
        with contextlib.closing(via_pymssql(server, host="localhost")) as connection:
            assert rows == rows_of(connection, "q")
        log = server.sessions[0]
        assert log.encrypted
        if encryption == "require":
            assert (False, Encryption.ON, "TLSv1.2") == (
                log.tls_first,
                log.client_encryption,
                log.tls_version,
            )
        else:
            assert (True, "tds/8.0") == (log.tls_first, log.alpn)


@pytest.mark.parametrize("encryption", ["require", "strict"])
@pytest.mark.parametrize("case", ["untrusted", "wrong name"])
def test_bad_certificates_are_refused_by_the_client(
    encryption: str, case: str, tls: Callable[..., None], authority: trustme.CA
) -> None:
    """With `ca file` set no login is sent to a server with an untrusted or wrongly named certificate."""
    tls(encryption)
    issuer, name = (trustme.CA(), "localhost") if case == "untrusted" else (authority, "db.example.com")
    with TdsServer(certificate=issuer.issue_cert(name)) as server:
        refused = connect_in_new_process(server, server="localhost")
        assert refused.startswith("20002 ")
        assert [] == server.logins


def test_wrong_name_passes_when_names_are_not_checked(tls: Callable[..., None], authority: trustme.CA) -> None:
    """`check certificate hostname = no` accepts a trusted certificate of any name."""
    tls("require", check_name="no")
    with TdsServer(certificate=authority.issue_cert("db.example.com")) as server:
        via_pymssql(server, host="localhost").close()
        assert server.sessions[0].encrypted


def test_by_default_only_the_login_is_encrypted(tls: Callable[..., None], authority: trustme.CA) -> None:
    """FreeTDS's default `request` sends ENCRYPT_OFF: LOGIN7 is encrypted and rows travel in clear."""
    tls("request")
    with TdsServer(certificate=authority.issue_cert("localhost")) as server:
        server.answer("q", Result([Column("a", "int")], [(1,)]))
        with contextlib.closing(via_pymssql(server, host="localhost")) as connection:
            assert [(1,)] == rows_of(connection, "q")
        log = server.sessions[0]
        assert (Encryption.OFF, Encryption.OFF) == (log.client_encryption, log.encryption)
        assert log.tls_version is not None
        assert not log.encrypted


def test_a_server_that_requires_encryption_gets_it(tls: Callable[..., None], authority: trustme.CA) -> None:
    """ENCRYPT_REQ makes a client that said OFF encrypt everything, and sends away one that cannot."""
    certificate = authority.issue_cert("localhost")
    with TdsServer(certificate=certificate, encryption="required") as server:
        tls("request")
        via_pymssql(server, host="localhost").close()
        assert server.sessions[0].encrypted
        tls("off")
        with pytest.raises(pymssql.OperationalError):
            via_pymssql(server, host="localhost")
        with pytest.raises(pytds.Error):
            via_pytds(server)
        assert 1 == len(server.logins)


def test_a_server_without_encryption_is_refused_when_it_is_demanded(tls: Callable[..., None]) -> None:
    """A client that demands encryption does not log in to a server that answers NOT_SUP."""
    tls("require")
    with TdsServer() as server:
        with pytest.raises(pymssql.OperationalError):
            via_pymssql(server)
        assert [] == server.logins


# --- prepared rows, process, life ---


def test_prepared_rows_equal_rows_made_one_by_one(tmp_path: Path, people: Path) -> None:
    """A file of prepared rows answers its query and its COUNT_BIG with exactly the same values."""
    path = tmp_path / "numbers.rows"
    sql = "SELECT [n], [name] FROM [dbo].[Numbers]"
    assert 5000 == PreparedRows.write(path, NUMBERS.columns, NUMBERS.iterate(), sql=sql)
    with TdsServer(people) as server:
        server.prepared(path)
        for connect in CLIENTS.values():
            with contextlib.closing(connect(server)) as connection:
                assert list(NUMBERS.iterate()) == [tuple(row) for row in rows_of(connection, sql)]
                assert 5000 == rows_of(connection, f"SELECT COUNT_BIG(*) FROM ({sql}) AS q")[0][0]


def test_it_runs_as_a_process_of_its_own(tmp_path: Path, people: Path) -> None:
    """`python tests/tds_server.py` prints its port in one line, serves, and stops at SIGTERM with 0."""
    path = tmp_path / "numbers.rows"
    PreparedRows.write(path, NUMBERS.columns, NUMBERS.iterate(), sql="SELECT * FROM dbo.Numbers")
    script = Path(__file__).with_name("tds_server.py")
    command = [
        sys.executable,
        script,
        "--sqlite",
        people,
        "--prepared",
        path,
        "--user",
        "sa:x",
        "--port",
        "0",
    ]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            port = int(process.stdout.readline())
            with contextlib.closing(
                pymssql.connect(server="127.0.0.1", port=port, user="sa", password="x", autocommit=True)
            ) as connection:
                assert 5000 == len(rows_of(connection, "SELECT * FROM dbo.Numbers"))
                assert [(3,)] == rows_of(connection, "SELECT COUNT(*) FROM Users")
        finally:
            process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(10)


def test_it_leaves_no_thread_and_no_socket() -> None:
    """Closing the server ends its threads and connections, also those of idle and silent clients."""
    before = set(threading.enumerate())
    with TdsServer() as server:
        connection = via_pymssql(server)
        raw = socket.create_connection((server.host, server.port))
    assert before == set(threading.enumerate())
    raw.settimeout(2)
    with contextlib.suppress(ConnectionResetError):  # when it was still waiting to be accepted
        assert b"" == raw.recv(1)
    raw.close()
    with pytest.raises(pymssql.OperationalError):
        connection.cursor().execute("SELECT 1 AS a")
    connection.close()
    assert "" == "".join(log.failure for log in server.sessions)
