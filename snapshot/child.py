"""Child processes: started by spawn on every platform, and never outliving the one who waits for them."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

_TERMINATE_SECONDS = 5.0
_GARBAGE_THRESHOLD = 50_000


def start_child(target: Callable[..., None], *arguments: Any, name: str) -> tuple[SpawnProcess, Connection]:
    """Start `target(*arguments, sender)`; return the process and the connection that receives what it sends."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*arguments, sender), name=name)
    process.start()
    sender.close()
    return process, receiver


def become_child() -> None:
    """Call first in a child: Ctrl-C is the parent's business, and without the parent there is nothing to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Rows are millions of small objects that no cycle holds: looking for cycles all the time finds none.
    gc.set_threshold(_GARBAGE_THRESHOLD)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def end_child(process: SpawnProcess, *, patience_seconds: float = 0.0) -> None:
    """Wait a while for the child to end by itself, then terminate it, then kill it."""
    process.join(patience_seconds)
    if process.is_alive():
        process.terminate()
        process.join(_TERMINATE_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
