"""attributes and excludedAttributes: what is left of a resource, in every place where they may be asked for."""

from __future__ import annotations

from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_fixtures import CUSTOM_URN, Directory, person, serving

from server.projection import Names, Projection
from snapshot.scim import CORE_1_1, ENTERPRISE_1_1, ENTERPRISE_2_0, GROUP_2_0, USER_2_0, ScimVersion

ENTERPRISE = {"v1": ENTERPRISE_1_1, "v2": ENTERPRISE_2_0}
CORE = {"v1": CORE_1_1, "v2": USER_2_0}
BASES = pytest.mark.parametrize("base", ["v1", "v2"])


@pytest.fixture
async def api(tmp_path):
    mapping = {
        "enterprise": {"department": "dept", "manager": {"value": "badge", "displayName": "last"}},
        CUSTOM_URN: {"badge": "badge", "fte": {"column": "phone", "type": "decimal"}},
    }
    people = [person(number, phone="0.10000000000000000000000001", home_mail="h@x") for number in (1, 2, 3)]
    directory = Directory(tmp_path, mapping=mapping).add(*people)
    directory.publish()
    async with serving(directory) as api:
        yield api


async def one(api, base: str, **parameters: str) -> dict:
    query = "&".join(f"{name}={quote(value)}" for name, value in parameters.items())
    answer = await api.get(f"{base}/Users/E00001?{query}")
    assert 200 == answer.status, answer.body
    return answer.json


@BASES
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("userName", {"userName": "user1@example.com"}),
        ("USERNAME , ", {"userName": "user1@example.com"}),
        ("name.givenName", {"name": {"givenName": "Given1"}}),
        ("name,name.givenName", {"name": {"givenName": "Given1", "familyName": "Łukasz"}}),
        ("emails.value", {"emails": [{"value": "user1@example.com"}, {"value": "h@x"}]}),
        ("{core}:userName", {"userName": "user1@example.com"}),
        ("{core}:name.familyName", {"name": {"familyName": "Łukasz"}}),
        ("{enterprise}:department", {"{enterprise}": {"department": "R&D"}}),
        ("{enterprise}.DEPARTMENT", {"{enterprise}": {"department": "R&D"}}),
        ("{other}:manager.{reference}", {"{enterprise}": {"manager": {"{reference}": "B-1"}}}),
        ("{enterprise}:manager.value", {"{enterprise}": {"manager": {"{reference}": "B-1"}}}),
        ("{enterprise}:manager.managerId", {"{enterprise}": {"manager": {"{reference}": "B-1"}}}),
        (GROUP_2_0 + ":displayName," + GROUP_2_0 + ":userName," + GROUP_2_0, {}),
        (USER_2_0 + ":userName", {"userName": "user1@example.com"}),
        (CUSTOM_URN.upper() + ":badge", {CUSTOM_URN: {"badge": "B-1"}}),
        ("id,schemas", {}),
        ("nothing,password,urn:x:y:z,userName.x,emails.x", {}),
    ],
)
async def test_attributes_keep_what_they_name(api, base, asked, expected):
    """Names, sub-attributes and URNs in any case, with colon or dot; id and schemas are always there."""
    words = {
        "core": CORE[base],
        "enterprise": ENTERPRISE[base],
        "other": ENTERPRISE["v2" if base == "v1" else "v1"],
        "reference": "managerId" if base == "v1" else "value",
    }

    def filled(value):
        if isinstance(value, dict):
            return {key.format(**words): filled(item) for key, item in value.items()}
        return value

    whole = (await api.get(f"{base}/Users/E00001")).json
    found = await one(api, base, attributes=asked.format(**words))
    assert {"schemas": whole["schemas"], "id": "E00001", **filled(expected)} == found


@BASES
async def test_a_whole_schema_may_be_named(api, base):
    """The URN of a schema or an extension alone stands for all of its attributes."""
    whole = (await api.get(f"{base}/Users/E00001")).json
    extension = await one(api, base, attributes=ENTERPRISE[base])
    assert extension == {name: whole[name] for name in ("schemas", "id", ENTERPRISE[base])}
    core = await one(api, base, attributes=CORE[base])
    assert core == {name: value for name, value in whole.items() if not name.startswith("urn:")}
    rest = await one(api, base, excludedAttributes=CORE[base])
    assert rest == {name: value for name, value in whole.items() if name.startswith("urn:") or name in core_always()}


def core_always() -> tuple[str, ...]:
    return ("schemas", "id")


@BASES
async def test_excluded_attributes_drop_what_they_name(api, base):
    """Everything else stays; a complex attribute that has nothing left goes; id and schemas cannot be excluded."""
    whole = (await api.get(f"{base}/Users/E00001")).json
    asked = f"ID,schemas,meta,name.givenName,name.familyName,emails.type,{ENTERPRISE[base]}:manager"
    found = await one(api, base, excludedAttributes=asked)
    for name in ("meta", "name"):
        del whole[name]
    for email in whole["emails"]:
        del email["type"]
    del whole[ENTERPRISE[base]]["manager"]
    assert whole == found


@BASES
async def test_numbers_keep_every_digit(api, base):
    """A decimal of 26 digits passes through a projection as it is stored."""
    answer = await api.get(f"{base}/Users/E00001?attributes={CUSTOM_URN}:fte")
    assert b'{"fte":0.10000000000000000000000001}' in answer.body


