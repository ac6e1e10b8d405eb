"""The built wheel, installed into an environment of its own: nothing that the tree has may be missing."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

TREE = Path(__file__).parent.parent
MODULES = sorted([*TREE.glob("snapshot/**/*.py"), *TREE.glob("server/**/*.py"), TREE / "scheduler.py"])


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without this tree in sight; return its output."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, TREE, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel alone; what it depends on is seen through a path file, so no network is needed."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=folder)
    packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    Path(packages, "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return scripts


def names_of(paths: list[Path]) -> set[str]:
    return {path.relative_to(TREE).as_posix() for path in paths}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_wheel_holds_every_module(wheel: Path):
    """Every module of the tree is in the wheel, the top-level scheduler.py too, and no test is."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.endswith(".py")}
    assert names_of(MODULES) == held


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_module_imports(installed: Path):
    """Every module can be imported from outside the tree, and comes from the wheel."""
    modules = [name.removesuffix(".py").replace("/", ".") for name in sorted(names_of(MODULES))]
    names = [name.removesuffix(".__init__") for name in modules]
    code = (
        "import importlib, sys\n"
        f"found = [importlib.import_module(name).__file__ for name in {names!r}]\n"
        "print(all(path.startswith(sys.prefix) for path in found), len(found))"
    )
    assert f"True {len(names)}\n" == run(installed / "python", "-I", "-c", code, cwd=installed)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", ["scim-scheduler", "scim-server", "scim-snapshot"])
def test_console_scripts(installed: Path, script: str):
    """Each console script answers --help and --version from outside the tree."""
    assert script in run(installed / script, "--help", cwd=installed)
    version = run(installed / "python", "-c", "import snapshot; print(snapshot.__version__)", cwd=installed)
    assert run(installed / script, "--version", cwd=installed).split()[-1] == version.strip()
