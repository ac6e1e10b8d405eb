"""Lists by cursor (RFC 9865): a cursor names its generation, whatever is published, restarted or pruned meanwhile."""

from __future__ import annotations

import asyncio
import gc
import re
import shutil
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_fixtures import Directory, person, serving, wait_a_tick

from server.archive import Archive
from server.cursors import Place, read_cursor, write_cursor
from server.errors import InvalidCursorError
from snapshot.errors import CorruptGenerationError
from snapshot.store import generation_directory

FAMILY = quote('name.familyName eq "Łukasz"')


def publish_another(directory: Directory) -> int:
    """Publish a generation in which everybody has moved and one person is new, before all others."""
    wait_a_tick()
    directory.run("UPDATE people SET dept = dept || '!'")
    directory.run(
        "INSERT INTO people SELECT 'A' || n, 'x' || n, first, last, mail, home_mail, phone, dept, n, badge, state "
        "FROM people, (SELECT count(*) AS n FROM people) LIMIT 1"
    )
    return directory.publish().generation


@pytest.fixture
def directory(tmp_path):
    directory = Directory(tmp_path).add(*[person(number) for number in range(1, 8)])
    directory.publish()
    return directory


async def walk(api, target: str, cursor: str = "", *, every=None) -> list:
    """Return the answers from a cursor on, to the end; `every` is called after each page."""
    answers = []
    while True:
        answer = await api.get(f"{target}&cursor={cursor}")
        assert 200 == answer.status, answer.body
        answers.append(answer)
        if "nextCursor" not in answer.json:
            return answers
        cursor = answer.json["nextCursor"]
        if every is not None:
            await every()


def error(answer) -> tuple[int, str]:
    return answer.status, answer.json.get("scimType", "")


@pytest.mark.parametrize("filtered", ["", f"&filter={FAMILY}", "&attributes=userName"])
async def test_next_cursors_lead_to_every_resource_once(directory, filtered):
    """Each page holds `count` resources, the last one has no nextCursor; numbers are true, and no page has an index."""
    async with serving(directory) as api:
        answers = await walk(api, f"v2/Users?count=3{filtered}")
        whole = await api.get(f"v2/Users?count=9{filtered}")
    assert [3, 3, 1] == [answer.json["itemsPerPage"] for answer in answers]
    assert [3, 3, 1] == [len(answer.json["Resources"]) for answer in answers]
    assert {7} == {answer.json["totalResults"] for answer in answers}
    assert all("startIndex" not in answer.json for answer in answers)
    assert whole.json["Resources"] == [item for answer in answers for item in answer.json["Resources"]]
    names = {"schemas", "totalResults", "itemsPerPage", "Resources"}
    assert [names | {"nextCursor"}, names | {"nextCursor", "previousCursor"}, names | {"previousCursor"}] == [
        set(answer.json) for answer in answers
    ]


async def test_previous_cursors_lead_back(directory):
    """Each previousCursor gives the page before, to the first one, which has none."""
    async with serving(directory) as api:
        forth = await walk(api, "v2/Users?count=3")
        back = [forth[-1]]
        while (cursor := back[-1].json.get("previousCursor")) is not None:
            back.append(await api.get(f"v2/Users?count=3&cursor={cursor}"))
    assert [answer.ids for answer in forth] == [answer.ids for answer in reversed(back)]


async def test_a_cursor_without_a_value_is_the_first_page(directory):
    """`cursor` alone, `cursor=` and an empty one in a body begin a list; without any it goes by index."""
    async with serving(directory) as api:
        for target in ("v2/Users?cursor&count=2", "v2/Users?cursor=&count=2"):
            assert "nextCursor" in (await api.get(target)).json
        searched = await api.send("POST", "v2/Users/.search", json={"cursor": "", "count": 2})
        assert "nextCursor" in searched.json
        following = {"cursor": searched.json["nextCursor"], "count": 2}
        assert ["E00003", "E00004"] == (await api.send("POST", "v2/Users/.search", json=following)).ids
        by_index = await api.get("v2/Users?count=2")
        assert (7, 1, 2) == by_index.numbers
        assert "nextCursor" not in by_index.json


async def test_cursors_need_no_escaping(directory):
    """A cursor consists of the unreserved characters of RFC 3986."""
    async with serving(directory) as api:
        cursor = (await api.get("v2/Users?cursor=&count=2")).json["nextCursor"]
    assert re.fullmatch(r"[A-Za-z0-9_.~-]+", cursor)


