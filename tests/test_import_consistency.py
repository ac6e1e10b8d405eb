"""Imports under way while the directory changes: every run sees exactly one generation of all types.

Drawn interleavings of pages of Groups, Users and Licenses, refreshes, restarts and time against the real application behind its socket.
SCIM_CONSISTENCY_EXAMPLES sets how many; `make consistency EXAMPLES=20000` is the long run.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections import Counter
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from import_directory import (
    ACTIVE,
    INACTIVE,
    LICENSE,
    TYPES,
    UNREADABLE,
    Generation,
    ListName,
    Resource,
    Row,
    active_and_marked,
    being_active,
    changed_after,
    check_closed,
    in_group,
    in_order,
    named,
    with_member,
)
from import_model import Client, Expectation, Reading
from import_world import TTL_SECONDS, Page, Template, World

from snapshot.scim import GROUP, USER, ScimVersion

EXAMPLES = int(os.environ.get("SCIM_CONSISTENCY_EXAMPLES", "2000"))
STEPS = 12
EXAMPLES_BETWEEN_COLLECTIONS = 20
PEOPLE = 5
# Who may be added, beside those who are there from the beginning.
IDS = tuple(f"E{number}" for number in range(1, 13))
GROUP_IDS = tuple(f"G{number}" for number in range(1, 6))
LICENSE_IDS = tuple(f"L{number}" for number in range(1, 4))
WHOLE = {"users": USER, "groups": GROUP, "licenses": LICENSE}
# As Okta asks.
IMPORT_ORDER = ("groups", "changed groups", "users", "changed", "licenses", "changed licenses")
CHANGED = {"changed": USER, "changed groups": GROUP, "changed licenses": LICENSE}
LISTS = (
    *("groups", "users", "users", "licenses", "changed", "changed", "changed groups", "changed licenses"),
    *("name", "active", "inactive", "scan", "member", "in group", "sorted", "sorted groups", "everything"),
)


# People are added, changed, deactivated, spoiled and removed; members and assignments come and go; groups and licenses
# are added or renamed, and removed (capital letters), which leaves their members and assignments dangling.
def _changes(kinds: str) -> st.SearchStrategy[list[tuple[int, str, int]]]:
    one = st.tuples(st.integers(0, len(IDS) - 1), st.sampled_from(kinds), st.integers(0, len(GROUP_IDS) - 1))
    return st.lists(one, min_size=1, max_size=3)


CHANGES = st.one_of(_changes("aacitx"), _changes("aacitxmmmeegGlL"))


class Reader:
    """One importer. Alone, it is the only one with its credential and version."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.open: dict[str, Reading] = {}
        # What it read last of each whole type.
        self.whole: dict[str, tuple[Generation, list[Resource]]] = {}


class Walk:
    """A list that is read by cursor."""

    def __init__(self, name: ListName, generation: Generation, count: int) -> None:
        self.name = name
        self.generation = generation
        self.count = count
        self.cursor = ""
        self.seen: list[Resource] = []


