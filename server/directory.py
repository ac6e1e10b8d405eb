"""Directory: one app as it is served. What one app holds, no other sees."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from server.archive import Archive
from server.credentials import Authenticator
from server.documents import make_documents
from server.endpoints import make_endpoints
from server.freshness import FreshnessWatch
from server.listing import Listings
from server.pins import Pins
from snapshot.logs import logs_of
from snapshot.scim import ScimVersion

if TYPE_CHECKING:
    from server.live import LiveSnapshot
    from snapshot.config import Config


class Directory:
    """The snapshots of one app, the import runs on them, what discovery says of it, and who may read it."""

    def __init__(self, config: Config, live: LiveSnapshot) -> None:
        server = config.server
        self.name = config.name
        self.config = config
        self.live = live
        # Where administrators ask about it.
        self.admin_path = "/admin"
        self.pins = Pins(ttl_seconds=server.pin_ttl_seconds, limit=server.max_pins)
        # Older generations, and what was selected from any, for lists by cursor.
        self.archive = Archive(live.data_dir)
        self.listings = Listings()
        self.endpoints = {version: make_endpoints(config, version) for version in ScimVersion}
        self.documents = {path: make_documents(config, base) for path, base in server.paths.items()}
        # Set by `open`: secrets are read when the application starts, not before.
        self.access: Authenticator

    def open(self) -> None:
        """Read the secrets of the credentials; raises SecretError."""
        self.access = Authenticator(self.config.server.auth)

    def close(self) -> None:
        """Let the threads go that check passwords."""
        self.access.close()

    async def watch(self) -> None:
        """Look for newer generations and end idle pins, for ever."""
        server = self.config.server
        freshness = FreshnessWatch(self.live, server.max_age_seconds)
        with logs_of(self.name):
            while True:
                await self.live.poll()
                freshness.look()
                self.pins.expire()
                self.archive.expire()
                await asyncio.sleep(server.poll_seconds)