async def test_an_empty_list_and_a_list_of_one_page(tmp_path):
    """Neither has a cursor to go on with."""
    directory = Directory(tmp_path).add(person(1))
    directory.publish()
    async with serving(directory) as api:
        for target, total in (("v2/Groups?cursor=", 0), ("v2/Users?cursor=", 1), ("v2/Users?cursor=&count=1", 1)):
            found = (await api.get(target)).json
            assert (total, total) == (found["totalResults"], found["itemsPerPage"])
            assert "nextCursor" not in found
            assert "previousCursor" not in found


@pytest.mark.parametrize("count", ["0", "-1", "x", "1.5", ""])
async def test_a_count_that_is_no_positive_integer(directory, count):
    """RFC 9865 section 2: count is a positive integer; a large one is cut to maxPageSize, not refused."""
    async with serving(directory) as api:
        assert (400, "invalidCount") == error(await api.get(f"v2/Users?cursor=&count={count}"))
        assert 7 == (await api.get("v2/Users?cursor=&count=99999999")).json["itemsPerPage"]


async def test_cursor_and_index_exclude_each_other(directory):
    """Both in one request are a 400."""
    async with serving(directory) as api:
        assert (400, "invalidValue") == error(await api.get("v2/Users?cursor=&startIndex=1"))
        body = {"cursor": "", "startIndex": 1}
        assert (400, "invalidValue") == error(await api.send("POST", "v2/Users/.search", json=body))


async def test_scim_1_1_knows_no_cursor(directory):
    """In 1.1 the parameter is ignored, as any unknown one is, and not announced."""
    async with serving(directory) as api:
        plain = await api.get("v1/Users?count=2")
        for cursor in ("", "x"):
            assert plain.body == (await api.get(f"v1/Users?count=2&cursor={cursor}")).body
        assert "pagination" not in (await api.get("v1/ServiceProviderConfigs")).json


@pytest.mark.parametrize(
    ("settings", "size", "largest"), [({}, 100, 10_000), ({"default_count": 20, "max_count": 50}, 20, 50)]
)
async def test_cursors_are_announced(tmp_path, settings, size, largest):
    """2.0 announces both ways of paging, index as the default, and the true sizes; no timeout, for there is none."""
    async with serving(Directory(tmp_path, **settings)) as api:
        assert (await api.get("v2/ServiceProviderConfig")).json["pagination"] == {
            "cursor": True,
            "index": True,
            "defaultPaginationMethod": "index",
            "defaultPageSize": size,
            "maxPageSize": largest,
        }


async def test_a_cursor_belongs_to_its_query(directory):
    """With another filter, order, resource type or scope a cursor is invalid; another count or part is no other list."""
    async with serving(directory) as api:
        cursor = (await api.get("v2/Users?cursor=&count=2")).json["nextCursor"]
        for target in (f"v2/Users?filter={FAMILY}&", "v2/Users?sortBy=userName&", "v2/Groups?", "v2/?"):
            assert (400, "invalidCursor") == error(await api.get(f"{target}count=2&cursor={cursor}")), target
        for target in ("v2/Users?count=4&", "v2/Users?attributes=userName&"):
            assert "E00003" == (await api.get(f"{target}cursor={cursor}")).ids[0]


@pytest.mark.parametrize("change", ["x{}", "{}x", "{}=", "{}%20", "{}%0A", "{}%C3%BC", "%00", "A", "AAAA", "{}{}"])
async def test_a_broken_cursor_is_invalid(directory, change):
    """What this server did not give is a 400 invalidCursor."""
    async with serving(directory) as api:
        cursor = (await api.get("v2/Users?cursor=&count=2")).json["nextCursor"]
        changed = change.format(cursor, cursor)
        assert (400, "invalidCursor") == error(await api.get(f"v2/Users?count=2&cursor={changed}"))


PLACES = st.builds(
    Place, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)
)


@given(PLACES, st.binary(max_size=40), st.binary(max_size=40))
def test_a_cursor_names_its_place(place, query, other):
    """Any place comes back from its cursor with the same query, and from no other."""
    cursor = write_cursor(place, query)
    assert place == read_cursor(cursor, query)
    if query != other:
        with pytest.raises(InvalidCursorError):
            read_cursor(cursor, other)


@given(PLACES, st.data())
def test_no_character_of_a_cursor_can_be_changed(place, data):
    """A cursor with one other character is refused."""
    cursor = write_cursor(place, b"")
    at = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.characters(codec="utf-8"))
    changed = cursor[:at] + other + cursor[at + 1 :]
    if changed != cursor:
        with pytest.raises(InvalidCursorError):
            read_cursor(changed, b"")


