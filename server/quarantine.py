"""What waits in quarantine, whom it would change, and a person's word on it. Behind the admin credential.

The server decides and publishes nothing: it leaves a note that is bound to the content which was there, and the
scheduler carries it out.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from server.changes import checked_people, checked_resources
from server.errors import ConflictError, InvalidSyntaxError, NotFoundError, NotReadyError
from server.keys import FACTS
from server.notes import accepted_answer, check_method, fields_of, note_answer, scheduler_facts
from server.query import Limits, search_request
from snapshot.control import ask_decision
from snapshot.errors import SnapshotError, StoreError
from snapshot.store import QUARANTINE, is_superseded, list_numbers, quarantine_directory, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web

    from server.answer import Answer
    from snapshot.control import RefreshRequest
    from snapshot.store import Manifest

PREFIX = ("admin", "quarantine")
DEFAULT_PEOPLE, MAX_PEOPLE = 100, 1000
_MAX_DIGITS = 18
# As --content at the command line: fewer digits would be guessed too easily.
_PREFIX = re.compile(r"[0-9a-f]{8,64}\Z")
_RETRY_AFTER_SECONDS = 5


class Quarantined(NamedTuple):
    """One generation in quarantine: its manifest, or why that cannot be read."""

    number: int
    manifest: Manifest | None
    damage: str
    superseded: bool


async def handle(request: web.BaseRequest, parts: tuple[str, ...]) -> Answer:
    """Answer /admin/quarantine and what is below it; `parts` are those of the app that the path is about."""
    match parts:
        case ("admin", "quarantine"):
            check_method(request)
            return await _list(request)
        case ("admin", "quarantine", number):
            return await _show(request, _number(number))
        case ("admin", "quarantine", number, "approve"):
            return await _decide(request, _number(number), "approve")
        case ("admin", "quarantine", number, "reject"):
            return await _decide(request, _number(number), "reject")
        case _:
            raise NotFoundError("There is no such path.")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise NotFoundError("There is no such path: a generation is a number.")
    return int(text)


async def _list(request: web.BaseRequest) -> Answer:
    live = request[FACTS].directory.live
    try:
        found = await asyncio.to_thread(_read_all, live.data_dir)
    except OSError as error:
        raise NotReadyError(
            f"The quarantine cannot be read: {error.strerror}.", retry_after_seconds=_RETRY_AFTER_SECONDS
        ) from None
    return note_answer({"quarantine": [_shown(item) for item in found], "scheduler": scheduler_facts(live)})


async def _show(request: web.BaseRequest, number: int) -> Answer:
    check_method(request)
    facts = request[FACTS]
    search = search_request(facts.route.query, Limits(DEFAULT_PEOPLE, MAX_PEOPLE))
    data_dir = facts.directory.live.data_dir
    found = await _find(data_dir, number)
    if found.manifest is None:
        return note_answer(_shown(found))
    directory = quarantine_directory(data_dir, number)
    try:
        people = await asyncio.to_thread(checked_people, directory, found.manifest, search.count)
        resources = await asyncio.to_thread(checked_resources, directory, found.manifest, search.count)
    except StoreError as error:
        await _find(data_dir, number)  # decided on meanwhile?
        # Whom it would change cannot be told, so nothing else of it is: it is no ground for a decision.
        return note_answer(_shown(found._replace(manifest=None, damage=error.cause)))
    return note_answer({**_shown(found), "people": people, "resources": resources})


async def _decide(request: web.BaseRequest, number: int, kind: Literal["approve", "reject"]) -> Answer:
    check_method(request, "POST")
    seen = _seen_content(await request.read())
    facts = request[FACTS]
    data_dir = facts.directory.live.data_dir
    found = await _find(data_dir, number)
    content = found.manifest.content if found.manifest is not None else ""
    if found.manifest is None and (kind == "approve" or seen is not None):
        raise ConflictError(f"Generation {number} is damaged: {found.damage}")
    if seen is not None and seen != content and not (_PREFIX.match(seen) and content.startswith(seen)):
        raise ConflictError(f"Generation {number} has other content than that. Look at it again.")
    if kind == "approve" and found.superseded:
        raise ConflictError(f"Generation {number} is superseded: the source has been read since. Run a refresh.")
    try:
        asked: RefreshRequest = await asyncio.to_thread(
            ask_decision, data_dir, kind, number, content=content, asked_by=facts.principal
        )
    except StoreError as error:
        raise NotReadyError(error.cause, retry_after_seconds=_RETRY_AFTER_SECONDS) from None
    return accepted_answer(asked, facts.directory)


def _seen_content(body: bytes) -> str | None:
    """Return the digest that a body names, None for a request without a body."""
    if not body:
        return None
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not (isinstance(found, dict) and found.keys() <= {"content"} and isinstance(found.get("content", ""), str)):
        raise InvalidSyntaxError('The body is neither empty nor {"content": "…"} with the digest of what was seen.')
    return found.get("content")


async def _find(data_dir: Path, number: int) -> Quarantined:
    found = await asyncio.to_thread(_read_one, data_dir, number)
    if found is None:
        raise NotFoundError(f"No generation {number} is in quarantine.")
    return found


def _read_all(data_dir: Path) -> list[Quarantined]:
    found = [_read_one(data_dir, number) for number in list_numbers(data_dir / QUARANTINE)]
    return [item for item in found if item is not None]


def _read_one(data_dir: Path, number: int) -> Quarantined | None:
    directory = quarantine_directory(data_dir, number)
    superseded = is_superseded(data_dir, number)
    try:
        return Quarantined(number, read_manifest(directory), "", superseded)
    except SnapshotError as error:
        # Without its folder it has been decided on, perhaps while we looked.
        return Quarantined(number, None, error.cause, superseded) if directory.is_dir() else None


def _shown(item: Quarantined) -> dict[str, Any]:
    if item.manifest is None:
        return {"generation": item.number, "superseded": item.superseded, "damage": item.damage}
    manifest = item.manifest
    return {
        "generation": item.number,
        "created_at": manifest.created_at,
        "previous": manifest.previous,
        "content": manifest.content,
        "counts": {name: fields_of(facts) for name, facts in manifest.resource_types.items()},
        "changes": fields_of(manifest.changes),
        "type_changes": {name: fields_of(facts) for name, facts in manifest.type_changes.items()},
        "refused": manifest.refused,
        "rows": manifest.rows,
        "rejects": manifest.rejects,
        "reject_reasons": manifest.reject_reasons,
        "kept": manifest.kept,
        "emptied": {path: fields_of(facts) for path, facts in manifest.emptied.items()},
        "superseded": item.superseded,
    }
