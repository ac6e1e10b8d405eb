"""The documentation against the code: each key, variable, route, command and error code has its place."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import sqlite3
import tomllib
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

import scheduler
from server import __main__ as server_main
from server import app as server_app
from server import discovery, errors, resources
from snapshot import __main__ as tool
from snapshot import (
    commandline,
    config,
    control,
    instance,
    legacy,
    queries,
    refresh,
    rejects,
    related,
    rule,
    rules,
    store,
)
from snapshot.convert import DEFAULT_FALSE, DEFAULT_TRUE
from snapshot.layout import NAME as INDEX_NAME
from snapshot.reader import body_name, offsets_name, open_snapshot
from snapshot.resource_types import resource_types
from snapshot.scim import USER, ScimVersion
from snapshot.secret import Secret
from snapshot.sources.tds_errors import _KNOWN as SQL_SERVER_ERRORS

TREE = Path(__file__).parent.parent
DOCS = TREE / "docs"
MARKDOWN = sorted([*TREE.glob("*.md"), *DOCS.glob("**/*.md")])
# Struct -> (heading in docs/configuration.md, section of config.toml).
SECTIONS: dict[type[msgspec.Struct], tuple[str, str]] = {
    config.Source: ("[source]", "source"),
    queries.UsersQuery: ("[source.users]", "source.users"),
    config.SourceTls: ("[source.tls]", "source.tls"),
    rule.Rule: ("[mapping]", "mapping.attribute"),
    related.GroupKeys: ("[groups]", "groups"),
    related.Members: ("[groups.members]", "groups.members"),
    related.Subgroups: ("[groups.subgroups]", "groups.subgroups"),
    related.EntitlementKeys: ("[entitlements.NAME]", "entitlements.NAME"),
    related.Assignments: ("[entitlements.NAME.assignments]", "entitlements.NAME.assignments"),
    config.Policy: ("[policy]", "policy"),
    config.Guard: ("[guard]", "guard"),
    config.Schedule: ("[schedule]", "schedule"),
    config.Store: ("[store]", "store"),
    config.Server: ("[server]", "server"),
    config.BasePath: ("[server.paths]", "server.paths"),
    config.Credential: ("[[server.auth]] and [server.admin]", "server.auth"),
    config.ServerTls: ("[server.tls]", "server.tls"),
    config.Log: ("[log]", "log"),
}
# What Config holds beside its sections: made by the program, not by the file.
NOT_KEYS = {"where", "base", "warnings", "name"}
# Made of the tables of [mapping], [groups] and [entitlements.NAME], whose keys stand above.
MADE = {rules.Mapping, related.Groups, related.Entitlements}
# Attributes, whose rules stand among the keys.
ATTRIBUTES = {
    "[groups]": {"id", "displayName", "externalId", "description"},
    "[entitlements.NAME]": {"id", "displayName", "description"},
}


def text_of(path: str | Path) -> str:
    return (TREE / path).read_text(encoding="utf-8")


def sections_of(text: str) -> dict[str, str]:
    """Split Markdown into heading -> what stands below it, headings inside of code left out."""
    found: dict[str, list[str]] = {"": []}
    name, fenced = "", False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if not fenced and (match := re.match(r"#+ (.*)", line)):
            name = match.group(1).strip()
            found.setdefault(name, [])
        found[name].append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


def first_cells(text: str) -> set[str]:
    """Return what stands in backticks in the first column of every table."""
    return set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))


def blocks_of(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def inner_structs(kind: Any) -> set[type[msgspec.Struct]]:
    """Return every struct that a type mentions."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {kind}
    return {found for part in typing.get_args(kind) for found in inner_structs(part)}


def config_structs() -> set[type[msgspec.Struct]]:
    """Walk the configuration: every struct that a section of the file is read into."""
    found: set[type[msgspec.Struct]] = {rule.Rule, related.GroupKeys, related.EntitlementKeys}
    waiting: list[type[msgspec.Struct]] = [config.Config, related.GroupKeys, related.EntitlementKeys]
    while waiting:
        for field in msgspec.structs.fields(waiting.pop()):
            for kind in inner_structs(field.type) - found - MADE:
                found.add(kind)
                waiting.append(kind)
    return found


