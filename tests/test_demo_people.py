"""The demo's people: the same everywhere, and as varied as promised."""

from __future__ import annotations

import hashlib
import sqlite3
import tracemalloc
import unicodedata
from contextlib import closing
from typing import TYPE_CHECKING

import orjson
import pytest

from snapshot.config import load_config
from snapshot.demo.company import HEAD, LEAD, MEMBER, TOP, Company
from snapshot.demo.folder import DemoFolder
from snapshot.demo.memberships import TABLES
from snapshot.demo.names import name_pools
from snapshot.demo.people import COLUMNS, CONTENT_VERSION, count_people, people_rows, write_people
from snapshot.mapping import CompiledMapping
from snapshot.reader import open_snapshot
from snapshot.refresh import run_refresh
from snapshot.scim import ENTERPRISE_2_0, ScimVersion

if TYPE_CHECKING:
    from pathlib import Path

# Of 1,000 people. Change it together with CONTENT_VERSION, or old files go on being used.
MEMBERSHIPS = "a3c1036a646b935de4356f2117d650de223df24321b16201d73dbaadd5b8442a"
GOLDEN = (2, "5517b8e254981f236be7e41c4021449aaafd1176c0d4bbb01822a120a278097b")
SCRIPTS = {
    *("LATIN", "GREEK", "CYRILLIC", "GEORGIAN", "ARMENIAN", "ETHIOPIC"),
    *("ARABIC", "HEBREW", "DEVANAGARI", "THAI"),
    *("CJK", "HIRAGANA", "KATAKANA", "HANGUL"),
}


@pytest.fixture(scope="module")
def people() -> list[dict]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in people_rows(1000)]


def test_same_people_everywhere():
    """A count of people gives the same content on every machine and every Python."""
    digest = hashlib.sha256()
    for row in people_rows(1000):
        digest.update(repr(row).encode() + b"\n")
    assert GOLDEN == (CONTENT_VERSION, digest.hexdigest())


def test_file_holds_the_rows(tmp_path: Path):
    """The file holds exactly the generated people, and says how many."""
    path = tmp_path / "people.db"
    seen: list[int] = []
    assert count_people(path) is None
    write_people(path, 2500, seen.append)
    with closing(sqlite3.connect(path)) as database:
        assert list(people_rows(2500)) == database.execute("SELECT * FROM people ORDER BY rowid").fetchall()
    assert count_people(path) == 2500
    assert seen == [1000, 2000, 2500]
    assert [entry.name for entry in tmp_path.iterdir()] == ["people.db"]


def test_broken_file_is_no_file(tmp_path: Path):
    """A file that is not a database, or of another content version, counts as missing."""
    path = tmp_path / "people.db"
    path.write_bytes(b"not a database, but long enough to be taken for one" * 40)
    assert count_people(path) is None
    path.unlink()
    write_people(path, 3)
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {CONTENT_VERSION + 1}")
    assert count_people(path) is None


def test_columns_are_declared_as_in_sql_server(tmp_path: Path):
    """Every column is declared with a type of SQL Server."""
    path = tmp_path / "people.db"
    write_people(path, 1)
    with closing(sqlite3.connect(path)) as database:
        declared = {row[1]: row[2] for row in database.execute("PRAGMA table_info(people)")}
    expected = {
        "user_name": "nvarchar(100)",
        "hire_date": "date",
        "fte": "decimal(4,2)",
        "remote": "bit",
        "badge": "uniqueidentifier",
        "last_changed": "datetime2(3)",
        "country": "char(2)",
    }
    assert expected == {name: declared[name] for name in expected}


