"""TypeWriter: the bodies of one resource type, in each version that shows it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from snapshot.bodies import BodyWriter
from snapshot.encode import Dresser, time_text
from snapshot.reader import body_name, offsets_name
from snapshot.resource_types import hidden_links
from snapshot.scim import ScimVersion

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from snapshot.bodies import Before, Run
    from snapshot.config import Config
    from snapshot.encode import Encoded, Undressed
    from snapshot.resource_types import ResourceType


class TypeWriter:
    """Writes each resource into the files of every version."""

    def __init__(self, directory: Path, config: Config, resource_type: ResourceType) -> None:
        self._versions = [version for version in ScimVersion if version in resource_type.versions]
        self._bodies = [
            BodyWriter(
                directory / body_name(resource_type.name, version),
                directory / offsets_name(resource_type.name, version),
                Dresser(
                    version,
                    config.base_url(version),
                    resource_type,
                    hidden=hidden_links(config, version),
                    manager_ref=bool(config.mapping.manager_key),
                ),
            )
            for version in self._versions
        ]
        self.names = tuple(name for body in self._bodies for name in body.names)
        self.count = 0

    def write(self, encoded: Encoded, created_ms: int, modified_ms: int) -> None:
        """Append one resource."""
        created, modified = time_text(created_ms), time_text(modified_ms)
        for body in self._bodies:
            body.add(encoded, created, modified)
        self.count += 1

    def write_block(self, block: Undressed, created_ms: Sequence[int], modified_ms: Sequence[int]) -> None:
        """Append many resources without links."""
        created, modified = _time_texts(created_ms), _time_texts(modified_ms)
        for body in self._bodies:
            body.add_block(block, created, modified)
        self.count += len(block.urns)

    def write_runs(
        self,
        runs: Sequence[Run],
        anew: Undressed | None,
        created_ms: Sequence[int],
        modified_ms: Sequence[int],
        before: Callable[[ScimVersion], Before],
    ) -> None:
        """Append many resources without links: runs as they were before, and between them those that are new."""
        for version, body in zip(self._versions, self._bodies, strict=True):
            bodies: Sequence[bytes] = ()
            if anew is not None:
                bodies = body.dressed(anew, _time_texts(created_ms), _time_texts(modified_ms))
            body.add_runs(runs, bodies, before(version))
        self.count += sum(run.count for run in runs)

    def copy(self, directory: Path, count: int) -> None:
        """Take the first `count` resources over from a generation that says the same of them."""
        for body in self._bodies:
            bytes_name, offsets = body.names
            body.copy(directory / bytes_name, directory / offsets, count)
        self.count = count

    def finish(self) -> None:
        """Write what is left and close."""
        for body in self._bodies:
            body.finish()

    def reorder(self, order: array[int]) -> None:
        """Write the files anew with the resources that `order` names, in that order; close them."""
        for body in self._bodies:
            body.reorder(order)
        self.count = len(order)

    def discard(self) -> None:
        """Close the files as they are."""
        with contextlib.ExitStack() as stack:  # a full disk may keep one from closing, but not the others
            for body in self._bodies:
                stack.callback(body.discard)


def _time_texts(instants: Sequence[int]) -> Sequence[bytes]:
    """Return many instants as text; mostly all of a block are the same."""
    first = instants[0]
    if instants.count(first) == len(instants):
        return [time_text(first)] * len(instants)
    return list(map(time_text, instants))
