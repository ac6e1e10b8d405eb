"""The configuration: pairs of a bad file and its exact message, cross-checks, digests."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from snapshot.config import Config, config_digest, is_loopback, load_config, parse_config
from snapshot.errors import ConfigError
from snapshot.scim import ScimVersion

MINIMAL = """
[source]
driver = "sqlite"
path = "people.db"
users = { table = "people" }

[mapping]
id = "id"
userName = "login"

[[server.auth]]
type = "basic"
username = "okta"
password = "${env:SCIM_PASSWORD}"
"""
SQL_SERVER = {
    "driver": "sqlserver",
    "server": "sql01",
    "database": "HR",
    "username": "reader",
    "password": "${env:DB_PASSWORD}",
    "users": {"table": "hr.people"},
}
HASH = "scrypt$16384$8$1$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def tables(**changes: Any) -> dict[str, Any]:
    """Return MINIMAL with values set by dotted key, dots as double underscores; None takes a key away."""
    result = tomllib.loads(MINIMAL)
    for name, value in changes.items():
        *path, last = name.split("__")
        inner = result
        for part in path:
            inner = inner.setdefault(part, {})
        if value is None:
            inner.pop(last, None)
        else:
            inner[last] = copy.deepcopy(value)
    return result


def parse(**changes: Any) -> Config:
    return parse_config(tables(**changes), where="c.toml", base=Path("/etc/scim"))


def problems(**changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(**changes)
    return str(caught.value).splitlines()


def test_the_least_configuration():
    """A source, two columns and a credential are enough; everything else has a default."""
    config = parse()
    assert {"/scim/v1": "1.1", "/scim/v2": "2.0"} == {name: item.version for name, item in config.server.paths.items()}
    assert (3600, 3600, 3) == (
        config.schedule.interval_seconds,
        config.schedule.deadline_seconds,
        config.store.keep_generations,
    )
    assert Path("/etc/scim/data") == config.data_dir
    assert Path("/etc/scim/people.db") == config.path(config.source.path)
    assert () == config.warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source = 1\n= 2", "broken TOML: Invalid statement (at line 2, column 1); expected valid TOML"),
        (b"\xff", "bytes that are not UTF-8; expected a TOML file in UTF-8"),
        (None, "No such file or directory; expected a readable TOML file"),
    ],
)
def test_an_unreadable_file(tmp_path, text, message):
    """A file that is missing or no TOML is one problem that names the file."""
    path = tmp_path / "bad.toml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert f"{path}: (file): found {message}" == str(caught.value)


def test_a_file_with_a_byte_order_mark(tmp_path):
    """Windows editors write a byte order mark; it does no harm."""
    (tmp_path / "c.toml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert "people.db" == load_config(tmp_path / "c.toml").source.path


PAIRS = [
    ({"sorce": {}}, "sorce: found an unknown key; expected one of the known keys (did you mean source?)"),
    ({"source": None}, "source: found nothing; expected a section [source] (the database)"),
    ({"mapping": None}, "mapping: found nothing; expected a section [mapping] (columns to attributes)"),
    ({"mapping": "x"}, 'mapping: found "x" (string); expected a table'),
    ({"data_dir": 5}, "data_dir: found 5 (integer); expected the path of a folder"),
    ({"data_dir": ""}, 'data_dir: found "" (string); expected the path of a folder'),
    (
        {"source__driver": "oracle"},
        'source.driver: found "oracle" (string); expected one of "sqlserver", "sqlite"',
    ),
    (
        {"source__users__tabel": "x"},
        "source.users.tabel: found an unknown key; expected one of the known keys (did you mean table?)",
    ),
    (
        {"source__users": {}},
        "source.users: found none of them; expected exactly one of table, query, procedure",
    ),
    (
        {"source__users": {"table": "a", "query": "b"}},
        "source.users: found table and query; expected exactly one of table, query, procedure",
    ),
    (
        {"source__users": {"table": "a", "parameters": {"x": 1}}},
        "source.users.parameters: found parameters beside table; expected parameters only with query or procedure",
    ),
    (
        {"source__users": {"procedure": "p"}},
        'source.users.procedure: found "p" (string); expected table or query (SQLite has no procedures)',
    ),
    ({"source__path": ""}, "source.path: found nothing; expected the path of the SQLite file"),
    (
        {"source__timezone": "Europe/Pari"},
        'source.timezone: found "Europe/Pari" (string); expected an IANA time zone, for example Europe/Paris or UTC',
    ),
    ({"source__fetch_rows": 0}, "source.fetch_rows: found 0 (integer); expected integer >= 1"),
    (
        {"source": {**SQL_SERVER, "server": ""}},
        "source.server: found nothing; expected the server of the SQL Server",
    ),
    (
        {"source": {**SQL_SERVER, "server": "a\nencryption = off"}},
        'source.server: found "a\nencryption = off" (string); expected text without control characters',
    ),
    (
        {"source": {**SQL_SERVER, "port": 1433, "instance": "HR"}},
        "source.port: found port and instance; expected one of them (a named instance has its own port)",
    ),
    (
        {"source": {**SQL_SERVER, "username": ""}},
        'source.auth: found auth = "sql" without username and password; expected both, or auth = "windows"',
    ),
    (
        {"source": {**SQL_SERVER, "auth": "windows"}},
        'source.username: found "reader" (string); expected no username unless auth = "sql"',
    ),
    (
        {"source": {**SQL_SERVER, "password": HASH}},
        "source.password: found a scrypt hash; expected the password itself (SQL Server needs it), by reference",
    ),
    (
        {"source": {**SQL_SERVER, "tls": {"encryption": "strict", "verify": "none"}}},
        'source.tls.verify: found "none" (string); expected "full" or "ca" when encryption = "strict"',
    ),
    (
        {"source": {**SQL_SERVER, "isolation": "nolock"}},
        'source.isolation: found "nolock" (string); '
        'expected one of "auto", "snapshot", "read_committed_snapshot", "read_committed"',
    ),
    (
        {"schedule__cron": "0 6 * * *"},
        "schedule.timezone: found nothing; expected the time zone of the cron expression, for example Europe/Paris",
    ),
    ({"schedule__interval_seconds": 1}, "schedule.interval_seconds: found 1 (integer); expected integer >= 5"),
    ({"store__keep_generations": 1}, "store.keep_generations: found 1 (integer); expected integer >= 2"),
    ({"guard__max_removed_percent": 101}, "guard.max_removed_percent: found 101 (integer); expected float <= 100.0"),
    ({"server__auth": None}, 'server.auth: found nothing; expected [[server.auth]] with type = "basic", username and password'),
    (
        {"server__auth": [{"type": "basic", "username": "a:b", "password": HASH}]},
        'server.auth[1].username: found "a:b" (string); expected a user name without a colon',
    ),
    (
        {"server__auth": [{"type": "bearer"}]},
        "server.auth[1].token: found nothing; expected the token, as ${env:NAME} or as a scrypt hash",
    ),
    (
        {"server__auth": [{"type": "header", "header": "X Key", "token": HASH}]},
        'server.auth[1].header: found "X Key" (string); expected the name of an HTTP header, for example X-Api-Key',
    ),
    (
        {"server__auth": [{"type": "bearer", "token": "scrypt$x"}]},
        "server.auth[1].token: found not a scrypt hash; expected a hash made by: python -m snapshot hash-secret",
    ),
    (
        {"server__host": "0.0.0.0", "server__allow_http": True, "server__auth": [{"type": "none"}]},
        'server.auth[1].type: found "none" (string); expected a credential; none is for host = 127.0.0.1 only',
    ),
    (
        {"server__host": "10.0.0.1"},
        'server.tls: found nothing, while host = "10.0.0.1" (string) is reachable from other machines; '
        "expected [server.tls] certificate and key, or allow_http = true",
    ),
    (
        {"server__public_url": "scim.example.com"},
        'server.public_url: found "scim.example.com" (string); expected an address that begins with https://',
    ),
    (
        {"server__default_count": 500, "server__max_count": 100},
        "server.default_count: found 500 (integer); expected at most max_count (100)",
    ),
    (
        {"server__paths": {"/scim/v2": "3.0"}},
        'server.paths."/scim/v2".version: found "3.0" (string); expected one of "1.1", "2.0"',
    ),
    ({"server__paths": {}}, 'server.paths: found no path; expected at least one, for example "/scim/v2" = "2.0"'),
    (
        {"server__paths": {"scim": "2.0"}},
        'server.paths."scim": found "scim" (string); expected a path such as /scim/v2 (letters, digits, . _ -)',
    ),
    (
        {"server__paths": {"/admin/x": "2.0"}},
        'server.paths."/admin/x": found "/admin/x" (string); expected a path of its own (/admin, /health, /- are taken)',
    ),
    (
        {"server__paths": {"/s": "2.0", "/s/": "1.1"}},
        'server.paths."/s/": found /s twice; expected each path once (a slash at the end makes no difference)',
    ),
    ({"server__tls": {"certificate": "c.pem"}}, "server.tls.key: found nothing; expected a value (this key is required)"),
    ({"log__level": "loud"}, 'log.level: found "loud" (string); expected one of "debug", "info", "warning", "error"'),
    ({"server": "s3cret"}, 'server: found "s3cret" (string); expected a table'),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), PAIRS, ids=[pair[1].split(": ")[0] for pair in PAIRS])
def test_a_bad_file_and_its_message(changes, message):
    """Each mistake gives exactly one problem, worded as it is here."""
    with pytest.raises(ConfigError) as caught:
        parse(**changes)
    assert [f"c.toml: {message}"] == [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("path", ["/a/../b", "/a b", "/ä", "/a//b", "/a%2fb", "/.", "/"])
def test_a_path_that_is_none(path):
    """A base path has plain segments only."""
    (line,) = problems(server__paths={path: "2.0"})
    assert "expected a path such as /scim/v2" in line


def test_all_problems_at_once():
    """Every problem of every section is found in one go, one line each."""
    lines = problems(
        sorce=1,
        data_dir=1,
        source__prt=1,
        mapping={"idd": "x", "userName": 5},
        schedule__timezone="Mars",
        server__port=70000,
        log__levl="x",
    )
    expected = [
        "c.toml: sorce",
        "c.toml: data_dir",
        "c.toml: source.prt",
        "c.toml: schedule.timezone",
        "c.toml: server.port",
        "c.toml: log.levl",
        "c.toml: mapping.idd",
        "c.toml: mapping.userName",
        "c.toml: mapping.id",
    ]
    assert sorted(expected) == sorted(line.split(": found")[0] for line in lines)
    assert all(line.startswith("c.toml: ") and "; expected " in line for line in lines)


@pytest.mark.parametrize(
    "changes",
    [
        {"source": {**SQL_SERVER, "password": "hunter2", "prt": 1}},
        {"source": {**SQL_SERVER, "password": ["hunter2"]}},
        {"server__auth": [{"type": "basic", "username": "", "password": "hunter2"}]},
        {"server__auth": [{"type": "bearer", "token": "scrypt$hunter2$x$y$z$w"}]},
        {"server__auth": ["hunter2"]},
        {"server__admin": "hunter2"},
        {"server__admin": {"type": "bearer", "token": "${hunter2"}},
    ],
)
def test_no_problem_shows_a_secret(changes):
    """Whatever is wrong around a secret, the problems do not show it."""
    lines = problems(**changes)
    assert not any("hunter2" in line for line in lines)


def test_the_configuration_does_not_show_its_secrets():
    """The repr of a whole configuration holds no secret."""
    config = parse(
        source={**SQL_SERVER, "password": "hunter2"},
        server__admin={"type": "bearer", "token": "hunter2"},
    )
    assert "hunter2" not in repr(config)


def test_secrets_in_clear_text_are_warned_about():
    """Each secret that stands in the file is named in a warning; references and hashes are not."""
    config = parse(
        source={**SQL_SERVER, "password": "hunter2"},
        server__auth=[
            {"type": "basic", "username": "a", "password": HASH},
            {"type": "bearer", "token": "hunter2"},
            {"type": "bearer", "token": "${file:token}"},
        ],
    )
    assert ["source.password", "server.auth[2].token"] == [warning.split(" ")[0] for warning in config.warnings]
    assert not any("hunter2" in warning for warning in config.warnings)


def test_http_beyond_this_machine_is_warned_about():
    """allow_http permits clear text on the network, but it is said at each start."""
    (warning,) = parse(server__host="0.0.0.0", server__allow_http=True).warnings
    assert "clear text" in warning


def test_the_file_beside_the_program(tmp_path, monkeypatch):
    """Without an argument config.toml of the working directory is read; what it names is relative to it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(MINIMAL)
    config = load_config(environment={"DB_SERVER": "ignored"})
    assert "config.toml" == config.where
    assert tmp_path / "data" == config.data_dir


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ({}, "http://127.0.0.1:8080/scim/v2"),
        ({"host": "::1", "port": 9}, "http://[::1]:9/scim/v2"),
        ({"host": "0.0.0.0", "allow_http": True}, "http://localhost:8080/scim/v2"),
        ({"public_url": "https://scim.example.com/"}, "https://scim.example.com/scim/v2"),
        ({"paths": {"/a": "2.0", "/b": "2.0"}}, "http://127.0.0.1:8080/a"),
        ({"tls": {"certificate": "c", "key": "k"}, "port": 443}, "https://127.0.0.1:443/scim/v2"),
    ],
)
def test_base_url(server, url):
    """Locations begin with public_url, or with where the server listens."""
    assert url == parse(**{f"server__{key}": value for key, value in server.items()}).base_url(ScimVersion.V2_0)


@pytest.mark.parametrize(("host", "expected"), [
    ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
    ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.example.com", False), ("", False),
])  # fmt: skip
def test_loopback(host, expected):
    """Only addresses that no other machine can reach count as loopback."""
    assert expected is is_loopback(host)


def test_the_digest():
    """The digest changes with what decides the bytes of a generation, and with nothing else."""
    plain = config_digest(parse())
    same = [{"log__level": "debug"}, {"store__keep_generations": 9}, {"server__auth": [{"type": "none"}]}]
    other = [
        {"mapping__title": "title"},
        {"source__users__table": "other"},
        {"source__timezone": "Europe/Paris"},
        {"policy__duplicate_id": "fail"},
        {"server__public_url": "https://x.example"},
    ]
    assert [plain] * len(same) == [config_digest(parse(**change)) for change in same]
    assert plain not in {config_digest(parse(**change)) for change in other}
