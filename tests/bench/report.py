"""What was measured, as lines of one table and as JSON."""

from __future__ import annotations

import json
import operator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_COMPARE = {"<=": operator.le, ">=": operator.ge, "=": operator.eq}
_DIGITS = {"s": 2, "ms": 1, "µs": 2, "MiB": 1, "/s": 0}
_HEADINGS = ("what", "ours", "against", "ratio", "target", "")
MET, MISSED = "met", "MISSED"


@dataclass(frozen=True, slots=True)
class Line:
    """One measurement.

    `target` is an operator, a number and a unit: `<= 1.5 x` speaks of the ratio, `<= 400 MiB` of what is ours.
    Without a target a line only informs; without `ours` it says that the product does not offer this.
    """

    name: str
    what: str
    unit: str
    ours: float | None
    against: float | None = None
    ratio: float | None = None
    target: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        """Return whether the target is met; nothing without one."""
        if not self.target:
            return ""
        sign, limit, unit = self.target.split(maxsplit=2) if self.target.count(" ") > 1 else (*self.target.split(), "")
        value = self.ratio if unit == "x" else self.ours
        return MET if value is not None and _COMPARE[sign](value, float(limit)) else MISSED


@dataclass(slots=True)
class Report:
    """The lines of one run, what else is known of it, and details of single rounds."""

    facts: dict[str, Any]
    lines: list[Line] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def add(self, line: Line) -> None:
        self.lines.append(line)

    def find(self, name: str) -> Line | None:
        return next((line for line in self.lines if line.name == name), None)

    def table(self) -> str:
        """Return all lines as one table."""
        return aligned([_HEADINGS, *(_cells(line) for line in self.lines)])

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        lines = [{**asdict(line), "verdict": line.verdict} for line in self.lines]
        text = json.dumps({**self.facts, "lines": lines, "details": self.details}, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


def read_report(path: Path) -> Report:
    """Read what `Report.write` wrote."""
    facts = json.loads(path.read_text(encoding="utf-8"))
    details = facts.pop("details")
    kept = ({key: value for key, value in line.items() if key != "verdict"} for line in facts.pop("lines"))
    return Report(facts, [Line(**line) for line in kept], details)


def shown(value: float | None, unit: str) -> str:
    """Write a value with its unit."""
    if value is None:
        return "-"
    number = f"{value:,.{_DIGITS.get(unit, 0)}f}"
    return f"{number}{unit}" if unit.startswith("/") else f"{number} {unit}".rstrip()


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as text: the first column to the left, the others to the right, the last as it is."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(_aligned(row, widths) for row in rows)


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a table for the documents."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def markdown_of(lines: Iterable[Line]) -> str:
    """Return lines as a table for the documents."""
    return as_markdown([(*_HEADINGS[:-1], "verdict"), *(_cells(line) for line in lines)])


def _cells(line: Line) -> tuple[str, ...]:
    ours = "not offered" if line.ours is None else shown(line.ours, line.unit)
    against = "" if line.against is None else shown(line.against, line.unit)
    ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
    return line.what, ours, against, ratio, line.target, line.verdict


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *middle, last = row
    cells = [f"{first:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(middle, widths[1:], strict=False))]
    return "  ".join([*cells, last]).rstrip()
