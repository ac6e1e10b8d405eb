"""Generations that wait for a person's word: what they hold, and whether the same one waits already."""

from __future__ import annotations

import contextlib
import sqlite3
from hashlib import sha256
from typing import TYPE_CHECKING

from snapshot.errors import StoreError
from snapshot.layout import NAME as INDEX_NAME
from snapshot.reader import check_files
from snapshot.scim import USER
from snapshot.store import QUARANTINE, is_superseded, list_numbers, quarantine_directory, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from snapshot.store import Manifest


def content_digest(directory: Path, manifest: Manifest) -> str:
    """Return SHA-256 (hex) over who is in a generation and with what content, but not over times.

    Two refreshes that read the same give the same digest, so an approval means what the person looked at.
    """
    digest = sha256(f"{manifest.config_digest} {manifest.previous}\n".encode())
    with contextlib.closing(sqlite3.connect(directory / INDEX_NAME)) as db:
        rows = db.execute(f"SELECT id, fingerprint, removed IS NOT NULL FROM {USER} ORDER BY ordinal")
        for resource_id, fingerprint, removed in rows:
            digest.update(f"{len(resource_id)} {resource_id} {removed} ".encode() + fingerprint)
        for resource_type in sorted(set(manifest.resource_types) - {USER}):
            digest.update(f"{resource_type}\n".encode())
            for resource_id, fingerprint in db.execute(
                f'SELECT id, fingerprint FROM "{resource_type}" ORDER BY ordinal'
            ):
                digest.update(f"{len(resource_id)} {resource_id} ".encode() + fingerprint)
    return digest.hexdigest()


def same_in_quarantine(data_dir: Path, manifest: Manifest) -> int | None:
    """Return the number of the newest generation in quarantine that has this content; None if there is none."""
    for number in reversed(list_numbers(data_dir / QUARANTINE)):
        try:
            directory = quarantine_directory(data_dir, number)
            waiting = read_manifest(directory)
            if waiting.content != manifest.content or is_superseded(data_dir, number):
                continue
            # One that was damaged cannot be approved: it must not stand in the way of a whole one.
            check_files(directory, waiting)
        except StoreError:
            continue
        return number
    return None
