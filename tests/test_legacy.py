"""The environment variables of the connector that this one replaces, with no configuration file."""

from __future__ import annotations

import pytest

from snapshot.config import load_config
from snapshot.errors import ConfigError, ConfigProblem, MappingError
from snapshot.legacy import named_after_variables
from snapshot.mapping import CompiledMapping
from snapshot.reading import compile_mapping
from snapshot.scim import ScimVersion

NEEDED = {"DB_SERVER": "sql01", "DB_NAME": "HR", "DB_USERNAME": "reader", "DB_PASSWORD": "p", "SCIM_PASSWORD": "s"}
# The four examples of the old connector's .env.example: columns by variable, then one row and its user.
EXAMPLES = {
    "HR": (
        {
            "ID": "employee_number", "EMAIL": "work_email", "USERNAME": "work_email", "FIRST_NAME": "fname",
            "LAST_NAME": "lname", "DISPLAY_NAME": "full_name", "ACTIVE": "employment_status",
            "EXTERNAL_ID": "employee_number",
        },
        {"employee_number": 17, "work_email": "a@x.com", "fname": "A", "lname": "B", "full_name": "A B",
         "employment_status": "Terminated"},
        {"id": "17", "externalId": "17", "userName": "a@x.com", "active": False},
    ),
    "AD": (
        {
            "ID": "objectGUID", "USERNAME": "userPrincipalName", "EMAIL": "mail", "FIRST_NAME": "givenName",
            "LAST_NAME": "sn", "DISPLAY_NAME": "displayName", "ACTIVE": "userAccountControl",
            "EXTERNAL_ID": "employeeID",
        },
        {"objectGUID": "6f9619ff-8b86-d011-b42d-00c04fc964ff", "userPrincipalName": "a@x.com", "mail": None,
         "givenName": "A", "sn": "B", "displayName": None, "userAccountControl": 514, "employeeID": None},
        {"id": "6f9619ff-8b86-d011-b42d-00c04fc964ff", "userName": "a@x.com", "active": False},
    ),
    "simple": (
        {"ID": "user_id", "USERNAME": "username", "EMAIL": "email_address", "FIRST_NAME": "firstname",
         "LAST_NAME": "lastname", "ACTIVE": "enabled"},
        {"user_id": 5, "username": "al", "email_address": "al@x.com", "firstname": "Al", "lastname": "Bo", "enabled": True},
        {"id": "5", "userName": "al", "active": True, "name": {"givenName": "Al", "familyName": "Bo"},
         "emails": [{"value": "al@x.com", "type": "work", "primary": True}]},
    ),
    "payroll": (
        {"ID": "payroll_id", "USERNAME": "email", "EMAIL": "email", "FIRST_NAME": "legal_first_name",
         "LAST_NAME": "legal_last_name", "ACTIVE": "active_employee", "EXTERNAL_ID": "ssn_last_four"},
        {"payroll_id": "P1", "email": "p@x.com", "legal_first_name": "P", "legal_last_name": "Q",
         "active_employee": "N", "ssn_last_four": "0042"},
        {"id": "P1", "externalId": "0042", "active": False},
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(**variables: str):
    return load_config(environment={**NEEDED, **variables})


def messages(environment: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(environment=environment)
    return [str(problem) for problem in caught.value.problems]


def test_the_defaults():
    """Nothing but server, database and passwords is needed; every default is the old connector's."""
    config = load()
    source, server = config.source, config.server
    assert ("sqlserver", "sql01", "HR", "sql", "reader", "users") == (
        source.driver, source.server, source.database, source.auth, source.username, source.users.table,
    )  # fmt: skip
    assert ("0.0.0.0", 443) == (server.host, server.port)
    assert ("basic", "okta_import", "s") == (
        server.auth[0].type,
        server.auth[0].username,
        server.auth[0].password.reveal(),
    )
    assert {"/scim/v2": "1.1", "/scim/v1": "1.1"} == {path: item.version for path, item in server.paths.items()}
    assert "/scim/v2" == config.base_path(ScimVersion.V1_1)
    assert "environment" == config.where
    assert ("full", "require") == (source.tls.verify, source.tls.encryption)


def test_the_default_columns():
    """The columns of the old connector's defaults become the same attributes as there."""
    columns = ("id", "username", "email", "first_name", "last_name", "display_name", "active", "external_id")
    config = load()
    compiled = CompiledMapping(config.mapping, columns, timezone="UTC", where="environment")
    user = compiled((7, "al", "al@x.com", "Al", "Bo", "Al Bo", True, "X7"))
    assert {
        "id": "7",
        "externalId": "X7",
        "userName": "al",
        "name": {"givenName": "Al", "familyName": "Bo"},
        "displayName": "Al Bo",
        "emails": [{"value": "al@x.com", "type": "work", "primary": True}],
        "active": True,
    } == user.core
    assert {} == user.extensions


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples(name):
    """Each example of the old .env.example gives the user that it should have given there."""
    columns, row, expected = EXAMPLES[name]
    config = load(**{f"DB_COLUMN_{key}": column for key, column in columns.items()})
    compiled = CompiledMapping(config.mapping, tuple(row), timezone="UTC", where="environment")
    core = compiled(tuple(row.values())).core
    assert expected == {key: core.get(key) for key in expected}
    assert None not in core.values()


@pytest.mark.parametrize("column", ["email", "display_name", "external_id"])
def test_optional_columns(column):
    """A default column that the table lacks is left out with a warning, as the old connector did."""
    columns = ["id", "username", "email", "first_name", "last_name", "display_name", "active", "external_id"]
    columns.remove(column)
    compiled = CompiledMapping(load().mapping, columns, timezone="UTC", where="environment")
    (warning,) = compiled.warnings
    assert f"no column {column}" in warning


def test_a_missing_column_names_its_variable():
    """A column that the table lacks is reported by the variable that names it, with the nearest column."""
    columns = ["id", "user_name", "mail", "first_name", "last_name", "active"]
    with pytest.raises(MappingError) as caught:
        compile_mapping(load(DB_COLUMN_EMAIL="email"), columns)
    assert [
        'environment: DB_COLUMN_USERNAME: found no column "username"; '
        "expected a column of the source (did you mean user_name?)",
        'environment: DB_COLUMN_EMAIL: found no column "email"; expected a column of the source (did you mean mail?)',
    ] == str(caught.value).splitlines()


def test_null_active_is_inactive():
    """NULL in the active column was inactive there, and is here."""
    columns = ("id", "username", "first_name", "last_name", "active")
    compiled = CompiledMapping(load().mapping, columns, timezone="UTC", where="environment")
    assert not compiled((1, "a", None, None, None)).active


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("sql01", ("sql01", None, "")),
        ("tcp:sql01,1444", ("sql01", 1444, "")),
        ("sql01\\HR", ("sql01", None, "HR")),
        ("sql01\\\\SQLEXPRESS", ("sql01", None, "SQLEXPRESS")),
        ("sql01\\HR,1444", ("sql01", 1444, "")),
        ("10.0.0.1", ("10.0.0.1", None, "")),
    ],
)
def test_db_server(server, expected):
    r"""DB_SERVER is written as for ODBC: host, host,port or host\\instance."""
    source = load(DB_SERVER=server).source
    assert expected == (source.server, source.port, source.instance)


def test_other_settings():
    """Ports, addresses, TLS, version and folder of the old settings and of ours reach their keys."""
    config = load(
        SERVER_HOST="127.0.0.1", PORT="8081", SCIM_VERSION="2.0", SCIM_USERNAME="u", SQL_TABLE="hr.v_users",
        SSL_CERT_PATH="c.pem", SSL_KEY_PATH="k.pem", SCIM_PUBLIC_URL="https://s.example", SCIM_ADMIN_TOKEN="t",
        SCIM_DATA_DIR="d", REFRESH_INTERVAL_SECONDS="60", DB_TLS_VERIFY="none", DB_DRIVER="SQL Server",
        SQL_ENTITLEMENTS_TABLE="dbo.rights",
    )  # fmt: skip
    server = config.server
    assert ("127.0.0.1", 8081, "u") == (server.host, server.port, server.auth[0].username)
    assert "https://s.example/scim/v2" == config.base_url(ScimVersion.V2_0)
    assert ("c.pem", "k.pem", "t") == (server.tls.certificate, server.tls.key, server.admin.token.reveal())
    assert ("d", 60, "none") == (config.data_dir.name, config.schedule.interval_seconds, config.source.tls.verify)
    assert "hr.v_users" == config.source.users.table
    (rights,) = config.entitlements
    assert ("Entitlement", "/Entitlements", "dbo.rights") == (rights.name, rights.endpoint, rights.query.table)
    assert "user_entitlements" == rights.assignments.table
    assert 9000 == load(PORT="8081", SERVER_PORT="9000").server.port


def test_windows_login():
    """Without DB_USERNAME the Windows account of the process logs in, and a warning says so."""
    environment = {key: value for key, value in NEEDED.items() if key not in {"DB_USERNAME", "DB_PASSWORD"}}
    config = load_config(environment=environment)
    assert "windows" == config.source.auth
    assert any("Windows account" in warning for warning in config.warnings)


def test_what_is_missing():
    """Without anything every needed variable is named, one line each."""
    assert ["DB_SERVER", "DB_NAME", "SCIM_PASSWORD"] == [line.split(": ")[1] for line in messages({})]
    lines = messages({key: value for key, value in NEEDED.items() if key != "DB_PASSWORD"})
    assert ["environment: DB_PASSWORD: found nothing; expected the password of DB_USERNAME"] == lines


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SERVER_PORT", "https", 'found "https" (string); expected a whole number'),
        ("SERVER_PORT", "70000", "found 70000 (integer); expected integer <= 65535"),
        ("SCIM_VERSION", "3", 'found "3" (string); expected 1.1 or 2.0'),
        ("DB_SERVER", "sql01,x", 'found "x" (string); expected a port number after the comma'),
        ("DB_TLS_VERIFY", "no", 'found "no" (string); expected one of "full", "ca", "none"'),
        ("SCIM_USERNAME", "a:b", 'found "a:b" (string); expected a user name without a colon'),
        ("SCIM_PUBLIC_URL", "scim", 'found "scim" (string); expected an address that begins with https://'),
        ("REFRESH_INTERVAL_SECONDS", "1", "found 1 (integer); expected integer >= 5"),
    ],
)
def test_a_wrong_variable(name, value, message):
    """A problem names the variable, not the key of a file that is not there."""
    assert [f"environment: {name}: {message}"] == messages({**NEEDED, name: value})


