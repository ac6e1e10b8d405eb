"""The people by name that a generation in quarantine would change: the first of each kind from its changes.jsonl."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from snapshot.errors import CorruptGenerationError

if TYPE_CHECKING:
    from pathlib import Path

    from snapshot.store import ChangeFacts

NAME = "changes.jsonl"
# Those whom a mistake hurts stand first.
KINDS = ("deactivated", "removed", "expired", "added", "changed")
# An id and a user name, each of some thousand characters at the very most; more is no line of ours.
_MAX_LINE_BYTES = 1 << 20


class _Change(msgspec.Struct, frozen=True):
    change: str
    id: str
    userName: str | None = None  # noqa: N815 (the name on the wire)


def people_by_change(directory: Path, totals: ChangeFacts, count: int) -> dict[str, Any]:
    """Return for each kind of change up to `count` people, and whether there are `more`. Blocking.

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
                people.append({"id": change.id} | ({"userName": change.userName} if change.userName else {}))
                missing -= 1
                if len(people) == needed[change.change]:
                    complete += (_beginning(change.change),)
    except OSError as error:
        raise CorruptGenerationError(path, error.strerror or "it cannot be read") from None
    return {kind: {"people": people[:count], "more": len(people) > count} for kind, people in found.items()}


def _beginning(kind: str) -> bytes:
    return b'{"change":"%b",' % kind.encode()


def _read(path: Path, line: bytes) -> _Change:
    try:
        return msgspec.json.decode(line, type=_Change)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise CorruptGenerationError(path, "a line of it is no change") from None
