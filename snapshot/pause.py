"""How long scheduled refreshes wait after the database refused the login.

Each further try with a wrong password counts towards a lock-out of the account, which other programs may use as well.
Counts of SQL Server and Active Directory are usually reset after 15 to 30 minutes without a try.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LOGIN_REFUSED = "login_refused"
# How a refresh ends (code of the outcome; "" and guard: the rows were read) that can only come after the database has
# let us in. Every other one says nothing of the password: nobody was asked, or nobody answered.
AFTER_LOGIN = frozenset(
    {
        "",
        "guard",
        "permission",
        "missing_object",
        "missing_column",
        "query",
        "isolation",
        "deadlock",
        "connection_lost",
        "timeout",
        "truncated",
    }
)
FIRST_PAUSE_SECONDS = 15 * 60.0
LONGEST_PAUSE_SECONDS = 6 * 3600.0


class LoginPause:
    """The pause after a refused login: doubled by each further refusal, ended by a login that was not refused."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_seconds = FIRST_PAUSE_SECONDS
        self._ends_at = 0.0

    @property
    def seconds_left(self) -> float:
        """How long scheduled refreshes still wait; 0 without a pause."""
        return max(self._ends_at - self._clock(), 0.0)

    def note(self, code: str) -> None:
        """Note how a refresh ended: begin a pause, end it, or leave it as it is."""
        if code == LOGIN_REFUSED:
            self._ends_at = self._clock() + self._next_seconds
            self._next_seconds = min(self._next_seconds * 2, LONGEST_PAUSE_SECONDS)
        elif code in AFTER_LOGIN:
            self._next_seconds, self._ends_at = FIRST_PAUSE_SECONDS, 0.0