def test_one_half_of_a_certificate():
    """Certificate and key go together."""
    assert ["SSL_KEY_PATH"] == [line.split(": ")[1] for line in messages({**NEEDED, "SSL_CERT_PATH": "c"})]


def test_dot_env(tmp_path):
    """A .env file works alone; the environment overlays it; an empty value counts as unset."""
    lines = [
        "# the old file", "", "export DB_SERVER = file-server", "DB_NAME='H R'", 'DB_USERNAME="re\\"ader"',
        "DB_PASSWORD=p#a=s$s # a comment", 'SCIM_PASSWORD="${env:HOME}"', "SQL_TABLE=", "SERVER_HOST=127.0.0.1",
    ]  # fmt: skip
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    config = load_config(environment={"DB_SERVER": "real-server"})
    assert ("real-server", "H R", 're"ader', "p#a=s$s", "users") == (
        config.source.server,
        config.source.database,
        config.source.username,
        config.source.password.reveal(),
        config.source.users.table,
    )
    assert "${env:HOME}" == config.server.auth[0].password.reveal()


@pytest.mark.parametrize("text", [b"DB_PASSWORD hunter2", b"DB_PASSWORD=\xff"])
def test_a_broken_dot_env(tmp_path, text):
    """A line that is no assignment is named by its number and not shown: it may hold a password."""
    (tmp_path / ".env").write_bytes(b"DB_NAME=x\n" + text)
    (line,) = messages({})
    assert ".env" in line
    assert "hunter2" not in line


def test_the_file_wins(tmp_path):
    """With a config.toml the old variables are not looked at."""
    (tmp_path / "config.toml").write_text("[source]\n")
    lines = messages(dict(NEEDED))
    assert all(line.startswith("config.toml: ") for line in lines)


def test_a_missing_column_of_entitlements_names_its_variable():
    """What is wrong with the entitlements is said in the words of the environment."""
    problem = ConfigProblem("environment", "entitlements.Entitlement.id", 'no column "id"', "a column of the source")
    assert ["ENTITLEMENT_COLUMN_ID"] == [item.key for item in named_after_variables([problem])]