def own_fields(kind: type[msgspec.Struct]) -> list[msgspec.structs.FieldInfo]:
    """Return the fields of a section; where rows come from is written everywhere as in [source.users]."""
    fields = msgspec.structs.fields(kind)
    is_other_query = issubclass(kind, queries.Query) and kind is not queries.UsersQuery
    return [field for field in fields if not (is_other_query and field.name in queries.QUERY_KEYS)]


def config_keys() -> list[tuple[type[msgspec.Struct], msgspec.structs.FieldInfo]]:
    return [(kind, field) for kind in SECTIONS for field in own_fields(kind)]


def test_every_section_is_known_here():
    """Each struct that the configuration is read into has its heading and its section in the example."""
    assert set(SECTIONS) == config_structs()


@pytest.mark.parametrize(("kind", "field"), config_keys(), ids=lambda item: getattr(item, "encode_name", None))
def test_every_key_is_described(kind: type[msgspec.Struct], field: msgspec.structs.FieldInfo):
    """Each configuration key has a row under the heading of its section in docs/configuration.md."""
    heading, _ = SECTIONS[kind]
    assert field.encode_name in first_cells(sections_of(text_of("docs/configuration.md"))[heading])


def test_no_key_is_invented():
    """docs/configuration.md describes no key that the configuration does not have."""
    described = sections_of(text_of("docs/configuration.md"))
    for kind, (heading, _) in SECTIONS.items():
        names = {field.encode_name for field in own_fields(kind)} | ATTRIBUTES.get(heading, set())
        assert names == first_cells(described[heading])
    names = {field.encode_name for field in msgspec.structs.fields(config.Config)} - NOT_KEYS
    assert names | {instance.APPS} == first_cells(described["Top level"])
    assert set(instance.APP_KEYS) == first_cells(described["[apps.NAME]"])
    (row,) = re.findall(r"^\| `server` \|.*", described["[apps.NAME]"], re.MULTILINE)
    assert set(instance.SERVER_KEYS) == set(re.findall(r"`(\w+)`", row)) - {"server"}


def example_lines() -> dict[str, dict[str, tuple[Any, str]]]:
    """Read config.toml line by line: section -> key -> (value, comment), of active and commented-out lines."""
    found: dict[str, dict[str, tuple[Any, str]]] = {"": {}}
    section = ""
    for line in text_of("config.toml").splitlines():
        if match := re.match(r"(?:# )?\[\[?([^\]]+)\]\]?$", line):
            section = match.group(1)
            found.setdefault(section, {})
            continue
        match = re.match(r'(?:# )?([a-z0-9_]+|"[^"]+") = (.*)$', line)
        if match is None:
            continue
        try:
            value = tomllib.loads(f"value = {match.group(2)}")["value"]
        except tomllib.TOMLDecodeError:
            continue  # the first line of an array of several lines, in the mapping
        name = match.group(1).strip('"')
        found[section][name] = (value, match.group(2).rpartition("#")[2])
        if section == "server.paths" and isinstance(value, dict):
            found[section].update({key: (item, "") for key, item in value.items()})
    return found


def agrees(field: msgspec.structs.FieldInfo, value: Any, comment: str) -> bool:
    """Tell whether a line of the example says what holds without it."""
    if field.required:
        return True
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if default is None or isinstance(default, (Secret, msgspec.Struct)):
        return True
    if value == (dict(default) if isinstance(default, dict) else default):
        return True
    if match := re.search(r"default: (\S+)", comment):
        return bool(tomllib.loads(f"value = {match.group(1).rstrip(';,')}")["value"] == default)
    return default == "" and "required" in comment


@pytest.mark.parametrize(("kind", "field"), config_keys(), ids=lambda item: getattr(item, "encode_name", None))
def test_example_holds_every_key(kind: type[msgspec.Struct], field: msgspec.structs.FieldInfo):
    """Each configuration key stands in config.toml with its default, perhaps in a comment."""
    lines = example_lines()
    _, section = SECTIONS[kind]
    if inner_structs(field.type) or (kind, field.name) == (config.Server, "paths"):
        assert f"{section}.{field.encode_name}" in lines
        return
    assert field.encode_name in lines[section]
    assert agrees(field, *lines[section][field.encode_name])


