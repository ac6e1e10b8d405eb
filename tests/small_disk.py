"""A small disk of one's own: a tmpfs in a mount namespace, so that nothing is mounted for anybody else."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAGE_BYTES = 4096
_INSIDE = "SCIM_TEST_NAMESPACE"
_UNSHARE = ["unshare", "--map-root-user", "--mount"]
_DROP_FROM_BOUNDING_SET, _CAPABILITIES = 24, (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@functools.cache
def can_mount() -> bool:
    """Tell whether this account may mount a tmpfs in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    command = [*_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def in_namespace(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test again, alone, in a process that may mount; the outcome of that is its outcome."""

    @functools.wraps(test)
    def run(request: pytest.FixtureRequest, tmp_path: Path, **arguments: Any) -> None:
        if os.environ.get(_INSIDE):
            test(request=request, tmp_path=tmp_path, **arguments)
            return
        if not can_mount():
            pytest.skip("this account may not mount a tmpfs in a namespace of its own")
        pytest_ = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--basetemp",
            str(tmp_path / "inner"),
        ]
        done = subprocess.run(
            [*_UNSHARE, *pytest_, request.node.nodeid],
            cwd=request.config.rootpath,
            env={**os.environ, _INSIDE: "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert "1 passed" in done.stdout, done.stdout

    return run


class SmallDisk:
    """A mounted tmpfs; it can be made full, of files or of bytes, and read-only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def leave_pages(self, pages: int) -> None:
        """Fill it but for so many pages."""
        self._ballast.unlink(missing_ok=True)
        free = shutil.disk_usage(self.path).free // PAGE_BYTES - pages
        assert free > 0
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free * PAGE_BYTES)
        assert pages == shutil.disk_usage(self.path).free // PAGE_BYTES

    def leave_files(self, files: int) -> None:
        """Let no more than so many files be made."""
        found = os.statvfs(self.path)
        self._remount(f"nr_inodes={found.f_files - found.f_ffree + files}")

    def empty(self) -> None:
        self._ballast.unlink(missing_ok=True)
        self._remount("nr_inodes=100000")

    def read_only(self, on: bool) -> None:
        self._remount("ro" if on else "rw")

    def used_bytes(self) -> int:
        return shutil.disk_usage(self.path).used

    def _remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", self.path], check=True)


@contextlib.contextmanager
def small_disk(path: Path, size_bytes: int = 16 << 20) -> Iterator[SmallDisk]:
    """Mount an empty disk; for tests that run `in_namespace`."""
    path.mkdir()
    options = f"size={size_bytes},nr_inodes=100000"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def obey_permissions() -> None:
    """Give up root's power over permission bits for the program that this process will become."""
    if os.geteuid() == 0:
        prctl = ctypes.CDLL(None).prctl
        for capability in _CAPABILITIES:
            assert prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0) == 0
