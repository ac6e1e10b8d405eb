"""Pins: which snapshot a list request sees, so that an import run never mixes two generations.

An import run is what one client (principal, peer address, ScimVersion) lists in a row: Groups, then
Users, whole or by meta.lastModified, page by page. Its first page pins the newest snapshot; later
pages and the first page of Users after Groups stay on it. A first page of Groups, or of Users that the
run has already begun, starts a new run on the newest; lists under way go on where they were begun. Any
other list (filtered, sorted, or over all types) pins only itself, and only if it has more than one page.
A pin is a reference: nothing is copied.

Clients that share credential, address and version share the key of their runs. Each run remembers for
each list which pages it served and which come next (Trail). A later page that several runs have begun
goes to the one run whose next page it is, else to the one run that served it before; if that does not
tell them apart, the list has to begin again.

Lives on the event loop, so there are no locks.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from server.errors import RestartListError
from snapshot.scim import GROUP

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from server.listing import Listing
    from snapshot.reader import Snapshot
    from snapshot.scim import ScimVersion

# Generation numbers are remembered longer than snapshots are held: 16 small entries for each pin.
_MEMORY_PER_PIN = 16
_SELECTIONS_PER_RUN = 8
# Start indexes that a run remembers of each list.
_STARTS_PER_TRAIL = 64
# Runs of one client that a newer run has replaced; another client may share credential and address.
_REPLACED_RUNS = 3


class Client(msgspec.Struct, frozen=True, gc=False):
    """Who lists: the key of an import run."""

    principal: str
    peer: str
    version: ScimVersion


class ListName(msgspec.Struct, frozen=True, gc=False):
    """Which list: `filter` is None for a whole list; `is_import` for lists that belong to an import run.

    `resource_type` is empty for a list over all of them. `sort` is what the order goes by, None for that of ids.
    """

    resource_type: str
    filter: str | None
    is_import: bool
    sort: str | None = None


class Trail:
    """Which pages of one list a run has served and which would come next: the last few."""

    __slots__ = ("_starts", "total")

    def __init__(self) -> None:
        self.total = 0
        # startIndex -> of how many readers it is the next page, which they have not asked for yet
        self._starts: OrderedDict[int, int] = OrderedDict()

    def note(self, start_index: int, following: int, total: int) -> None:
        """Note that the page at `start_index` was served, up to `following`."""
        self.total = total
        waiting = self._starts.get(start_index, 0)
        # A page that nobody was to ask for is asked for again: its reader is counted where the list goes on.
        again = not waiting and start_index != 1
        self._put(start_index, max(waiting - 1, 0))
        if following <= total:  # else the list has been read to its end, and nobody goes on there
            known = self._starts.get(following, 0)
            self._put(following, max(known, 1) if again else known + 1)

    def comes_next(self, start_index: int) -> bool:
        """Tell whether somebody who read page by page goes on here."""
        return self._starts.get(start_index, 0) > 0

    def knows(self, start_index: int) -> bool:
        """Tell whether a page here was served or would come next."""
        return start_index in self._starts

    def merge(self, other: Trail) -> None:
        """Take in what another run of the same snapshot remembers of this list."""
        for start_index, waiting in other._starts.items():
            self._put(start_index, waiting + self._starts.get(start_index, 0))

    def _put(self, start_index: int, waiting: int) -> None:
        self._starts[start_index] = waiting
        self._starts.move_to_end(start_index)
        if len(self._starts) > _STARTS_PER_TRAIL:
            self._starts.popitem(last=False)


@dataclass(slots=True)
class Run:
    """One pinned snapshot and what has been listed from it."""

    snapshot: Snapshot
    used_at: float
    begun: set[str] = field(default_factory=set)
    trails: dict[ListName, Trail] = field(default_factory=dict)
    selections: OrderedDict[ListName, Listing] = field(default_factory=OrderedDict)

    def keep_selection(self, name: ListName, listing: Listing) -> None:
        """Remember what was selected and how it was sorted, so that later pages cost no more than a slice."""
        self.selections[name] = listing
        if len(self.selections) > _SELECTIONS_PER_RUN:
            self.selections.popitem(last=False)

    def go_on_from(self, other: Run) -> None:
        """Take the place of another run of the same snapshot: whoever goes on there goes on here."""
        for name, trail in self.trails.items():
            known = other.trails.setdefault(name, trail)
            if known is not trail:
                known.merge(trail)
        # Shared, not copied: a request that is being answered from the other run still adds to them.
        self.trails = other.trails
        self.selections = other.selections


class Pins:
    """Every pin of this process: bounded in number and ended by idleness."""

    def __init__(self, *, ttl_seconds: float, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_seconds = ttl_seconds
        self._limit = limit
        self._clock = clock
        self._started_at = clock()
        # Newest run first in each list; the least recently used key first in the dictionary.
        self._runs: OrderedDict[Hashable, list[Run]] = OrderedDict()
        self._memory: OrderedDict[Hashable, int] = OrderedDict()
        # Lists of which the first page is being made at this moment, in a thread.
        self._beginning: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return sum(len(runs) for runs in self._runs.values())

    def choose(self, client: Client, name: ListName, *, start_index: int, newest: Snapshot) -> Run:
        """Return the run that answers this page.

        Raises RestartListError if earlier pages may have come from another generation than can be served,
        if several clients share the key and this page may be any one's, or if the first page is still being made.
        """
        now = self._clock()
        self._expire(now)
        key = client if name.is_import else (client, name)
        runs = self._runs.get(key, [])
        if len(runs) > 1:
            self._drop_idle(runs, now)
        if start_index == 1:
            run = self._begin(key, runs, name, newest, now)
        elif (client, name) in self._beginning:
            raise RestartListError
        else:
            run = _continued(runs, name, start_index) or self._rejoin(key, client, name, newest)
        run.used_at = now
        if key in self._runs:
            self._runs.move_to_end(key)
        return run

    @contextlib.contextmanager
    def beginning(self, client: Client, name: ListName) -> Iterator[None]:
        """Wait for what the first page of a list needs; until it is there, nobody can tell whose later pages are."""
        self._beginning[client, name] += 1
        try:
            yield
        finally:
            self._beginning[client, name] -= 1
            if not self._beginning[client, name]:
                del self._beginning[client, name]

    def resume(self, client: Client, name: ListName, generation: int) -> Snapshot | None:
        """Return a generation that some pin holds, for a page that names it; the client's own run is used by that."""
        self.expire()
        key = _key(client, name)
        for run in self._runs.get(key, ()):
            if run.snapshot.generation == generation:
                run.used_at = self._clock()
                self._runs.move_to_end(key)
                return run.snapshot
        every = (run.snapshot for runs in self._runs.values() for run in runs)
        return next((snapshot for snapshot in every if snapshot.generation == generation), None)

    def served(self, client: Client, name: ListName, run: Run, start_index: int, following: int, total: int) -> None:
        """Note that a page was served up to `following`; pin the run of a filtered list that goes on."""
        if following > total and start_index == 1 and not name.is_import:
            return  # all of it on one page, from a run that nobody holds
        trail = run.trails.get(name)
        if trail is None:
            trail = run.trails[name] = Trail()
        trail.note(start_index, following, total)
        if name.is_import or following <= total or start_index > 1:
            # A list of one page has no later ones; thousands of look-ups would push the others out.
            self._remember((client, name), run.snapshot.generation)
        if not name.is_import and following <= total:
            key = _key(client, name)
            if not any(item is run for item in self._runs.get(key, ())):
                self._hold(key, run)

    def expire(self) -> None:
        """End the runs that have been idle too long; their snapshots are freed with them."""
        self._expire(self._clock())

    def _expire(self, now: float) -> None:
        oldest = now - self._ttl_seconds
        while self._runs:
            key, runs = next(iter(self._runs.items()))
            if runs[0].used_at > oldest or any(run.used_at > oldest for run in runs):
                break
            del self._runs[key]

    def generations(self) -> dict[int, int]:
        """Return how many pins hold each generation."""
        found: dict[int, int] = {}
        for runs in self._runs.values():
            for run in runs:
                found[run.snapshot.generation] = found.get(run.snapshot.generation, 0) + 1
        return found

    def _begin(self, key: Hashable, runs: list[Run], name: ListName, newest: Snapshot, now: float) -> Run:
        # Okta lists Groups first: they are the beginning of a run, never its end.
        goes_on = name.is_import and name.resource_type != GROUP
        # The newest run may be idle while its client reads an older list on.
        fresh = bool(runs) and runs[0].used_at > now - self._ttl_seconds
        if fresh and goes_on and name.resource_type not in runs[0].begun:
            run = runs[0]
        else:
            run = Run(newest, now)
            if name.is_import:
                self._hold(key, run)
        run.begun.add(name.resource_type)
        return run

    def _hold(self, key: Hashable, run: Run) -> None:
        kept = []
        for item in self._runs.get(key, ()):
            if item.snapshot is run.snapshot:
                run.go_on_from(item)
            else:
                kept.append(item)
        self._runs[key] = [run, *kept[:_REPLACED_RUNS]]
        self._runs.move_to_end(key)
        while len(self._runs) > 1 and len(self) > self._limit:
            self._runs.popitem(last=False)
        del self._runs[key][self._limit :]

    def _drop_idle(self, runs: list[Run], now: float) -> None:
        """Drop replaced runs that have been idle too long; the newest one stays until its client is idle."""
        oldest = now - self._ttl_seconds
        runs[1:] = [run for run in runs[1:] if run.used_at > oldest]

    def _rejoin(self, key: Hashable, client: Client, name: ListName, newest: Snapshot) -> Run:
        """Answer a later page that no pin answers: only if earlier pages cannot differ from the newest."""
        remembered = self._memory.get((client, name))
        runs = self._runs.get(key, [])
        if remembered is not None:
            for run in runs:
                if run.snapshot.generation == remembered:
                    return run
            same = remembered == newest.generation
        else:
            # Nobody was served here. A server that ran before this one may have served an older
            # generation; its clients are gone once they have been idle for as long as a pin lives.
            same = newest.manifest.previous is None or self._clock() - self._started_at > self._ttl_seconds
        if not same:
            raise RestartListError
        rejoined = next((run for run in runs if run.snapshot is newest), None)
        if rejoined is None:
            rejoined = Run(newest, self._clock())
            self._hold(key, rejoined)
        # Its first page was served earlier, so the next one begins a new run.
        rejoined.begun.add(name.resource_type)
        return rejoined

    def _remember(self, key: Hashable, generation: int) -> None:
        self._memory[key] = generation
        self._memory.move_to_end(key)
        if len(self._memory) > self._limit * _MEMORY_PER_PIN:
            self._memory.popitem(last=False)


def _key(client: Client, name: ListName) -> Hashable:
    return client if name.is_import else (client, name)


def _continued(runs: list[Run], name: ListName, start_index: int) -> Run | None:
    """Return the run that this page continues; None if none of them has begun this list.

    The runs of one key are of different snapshots: RestartListError rather than a guess among them.
    """
    if len(runs) == 1:
        return runs[0] if name in runs[0].trails else None
    begun = [(run, run.trails[name]) for run in runs if name in run.trails]
    if not begun:
        return None
    if len(begun) == 1 or all(start_index > trail.total for _, trail in begun):
        # One client, or a page past the end of every one of them: it holds nothing that could be mixed.
        return begun[0][0]
    found = [run for run, trail in begun if trail.comes_next(start_index)]
    if not found:
        found = [run for run, trail in begun if trail.knows(start_index)]
    if len(found) != 1:
        raise RestartListError
    return found[0]
