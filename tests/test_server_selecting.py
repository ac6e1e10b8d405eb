"""A query over several resource types: one list, where a type that lacks an attribute has no value for it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.listing import Listing, Listings
from server.selecting import select
from snapshot.errors import FilterError, SortError
from snapshot.filter import Sort, known_urns, parse_filter, resolve_path
from snapshot.lookup import Index
from snapshot.scim import CORE_1_1, GROUP_2_0, USER_2_0, ScimVersion

TYPES = ("User", "Group", "License")
# (type, id, userName, displayName, title): what no type has is None throughout.
ROWS = {
    "User": [("u1", "ann", "Same", "x"), ("u2", "bob", None, None), ("u3", "cid", "zoë", "y")],
    "Group": [("g1", None, "alpha", None), ("g2", None, None, None), ("g3", None, "same", None)],
    "License": [("l1", None, "Same", None), ("l2", None, "", None)],
}
NAMES = ("id", "userName", "displayName", "title")
KNOWN = {
    "User": {"id", "userName", "displayName", "title"},
    "Group": {"id", "displayName"},
    "License": {"id", "displayName"},
}


class RealSnapshot:
    """What a query needs of a Snapshot, over a real index."""

    def __init__(self, path):
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE attribute(type, path, tbl, col, kind, indexed)")
            for name, rows in ROWS.items():
                database.execute(
                    f'CREATE TABLE "{name}"(ordinal INTEGER PRIMARY KEY, id TEXT, fingerprint, created, last_modified,'
                    " removed, active, user_name, a2, a3)"
                )
                columns = (("id", "id", "exact"), ("userName", "user_name", "text"), ("displayName", "a2", "text"), ("title", "a3", "text"))  # fmt: skip
                for path_, column, kind in columns:
                    if path_ in KNOWN[name]:
                        values = (name, path_, name, column, kind, 0)
                        database.execute("INSERT INTO attribute VALUES (?, ?, ?, ?, ?, ?)", values)
                for ordinal, (key, *texts) in enumerate(rows):
                    folded = [None if text is None else text.casefold() for text in texts]
                    database.execute(
                        f'INSERT INTO "{name}" VALUES (?, ?, NULL, 1, 1, NULL, 1, ?, ?, ?)', (ordinal, key, *folded)
                    )
        index = Index(path)
        self.select, self.rank, self.knows = index.select, index.rank, index.knows

    def count(self, name):
        return len(ROWS[name])


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    return RealSnapshot(tmp_path_factory.mktemp("root") / "index.sqlite")


def ids(listing: Listing) -> list[str]:
    return [ROWS[name][ordinal][0] for name, ordinals in listing.parts for ordinal in ordinals]


def query(snapshot, text: str | None = None, sort: str = "", types=TYPES) -> list[str]:
    tree = parse_filter(text) if text else None
    order = Sort(resolve_path(sort.strip("-"), known_urns(())), sort.startswith("-")) if sort else None
    return ids(select(snapshot, types, tree, order))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('userName eq "ANN"', ["u1"]),
        ('displayName eq "same"', ["u1", "g3", "l1"]),
        ('userName eq "ann" or displayName eq "alpha"', ["u1", "g1"]),
        ('not (userName eq "ann")', ["u2", "u3", "g1", "g2", "g3", "l1", "l2"]),
        ('userName ne "ann" and displayName pr', ["u3", "g1", "g3", "l1", "l2"]),
        ("userName eq null", ["g1", "g2", "g3", "l1", "l2"]),
        ("userName ne null", ["u1", "u2", "u3"]),
        ("members pr or title pr", ["u1", "u3"]),
        ('emails[type eq "work"] or id eq "g2"', ["g2"]),
        ('meta.resourceType eq "Group"', ["g1", "g2", "g3"]),
        ('meta.resourceType eq "User" and not (title pr)', ["u2"]),
        (f"{GROUP_2_0}:displayName pr", ["g1", "g3"]),
        (f'{GROUP_2_0}:id ne "g2" and {CORE_1_1}:displayName pr', ["u1", "u3", "g1", "g3", "l1", "l2"]),
        (f"{USER_2_0}:displayName pr or {GROUP_2_0}.id eq null", ["u1", "u2", "u3", "l1", "l2"]),
        (f'{GROUP_2_0}:members[type eq "User"] or {USER_2_0}:emails[type eq "work"] or id eq "l1"', ["l1"]),
        ('meta.resourceType ne "User" and userName ne "x"', ["g1", "g2", "g3", "l1", "l2"]),
    ],
)
def test_what_a_type_lacks_has_no_value_there(snapshot, text, expected):
    """RFC 7644 section 3.4.2.1: types come one after the other, each filtered as if what it lacks were absent."""
    assert expected == query(snapshot, text)


@pytest.mark.parametrize(
    "text",
    ["nothing pr", "userName pr or nothing pr", f"{GROUP_2_0}:userName pr", "active gt true", 'meta.version eq "x"'],
)
def test_what_no_type_understands_is_an_error(snapshot, text):
    """A name of no schema, and an operator that does not go with an attribute, are errors as for a single type."""
    with pytest.raises(FilterError):
        query(snapshot, text)


@pytest.mark.parametrize("name", ["nothing", "name", "addresses"])
def test_what_cannot_be_sorted_by(snapshot, name):
    """An attribute of no type, and a complex one without a value of its own, are no order."""
    for sort in (name, f"-{name}"):
        with pytest.raises(SortError):
            query(snapshot, sort=sort)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("displayName", ["l2", "g1", "u1", "g3", "l1", "u3", "u2", "g2"]),
        ("-displayName", ["u2", "g2", "u3", "u1", "g3", "l1", "g1", "l2"]),
        ("id", ["g1", "g2", "g3", "l1", "l2", "u1", "u2", "u3"]),
        ("-userName", ["g1", "g2", "g3", "l1", "l2", "u3", "u2", "u1"]),
        (f"{GROUP_2_0}:displayName", ["g1", "g3", "u1", "u2", "u3", "g2", "l1", "l2"]),
        ("members.value", ["u1", "u2", "u3", "g1", "g2", "g3", "l1", "l2"]),
        ("meta.resourceType", ["u1", "u2", "u3", "g1", "g2", "g3", "l1", "l2"]),
    ],
)
def test_one_order_over_all_types(snapshot, sort, expected):
    """Values of all types in one order, absent ones last, descending first, ties in the order of types and ids."""
    assert expected == query(snapshot, sort=sort)


def test_filtered_and_sorted(snapshot):
    """Both together: the filter selects, the sort orders."""
    assert ["g1", "u1", "g3", "l1"] == query(snapshot, 'displayName co "a"', "displayName")


NAME = st.sampled_from(NAMES)
VALUE = st.sampled_from(["ann", "same", "alpha", "", "zoë", "g1"])
TERMS = st.one_of(
    st.builds("{} pr".format, NAME),
    st.builds('{} {} "{}"'.format, NAME, st.sampled_from(["eq", "ne", "co", "sw", "gt", "le"]), VALUE),
    st.builds("{} {} null".format, NAME, st.sampled_from(["eq", "ne"])),
)
FILTERS = st.recursive(
    TERMS,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=4,
)


@given(FILTERS, st.one_of(st.just(""), NAME, NAME.map("-{}".format)))
def test_a_type_that_lacks_an_attribute_is_as_one_that_never_has_a_value(snapshot, text, sort):
    """The list is that of one type which holds all resources and knows all names."""
    assert naive(text, sort) == query(snapshot, text, sort)


def naive(text: str, sort: str) -> list[str]:
    """Evaluate over the rows themselves."""
    rows = [dict(zip(NAMES, row, strict=True)) for name in TYPES for row in ROWS[name]]
    found = [row for row in rows if holds(parse_filter(text), row)]
    if sort:
        name = sort.strip("-")
        known = [row for row in found if row[name] is not None]
        known.sort(key=lambda row: folded(name, row[name]), reverse=sort.startswith("-"))
        absent = [row for row in found if row[name] is None]
        found = absent + known if sort.startswith("-") else known + absent
    return [row["id"] for row in found]


def folded(name: str, value: str) -> str:
    return value if name == "id" else value.casefold()


def holds(tree, row) -> bool:
    kind = type(tree).__name__
    if kind in {"And", "Or"}:
        left, right = holds(tree.left, row), holds(tree.right, row)
        return left and right if kind == "And" else left or right
    if kind == "Not":
        return not holds(tree.inner, row)
    name = tree.path.name
    value = row[name]
    if kind == "Present":
        return value is not None
    if tree.value is None or value is None:
        same = value is None and tree.value is None
        return (tree.op == "eq" and same) or (tree.op == "ne" and not same)
    left, right = folded(name, value), folded(name, tree.value)
    return {
        "eq": left == right,
        "ne": left != right,
        "co": right in left,
        "sw": left.startswith(right),
        "gt": left > right,
        "le": left <= right,
    }[tree.op]


class Letters:
    """A snapshot whose resources are letters."""

    def __init__(self, **types: str):
        self._types = types

    def resources(self, resource_type, _version, first, last):
        return ",".join(self._types[resource_type][first:last]).encode()

    def gather(self, resource_type, _version, ordinals):
        return ",".join(self._types[resource_type][ordinal] for ordinal in ordinals).encode()


PARTS = st.lists(
    st.tuples(
        st.sampled_from(["A", "B"]),
        st.one_of(st.integers(0, 5).map(range), st.lists(st.integers(0, 4), max_size=5)),
    ),
    max_size=4,
)


@given(PARTS, st.integers(0, 25), st.integers(0, 25))
def test_a_page_is_a_slice_of_the_whole(parts, first, count):
    """Whatever the parts, a page holds what a slice of all of them one after the other holds."""
    letters = Letters(A="abcde", B="vwxyz")
    listing = Listing(tuple(parts))
    whole = [{"A": "abcde", "B": "vwxyz"}[name][ordinal] for name, ordinals in parts for ordinal in ordinals]
    expected = whole[first : first + count]
    assert len(whole) == listing.total
    assert (len(expected), ",".join(expected).encode()) == listing.page(letters, ScimVersion.V2_0, first, count)


def test_listings_of_many_resources_push_out_others():
    """What is kept is bounded in resources too; the newest stays, however large it is."""
    listings = Listings()
    small, large = Listing((("A", range(10)),)), Listing((("A", range(8_000_000)),))
    listings.keep("small", small)
    listings.keep("again", small)
    listings.keep("large", large)
    assert [None, None, large] == [listings.get(key) for key in ("small", "again", "large")]
    listings.keep("large", small)
    listings.keep("small", small)
    assert [small, small] == [listings.get(key) for key in ("small", "large")]
