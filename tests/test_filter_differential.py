"""Filters and sorts of the index against a naive evaluator over the decoded resources of each type, in both versions.

SCIM_FILTERS sets how many filters; `make filters FILTERS=500000` is the long run.
"""

from __future__ import annotations

import functools
import json
import os
import random
import time
from collections import Counter

import naive_filter
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from naive_filter import (
    CORE,
    CORE_URNS,
    CUSTOM,
    ENTERPRISE,
    ENTERPRISE_URNS,
    GROUP,
    GROUP_CUSTOM,
    GROUP_URNS,
    LICENSE,
    LICENSE_URNS,
    NULL,
    SCHEMAS,
    TYPES,
    URNS_OF,
    Path,
    Refused,
    Value,
)
from people_folder import PeopleFolder

from snapshot.errors import FilterError, SortError
from snapshot.filter import Sort, known_urns, parse_filter, resolve_path
from snapshot.scim import ScimVersion

FILTERS = int(os.environ.get("SCIM_FILTERS", "20000"))
A_BATCH = 20
PEOPLE, GROUPS, LICENSES = 50, 20, 12
OPERATORS = ("eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le", "pr")

TEXTS = (
    "İstanbul", "ISTANBUL", "\u0131stanbul", "istanbul", "straße", "STRASSE", "ﬁx", "FIX", "Ωμέγα", "ΩΜΈΓΑΣ", "é", "e\u0301", "😀", "a😀b",
    "A😀", "\ud7ff", "\ue000", "\U0010ffff", "a\U0010ffff", "100%", "_", "a_b", "a%b", "O'Brien", 'q"u', "back\\slash", "tab\tx", "a\x00b",
    "a\x00", "null", "true", "False", "5", "1.50", "-7", "2024-01-01", "x", "X", "xx", "Smith", "smithson", "Łukasz", "ǅ", "ŉ", "a b", "“curly”",
)  # fmt: skip
PLACES = ("ORD", "ord", "Łódź", "straße", "STRASSE", "x")
NUMBERS = ("0", "5", "-7", "7", "12", "9007199254740993", "9223372036854775807", "-9223372036854775808")
DECIMALS = ("0", "1.5", "1.50", "-2", "0.1", "12345678901234567890.123456789", "-0.30", "9007199254740993", "1e-7")
DATES = (
    "0001-01-01", "9999-12-31 23:59:59.999999", "2024-01-02", "2024-01-02 10:00:00", "2024-01-02 10:00:00.5", "2024-01-02 10:00:00.123456",
    "2024-01-02T10:00:00+02:00", "1969-12-31 23:59:59.999999", "2024-01-02T08:00:00.000001Z",
)  # fmt: skip
BLOBS = (b"\x00", b"abc", b"ABC", b"\xff\xfe")
COLUMNS = (
    "id", "ext", "login", "given", "family", "nick", "url", "mail", "home", "other", "kind", "shown", "photo", "cert", "city", "street", "state",
    "number", "dept", "boss", "bossname", "badge", "blob", "remote", "grade", "rate", "hired", "born", "tags",
)  # fmt: skip


def _rows(dice: random.Random) -> list[tuple]:
    """Return people of awkward values, about a third of them missing; some have hardly any."""

    def some(values, missing=0.35):
        return None if dice.random() < missing else dice.choice(values)

    rows = []
    for number in range(PEOPLE):
        texts = [some(TEXTS) for _ in range(15)]
        missing = 1 if number % 10 == 0 else 0.35
        rows.append((
            f"{dice.choice('aAé😀')}{number}", some(TEXTS), f"{dice.choice(TEXTS)}{number % 7}.{number}", *texts[:4],
            *(some([f"{text}@x.com" for text in TEXTS[:12]], missing) for _ in range(3)), texts[4], texts[5], texts[6], some(BLOBS, missing),
            some(PLACES, missing), some(PLACES, missing), dice.choice((0, 1)),
            *(some(TEXTS, missing) for _ in range(5)), some(BLOBS, missing), some((0, 1), missing), some([int(item) for item in NUMBERS], missing),
            some(DECIMALS, missing), some(DATES, missing), dice.choice(DATES[2:6]), some([f"{text};{other}" for text, other in zip(TEXTS, TEXTS[5:], strict=False)], missing),
        ))  # fmt: skip
    return rows