@given(st.text())
def test_any_text_is_read_or_refused(text):
    """No text raises anything else."""
    with pytest.raises(InvalidCursorError):
        read_cursor(text, b"query")


@pytest.mark.parametrize("filtered", ["", f"&filter={FAMILY}", "&filter=active%20eq%20true", "&sortBy=userName"])
async def test_a_list_stays_on_its_generation_over_swaps(directory, filtered):
    """Whatever is published between the pages, they are those of the generation of the first one."""
    async with serving(directory) as api:
        whole = await api.get(f"v2/Users?count=9{filtered}")

        async def every():
            publish_another(directory)
            await api.follow()

        answers = await walk(api, f"v2/Users?count=3{filtered}", every=every)
        assert 3 == api.live.current.generation
        assert whole.json["Resources"] == [item for answer in answers for item in answer.json["Resources"]]
        assert ["A7"] == (await api.get("v2/Users?cursor=&count=1")).ids
        assert 9 == (await api.get("v2/Users?cursor=")).json["totalResults"]


@pytest.mark.parametrize("filtered", ["", f"&filter={FAMILY}", "&sortBy=emails&sortOrder=descending"])
async def test_a_cursor_outlives_the_server(directory, filtered):
    """Another server on the same folder goes on where the one before stopped, also in an older generation."""
    async with serving(directory) as api:
        whole = await api.get(f"v2/Users?count=9{filtered}")
        first = await api.get(f"v2/Users?cursor=&count=3{filtered}")
    async with serving(directory) as api:
        same = await walk(api, f"v2/Users?count=3{filtered}", first.json["nextCursor"])
    publish_another(directory)
    async with serving(directory) as api:
        older = await walk(api, f"v2/Users?count=3{filtered}", first.json["nextCursor"])
        assert 1 == len(api.directory.archive)
    expected = whole.json["Resources"][3:]
    for answers in (same, older):
        assert expected == [item for answer in answers for item in answer.json["Resources"]]


async def test_a_cursor_of_a_pruned_generation_has_expired(directory):
    """When its generation is no longer kept, and no pin holds it, the cursor has expired; a new list can begin."""
    async with serving(directory) as api:
        cursor = (await api.get("v2/Users?cursor=&count=3")).json["nextCursor"]
    del api
    gc.collect()  # Windows deletes no file that is mapped
    for _ in range(directory.config.store.keep_generations):
        publish_another(directory)
    assert not generation_directory(directory.config.data_dir, 1).exists()
    async with serving(directory) as api:
        answer = await api.get(f"v2/Users?cursor={cursor}&count=3")
        assert (400, "expiredCursor") == error(answer)
        assert 200 == (await api.get("v2/Users?cursor=&count=3")).status


async def test_a_pin_keeps_a_pruned_generation_for_its_cursor(directory):
    """As long as the import run is pinned, its cursors work although the generation is pruned on disk."""
    async with serving(directory) as api:
        first = await api.get("v2/Users?cursor=&count=3")
        for _ in range(directory.config.store.keep_generations):
            publish_another(directory)
        await api.follow()
        rest = await walk(api, "v2/Users?count=3", first.json["nextCursor"])
    assert ["E00004", "E00005", "E00006", "E00007"] == [item for answer in rest for item in answer.ids]


async def test_a_folder_made_anew_is_another_generation(directory, tmp_path):
    """A cursor of generation 1 is not continued in another generation 1, of a data folder that was made anew."""
    async with serving(directory) as api:
        cursor = (await api.get("v2/Users?cursor=&count=3")).json["nextCursor"]
    del api
    gc.collect()  # Windows deletes no file that is mapped
    shutil.rmtree(directory.config.data_dir)
    wait_a_tick()
    assert 1 == directory.publish().generation
    async with serving(directory) as api:
        assert (400, "expiredCursor") == error(await api.get(f"v2/Users?cursor={cursor}&count=3"))


async def test_a_damaged_older_generation_has_expired(directory, caplog):
    """An older generation whose checksum is wrong is never served: the cursor has expired, and the log says why."""
    async with serving(directory) as api:
        cursor = (await api.get("v2/Users?cursor=&count=3")).json["nextCursor"]
    del api
    gc.collect()  # Windows changes no file that is mapped
    publish_another(directory)
    body = generation_directory(directory.config.data_dir, 1) / "User.2.0.json"
    body.chmod(0o600)
    body.write_bytes(body.read_bytes().replace(b"user1@", b"user9@"))
    async with serving(directory) as api:
        assert (400, "expiredCursor") == error(await api.get(f"v2/Users?cursor={cursor}&count=3"))
    (facts,) = [record.facts for record in caplog.records if "older generation" in record.getMessage()]
    assert 1 == facts["generation"]
    assert "checksum" in facts["cause"]


