"""related_changes.jsonl: which groups and entitlements differ from the generation before."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import orjson

from snapshot.reader import check_file
from snapshot.store import disk_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snapshot.store import Manifest

    # change, type, id, displayName
    Line = dict[str, str | None]

NAME = "related_changes.jsonl"
# What a mistake hurts most stands first.
KINDS = ("removed", "changed", "added")


def counts_of(manifest: Manifest) -> Iterator[tuple[str, str, int]]:
    """Yield (type, kind, how many) of all that differs, type by type."""
    for resource_type, facts in manifest.type_changes.items():
        for kind in KINDS:
            if count := getattr(facts, kind):
                yield resource_type, kind, count


def changes_of(directory: Path, manifest: Manifest, *, each: int | None = None) -> Iterator[Line]:
    """Yield every group and entitlement that differs, by type and kind, at most `each` of them.

    CorruptGenerationError if the file is not as it was written.
    """
    if NAME not in manifest.files:
        return
    check_file(directory, manifest, NAME)
    for resource_type, kind, count in counts_of(manifest):
        # One walk over the file each, so that nothing piles up.
        with disk_errors(directory), (directory / NAME).open("rb") as file:
            lines = (orjson.loads(line) for line in file)
            found = (line for line in lines if line["type"] == resource_type and line["change"] == kind)
            yield from islice(found, count if each is None else min(each, count))
