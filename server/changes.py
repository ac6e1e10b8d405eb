"""The people by name that a generation in quarantine would change: the first of each kind from its changes.jsonl.

Where there is no generation to compare with, everybody is added, and they are read from the bodies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from snapshot.errors import CorruptGenerationError
from snapshot.reader import Bodies, body_name, check_file, offsets_name
from snapshot.scim import USER, ScimVersion

if TYPE_CHECKING:
    from pathlib import Path

    from snapshot.store import ChangeFacts, Manifest

NAME = "changes.jsonl"
RELATED = "related_changes.jsonl"
# Those whom a mistake hurts stand first.
KINDS = ("deactivated", "removed", "expired", "added", "changed")
RELATED_KINDS = ("removed", "changed", "added")
# An id and a user name, each of some thousand characters at the very most; more is no line of ours.
_MAX_LINE_BYTES = 1 << 20


class _Change(msgspec.Struct, frozen=True):
    change: str
    id: str
    userName: str | None = None  # noqa: N815 (the name on the wire)


class _User(msgspec.Struct, frozen=True):
    id: str
    userName: str | None = None  # noqa: N815 (the name on the wire)


class _RelatedChange(msgspec.Struct, frozen=True):
    change: str
    type: str
    id: str
    displayName: str | None = None  # noqa: N815 (the name on the wire)


def checked_resources(directory: Path, manifest: Manifest, count: int) -> dict[str, Any]:
    """Return the same of groups and entitlements, by type. Blocking. Raises CorruptGenerationError."""
    found: dict[str, dict[str, list[dict[str, str]]]] = {
        name: {kind: [] for kind in RELATED_KINDS} for name in manifest.type_changes
    }
    if RELATED in manifest.files:
        check_file(directory, manifest, RELATED)
        path = directory / RELATED
        try:
            with path.open("rb") as file:
                for line in file:
                    change = msgspec.json.decode(line, type=_RelatedChange)
                    items = found[change.type][change.change]
                    if len(items) <= count:
                        items.append({"id": change.id, "displayName": change.displayName or ""})
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, KeyError):
            raise CorruptGenerationError(path, "a line of it is no change") from None
    return {
        name: {kind: {"resources": items[:count], "more": len(items) > count} for kind, items in kinds.items()}
        for name, kinds in found.items()
    }


def checked_people(directory: Path, manifest: Manifest, count: int) -> dict[str, Any]:
    """Return for each kind of change up to `count` people, and whether there are `more`. Blocking.

    Each file that is read is checked first. Raises CorruptGenerationError.
    """
    if manifest.previous is None:
        people = _first_users(directory, manifest, count + 1)
        return _shown({kind: people if kind == "added" else [] for kind in KINDS}, count)
    check_file(directory, manifest, NAME)
    return people_by_change(directory, manifest.changes, count)


def _shown(found: dict[str, list[dict[str, str]]], count: int) -> dict[str, Any]:
    return {kind: {"people": people[:count], "more": len(people) > count} for kind, people in found.items()}


def _first_users(directory: Path, manifest: Manifest, count: int) -> list[dict[str, str]]:
    version = ScimVersion.V2_0
    for name in (body_name(USER, version), offsets_name(USER, version)):
        check_file(directory, manifest, name)
    total = manifest.resource_types[USER].count
    bodies = Bodies(directory, USER, version, total)
    users = [bodies.slice(ordinal, ordinal + 1) for ordinal in range(min(count, total))]
    try:
        return [_named(msgspec.json.decode(user, type=_User)) for user in users]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise CorruptGenerationError(directory / body_name(USER, version), "a user of it cannot be read") from None


def _named(person: _User | _Change) -> dict[str, str]:
    return {"id": person.id} | ({"userName": person.userName} if person.userName else {})


def people_by_change(directory: Path, totals: ChangeFacts, count: int) -> dict[str, Any]:
    """Return the same of changes.jsonl alone, unchecked.

    Reads the file no further than the last line that is needed, one line at a time. Raises CorruptGenerationError.
    """
    # One line more than asked for tells whether there are more.
    needed = {kind: min(getattr(totals, kind), count + 1) for kind in KINDS}
    found: dict[str, list[dict[str, str]]] = {kind: [] for kind in KINDS}
    missing = sum(needed.values())
    # Most lines of a long file are of a kind that is complete: they are told by their beginning, and not decoded.
    complete = tuple(_beginning(kind) for kind in KINDS if not needed[kind])
    path = directory / NAME
    try:
        with path.open("rb") as file:
            while missing and (line := file.readline(_MAX_LINE_BYTES)):
                if complete and line.startswith(complete):
                    continue
                change = _read(path, line)
                people = found.get(change.change)
                if people is None or len(people) == needed[change.change]:
                    continue
                people.append(_named(change))
                missing -= 1
                if len(people) == needed[change.change]:
                    complete += (_beginning(change.change),)
    except OSError as error:
        raise CorruptGenerationError(path, error.strerror or "it cannot be read") from None
    return _shown(found, count)


def _beginning(kind: str) -> bytes:
    return b'{"change":"%b",' % kind.encode()


def _read(path: Path, line: bytes) -> _Change:
    try:
        return msgspec.json.decode(line, type=_Change)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise CorruptGenerationError(path, "a line of it is no change") from None
