"""The configuration: frozen types, `load_config`, `config_digest`.

A file is read strictly: unknown keys, wrong types and values that contradict each other are all
reported at once, each with file, key, what was found and what was expected.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import orjson
from msgspec import Meta

from snapshot.errors import ConfigError, ConfigProblem
from snapshot.legacy import WHERE as ENVIRONMENT
from snapshot.legacy import legacy_tables, named_after_variables, read_environment
from snapshot.queries import UsersQuery, check_query
from snapshot.related import Entitlements, Groups, read_entitlements, read_groups
from snapshot.rule import check_timezone
from snapshot.rules import Mapping, read_mapping
from snapshot.scim import ScimVersion
from snapshot.secret import Secret, parse_hash
from snapshot.strict import Reader, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping as MappingABC

Port = Annotated[int, Meta(ge=1, le=65535)]
ListenPort = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Text = Annotated[str, Meta(min_length=1)]


class SourceTls(msgspec.Struct, frozen=True):
    """How the connection to SQL Server is protected."""

    encryption: Literal["require", "strict"] = "require"
    verify: Literal["full", "ca", "none"] = "full"
    ca: Text = "system"
    hostname: str = ""


class Source(msgspec.Struct, frozen=True):
    """The database."""

    driver: Literal["sqlserver", "sqlite"]
    users: UsersQuery
    path: str = ""
    server: str = ""
    port: Port | None = None
    instance: str = ""
    database: str = ""
    auth: Literal["sql", "windows", "kerberos"] = "sql"
    username: str = ""
    password: Secret = Secret("")
    keytab: str = ""
    spn: str = ""
    read_only: bool = False
    isolation: Literal["auto", "snapshot", "read_committed_snapshot", "read_committed"] = "auto"
    login_timeout_seconds: Positive = 15
    query_timeout_seconds: Positive = 600
    lock_timeout_seconds: Positive = 30
    retries: Annotated[int, Meta(ge=0, le=10)] = 2
    retry_seconds: Seconds = 5.0
    fetch_rows: Annotated[int, Meta(ge=1, le=100_000)] = 2000
    packet_size: Annotated[int, Meta(ge=512, le=32_767)] | None = None
    timezone: str = "UTC"
    tls: SourceTls = SourceTls()


class Policy(msgspec.Struct, frozen=True):
    """What happens to rows that cannot all become users, and to users without a row."""

    null_id: Literal["reject", "fail"] = "reject"
    duplicate_id: Literal["keep_one", "reject_all", "fail"] = "keep_one"
    duplicate_user_name: Literal["keep_one", "reject_all", "fail"] = "keep_one"
    on_rejected: Literal["keep", "remove"] = "keep"
    on_removed: Literal["tombstone", "omit"] = "tombstone"
    tombstone_days: Annotated[int, Meta(ge=1, le=3650)] = 30
    on_inactive: Literal["send", "omit"] = "send"


class Guard(msgspec.Struct, frozen=True):
    """Limits beyond which a generation is not published without a person's word."""

    enabled: bool = True
    max_removed_percent: Percent = 5.0
    always_allowed_removed: NotNegative = 10
    max_removed: NotNegative = 500
    max_rejected_percent: Percent = 1.0
    always_allowed_rejected: NotNegative = 0
    filled_percent: Percent = 50.0
    max_emptied_percent: Percent = 20.0
    always_allowed_emptied: NotNegative = 10
    max_changed_percent: Percent = 50.0
    max_related_removed_percent: Percent = 20.0
    always_allowed_related_removed: NotNegative = 10
    allow_empty: bool = False


class Schedule(msgspec.Struct, frozen=True):
    """When a refresh runs: every so many seconds, or by cron in a named time zone."""

    interval_seconds: Annotated[int, Meta(ge=5)] = 3600
    cron: str = ""
    timezone: str = ""
    jitter_seconds: NotNegative = 30
    deadline_seconds: Positive = 3600


class Store(msgspec.Struct, frozen=True):
    """The data folder."""

    keep_generations: Annotated[int, Meta(ge=2, le=1000)] = 3


