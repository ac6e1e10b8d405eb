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
    """Pins, the clock and the newest snapshot; `page` lists one page, of 10 out of 100 unless told."""

    def __init__(self, *, limit=8):
        self.now = 1000.0
        self.newest = FakeSnapshot(1)
        self.pins = Pins(ttl_seconds=900, limit=limit, clock=lambda: self.now)

    def publish(self):
        self.newest = FakeSnapshot(self.newest.generation + 1)

    def page(self, name, start, *, client=OKTA, total=100, count=10):
        run = self.pins.choose(client, name, start_index=start, newest=self.newest)
        following = max(start, min(start + count, total + 1))
        self.pins.served(client, name, run, start_index=start, following=following, total=total)
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


def test_a_page_that_names_its_generation(world):
    """Any pin gives its snapshot to who names it; only the client's own run is used by that."""
    world.page(USERS, 1)
    first = world.newest
    world.publish()
    other = Client("other", OKTA.peer, OKTA.version)
    world.now += 600
    assert world.pins.resume(other, USERS, 1) is first
    world.now += 200
    assert world.pins.resume(OKTA, FOUND, 1) is first
    assert world.pins.resume(OKTA, USERS, 1) is first
    assert world.pins.resume(OKTA, USERS, 2) is None
    world.now += 800
    assert world.pins.resume(other, USERS, 1) is first
    world.now += 101
    assert world.pins.resume(other, USERS, 1) is None


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
    """After an aborted import the new one stays on the new generation; where the old one stopped it is refused."""
    for start in (1, 11, 21):
        world.page(USERS, start)
    world.publish()
    world.now += 500
    assert [2, 2, 2] == [world.page(USERS, start) for start in (1, 11, 21)]
    with pytest.raises(RestartListError):
        world.page(USERS, 31)
    world.now += 500  # the aborted run has been idle for long enough
    assert [2, 2] == [world.page(USERS, start) for start in (31, 41)]


def test_another_client_with_larger_pages_does_not_take_over(world):
    """A second client on the next generation that is ahead leaves the importer where it began."""
    assert 1 == world.page(USERS, 1, total=3000, count=500)
    world.publish()
    assert 2 == world.page(USERS, 1, total=3000, count=1000)
    assert 1 == world.page(USERS, 501, total=3000, count=500)
    with pytest.raises(RestartListError):  # now it is the next page of both
        world.page(USERS, 1001, total=3000)


def test_clients_that_alternate_keep_their_generations(world):
    """A page that one run has served already is the next page of the other one."""
    assert 1 == world.page(USERS, 1, total=3000, count=500)
    world.publish()
    assert 2 == world.page(USERS, 1, total=3000, count=1000)
    assert 2 == world.page(USERS, 1001, total=3000, count=1000)
    assert 1 == world.page(USERS, 501, total=3000, count=500)
    assert 1 == world.page(USERS, 1001, total=3000, count=500)
    assert 2 == world.page(USERS, 2001, total=3000, count=1000)


def test_two_clients_at_the_same_page_are_told_to_begin_again(world):
    """A page that is the next one of two generations is refused, never guessed."""
    world.page(USERS, 1)
    world.publish()
    world.page(USERS, 1)
    with pytest.raises(RestartListError):
        world.page(USERS, 11)


def test_a_retried_page_goes_to_the_run_that_served_it(world):
    """With two runs, a page that only one has served is that one's retry; one that both have is refused."""
    world.page(USERS, 1)
    world.publish()
    world.page(USERS, 1, count=20)
    assert 1 == world.page(USERS, 11)
    assert 1 == world.page(USERS, 11)
    for unknown in (6, 95):
        with pytest.raises(RestartListError):
            world.page(USERS, unknown)


def test_a_second_client_on_the_same_generation_is_remembered(world):
    """Two clients on one generation keep both their places when a third begins on the next one."""
    world.page(USERS, 1, count=50)
    world.page(USERS, 1, count=10)
    world.publish()
    world.page(USERS, 1, count=30)
    assert 1 == world.page(USERS, 51, count=50)
    assert 1 == world.page(USERS, 11, count=10)
    assert 2 == world.page(USERS, 31, count=30)
    world.page(USERS, 1, count=50)
    assert 2 == world.page(USERS, 61, count=30)
    assert 1 == world.page(USERS, 21, count=10)


def test_a_page_past_the_end_of_every_run_is_answered(world):
    """A client that reads until a page is empty is answered, also when two generations have been read."""
    for expected in (1, 2):
        assert {expected} == {world.page(USERS, start, count=50) for start in (1, 51)}
        world.page(USERS, 101)
        world.publish()


def test_a_list_that_was_read_to_its_end_bars_no_later_one(world):
    """When more people fill one page more than in the import before, a lone client gets that page, also a second time."""
    for start in (1, 11):
        world.page(USERS, start, total=20)
    world.publish()
    for start in (1, 11, 21, 21):
        assert 2 == world.page(USERS, start, total=25)


