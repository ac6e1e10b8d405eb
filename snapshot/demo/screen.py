"""What the demo shows while it works: one changing line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from typing import TextIO

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_REPAINTS = 0.1


class Screen:
    """Writes to one stream; a progress line is replaced by the next one where the stream is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._shown = ""
        self._at = time.monotonic()

    def line(self, text: str) -> None:
        """Write a line that stays."""
        self.end_progress()
        self._stream.write(text + "\n")
        self._stream.flush()

    def progress(self, text: str) -> None:
        """Show how far the work is; not more often than a person can read, so that short work shows nothing."""
        pause = _SECONDS_BETWEEN_REPAINTS if self._terminal else _SECONDS_BETWEEN_LINES
        now = time.monotonic()
        if text == self._shown or now - self._at < pause:
            return
        self._at = now
        if self._terminal:
            self._stream.write("\r" + text.ljust(len(self._shown)))
        else:
            self._stream.write(text + "\n")
        self._shown = text
        self._stream.flush()

    def end_progress(self) -> None:
        """Clear the progress line, so that what follows begins a line of its own."""
        if self._terminal and self._shown:
            self._stream.write("\r" + " " * len(self._shown) + "\r")
            self._stream.flush()
        self._shown = ""
        self._at = time.monotonic()
