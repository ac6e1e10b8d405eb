"""A diff as text, as one JSON document or as CSV, written person by person."""

from __future__ import annotations

import csv
from typing import IO, TYPE_CHECKING, Any

import orjson

from snapshot.changes import ADDED, CHANGED, DEACTIVATED, EXPIRED, REMOVED
from snapshot.diff import KINDS, in_quarantine
from snapshot.scim import USER

if TYPE_CHECKING:
    from collections.abc import Callable

    from snapshot.diff import AttributeDifference, Diff, PersonDifference
    from snapshot.reader import Snapshot

FORMATS = ("text", "json", "csv")
CSV_HEADER = ("change", "id", "userName", "attribute", "old", "new")
# What Excel, LibreOffice and others take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MAX_ID_WIDTH = 40
# The order in which counts are read; the people come in the order of KINDS.
_COUNTED = (ADDED, CHANGED, DEACTIVATED, REMOVED, EXPIRED)


def write_diff(out: IO[str], diff: Diff, style: str, *, values: bool) -> None:
    """Write a diff in one of FORMATS; without `values` nothing of a person but id, userName and attribute names."""
    writers: dict[str, Callable[[IO[str], Diff, bool], None]] = {"text": _text, "json": _json, "csv": _csv}
    writers[style](out, diff, values)


def printable(text: str) -> str:
    """Return text that a terminal shows as it is: control and invisible characters are escaped."""
    if text.isprintable():
        return text
    return "".join(item if item.isprintable() else item.encode("unicode_escape").decode() for item in text)


def _text(out: IO[str], diff: Diff, values: bool) -> None:
    first = next(diff.resources(), None)
    if first is None and not any(diff.counts.values()):
        out.write("No difference.\n")
        return
    counts = ", ".join(f"{diff.counts[kind]:,} {kind}" for kind in _COUNTED)
    out.write(f"Generation {_name(diff.old)} -> {_name(diff.new)}: {counts}\n")
    width = min(diff.id_width, _MAX_ID_WIDTH)
    kind_width = max(map(len, KINDS))
    for person in diff.people():
        line = f"{person.kind:{kind_width}}  {printable(person.id):{width}}  {printable(person.user_name or '')}"
        if not values and person.attributes:
            line += f"  {', '.join(printable(item.path) for item in person.attributes)}"
        out.write(f"{line}\n")
        if values:
            for item in person.attributes:
                old, new = (printable(_shown(value)) for value in (item.old, item.new))
                out.write(f"{'':{kind_width}}  {printable(item.path)}: {old} -> {new}\n")
    for resource in diff.resources():
        name = f"{resource.type} {printable(resource.id)}  {printable(resource.display_name or '')}"
        out.write(f"{resource.kind:{kind_width}}  {name}".rstrip() + "\n")


def _name(snapshot: Snapshot) -> str:
    where = ", in quarantine" if in_quarantine(snapshot) else ""
    return f"{snapshot.generation} ({snapshot.manifest.created_at}{where})"


def _shown(value: bytes | None) -> str:
    return "(none)" if value is None else value.decode()


def _json(out: IO[str], diff: Diff, values: bool) -> None:
    """One document, a line a person: counts stand before the people."""
    head = {"from": _generation(diff.old), "to": _generation(diff.new), "counts": diff.counts}
    out.write(f'{orjson.dumps(head).decode()[:-1]},"changes":[')
    separator = "\n"
    for person in diff.people():
        out.write(separator + orjson.dumps(_person(person, values)).decode())
        separator = ",\n"
    out.write('\n],"resources":[')
    separator = "\n"
    for item in diff.resources():
        line = {"change": item.kind, "type": item.type, "id": item.id, "displayName": item.display_name}
        out.write(separator + orjson.dumps(line).decode())
        separator = ",\n"
    out.write("\n]}\n")


def _generation(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "generation": snapshot.generation,
        "created_at": snapshot.manifest.created_at,
        "state": "quarantine" if in_quarantine(snapshot) else "published",
        "users": snapshot.count(USER),
    }


def _person(person: PersonDifference, values: bool) -> dict[str, Any]:
    attributes = [_attribute(item) if values else item.path for item in person.attributes]
    return {"change": person.kind, "id": person.id, "userName": person.user_name, "attributes": attributes}


def _attribute(item: AttributeDifference) -> dict[str, Any]:
    old, new = (None if value is None else orjson.Fragment(value) for value in (item.old, item.new))
    return {"path": item.path, "old": old, "new": new}


def _csv(out: IO[str], diff: Diff, values: bool) -> None:
    """RFC 4180: a row a differing attribute, one row for people without."""
    rows = csv.writer(out)
    rows.writerow(CSV_HEADER)
    for person in diff.people():
        head = (person.kind, person.id, person.user_name or "")
        for item in person.attributes:
            old, new = ((value or b"").decode() if values else "" for value in (item.old, item.new))
            rows.writerow([_cell(text) for text in (*head, item.path, old, new)])
        if not person.attributes:
            rows.writerow([_cell(text) for text in (*head, "", "", "")])


def _cell(text: str) -> str:
    """Return the text with an apostrophe before it if a spreadsheet would run it as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
