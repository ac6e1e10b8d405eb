"""A real HR schema, AdventureWorks, imported as the agent does it, every value compared with its CSV.

The whole of it where the CSV files are beside the project; an extract of it everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import adventureworks
import aiohttp
import pytest
from adventureworks import CONTACTS, CUSTOM_URN, DEPARTMENTS, EMPLOYEES, EXTRACT, FOLDER, PEOPLE, STAFF, read_csv
from server_fixtures import basic
from sqlserver_fixtures import SETTINGS, Authority, refresh, source_of
from tds_server import TdsServer

from server.app import create_app
from server.listener import Listener
from server.live import LiveSnapshot
from snapshot.config import Config, parse_config
from snapshot.scim import ENTERPRISE_1_1, ENTERPRISE_2_0

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WHOLE = pytest.mark.skipif(not FOLDER.is_dir(), reason="the AdventureWorks CSV files are not beside the project")

_PAGE = 200
_PHONE_TYPES = {"1": "mobile", "2": "home", "3": "work"}


@pytest.fixture(
    scope="module", params=[pytest.param(FOLDER, marks=_WHOLE, id="whole"), pytest.param(EXTRACT, id="extract")]
)
def folder(request: pytest.FixtureRequest) -> Path:
    """Return where the CSV files are: all of them, if they are there, and the extract, which is always."""
    found: Path = request.param
    return found


@pytest.fixture(scope="module")
def database(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adventureworks.load(folder, tmp_path_factory.mktemp("adventureworks") / "aw.db")


@pytest.fixture(params=["sqlite", "sqlserver"])
def source(request: pytest.FixtureRequest, database: Path, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Return [source] without its users: the SQLite file itself, or the TDS server in front of it."""
    if request.param == "sqlite":
        yield {"driver": "sqlite", "path": str(database)}
        return
    authority = Authority(tmp_path)
    with TdsServer(database, certificate=authority.certificate(), **SETTINGS) as tds:
        yield source_of(tds)
        assert [] == [log.failure for log in tds.sessions if log.failure]


def config_of(folder: Path, source: dict[str, Any], view: str, mapping: dict[str, Any], **sections: Any) -> Config:
    tables = {
        "data_dir": "data",
        "source": {**source, "users": {"table": view}},
        "mapping": mapping,
        "server": {"auth": [{"type": "basic", "username": "okta", "password": "päss:word"}]},
        **sections,
    }
    return parse_config(tables, where="test", base=folder)


async def import_all(config: Config, base: str) -> dict[str, dict[str, Any]]:
    """Return the users by id, imported as the agent does; there are no groups."""
    groups, users = await import_both(config, base)
    assert {} == groups
    return users


