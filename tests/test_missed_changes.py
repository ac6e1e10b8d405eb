"""Nobody misses a change: importers that gather incremental imports end with exactly the people that are published.

Drawn interleavings of refreshes, late swaps, restarts, damage and healing with imports whose clock is right, against the
real application behind its socket. SCIM_MISSED_EXAMPLES sets how many.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from asyncio import Runner
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from import_directory import ACTIVE, INACTIVE, ListName, Row, User, changed_after
from import_world import TTL_SECONDS, Template, World

from snapshot.scim import GROUP, USER, ScimVersion
from snapshot.store import generation_directory

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

EXAMPLES = int(os.environ.get("SCIM_MISSED_EXAMPLES", "300"))
STEPS = 25
PEOPLE = 5
IDS = tuple(f"E{number}" for number in range(1, 9))
V2 = ScimVersion.V2_0
GROUPS, USERS = ListName(V2, GROUP), ListName(V2, USER)
MAX_PAGES = 20


class Importer:
    """Reads everybody once, then what changed since it last began to read users, as its clock says.

    `from_groups`: since its run began, which lists the groups first.
    """

    def __init__(self, credential: str, *, from_groups: bool) -> None:
        self.credential = credential
        self.from_groups = from_groups
        self.since = ""
        self.people: dict[str, User] = {}
        # A run under way: when it began, what it reads, where it is, whom it has read.
        self.began = ""
        self.name: ListName | None = None
        self.start = 1
        self.used_at = 0.0
        self.read: dict[str, User] = {}


class MissedChanges(RuleBasedStateMachine):
    """Importers, refreshes, a server that is late, restarted or cannot open what is published, and one clock of all."""

    # Set by the test: they outlive the examples.
    template: Template
    loop: asyncio.AbstractEventLoop
    figures: Counter
    clock: list[float]

    @initialize()
    def begin_world(self):
        # The first generation, that of the template, was published before.
        self.clock[0] = time.time() + 10
        self.world = World(self.template, self.loop, self._now, 8, self._now)
        self.importers = [Importer("okta", from_groups=False), Importer("second", from_groups=True)]
        self.changes = 0
        self.aside: tuple[Path, Path] | None = None
        self.figures["examples"] += 1

    def _now(self) -> float:
        return self.clock[0]

    @rule(seconds=st.sampled_from((0.001, 1, 60, 119, 125, 400, TTL_SECONDS + 1)))
    def wait(self, seconds):
        """Let time pass: stamps lie 120 seconds ahead of the clock."""
        self.clock[0] += seconds

    @rule(
        changed=st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from("aacitx")), min_size=1, max_size=2),
        fate=st.sampled_from(("in time", "late", "damaged")),
    )
    def refresh(self, changed, fate):
        """Change somebody and publish; the server takes it up at once, or late, or finds it damaged."""
        self.changes += 1
        for key, what in changed:
            row = self.world.source.people.pop(key, None)
            if what != "x":
                marker = f"r{self.changes}" if what in "ac" or row is None else row.marker
                self.world.source.people[key] = Row(marker, INACTIVE if what == "i" else ACTIVE)
        if self.world.publish():
            self.mend()  # it is not the newest any more, and there has to be one that can be served
            self.figures["generations"] += 1
        elif self.world.approve():
            self.figures["generations"] += 1
        if fate == "damaged" and self.aside is None:
            self.damage()
        if fate != "late":
            self.follow()

    @rule()
    def follow(self):
        """Let the server look for a newer generation."""
        self.world.follow()
        self.figures["times that the newest could not be opened"] += self.world.live.serves_previous

    @rule()
    def restart(self):
        """Begin a new server process."""
        self.world.restart()
        self.figures["restarts"] += 1
        self.figures["restarts on an older generation"] += self.world.live.serves_previous

    @rule()
    def damage(self):
        """Take a file away from the newest generation; or bring it back."""
        if self.aside is not None:
            self.mend()
            return
        if len(self.world.generations) == 1:
            return
        path = generation_directory(self.world.config.data_dir, self.world.published.number) / "User.1.1.json"
        self.aside = path, self.world.folder / "aside"
        path.rename(self.aside[1])
        self.figures["damages"] += 1

    def mend(self) -> None:
        if self.aside is not None:
            path, aside = self.aside
            if path.parent.is_dir():
                aside.rename(path)
            self.aside = None

    @rule(who=st.integers(0, 1), pages=st.sampled_from((1, 1, 2, MAX_PAGES)))
    def read(self, who, pages):
        """Begin a run, or go on with it for some pages; a run that has to begin again does."""
        self._read(self.importers[who], pages)

    @rule(who=st.integers(0, 1))
    def list_groups(self, who):
        """List the groups, which pins the newest generation for what the run lists next."""
        importer = self.importers[who]
        if importer.name is None:
            self._list_groups(importer)

    def _time(self) -> str:
        whole, milliseconds = divmod(int(self.clock[0] * 1000), 1000)
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03}Z"

    def _list_groups(self, importer: Importer) -> None:
        if importer.from_groups:
            importer.began = self._time()
        (page,) = self.world.ask((importer.credential, GROUPS, "startIndex=1&count=100"))
        assert 200 == page.status, page.json

    def _read(self, importer: Importer, pages: int) -> None:
        if self.clock[0] - importer.used_at >= TTL_SECONDS:
            importer.name = None  # nobody goes on with a list after so long (decision 7)
            importer.began = ""
        importer.used_at = self.clock[0]
        for _ in range(pages):
            if importer.name is None:
                if not importer.from_groups or not importer.began:
                    importer.began = self._time()
                importer.name = changed_after(V2, USER, importer.since) if importer.since else USERS
                importer.start, importer.read = 1, {}
            (page,) = self.world.ask((importer.credential, importer.name, f"startIndex={importer.start}&count=2"))
            self.figures["pages"] += 1
            if page.status == 503:
                importer.name = None
                importer.began = ""
                self.figures["503"] += 1
                continue
            assert 200 == page.status, page.json
            importer.read |= {item.id: item for item in page.resources}
            importer.start += page.items
            if importer.start > page.total:
                importer.people |= importer.read
                importer.since, importer.began, importer.name = importer.began, "", None
                self.figures["imports"] += 1
                return

    def teardown(self):
        if not hasattr(self, "world"):
            return
        try:
            self.mend()
            self.clock[0] += 2 * TTL_SECONDS
            self.world.follow()
            assert self.world.served is self.world.published
            for importer in self.importers:
                self._read(importer, MAX_PAGES)
                assert importer.name is None
                assert {item.id: item for item in self.world.published.resources[USER]} == importer.people
        finally:
            self.world.close()
            del self.world, self.importers
            if self.figures["examples"] % 20 == 0:
                gc.collect()


@pytest.mark.timeout(max(300, EXAMPLES))
def test_nobody_misses_a_change(record_property, caplog, monkeypatch):
    """However late the server is, who imports what changed since the last import knows everybody as published."""
    caplog.set_level(logging.CRITICAL, logger="server.live")
    began = time.monotonic()
    figures = Counter()
    template = Template(PEOPLE)
    clock = [time.time()]
    monkeypatch.setattr(time, "time_ns", lambda: int(clock[0] * 1e9))
    try:
        with Runner() as runner:
            names = {"template": template, "loop": runner.get_loop(), "figures": figures, "clock": clock}
            run_state_machine_as_test(
                type("MissedChanges", (MissedChanges,), names),
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    print_blob=True,
                    suppress_health_check=[HealthCheck.too_slow],
                ),
            )
    finally:
        template.remove()
        told = ", ".join(f"{count} {name}" for name, count in figures.items())
        record_property("figures", f"{told}; {time.monotonic() - began:.0f} s")
