"""Run a module as `python -m MODULE` does, but not longer than the demo that started it.

    python -m snapshot.demo.child MODULE [ARGUMENT ...]

The demo holds the other end of this process's standard input and writes nothing. When that end closes,
because the demo asks for it or because it was killed, the module is told to stop, as by SIGTERM. A pipe
does the same on every system, and the operating system never forgets to close it.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import sys
import threading
import time

# After this long a module that does not stop is ended.
PATIENCE_SECONDS = 20.0


def main() -> None:
    """Watch standard input from a thread, run the module in this one."""
    pipe = _take_standard_input()
    threading.Thread(target=_stop_when_closed, args=(pipe,), name="demo-watch", daemon=True).start()
    _, module, *arguments = sys.argv
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _take_standard_input() -> int:
    """Return the pipe under another number, and leave an empty standard input.

    No process started from here inherits that number, and none finds the pipe as its standard input.
    """
    pipe = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return pipe


def _stop_when_closed(pipe: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(pipe, 1):
            pass
    if sys.platform == "win32":
        # os.kill would end the process there at once; this arrives as Ctrl-C does.
        signal.raise_signal(signal.SIGINT)
    else:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
