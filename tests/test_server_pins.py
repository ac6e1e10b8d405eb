"""Pins: which snapshot a page sees, with fake snapshots and a clock that the test moves."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass, field

import pytest

from server.errors import RestartListError
from server.pins import Client, ListName, Pins
from snapshot.scim import ScimVersion

USERS = ListName("User", None, is_import=True)
GROUPS = ListName("Group", None, is_import=True)
CHANGED = ListName("User", 'meta.lastModified gt "2026-01-01T00:00:00Z"', is_import=True)
FOUND = ListName("User", 'title eq "x"', is_import=False)
OKTA = Client("okta", "10.0.0.1", ScimVersion.V1_1)


@dataclass
class FakeManifest:
    previous: int | None


@dataclass
class FakeSnapshot:
    generation: int
    manifest: FakeManifest = field(init=False)

    def __post_init__(self):
        self.manifest = FakeManifest(self.generation - 1 or None)


class World:
    """Pins, the clock and the newest snapshot; `page` lists one page of 10 out of 100."""

    def __init__(self, *, limit=8):
        self.now = 1000.0
        self.newest = FakeSnapshot(1)
        self.pins = Pins(ttl_seconds=900, limit=limit, clock=lambda: self.now)

    def publish(self):
        self.newest = FakeSnapshot(self.newest.generation + 1)

    def page(self, name, start, *, client=OKTA, total=100):
        run = self.pins.choose(client, name, start_index=start, newest=self.newest)
        self.pins.served(client, name, run, following=start + 10, total=total)
        return run.snapshot.generation


@pytest.fixture
def world():
    return World()


def test_an_import_run_stays_on_its_generation(world):
    """Groups, then Users, page by page: one generation, whatever is published meanwhile."""
    assert world.page(GROUPS, 1) == 1
    world.publish()
    assert world.page(GROUPS, 11) == 1
    assert world.page(USERS, 1) == 1
    world.publish()
    assert world.page(USERS, 11) == 1


def test_a_list_that_begins_again_is_a_new_run(world):
    """A first page of a resource type that the run has begun takes the newest generation."""
    world.page(GROUPS, 1)
    world.page(USERS, 1)
    world.publish()
    assert world.page(GROUPS, 1) == 2
    assert world.page(USERS, 1) == 2


def test_users_whole_and_users_changed_are_one_resource_type(world):
    """An incremental list of Users after a whole one begins a new run."""
    world.page(USERS, 1)
    world.publish()
    assert world.page(CHANGED, 1) == 2


def test_an_incremental_run_covers_groups_too(world):
    """Groups, then changed Users, are one run."""
    world.page(GROUPS, 1)
    world.publish()
    assert world.page(CHANGED, 1) == 1
    assert world.page(CHANGED, 11) == 1


def test_clients_do_not_share_runs(world):
    """Another principal, another address or another version is another run."""
    world.page(USERS, 1)
    world.publish()
    for other in (
        Client("other", OKTA.peer, OKTA.version),
        Client(OKTA.principal, "10.0.0.2", OKTA.version),
        Client(OKTA.principal, OKTA.peer, ScimVersion.V2_0),
    ):
        assert world.page(USERS, 1, client=other) == 2
    assert world.page(USERS, 11) == 1


def test_a_groups_request_in_the_middle_of_users_does_not_move_users(world):
    """Okta asks for Groups at odd moments; the Users pages under way stay on their generation."""
    world.page(GROUPS, 1)
    world.page(USERS, 1)
    world.publish()
    assert world.page(GROUPS, 1) == 2
    assert world.page(USERS, 11) == 1
    assert world.page(USERS, 21) == 1


def test_two_clients_behind_one_credential_keep_their_generations(world):
    """When a second client begins, the first one's next page still follows on its own pages."""
    world.page(USERS, 1)
    world.page(USERS, 11)
    world.publish()
    assert world.page(USERS, 1) == 2
    assert world.page(USERS, 21) == 1
    assert world.page(USERS, 11) == 2


