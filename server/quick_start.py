"""Imported before aiohttp: spares a process that only serves what it would do for clients, and in vain.

aiohttp comes with an HTTP client, which reads all CA certificates of the system when it is imported: a tenth of the
time to the first answer. This process connects to nobody, so it is told that there are none. The collector of
garbage finds none among modules; `ready` lets it begin, without those.
"""

from __future__ import annotations

import gc
import os

os.environ["SSL_CERT_FILE"] = os.devnull
gc.disable()


def ready() -> None:
    """Everything is imported."""
    gc.freeze()
    gc.enable()