def test_values_fit_their_columns(people: list[dict]):
    """No text is longer than its column, counted in UTF-16 units as nvarchar does; char is ASCII."""
    for name, declaration in COLUMNS.items():
        kind, _, rest = declaration.partition("(")
        if kind not in {"nvarchar", "varchar", "char"}:
            continue
        size = int(rest.split(")")[0])
        longest = max(len((person[name] or "").encode("utf-16-le")) // 2 for person in people)
        assert longest <= size, name
        assert kind == "nvarchar" or all((person[name] or "").isascii() for person in people), name


def test_longest_names_fit():
    """Even the longest names that can be drawn fit their columns."""
    first = max(len(name.native) for pool in name_pools() for name in pool.first)
    double = max(2 * max(len(name.native) for name in pool.last) + 1 for pool in name_pools())
    assert first <= 50
    assert double <= 80
    assert first + double + len(".1000000") <= 100


def test_shares_of_names_add_up():
    """The shares of the name pools are of 1,000 people."""
    assert sum(pool.share for pool in name_pools()) == 1000


def test_names_in_many_scripts(people: list[dict]):
    """A thousand people have names in fourteen scripts, some beyond the Basic Multilingual Plane."""
    text = "".join(person["first_name"] + person["last_name"] for person in people)
    found = {unicodedata.name(char).split()[0] for char in text if char.isalpha()}
    assert found >= SCRIPTS
    assert "🌻" in text
    assert "𠮷" in text
    assert "\N{COMBINING DIAERESIS}" in text


def test_apostrophes_and_hyphens(people: list[dict]):
    """Names have apostrophes, hyphens, blanks and quotation marks; user names have hyphens alone."""
    last = {person["last_name"] for person in people}
    assert any(name.startswith("O'") for name in last)
    assert any(name.startswith("D'") for name in last)
    assert any("-" in name for name in last)
    assert any(" " in name for name in last)
    assert any('"' in person["first_name"] for person in people)
    assert not any(char in person["user_name"] for person in people for char in "'\" ")


def test_user_names_are_unique():
    """User names are unique without regard to case, however many share a name; nearly all are ASCII."""
    names = [row[1] for row in people_rows(20_000)]
    assert len({name.casefold() for name in names}) == len(names) == 20_000
    assert len({name.lower() for name in names}) == len(names)
    exotic = sum(not name.isascii() for name in names)
    assert 0 < exotic < 400
    assert 0 < sum(name.isupper() for name in names) < 400


def test_addresses_are_unique_or_missing(people: list[dict]):
    """Some people have no e-mail address of one kind, some of both; no two share one."""
    for column in ("work_email", "private_email"):
        given = [person[column] for person in people if person[column]]
        assert 0 < len(given) < 1000
        assert len(set(given)) == len(given)
        assert all(address.isascii() and address == address.lower() for address in given)
    assert any(person["work_email"] is person["private_email"] is None for person in people)
    assert any(person["work_email"] and person["private_email"] for person in people)


def test_some_have_left(people: list[dict]):
    """About four of a hundred have left; those who lead others have not."""
    status = [person["status"] for person in people]
    assert {"Active", "Leave", "Terminated"} == set(status)
    assert 25 <= status.count("Terminated") <= 55
    leaders = {person["manager_id"] for person in people}
    assert {"Active"} == {person["status"] for person in people if person["employee_id"] in leaders}


@pytest.mark.parametrize("count", [20, 50, 1000, 5000])
def test_three_levels_of_managers(count: int):
    """Exactly three levels lead others: the top, the heads, the team leads."""
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in people_rows(count)]
    boss = {person["employee_id"]: person["manager_id"] for person in rows}
    leaders = set(boss.values()) - {None}

    def depth(person: str) -> int:
        return 0 if boss[person] is None else 1 + depth(boss[person])

    assert {0, 1, 2} == {depth(person) for person in leaders}
    assert {3} == {depth(person) for person in boss if person not in leaders}
    assert 1 == sum(manager is None for manager in boss.values())


@pytest.mark.parametrize("count", range(1, 60))
def test_small_companies(count: int):
    """A company of any size has one top, and every manager is of the rank above."""
    company = Company.of(count)
    above = {HEAD: TOP, LEAD: HEAD, MEMBER: LEAD}
    for number in range(count):
        boss = company.boss(number)
        if number == 0:
            assert boss is None
        else:
            assert boss is not None
            assert above[company.rank(number)] == company.rank(boss)
            assert company.rank(boss) == TOP or company.department(boss) == company.department(number)


def test_departments(people: list[dict]):
    """There are twenty departments and the board."""
    assert len({person["department"] for person in people}) == 21


def test_phones(people: list[dict]):
    """Some people have no telephone, some one of either kind, some both."""
    kinds = {(person["office_phone"] is None, person["mobile_phone"] is None) for person in people}
    assert len(kinds) == 4


