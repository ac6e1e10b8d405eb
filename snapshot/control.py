"""The notes that the two processes pass each other through the data folder.

requests/<id>.json   one file per asked-for refresh or decision: the server writes it, the scheduler answers in it
status.json          the scheduler's last word

Every note is replaced in one step, so a reader sees a whole note or none.
"""

from __future__ import annotations

import contextlib
import math
import re
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from snapshot.errors import StoreError
from snapshot.logs import now_text
from snapshot.store import replace_file, writer_lock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

REQUESTS = "requests"
STATUS = "status.json"
# The scheduler writes its status at least this often; older means that it is not running.
HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 30.0
_KEPT_REQUESTS = 50
_LOCK_SECONDS = 5.0
_MAX_NOTE_BYTES = 1 << 20
NoteT = TypeVar("NoteT", bound=msgspec.Struct)
_ID = re.compile(r"[0-9a-f]{32}\Z")


class RefreshRequest(msgspec.Struct, frozen=True):
    """One asked-for refresh, or a person's word on a generation in quarantine, and what became of it.

    `target` and `content` name the generation to approve or reject; content "" means whatever it holds.
    """

    id: str
    requested_at: str
    kind: Literal["refresh", "approve", "reject"] = "refresh"
    state: Literal["queued", "running", "published", "unchanged", "refused", "rejected", "failed"] = "queued"
    asked_by: str = ""
    target: int | None = None
    content: str = ""
    started_at: str = ""
    finished_at: str = ""
    generation: int | None = None
    counts: dict[str, int] = {}
    reason: str = ""
    remedy: str = ""


class Progress(msgspec.Struct, frozen=True):
    """How far the running refresh is. `phase`: connect, read, order, index, publish; retry: waits to begin again."""

    phase: str
    rows: int = 0
    expected_rows: int | None = None
    rows_per_second: float = 0.0
    seconds: float = 0.0
    seconds_left: float | None = None


class RefreshOutcome(msgspec.Struct, frozen=True):
    """How one refresh ended, in how many attempts. Texts are for administrators: behind the admin credential only."""

    state: Literal["published", "unchanged", "refused", "failed"]
    at: str
    generation: int | None = None
    counts: dict[str, int] = {}
    seconds: float = 0.0
    code: str = ""
    reason: str = ""
    remedy: str = ""
    warnings: tuple[str, ...] = ()
    attempts: int = 1


class SchedulerStatus(msgspec.Struct, frozen=True):
    """The scheduler's last word."""

    pid: int
    started_at: str
    updated_at: str
    phase: Literal["starting", "idle", "refreshing", "stopped"]
    progress: Progress | None = None
    last_success: RefreshOutcome | None = None
    last_outcome: RefreshOutcome | None = None
    failures_in_a_row: int = 0
    next_run_at: str = ""
    paused_until: str = ""

    def age_seconds(self) -> float:
        """Return how long ago this was written; infinity if the note does not say."""
        try:
            updated = datetime.fromisoformat(self.updated_at).astimezone(UTC)
        except (ValueError, OverflowError):
            return math.inf
        return time.time() - updated.timestamp()

    @property
    def alive(self) -> bool:
        """Whether the scheduler that wrote this still runs, as far as a note can tell."""
        return self.phase != "stopped" and self.age_seconds() < STALE_SECONDS