MAPPING = {
    "id": "id",
    "externalId": "ext",
    "userName": "login",
    "name": {"givenName": "given", "familyName": "family"},
    "nickName": {"column": "nick", "trim": False},
    "profileUrl": "url",
    "emails": [
        {"value": "mail", "type": "work"},
        {"value": "home", "type": "home", "primary": True},
        {"value": "other", "type": {"column": "kind"}, "display": "shown"},
    ],
    "photos": "photo",
    "x509Certificates": "cert",
    "addresses": [{"locality": "city", "streetAddress": "street"}, {"locality": "given", "type": "home"}],
    "active": "state",
    "meta": {"created": "born"},
    "enterprise": {
        "employeeNumber": "number",
        "department": "dept",
        "manager": {"managerId": "boss", "displayName": "bossname"},
    },
    CUSTOM: {
        "badge": "badge",
        "key": {"column": "blob", "type": "binary"},
        "remote": {"column": "remote", "type": "boolean"},
        "grade": {"column": "grade", "type": "integer"},
        "rate": {"column": "rate", "type": "decimal"},
        "hired": {"column": "hired", "type": "dateTime"},
        "tags": {"column": "tags", "separator": ";"},
    },
}
ENTITLEMENT = {"id": "id", "displayName": "name", "scim_1_1": True}
RELATED = {
    "groups": {
        "table": "teams",
        "id": "id",
        "displayName": "name",
        "externalId": "ext",
        "description": "about",
        "nesting": "keep",
        "members": {"table": "in_team", "group": "team", "user": "person"},
        "subgroups": {"table": "part_of", "group": "whole", "subgroup": "team"},
    },
    "entitlements": {
        "License": {
            **ENTITLEMENT,
            "table": "licenses",
            "description": "about",
            "assignments": {"table": "has_license", "user": "person", "entitlement": "license"},
        },
        "Role": {
            **ENTITLEMENT,
            "table": "teams",
            "kind": "role",
            "assignments": {"table": "in_team", "user": "person", "entitlement": "team"},
        },
    },
}