class BasePath(msgspec.Struct, frozen=True):
    """What one base path speaks."""

    version: ScimVersion
    okta_extension: bool = True


class ServerTls(msgspec.Struct, frozen=True):
    """Certificate and key of the HTTPS listener, PEM files."""

    certificate: Text
    key: Text
    key_password: Secret = Secret("")


class Credential(msgspec.Struct, frozen=True):
    """One accepted credential. Several may stand side by side, for example while a password is changed."""

    type: Literal["basic", "bearer", "header", "none"]
    name: str = ""
    username: str = ""
    password: Secret = Secret("")
    token: Secret = Secret("")
    header: str = ""


class Server(msgspec.Struct, frozen=True):
    """The HTTP side."""

    host: Text = "127.0.0.1"
    port: ListenPort = 8080
    public_url: str = ""
    allow_http: bool = False
    paths: dict[str, BasePath] = {}
    auth: tuple[Credential, ...] = ()
    admin: Credential | None = None
    tls: ServerTls | None = None
    default_count: Positive = 100
    max_count: Positive = 10_000
    pin_ttl_seconds: Seconds = 900.0
    max_pins: Positive = 256
    incremental_lookback_seconds: Annotated[int, Meta(ge=0, le=604_800)] = 0
    max_age_seconds: NotNegative = 0
    compression: bool = True
    poll_seconds: Seconds = 1.0
    shutdown_seconds: Seconds = 10.0


