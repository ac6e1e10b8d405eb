"""Imported before aiohttp by the program: spares it what aiohttp would do for a client, and in vain.

aiohttp comes with an HTTP client, which reads all CA certificates of the system when it is imported: a tenth of the
time to the first answer. The server connects to nobody, so for this import there are none. The collector of garbage
finds none among modules; `ready` lets it begin, without those. Where aiohttp is imported already, nothing is done.
"""

from __future__ import annotations

import gc
import os
import sys

_CERTIFICATES = "SSL_CERT_FILE"


def _import() -> None:
    known = os.environ.get(_CERTIFICATES)
    os.environ[_CERTIFICATES] = os.devnull
    try:
        import aiohttp  # noqa: F401, PLC0415
    finally:
        del os.environ[_CERTIFICATES]
        if known is not None:
            os.environ[_CERTIFICATES] = known


def ready() -> None:
    """Let the collector begin: everything is imported."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


if "aiohttp" not in sys.modules:
    gc.disable()
    _import()
