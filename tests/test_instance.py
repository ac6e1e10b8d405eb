"""Several apps in one configuration: what is inherited, what is refused and how it is named."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from people_folder import people

from snapshot.config import config_digest, parse_config
from snapshot.errors import ConfigError
from snapshot.instance import Instance, load_instance, parse_instance
from snapshot.refresh import refresh
from snapshot.scim import ScimVersion
from snapshot.secret import Secret
from snapshot.store import read_current

TWO = """
data_dir = "all"
[source]
driver = "sqlite"
path = "people.db"
users = { table = "people" }
retries = 5
[guard]
max_removed = 7
max_removed_percent = 1.5
[server]
port = 8000
max_count = 500
admin = { type = "bearer", token = "${env:ADMIN}" }

[apps.hr]
mapping = { id = "id", userName = "login" }
server.auth = [{ type = "basic", username = "hr", password = "${env:HR}" }]

[apps.partners]
data_dir = "elsewhere"
source = { path = "partners.db", users = { query = "SELECT 1" } }
guard = { max_removed = 9 }
mapping = { id = "nr", userName = "mail" }
[apps.partners.server]
auth = [{ type = "bearer", token = "${env:PARTNERS}" }]
paths = { "/p" = "2.0" }
max_count = 200
"""
BASE = Path("/etc/scim")


def tables(more: str = "", **apps: dict[str, Any]) -> dict[str, Any]:
    """Return TWO with more TOML after it, and sections of its apps replaced."""
    result = tomllib.loads(TWO + more)
    for name, sections in apps.items():
        app = result["apps"].setdefault(name, {})
        for key, value in sections.items():
            app.pop(key, None) if value is None else app.update({key: value})
    return result


def parse(given: dict[str, Any]) -> Instance:
    return parse_instance(given, where="c.toml", base=BASE)


def problems(given: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(given)
    return [str(item).removeprefix("c.toml: ") for item in caught.value.problems]


def test_without_apps_there_is_one_without_a_name():
    """A configuration without [apps] is one app, equal in everything to what it was."""
    given = tomllib.loads(TWO)
    given["mapping"] = given.pop("apps")["hr"]["mapping"]
    del given["server"]["admin"]
    given["source"]["password"] = (known := Secret.known("p"))
    given["server"]["auth"] = [{"type": "none"}]
    instance = parse(given)
    assert (parse_config(given, where="c.toml", base=BASE),) == instance.apps
    assert known is instance.single().source.password
    assert ("", "", "c.toml") == (instance.single().name, instance.single().command_options, instance.where)


def test_what_is_inherited(monkeypatch):
    """An app takes key by key what it does not say itself; a section inside counts as one key."""
    hr, partners = parse(tables()).apps
    assert ("hr", "people.db", "people", 5) == (hr.name, hr.source.path, hr.source.users.table, hr.source.retries)
    assert ("partners.db", "", "SELECT 1") == (
        partners.source.path,
        partners.source.users.table,
        partners.source.users.query,
    )
    assert 5 == partners.source.retries
    assert [(7, 1.5), (9, 1.5)] == [(app.guard.max_removed, app.guard.max_removed_percent) for app in (hr, partners)]
    assert [(8000, 500), (8000, 200)] == [(app.server.port, app.server.max_count) for app in (hr, partners)]
    assert ["hr"] == [item.username for item in hr.server.auth]
    assert ["bearer"] == [item.type for item in partners.server.auth]
    monkeypatch.setenv("ADMIN", "of both")
    assert ["of both"] * 2 == [app.server.admin.token.reveal() for app in (hr, partners)]


def test_folders_and_paths():
    """The folder and the base paths of an app are named after it unless it says others."""
    hr, partners = parse(tables()).apps
    assert [BASE / "all/hr", BASE / "elsewhere"] == [hr.data_dir, partners.data_dir]
    assert {"/hr/scim/v1": ScimVersion.V1_1, "/hr/scim/v2": ScimVersion.V2_0} == {
        path: item.version for path, item in hr.server.paths.items()
    }
    assert ["/p"] == list(partners.server.paths)
    assert "http://127.0.0.1:8000/hr/scim/v2" == hr.base_url(ScimVersion.V2_0)
    assert config_digest(hr) != config_digest(partners)
    assert (" --app hr", " --app partners") == (hr.command_options, partners.command_options)
    del (given := tables())["data_dir"]
    assert BASE / "data/hr" == parse(given).apps[0].data_dir


def test_from_one_app_to_several(folder):
    """An app that keeps its folder and its paths goes on where the configuration without [apps] stopped."""
    folder.publish(people(3))
    before = folder.users()
    own = {"data_dir": "data", "mapping": folder.settings.pop("mapping")}
    paths = {"/scim/v1": "1.1", "/scim/v2": "2.0"}
    folder.settings["apps"] = {"hr": {**own, "server": {"paths": paths}}, "partners": {"mapping": own["mapping"]}}
    hr, partners = parse_instance(folder.settings, where="test", base=folder.path).apps
    assert (1, False) == ((found := refresh(hr)).manifest.generation, found.published)
    assert before == folder.users()
    assert (1, True) == ((found := refresh(partners)).manifest.generation, found.published)
    assert 1 == read_current(folder.data_dir / "partners") == read_current(folder.data_dir)


PAIRS = [
    ({"apps": 5}, "apps: found 5 (integer); expected at least one section [apps.NAME]"),
    ({"apps": {}}, "apps: found no app; expected at least one section [apps.NAME]"),
    ({"mapping": {}}, "mapping: found [mapping] beside [apps]; expected [apps.NAME.mapping]: each app has its own"),
    ({"sorce": {}}, "sorce: found an unknown key; expected one of the known keys (did you mean source?)"),
    ({"data_dir": ""}, 'data_dir: found "" (string); expected the path of a folder'),
    ({"guard": 5}, "guard: found 5 (integer); expected a table"),
    ({"guard": {"max_removed": "x"}}, 'guard.max_removed: found "x" (string); expected integer'),
    ({"guard": {"max_remved": 1}}, "guard.max_remved: found an unknown key; expected one of the known keys "
     "(did you mean max_removed?)"),
    ({"log": {"level": "loud"}}, 'log.level: found "loud" (string); expected one of "debug", "info", "warning", '
     '"error"'),
    ({"server": {"host": "0.0.0.0"}}, 'server.tls: found nothing, while host = "0.0.0.0" (string) is reachable from '
     "other machines; expected [server.tls] certificate and key, or allow_http = true"),
]  # fmt: skip


@pytest.mark.parametrize(("top", "message"), PAIRS, ids=[message.split(":")[0] for _, message in PAIRS])
def test_a_mistake_at_the_top_level(top, message):
    """What is wrong at the top level is told once, by its key there, however many apps inherit it."""
    assert [message] == problems({**tables(partners={"guard": {}}), **top})


APP_PAIRS = [
    ({"data_dir": 5}, "apps.hr.data_dir: found 5 (integer); expected the path of a folder"),
    ({"mapping": None}, "apps.hr.mapping: found nothing; expected a section [apps.hr.mapping] (columns to attributes)"),
    ({"mapping": {"id": "id"}}, 'apps.hr.mapping.userName: found nothing; expected a column, for example userName = "e'
     'mail"'),
    ({"guard": {"max_removed": "x"}}, 'apps.hr.guard.max_removed: found "x" (string); expected integer'),
    ({"guard": 1}, "apps.hr.guard: found 1 (integer); expected a table"),
    ({"schedule": {"cron": "0 5 * * *"}}, "apps.hr.schedule.timezone: found nothing; expected the time zone of the cr"
     "on expression, for example Europe/Paris"),
    ({"server": {}}, 'apps.hr.server.auth: found nothing; expected [[apps.hr.server.auth]] with type = "basic", usern'
     "ame and password"),
    ({"log": {}}, "apps.hr.log: found an unknown key; expected one of the known keys (data_dir, entitlements, groups, "
     "guard, mapping, policy, schedule, server, source, store)"),
    ({"groups": {"table": "g", "displayName": "n"}}, 'apps.hr.groups.id: found nothing; expected a column, for example'
     ' id = "id"'),
]  # fmt: skip


@pytest.mark.parametrize(("sections", "message"), APP_PAIRS, ids=[message.split(":")[0] for _, message in APP_PAIRS])
def test_a_mistake_of_an_app(sections, message):
    """What is wrong or missing in an app is told by its key in that app."""
    assert [message] == problems(tables(hr=sections))


@pytest.mark.parametrize("key", ["host", "port", "public_url", "admin", "tls", "poll_seconds"])
def test_an_app_has_no_listener(key):
    """What belongs to the listener is refused in an app, whatever its value, and the place to say it is named."""
    given = tables()
    given["apps"]["hr"]["server"][key] = 1
    expected = f"apps.hr.server.{key}: found a key that all apps share; expected it in [server]: {key} = …"
    assert expected in problems(given)
    assert all(item.startswith(f"apps.hr.server.{key}") for item in problems(given))


@pytest.mark.parametrize("name", ["HR", "1st", "h_r", "h.r", "x" * 32, "", "é", "con", "com1", "requests", "v2"])
def test_a_name_that_is_none(name):
    """A name has small letters, digits and hyphens, and is no folder that means something already."""
    (line,) = problems(tables(**{name: {}}))
    assert line.startswith("apps.")
    assert name in line


def test_a_path_of_the_server_itself():
    """An app whose paths would hide those of the server is refused."""
    given = tables()
    given["apps"]["admin"] = given["apps"].pop("hr")
    lines = problems(given)
    assert [f'apps.admin.server.paths."/admin/scim/{item}"' for item in ("v1", "v2")] == [
        line.split(":")[0] for line in lines
    ]


def test_no_two_apps_share_a_path_or_a_folder():
    """One base path, or one folder by any way to write it, in two apps: both are named."""
    given = tables(partners={"data_dir": "x/../all/hr"})
    given["apps"]["partners"]["server"]["paths"] = {"/hr/scim/v2/": "2.0"}
    assert [
        'apps.partners.server.paths."/hr/scim/v2": found the base path of hr too; '
        "expected a base path of its own for each app",
        "apps.partners.data_dir: found the folder of hr too; expected a data folder of its own for each app",
    ] == problems(given)


def test_every_problem_at_once():
    """The problems of the top level and of all apps come together."""
    given = tables(hr={"guard": {"max_removed": "x"}}, partners={"policy": {"null_id": "x"}})
    given["sorce"] = {}
    assert ["sorce", "apps.hr.guard.max_removed", "apps.partners.policy.null_id"] == [
        line.split(":")[0] for line in problems(given)
    ]


def test_warnings_are_told_once():
    """A secret in clear text is named where it stands; what concerns all apps is told once."""
    given = tables()
    given["server"] |= {"host": "0.0.0.0", "allow_http": True}
    given["apps"]["hr"]["server"]["auth"][0]["password"] = "plain"
    clear, secret = parse(given).warnings
    assert "clear text: set [server.tls]" in clear
    assert secret.startswith("apps.hr.server.auth[1].password stands in the file in clear text")


def test_one_of_several(tmp_path):
    """A name takes one app; another name is refused with the nearest one, and none is refused with all of them."""
    path = tmp_path / "c.toml"
    path.write_text(TWO)
    assert "partners" == load_instance(path, app="partners").single().name
    for choose, message in (
        (lambda: load_instance(path).single(), "found nothing; expected --app NAME, one of hr, partners"),
        (
            lambda: load_instance(path, app="partner"),
            'found "partner" (string); expected one of hr, partners (did you mean partners?)',
        ),
        (lambda: load_instance(path, app=""), 'found "" (string); expected one of hr, partners'),
    ):
        with pytest.raises(ConfigError) as caught:
            choose()
        assert f"{path}: --app: {message}" == str(caught.value)


@pytest.mark.parametrize("name", ["hr", ""])
def test_no_name_without_apps(name):
    """--app has no meaning where there is no [apps], not even without a name."""
    environment = {"DB_SERVER": "s", "DB_NAME": "d", "SCIM_PASSWORD": "p"}
    assert ("",) == load_instance(from_environment=True, environment=environment).names
    with pytest.raises(ConfigError) as caught:
        load_instance(from_environment=True, environment=environment, app=name)
    assert f'environment: --app: found "{name}" (string); expected no name: there is no [apps]' == str(caught.value)
