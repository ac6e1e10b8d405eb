"""A person's word on a generation in quarantine: approve publishes it, reject removes it.

An approved generation gets the time of its approval, not of its refusal: an incremental import in
between would else miss its changes for ever.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from snapshot.audit import Decision, decision, write_decision
from snapshot.config import config_digest
from snapshot.encode import time_text
from snapshot.errors import CorruptGenerationError, StoreError
from snapshot.history import stamp_ms
from snapshot.logs import now_text
from snapshot.previous import open_previous
from snapshot.reader import open_generation
from snapshot.stamp import stamp_generation, stamped_files
from snapshot.store import (
    FORMAT_VERSION,
    Staging,
    disk_errors,
    is_superseded,
    prune,
    publish_quarantined,
    quarantine_directory,
    read_manifest,
    readable_current,
    remove,
    return_unapproved,
    supersede_quarantine,
)

if TYPE_CHECKING:
    from pathlib import Path

    from snapshot.config import Config
    from snapshot.store import Manifest


def approve(config: Config, number: int, *, who: str, content: str = "") -> Manifest:
    """Publish a generation from quarantine under its own number; the caller holds the writer lock.

    `content`, if given, is the digest of what the person looked at. Raises StoreError if the generation is not there,
    is damaged, holds something else, or is older than the one being served.
    """
    data_dir = config.data_dir
    with disk_errors(data_dir):
        return_unapproved(data_dir)
    directory = _quarantined(data_dir, number)
    current = readable_current(data_dir)
    if current is not None and number <= current:
        raise StoreError(
            f"Generation {number} is older than generation {current}, which is being served.",
            remedy="Run a refresh and approve its result.",
        )
    manifest = open_generation(directory).manifest
    _check_content(manifest, content)
    if is_superseded(data_dir, number):
        raise StoreError(
            f"Generation {number} is void: since then a refresh found what is being served to be right, "
            "or another generation was approved.",
            remedy="Run a refresh; what it refuses can be approved.",
        )
    if manifest.config_digest != config_digest(config):
        raise StoreError(
            f"Generation {number} was made with another query, mapping, policy or public URL than is configured now.",
            remedy="Run a refresh and approve its result.",
        )
    if manifest.format_version != FORMAT_VERSION:
        raise StoreError(
            f"Generation {number} has format version {manifest.format_version}; this program writes {FORMAT_VERSION}.",
            remedy="Run a refresh and approve its result.",
        )
    with open_previous(config) as previous:
        compared = None if previous is None else previous.generation
        if manifest.previous != compared:
            # Its times and changes are those against another generation: a time could go back, and a change be lost.
            raise StoreError(
                f"Generation {number} was compared with generation {manifest.previous}, but {compared} is in force.",
                remedy="Run a refresh and approve its result.",
            )
    size = sum(manifest.files[name].bytes for name in stamped_files(directory))
    ahead = stamp_ms(data_dir, body_bytes=size, poll_seconds=config.server.poll_seconds)
    moment_ms = max(manifest.created_ms + 1, ahead)
    with disk_errors(data_dir):
        # Before the publish: nothing is ever published on somebody's word without a line about it.
        write_decision(data_dir, decision(manifest, "approve", who))
    try:
        approved = _publish(data_dir, directory, manifest, moment_ms)
    except StoreError as error:
        with disk_errors(data_dir):
            write_decision(data_dir, decision(manifest, "approve", who, failed=error.cause))
        raise
    with contextlib.suppress(OSError):  # the others were compared with what is no longer in force, which is checked too
        supersede_quarantine(data_dir)
    prune(data_dir, config.store.keep_generations)
    return approved


def _publish(data_dir: Path, directory: Path, manifest: Manifest, moment_ms: int) -> Manifest:
    staging = Staging(data_dir, manifest.generation, directory)
    staging.files = dict(manifest.files)
    with disk_errors(data_dir):
        stamp_generation(directory, manifest.created_ms, moment_ms)
        staging.adopt(*stamped_files(directory))
    approved = msgspec.structs.replace(
        manifest, created_ms=moment_ms, created_at=time_text(moment_ms).decode("ascii"), files=staging.files
    )
    return publish_quarantined(data_dir, approved)


def reject(config: Config, number: int, *, who: str, content: str = "") -> None:
    """Remove a generation from quarantine; the caller holds the writer lock."""
    directory = _quarantined(config.data_dir, number)
    try:
        manifest = read_manifest(directory)
        _check_content(manifest, content)
        entry = decision(manifest, "reject", who)
    except CorruptGenerationError:
        # What cannot be read can still be thrown away, and only that.
        entry = Decision(at=now_text(), who=who, action="reject", generation=number)
    with disk_errors(config.data_dir):
        write_decision(config.data_dir, entry)
        if not remove(config.data_dir, directory):
            cause = f"{directory} cannot be removed."
            write_decision(config.data_dir, msgspec.structs.replace(entry, at=now_text(), failed=cause))
            raise StoreError(cause, remedy="Perhaps a program has a file of it open: try again.")


def _check_content(manifest: Manifest, content: str) -> None:
    if content and content != manifest.content:
        raise StoreError(
            f"Generation {manifest.generation} holds other content ({manifest.content[:12]}) than {content[:12]}.",
            remedy="Look at it again: python -m snapshot quarantine.",
        )


def _quarantined(data_dir: Path, number: int) -> Path:
    directory = quarantine_directory(data_dir, number)
    if not directory.is_dir():
        raise StoreError(
            f"No generation {number} is in quarantine.", remedy="python -m snapshot quarantine lists them."
        )
    return directory