def test_the_end_of_a_list_under_way_is_kept_apart(world):
    """Past its end a list under way is refused where a newer one may go on; the newer one is read to its own end."""
    world.page(USERS, 1, total=20)
    world.publish()
    world.page(USERS, 1, total=25, count=5)
    assert 1 == world.page(USERS, 11, total=20)
    with pytest.raises(RestartListError):
        world.page(USERS, 21, total=20)
    for start in (6, 11, 16):
        assert 2 == world.page(USERS, start, total=25, count=5)
    assert 2 == world.page(USERS, 21, total=25, count=5)


def test_a_lone_client_may_jump_about(world):
    """One run answers every page of its list, whatever was asked for before."""
    world.page(USERS, 1)
    world.publish()
    assert {1} == {world.page(USERS, start) for start in (71, 31, 95, 2, 500)}


def test_what_a_run_remembers_is_bounded(world):
    """A list of thousands of pages is remembered by its last ones."""
    for number in range(5000):
        world.page(USERS, 1 + number * 10, total=50_000)
    (run,) = world.pins._runs[OKTA]
    assert 64 == len(run.trails[USERS]._starts)


def test_groups_always_begin_a_new_run(world):
    """A first page of Groups after Users is the newest generation; the Users under way go on where they were."""
    assert 1 == world.page(USERS, 1)
    world.publish()
    assert 2 == world.page(GROUPS, 1)
    assert 1 == world.page(USERS, 11)
    assert 2 == world.page(GROUPS, 11)
    assert 2 == world.page(USERS, 1)


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


@pytest.mark.parametrize("name", [USERS, FOUND])
def test_a_later_page_soon_after_a_restart_is_refused(name):
    """The server before this one may have served the first pages from an older generation, of a filtered list too."""
    world = World()
    world.publish()
    with pytest.raises(RestartListError):
        world.page(name, 11)
    world.now += 901
    assert world.page(name, 11) == 2


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
    world.pins.served(OKTA, CHANGED, run, start_index=1, following=2, total=3)
    world.page(CHANGED, 1)
    run = world.pins.choose(OKTA, CHANGED, start_index=2, newest=world.newest)
    assert run.selections[CHANGED] == [1, 2, 3]


def test_a_list_that_was_read_to_its_end_is_in_nobody_s_way(world):
    """Where a finished list ended, the next one goes on if people were added."""
    assert [1, 1] == [world.page(USERS, start, total=20) for start in (1, 11)]
    world.publish()
    assert [2, 2, 2] == [world.page(USERS, start, total=25) for start in (1, 11, 21)]


def test_a_page_beyond_a_finished_list_is_not_that_list_s(world):
    """A page out of turn does not go to a list that ended before it."""
    assert [1, 1] == [world.page(USERS, start, total=15) for start in (1, 11)]
    world.publish()
    world.page(USERS, 1, total=25)
    with pytest.raises(RestartListError):
        world.page(USERS, 16, total=25)


def test_the_second_of_two_clients_on_a_generation_is_not_forgotten(world):
    """Two clients come to the same page; that one has read on does not send the other to a newer generation."""
    world.page(USERS, 1)
    world.page(USERS, 1)
    world.page(USERS, 11)
    world.publish()
    world.page(USERS, 1)
    with pytest.raises(RestartListError):
        world.page(USERS, 11)


def test_a_page_that_is_asked_for_again_is_not_another_client(world):
    """A client that repeats a page leaves nobody behind on the page after it."""
    for start in (1, 11, 11, 21, 31):
        world.page(USERS, start)
    world.publish()
    assert [2, 2, 2, 2] == [world.page(USERS, start) for start in (1, 11, 21, 31)]


def test_a_list_that_went_on_without_its_pin_has_been_begun(world):
    """After a list of an ended run was read on, its next first page is a new run on the newest generation."""
    world.page(USERS, 1)
    world.now += 901
    assert world.page(USERS, 11) == 1
    world.publish()
    assert world.page(USERS, 1) == 2


def test_an_idle_run_is_not_joined_while_an_older_one_is_read_on(world):
    """Users do not go on with Groups that were listed too long ago, whatever else the client lists."""
    world.page(USERS, 1)
    world.publish()
    world.page(GROUPS, 1)
    for start in (11, 21):
        world.now += 500
        assert world.page(USERS, start) == 1
    world.publish()
    assert world.page(CHANGED, 1) == 3


def test_one_client_alone_is_bounded_too():
    """A single client holds no more pins than there may be."""
    world = World(limit=2)
    for _ in range(5):
        world.page(USERS, 1)
        world.publish()
    assert len(world.pins) == 2


def test_look_ups_do_not_push_out_what_is_remembered():
    """However many users are looked up, a list whose pin is gone is refused rather than mixed."""
    world = World(limit=1)
    world.page(USERS, 1)
    world.now += 901
    world.publish()
    for number in range(100):
        world.page(ListName("User", f'userName eq "{number}"', is_import=False), 1, total=1)
    with pytest.raises(RestartListError):
        world.page(USERS, 11)
