"""Configuration from environment variables alone: the settings of the connector that this one replaces.

The variables and defaults are those of that connector, so an existing `.env` works without a config
file. They become the same tables that config.toml would hold and pass the same checks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from snapshot.errors import ConfigError, ConfigProblem
from snapshot.secret import Secret
from snapshot.strict import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# variable -> the key of config.toml that it fills; also how a problem found there is named.
VARIABLES: dict[str, str] = {
    "DB_SERVER": "source.server",
    "DB_NAME": "source.database",
    "DB_USERNAME": "source.username",
    "DB_PASSWORD": "source.password",
    "DB_TLS_VERIFY": "source.tls.verify",
    "DB_TLS_CA": "source.tls.ca",
    "DB_TLS_HOSTNAME": "source.tls.hostname",
    "SQL_TABLE": "source.users.table",
    "SQL_ENTITLEMENTS_TABLE": "entitlements.Entitlement.table",
    "SQL_USER_ENTITLEMENTS_TABLE": "entitlements.Entitlement.assignments.table",
    "SCIM_USERNAME": "server.auth[1].username",
    "SCIM_PASSWORD": "server.auth[1].password",
    "SCIM_ADMIN_TOKEN": "server.admin.token",
    "SCIM_PUBLIC_URL": "server.public_url",
    "SCIM_DATA_DIR": "data_dir",
    "SERVER_HOST": "server.host",
    "SERVER_PORT": "server.port",
    "SSL_CERT_PATH": "server.tls.certificate",
    "SSL_KEY_PATH": "server.tls.key",
    "REFRESH_INTERVAL_SECONDS": "schedule.interval_seconds",
}
_COLUMNS: dict[str, tuple[str, str]] = {
    "DB_COLUMN_ID": ("id", "id"),
    "DB_COLUMN_USERNAME": ("userName", "username"),
    "DB_COLUMN_EMAIL": ("emails", "email"),
    "DB_COLUMN_FIRST_NAME": ("name.givenName", "first_name"),
    "DB_COLUMN_LAST_NAME": ("name.familyName", "last_name"),
    "DB_COLUMN_DISPLAY_NAME": ("displayName", "display_name"),
    "DB_COLUMN_ACTIVE": ("active", "active"),
    "DB_COLUMN_EXTERNAL_ID": ("externalId", "external_id"),
}
_ENTITLEMENT_COLUMNS: dict[str, tuple[str, str]] = {
    "ENTITLEMENT_COLUMN_ID": ("id", "id"),
    "ENTITLEMENT_COLUMN_DISPLAY": ("displayName", "display"),
}
# Columns that a table may lack while the variable is not set: the old connector left them out too.
_OPTIONAL = frozenset({"DB_COLUMN_EMAIL", "DB_COLUMN_DISPLAY_NAME", "DB_COLUMN_EXTERNAL_ID"})
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*\Z")
# As python-dotenv reads it, which the old connector used: inside of quotes a backslash keeps a quote or itself.
_QUOTED = re.compile(r"""(["'])((?:\\.|(?!\1)[^\\])*)\1""")
_ESCAPED = re.compile(r"""\\(["'\\])""")


# What a problem of this configuration names as its file.
WHERE = "environment"


def read_environment(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `folder/.env` overlaid by the environment; empty values count as unset."""
    variables: dict[str, str] = {}
    path = folder / ".env"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        lines = []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([ConfigProblem(str(path), "(file)", str(error), "a readable file in UTF-8")]) from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ASSIGNMENT.match(line)
        if match is None:
            # The line may hold a password, so it is not shown.
            raise ConfigError([ConfigProblem(str(path), f"line {number}", "no assignment", "NAME=value")])
        variables[match.group(1)] = _unquote(match.group(2))
    return {name: value for name, value in {**variables, **environment}.items() if value}


def _unquote(value: str) -> str:
    if match := _QUOTED.match(value):
        return _ESCAPED.sub(r"\1", match.group(2))
    return value.split(" #", 1)[0].rstrip()


def legacy_tables(variables: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return (the tables of an equivalent config.toml, warnings); ConfigError names what is missing."""
    problems = [
        ConfigProblem("environment", name, "nothing", f"{what} (or write a config.toml)")
        for name, what in (
            ("DB_SERVER", "the SQL Server, for example sql01.corp.example or SQL01\\HR"),
            ("DB_NAME", "the database"),
            ("SCIM_PASSWORD", "the password that Okta sends"),
        )
        if name not in variables
    ]
    if "DB_USERNAME" in variables and "DB_PASSWORD" not in variables:
        problems.append(ConfigProblem("environment", "DB_PASSWORD", "nothing", "the password of DB_USERNAME"))
    source, source_warnings = _source(variables, problems)
    server, server_warnings = _server(variables, problems)
    tables: dict[str, Any] = {
        "data_dir": variables.get("SCIM_DATA_DIR", "data"),
        "source": source,
        "mapping": _mapping(variables),
        "server": server,
    }
    if interval := _number(variables, "REFRESH_INTERVAL_SECONDS", problems):
        tables["schedule"] = {"interval_seconds": interval}
    if problems:
        raise ConfigError(problems)
    if "SQL_ENTITLEMENTS_TABLE" in variables:
        tables["entitlements"] = {"Entitlement": _entitlements(variables)}
    return tables, (*source_warnings, *server_warnings)


def _entitlements(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return [entitlements.Entitlement]: all entitlements as one type, for Okta knows types by their endpoints."""
    column = {variable: variables.get(variable, default) for variable, (_, default) in _ENTITLEMENT_COLUMNS.items()}
    return {
        "table": variables["SQL_ENTITLEMENTS_TABLE"],
        "id": {"column": column["ENTITLEMENT_COLUMN_ID"]},
        "displayName": {"column": column["ENTITLEMENT_COLUMN_DISPLAY"]},
        "assignments": {
            "table": variables.get("SQL_USER_ENTITLEMENTS_TABLE", "user_entitlements"),
            "user": "user_id",
            "entitlement": "entitlement_id",
        },
    }


def _source(variables: Mapping[str, str], problems: list[ConfigProblem]) -> tuple[dict[str, Any], list[str]]:
    name = variables.get("DB_SERVER", "").removeprefix("tcp:")
    name, _, instance = name.replace("\\\\", "\\").partition("\\")
    name, comma, port = name.partition(",")
    if instance and "," in instance:  # HOST\INSTANCE,1433: the port decides, as in ODBC
        instance, comma, port = instance.partition(",")
    source: dict[str, Any] = {
        "driver": "sqlserver",
        "server": name.strip(),
        "database": variables.get("DB_NAME", ""),
        "users": {"table": variables.get("SQL_TABLE", "users")},
    }
    if comma:
        if port.strip().isdecimal():
            source["port"] = int(port)
        else:
            problems.append(ConfigProblem("environment", "DB_SERVER", shown(port), "a port number after the comma"))
    elif instance:
        source["instance"] = instance
    warnings = []
    if "DB_USERNAME" in variables:
        source["username"] = variables["DB_USERNAME"]
        source["password"] = Secret.known(variables.get("DB_PASSWORD", ""))
    else:
        source["auth"] = "windows"
        warnings.append("DB_USERNAME is not set: logging in to SQL Server with the Windows account of this process")
    tls = {
        key: variables[f"DB_TLS_{key.upper()}"]
        for key in ("verify", "ca", "hostname")
        if f"DB_TLS_{key.upper()}" in variables
    }
    if tls:
        source["tls"] = tls
    return source, warnings


def _mapping(variables: Mapping[str, str]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for variable, (attribute, default) in _COLUMNS.items():
        rule: dict[str, Any] = {"column": variables.get(variable, default)}
        if variable not in variables and variable in _OPTIONAL:
            rule["optional"] = True
        if attribute == "active":
            rule["default"] = False  # NULL was inactive there too
        if attribute == "emails":
            mapping["emails"] = [{**rule, "type": "work", "primary": True}]
        elif attribute.startswith("name."):
            mapping.setdefault("name", {})[attribute.removeprefix("name.")] = rule
        else:
            mapping[attribute] = rule
    return mapping


def _server(variables: Mapping[str, str], problems: list[ConfigProblem]) -> tuple[dict[str, Any], list[str]]:
    version = variables.get("SCIM_VERSION", "1.1")
    if version not in {"1.1", "2.0"}:
        problems.append(ConfigProblem("environment", "SCIM_VERSION", shown(version), "1.1 or 2.0"))
    server: dict[str, Any] = {
        "host": variables.get("SERVER_HOST", "0.0.0.0"),  # noqa: S104 (the old connector's default)
        "port": _number(variables, "SERVER_PORT", problems) or _number(variables, "PORT", problems) or 443,
        "allow_http": True,
        "auth": [
            {
                "type": "basic",
                "username": variables.get("SCIM_USERNAME", "okta_import"),
                "password": Secret.known(variables.get("SCIM_PASSWORD", "")),
            }
        ],
        "paths": {"/scim/v2": version, "/scim/v1": "1.1"},
    }
    if "SCIM_PUBLIC_URL" in variables:
        server["public_url"] = variables["SCIM_PUBLIC_URL"]
    if "SCIM_ADMIN_TOKEN" in variables:
        server["admin"] = {"type": "bearer", "token": Secret.known(variables["SCIM_ADMIN_TOKEN"])}
    certificate, key = variables.get("SSL_CERT_PATH"), variables.get("SSL_KEY_PATH")
    if certificate and key:
        server["tls"] = {"certificate": certificate, "key": key}
    elif certificate or key:
        name = "SSL_KEY_PATH" if certificate else "SSL_CERT_PATH"
        problems.append(
            ConfigProblem("environment", name, "nothing", "both SSL_CERT_PATH and SSL_KEY_PATH, or neither")
        )
    warnings = []
    if version == "1.1":
        warnings.append(
            "/scim/v2 speaks SCIM 1.1, as the old connector did; an OPP Agent 2.1.0 or newer expects SCIM 2.0 there: "
            "set SCIM_VERSION=2.0, or point Okta at /scim/v1/"
        )
    return server, warnings


def _number(variables: Mapping[str, str], name: str, problems: list[ConfigProblem]) -> int | None:
    text = variables.get(name)
    if text is None:
        return None
    if not text.isdecimal():
        problems.append(ConfigProblem("environment", name, shown(text), "a whole number"))
        return None
    return int(text)


def named_after_variables(problems: Sequence[ConfigProblem]) -> list[ConfigProblem]:
    """Return the problems with environment variables in the place of config.toml keys."""
    keys = {key: variable for variable, key in VARIABLES.items()}
    for variable, (attribute, _) in _COLUMNS.items():
        keys[f"mapping.{attribute}"] = keys[f"mapping.{attribute}.value"] = variable
    for variable, (attribute, _) in _ENTITLEMENT_COLUMNS.items():
        keys[f"entitlements.Entitlement.{attribute}"] = variable
    return [
        ConfigProblem(item.where, keys.get(item.key.removesuffix(".column"), item.key), item.found, item.expected)
        for item in problems
    ]