def test_a_client_that_begins_again_never_falls_back(world):
    """After an aborted import the new one stays on the new generation at every page."""
    for start in (1, 11, 21):
        world.page(USERS, start)
    world.publish()
    assert {world.page(USERS, start) for start in (1, 11, 21, 31, 41)} == {2}


def test_a_page_that_is_asked_for_again_comes_from_the_same_generation(world):
    """A retry of a page is answered as before."""
    world.page(USERS, 1)
    world.page(USERS, 11)
    world.publish()
    assert world.page(USERS, 11) == 1


def test_an_idle_run_ends_and_its_snapshot_is_freed(world):
    """After the idle time nothing holds the old snapshot."""
    world.page(USERS, 1)
    seen = weakref.ref(world.newest)
    world.publish()
    world.now += 901
    world.pins.expire()
    gc.collect()
    assert seen() is None
    assert len(world.pins) == 0


def test_use_keeps_a_run_alive(world):
    """The idle time counts from the last page, not from the first."""
    world.page(USERS, 1)
    world.publish()
    for start in (11, 21, 31):
        world.now += 800
        assert world.page(USERS, start) == 1


def test_generations_are_never_mixed_after_a_run_ended(world):
    """A later page of an ended run is refused once a newer generation is served."""
    world.page(USERS, 1)
    world.publish()
    world.now += 5000
    with pytest.raises(RestartListError):
        world.page(USERS, 11)
    assert world.page(USERS, 1) == 2
    assert world.page(USERS, 11) == 2


def test_an_ended_run_goes_on_if_nothing_was_published(world):
    """A later page of an ended run is answered while the same generation is the newest."""
    world.page(USERS, 1)
    world.now += 5000
    assert world.page(USERS, 11) == 1


def test_a_later_page_first_of_all_with_one_generation(world):
    """A list may begin in the middle when no other generation has ever been."""
    assert world.page(USERS, 11) == 1


def test_a_later_page_soon_after_a_restart_is_refused():
    """The server before this one may have served the first pages from an older generation."""
    world = World()
    world.publish()
    with pytest.raises(RestartListError):
        world.page(USERS, 11)
    world.now += 901
    assert world.page(USERS, 11) == 2


def test_a_filtered_list_pins_only_itself(world):
    """A filtered list of several pages stays on its generation and leaves the import run alone."""
    world.page(GROUPS, 1)
    world.publish()
    assert world.page(FOUND, 1) == 2
    world.publish()
    assert world.page(FOUND, 11) == 2
    assert world.page(USERS, 1) == 1


def test_a_filtered_list_of_one_page_pins_nothing(world):
    """Looking one user up holds no snapshot."""
    world.page(FOUND, 1, total=1)
    assert len(world.pins) == 0


def test_pins_are_bounded():
    """The least recently used pin goes when there are too many; its list is refused, not mixed."""
    world = World(limit=3)
    clients = [Client(f"c{number}", "10.0.0.1", ScimVersion.V2_0) for number in range(4)]
    for client in clients:
        world.page(USERS, 1, client=client)
    assert len(world.pins) == 3
    world.publish()
    assert world.page(USERS, 11, client=clients[3]) == 1
    with pytest.raises(RestartListError):
        world.page(USERS, 11, client=clients[0])


def test_replaced_runs_are_bounded(world):
    """A client that begins again with each generation does not hold all of them."""
    for _ in range(20):
        world.page(USERS, 1)
        world.publish()
    assert len(world.pins) <= 4


def test_selections_are_kept_with_the_run(world):
    """What a filter selected is found again on later pages, also after Groups began a new run on it."""
    run = world.pins.choose(OKTA, CHANGED, start_index=1, newest=world.newest)
    run.keep_selection(CHANGED, [1, 2, 3])
    world.pins.served(OKTA, CHANGED, run, following=2, total=3)
    world.page(CHANGED, 1)
    run = world.pins.choose(OKTA, CHANGED, start_index=2, newest=world.newest)
    assert run.selections[CHANGED] == [1, 2, 3]
