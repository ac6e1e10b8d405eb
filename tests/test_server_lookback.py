"""server.incremental_lookback_seconds: incremental lists as if they had been asked for earlier, to the microsecond."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from server_fixtures import Directory, person, serving, wait_a_tick

from server.lists import is_incremental
from server.lookback import look_back
from snapshot.filter import And, Comparison, Or, parse_filter, parse_instant

LOOKBACK = 300
STRAIGHT, CURLY = '""', "\u201c\u201d"


@pytest.fixture
def directory(tmp_path):
    """A person who was published, and another one who was published later."""
    made = Directory(tmp_path, incremental_lookback_seconds=LOOKBACK).add(person(1))
    made.publish()
    wait_a_tick()
    made.add(person(2)).publish()
    return made


async def changed_since(api, version: str, moment: str, *, quotes: str = STRAIGHT) -> list[str]:
    text = f"meta.lastModified gt {quotes[0]}{moment}{quotes[1]}"
    answer = await api.get(f"{version}/Users?filter={quote(text)}&count=10&startIndex=1")
    assert 200 == answer.status, answer.body
    return answer.ids


async def last_modified(api, version: str, user_id: str = "E00002") -> datetime:
    """Return when somebody was published; by default the person who was published later."""
    user = (await api.get(f"{version}/Users/{user_id}")).json
    return datetime.fromisoformat(user["meta"]["lastModified"])


def spellings(moment: datetime) -> list[str]:
    """Return one instant as clients write it: with Z, with offsets, bare, with more digits."""
    bare = moment.replace(tzinfo=None).isoformat(timespec="milliseconds")
    ahead = moment.astimezone(UTC) + timedelta(hours=5, minutes=30)
    return [
        f"{bare}Z", bare, f"{bare}000Z", f"{bare}+00:00",
        f"{ahead.replace(tzinfo=None).isoformat(timespec='milliseconds')}+05:30",
        f"{bare.replace('T', ' ')}", f"{bare.replace('.', ',')}z",
    ]  # fmt: skip


@pytest.mark.parametrize("quotes", [STRAIGHT, CURLY])
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_the_boundary_with_a_look_back(directory, version, quotes):
    """With a look-back of 300 s, 300 s after the change is not found any more, a millisecond less still is."""
    async with serving(directory) as api:
        found = await last_modified(api, version)
        edge = found + timedelta(seconds=LOOKBACK)
        for text in spellings(edge):
            assert [] == await changed_since(api, version, text, quotes=quotes), text
        for text in spellings(edge - timedelta(milliseconds=1)):
            assert ["E00002"] == await changed_since(api, version, text, quotes=quotes), text


@pytest.mark.parametrize("quotes", [STRAIGHT, CURLY])
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_the_boundary_without_a_look_back(tmp_path, version, quotes):
    """By default the moment of the change itself is not greater, exactly as RFC 7644 says; one millisecond less is."""
    directory = Directory(tmp_path).add(person(1))
    directory.publish()
    wait_a_tick()
    directory.add(person(2)).publish()
    async with serving(directory) as api:
        edge = await last_modified(api, version)
        for text in spellings(edge):
            assert [] == await changed_since(api, version, text, quotes=quotes), text
        for text in spellings(edge - timedelta(milliseconds=1)):
            assert ["E00002"] == await changed_since(api, version, text, quotes=quotes), text


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_without_a_fraction(directory, version):
    """A filter in whole seconds is moved back like any other."""
    async with serving(directory) as api:
        times = {user_id: await last_modified(api, version, user_id) for user_id in ("E00001", "E00002")}
        second = times["E00002"].replace(microsecond=0)
        expected = [user_id for user_id, found in times.items() if found > second]
        edge = second + timedelta(seconds=LOOKBACK)
        whole = edge.strftime("%Y-%m-%dT%H:%M:%S")
        after = (edge + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S")
        for zone in ("Z", "", "+00:00"):
            assert expected == await changed_since(api, version, whole + zone)
            assert [] == await changed_since(api, version, after + zone)


async def test_inside_of_and_and_or(directory):
    """Each bound on meta.lastModified is moved back, wherever it stands; other comparisons are not."""
    async with serving(directory) as api:
        edge = await last_modified(api, "v2") + timedelta(seconds=LOOKBACK, milliseconds=-1)
        bound = f'meta.lastModified gt "{edge.isoformat()}"'
        for text, expected in (
            (f'{bound} and userName eq "user2@example.com"', ["E00002"]),
            (f'{bound} and userName eq "user1@example.com"', []),
            (f'userName eq "user1@example.com" or ({bound} and {bound})', ["E00001", "E00002"]),
            (f'({bound} and active eq true) or id eq "nobody"', ["E00002"]),
        ):
            assert expected == (await api.get(f"v2/Users?filter={quote(text)}")).ids, text


async def test_the_pin_goes_by_the_words_of_the_client(directory):
    """The pages of one incremental list stay on their generation, also when a newer one is published meanwhile."""
    async with serving(directory) as api:
        moment = (await last_modified(api, "v2") + timedelta(seconds=1)).isoformat()
        text = f'meta.lastModified gt "{moment}"'
        target = f"v2/Users?filter={quote(text)}&count=1"
        directory.run("UPDATE people SET first = 'Other'").run("DELETE FROM people WHERE id = 'E00001'")
        first = await api.get(f"{target}&startIndex=1")
        assert (2, 1, 1) == first.numbers
        directory.publish()
        await api.follow()
        assert 3 == api.live.current.generation
        second = await api.get(f"{target}&startIndex=2")
        assert ((2, 2, 1), ["E00001", "E00002"]) == (second.numbers, first.ids + second.ids)


# --- the filter tree ---


def moved(text: str, seconds: int) -> str:
    tree = look_back(parse_filter(f'meta.lastModified gt "{text}"'), seconds)
    assert isinstance(tree, Comparison)
    return tree.value


@pytest.mark.parametrize(
    ("text", "seconds", "expected"),
    [
        ("2026-01-01T00:05:00Z", 300, "2026-01-01T00:00:00.000000Z"),
        ("2026-01-01T00:05:00.000001Z", 300, "2026-01-01T00:00:00.000001Z"),
        ("2026-01-01T02:05:00.5+02:00", 300, "2026-01-01T00:00:00.500000Z"),
        ("2026-01-01", 604_800, "2025-12-25T00:00:00.000000Z"),
        ("1970-01-01T00:00:00Z", 1, "1969-12-31T23:59:59.000000Z"),
        ("0001-01-01T00:05:00Z", 300, "0001-01-01T00:00:00.000000Z"),
        ("0001-01-01T00:04:59Z", 300, "0001-01-01T00:00:00.000000Z"),
        ("0001-01-01T00:00:00+14:00", 1, "0001-01-01T00:00:00.000000Z"),
        ("9999-12-31T23:59:59-14:00", 1, "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_an_instant_is_moved_exactly(text, seconds, expected):
    """The instant is moved to the microsecond, and never out of the years that a date can have."""
    assert expected == moved(text, seconds)
    assert parse_instant(expected) is not None


@pytest.mark.parametrize(
    "form",
    [
        "meta.lastModified gt {}", "meta.lastModified ge {}", "not (meta.lastModified le {})",
        "not (meta.lastModified lt {})", "not (not (meta.lastModified gt {}))", "meta[lastModified gt {}]",
        "meta[not (lastModified le {})]", "not (meta.lastModified le {} or not (active eq true))",
        'not (meta.lastModified gt "2026-01-01T00:05:00Z" and not (meta.lastModified ge {}))',
    ],
)  # fmt: skip
def test_every_lower_bound_is_moved(form):
    """What bounds from below is moved, however it is written: `ge` as `gt`, and what is not `le` and not `lt`."""
    moved_by_hand, text = (
        form.format(f'"{moment}"') for moment in ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:05:00Z")
    )
    assert without_positions(parse_filter(moved_by_hand)) == without_positions(look_back(parse_filter(text), 300))


def without_positions(tree) -> str:
    return re.sub(r"position=\d+", "", repr(tree))


@pytest.mark.parametrize(
    "text",
    [
        'meta.lastModified gt "yesterday"', "meta.lastModified gt 5", "meta.lastModified gt true",
        'meta.lastModified le "2026-01-01T00:00:00Z"', 'meta.lastModified eq "2026-01-01T00:00:00Z"',
        'meta.created gt "2026-01-01T00:00:00Z"', 'userName eq "2026-01-01T00:00:00Z"', "title pr",
        'not (meta.lastModified gt "2026-01-01T00:00:00Z")', 'not (not (meta.lastModified le "2026-01-01T00:00:00Z"))',
        'meta[lastModified le "2026-01-01T00:00:00Z"]', 'emails[lastModified gt "2026-01-01T00:00:00Z"]',
    ],
)  # fmt: skip
def test_what_is_left_as_it_is(text):
    """What is no lower bound of meta.lastModified stays as it is, so that its error is told as before."""
    tree = parse_filter(text)
    assert tree == look_back(tree, 300)


@pytest.mark.parametrize(
    "path", ["meta.lastModified", "META.LASTMODIFIED", "urn:ietf:params:scim:schemas:core:2.0:User:meta.lastModified"]
)
def test_every_spelling_of_the_attribute(path):
    """The attribute is known in any case and with its URN, and a moved filter still is an incremental one."""
    tree = parse_filter(f"{path} gt 2026-01-01T00:05:00Z or {path} gt 2026-01-01T00:06:00Z")
    back = look_back(tree, 300)
    assert isinstance(back, Or)
    assert ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:01:00.000000Z") == (back.left.value, back.right.value)
    assert is_incremental(back)


def test_without_a_look_back_nothing_is_made():
    """With 0 the tree is the client's own."""
    tree = parse_filter('meta.lastModified gt "2026-01-01T00:05:00Z" and active eq true')
    assert isinstance(tree, And)
    assert look_back(tree, 0) is tree


@pytest.mark.parametrize("offset", ["+02:00", "%2B02:00"])
async def test_an_offset_with_a_bare_plus(tmp_path, offset):
    """An offset means the same with its plus percent-encoded and without: both sides of a publication are told apart."""
    directory = Directory(tmp_path).add(person(1))
    modified = datetime.fromisoformat(directory.publish().created_at)
    async with serving(directory) as api:
        for seconds, total in ((-1, 1), (1, 0)):
            moment = (modified + timedelta(hours=2, seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%f")
            target = f"Users?filter=meta.lastModified+gt+%22{moment}1111{offset}%22"
            for base in ("v1", "v2"):
                assert (total, 1, total) == (await api.get(f"{base}/{target}")).numbers