def test_example_is_valid():
    """config.toml is a valid configuration without warnings."""
    loaded = config.load_config(TREE / "config.toml")
    assert () == loaded.warnings
    assert ("data", ScimVersion.V1_1) == (loaded.data_dir.name, loaded.server.paths["/scim/v1"].version)
    assert "data" == example_lines()[""]["data_dir"][0]


def test_example_of_several_apps():
    """The commented app of config.toml is a valid one beside the sections above it."""
    lines = text_of("config.toml").partition("# [apps.hr]\n")[2].partition("\n\n")[0].splitlines()
    tables = tomllib.loads(text_of("config.toml"))
    del tables["mapping"]
    tables |= tomllib.loads("[apps.hr]\n" + "\n".join(line.removeprefix("# ") for line in lines))
    (loaded,) = instance.parse_instance(tables, where="config.toml", base=TREE).apps
    assert ("hr", "HR", "okta-hr") == (loaded.name, loaded.source.database, loaded.server.auth[0].username)
    assert "sql01.corp.example" == loaded.source.server


def test_default_values_are_stated():
    """The default column of docs/configuration.md shows each simple default as TOML writes it."""
    described = sections_of(text_of("docs/configuration.md"))
    for kind, (heading, _) in SECTIONS.items():
        rows = {
            cells[0].strip(" `"): cells[2].strip()
            for line in described[heading].splitlines()
            if line.startswith("| `") and (cells := [cell.strip() for cell in line.strip("|").split(" | ")])
        }
        for field in own_fields(kind):
            if isinstance(field.default, (str, bool, int, float)):
                shown = json.dumps(field.default)
                assert f"`{shown}`" == rows[field.encode_name], f"{heading} {field.encode_name}"


def legacy_variables() -> set[str]:
    """Return every environment variable that snapshot/legacy.py names."""
    nodes = ast.walk(ast.parse(text_of("snapshot/legacy.py")))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if re.fullmatch(r"[A-Z]{2,}(_[A-Z]+)+|PORT", text)}


def test_every_variable_is_described():
    """Each environment variable of the older connector has its row, and the column defaults are right."""
    text = sections_of(text_of("docs/configuration.md"))["Environment variables"]
    assert set(legacy.VARIABLES) | set(legacy._COLUMNS) <= legacy_variables()
    assert legacy_variables() <= first_cells(text)
    for variable, (_, default) in legacy._COLUMNS.items():
        assert f"| `{variable}` | `{default}` |" in text


def example_mappings() -> list[tuple[str, str, str]]:
    """Return (row, mapping, user) of every example in docs/mapping.md."""
    pattern = r"^Row: `([^\n]*)`\n\n```toml\n(.*?)^```\n\n```json\n(.*?)^```"
    return re.findall(pattern, text_of("docs/mapping.md"), re.MULTILINE | re.DOTALL)