def test_moments_are_in_order(people: list[dict]):
    """Nobody's record was changed before the person was hired, or in the future."""
    assert all(person["hire_date"] <= person["last_changed"] < "2026" for person in people)


def test_memory_does_not_grow(tmp_path: Path):
    """Writing more people takes no more memory, but for the bounded counts of names."""
    tracemalloc.start()
    try:
        write_people(tmp_path / "people.db", 20_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_configuration_maps_everybody(tmp_path: Path):
    """The demo's configuration is valid, without warnings, and makes a user of every person."""
    demo = DemoFolder(tmp_path)
    assert demo.write_people(1000, lambda _: None)
    demo.write_config(8080)
    config = load_config(demo.config)
    assert config.warnings == ()
    mapping = CompiledMapping(config.mapping, list(COLUMNS), timezone=config.source.timezone, where="people")
    with closing(sqlite3.connect(demo.people)) as database:
        users = [mapping(row) for row in database.execute("SELECT * FROM people")]
    assert len({user.user_name for user in users}) == 1000
    assert 25 <= sum(not user.active for user in users) <= 55
    assert demo.example_user_name() in {user.user_name for user in users}


def test_other_people_are_another_company(tmp_path: Path):
    """With another count the old generations go away, so that the guard does not refuse the new people."""
    demo = DemoFolder(tmp_path)
    assert demo.write_people(20, lambda _: None)
    generation = demo.data / "generations" / "00000001"
    generation.mkdir(parents=True)
    (demo.data / "CURRENT").write_text("00000001\n", encoding="ascii")
    assert not demo.write_people(20, lambda _: None)
    assert generation.is_dir()
    assert demo.write_people(30, lambda _: None)
    assert not generation.exists()
    assert not (demo.data / "CURRENT").exists()


def test_other_port_is_another_address(tmp_path: Path):
    """With another port the old generations go away, because every resource in them tells its address."""
    demo = DemoFolder(tmp_path)
    generation = demo.data / "generations" / "00000001"
    demo.write_config(8080)
    generation.mkdir(parents=True)
    demo.write_config(8080)
    assert generation.is_dir()
    demo.write_config(8081)
    assert not generation.exists()


def test_secrets_are_kept(tmp_path: Path):
    """Secrets are made once, differ, and are readable by their owner alone."""
    demo = DemoFolder(tmp_path)
    password, token = demo.okta_password(), demo.admin_token()
    assert len(password) == len(token) == 32
    assert password != token
    assert (password, token) == (demo.okta_password(), demo.admin_token())
    assert {0o600} == {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()}


def test_what_belongs_to_people(tmp_path: Path):
    """Departments, managers, phones, licenses and roles are published, the same everywhere, and nothing dangles."""
    demo = DemoFolder(tmp_path)
    demo.write_people(1000, lambda _: None)
    digest = hashlib.sha256()
    with closing(sqlite3.connect(demo.people)) as database:
        for name in TABLES:
            digest.update(repr(database.execute(f"SELECT * FROM {name} ORDER BY rowid").fetchall()).encode())
    assert digest.hexdigest() == MEMBERSHIPS
    demo.okta_password(), demo.admin_token()
    demo.write_config(8080)
    manifest = run_refresh(load_config(demo.config))
    assert (0, 0) == (manifest.rejects, sum(facts.rejects for facts in manifest.related.values()))
    counts = {name: facts.count for name, facts in manifest.resource_types.items()}
    assert counts == {"User": 1000, "Group": 21, "License": 4, "Role": 3}
    assert manifest.links["groups"] >= 1000
    assert manifest.links["entitlements"] > 1000
    assert 100 < manifest.links["roles"] < 300
    snapshot = open_snapshot(demo.data)
    users = orjson.loads(b"[%b]" % snapshot.resources("User", ScimVersion.V2_0, 0, 1000))
    managers = [user[ENTERPRISE_2_0].get("manager") for user in users]
    assert sum(manager is None for manager in managers) == 1
    names = {user["id"]: user["displayName"] for user in users}
    assert all(names[manager["value"]] == manager["displayName"] for manager in managers if manager)
    assert max(len(user.get("phoneNumbers", [])) for user in users) == 5