class Log(msgspec.Struct, frozen=True):
    """How the processes log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"


class Config(msgspec.Struct, frozen=True):
    """The whole configuration of one app; the only one has no `name`. Relative paths start from `base`."""

    where: str
    base: Path
    data_dir: Path
    source: Source
    mapping: Mapping
    policy: Policy
    guard: Guard
    schedule: Schedule
    store: Store
    server: Server
    log: Log
    groups: Groups | None = None
    entitlements: tuple[Entitlements, ...] = ()
    warnings: tuple[str, ...] = ()
    name: str = ""

    def path(self, text: str) -> Path:
        """Return a configured path, made absolute from the folder of the configuration."""
        return (self.base / Path(text).expanduser()).absolute()

    @property
    def command_options(self) -> str:
        """What a command of `python -m snapshot` needs at its end to mean this app; empty for the only one."""
        return f" --app {self.name}" if self.name else ""

    def base_path(self, version: ScimVersion) -> str:
        """Return the path under which resources of that version are located; the first configured one."""
        return next((path for path, item in self.server.paths.items() if item.version is version), "")

    def base_url(self, version: ScimVersion) -> str:
        """Return public_url + base path of that version, without a slash at the end."""
        server = self.server
        url = server.public_url
        if not url:
            wild = server.host in {"0.0.0.0", "::"}  # noqa: S104 (compared, not bound)
            host = "localhost" if wild else server.host
            url = f"{'https' if server.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{server.port}"
        return url.rstrip("/") + self.base_path(version)


DEFAULT_PATHS: dict[str, str] = {"/scim/v1": "1.1", "/scim/v2": "2.0"}
# Paths that the server answers itself; a base path may not hide them.
OWN_PATHS = ("/admin", "/health", "/-")
SECTIONS: dict[str, type[msgspec.Struct]] = {
    "source": Source,
    "policy": Policy,
    "guard": Guard,
    "schedule": Schedule,
    "store": Store,
    "server": Server,
    "log": Log,
}
KNOWN = ("data_dir", "mapping", "groups", "entitlements", *SECTIONS)


def load_config(path: Path | None = None, *, environment: MappingABC[str, str] | None = None) -> Config:
    """Load the configuration of one app: the given file, else ./config.toml, else the environment and ./.env.

    Raises ConfigError with every problem found. `snapshot.instance.load_instance` loads one with [apps] too.
    """
    chosen = chosen_file(path)
    if chosen is not None:
        return parse_config(read_toml(chosen), where=str(chosen), base=chosen.absolute().parent)
    return environment_config(environment)


def chosen_file(path: Path | None) -> Path | None:
    """Return the file that holds the configuration: the given one, else ./config.toml; None for the environment."""
    chosen = path or Path("config.toml")
    return chosen if path is not None or chosen.is_file() else None


def environment_config(environment: MappingABC[str, str] | None = None) -> Config:
    """Make the configuration from environment variables and ./.env alone."""
    variables = read_environment(Path(), os.environ if environment is None else environment)
    tables, warnings = legacy_tables(variables)
    try:
        return parse_config(tables, where=ENVIRONMENT, base=Path.cwd(), warnings=warnings)
    except ConfigError as error:
        raise ConfigError(named_after_variables(error.problems)) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a file; ConfigError if it cannot be read or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        problem = ConfigProblem(str(path), "(file)", error.strerror or "an unreadable file", "a readable TOML file")
    except UnicodeDecodeError:
        problem = ConfigProblem(str(path), "(file)", "bytes that are not UTF-8", "a TOML file in UTF-8")
    except tomllib.TOMLDecodeError as error:
        problem = ConfigProblem(str(path), "(file)", f"broken TOML: {error}", "valid TOML")
    raise ConfigError([problem])


def parse_config(tables: dict[str, Any], *, where: str, base: Path, warnings: tuple[str, ...] = ()) -> Config:
    """Check tables (as TOML gives them) and return the configuration; ConfigError lists every problem."""
    reader = Reader(where, base)
    for name in tables:
        if name not in KNOWN:
            reader.unknown(name, name, KNOWN)
    config = read_config(reader, tables, where=where, warnings=warnings)
    if config is None:
        raise ConfigError(reader.problems)
    return config


def read_config(
    reader: Reader, tables: dict[str, Any], *, where: str, name: str = "", warnings: tuple[str, ...] = ()
) -> Config | None:
    """Read the configuration of one app; None with problems, which are then in the reader."""
    data_dir = tables.get("data_dir", "data")
    if not isinstance(data_dir, str) or not data_dir:
        reader.problem("data_dir", shown(data_dir), "the path of a folder")
        data_dir = "data"
    for needed, example in (("source", "the database"), ("mapping", "columns to attributes")):
        if needed not in tables:
            reader.problem(needed, "nothing", f"a section [{reader.named(needed)}] ({example})")
    server_table = tables.get("server", {})
    if isinstance(server_table, dict):
        tables = {**tables, "server": {key: value for key, value in server_table.items() if key != "paths"}}
    sections: dict[str, Any] = {
        section: reader.struct(kind, tables.get(section, {}), section)
        for section, kind in SECTIONS.items()
        if section in tables or section != "source"
    }
    mapping = read_mapping(reader, tables["mapping"]) if "mapping" in tables else None
    driver = sections["source"].driver if sections.get("source") else ""
    groups = read_groups(reader, tables["groups"], driver=driver) if "groups" in tables else None
    entitlements = read_entitlements(reader, tables.get("entitlements", {}), driver=driver)
    _check_related(reader, mapping, entitlements, driver)
    paths = _read_paths(
        reader, server_table.get("paths", DEFAULT_PATHS) if isinstance(server_table, dict) else DEFAULT_PATHS
    )
    _check_source(reader, sections.get("source"))
    _check_schedule(reader, sections["schedule"])
    notes = [*warnings, *_check_server(reader, sections["server"])]
    if reader.problems:
        return None
    sections["server"] = msgspec.structs.replace(sections["server"], paths=paths)
    source: Source = sections["source"]
    notes.extend(
        f"{reader.named(key)} stands in the file in clear text; "
        "use ${env:NAME}, ${file:PATH} or ${credential:NAME}"
        for key, secret in _secrets(source, sections["server"])
        if secret.is_literal
    )
    return Config(
        where=where,
        base=reader.base,
        data_dir=(reader.base / Path(data_dir).expanduser()).absolute(),
        mapping=mapping,  # type: ignore[arg-type]  # None only with problems
        groups=groups,
        entitlements=entitlements,
        warnings=tuple(notes),
        name=name,
        **sections,
    )


def _secrets(source: Source, server: Server) -> Iterator[tuple[str, Secret]]:
    """Yield every secret with its key."""
    yield "source.password", source.password
    if server.tls is not None:
        yield "server.tls.key_password", server.tls.key_password
    credentials = [(f"server.auth[{place}]", item) for place, item in enumerate(server.auth, 1)]
    if server.admin is not None:
        credentials.append(("server.admin", server.admin))
    for key, credential in credentials:
        yield f"{key}.password", credential.password
        yield f"{key}.token", credential.token


def _read_paths(reader: Reader, table: object) -> dict[str, BasePath]:
    """Read [server.paths]: "/scim/v2" = "2.0" or = { version = "2.0", okta_extension = false }."""
    paths: dict[str, BasePath] = {}
    seen: set[str] = set()
    if not isinstance(table, dict):
        reader.problem("server.paths", shown(table), 'a table, for example "/scim/v2" = "2.0"')
        return paths
    for name, value in table.items():
        key = f'server.paths."{name}"'
        path = name.rstrip("/")
        plain = all(part and part not in {".", ".."} and part.isascii() for part in path.split("/")[1:])
        if not path.startswith("/") or not plain or not path.replace("/", "").translate(_SAFE).isalnum():
            reader.problem(key, shown(name), "a path such as /scim/v2 (letters, digits, . _ -)")
        elif path in seen:
            reader.problem(key, f"{path} twice", "each path once (a slash at the end makes no difference)")
        elif any(path == own or path.startswith(own + "/") for own in OWN_PATHS):
            reader.problem(key, shown(name), f"a path of its own ({', '.join(OWN_PATHS)} are taken)")
        else:
            seen.add(path)
            entry = reader.struct(BasePath, {"version": value} if isinstance(value, str) else value, key)
            if entry is not None:
                paths[path] = entry
    if not table:
        reader.problem("server.paths", "no path", 'at least one, for example "/scim/v2" = "2.0"')
    return paths


_SAFE = str.maketrans("", "", "._-~")


def _check_source(reader: Reader, source: Source | None) -> None:
    if source is None:
        return
    check_query(reader, source.users, "source.users", driver=source.driver)
    check_timezone(reader, source.timezone, "source.timezone")
    if source.driver == "sqlite":
        if not source.path:
            reader.problem("source.path", "nothing", "the path of the SQLite file")
        return
    for name in ("server", "database"):
        if not getattr(source, name):
            reader.problem(f"source.{name}", "nothing", f"the {name} of the SQL Server")
    for name in ("server", "instance", "database", "username", "spn", "keytab"):
        text = getattr(source, name)
        if any(ord(char) < ord(" ") for char in text):
            reader.problem(f"source.{name}", shown(text), "text without control characters")
    for name in ("ca", "hostname"):
        text = getattr(source.tls, name)
        if any(ord(char) < ord(" ") for char in text):
            reader.problem(f"source.tls.{name}", shown(text), "text without control characters")
    if source.port and source.instance:
        reader.problem("source.port", "port and instance", "one of them (a named instance has its own port)")
    if source.auth == "sql" and (not source.username or source.password.is_empty):
        reader.problem("source.auth", 'auth = "sql" without username and password', 'both, or auth = "windows"')
    if source.auth != "sql" and source.username:
        reader.problem("source.username", shown(source.username), 'no username unless auth = "sql"')
    if source.password.is_hash:
        reader.problem("source.password", "a scrypt hash", "the password itself (SQL Server needs it), by reference")
    tls = source.tls
    if tls.encryption == "strict" and tls.verify == "none":
        reader.problem("source.tls.verify", '"none" (string)', '"full" or "ca" when encryption = "strict"')


def _check_related(
    reader: Reader, mapping: Mapping | None, entitlements: tuple[Entitlements, ...], driver: str
) -> None:
    """Check the queries inside of the mapping, and that nothing is said twice."""
    for plural in mapping.plurals if mapping is not None else ():
        for item in plural.items:
            if item.rows is not None:
                check_query(reader, item.rows.query, f"mapping.{plural.path}", driver=driver)
        twice = next((item for item in entitlements if item.attribute == plural.path), None)
        if twice is not None:
            reader.problem(
                f"mapping.{plural.path}",
                f"{plural.path} beside [entitlements.{twice.name}]",
                "one of them: the section makes the attribute of users too",
            )


def _check_schedule(reader: Reader, schedule: Schedule | None) -> None:
    if schedule is None:
        return
    if schedule.cron and not schedule.timezone:
        reader.problem("schedule.timezone", "nothing", "the time zone of the cron expression, for example Europe/Paris")
    if schedule.timezone:
        check_timezone(reader, schedule.timezone, "schedule.timezone")


def _check_server(reader: Reader, server: Server | None) -> list[str]:
    """Check what belongs together in [server]; return warnings for the log."""
    if server is None:
        return []
    loopback = is_loopback(server.host)
    warnings = []
    if server.public_url and not server.public_url.startswith(("http://", "https://")):
        reader.problem("server.public_url", shown(server.public_url), "an address that begins with https://")
    if not loopback and server.tls is None:
        if not server.allow_http:
            reader.problem(
                "server.tls",
                f"nothing, while host = {shown(server.host)} is reachable from other machines",
                "[server.tls] certificate and key, or allow_http = true",
            )
        warnings.append("passwords and people cross the network in clear text: set [server.tls]")
    if not server.auth:
        key = reader.named("server.auth")
        reader.problem("server.auth", "nothing", f'[[{key}]] with type = "basic", username and password')
    for place, credential in enumerate(server.auth, 1):
        _check_credential(reader, credential, f"server.auth[{place}]", loopback=loopback)
    if server.admin is not None:
        _check_credential(reader, server.admin, "server.admin", loopback=loopback)
    if server.default_count > server.max_count:
        reader.problem("server.default_count", shown(server.default_count), f"at most max_count ({server.max_count})")
    return warnings


def _check_credential(reader: Reader, credential: Credential | None, key: str, *, loopback: bool) -> None:
    if credential is None:
        return
    if credential.type == "none":
        if not loopback:
            reader.problem(f"{key}.type", '"none" (string)', "a credential; none is for host = 127.0.0.1 only")
        return
    secret_name = "password" if credential.type == "basic" else "token"
    secret: Secret = getattr(credential, secret_name)
    if secret.is_empty:
        reader.problem(f"{key}.{secret_name}", "nothing", f"the {secret_name}, as ${{env:NAME}} or as a scrypt hash")
    elif secret.is_hash:
        try:
            parse_hash(secret.reveal())
        except ValueError as error:
            reader.problem(f"{key}.{secret_name}", str(error), "a hash made by: python -m snapshot hash-secret")
    if credential.type == "basic" and (not credential.username or ":" in credential.username):
        reader.problem(f"{key}.username", shown(credential.username), "a user name without a colon")
    if credential.type == "header" and not _is_header_name(credential.header):
        reader.problem(f"{key}.header", shown(credential.header), "the name of an HTTP header, for example X-Api-Key")


def _is_header_name(name: str) -> bool:
    return bool(name) and name.isascii() and all(char.isalnum() or char in "!#$%&'*+-.^_`|~" for char in name)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a listener on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def config_digest(config: Config) -> str:
    """Return 32 hex digits over what decides the bytes of a generation: source query, mapping, policy, URLs.

    Secrets take no part.
    """
    related: dict[str, Any] = {}
    if config.groups is not None:
        related["groups"] = msgspec.to_builtins(config.groups)
    if config.entitlements:
        related["entitlements"] = msgspec.to_builtins(config.entitlements)
    parts = {
        "users": msgspec.to_builtins(config.source.users),
        "timezone": config.source.timezone,
        "mapping": msgspec.to_builtins(config.mapping),
        "policy": msgspec.to_builtins(config.policy),
        **related,
        "urls": [config.base_url(version) for version in ScimVersion],
    }
    return hashlib.blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