def example_directories() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return (SQL, configuration, (endpoint with id, resource) …) of every example of docs/mapping.md with tables."""
    pattern = r"^```sql\n(.*?)^```\n\n```toml\n(.*?)^```\n((?:\n`/[^\n]*`\n\n```json\n.*?^```\n)+)"
    found = re.findall(pattern, text_of("docs/mapping.md"), re.MULTILINE | re.DOTALL)
    shown = r"^`(/[^\n]*)`\n\n```json\n(.*?)^```"
    return [(sql, text, re.findall(shown, bodies, re.MULTILINE | re.DOTALL)) for sql, text, bodies in found]


def test_every_mapping_block_is_an_example():
    """Each TOML block in docs/mapping.md has a row or tables before it and resources after it."""
    mappings = [mapping for _, mapping, _ in example_mappings()] + [text for _, text, _ in example_directories()]
    assert sorted(mappings) == sorted(blocks_of(text_of("docs/mapping.md"), "toml"))


@pytest.mark.parametrize("place", range(len(example_directories())))
def test_directory_example(place: int, tmp_path: Path):
    """Each example of docs/mapping.md with tables of its own gives the resources that are printed below it."""
    sql, text, bodies = example_directories()[place]
    with contextlib.closing(sqlite3.connect(tmp_path / "people.db")) as database:
        database.executescript(sql)
    tables = tomllib.loads(text)
    tables["source"] |= {"driver": "sqlite", "path": "people.db"}
    tables["server"] = {"auth": [{"type": "none"}]}
    parsed = config.parse_config(tables, where="docs/mapping.md", base=tmp_path)
    refresh.run_refresh(parsed)
    snapshot = open_snapshot(tmp_path / "data")
    names = {item.endpoint: item.name for item in resource_types(parsed)}
    assert bodies
    for path, body in bodies:
        endpoint, _, resource_id = path.rpartition("/")
        ordinal = snapshot.find(names[endpoint], resource_id)
        made = json.loads(bytes(snapshot.resources(names[endpoint], ScimVersion.V2_0, ordinal, ordinal + 1)))
        assert json.loads(body) == {name: made[name] for name in made if name not in {"schemas", "id", "meta"}}


@pytest.mark.parametrize("place", range(len(example_mappings())))
def test_mapping_example(place: int, tmp_path: Path):
    """Each example of docs/mapping.md, refreshed from a database, gives the user that is printed below it."""
    row, mapping, user = example_mappings()[place]
    values = json.loads(row)
    with contextlib.closing(sqlite3.connect(tmp_path / "people.db")) as database, database:
        database.execute(f"CREATE TABLE people ({', '.join(values)})")
        database.execute(f"INSERT INTO people VALUES ({', '.join('?' * len(values))})", tuple(values.values()))
    tables = tomllib.loads(mapping)
    tables["mapping"] |= {"id": "id", "userName": "login"}
    tables["source"] = {"driver": "sqlite", "path": "people.db", "users": {"table": "people"}}
    tables["server"] = {"auth": [{"type": "none"}]}
    refresh.run_refresh(config.parse_config(tables, where="docs/mapping.md", base=tmp_path))
    snapshot = open_snapshot(tmp_path / "data")
    assert (1, 0) == (snapshot.count(USER), snapshot.manifest.rejects)
    made = json.loads(bytes(snapshot.resources(USER, ScimVersion.V2_0, 0, 1)))
    left_out = {"schemas", "id", "userName", "meta"} | ({"active"} - tables["mapping"].keys())
    assert json.loads(user) == {name: value for name, value in made.items() if name not in left_out}


def test_builtin_truth_is_stated():
    """The values that are true and false without being stated are listed in docs/mapping.md."""
    text = text_of("docs/mapping.md")
    for values in (DEFAULT_TRUE, DEFAULT_FALSE):
        assert f"`{' '.join(values)}`" in text


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.relative_to(TREE).as_posix())
def test_toml_in_documents(path: Path):
    """Each TOML block of the documents is TOML, and each that is a whole configuration is a valid one."""
    for block in blocks_of(text_of(path), "toml"):
        tables = tomllib.loads(block)
        if {"source", "mapping"} <= set(tables) and "driver" in tables["source"]:
            config.parse_config(tables, where=path.name, base=TREE)
        if instance.APPS in tables:
            instance.parse_instance(tables, where=path.name, base=TREE)


def operation_paths() -> set[str]:
    """Read from the code which paths operators may ask: the keys of its tables and its match patterns."""
    found = set()
    files = ("server/operations.py", "server/quarantine.py")
    names = {"request_id": "{id}", "number": "{n}"}
    for node in (node for name in files for node in ast.walk(ast.parse(text_of(name)))):
        parts: list[str] | None = None
        if isinstance(node, ast.Dict):
            for key in node.keys:
                if isinstance(key, ast.Tuple):
                    found.add("/" + "/".join(ast.literal_eval(key)))
        elif isinstance(node, ast.MatchSequence):
            parts = [
                pattern.value.value if isinstance(pattern, ast.MatchValue) else names[pattern.name]  # type: ignore[attr-defined]
                for pattern in node.patterns
            ]
        if parts:
            found.add("/" + "/".join(parts))
    return found


def test_every_operations_path_is_described():
    """Each path that operators ask stands in a heading of docs/operations.md."""
    headings = " ".join(sections_of(text_of("docs/operations.md")))
    paths = operation_paths()
    assert {"/", "/health", "/-/ready", "/-/status", "/admin/refresh", "/admin/refresh/{id}"} <= paths
    assert {"/admin/quarantine", "/admin/quarantine/{n}", "/admin/quarantine/{n}/approve"} <= paths
    assert [] == [path for path in sorted(paths) if f"`{path}`" not in headings]


def test_every_endpoint_is_described():
    """Each SCIM endpoint, offered or refused by name, has its row."""
    cells = first_cells(text_of("docs/scim-support.md"))
    loaded = config.load_config(TREE / "config.toml")
    endpoints = {item.endpoint.strip("/") for item in resource_types(loaded)}
    names = {*endpoints, resources.SEARCH, *discovery.NAMES, *server_app._UNSUPPORTED}
    assert [] == [name for name in sorted(names) if not any(cell.split("/")[-1] == name for cell in cells)]


PROGRAMS = {"scheduler": scheduler.main, "server": server_main.main, "snapshot": tool.main}


def help_of(program: str, capsys: pytest.CaptureFixture[str], *command: str) -> str:
    with pytest.raises(SystemExit):
        PROGRAMS[program]([*command, "--help"])
    return capsys.readouterr().out


def test_every_command_and_option_is_described(capsys: pytest.CaptureFixture[str]):
    """Each command of the administrator's tool and each option of the three programs is in docs/operations.md."""
    text = sections_of(text_of("docs/operations.md"))["Programs"]
    tool_help = help_of("snapshot", capsys)
    commands = re.findall(r"^    ([a-z-]+)(?: |$)", tool_help, re.MULTILINE)
    assert {"demo", "status", "quarantine"} <= set(commands)
    for command in commands:
        assert f"`python -m snapshot {command}" in text
    helps = [help_of("scheduler", capsys), help_of("server", capsys), tool_help]
    helps += [help_of("snapshot", capsys, command) for command in commands]
    options = set(re.findall(r"--[a-z][a-z-]+", " ".join(helps))) - {"--help"}
    assert [] == [option for option in sorted(options) if option not in text]


