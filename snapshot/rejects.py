"""RejectLog: rejects.jsonl, the rows that could not be used and why; and what is counted of them."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from pathlib import Path

NAME = "rejects.jsonl"
_DIGEST_BYTES = 16
_DIGEST_MODULUS = 1 << (8 * _DIGEST_BYTES)


class RejectLog:
    """Writes a line a reject. `users` counts those of users, `sections` those of every query beside them."""

    def __init__(self, directory: Path) -> None:
        self._file = (directory / NAME).open("wb", buffering=1 << 16)
        self._sum = 0
        self.users = 0
        self.sections: dict[str, int] = {}
        self.reasons: dict[str, int] = {}

    @property
    def digest(self) -> str:
        """Stands for all rejects in any order: the same ones give the same 32 hex digits."""
        return f"{self._sum:032x}"

    def add(self, resource_id: str, attribute: str, reason: str, *, row: int | None = None) -> None:
        """Note the row of a user; `row` is unknown for a duplicate, which shows only after all rows were read."""
        self.users += 1
        self._count(f"{attribute}: {reason}")
        self._write({"id": _safe(resource_id), "attribute": attribute, "reason": reason}, row)

    def add_related(self, section: str, key: str, attribute: str, reason: str, *, other: str = "") -> None:
        """Note a row of a query beside the users: `key` is its id, or what nobody has; `other` its other side."""
        self.sections[section] = self.sections.get(section, 0) + 1
        self._count(f"{section}: {attribute}: {reason}")
        line: dict[str, int | str] = {"section": section, "id": _safe(key)}
        if other:
            line["other"] = _safe(other)
        self._write({**line, "attribute": attribute, "reason": reason}, None)

    def _count(self, reason: str) -> None:
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def _write(self, line: dict[str, int | str], row: int | None) -> None:
        # A sum, because rows may come in any order: the same rejects give the same digest.
        digest = blake2b(orjson.dumps(line), digest_size=_DIGEST_BYTES).digest()
        self._sum = (self._sum + int.from_bytes(digest, "little")) % _DIGEST_MODULUS
        if row is not None:
            line = {"row": row, **line}
        self._file.write(orjson.dumps(line) + b"\n")

    def close(self) -> None:
        """Write what is left and close."""
        self._file.close()


def _safe(text: str) -> str:
    """Return text that can be written: an id may hold lone surrogates, the very reason of the reject."""
    return text.encode("utf-8", "backslashreplace").decode()
