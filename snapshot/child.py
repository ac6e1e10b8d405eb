"""Child processes: started by spawn on every platform, and never outliving the one who waits for them."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

_TERMINATE_SECONDS = 5.0
_GARBAGE_THRESHOLD = 50_000
# A server beside it keeps its latency, and still a fourth of a busy processor is left for the refresh.
NICENESS = 5
_BELOW_NORMAL_PRIORITY_CLASS = 0x4000


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
    with contextlib.suppress(OSError):  # some sandboxes forbid it; then it is as fast as everybody
        _step_back()
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _step_back() -> None:
    """Let others go first when the processors are busy: nobody waits for a refresh as for an answer."""
    if sys.platform == "win32":
        import ctypes  # noqa: PLC0415  # nobody else needs it
        from ctypes import wintypes  # noqa: PLC0415

        kernel = ctypes.WinDLL("kernel32")
        kernel.GetCurrentProcess.restype = wintypes.HANDLE
        kernel.SetPriorityClass.argtypes = (wintypes.HANDLE, wintypes.DWORD)
        kernel.SetPriorityClass(kernel.GetCurrentProcess(), _BELOW_NORMAL_PRIORITY_CLASS)
    else:
        os.nice(max(0, NICENESS - os.nice(0)))


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
