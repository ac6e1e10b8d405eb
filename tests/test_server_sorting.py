"""sortBy and sortOrder, and queries over all resource types: one order over all pages, of one generation."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from server_fixtures import Directory, person, serving, wait_a_tick

BASES = pytest.mark.parametrize("base", ["v1", "v2"])
FAMILY = quote('name.familyName eq "Łukasz"')


@pytest.fixture
def directory(tmp_path):
    people = [
        person(1, login="delta", mail="z@x", home_mail="a@x", dept="b"),
        person(2, login="Bravo", mail="Y@x", dept=None),
        person(3, login="charlie", mail=None, home_mail="m@x", dept="A"),
        person(4, login="alpha", mail=None, dept="b"),
    ]
    directory = Directory(tmp_path).add(*people)
    directory.publish()
    return directory


@pytest.fixture
async def api(directory):
    async with serving(directory) as api:
        yield api


def numbers(answer) -> str:
    assert 200 == answer.status, answer.body
    return "".join(key[-1] for key in answer.ids)


class CountingSnapshot:
    """Passes everything on to a real snapshot and counts how often something is selected."""

    def __init__(self, snapshot):
        self._snapshot = snapshot
        self.selects = 0

    def __getattr__(self, name):
        return getattr(self._snapshot, name)

    def select(self, *arguments):
        self.selects += 1
        return self._snapshot.select(*arguments)


@BASES
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sortBy=userName", "4231"),
        ("sortBy=USERNAME&sortOrder=ascending", "4231"),
        ("sortby=userName&SORTORDER=Descending", "1324"),
        ("sortBy=emails", "3214"),
        ("sortBy=emails.value&sortOrder=descending", "4123"),
        ("sortBy=urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department", "3142"),
        ("sortBy=urn:scim:schemas:extension:enterprise:1.0.department&sortOrder=descending", "2143"),
        ("sortBy=name.familyName", "1234"),
        ("sortBy=id&sortOrder=descending", "4321"),
        ("sortBy=nickName", "1234"),
        ("sortBy=meta.lastModified", "1234"),
        ("sortOrder=descending", "1234"),
        ("sortBy=&sortOrder=", "1234"),
        (f"sortBy=userName&filter={FAMILY}", "4231"),
        ("sortBy=userName&filter=emails%20pr", "231"),
    ],
)
async def test_lists_are_sorted(api, base, query, expected):
    """By any attribute, without regard to case; several values by the primary one; absent ones last, descending first."""
    assert expected == numbers(await api.get(f"{base}/Users?{query}"))


@BASES
@pytest.mark.parametrize(
    "name", ["nothing", "name", "addresses", "emails.nothing", "a b", "urn:x:y", "urn:x:y:z", "[", "$ref"]
)
async def test_what_cannot_be_sorted_by(api, base, name):
    """An unknown name, and a complex attribute, are a 400 invalidPath, on every way to a list."""
    answers = [await api.get(f"{base}/Users?sortBy={quote(name)}")]
    if base == "v2":
        answers.append(await api.send("POST", "v2/Users/.search", json={"sortBy": name}))
        answers.append(await api.get(f"v2/?sortBy={quote(name)}"))
        answers.append(await api.get(f"v2/Users?cursor=&sortBy={quote(name)}"))
    for answer in answers:
        assert 400 == answer.status
        assert base == "v1" or "invalidPath" == answer.json["scimType"]
        assert answer.json["detail"]


@BASES
@pytest.mark.parametrize("order", ["up", "asc", "ascending,descending", "1"])
async def test_what_is_no_order(api, base, order):
    """sortOrder is ascending or descending, also where nothing is sorted by."""
    for query in (f"sortBy=userName&sortOrder={order}", f"sortOrder={order}"):
        answer = await api.get(f"{base}/Users?{query}")
        assert 400 == answer.status
        assert base == "v1" or "invalidValue" == answer.json["scimType"]


async def test_sorting_is_announced(api):
    """sort.supported is true in both versions."""
    for base in ("v1", "v2"):
        assert {"supported": True} == (await api.get(f"{base}/ServiceProviderConfig")).json["sort"]


async def pages(api, target: str, publish) -> str:
    """Read a list page by page, with a publication between them."""
    found = numbers(await api.get(f"{target}&startIndex=1&count=1"))
    for start in range(2, 5):
        await publish()
        found += numbers(await api.get(f"{target}&startIndex={start}&count=1"))
    return found


@pytest.mark.parametrize(
    "query", ["Users?sortBy=userName", f"Users?sortBy=userName&filter={FAMILY}", "?sortBy=userName"]
)
async def test_a_sorted_list_stays_on_its_generation(directory, query):
    """The pages of one sorted list come from one generation; the next list is of the newest one."""
    async with serving(directory) as api:

        async def publish():
            wait_a_tick()
            # Whoever is first comes last, so that any mixture would repeat or miss somebody.
            directory.run("UPDATE people SET login = 'x' || login WHERE login = (SELECT min(login) FROM people)")
            directory.publish()
            await api.follow()

        assert "4231" == await pages(api, f"v2/{query}", publish)
        assert "4231" != numbers(await api.get(f"v2/{query}"))
        assert 4 == api.live.current.generation


async def test_a_sorted_list_is_not_the_plain_one(directory):
    """A sorted list under way does not keep an import on its generation, nor the other way round."""
    async with serving(directory) as api:
        assert "4" == numbers(await api.get("v2/Users?sortBy=userName&count=1"))
        assert "1" == numbers(await api.get("v2/Users?sortBy=userName&sortOrder=descending&count=1"))
        wait_a_tick()
        directory.add(person(5, login="0")).publish()
        await api.follow()
        assert 5 == (await api.get("v2/Users?count=1")).numbers[0]
        assert "2" == numbers(await api.get("v2/Users?sortBy=userName&count=1&startIndex=2"))
        assert "3" == numbers(await api.get("v2/Users?sortBy=userName&sortOrder=descending&count=1&startIndex=2"))


@pytest.mark.parametrize("query", ["Users?sortBy=userName&", "?sortBy=userName&", "?"])
async def test_later_pages_are_not_sorted_again(api, query):
    """Further pages of a sorted list, and of one over all types, cost no more than a slice."""
    api.live.current = counting = CountingSnapshot(api.live.current)
    await api.get(f"v2/{query}count=1")
    first = counting.selects
    for start in (2, 3, 4):
        await api.get(f"v2/{query}count=1&startIndex={start}")
    assert first == counting.selects


async def test_a_sorted_list_by_cursor(api):
    """Cursors go through a sorted list in its order."""
    found, cursor = "", ""
    while cursor is not None:
        answer = await api.get(f"v2/Users?sortBy=userName&count=3&cursor={cursor}")
        found += numbers(answer)
        cursor = answer.json.get("nextCursor")
    assert "4231" == found


async def test_the_root_lists_every_type(api):
    """A GET of the base path is one list over all types, whole, filtered, cut down, sorted, by page or by cursor."""
    whole = await api.get("v2/Users")
    for target in (
        "v2",
        "v2/",
        "v2?",
        "v2/?startIndex=1",
        "v2/?filter=meta.resourceType%20eq%20%22user%22%20or%20id%20pr",
    ):
        assert whole.json == (await api.get(target)).json
    assert "23" == numbers(await api.get("v2?startIndex=2&count=2"))
    assert (4, 2, 2) == (await api.get("v2?startIndex=2&count=2")).numbers
    assert "4231" == numbers(await api.get("v2/?sortBy=userName"))
    cut = await api.get("v2/?attributes=userName&filter=userName%20eq%20%22ALPHA%22")
    assert [{"schemas", "id", "userName"}] == [set(item) for item in cut.json["Resources"]]
    assert whole.json == (await api.send("POST", "v2/.search", json={})).json
    first = await api.get("v2/?cursor=&count=3")
    assert "4" == numbers(await api.get(f"v2/?count=3&cursor={first.json['nextCursor']}"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('meta.resourceType eq "User"', "1234"),
        ('meta.resourceType eq "Group"', ""),
        ('not (meta.resourceType eq "Group")', "1234"),
        ("members pr", ""),
        ('userName eq "bravo" or displayName eq "staff"', "2"),
        ("not (members pr)", "1234"),
    ],
)
async def test_filters_of_the_root(api, text, expected):
    """What one type does not know does not match there, and is no error."""
    assert expected == numbers(await api.get(f"v2/?filter={quote(text)}"))


async def test_what_no_type_knows_is_an_error(api):
    """A filter on the root with a name of no schema is a 400, as is a broken one."""
    for text in ("nothing pr", "userName pr and nothing pr", "userName eq"):
        answer = await api.get(f"v2/?filter={quote(text)}")
        assert (400, "invalidFilter") == (answer.status, answer.json["scimType"])


async def test_the_root_can_only_be_read(api):
    """Writes are a 405; HEAD is GET without a body; SCIM 1.1 has no query over all types."""
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await api.send(method, "v2/", json={})
        assert (405, "GET, HEAD") == (answer.status, answer.headers["Allow"])
    get, head = await api.get("v2/"), await api.send("HEAD", "v2/")
    assert (200, b"", str(len(get.body))) == (head.status, head.body, head.headers["Content-Length"])
    for method in ("GET", "POST"):
        assert 404 == (await api.send(method, "v1/")).status
    assert 401 == (await api.get("v2/", auth=None)).status
