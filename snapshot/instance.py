"""Instance: the apps that one scheduler and one server work for, each with a whole configuration of its own.

Without [apps] there is one, and it has no name. With [apps.NAME] the sections at the top level are what each app
inherits, key by key; what belongs to the listener is the same in all of them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from snapshot.config import (
    DEFAULT_PATHS,
    KNOWN,
    SECTIONS,
    Config,
    Server,
    chosen_file,
    environment_config,
    parse_config,
    read_config,
    read_toml,
)
from snapshot.errors import ConfigError, ConfigProblem
from snapshot.strict import Reader, nearest, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

APPS = "apps"
# What an app may say in its own [server]; the other keys are the listener's.
SERVER_KEYS = (
    "paths",
    "auth",
    "default_count",
    "max_count",
    "pin_ttl_seconds",
    "max_pins",
    "incremental_lookback_seconds",
    "max_age_seconds",
)
_INHERITED = tuple(name for name in SECTIONS if name != "log")
_OWN = ("mapping", "groups", "entitlements")
APP_KEYS = ("data_dir", *_OWN, *_INHERITED)
_LISTENER_KEYS = frozenset(field.name for field in msgspec.structs.fields(Server)) - frozenset(SERVER_KEYS)
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")
# A name is a folder and stands in the URL: what a data folder holds already, what Windows takes for a device, and
# what tells Okta's agent the version.
_TAKEN = frozenset({"generations", "quarantine", "requests", "con", "prn", "aux", "nul", "v1", "v2"})
_DEVICE = re.compile(r"(com|lpt)[0-9]\Z")
_FIRST = re.compile(r'"([^"]*)"|[^.\[]*')


class Instance(msgspec.Struct, frozen=True):
    """At least one app. Listener, certificate, admin credential and log are the same in each of them."""

    where: str
    apps: tuple[Config, ...]

    @property
    def shared(self) -> Config:
        """The configuration to ask for what all apps share."""
        return self.apps[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the apps."""
        return tuple(app.name for app in self.apps)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be told, each thing once."""
        return tuple(dict.fromkeys(warning for app in self.apps for warning in app.warnings))

    def only(self, name: str) -> Instance:
        """Return the instance with one of its apps; raises ConfigError with the nearest name."""
        found = tuple(app for app in self.apps if app.name == name != "")
        if found:
            return Instance(self.where, found)
        names = [item for item in self.names if item]
        expected = f"one of {', '.join(names)}{nearest(name, names)}" if names else "no name: there is no [apps]"
        raise ConfigError([ConfigProblem(self.where, "--app", shown(name), expected)])

    def single(self) -> Config:
        """Return the only app; raises ConfigError that names all of them when there are several."""
        if len(self.apps) > 1:
            names = ", ".join(self.names)
            raise ConfigError([ConfigProblem(self.where, "--app", "nothing", f"--app NAME, one of {names}")])
        return self.apps[0]


def load_instance(
    path: Path | None = None,
    *,
    from_environment: bool = False,
    app: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Instance:
    """Load the given file, else ./config.toml, else the environment and ./.env; with `app` that one alone.

    Raises ConfigError with every problem of every app.
    """
    chosen = None if from_environment else chosen_file(path)
    if chosen is None:
        config = environment_config(environment)
        instance = Instance(config.where, (config,))
    else:
        instance = parse_instance(read_toml(chosen), where=str(chosen), base=chosen.absolute().parent)
    return instance if app is None else instance.only(app)


def parse_instance(tables: dict[str, Any], *, where: str, base: Path) -> Instance:
    """Check tables (as TOML gives them) and return the instance; ConfigError lists every problem, each once."""
    if APPS not in tables:
        return Instance(where, (parse_config(tables, where=where, base=base),))
    reader = Reader(where, base)
    apps = _read_apps(reader, tables)
    _check_shared_nothing(reader, apps)
    if reader.problems:
        raise ConfigError(list(dict.fromkeys(reader.problems)))
    return Instance(where, tuple(apps))


def _read_apps(reader: Reader, tables: dict[str, Any]) -> list[Config]:
    """Read every app that can be read; what is wrong goes into the reader."""
    shared = _read_shared(reader, tables)
    table = tables[APPS]
    if not isinstance(table, dict) or not table:
        reader.problem(APPS, "no app" if table == {} else shown(table), "at least one section [apps.NAME]")
        return []
    apps = []
    for name, own in table.items():
        key = f"{APPS}.{name}" if _NAME.match(name) else f'{APPS}."{name}"'
        if not _NAME.match(name):
            reader.problem(key, shown(name), "a name of small letters, digits and hyphens, at most 31, a letter first")
        elif name in _TAKEN or _DEVICE.match(name):
            reader.problem(key, shown(name), "another name: this one has a meaning already")
        elif not isinstance(own, dict):
            reader.problem(key, shown(own), "a table")
        elif (app := _read_app(reader, name, own, shared)) is not None:
            apps.append(app)
    return apps


def _read_shared(reader: Reader, tables: dict[str, Any]) -> dict[str, Any]:
    """Return the top level without what is wrong in the shape of it."""
    known = (*KNOWN, APPS)
    shared = {}
    for name, value in tables.items():
        if name not in known:
            reader.unknown(name, name, known)
        elif name in _OWN:
            reader.problem(name, f"[{name}] beside [apps]", f"[apps.NAME.{name}]: each app has its own")
        elif name == "data_dir" and not (isinstance(value, str) and value):
            reader.problem(name, shown(value), "the path of a folder")
        elif name in SECTIONS and not isinstance(value, dict):
            reader.problem(name, shown(value), "a table")
        elif name != APPS:
            shared[name] = value
    return shared


def _read_app(reader: Reader, name: str, own: dict[str, Any], shared: dict[str, Any]) -> Config | None:
    """Read one app: what it says itself over what it inherits."""
    one = Reader(reader.where, reader.base, named=_names_of(name, own, shared))
    tables: dict[str, Any] = {key: value for key, value in shared.items() if key != "data_dir"}
    for key, value in own.items():
        if key not in APP_KEYS:
            reader.unknown(f"{APPS}.{name}.{key}", key, APP_KEYS)
        elif key in _INHERITED and isinstance(value, dict):
            tables[key] = {**shared.get(key, {}), **value}
        else:
            tables[key] = value
    tables.setdefault("data_dir", str(Path(shared.get("data_dir", "data"), name)))
    server = tables.get("server", {})
    if isinstance(server, dict):
        for key in (key for key in own.get("server", {}) if key in _LISTENER_KEYS):
            reader.problem(f"{APPS}.{name}.server.{key}", "a key that all apps share", f"it in [server]: {key} = …")
        listener = {key: value for key, value in shared.get("server", {}).items() if key in _LISTENER_KEYS}
        said = {key: value for key, value in server.items() if key not in _LISTENER_KEYS}
        paths = {f"/{name}{path}": version for path, version in DEFAULT_PATHS.items()}
        tables["server"] = {"paths": paths, **said, **listener}
    config = read_config(one, tables, where=f"{reader.where} [{APPS}.{name}]", name=name)
    reader.problems.extend(one.problems)
    return config


def _names_of(name: str, own: dict[str, Any], shared: dict[str, Any]) -> Callable[[str], str]:
    """Return what the file calls a key of one app: where it stands, or where the app would say it."""

    def stands_in(tables: dict[str, Any], section: str, first: str) -> bool:
        table = tables.get(section)
        return section in tables and (not first or (isinstance(table, dict) and first in table))

    def named(key: str) -> str:
        section, _, rest = key.partition(".")
        match = _FIRST.match(rest)
        first = (match[1] or match[0]) if match else ""
        is_listener = section == "server" and first in _LISTENER_KEYS
        inherited = not stands_in(own, section, first) and stands_in(shared, section, first)
        return key if section == "log" or is_listener or inherited else f"{APPS}.{name}.{key}"

    return named


def _check_shared_nothing(reader: Reader, apps: list[Config]) -> None:
    """Check that no two apps share a base path or a data folder: one would answer for the other."""
    paths: dict[str, str] = {}
    folders: dict[str, str] = {}
    for app in apps:
        for path in app.server.paths:
            if path in paths:
                key = f'{APPS}.{app.name}.server.paths."{path}"'
                reader.problem(key, f"the base path of {paths[path]} too", "a base path of its own for each app")
            paths.setdefault(path, app.name)
        folder = os.path.normcase(app.data_dir.resolve())
        if folder in folders:
            key = f"{APPS}.{app.name}.data_dir"
            reader.problem(key, f"the folder of {folders[folder]} too", "a data folder of its own for each app")
        folders.setdefault(folder, app.name)
