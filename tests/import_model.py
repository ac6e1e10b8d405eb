"""What importers must see, in plain Python: which generation each page comes from, and where a 503 is allowed.

Nothing here knows how the server does it. The rules are those of docs/architecture.md, "Import runs", and
of decision 7. What is in a generation is in `import_directory.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from snapshot.scim import GROUP

if TYPE_CHECKING:
    from collections.abc import Iterable

    from import_directory import Generation, ListName, Resource

    from snapshot.scim import ScimVersion

# Generations of one list that a client may have begun before the oldest is let go: the newest and three replaced ones.
_GENERATIONS_PER_CLIENT = 4


@dataclass(eq=False, slots=True)
class Reading:
    """One list that a reader reads: its generation, and where it is."""

    name: ListName
    generation: Generation
    count: int
    life: int
    next: int = 1
    last: int = 1
    seen: list[Resource] = field(default_factory=list)
    # What the server has been asked for, and what follows on it and has not been asked for yet.
    served: set[int] = field(default_factory=set)
    outstanding: set[int] = field(default_factory=set)
    # Whether the pin must still be there as long as it is used in time.
    is_safe: bool = True
    is_open: bool = True

    @property
    def expected(self) -> tuple[Resource, ...]:
        return self.generation.select(self.name)

    def note(self, start: int, items: int) -> None:
        self.served.add(start)
        self.outstanding.discard(start)
        if start + items <= len(self.expected):
            self.outstanding.add(start + items)


@dataclass(slots=True)
class Run:
    """The import run that a client began last: what Users after Groups must see."""

    generation: Generation
    begun: set[str]
    used_at: float
    is_safe: bool = True
    # Begun in an older run of the same generation, whose later pages this run may have answered.
    perhaps: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Client:
    """Whoever shares a credential and a version; the address is one for all here."""

    credential: str
    version: ScimVersion
    # Whether several readers share this client, so that the server cannot tell them apart.
    is_shared: bool = False
    run: Run | None = None
    readings: list[Reading] = field(default_factory=list)
    # (filter of a list that pins itself, or None for the import run; generation) -> last used
    used: dict[tuple[str | None, int], float] = field(default_factory=dict)

    def forget(self) -> None:
        self.run = None
        self.readings.clear()
        self.used.clear()


def slot(name: ListName) -> str | None:
    return None if name.is_import else name.key


class Expectation:
    """Which generation each page must come from, and where decision 7 allows a 503."""

    def __init__(self, clients: Iterable[Client], *, ttl_seconds: float, max_pins: int) -> None:
        self.clients = tuple(clients)
        self.ttl_seconds = ttl_seconds
        self.max_pins = max_pins
        self.now = 0.0
        self.life = 0
        self.started_at = 0.0

    def restart(self) -> None:
        """Note that a new server process began, which knows nothing."""
        self.life += 1
        self.started_at = self.now
        for client in self.clients:
            client.run = None
            client.used.clear()

    def _is_fresh(self, used_at: float | None) -> bool:
        return used_at is not None and used_at > self.now - self.ttl_seconds

    def _is_in_use(self, client: Client, place: str | None) -> bool:
        return any(self._is_fresh(at) for (name, _), at in client.used.items() if name == place)

    def first_page(self, client: Client, name: ListName, newest: set[Generation]) -> set[Generation]:
        """Return the generations that the first page of a list may come from: one, unless a swap is under way."""
        run = client.run
        if name.resource_type == GROUP or not name.is_import or run is None or name.resource_type in run.begun:
            return newest
        if not self._is_fresh(run.used_at):
            return newest
        is_sure = run.is_safe and name.resource_type not in run.perhaps
        return {run.generation} if is_sure else {run.generation, *newest}

    def is_pinned(self, client: Client, reading: Reading) -> bool:
        """Tell whether the pin of a reading cannot have been lost."""
        used_at = client.used.get((slot(reading.name), reading.generation.number))
        return reading.life == self.life and reading.is_safe and self._is_fresh(used_at)

    def may_mix(self, client: Client, reading: Reading) -> bool:
        """Tell whether decision 7 lets the server take this reader for one that is gone."""
        if client.is_shared:
            return not self.is_pinned(client, reading)
        return reading.life != self.life and self.now - self.started_at > self.ttl_seconds

    def rivals(self, client: Client, reading: Reading) -> list[Reading]:
        """Return who else has begun this list on another generation and is not taken for gone yet."""
        found = []
        for other in client.readings:
            if other.name == reading.name and other.generation is not reading.generation and other.life == self.life:
                place = slot(other.name)
                # Of several readers the server cannot tell which one is idle.
                used_at = client.used.get((place, other.generation.number))
                if self._is_in_use(client, place) if client.is_shared else self._is_fresh(used_at):
                    found.append(other)
        return found

    def other_server(self, client: Client, reading: Reading, start: int, number: int | None) -> Reading | None:
        """Return the older run that decision 7 lets answer a page that is neither the next one nor the last one."""
        if start in {reading.next, reading.last}:
            return None
        served = (other for other in self.rivals(client, reading) if start in other.served | other.outstanding)
        return next((other for other in served if other.generation.number == number), None)

    def must_answer(self, client: Client, reading: Reading, start: int, newest: Generation) -> bool:
        """Tell whether a later page must be answered: the next one, the last one again, or any other one."""
        rivals = self.rivals(client, reading)
        if start == reading.next:
            clashes = any(start in other.outstanding for other in rivals)
        elif start == reading.last:
            clashes = any(start in other.outstanding | other.served for other in rivals)
        else:
            clashes = bool(rivals)
        if clashes:
            return False
        if self.is_pinned(client, reading):
            return True
        same = reading.generation is newest
        return same and not client.is_shared and not rivals and reading.life == self.life

    def note(self, client: Client, reading: Reading, start: int, items: int) -> None:
        """Note that a page was answered; what that may have pushed out is no longer sure."""
        name, generation = reading.name, reading.generation
        reading.note(start, items)
        reading.is_safe = True
        place = slot(name)
        if place is None or reading.outstanding or start > 1:
            client.used[(place, generation.number)] = self.now
        if place is None:
            run = client.run
            if start == 1:
                goes_on = run is not None and run.generation is generation and self._is_fresh(run.used_at)
                goes_on = goes_on and name.resource_type != GROUP and name.resource_type not in run.begun
                if not goes_on:
                    client.run = run = Run(generation, set(), self.now)
            elif run is None or not self._is_fresh(run.used_at):
                client.run = run = Run(generation, {name.resource_type}, self.now)
            if run.generation is generation:
                (run.begun if start == 1 else run.perhaps).add(name.resource_type)
                run.used_at = self.now
                run.is_safe = True
        self._crowd(client, place, generation)

    def note_stranger(self, client: Client, reading: Reading, generation: Generation, start: int, items: int) -> None:
        """Note that a page of a reader that may mix was answered: the server knows one more, somewhere in the list."""
        stranger = Reading(reading.name, generation, reading.count, self.life)
        client.readings.append(stranger)
        run = client.run
        self.note(client, stranger, start, items)
        if run is not None and run.generation is not generation:
            run.is_safe = False  # that of the stranger may be newer

    def resume(self, client: Client, name: ListName, generation: Generation) -> None:
        """Note a later page by cursor: it needs no pin, but the run of that generation, if there is one, is in use."""
        run = client.run
        if name.is_import and run is not None and run.generation is generation:
            run.is_safe = run.is_safe and self._is_fresh(run.used_at)  # else it may have gone meanwhile
            run.used_at = self.now
            client.used[(None, generation.number)] = self.now

    def _crowd(self, client: Client, place: str | None, generation: Generation) -> None:
        mine = [number for name, number in client.used if name == place]
        if len(mine) > _GENERATIONS_PER_CLIENT:
            for other in client.readings:
                if slot(other.name) == place and other.generation is not generation:
                    other.is_safe = False
        if self.most_pins() > self.max_pins:
            self.doubt(client, place, generation)

    def doubt(
        self, client: Client | None = None, place: str | None = None, generation: Generation | None = None
    ) -> None:
        """Note that every pin but one may have been pushed out."""
        for other in self.clients:
            if other.run is not None and not (other is client and place is None and other.run.generation is generation):
                other.run.is_safe = False
            for item in other.readings:
                if not (other is client and slot(item.name) == place and item.generation is generation):
                    item.is_safe = False

    def most_pins(self) -> int:
        """Return how many pins there can be at most."""
        return sum(self._is_in_use(client, place) for client in self.clients for place, _ in client.used)