async def test_groups_and_users_by_cursor_are_one_import_run(directory):
    """Users after Groups, both by cursor, come from the generation of the Groups."""
    async with serving(directory) as api:
        await api.get("v2/Groups?cursor=")
        publish_another(directory)
        await api.follow()
        assert 7 == (await api.get("v2/Users?cursor=")).json["totalResults"]
        assert 8 == (await api.get("v2/Users?cursor=")).json["totalResults"]


async def test_a_cursor_keeps_its_run_alive(tmp_path):
    """Pages by cursor count as use of the import run, so that what comes after them stays on its generation."""
    directory = Directory(tmp_path, pin_ttl_seconds=1.2).add(*[person(number) for number in range(1, 13)])
    directory.publish()
    async with serving(directory) as api:
        await api.get("v2/Groups?cursor=")
        answer = await api.get("v2/Users?cursor=&count=2")
        publish_another(directory)
        await api.follow()
        while "nextCursor" in answer.json:
            await asyncio.sleep(0.3)
            answer = await api.get(f"v2/Users?count=2&cursor={answer.json['nextCursor']}")
        assert {1: 1} == api.pins.generations()


class CountingSnapshot:
    """Passes everything on to a real snapshot and counts how often filters are evaluated."""

    def __init__(self, snapshot):
        self._snapshot = snapshot
        self.selects = 0

    def __getattr__(self, name):
        return getattr(self._snapshot, name)

    def select(self, *arguments):
        self.selects += 1
        return self._snapshot.select(*arguments)


async def test_a_filter_is_evaluated_once_for_all_pages(directory):
    """Later pages of a filtered list cost no more than a slice, for every client."""
    async with serving(directory) as api:
        api.live.current = counting = CountingSnapshot(api.live.current)
        for _ in range(2):
            await walk(api, f"v2/Users?count=2&filter={FAMILY}")
    assert 1 == counting.selects


async def test_listings_are_bounded(directory):
    """What was selected for many queries is dropped, oldest first, and selected again when it is needed."""
    async with serving(directory) as api:
        first = await api.get(f"v2/Users?cursor=&count=2&filter={FAMILY}")
        for number in range(100):
            await api.get(f"v2/Users?cursor=&filter=id%20eq%20%22{number}%22")
        assert 64 == len(api.directory.listings._kept)
        following = first.json["nextCursor"]
        assert ["E00003", "E00004"] == (await api.get(f"v2/Users?count=2&filter={FAMILY}&cursor={following}")).ids


class FakeStore:
    """An archive over a folder of fake generations, with a clock that the test moves."""

    def __init__(self, folder):
        self.now = 0.0
        self.opened: list[str] = []
        self.broken: set[str] = set()
        self.archive = Archive(folder, open_generation=self._open, clock=lambda: self.now)
        for number in range(1, 6):
            generation_directory(folder, number).mkdir(parents=True)

    def _open(self, directory):
        self.opened.append(directory.name)
        if directory.name in self.broken:
            raise CorruptGenerationError(directory, "it is broken")
        return object()


@pytest.fixture
def fake(tmp_path):
    return FakeStore(tmp_path)


async def test_an_older_generation_is_opened_once(fake):
    """It is kept while it is used, at most two of them, and not for longer than a minute."""
    first = await fake.archive.get(1)
    assert first is await fake.archive.get(1)
    await fake.archive.get(2)
    fake.now = 50
    await fake.archive.get(1)
    fake.now = 100
    fake.archive.expire()
    assert 1 == len(fake.archive)
    await fake.archive.get(3)
    await fake.archive.get(4)
    assert 2 == len(fake.archive)
    assert ["00000001", "00000002", "00000003", "00000004"] == fake.opened
    fake.now = 1000
    fake.archive.expire()
    assert 0 == len(fake.archive)


async def test_a_generation_that_cannot_be_opened_is_none(fake, tmp_path):
    """One that is broken, and one that is not there, are None, and are tried again."""
    fake.broken.add("00000002")
    assert [None, None] == [await fake.archive.get(2), await fake.archive.get(2)]
    fake.broken.clear()
    assert await fake.archive.get(2) is not None
    assert await fake.archive.get(77) is None