def test_every_exit_code_is_described():
    """Each exit code of the three programs has its row in docs/operations.md."""
    codes = {value for name, value in vars(commandline).items() if name.startswith("EXIT_")}
    codes |= {server_main.OK, server_main.FAILED, server_main.BAD_CONFIG}
    rows = re.findall(r"^\| (\d) \|", sections_of(text_of("docs/operations.md"))["Exit codes"], re.MULTILINE)
    assert sorted(codes) == sorted(int(row) for row in rows)


def source_error_codes() -> set[str]:
    """Return the first argument of every SourceError, Finding and failed(…) in snapshot/."""
    found = {code for code, _, _ in SQL_SERVER_ERRORS.values()}
    for path in TREE.glob("snapshot/**/*.py"):
        for node in ast.walk(ast.parse(text_of(path))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            first = node.args[0]
            if node.func.id in {"SourceError", "Finding", "failed"} and isinstance(first, ast.Constant):
                found.add(str(first.value))
    return found


def test_every_error_code_is_described():
    """Each code of a failed refresh and each known error number has its row in docs/troubleshooting.md."""
    text = text_of("docs/troubleshooting.md")
    codes = source_error_codes()
    assert {"unreachable", "truncated", "deadline"} <= codes
    assert [] == sorted(codes - first_cells(text))
    numbers = {int(number) for number in re.findall(r"\b\d{3,5}\b", text)}
    assert [] == sorted(set(SQL_SERVER_ERRORS) - numbers)


def test_every_http_status_is_described():
    """Each status that the server answers an error with has its row in docs/troubleshooting.md."""
    kinds = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, errors.ScimError)]
    statuses = {kind.status for kind in kinds if isinstance(kind.status, int)}
    rows = {int(row) for row in re.findall(r"^\| (\d{3}) ", text_of("docs/troubleshooting.md"), re.MULTILINE)}
    assert [] == sorted(statuses - rows)


def test_notes_are_described():
    """Each field of status.json and of a refresh request is in docs/operations.md."""
    kinds = (control.SchedulerStatus, control.RefreshOutcome, control.Progress, control.RefreshRequest)
    names = {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}
    text = text_of("docs/operations.md")
    assert [] == [name for name in sorted(names) if f"`{name}`" not in text and f'"{name}"' not in text]


