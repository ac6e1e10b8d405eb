"""Directories: every app that is served, which of them a path belongs to, and who may administer them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.credentials import Authenticator
from server.routes import Router

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from server.directory import Directory


class Directories:
    """At least one directory. A path below a base path belongs to one; any other to the only one, or to none."""

    def __init__(self, directories: Sequence[Directory]) -> None:
        self._all = tuple(directories)
        self._by_name = {item.name: item for item in self._all if item.name}
        self._by_base = {path: item for item in self._all for path in item.config.server.paths}
        self.server = self._all[0].config.server
        paths = {path: base for item in self._all for path, base in item.config.server.paths.items()}
        self.paths = paths
        self.router = Router(paths)
        # Set by `open`; None without [server.admin].
        self.admin: Authenticator | None = None
        if len(self._all) == 1:
            self._by_base[""] = self._all[0]
        else:
            for item in self._all:
                item.admin_path = f"/admin/apps/{item.name}"

    def __iter__(self) -> Iterator[Directory]:
        return iter(self._all)

    @property
    def only(self) -> Directory | None:
        """The only directory; None if there are several."""
        return self._all[0] if len(self._all) == 1 else None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the apps that have one."""
        return tuple(self._by_name)

    def of_base(self, base: str) -> Directory | None:
        """Return whose base path this is; with "" the only directory, None if there are several."""
        return self._by_base.get(base)

    def named(self, name: str) -> Directory | None:
        """Return the app of that name."""
        return self._by_name.get(name)

    def open(self) -> None:
        """Read the secrets of every credential; raises SecretError."""
        for item in self._all:
            item.open()
        if self.server.admin is not None:
            self.admin = Authenticator((self.server.admin,))

    def close(self) -> None:
        """Let the threads go that check passwords."""
        for item in self._all:
            item.close()
        if self.admin is not None:
            self.admin.close()
