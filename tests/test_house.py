"""The shape of the house: the import table of docs/architecture.md against every import there is."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

TREE = Path(__file__).parent.parent
TABLE = TREE / "docs" / "architecture.md"
OURS = {"snapshot", "server", "scheduler"}
FREE = {"orjson"}
TOLD_LINES = 300
# What the server may not import, directly or in a round-about way: it holds no driver, no SQL, no mapping of rows.
NOT_FOR_THE_SERVER = {
    "snapshot.sources",
    "snapshot.mapping",
    "snapshot.convert",
    "snapshot.refresh",
    "snapshot.reading",
}


class Entry(NamedTuple):
    layer: int
    third_parties: frozenset[str]


def read_table() -> dict[str, Entry]:
    rows = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 4 and cells[0].isdecimal():
            third = frozenset(re.findall(r"`([^`]+)`", cells[3]))
            rows |= dict.fromkeys(re.findall(r"`([^`]+)`", cells[1]), Entry(int(cells[0]), third))
    return rows


def files() -> list[Path]:
    found = [TREE / "scheduler.py", *(TREE / "snapshot").rglob("*.py"), *(TREE / "server").rglob("*.py")]
    return sorted(path.relative_to(TREE) for path in found)


def imports(path: Path) -> set[tuple[str, int]]:
    """Return (module, line) of every import, those inside functions and under TYPE_CHECKING included."""
    found = set()
    for node in ast.walk(ast.parse((TREE / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(alias.name, node.lineno) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: write the whole name of the module"
            found |= {(_module(node.module or "", alias.name), node.lineno) for alias in node.names}
    return found


def _module(package: str, name: str) -> str:
    """Return what `from package import name` imports: the submodule of that name, or else the package."""
    inner = f"{package}.{name}"
    return inner if package.split(".", maxsplit=1)[0] in OURS and _file(inner) else package


def _file(module: str) -> Path | None:
    path = Path(*module.split("."))
    return next((item for item in (path.with_suffix(".py"), path / "__init__.py") if (TREE / item).is_file()), None)


FILES = files()
ROWS = read_table()


def test_every_file_has_its_row():
    """The table names exactly the files that there are, so that a new file gets its place and its one noun."""
    assert {str(path.as_posix()) for path in FILES} == ROWS.keys()


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_down(path):
    """A file imports from lower layers only; third parties only where the table names them."""
    entry = ROWS[path.as_posix()]
    wrong = []
    used = set()
    for module, line in imports(path):
        top = module.split(".")[0]
        if top in OURS:
            target = _file(module)
            assert target is not None, f"{path}:{line}: {module} is no module"
            if ROWS[target.as_posix()].layer >= entry.layer:
                wrong.append(f"line {line}: {module} is not below layer {entry.layer}")
        elif top not in sys.stdlib_module_names and top not in FREE:
            used.add(top)
            if top not in entry.third_parties:
                wrong.append(f"line {line}: {top} is not named in the table")
    assert [] == wrong
    assert used == entry.third_parties


@pytest.mark.parametrize(
    ("package", "place"),
    [
        ("pymssql", "snapshot/sources/"),
        ("aiohttp", "server/"),
        ("apscheduler", "scheduler.py"),
        ("filelock", "snapshot/store.py"),
        ("xxhash", "snapshot/checksum.py"),
    ],
)
def test_where_a_third_party_is_at_home(package, place):
    """The driver belongs to the sources, HTTP to the server, the schedule to scheduler.py, and to nobody else."""
    users = [path.as_posix() for path in FILES if any(module.split(".")[0] == package for module, _ in imports(path))]
    assert users
    assert [] == [user for user in users if not user.startswith(place)]


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "server"], ids=str)
def test_the_server_knows_no_source(path):
    """The server imports nothing that reads, maps or refreshes, and the snapshot side nothing of the server."""
    reached, waiting = set(), [path]
    while waiting:
        file = waiting.pop()
        for module, _ in imports(file):
            target = _file(module) if module.split(".")[0] in OURS else None
            if target is not None and target not in reached:
                reached.add(target)
                waiting.append(target)
    names = {item.as_posix().removesuffix(".py").removesuffix("/__init__").replace("/", ".") for item in reached}
    assert not {
        name for name in names if any(name == item or name.startswith(f"{item}.") for item in NOT_FOR_THE_SERVER)
    }
    assert "scheduler" not in names


def test_the_snapshot_side_knows_no_server():
    """Neither the scheduler nor anything that it needs imports from the server."""
    users = [
        path.as_posix()
        for path in FILES
        if path.parts[0] != "server" and any(module.split(".")[0] == "server" for module, _ in imports(path))
    ]
    assert [] == users


@pytest.mark.parametrize("path", sorted((TREE / "tests").rglob("test_*.py")), ids=lambda path: path.name)
def test_every_test_says_what_it_holds(path):
    """Each test function, and each test file, begins with a docstring: the promise in a sentence."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    silent = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
        and not (ast.get_docstring(node) or "").split("\n")[0].endswith(".")
    ]
    assert [] == silent


def test_test_files_lie_flat():
    """No folder under tests/ is named as a package is: it would shadow the real one."""
    assert not {path.name for path in (TREE / "tests").iterdir() if path.is_dir()} & OURS


def test_long_files_are_told(record_property):
    """A file has one noun; past 300 lines it probably has two, which is worth a look but no failure."""
    lines = {path.as_posix(): len((TREE / path).read_text(encoding="utf-8").splitlines()) for path in FILES}
    long = {path: count for path, count in lines.items() if count > TOLD_LINES}
    record_property("long_files", str(long))
    assert lines