def _fill_related(folder: PeopleFolder, dice: random.Random, people: list[str]) -> None:
    """Add groups, memberships, groups in groups (circles too) and licenses of awkward names, some without any."""

    def some(values, missing=0.35):
        return None if dice.random() < missing else dice.choice(values)

    teams = [f"{dice.choice('gGé😀')}{number}" for number in range(GROUPS)]
    licenses = [f"{dice.choice('lL')}{number}" for number in range(LICENSES)]
    tables = {
        "teams (id, name, ext, about)": [(key, some(TEXTS), some(TEXTS), some(TEXTS)) for key in teams],
        "in_team (person, team)": [(dice.choice(people), dice.choice(teams[:-3])) for _ in range(60)],
        "part_of (team, whole)": [(dice.choice(teams[:-3]), dice.choice(teams[:-3])) for _ in range(8)],
        "licenses (id, name, about)": [(key, some(TEXTS), some(TEXTS)) for key in licenses],
        "has_license (person, license)": [(dice.choice(people), dice.choice(licenses)) for _ in range(40)],
    }
    with folder.open() as database:
        for table, rows in tables.items():
            database.execute(f"CREATE TABLE {table}")
            name = table.partition(" ")[0]
            database.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", rows)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """One generation, and its resources by type, as either version shows them."""
    folder = PeopleFolder(tmp_path_factory.mktemp("differential"))
    folder.settings["mapping"] = MAPPING
    folder.settings.update(RELATED)
    dice = random.Random(4)
    rows = _rows(dice)
    folder.fill(rows, ", ".join(COLUMNS))
    _fill_related(folder, dice, [row[0] for row in rows])
    manifest = folder.refresh()
    assert 0 == manifest.rejects
    snapshot = folder.snapshot()
    found = {
        name: [
            json.loads(b"[" + bytes(snapshot.resources(name, version, 0, snapshot.count(name))) + b"]")
            for version in ScimVersion
        ]
        for name in TYPES
    }
    assert [PEOPLE, GROUPS, LICENSES] == [len(versions[0]) for versions in found.values()]
    return snapshot, found


# The filters

PATHS = {
    resource_type: [
        Path(name, sub, schema)
        for schema in schemas
        for name, kind in SCHEMAS[schema].items()
        for sub in ("", *(kind.subs or ()))
    ]
    for resource_type, schemas in TYPES.items()
}
COMPLEX = {
    resource_type: [path for path in paths if not path.sub and SCHEMAS[path.schema][path.name].subs]
    for resource_type, paths in PATHS.items()
}
NO_ATTRIBUTES = {
    "Group": [
        Path(name, sub, GROUP)
        for name, sub in (("userName", ""), ("groups", "value"), ("members", "$ref"), ("members", "primary"), ("type", ""), ("description", ""), ("meta", ""))
    ],
    "License": [
        Path(name, sub, LICENSE)
        for name, sub in (("userName", ""), ("members", ""), ("groups", "value"), ("type", "value"), ("meta", "location"), ("active", ""))
    ],
}  # fmt: skip
NO_ATTRIBUTES["User"] = [
    Path("emali"), Path("name", "first"), Path("userName", "value"), Path("emails", "$ref"), Path("meta", "version"), Path("meta"),
    Path("meta", "location"), Path("department"), Path("members"), Path("value"), Path("bagde", "", CUSTOM), Path("userName", "", CUSTOM),
    Path("manager", "$ref", ENTERPRISE), Path("userName", "", ENTERPRISE), Path("grade", "value", CUSTOM), Path("groups", "$ref"),
]  # fmt: skip


def _texts_like(texts) -> list[Value]:
    """Return texts that meet some of these: the same, in other cases, and parts."""
    return [
        Value("text", part)
        for text in texts
        for part in {
            text,
            text.upper(),
            text.swapcase(),
            text.casefold(),
            text[:1],
            text[:2],
            text[-1:],
            text[-2:],
            text[1:3],
        }
    ]


DATE_VALUES = [
    Value("text", text)
    for text in (
        "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59.9999999Z", "2024-01-02",
        "2024-01-02T10:00:00Z", "2024-01-02T10:00:00.5Z", "2024-01-02T10:00:00.500000Z", "2024-01-02T11:00:00.500+01:00",
        "2024-01-02T10:00:00.1234567Z", "2024-01-02T10:00:00.123Z", "2024-01-02T08:00:00Z", "2024-01-02T08:00:00.0000011Z",
        "1970-01-01T00:00:00Z", "2100-01-01", "2024-01-01T18:00:00-06:00", "2024-01-02T10:00:00.1230001Z", "2024-01-02T10:00", "2024-01-02T10:00:00",
        "2024-01-02 10:00:00", "2024-01-02 10:00:00.5Z", "2024-01-02T11:00:00.500 01:00", "2024-01-02 11:00:00 01:00", "2024-01-02 10:00",
    )
]  # fmt: skip
NUMBER_VALUES = [
    Value(kind, text)
    for text in (
        *NUMBERS, "1.5", "1.50", "-2.0", "1e0", "15e-1", "0.1", "5.0", "5.000000000000000000001", "4.5", "5.5", "7.5", "0.5", "-6.5", "-7.5", "6.9", "-0", "-0.0", "0.30", "-0.3",
        "9223372036854775808", "-9223372036854775809", "9223372036854775806.5", "-9223372036854775807.5", "1e999", "-1e999", "1e-999", "-1e-999",
        "9007199254740992", "9007199254740992.5", "9007199254740993.0", "9.007199254740993e15", "12345678901234567890.123456789", "1" + "0" * 500,
        "12345678901234567890", "1e-7", "0.0000001",
    )
    for kind in ("number", "number", "text")
]  # fmt: skip
BOOLEAN_VALUES = [Value("boolean", "true"), Value("boolean", "false"), Value("text", "TRUE"), Value("text", "false")]
TEXT_VALUES = [*_texts_like(TEXTS), *_texts_like(("AAEC", "YWJj", "QUJD", "//4=", "AA=="))]
FITTING = {
    "text": TEXT_VALUES,
    "exact": TEXT_VALUES + _texts_like(("a0", "A7", "😀3", "User", "g1", "G2", "é4", "l3", "L5", "Group", "License")),
    "binary": TEXT_VALUES,
    "boolean": BOOLEAN_VALUES,
    "integer": NUMBER_VALUES,
    "decimal": NUMBER_VALUES,
    "date": DATE_VALUES,
    "schemas": _texts_like((*CORE_URNS, *GROUP_URNS, *LICENSE_URNS, *ENTERPRISE_URNS, CUSTOM, GROUP_CUSTOM, "urn:x:y")),
    "complex": [NULL],
    "emails": _texts_like([f"{text}@x.com" for text in TEXTS[:12]]),
    "addresses": _texts_like(PLACES),
    "type": _texts_like(("work", "home", "x", "Smith", "User", "Group", "direct", "indirect", "License")),
}
EQUAL, ORDER, PART = ("eq", "ne", "eq", "ne", "pr"), ("gt", "ge", "lt", "le"), ("co", "sw", "ew")
FITTING_OPERATORS = dict.fromkeys(FITTING, EQUAL + ORDER + PART) | {
    "boolean": EQUAL,
    "complex": EQUAL,
    "binary": EQUAL + PART,
    "integer": EQUAL + ORDER,
    "decimal": EQUAL + ORDER,
    "date": EQUAL + ORDER,
}
# Strategies are made once: making them is what takes time.
ANY_VALUE = st.one_of(
    st.sampled_from([NULL, *BOOLEAN_VALUES, *NUMBER_VALUES, *DATE_VALUES, *TEXT_VALUES]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4).map(lambda text: Value("text", text)),
)
FITTING_VALUE = {kind: st.sampled_from(values) for kind, values in FITTING.items()}
FITTING_OPERATOR = {kind: st.sampled_from(operators) for kind, operators in FITTING_OPERATORS.items()}
ANY_OPERATOR = st.sampled_from(OPERATORS)
ANY_PATH = {name: st.sampled_from(paths) for name, paths in PATHS.items()}
ANY_COMPLEX = {name: st.sampled_from(paths) for name, paths in COMPLEX.items()}
SUB_PATHS = {
    path: [Path(sub) for sub in SCHEMAS[path.schema][path.name].subs] for paths in COMPLEX.values() for path in paths
}
SUB_PATH = {path: st.sampled_from(subs) for path, subs in SUB_PATHS.items()}
# Names of the type itself, and the URN of another one's core schema before them.
FOREIGN = {"User": GROUP_URNS[1], "Group": LICENSE_URNS[1], "License": CORE_URNS[1]}
for _type, _urn in FOREIGN.items():
    _paths = [path for path in PATHS[_type] if path.schema in URNS_OF and not path.foreign]
    NO_ATTRIBUTES[_type] += [path._replace(foreign=_urn) for path in _paths]
NO_ATTRIBUTE = {name: st.sampled_from(paths) for name, paths in NO_ATTRIBUTES.items()}
# Users have the most attributes.
ANY_TYPE = st.sampled_from(("User", "User", "User", "Group", "Group", "License"))
HOW = st.integers(0, 19)


@functools.cache
def _kind_of(path: Path, outer: Path | None) -> str:
    """Return which values and operators fit an attribute."""
    whole, sub = (path, path.sub or "value") if outer is None else (outer, path.name)
    kind = SCHEMAS[whole.schema][whole.name]
    if kind.subs is None:
        return kind.name
    found = kind.subs.get(sub, "complex")
    if found == "text" and sub == "type":
        return sub
    return whole.name if found == "text" and whole.name in FITTING else found


@functools.cache
def _terms(resource_type: str, outer: Path | None = None) -> st.SearchStrategy[tuple]:
    """Make terms, most with a value that the attribute may have; within brackets of `outer` on its sub-attributes."""

    @st.composite
    def term(draw):
        path = draw(ANY_PATH[resource_type] if outer is None else SUB_PATH[outer])
        how = draw(HOW)
        if how == 19 and outer is None:
            path = draw(NO_ATTRIBUTE[resource_type])
        if how >= 17:
            operator = draw(ANY_OPERATOR)
            value = draw(ANY_VALUE)
        else:
            kind = _kind_of(path, outer)
            operator = draw(FITTING_OPERATOR[kind])
            value = draw(FITTING_VALUE[kind]) if how < 16 or operator not in {"eq", "ne"} else NULL
        return ("term", path, operator, NULL if operator == "pr" else value)

    return term()


@functools.cache
def _trees(resource_type: str, depth: int = 3, outer: Path | None = None) -> st.SearchStrategy[tuple]:
    kinds = st.sampled_from("t" if depth == 0 else "ttaon" if outer is not None else "tttaaonvvc")

    @st.composite
    def tree(draw):
        kind = draw(kinds)
        if kind in "ao":
            inner = _trees(resource_type, depth - 1, outer)
            return ("and" if kind == "a" else "or", draw(inner), draw(inner))
        if kind == "n":
            return ("not", draw(_trees(resource_type, depth - 1, outer)))
        if kind == "t":
            return draw(_terms(resource_type, outer))
        path = draw(ANY_COMPLEX[resource_type])
        written = path._replace(foreign=FOREIGN[resource_type]) if path.schema in URNS_OF and draw(HOW) == 19 else path
        if kind == "v":
            return ("values", written, draw(_trees(resource_type, min(depth, 2), path)))
        _, sub, operator, value = draw(_terms(resource_type, path))
        return ("chosen", written, draw(_trees(resource_type, 1, path)), sub.name, operator, value)

    return tree()


URNS = {
    CORE: ("", "", "", *CORE_URNS),
    GROUP: ("", "", "", *GROUP_URNS),
    LICENSE: ("", "", "", *LICENSE_URNS),
    ENTERPRISE: ENTERPRISE_URNS,
    CUSTOM: (CUSTOM,),
    GROUP_CUSTOM: (GROUP_CUSTOM,),
}


class Writer:
    """Writes a tree as text, in one of the many ways in which clients write."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._is_within = False

    def write(self, tree: tuple, *, above: str = "") -> str:
        dice = self._dice
        match tree:
            case ("and" | "or" as word, left, right):
                text = f"{self.write(left, above=word)}{self._blank()}{self._cased(word)}{self._blank()}{self.write(right, above=word)}"
                needs = (word == "or" and above == "and") or dice.random() < 0.1
                return f"({text})" if needs else text
            case ("not", inner):
                return f"{self._cased('not')}{dice.choice(('', ' '))}({self.write(inner)})"
            case ("values", path, inner):
                return f"{self._path(path)}{dice.choice(('', '', ' '))}[{self._within(inner)}]"
            case ("chosen", path, inner, sub, operator, value):
                return f"{self._path(path)}[{self._within(inner)}].{self._rest(self._cased(sub), operator, value)}"
        _, path, operator, value = tree
        name = self._cased(path.name) if self._is_within else self._path(path)
        text = self._rest(name, operator, value)
        return f"({text})" if dice.random() < 0.05 else text

    def _within(self, inner: tuple) -> str:
        """Write what stands in brackets: no URN stands before a name there."""
        self._is_within = True
        text = self.write(inner)
        self._is_within = False
        return text

    def _rest(self, name: str, operator: str, value: Value) -> str:
        text = f"{name}{self._blank()}{self._cased(operator)}"
        return text if operator == "pr" else f"{text}{self._blank()}{self._value(value)}"

    def _path(self, path: Path) -> str:
        dice = self._dice
        name = f"{path.name}.{path.sub}" if path.sub else path.name
        if path == Path("emails") and dice.random() < 0.3:
            name = "email"
        if path[:2] == ("manager", "value") and dice.random() < 0.5:
            name = "manager.managerId"
        urns = URNS[path.schema]
        urn = path.foreign or dice.choice(urns)
        return self._cased(f"{urn}{dice.choice(':.')}{name}" if urn else name)

    def _value(self, value: Value) -> str:
        dice = self._dice
        if value.kind != "text":
            return value.text if value.kind == "number" else self._cased(value.text or "null")
        if value in DATE_VALUES and dice.random() < 0.5:
            return dice.choice((value.text, f"'{value.text}'"))
        text = json.dumps(value.text, ensure_ascii=dice.random() < 0.3)
        is_plain = not set('"“”„‟″') & set(value.text)
        return f"“{text[1:-1]}”" if is_plain and dice.random() < 0.1 else text

    def _cased(self, text: str) -> str:
        return self._dice.choice((text, text, text, text.lower(), text.upper(), text.swapcase()))

    def _blank(self) -> str:
        return " " if self._dice.random() < 0.9 else "  "