@BASES
async def test_lists_are_cut_down_too(api, base):
    """Each resource of a list is what GET by id answers with the same attributes; the numbers stay."""
    answer = await api.get(f"{base}/Users?attributes=userName,meta.location&startIndex=2&count=2")
    assert (3, 2, 2) == answer.numbers
    for item in answer.json["Resources"]:
        single = await api.get(f"{base}/Users/{item['id']}?attributes=userName,meta.location")
        assert item == single.json
        assert {"schemas", "id", "userName", "meta"} == set(item)
    empty = await api.get(f"{base}/Users?attributes=userName&startIndex=9")
    assert (3, 9, 0) == empty.numbers
    filtered = await api.get(f"{base}/Users?excludedAttributes=meta&filter=id%20eq%20%22E00002%22")
    assert ["E00002"] == filtered.ids
    assert "meta" not in filtered.json["Resources"][0]


async def test_a_large_page_is_cut_down_too(tmp_path):
    """A page of hundreds of users, which leaves the event loop, has the same content as single ones."""
    directory = Directory(tmp_path).add(*[person(number) for number in range(300)])
    directory.publish()
    async with serving(directory) as api:
        whole = await api.get("v2/Users?count=300")
        assert len(whole.body) > 64 << 10
        cut = await api.get("v2/Users?count=300&attributes=userName")
    expected = [{name: item[name] for name in ("schemas", "id", "userName")} for item in whole.json["Resources"]]
    assert expected == cut.json["Resources"]


@BASES
async def test_both_at_once_are_refused(api, base):
    """RFC 7644 section 3.9 calls them mutually exclusive; empty ones are as if they were not there."""
    for path in ("Users", "Users/E00001"):
        answer = await api.get(f"{base}/{path}?attributes=userName&excludedAttributes=meta")
        assert 400 == answer.status
        assert base == "v1" or "invalidValue" == answer.json["scimType"]
        plain = await api.get(f"{base}/{path}")
        assert plain.body == (await api.get(f"{base}/{path}?attributes=&excludedAttributes=%20,")).body


async def test_names_are_limited(api):
    """Five hundred names are read, one more is refused."""
    names = [f"a{number}" for number in range(501)]
    assert 200 == (await api.get(f"v2/Users/E00001?attributes={','.join(names[:500])}")).status
    assert 400 == (await api.get(f"v2/Users/E00001?attributes={','.join(names)}")).status


# Against a naive projection over decoded values.

KEYS = st.sampled_from(["a", "B", "c", "urn:x:y", "urn:x:y:z"])
SCALARS = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=5))
OBJECTS = st.dictionaries(st.sampled_from(["a", "B", "c"]), SCALARS, min_size=1)
EXTENSIONS = st.dictionaries(st.sampled_from(["a", "B", "c"]), st.one_of(SCALARS, OBJECTS), min_size=1)
VALUES = st.one_of(SCALARS, OBJECTS, st.lists(OBJECTS, min_size=1, max_size=3))
NAMES = Names(ScimVersion.V2_0, (USER_2_0,), ("urn:x:y", "urn:x:y:z"))


@st.composite
def resources(draw) -> dict:
    core = draw(st.dictionaries(st.sampled_from(["a", "B", "c"]), VALUES))
    extensions = draw(st.dictionaries(st.sampled_from(["urn:x:y", "urn:x:y:z"]), EXTENSIONS))
    return {"schemas": ["s"], "id": draw(st.text(max_size=3)), **core, **extensions}


@st.composite
def paths(draw) -> tuple[str, ...]:
    names = [draw(st.sampled_from(["a", "B", "c", "x"])) for _ in range(draw(st.integers(1, 2)))]
    urn = draw(st.sampled_from(["", "urn:x:y", "urn:x:y:z"]))
    if urn and draw(st.booleans()) and draw(st.booleans()):
        return (urn,)
    return (urn, *names) if urn else tuple(names)


def written(path: tuple[str, ...]) -> str:
    if path[0].startswith("urn:"):
        return ":".join((path[0], ".".join(path[1:]))) if path[1:] else path[0]
    return ".".join(path)


def leaves(value, path=()):
    """Yield (path without places in lists, path with them, value) of everything that is neither object nor list."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
        for place, item in enumerate(value):
            yield from leaves(item, (*path, place))
    else:
        yield tuple(str(part).casefold() for part in path if not isinstance(part, int)), path, value


@given(resources(), st.lists(paths(), min_size=1, max_size=4), st.booleans())
def test_any_projection_keeps_exactly_the_leaves_it_names(resource, asked, keep):
    """A value stays if it lies below a named path (attributes), or below none (excludedAttributes), and no other."""
    folded = [tuple(part.casefold() for part in path) for path in asked]

    def stays(path: tuple[str, ...]) -> bool:
        if path[0] in {"schemas", "id"}:
            return True
        return keep == any(path[: len(name)] == name for name in folded)

    projected = Projection([written(path) for path in asked], NAMES, keep=keep).apply(orjson.dumps(resource))
    found = orjson.loads(projected)
    expected = [(path, value) for path, _, value in leaves(resource) if stays(path)]
    assert expected == [(path, value) for path, _, value in leaves(found)]
    assert all(value not in ({}, []) for value in found.values())
