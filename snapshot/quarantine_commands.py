"""`python -m snapshot quarantine` and `audit`: what waits for a decision, deciding it, what was decided."""

from __future__ import annotations

import getpass
import os
import re
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec
import orjson

from snapshot.approval import approve, reject
from snapshot.audit import decisions
from snapshot.changes import ADDED
from snapshot.changes import NAME as CHANGES
from snapshot.decode import user_name_of
from snapshot.diff import KINDS
from snapshot.diff_formats import printable
from snapshot.errors import LockHeldError, StoreError
from snapshot.guard import users_with_a_row
from snapshot.reader import check_file, open_generation
from snapshot.scim import USER, ScimVersion
from snapshot.store import (
    QUARANTINE,
    disk_errors,
    is_superseded,
    list_numbers,
    quarantine_directory,
    read_manifest,
    readable_current,
    writer_lock,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snapshot.audit import Decision
    from snapshot.config import Config
    from snapshot.store import Manifest

    Person = dict[str, str | None]

_LISTED = 10
_SHOWN_DIGITS = 12
_CONTENT = re.compile(r"[0-9a-f]{8,64}\Z")
_PATIENCE_SECONDS = 5.0
# Kept by the kernel; only an administrator of the audit system may set it anew.
_LOGIN_UID = Path("/proc/self/loginuid")
_NO_LOGIN = 0xFFFFFFFF
# How a manifest counts the kinds of changes.
_COUNTED = ("added", "changed", "deactivated", "removed", "expired")


def list_quarantine(config: Config, out: IO[str], *, as_json: bool) -> None:
    """Print each generation that waits, why, and the first people of each kind. A damaged one bars no other."""
    data_dir = config.data_dir
    numbers = list_numbers(data_dir / QUARANTINE)
    if as_json:
        items = [_listed(data_dir, number) for number in numbers]
        out.write(f"{msgspec.json.format(orjson.dumps(items)).decode()}\n")
        return
    if not numbers:
        out.write("No generation is in quarantine.\n")
    for number in numbers:
        try:
            manifest = _manifest(data_dir, number)
            _write_head(out, data_dir, manifest)
            first = _first_people(data_dir, manifest)
            for kind, count in _counts(manifest):
                _write_people(out, first[kind])
                if count > len(first[kind]):
                    more = f"… and {count - len(first[kind]):,} more: python -m snapshot quarantine show {number}"
                    more += config.command_options
                    out.write(f"  {kind:11}  {more}\n")
        except StoreError as error:
            out.write(f"Generation {number} is damaged: {error.cause} It cannot be approved.\n")


def show_quarantined(config: Config, number: int, out: IO[str], *, as_json: bool) -> None:
    """Print all of one generation that waits: every person who differs, by kind."""
    data_dir = config.data_dir
    manifest = _manifest(data_dir, number)
    if not as_json:
        _write_head(out, data_dir, manifest)
        _write_people(out, _by_kind(data_dir, manifest))
        return
    out.write(f'{orjson.dumps(_facts(data_dir, manifest)).decode()[:-1]},"people":[')
    separator = "\n"
    for person in _by_kind(data_dir, manifest):
        out.write(separator + orjson.dumps(person).decode())
        separator = ",\n"
    out.write("\n]}\n")


def decide(config: Config, action: str, number: int, *, content: str | None = None) -> str:
    """Approve or reject; return a sentence on what was done.

    `content` is what the digest must begin with, eight digits or more; None: whatever the generation holds.
    """
    data_dir = config.data_dir
    _check_account(config, action, number)
    try:
        with writer_lock(data_dir, patience_seconds=_PATIENCE_SECONDS):
            whole = _whole_content(data_dir, number, content)
            if action == "approve":
                done = approve(config, number, who=who_am_i(), content=whole)
                return f"Generation {number} is published. It holds {_count_text(done)}."
            held = _held(data_dir, number)
            reject(config, number, who=who_am_i(), content=whole)
            return f"Generation {number} is removed.{held}"
    except LockHeldError as error:
        raise StoreError(
            f"A refresh is running ({error.holder}), so nothing was decided.", remedy="Try again when it has ended."
        ) from None


def _check_account(config: Config, action: str, number: int) -> None:
    """Raise StoreError for another account than the folder's: its files would stay where the scheduler cannot write.

    On Windows new files inherit the permissions of the folder, so there is nothing to check.
    """
    data_dir = config.data_dir
    if sys.platform == "win32" or not data_dir.is_dir():
        return
    owner = data_dir.stat().st_uid
    if os.geteuid() != owner:
        name = _account_name(owner)
        account = name or f"'#{owner}'"  # as sudo takes it, and a shell no comment
        raise StoreError(
            f"{data_dir} belongs to {name or f'uid {owner}'}, who could not write files that this account makes there.",
            remedy=f"sudo -u {account} python -m snapshot quarantine {action} {number}{config.command_options}",
        )


def _account_name(uid: int) -> str:
    """Return the name of an account; empty for one without a name, as in some containers."""
    import pwd  # noqa: PLC0415 (Windows has none)

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _held(data_dir: Path, number: int) -> str:
    try:
        return f" It held {_count_text(read_manifest(quarantine_directory(data_dir, number)))}."
    except StoreError:
        return ""


def _whole_content(data_dir: Path, number: int, content: str | None) -> str:
    """Return the digest that begins with what the person typed; StoreError if the generation has another one."""
    directory = quarantine_directory(data_dir, number)
    if content is None or not directory.is_dir():
        return ""
    typed = content.lower()
    if not _CONTENT.match(typed):
        raise StoreError(
            f"--content {printable(content) or '(empty)'} is not eight or more hexadecimal digits.",
            remedy="python -m snapshot quarantine shows them.",
        )
    whole = read_manifest(directory).content
    if not whole.startswith(typed):
        raise StoreError(
            f"Generation {number} holds other content ({whole[:_SHOWN_DIGITS] or 'no digest'}) "
            f"than {typed[:_SHOWN_DIGITS]}.",
            remedy="Look at it again: python -m snapshot quarantine.",
        )
    return whole


def who_am_i() -> str:
    """Return the account of the operating system that runs this command, for the audit log.

    Asked of the system, because anybody can set USER; with sudo also who called it, which only root could forge.
    """
    if sys.platform == "win32":
        try:
            return f"os:{os.getlogin()}"  # the account of the process, not the variable USERNAME
        except OSError:
            return f"os:{getpass.getuser()}"
    uid = os.getuid()
    name = _account_name(uid) or f"uid {uid}"
    if caller := os.environ.get("SUDO_USER", "") if uid == 0 else "":
        return f"os:{name} (sudo: {caller})"
    logged_in = _logged_in()
    return f"os:{name}" if logged_in in {None, uid} else f"os:{name} (login: {_account_name(logged_in) or logged_in})"


def _logged_in() -> int | None:
    """Return the account that logged in to the session, which stays through sudo; None where Linux does not keep it."""
    try:
        uid = int(_LOGIN_UID.read_text("ascii"))
    except (OSError, ValueError):
        return None
    return uid if uid != _NO_LOGIN else None


def show_audit(config: Config, out: IO[str], *, as_json: bool) -> None:
    """Print who approved and rejected what; a line that a crash cut short is named, or left out of the JSON."""
    seen = False
    for raw, entry in decisions(config.data_dir):
        seen = True
        if as_json:
            if entry is not None:
                out.write(f"{raw.decode()}\n")
        elif entry is None:
            out.write("(a line that cannot be read: the program ended while it wrote it)\n")
        else:
            _write_decision(out, entry)
    if not seen and not as_json:
        out.write("Nobody has approved or rejected anything yet.\n")


def _write_decision(out: IO[str], entry: Decision) -> None:
    users = entry.counts.get(USER, 0) - entry.counts.get("tombstones", 0)
    changes = ", ".join(f"{entry.counts.get(kind, 0):,} {kind}" for kind in _COUNTED)
    out.write(
        f"{entry.at}  {printable(entry.who)}  {entry.action} {entry.generation}  "
        f"content {entry.content[:_SHOWN_DIGITS] or '-'}: {users:,} users; {changes}\n"
    )
    out.writelines(f"  refused: {printable(reason)}\n" for reason in entry.refused)
    if entry.failed:
        out.write(f"  FAILED: {printable(entry.failed)}\n")


def _manifest(data_dir: Path, number: int) -> Manifest:
    directory = quarantine_directory(data_dir, number)
    if not directory.is_dir():
        waiting = ", ".join(map(str, list_numbers(data_dir / QUARANTINE))) or "none"
        raise StoreError(f"No generation {number} is in quarantine.", remedy=f"Waiting: {waiting}.")
    manifest = read_manifest(directory)
    check_file(directory, manifest, CHANGES)
    return manifest


def _counts(manifest: Manifest) -> list[tuple[str, int]]:
    """Return how many people there are of each kind, what matters most first."""
    counts = msgspec.structs.asdict(manifest.changes)
    return [(kind, counts[kind]) for kind in KINDS]


def _count_text(manifest: Manifest) -> str:
    counts = msgspec.structs.asdict(manifest.changes)
    changes = ", ".join(f"{counts[kind]:,} {kind}" for kind in _COUNTED)
    return f"{users_with_a_row(manifest):,} users; {changes}"


def _write_head(out: IO[str], data_dir: Path, manifest: Manifest) -> None:
    content = f", content {manifest.content[:_SHOWN_DIGITS]}" if manifest.content else ""
    out.write(f"Generation {manifest.generation}, read {manifest.created_at}{content}: {_count_text(manifest)}\n")
    out.writelines(f"  refused: {printable(reason)}\n" for reason in manifest.refused)
    newer = _superseded_by(data_dir, manifest.generation)
    if newer is not None:
        out.write(f"  superseded: generation {newer} is in force; this one can only be rejected\n")
    if manifest.previous is None:
        out.write("  compared with no generation, so everybody counts as added\n")


def _write_people(out: IO[str], people: Iterator[Person] | list[Person]) -> None:
    for person in people:
        name = printable(person.get("userName") or "")
        out.write(f"  {person['change']:11}  {printable(person['id'] or '')}  {name}".rstrip() + "\n")


def _superseded_by(data_dir: Path, number: int) -> int | None:
    return readable_current(data_dir) if is_superseded(data_dir, number) else None


def _listed(data_dir: Path, number: int) -> dict[str, Any]:
    try:
        manifest = _manifest(data_dir, number)
        return {**_facts(data_dir, manifest), "first": _first_people(data_dir, manifest)}
    except StoreError as error:
        return {"generation": number, "error": error.cause}


def _facts(data_dir: Path, manifest: Manifest) -> dict[str, Any]:
    return {
        "generation": manifest.generation,
        "read_at": manifest.created_at,
        "content": manifest.content,
        "previous": manifest.previous,
        "users": users_with_a_row(manifest),
        "rejects": manifest.rejects,
        "changes": msgspec.structs.asdict(manifest.changes),
        "refused": manifest.refused,
        "superseded_by": _superseded_by(data_dir, manifest.generation),
    }


def _first_people(data_dir: Path, manifest: Manifest) -> dict[str, list[Person]]:
    """Return the first people of each kind, and read no further than needed."""
    first: dict[str, list[Person]] = {kind: [] for kind in KINDS}
    missing = sum(min(count, _LISTED) for _, count in _counts(manifest))
    for person in _people(data_dir, manifest) if missing else ():
        found = first.get(str(person["change"]))
        if found is not None and len(found) < _LISTED:
            found.append(person)
            missing -= 1
            if not missing:
                break
    return first


def _by_kind(data_dir: Path, manifest: Manifest) -> Iterator[Person]:
    """Yield everybody who differs, by kind: one walk over the file a kind, so nothing piles up."""
    for kind, count in _counts(manifest):
        if count:
            yield from (person for person in _people(data_dir, manifest) if person["change"] == kind)


def _people(data_dir: Path, manifest: Manifest) -> Iterator[Person]:
    """Yield change, id and userName as changes.jsonl has them; before the first generation there was nobody."""
    directory = quarantine_directory(data_dir, manifest.generation)
    if manifest.previous is None:
        snapshot = open_generation(directory)
        for ordinal, resource_id, *_ in snapshot.index.every():
            raw = snapshot.resources(USER, ScimVersion.V2_0, ordinal, ordinal + 1)
            yield {"change": ADDED, "id": resource_id, "userName": user_name_of(raw)}
        return
    with disk_errors(data_dir), (directory / CHANGES).open("rb") as lines:
        for line in lines:
            yield orjson.loads(line)