async def import_both(config: Config, base: str) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Import as the agent does: Groups, then Users, page by page until totalResults; return both by id."""
    live = LiveSnapshot(config.data_dir)
    await live.poll()
    listener = Listener(create_app(config, live), None)
    ((_, port, *_),) = await listener.start()
    both: list[dict[str, dict[str, Any]]] = []
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers={"Authorization": basic()}) as session:
            for endpoint in ("Groups", "Users"):
                found: dict[str, dict[str, Any]] = {}
                start, total = 1, 1
                while start <= total:
                    async with session.get(f"{base}/{endpoint}?startIndex={start}&count={_PAGE}") as answer:
                        assert 200 == answer.status
                        page = await answer.json(content_type=None)
                    total = page["totalResults"]
                    for item in page["Resources"]:
                        assert item["id"] not in found
                        found[item["id"]] = item
                    start += page["itemsPerPage"]
                assert total == len(found)
                both.append(found)
    finally:
        await listener.stop()
    groups, users = both
    return groups, users


def expected_employees(folder: Path) -> dict[str, dict[str, Any]]:
    """Compute from the CSV files alone what each employee must look like."""
    emails = {row["businessentityid"]: row["emailaddress"] for row in read_csv(folder, "emailaddress")}
    phones = {row["businessentityid"]: row for row in read_csv(folder, "personphone")}
    departments = {row["departmentid"]: row["name"] for row in read_csv(folder, "department")}
    now = {
        row["businessentityid"]: departments[row["departmentid"]]
        for row in read_csv(folder, "employeedepartmenthistory")
        if not row["enddate"]
    }
    employees = read_csv(folder, "employee")
    by_node = {row["organizationnode"]: row["businessentityid"] for row in employees}
    found = {}
    for row in employees:
        number = row["businessentityid"]
        steps = row["organizationnode"].strip("/").split("/")
        parent = "/" + "".join(f"{step}/" for step in steps[:-1]) if row["organizationnode"] != "/" else None
        found[number] = {
            "externalId": row["nationalidnumber"],
            "userName": emails[number].lower(),
            "displayName": row["loginid"],
            "title": row["jobtitle"],
            "active": row["currentflag"] == "true",
            "emails": [{"value": emails[number], "type": "work", "primary": True}],
            "phoneNumbers": [
                {
                    "value": phones[number]["phonenumber"],
                    "type": _PHONE_TYPES[phones[number]["phonenumbertypeid"]],
                    "primary": True,
                }
            ],
            "department": now[number],
            "manager": by_node[parent] if parent else None,
            "hireDate": f"{row['hiredate']}T00:00:00Z",
            "rowGuid": row["rowguid"],
        }
    return found


@pytest.mark.parametrize(
    ("base", "urn", "manager_key"), [("/scim/v1", ENTERPRISE_1_1, "managerId"), ("/scim/v2", ENTERPRISE_2_0, "value")]
)
async def test_all_employees_arrive_with_every_value(
    tmp_path: Path, folder: Path, source: dict[str, Any], base: str, urn: str, manager_key: str
) -> None:
    """All employees, 290 or those of the extract, are imported through both versions, and every value is the one of the CSV."""
    config = config_of(tmp_path, source, "v_employees", EMPLOYEES)
    assert ("published", "") == ((outcome := refresh(config)).state, outcome.reason)
    users = await import_all(config, base)
    expected = expected_employees(folder)
    assert {FOLDER: 290, EXTRACT: 14}[folder] == len(expected)
    assert expected.keys() == users.keys()
    for number, wanted in expected.items():
        user = users[number]
        enterprise, custom = user.pop(urn), user.pop(CUSTOM_URN)
        flat = {
            **{name: value for name, value in user.items() if name not in {"schemas", "id", "meta"}},
            "department": enterprise["department"],
            "manager": enterprise.get("manager", {}).get(manager_key),
            **custom,
        }
        assert wanted == flat


async def test_everybody_with_an_address_arrives(tmp_path: Path, folder: Path, source: dict[str, Any]) -> None:
    """Everybody, 19,972 people or those of the extract, is imported, and every value is the one of the CSV."""
    config = config_of(tmp_path, source, "v_people", PEOPLE)
    assert ("published", "") == ((outcome := refresh(config)).state, outcome.reason)
    users = await import_all(config, "/scim/v2")
    phones = {row["businessentityid"]: row for row in read_csv(folder, "personphone")}
    states = {row["stateprovinceid"]: row for row in read_csv(folder, "stateprovince")}
    addresses = {row["addressid"]: row for row in read_csv(folder, "address")}
    homes: dict[str, str] = {}
    for row in read_csv(folder, "businessentityaddress"):
        known = homes.get(row["businessentityid"])
        if known is None or int(row["addressid"]) < int(known):
            homes[row["businessentityid"]] = row["addressid"]
    mails = read_csv(folder, "emailaddress")
    assert {FOLDER: 19_972, EXTRACT: 20}[folder] == len(mails) == len(users)
    with_home = 0
    for mail in mails:
        number = mail["businessentityid"]
        user = users[number]
        assert [{"value": mail["emailaddress"], "type": "work", "primary": True}] == user["emails"]
        assert mail["emailaddress"] == user["userName"]
        phone = phones[number]
        assert [
            {"value": phone["phonenumber"].strip(), "type": _PHONE_TYPES[phone["phonenumbertypeid"]], "primary": True}
        ] == user["phoneNumbers"]
        home = addresses.get(homes.get(number, ""))
        if home is None:
            assert "addresses" not in user
            continue
        with_home += 1
        state = states[home["stateprovinceid"]]
        lines = " ".join(f"{home['addressline1']} {home['addressline2']}".split())
        (address,) = user["addresses"]
        assert {
            "streetAddress": lines,
            "locality": home["city"].strip(),
            "region": state["stateprovincecode"].strip(),
            "postalCode": home["postalcode"].strip(),
            "country": state["countryregioncode"],
            "type": "home",
            "primary": True,
        } == {**address, "streetAddress": " ".join(address["streetAddress"].split())}
    assert len(homes) >= with_home > {FOLDER: 18_000, EXTRACT: 15}[folder]


@pytest.mark.parametrize("base", ["/scim/v1", "/scim/v2"])
async def test_departments_are_groups_and_the_reporting_line_managers(
    tmp_path: Path, folder: Path, source: dict[str, Any], base: str
) -> None:
    """Each employee is in the departments of today alone, and names the manager whom the hierarchy gives."""
    is_new = base == "/scim/v2"
    config = config_of(tmp_path, source, "v_employees", STAFF, groups=DEPARTMENTS)
    assert ("published", "") == ((outcome := refresh(config)).state, outcome.reason)
    groups, users = await import_both(config, base)
    names = {row["departmentid"]: (row["name"], row["groupname"]) for row in read_csv(folder, "department")}
    history = read_csv(folder, "employeedepartmenthistory")
    current = {(row["businessentityid"], row["departmentid"]) for row in history if not row["enddate"]}
    assert len(current) < len(history)
    assert names == {
        key: (item["displayName"], item["urn:okta:custom:group:1.0"]["description"]) for key, item in groups.items()
    }
    assert current == {(item["value"], key) for key, group in groups.items() for item in group.get("members", [])}
    assert current == {(key, item["value"]) for key, user in users.items() for item in user.get("groups", [])}
    logins = {row["businessentityid"]: row["loginid"] for row in read_csv(folder, "employee")}
    assert logins.keys() == users.keys()
    for key, wanted in expected_employees(folder).items():
        manager = users[key].get(ENTERPRISE_2_0 if is_new else ENTERPRISE_1_1, {}).get("manager")
        if wanted["manager"] is None:
            assert manager is None
            continue
        assert wanted["manager"] == manager["value" if is_new else "managerId"]
        assert logins[wanted["manager"]] == manager["displayName"]
        assert is_new == manager.get("$ref", "").endswith(f"/scim/v2/Users/{wanted['manager']}")


async def test_all_phones_and_addresses_from_queries(tmp_path: Path, folder: Path, source: dict[str, Any]) -> None:
    """Whoever has several addresses has all of them, in order and with their type; phones come from a query too."""
    config = config_of(tmp_path, source, "emailaddress", CONTACTS)
    assert ("published", "") == ((outcome := refresh(config)).state, outcome.reason)
    users = await import_all(config, "/scim/v2")
    cities = {row["addressid"]: row["city"].strip() for row in read_csv(folder, "address")}
    kinds = {"2": "home", "5": "other"}
    homes: dict[str, list[tuple[int, str, str]]] = {}
    for row in read_csv(folder, "businessentityaddress"):
        kind = kinds.get(row["addresstypeid"], row["addresstypeid"])
        place = (int(row["addressid"]), cities[row["addressid"]], kind)
        homes.setdefault(row["businessentityid"], []).append(place)
    phones = {row["businessentityid"]: row["phonenumber"].strip() for row in read_csv(folder, "personphone")}
    several = 0
    for key, user in users.items():
        wanted = [(city, kind) for _, city, kind in sorted(homes.get(key, []))]
        assert wanted == [(item["locality"], item["type"]) for item in user.get("addresses", [])]
        assert [phones[key]] == [item["value"] for item in user["phoneNumbers"]]
        several += len(wanted) > 1
    assert {FOLDER: 19_972, EXTRACT: 20}[folder] == len(users)
    assert several > 0