def _naively(users, tree):
    try:
        return naive_filter.find(tree, users)
    except Refused:
        return None


def _from_index(snapshot, resource_type, text, sort=None):
    try:
        return list(snapshot.select(resource_type, parse_filter(text, [CUSTOM, GROUP_CUSTOM]), sort))
    except FilterError:
        return None


@pytest.mark.timeout(max(300, FILTERS // 100))
def test_the_index_finds_whom_the_filter_means(people, record_property):
    """Any filter finds in the index exactly what it means in the bodies of both versions, and is refused by both or none."""
    snapshot, resources = people
    figures = Counter()
    began = time.monotonic()

    @settings(
        max_examples=-(-FILTERS // A_BATCH),
        deadline=None,
        database=None,
        phases=[Phase.generate],  # the message has the one filter that is wrong, and nothing of the others
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.data(), ANY_TYPE)
    def compare(data, resource_type):
        versions = resources[resource_type]
        one = st.tuples(_trees(resource_type), st.integers(0, 1 << 32))
        for tree, seed in data.draw(st.lists(one, min_size=A_BATCH, max_size=A_BATCH)):
            text = Writer(seed).write(tree)
            found = _from_index(snapshot, resource_type, text)
            meant = [_naively(items, tree) for items in versions]
            assert [found] * len(versions) == meant, f"{resource_type}: {text}"
            figures["filters"] += 1
            figures[f"of {resource_type}"] += 1
            figures[
                "refused"
                if found is None
                else "for nobody"
                if not found
                else "for some"
                if len(found) < len(versions[0])
                else "for all"
            ] += 1

    try:
        compare()
    finally:
        told = ", ".join(f"{count} {name}" for name, count in figures.items())
        record_property("figures", f"{told}; {time.monotonic() - began:.0f} s")
    assert figures["filters"] >= FILTERS


@pytest.mark.parametrize(
    ("resource_type", "path"),
    [(name, path) for name in TYPES for path in (*PATHS[name], *NO_ATTRIBUTES[name])],
    ids=lambda item: (
        item if isinstance(item, str) else ".".join(part for part in (*item[:2], item.foreign[-5:]) if part)
    ),
)
def test_the_index_sorts_as_the_bodies_say(people, resource_type, path):
    """Sorted by any attribute, in both directions, the order is that of the values in the bodies of both versions."""
    snapshot, resources = people
    urn = {**dict.fromkeys((CORE, GROUP, LICENSE), ""), ENTERPRISE: f"{ENTERPRISE_URNS[1]}:"}.get(
        path.schema, f"{path.schema}:"
    )
    urn = f"{path.foreign}:" if path.foreign else urn
    written = f"{urn}{path.name}.{path.sub}".rstrip(".")
    some_filter = {"User": 'emails co "x" or title pr', "Group": "members pr", "License": "description pr"}[
        resource_type
    ]
    for descending in (False, True):
        sort = Sort(resolve_path(written, known_urns([CUSTOM, GROUP_CUSTOM])), descending)
        for items in resources[resource_type]:
            try:
                expected = naive_filter.order(path, items, descending=descending)
            except Refused:
                with pytest.raises(SortError):
                    snapshot.select(resource_type, None, sort)
                continue
            assert expected == list(snapshot.select(resource_type, None, sort))
            some = set(_from_index(snapshot, resource_type, some_filter))
            assert some
            found = _from_index(snapshot, resource_type, some_filter, sort)
            assert [place for place in expected if place in some] == found