def confirmed_ms(status: SchedulerStatus | None, *, generation: int, created_ms: int, approved: bool = False) -> int:
    """Return when the source was last known to hold what a generation holds, in ms since 1970.

    That is its publication, or a later refresh that found no change; for one that a person approved the last
    success alone, because it was read before it was published. A time that lies in the future or that cannot be read
    does not count.
    """
    # A new generation carries a time a little ahead of the clock.
    created_ms = min(created_ms, int(time.time() * 1000))
    success = status.last_success if status is not None else None
    if success is None or success.generation != generation:
        return created_ms
    try:
        at = datetime.fromisoformat(success.at)
        at_ms = int(at.timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return created_ms
    if at.tzinfo is None or at_ms > time.time() * 1000:
        return created_ms
    return at_ms if approved else max(created_ms, at_ms)


def ask_refresh(data_dir: Path, *, asked_by: str) -> RefreshRequest:
    """Leave a request for the scheduler; one that is still queued is returned instead of a second one."""
    return _ask(data_dir, RefreshRequest(id=secrets.token_hex(16), requested_at="", asked_by=asked_by))


def ask_decision(
    data_dir: Path, kind: Literal["approve", "reject"], target: int, *, content: str, asked_by: str
) -> RefreshRequest:
    """Leave a person's word on a generation in quarantine; the same word, still queued, is returned instead."""
    request = RefreshRequest(
        id=secrets.token_hex(16), requested_at="", kind=kind, target=target, content=content, asked_by=asked_by
    )
    return _ask(data_dir, request)


def _ask(data_dir: Path, request: RefreshRequest) -> RefreshRequest:
    try:
        (data_dir / REQUESTS).mkdir(parents=True, exist_ok=True)
        # Two that ask at the same moment get one request.
        with writer_lock(data_dir / REQUESTS, patience_seconds=_LOCK_SECONDS):
            known = list_requests(data_dir)
            queued = next((item for item in known if item.state == "queued" and _wish(item) == _wish(request)), None)
            if queued is not None:
                return queued
            asked_at = now_text()
            while any(item.requested_at == asked_at for item in known):
                time.sleep(0.001)  # of two with the same time nobody could tell which one was asked first
                asked_at = now_text()
            request = msgspec.structs.replace(request, requested_at=asked_at)
            write_request(data_dir, request)
    except OSError as error:
        raise StoreError(f"The request cannot be written to {data_dir}: {error.strerror or error}.") from None
    return request


def _wish(request: RefreshRequest) -> tuple[str, int | None, str]:
    return request.kind, request.target, request.content


def write_request(data_dir: Path, request: RefreshRequest) -> None:
    """Write or replace one request."""
    replace_file(data_dir / REQUESTS / f"{request.id}.json", msgspec.json.encode(request))


def read_request(data_dir: Path, request_id: str) -> RefreshRequest | None:
    """Return one request; None for an id that is unknown or is no id."""
    if not _ID.match(request_id):
        return None
    return _read_request(data_dir / REQUESTS / f"{request_id}.json")


def _read_request(path: Path) -> RefreshRequest | None:
    """Read one request; None for a file that is none, or that would be answered under another name."""
    request = _read(path, RefreshRequest)
    return request if request is not None and request.id == path.stem and _ID.match(request.id) else None


def list_requests(data_dir: Path) -> list[RefreshRequest]:
    """Return all requests, newest first."""
    try:
        names = [path for path in (data_dir / REQUESTS).iterdir() if path.suffix == ".json"]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"The requests in {data_dir} cannot be read: {error.strerror}.") from None
    found = [request for path in names if (request := _read_request(path)) is not None]
    return sorted(found, key=lambda request: request.requested_at, reverse=True)


def take_requests(data_dir: Path) -> list[RefreshRequest]:
    """Mark every request for a refresh as running and return them: one refresh answers them all."""
    queued = [request for request in list_requests(data_dir) if request.state == "queued"]
    return [begin_request(data_dir, request) for request in queued if request.kind == "refresh"]


def list_decisions(data_dir: Path) -> list[RefreshRequest]:
    """Return the queued decisions on generations in quarantine, in the order in which they were asked."""
    queued = [request for request in list_requests(data_dir) if request.state == "queued"]
    return [request for request in reversed(queued) if request.kind != "refresh"]


def begin_request(data_dir: Path, request: RefreshRequest) -> RefreshRequest:
    """Mark a request as running."""
    running = msgspec.structs.replace(request, state="running", started_at=now_text())
    write_request(data_dir, running)
    return running


def answer_requests(data_dir: Path, requests: Sequence[RefreshRequest], outcome: RefreshOutcome) -> None:
    """Write into requests how their refresh ended."""
    for request in requests:
        answered = msgspec.structs.replace(
            request,
            state=outcome.state,
            finished_at=outcome.at,
            generation=outcome.generation,
            counts=outcome.counts,
            reason=outcome.reason,
            remedy=outcome.remedy,
        )
        write_request(data_dir, answered)


def forget_old_requests(data_dir: Path) -> None:
    """Remove finished requests but for the newest ones."""
    finished = [request for request in list_requests(data_dir) if request.finished_at]
    for request in finished[_KEPT_REQUESTS:]:
        with contextlib.suppress(OSError):
            (data_dir / REQUESTS / f"{request.id}.json").unlink()


def write_status(data_dir: Path, status: SchedulerStatus) -> None:
    """Replace the scheduler's status."""
    replace_file(data_dir / STATUS, msgspec.json.format(msgspec.json.encode(status)), durable=False)


def read_status(data_dir: Path) -> SchedulerStatus | None:
    """Return the scheduler's status; None if it never ran here or the note is not readable."""
    return _read(data_dir / STATUS, SchedulerStatus)


def _read(path: Path, kind: type[NoteT]) -> NoteT | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_NOTE_BYTES), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
