"""A person's word on a generation in quarantine: approve publishes it, reject removes it.

An approved generation gets the time of its approval, not of its refusal: an incremental import in
between would else miss its changes for ever.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec

from snapshot.encode import time_text
from snapshot.errors import StoreError
from snapshot.history import stamp_ms
from snapshot.reader import open_generation, previous_snapshot
from snapshot.stamp import STAMPED_FILES, stamp_generation
from snapshot.store import (
    Staging,
    disk_errors,
    publish_quarantined,
    quarantine_directory,
    readable_current,
)

if TYPE_CHECKING:
    from pathlib import Path

    from snapshot.store import Manifest


def approve(data_dir: Path, number: int, *, poll_seconds: float) -> Manifest:
    """Publish a generation from quarantine under its own number; the caller holds the writer lock.

    Raises StoreError if it is not there, is damaged, or is older than the one being served.
    """
    directory = _quarantined(data_dir, number)
    current = readable_current(data_dir)
    if current is not None and number <= current:
        raise StoreError(
            f"Generation {number} is older than generation {current}, which is being served.",
            remedy="Run a refresh and approve its result.",
        )
    manifest = open_generation(directory).manifest
    previous = previous_snapshot(data_dir)
    compared = None if previous is None else previous.generation
    if manifest.previous != compared:
        # Its times and its changes are those against another generation: a time could go back, and a change be lost.
        raise StoreError(
            f"Generation {number} was compared with generation {manifest.previous}, but {compared} is being served.",
            remedy="Run a refresh and approve its result.",
        )
    moment_ms = manifest.created_ms + 1
    if previous is not None:
        size = sum(manifest.files[name].bytes for name in STAMPED_FILES)
        moment_ms = max(moment_ms, stamp_ms(previous, body_bytes=size, poll_seconds=poll_seconds))
    staging = Staging(data_dir, number, directory)
    staging.files = dict(manifest.files)
    with disk_errors(data_dir):
        stamp_generation(directory, manifest.created_ms, moment_ms)
        for name in STAMPED_FILES:
            staging.adopt(name)
    approved = msgspec.structs.replace(
        manifest, created_ms=moment_ms, created_at=time_text(moment_ms).decode("ascii"), files=staging.files
    )
    publish_quarantined(data_dir, approved)
    return approved


def reject(data_dir: Path, number: int) -> None:
    """Remove a generation from quarantine; the caller holds the writer lock."""
    with disk_errors(data_dir):
        shutil.rmtree(_quarantined(data_dir, number))


def _quarantined(data_dir: Path, number: int) -> Path:
    directory = quarantine_directory(data_dir, number)
    if not directory.is_dir():
        raise StoreError(
            f"No generation {number} is in quarantine.", remedy="python -m snapshot quarantine lists them."
        )
    return directory