class Imports(RuleBasedStateMachine):
    """Readers, refreshes and the clock in any order."""

    # Set by the test: they outlive the examples.
    template: Template
    loop: asyncio.AbstractEventLoop
    figures: Counter

    @initialize(max_pins=st.sampled_from((2, 8, 8)))
    def begin_world(self, max_pins):
        okta, older, second, shared = (
            Client("okta", ScimVersion.V2_0),
            Client("okta", ScimVersion.V1_1),
            Client("second", ScimVersion.V2_0),
            Client("shared", ScimVersion.V2_0, is_shared=True),
        )
        self.by_cursor = Reader(Client("cursor", ScimVersion.V2_0))
        self.walks: list[Walk] = []
        clients = (okta, older, second, shared, self.by_cursor.client)
        self.expect = Expectation(clients, ttl_seconds=TTL_SECONDS, max_pins=max_pins)
        self.readers = [Reader(client) for client in (okta, older, second, shared, shared, shared)]
        self.world = World(self.template, self.loop, lambda: self.expect.now, max_pins)
        self.changes = 0
        self.figures["examples"] += 1

    # The directory

    @rule(changed=CHANGES, is_taken_up=st.sampled_from((True, True, False)))
    def refresh(self, changed, is_taken_up):
        """Change the tables; reorder the rows; publish."""
        self.changes += 1
        for number, what, other in changed:
            self._change(IDS[number], what, other)
        self.figures["refreshes"] += 1
        self.figures["generations"] += self.world.publish()
        if is_taken_up:
            self.world.follow()

    def _change(self, key: str, what: str, other: int) -> None:
        source = self.world.source
        group, entitlement = GROUP_IDS[other], LICENSE_IDS[other % len(LICENSE_IDS)]
        match what:
            case "m":
                source.members ^= {(key, group)}
            case "e":
                source.assigned ^= {(key, entitlement)}
            case "g":
                source.groups[group] = f"r{self.changes}"
            case "G":
                source.groups.pop(group, None)
            case "l":
                source.licenses[entitlement] = f"r{self.changes}"
            case "L":
                source.licenses.pop(entitlement, None)
            case _:
                row = source.people.pop(key, None)  # whoever is touched comes last
                if what != "x":
                    marker = f"r{self.changes}" if what in "ac" or row is None else row.marker
                    state = {"i": INACTIVE, "t": UNREADABLE}.get(what, ACTIVE)
                    source.people[key] = Row(marker, state)

    @rule(what=st.sampled_from(("follow", "approve", "approve", "restart")))
    def administer(self, what):
        """Let what the guard refused pass, let the server look for a newer generation, or begin a new server process."""
        if what == "approve" and self.world.approve():
            self.figures["approved"] += 1
            self.figures["generations"] += 1
        if what == "restart":
            self.world.restart()
            self.expect.restart()
            self.figures["restarts"] += 1
        self.world.follow()

    @rule(seconds=st.sampled_from((TTL_SECONDS * 0.4, TTL_SECONDS * 0.7, TTL_SECONDS + 1)))
    def wait(self, seconds):
        """Let time pass; whatever nobody used for so long is freed."""
        self.expect.now += seconds
        self.world.pins.expire()
        held = set(self.world.pins.generations()) | {self.world.served.number}
        for number, seen in self.world.snapshots.items():
            if number not in held and seen() is not None:
                gc.collect()
                assert seen() is None, f"generation {number} is not freed"

    # The readers

    @rule(who=st.integers(0, 5), what=st.sampled_from(LISTS), which=st.integers(0, 11), count=st.integers(0, 7))
    def begin(self, who, what, which, count):
        """Ask for the first page of a list, whatever is under way."""
        reader = self.readers[who]
        self._first(reader, self._name(reader, what, which), count)

    @rule(
        who=st.integers(0, 5),
        which=st.integers(0, 11),
        count=st.integers(1, 7),
        lists=st.sampled_from((WHOLE, CHANGED)),
    )
    def begin_import(self, who, which, count, lists):
        """Ask for the first pages of Groups, of Users and of Licenses."""
        reader = self.readers[who]
        for what in sorted(lists, key=IMPORT_ORDER.index):
            self._first(reader, self._name(reader, what, which), count)

    @rule(
        who=st.integers(0, 5),
        which=st.integers(0, 11),
        count=st.integers(2, 7),
        lists=st.sampled_from((WHOLE, WHOLE, CHANGED)),
        changed=st.one_of(st.just([]), CHANGES),
    )
    def import_everything(self, who, which, count, lists, changed):
        """List Groups, Users and Licenses to their ends; perhaps a newer generation is served after the first."""
        reader = self.readers[who]
        for what in sorted(lists, key=IMPORT_ORDER.index):
            reading = self._first(reader, self._name(reader, what, which), count)
            while reading.is_open:
                self._later(reader, reading, reading.next)
            if changed and "groups" in what:
                self.refresh(changed, True)

    @rule(who=st.integers(0, 5), which=st.integers(0, 8), pages=st.integers(1, 3), count=st.integers(0, 7))
    def read_on(self, who, which, pages, count):
        """Ask for the next pages of a list; count 0 keeps the size of the pages."""
        reading = self._under_way(who, which)
        for _ in range(pages):
            if not reading.is_open:
                break
            reading.count = count or reading.count or 1
            self._later(self.readers[who], reading, reading.next)

    @rule(who=st.integers(0, 5), which=st.integers(0, 8))
    def read_to_the_end(self, who, which):
        """Ask for every page that is left."""
        reading = self._under_way(who, which)
        reading.count = max(reading.count, 2)
        while reading.is_open:
            self._later(self.readers[who], reading, reading.next)

    @rule(who=st.integers(0, 2), which=st.integers(0, 8), start=st.integers(2, 14), again=st.booleans())
    def jump(self, who, which, start, again):
        """Ask for the last page again, or for any page, also past the end."""
        reading = self._under_way(who, which)
        if reading.is_open:
            self._later(self.readers[who], reading, reading.last if again and reading.last > 1 else start)

    @rule(pages=st.integers(0, 7), which=st.integers(0, 8), what=st.sampled_from(LISTS), count=st.integers(1, 7))
    def all_at_once(self, pages, which, what, count):
        """Ask for pages of several clients while the server swaps: first pages, or (a bit each) next ones."""
        asked = []
        for who in range(3):
            reader = self.readers[who]
            open_lists = [reading for reading in reader.open.values() if reading.next > 1]
            if pages >> who & 1 and open_lists:
                reading = open_lists[which % len(open_lists)]
                asked.append((reader, reading, reading.name, reading.next, reading.count or 1))
            else:
                asked.append((reader, None, self._name(reader, what, which), 1, count))
        crowded = self.expect.most_pins() + len(asked) > self.expect.max_pins
        if crowded:
            self.expect.doubt()
        newest = {self.world.served}
        requests = [
            (reader.client.credential, name, f"startIndex={start}&count={count}")
            for reader, _, name, start, count in asked
        ]
        answers = self.world.ask(*requests, swap=True)
        newest.add(self.world.served)
        for (reader, reading, name, start, number), page in zip(asked, answers, strict=True):
            self.figures["requests"] += 1
            if reading is None:
                self._check_first(reader, name, number, page, newest)
            else:
                reading.count = number
                self._check_later(reader, reading, start, page)
        if crowded:
            self.expect.doubt()  # nobody knows in which order they came: any of them may have pushed out any other

    @rule(what=st.sampled_from(LISTS), which=st.integers(0, 11), count=st.integers(1, 7))
    def begin_by_cursor(self, what, which, count):
        """Ask for the first page of a list by cursor."""
        client = self.by_cursor.client
        name = self._name(self.by_cursor, what, which)
        allowed = self.expect.first_page(client, name, {self.world.served})
        page = self._ask(self.by_cursor, name, f"cursor=&count={count}")
        assert page.status == 200, page.json
        assert page.generation in {item.number for item in allowed}
        walk = Walk(name, next(item for item in allowed if item.number == page.generation), count)
        if name.is_import:
            self.expect.note(client, Reading(name, walk.generation, count, self.expect.life), 1, page.items)
        self.walks.append(walk)
        self._turn(walk, page)

    @rule(which=st.integers(0, 5), pages=st.integers(1, 4))
    def follow_cursors(self, which, pages):
        """Follow a list by cursor, over restarts too, until it ends or its generation is pruned."""
        for _ in range(pages):
            if not self.walks:
                return
            walk = self.walks[which % len(self.walks)]
            number = walk.generation.number
            self.world.pins.expire()
            is_there = number == self.world.served.number or number in self.world.pins.generations()
            is_there = is_there or self.world.is_on_disk(number)
            page = self._ask(self.by_cursor, walk.name, f"cursor={quote(walk.cursor)}&count={walk.count}")
            if page.status == 400:
                assert not is_there
                assert page.json["scimType"] == "expiredCursor"
                self.walks.remove(walk)
                self.figures["expired cursors"] += 1
                continue
            assert page.status == 200, page.json
            assert number == page.generation
            self.expect.resume(self.by_cursor.client, walk.name, walk.generation)
            self._turn(walk, page)

    def _turn(self, walk: Walk, page: Page) -> None:
        walk.generation.check(walk.name, len(walk.seen) + 1, walk.count, page.total, page.resources)
        walk.seen += page.resources
        walk.cursor = page.json.get("nextCursor", "")
        assert bool(walk.cursor) == (len(walk.seen) < page.total)
        self.figures["pages by cursor"] += 1
        if not walk.cursor:
            assert sorted(walk.generation.select(walk.name)) == sorted(walk.seen)
            self.walks.remove(walk)
            self._complete(self.by_cursor, walk.name, walk.generation, walk.seen)

    def _under_way(self, who: int, which: int) -> Reading:
        """Return a list that a reader reads; it begins one if there is none."""
        reader = self.readers[who]
        if not reader.open:
            return self._first(reader, self._name(reader, "users", 0), 2)
        reading = list(reader.open.values())[which % len(reader.open)]
        # Whoever asked for no resources yet begins at the beginning.
        return reading if reading.next > 1 else self._first(reader, reading.name, 2)

    def _name(self, reader: Reader, what: str, which: int) -> ListName:
        version = reader.client.version
        if version is ScimVersion.V1_1:  # which has no licenses and no list of everything
            what = {"licenses": "users", "changed licenses": "changed", "everything": "sorted"}.get(what, what)
        if what in WHOLE:
            return ListName(version, WHOLE[what])
        if what in CHANGED:
            generations = self.world.generations
            return changed_after(version, CHANGED[what], generations[which % len(generations)].time)
        match what:
            case "name":
                return named(version, IDS[which])
            case "active" | "inactive":
                return being_active(version, what == "active")
            case "scan":
                return active_and_marked(version, "r0")
            case "member":
                return with_member(version, IDS[which])
            case "in group":
                return in_group(version, GROUP_IDS[which % len(GROUP_IDS)])
            case "sorted":
                return in_order(version, "userName" if which % 2 else "-userName")
            case "sorted groups":
                return in_order(version, "displayName" if which % 2 else "-displayName")
        return ListName(version, "", is_import=False)

    # Asking and checking

    def _ask(self, reader: Reader, name: ListName, place: str) -> Page:
        self.figures["requests"] += 1
        return self.world.ask((reader.client.credential, name, place))[0]

    def _first(self, reader: Reader, name: ListName, count: int) -> Reading:
        newest = {self.world.served}
        return self._check_first(reader, name, count, self._ask(reader, name, f"startIndex=1&count={count}"), newest)

    def _check_first(self, reader, name, count, page, newest) -> Reading:
        assert page.status == 200, page.json
        allowed = self.expect.first_page(reader.client, name, newest)
        assert page.generation in {item.number for item in allowed}
        generation = next(item for item in allowed if item.number == page.generation)
        reading = Reading(name, generation, count, self.expect.life)
        self._end(reader, reading)
        reader.client.readings.append(reading)
        reader.open[name.key] = reading
        self._take(reader, reading, 1, page)
        return reading

    def _later(self, reader: Reader, reading: Reading, start: int) -> None:
        page = self._ask(reader, reading.name, f"startIndex={start}&count={reading.count}")
        self._check_later(reader, reading, start, page)

    def _check_later(self, reader: Reader, reading: Reading, start: int, page: Page) -> None:
        must = self.expect.must_answer(reader.client, reading, start, self.world.served)
        if page.status == 503:
            assert not must, "refused although its pin cannot have been lost"
            assert page.headers["Retry-After"] == "1"
            assert "startIndex=1" in page.json["detail"]
            self.figures["503"] += 1
            self._end(reader, reading)
            self._first(reader, reading.name, max(reading.count, 1))
            return
        assert page.status == 200, page.json
        if self.expect.may_mix(reader.client, reading):
            self._end(reader, reading)  # it was gone for so long that the server need not know it
            generation = next((item for item in self.world.generations if item.number == page.generation), None)
            if generation is not None:
                self.expect.note_stranger(reader.client, reading, generation, start, page.items)
            return
        other = self.expect.other_server(reader.client, reading, start, page.generation)
        if other is not None:
            other.generation.check(other.name, start, reading.count, page.total, page.resources)
            self.expect.note(reader.client, other, start, page.items)
            self.figures["jumps into an older run"] += 1
            return
        self._take(reader, reading, start, page)

    def _take(self, reader: Reader, reading: Reading, start: int, page: Page) -> None:
        """Compare a page with the generation of its list, and a finished list with the whole of it."""
        assert start == page.start
        if page.items:
            assert reading.generation.number == page.generation
        reading.generation.check(reading.name, start, reading.count, page.total, page.resources)
        self.figures["pages"] += 1
        goes_on = start == reading.next
        self.expect.note(reader.client, reading, start, page.items)
        if not goes_on:
            return
        reading.seen += page.resources
        reading.last, reading.next = start, start + page.items
        if reading.next > page.total:
            assert sorted(reading.expected) == sorted(reading.seen)
            self._end(reader, reading)
            self._complete(reader, reading.name, reading.generation, reading.seen)

    def _complete(self, reader: Reader, name: ListName, generation: Generation, seen: list[Resource]) -> None:
        """Count a list that was read to its end; compare the last whole lists of all types with each other."""
        self.figures["lists completed"] += 1
        self.figures["imports completed"] += name.is_import and name.resource_type == USER
        if name.is_whole:
            reader.whole[name.resource_type] = (generation, seen)
            same = {kind: read for kind, (number, read) in reader.whole.items() if number is generation}
            if len(same) == len(TYPES[name.version]):
                check_closed(same)
                self.figures["whole directories"] += 1

    def _end(self, reader: Reader, reading: Reading) -> None:
        former = reader.open.pop(reading.name.key, None)
        for item in (former, reading):
            if item is not None and item is not reading:
                item.is_open = False
        if former is reading:
            reading.is_open = False

    @invariant()
    def pins_are_bounded_and_cost_no_copy(self):
        """No more pins than allowed; each holds the very snapshot that was served."""
        pins = self.world.pins
        assert len(pins) <= self.expect.max_pins
        for runs in pins._runs.values():
            for run in runs:
                assert run.snapshot is self.world.snapshots[run.snapshot.generation]()

    def teardown(self):
        if hasattr(self, "world"):
            self.world.close()
            # Hypothesis keeps its machines; what they hold has to go, because it has files open.
            del self.world, self.expect, self.readers, self.walks, self.by_cursor
            if self.figures["examples"] % EXAMPLES_BETWEEN_COLLECTIONS == 0:
                gc.collect()


@pytest.mark.timeout(max(300, EXAMPLES))
def test_every_import_sees_exactly_one_generation(record_property, caplog):
    """Whatever happens meanwhile, the pages of a list are those of one generation, or it is told to begin again."""
    caplog.set_level(logging.WARNING, logger="server.live")  # thousands of swaps
    began = time.monotonic()
    figures = Counter()
    # Else a fifth of the time goes into looking for garbage; teardown does it, because old servers hold files.
    gc.freeze()
    gc.disable()
    template = Template(PEOPLE)
    try:
        with asyncio.Runner() as runner:
            machine = type("Imports", (Imports,), {"template": template, "loop": runner.get_loop(), "figures": figures})
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    print_blob=True,
                    # A refresh writes and syncs files, which is slow where the disk is.
                    suppress_health_check=[HealthCheck.too_slow],
                ),
            )
    finally:
        gc.enable()
        gc.unfreeze()
        template.remove()
        seconds = time.monotonic() - began
        told = ", ".join(f"{count} {name}" for name, count in figures.items())
        record_property("figures", f"{told}; {seconds:.0f} s")
