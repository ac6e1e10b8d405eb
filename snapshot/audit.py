"""The audit log: one JSON line for each decision of a person about a generation. Only ever appended to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

import msgspec

from snapshot.logs import now_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snapshot.store import Manifest

NAME = "audit.jsonl"


class Decision(msgspec.Struct, frozen=True):
    """Who decided what about which content, and when. `failed`: the decision could not be carried out."""

    at: str
    who: str
    action: Literal["approve", "reject"]
    generation: int
    content: str = ""
    counts: dict[str, int] = {}
    refused: tuple[str, ...] = ()
    failed: str = ""


def decision(manifest: Manifest, action: Literal["approve", "reject"], who: str, *, failed: str = "") -> Decision:
    """Return what the log says of a decision about this generation."""
    counts = {name: facts.count for name, facts in manifest.resource_types.items()}
    tombstones = sum(facts.removed for facts in manifest.resource_types.values())
    counts |= {"tombstones": tombstones, "rows": manifest.rows, "rejects": manifest.rejects}
    counts |= msgspec.structs.asdict(manifest.changes)
    return Decision(
        at=now_text(),
        who=who,
        action=action,
        generation=manifest.generation,
        content=manifest.content,
        counts=counts,
        refused=manifest.refused,
        failed=failed,
    )


def write_decision(data_dir: Path, entry: Decision) -> None:
    """Append one line and make it durable; the caller holds the writer lock."""
    with (data_dir / NAME).open("ab+") as file:
        # A crash in the middle of a line must not swallow the next one.
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(msgspec.json.encode(entry) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def decisions(data_dir: Path) -> Iterator[tuple[bytes, Decision | None]]:
    """Yield each line with what it says, oldest first; None for a line that a crash cut short."""
    try:
        file = (data_dir / NAME).open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            raw = line.rstrip(b"\r\n")
            try:
                yield raw, msgspec.json.decode(raw, type=Decision)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                yield raw, None