def test_snapshot_format_is_described():
    """Each file of a generation and each field of its manifest is in docs/snapshot-format.md."""
    text = text_of("docs/snapshot-format.md")
    files = [store.MANIFEST, store.CURRENT, INDEX_NAME, rejects.NAME, refresh.CHANGES, scheduler.LOCK_NAME]
    files += [name(USER, version) for name in (body_name, offsets_name) for version in ScimVersion]
    files += [store.CREATING, store.QUARANTINE, store.GENERATIONS, control.REQUESTS, control.STATUS]
    assert [] == [name for name in files if name not in text]
    kinds = (store.Manifest, store.FileFacts, store.TypeFacts, store.ChangeFacts, store.EmptiedFacts)
    fields = {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}
    assert [] == [name for name in sorted(fields) if f"`{name}`" not in text]
    assert f"\n| {store.FORMAT_VERSION} | " in sections_of(text)["Versions"]


def test_guarantees_name_tests_that_exist():
    """Each test and test file that docs/guarantees.md names is there."""
    text = text_of("docs/guarantees.md")
    files = set(re.findall(r"`(test_\w+\.py)`", text))
    names = set(re.findall(r"`(test_\w+)`", text))
    assert len(names) > 20
    found = {path.name: text_of(path) for path in (TREE / "tests").glob("test_*.py")}
    assert [] == sorted(files - found.keys())
    written = set(re.findall(r"^(?:async )?def (test_\w+)", "\n".join(found.values()), re.MULTILINE))
    assert [] == sorted(names - written)


def held_by(heading: str) -> list[str]:
    """Return the last cell of each row of the tables below a heading of docs/scim-support.md."""
    rows = re.findall(r"^\|.*\|$", sections_of(text_of("docs/scim-support.md"))[heading], re.MULTILINE)
    return [row.strip("|").split(" | ")[-1].strip() for row in rows if " held by |" not in row and "|---" not in row]


HELD = (
    "Endpoints",
    "Groups, roles and entitlements",
    "Every answer",
    "Lists",
    "Sorting",
    "Parts of resources",
    "Cursors",
    "All resource types",
    "Filters",
)


@pytest.mark.parametrize("heading", HELD)
def test_every_row_of_scim_support_is_held_by_a_test(heading: str):
    """Each row says which tests hold it, and they are there."""
    cells = held_by(heading)
    assert cells
    written = {
        name
        for path in (TREE / "tests").glob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", text_of(path), re.MULTILINE)
    }
    for cell in cells:
        assert re.fullmatch(r"`test_\w+`(, `test_\w+`)*", cell), cell
        assert set() == set(re.findall(r"`(test_\w+)`", cell)) - written


def test_every_dependency_is_explained():
    """Each runtime dependency and its floor has its row in docs/development.md."""
    text = text_of("docs/development.md")
    for requirement in tomllib.loads(text_of("pyproject.toml"))["project"]["dependencies"]:
        name, floor = re.match(r"([a-z0-9-]+)(?:>=([\d.]+))?", requirement).groups()  # type: ignore[union-attr]
        row = next((line for line in text.splitlines() if line.startswith(f"| `{name}` |")), "")
        assert row
        assert floor is None or floor in row


def test_every_decision_is_linked():
    """Each decision is listed in docs/architecture.md."""
    text = text_of("docs/architecture.md")
    decisions = sorted(path.name for path in (DOCS / "decisions").glob("*.md"))
    assert decisions
    assert [] == [name for name in decisions if f"(decisions/{name})" not in text]


def test_every_document_is_linked():
    """Each document in docs/ can be reached from the README."""
    text = text_of("README.md")
    assert [] == [path.name for path in sorted(DOCS.glob("*.md")) if f"(docs/{path.name})" not in text]


def anchor(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.relative_to(TREE).as_posix())
def test_links_resolve(path: Path):
    """Each relative link leads to a file that exists, and each anchor to a heading."""
    prose = re.sub(r"^```.*?^```", "", text_of(path), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), target
        if fragment:
            assert fragment in {anchor(heading) for heading in sections_of(text_of(found))}, target


def test_readme_is_one_screen():
    """The README has at most sixty lines."""
    assert len(text_of("README.md").splitlines()) <= 60


def test_documents_stand_alone():
    """No document names a folder of the machine that it was written on."""
    for path in MARKDOWN:
        assert re.search(r"/home/\w|/root/|/tmp/|C:\\Users", text_of(path)) is None, path.name
