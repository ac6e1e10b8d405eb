"""The acceptance vectors for Okta's agent, each named by its number, against published generations of real rows."""

from __future__ import annotations

import asyncio
import logging
import time
from urllib.parse import quote, quote_plus

import msgspec
import pytest
from scim2_models import Error
from server_fixtures import CUSTOM_URN, PASSWORD, Directory, basic, person, serving, wait_a_tick
from strict_1_1 import parse_error, read_list

from snapshot.config import Source, environment_config
from snapshot.errors import PublishRefusedError, SourceError
from snapshot.queries import UsersQuery
from snapshot.refresh import run_refresh

CORE = "urn:scim:schemas:core:1.0"
ENTERPRISE_1_1 = "urn:scim:schemas:extension:enterprise:1.0"
OKTA = "urn:okta:schemas:scim:providerconfig:1.0"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
OKTA_ENTITLEMENT, OKTA_ROLE = (f"urn:okta:scim:schemas:core:1.0:{name}" for name in ("Entitlement", "Role"))
IMPORT_ONLY = ["IMPORT_NEW_USERS", "IMPORT_PROFILE_UPDATES", "OPP_SCIM_INCREMENTAL_IMPORTS"]
BASES = pytest.mark.parametrize("base", ["v1", "v2"])


@pytest.fixture
def directory(tmp_path):
    """Two people, published."""
    made = Directory(tmp_path).add(person(1), person(2))
    made.publish()
    return made


def assigned(table: str, **rest: str) -> dict:
    """Return [entitlements.NAME] of a table and of the one that says who has one."""
    singular = table.removesuffix("s")
    pairs = {"table": f"has_{singular}", "user": "person", "entitlement": singular}
    return {"table": table, "id": "id", "displayName": "name", "assignments": pairs, **rest}


@pytest.fixture
def linked(tmp_path):
    """Three people with groups, two types of entitlements and roles, published."""
    sections = {
        "groups": {
            "table": "teams",
            "id": "id",
            "displayName": "name",
            "members": {"table": "in_team", "group": "team", "user": "person"},
        },
        "entitlements": {
            "License": assigned("licenses"),
            "Profile": assigned("profiles", endpoint="/AccessProfiles"),
            "Role": assigned("roles", kind="role"),
        },
    }
    made = Directory(tmp_path, sections=sections).add(person(1), person(2), person(3))
    for table in ("teams", "licenses", "profiles", "roles"):
        made.run(f"CREATE TABLE {table} (id, name)")
        made.run(f"INSERT INTO {table} VALUES ('{table[0]}1', 'First'), ('{table[0]}2', 'Second')")
    made.run("CREATE TABLE in_team (person, team)").run("INSERT INTO in_team VALUES ('E00001', 't1'), ('E00002', 't1')")
    for kind in ("license", "profile", "role"):
        made.run(f"CREATE TABLE has_{kind} (person, {kind})")
        made.run(f"INSERT INTO has_{kind} VALUES ('E00001', '{kind[0]}1'), ('E00002', '{kind[0]}2')")
    made.publish()
    return made


@pytest.fixture
async def api(directory):
    async with serving(directory) as api:
        yield api


def filtered(base: str, text: str, rest: str = "") -> str:
    return f"{base}/Users?filter={quote(text, safe='')}{rest}"


async def pages(api, target: str, count: int) -> list:
    """Read a list to its end, as the agent does; return every answer."""
    answers, start = [], 1
    while True:
        answer = await api.get(f"{target}{'&' if '?' in target else '?'}startIndex={start}&count={count}")
        assert answer.status == 200, answer.body
        answers.append(answer)
        total, _, items = answer.numbers
        start += items
        if start > total or not items:
            return answers


async def test_vector_01_service_provider_configs(api):
    """The agent's first request gets both schema URNs and exactly the import-only capabilities."""
    answer = await api.get("v1/ServiceProviderConfigs")
    assert answer.status == 200
    assert answer.json["schemas"] == [CORE, OKTA]
    assert IMPORT_ONLY == answer.json[OKTA]["userManagementCapabilities"]
    assert answer.json["filter"]["maxResults"] >= 200
    assert answer.json["authenticationSchemes"][0]["type"] == "httpbasic"


@pytest.mark.parametrize(
    "auth", [None, basic(password="wrong"), basic(user="nobody"), "Basic !!!", "Basic", "Digest x"]
)
@pytest.mark.parametrize("path", ["ServiceProviderConfigs", "Users", "nowhere", "Bulk", ""])
@BASES
async def test_vector_02_bad_credentials(api, base, path, auth):
    """Missing or wrong credentials are 401 with a challenge and a body, on every path of a base."""
    for method in ("GET", "POST", "DELETE"):
        answer = await api.send(method, f"{base}/{path}", auth=auth)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith('Basic realm="')
        assert answer.json["detail"]
        if base == "v2":
            assert answer.json["schemas"] == [ERROR]
            assert answer.json["status"] == "401"


@pytest.mark.parametrize(
    ("target", "schema"),
    [
        ("v1/ServiceProviderConfig", CORE),
        ("v2/ServiceProviderConfigs", "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"),
        ("v2/ServiceProviderConfig", "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"),
    ],
)
async def test_vector_03_both_spellings(api, target, schema):
    """Both spellings answer in the dialect of their base path, with the Okta extension."""
    answer = await api.get(target)
    assert answer.status == 200
    assert answer.json["schemas"] == [schema, OKTA]
    assert IMPORT_ONLY == answer.json[OKTA]["userManagementCapabilities"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["ServiceProviderConfigs", "ServiceProviderConfig", "ResourceTypes", "Schemas"])
@BASES
async def test_vector_04_discovery_is_read_only(api, base, path, method):
    """Discovery refuses every write with 405."""
    answer = await api.send(method, f"{base}/{path}", json={})
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "Users", 405),
        ("PUT", "Users/E00001", 405),
        ("PATCH", "Users/E00001", 405),
        ("DELETE", "Users/E00001", 405),
        ("PUT", "Users/x", 405),
        ("PATCH", "Users/x", 405),
        ("DELETE", "Users/x", 405),
        ("POST", "Groups", 405),
        ("PUT", "Groups/x", 405),
        ("PATCH", "Groups/x", 405),
        ("DELETE", "Groups/x", 405),
        ("POST", "Bulk", 501),
        ("GET", "Me", 501),
    ],
)
@BASES
async def test_vector_05_writes_are_refused(api, base, method, path, status):
    """A write gets a SCIM error that says what is allowed, whatever is sent, and changes nothing."""
    before = await api.get(f"{base}/Users")
    answer = await api.send(method, f"{base}/{path}", data=b"<not json", headers={"Content-Type": "text/xml"})
    assert answer.status == status
    answer = await api.send(method, f"{base}/{path}", json={"active": False})
    assert answer.status == status
    if base == "v1":
        assert (status, answer.json["detail"]) == parse_error(answer.body)
    else:
        assert (status, answer.json["detail"]) == _error_2_0(answer)
    if status == 405:
        assert answer.headers["Allow"] == "GET, HEAD"
    assert before.body == (await api.get(f"{base}/Users")).body


def _error_2_0(answer) -> tuple[int, str]:
    error = Error.model_validate_json(answer.body)
    return error.status, error.detail


async def test_vector_06_empty_groups(api):
    """Groups is an empty list while no groups are configured, so that the import goes on to Users."""
    answer = await api.get("v1/Groups?startIndex=1&count=200")
    assert answer.status == 200
    assert answer.numbers == (0, 1, 0)
    assert answer.json["Resources"] == []
    assert answer.json["schemas"] == [CORE]


async def test_vector_07_two_users_on_one_page(api):
    """A page of 200 with two people has integers that are true."""
    answer = await api.get("v1/Users?startIndex=1&count=200")
    assert answer.status == 200
    assert answer.numbers == (2, 1, 2)
    assert list(answer.json) == ["schemas", "totalResults", "startIndex", "itemsPerPage", "Resources"]


@BASES
async def test_vector_08_parameters_in_other_order(api, base):
    """The order of parameters does not matter, and a user has what Okta requires."""
    answer = await api.get(f"{base}/Users?count=1&startIndex=1")
    assert answer.numbers == (2, 1, 1)
    (user,) = answer.json["Resources"]
    assert user["id"]
    assert user["userName"]
    assert user["name"]["givenName"]
    assert user["name"]["familyName"]
    assert user["active"] is True
    assert user["emails"][0]["value"]


@BASES
async def test_vector_09_six_pages(tmp_path, base):
    """1001 people in pages of 200 are six pages that hold each person once."""
    directory = Directory(tmp_path).add(*[person(number) for number in range(1001)])
    directory.publish()
    async with serving(directory) as api:
        answers = await pages(api, f"{base}/Users", 200)
    assert [200] * 5 + [1] == [answer.numbers[2] for answer in answers]
    assert {answer.numbers[0] for answer in answers} == {1001}
    ids = [item for answer in answers for item in answer.ids]
    assert len(ids) == 1001
    assert {f"E{number:05d}" for number in range(1001)} == set(ids)


async def test_vector_10_refresh_in_the_middle_of_an_import(tmp_path):
    """A refresh between page 2 and 3 changes nothing in the run that is under way."""
    directory = Directory(tmp_path).add(*[person(number) for number in range(10)])
    directory.publish()
    async with serving(directory) as api:
        assert (await api.get("v1/Groups?startIndex=1&count=3")).status == 200
        ids = (await api.get("v1/Users?startIndex=1&count=3")).ids
        ids += (await api.get("v1/Users?startIndex=4&count=3")).ids
        directory.run("DELETE FROM people WHERE id IN ('E00000', 'E00007')").add(person(20), person(21, id="A1"))
        directory.publish()
        await api.follow()
        third = await api.get("v1/Users?startIndex=7&count=3")
        fourth = await api.get("v1/Users?startIndex=10&count=3")
        assert api.live.current.generation == 2
        assert third.numbers == (10, 7, 3)
        assert [f"E{number:05d}" for number in range(10)] == ids + third.ids + fourth.ids
        # the next run sees the new generation; the two without a row are sent as inactive
        following = await api.get("v1/Users?startIndex=1&count=200")
        assert following.numbers == (12, 1, 12)
        gone = [user["id"] for user in following.json["Resources"] if not user["active"]]
        assert ["E00000", "E00007"] == sorted(gone)
        assert "E00020" in (await api.get("v1/Users?startIndex=1&count=200")).ids


@BASES
async def test_vector_11_past_the_end(api, base):
    """A page past the end is empty and keeps the total."""
    answer = await api.get(f"{base}/Users?startIndex=3&count=10")
    assert answer.status == 200
    assert answer.numbers == (2, 3, 0)


@BASES
async def test_vector_12_count_zero(api, base):
    """count=0 asks for the total only."""
    answer = await api.get(f"{base}/Users?count=0")
    assert answer.status == 200
    assert answer.numbers == (2, 1, 0)


@pytest.mark.parametrize("count", ["1000000", "99999999999999999999", "9" * 5000])
@BASES
async def test_vector_13_huge_count(api, base, count):
    """A huge count is no error and itemsPerPage stays true."""
    answer = await api.get(f"{base}/Users?count={count}")
    assert answer.status == 200
    assert answer.numbers == (2, 1, 2)


@pytest.mark.parametrize("start", ["0", "-5", "-99999999999999999999", "%2B1", "01"])
@BASES
async def test_vector_14_start_index_below_one(api, base, start):
    """A startIndex below 1 means 1 and is told as 1."""
    answer = await api.get(f"{base}/Users?startIndex={start}")
    assert answer.numbers == (2, 1, 2)


@pytest.mark.parametrize(
    "query", ["startIndex=abc", "count=1.5", "count=", "startIndex=1e3", "count=%C2%B2", "count=1&count=2", "count=0x1"]
)
@BASES
async def test_vector_14_not_an_integer(api, base, query):
    """What is not an integer is a 400 in SCIM shape, never a 500."""
    answer = await api.get(f"{base}/Users?{query}")
    assert answer.status == 400
    if base == "v2":
        assert answer.json["scimType"] == "invalidValue"


async def test_vector_14_negative_count(api):
    """A negative count means 0 (RFC 7644 section 3.4.2.4)."""
    assert (await api.get("v2/Users?count=-1")).numbers == (2, 1, 0)


@BASES
async def test_vector_15_defaults(tmp_path, base):
    """Without parameters a list begins at 1 and has at most 100 resources."""
    directory = Directory(tmp_path).add(*[person(number) for number in range(101)])
    directory.publish()
    async with serving(directory) as api:
        assert (await api.get(f"{base}/Users")).numbers == (101, 1, 100)


async def test_vector_16_filter_by_user_name(api):
    """The agent's matching request finds exactly that user."""
    answer = await api.get(filtered("v1", 'userName eq "user2@example.com"', "&startIndex=1&count=200"))
    assert answer.ids == ["E00002"]
    assert answer.numbers == (1, 1, 1)


@pytest.mark.parametrize(
    "text",
    [
        'userName eq "USER2@EXAMPLE.COM"',
        'userName EQ "user2@example.com"',
        'USERNAME eq "user2@example.com"',
        'uSERnAME Eq "User2@Example.com"',
    ],
)
@BASES
async def test_vector_17_filter_without_case(api, base, text):
    """Attribute, operator and value are compared without case; + stands for a blank as %20 does."""
    assert (await api.get(filtered(base, text))).ids == ["E00002"]
    assert (await api.get(f"{base}/Users?filter={quote_plus(text)}")).ids == ["E00002"]


@BASES
async def test_vector_18_no_match(api, base):
    """An unknown user name is an empty list, not a 404."""
    answer = await api.get(filtered(base, 'userName eq "nobody@example.com"'))
    assert answer.status == 200
    assert answer.numbers == (0, 1, 0)
    assert answer.json["schemas"] == [CORE if base == "v1" else LIST]


@pytest.mark.parametrize(
    "login", ["o'brien", 'say "hi"', "100%", "a+b@example.com", "Zoë.Ålvarez", "back\\slash", "x' OR '1'='1", "名前"]
)
@BASES
async def test_vector_19_odd_characters_in_a_filter(tmp_path, base, login):
    """Quotes, per cent, plus and other scripts match exactly one user; nothing is injected."""
    directory = Directory(tmp_path).add(person(1), person(2, login=login), person(3))
    directory.publish()
    text = 'userName eq "{}"'.format(login.replace("\\", "\\\\").replace('"', '\\"'))
    async with serving(directory) as api:
        assert (await api.get(filtered(base, text))).ids == ["E00002"]


@pytest.mark.parametrize(
    "text", ["SOMETHINGWITHOUTOPERATOR", "", "   ", 'userName zz "x"', 'userName eq "x', "userName eq"]
)
@BASES
async def test_vector_20_broken_filter(api, base, text):
    """A broken filter is a 400 invalidFilter."""
    answer = await api.get(filtered(base, text))
    assert answer.status == 400
    if base == "v2":
        assert answer.json["scimType"] == "invalidFilter"


@pytest.mark.parametrize(
    "text",
    [
        'id eq "E00002"',
        'externalId eq "2"',
        'name.givenName eq "Given2"',
        f'{CUSTOM_URN}:badge eq "B-2"',
        f'{ENTERPRISE_1_1}:employeeNumber eq "2"',
        f'{ENTERPRISE_1_1}.employeeNumber eq "2"',
        'urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber eq "2"',
    ],
)
@BASES
async def test_vector_21_other_attributes(api, base, text):
    """Users are found by id, external id, name, custom and enterprise attributes, dot or colon."""
    assert (await api.get(filtered(base, text))).ids == ["E00002"]


@pytest.mark.parametrize("attribute", ["email", "emails", "emails.value"])
@BASES
async def test_vector_22_several_addresses(api, base, attribute):
    """ORed addresses give the union, each user once."""
    text = " OR ".join(f'{attribute} eq "user{number}@example.com"' for number in (1, 2, 1))
    assert (await api.get(filtered(base, text))).ids == ["E00001", "E00002"]


@BASES
async def test_vector_23_incremental(directory, base):
    """meta.lastModified gt answers the users published after that instant, whole, in every spelling of it."""
    wait_a_tick()
    first = directory.publish()
    wait_a_tick()
    directory.run("UPDATE people SET first = 'Changed' WHERE id = 'E00002'")
    directory.publish()
    instant = first.created_at
    spellings = [
        f'meta.lastModified gt "{instant}"',
        f"meta.lastModified gt \u201c{instant}\u201d",
        f"meta.lastModified gt {instant}",
        f'meta.lastModified gt "{instant.removesuffix("Z")}+00:00"',
    ]
    async with serving(directory) as api:
        for text in spellings:
            answer = await api.get(filtered(base, text, "&startIndex=1&count=200"))
            assert answer.status == 200
            assert answer.ids == ["E00002"]
            assert answer.numbers == (1, 1, 1)
            assert answer.json["Resources"][0] == (await api.get(f"{base}/Users/E00002")).json
        for early in ('"2020-04-07T14:19:34Z"', "2020-04-07T14:19:34.000Z", "2020-04-07"):
            assert (await api.get(filtered(base, f"meta.lastModified gt {early}"))).numbers == (2, 1, 2)


async def test_vector_24_incremental_over_pages_and_a_refresh(tmp_path):
    """An incremental import of several pages sees one generation although a refresh falls into it."""
    directory = Directory(tmp_path).add(*[person(number) for number in range(10)])
    directory.publish()
    text = 'meta.lastModified gt "2020-01-01T00:00:00Z"'
    async with serving(directory) as api:
        ids = (await api.get(filtered("v2", text, "&startIndex=1&count=4"))).ids
        directory.run("DELETE FROM people WHERE id < 'E00005'")
        directory.publish()
        await api.follow()
        for start in (5, 9):
            answer = await api.get(filtered("v2", text, f"&startIndex={start}&count=4"))
            assert answer.numbers[:2] == (10, start)
            ids += answer.ids
        assert [f"E{number:05d}" for number in range(10)] == ids
        assert api.live.current.generation == 2


@BASES
async def test_vector_25_incremental_of_the_future(api, base):
    """Nothing is newer than a future instant: an empty list."""
    answer = await api.get(filtered(base, 'meta.lastModified gt "2999-01-01T00:00:00Z"'))
    assert answer.status == 200
    assert answer.numbers == (0, 1, 0)


@pytest.mark.parametrize(
    ("statement", "changed"),
    [
        ("INSERT INTO in_team VALUES ('E00003', 't2')", {"Users": ["E00003"], "Groups": ["t2"]}),
        ("DELETE FROM in_team WHERE person = 'E00002'", {"Users": ["E00002"], "Groups": ["t1"]}),
        ("UPDATE teams SET name = 'Renamed' WHERE id = 't1'", {"Users": ["E00001", "E00002"], "Groups": ["t1"]}),
        ("INSERT INTO has_license VALUES ('E00003', 'l1')", {"Users": ["E00003"]}),
        ("DELETE FROM has_role WHERE person = 'E00001'", {"Users": ["E00001"]}),
        ("UPDATE profiles SET name = 'Renamed' WHERE id = 'p2'", {"Users": ["E00002"], "AccessProfiles": ["p2"]}),
    ],
)
async def test_vector_26_only_a_membership_or_an_assignment_changes(linked, statement, changed):
    """Rows that stay as they are, and belong to something else: the next incremental import has these people, whole."""
    wait_a_tick()
    instant = linked.publish().created_at
    wait_a_tick()
    linked.run(statement).publish()
    text = quote(f'meta.lastModified gt "{instant}"', safe="")
    async with serving(linked) as api:
        for endpoint in ("Groups", "Users", "Licenses", "AccessProfiles", "Roles"):
            answer = await api.get(f"v2/{endpoint}?filter={text}&startIndex=1&count=200")
            assert changed.get(endpoint, []) == answer.ids
            for item in answer.json["Resources"]:
                assert item == (await api.get(f"v2/{endpoint}/{item['id']}")).json
        assert changed["Users"] == (await api.get(f"v1/Users?filter={text}")).ids


async def test_vector_27_unchanged_rows_keep_their_time(directory):
    """A row that does not change keeps its lastModified over refreshes and restarts."""
    async with serving(directory) as api:
        before = (await api.get("v2/Users/E00001")).json["meta"]
    for _ in range(3):
        wait_a_tick()
        directory.publish()
    async with serving(directory) as api:
        assert before == (await api.get("v2/Users/E00001")).json["meta"]


async def test_vector_28_deactivated_and_deleted(directory):
    """A leaver and a deleted row come in the incremental list as inactive; later the deleted one is absent."""
    wait_a_tick()
    instant = directory.publish().created_at
    wait_a_tick()
    directory.run("UPDATE people SET state = 'T' WHERE id = 'E00001'").run("DELETE FROM people WHERE id = 'E00002'")
    directory.publish()
    async with serving(directory) as api:
        changed = await api.get(filtered("v1", f'meta.lastModified gt "{instant}"'))
        assert changed.ids == ["E00001", "E00002"]
        assert [False, False] == [user["active"] for user in changed.json["Resources"]]
        assert (await api.get("v1/Users")).ids == ["E00001", "E00002"]
        omit = msgspec.structs.replace(directory.config.policy, on_removed="omit")
        directory.config = msgspec.structs.replace(directory.config, policy=omit)
        directory.publish()
        await api.follow()
        assert (await api.get("v1/Users")).ids == ["E00001"]


@pytest.mark.parametrize(
    "key", ["john.wick%40id-engine.com", "a%20b", "a%2Fb", "a%2fb", "a+b", "Zo%C3%AB", "%25", "a%2520b"]
)
@BASES
async def test_vector_29_ids_in_the_path(tmp_path, base, key):
    """An id is decoded exactly once, whatever it holds."""
    raw = {
        "john.wick%40id-engine.com": "john.wick@id-engine.com",
        "a%20b": "a b",
        "a%2Fb": "a/b",
        "a%2fb": "a/b",
        "a+b": "a+b",
        "Zo%C3%AB": "Zoë",
        "%25": "%",
        "a%2520b": "a%20b",
    }[key]
    directory = Directory(tmp_path).add(person(1), person(2, id=raw), person(3, id="a"))
    directory.publish()
    async with serving(directory) as api:
        answer = await api.get(f"{base}/Users/{key}")
        assert answer.status == 200
        assert raw == answer.json["id"]
        location = answer.json["meta"]["location"].removeprefix("https://scim.example.com/scim/")
        assert raw == (await api.get(location)).json["id"]


async def test_vector_30_unknown_user_1_1(api):
    """An unknown user in 1.1 is a 404 with Errors and a detail."""
    answer = await api.get("v1/Users/nope")
    assert answer.status == 404
    assert answer.json["Errors"][0]["code"] == "404"
    assert answer.json["Errors"][0]["description"]
    assert answer.json["detail"]


async def test_vector_31_unknown_user_2_0(api):
    """An unknown user in 2.0 is a 404 in the Error schema, the status a string."""
    answer = await api.get("v2/Users/nope")
    assert answer.status == 404
    assert answer.json["schemas"] == [ERROR]
    assert answer.json["status"] == "404"
    assert answer.json["detail"]
    assert answer.headers["Content-Type"].startswith("application/scim+json")


ODD_PEOPLE = [
    person(1),
    person(2, mail=None, phone=None, first=None, last=None),
    person(3, dept=None, number=None, badge=None),
    person(4, home_mail="x@home.example", state="T"),
]


async def test_vector_32_every_user_passes_a_strict_1_1_parser(tmp_path):
    """Every 1.1 user obeys the rules of the parser that the agent's error message is known from."""
    mapping = {"enterprise": {"department": "dept", "employeeNumber": "number", "manager": "badge"}}
    directory = Directory(tmp_path, mapping=mapping).add(*ODD_PEOPLE)
    directory.publish()
    async with serving(directory) as api:
        total, users = read_list("User", (await api.get("v1/Users")).body)
        assert (4, 4) == (total, len(users))
        _, groups = read_list("Group", (await api.get("v1/Groups")).body)
        assert [] == groups


async def test_vector_33_schemas_of_2_0_users(tmp_path):
    """Every 2.0 user lists exactly the URNs that it uses and says that it is a User."""
    directory = Directory(tmp_path).add(*ODD_PEOPLE)
    directory.publish()
    async with serving(directory) as api:
        users = (await api.get("v2/Users")).json["Resources"]
    assert len(users) == 4
    for user in users:
        used = {name for name in user if name.startswith("urn:")}
        assert set(user["schemas"]) == used | {"urn:ietf:params:scim:schemas:core:2.0:User"}
        assert user["meta"]["resourceType"] == "User"


@pytest.mark.parametrize(
    "target", ["v1//Users?startIndex=1&count=2", "v1/Users/?startIndex=1&count=2", "/scim//v1///Users//?count=2"]
)
async def test_vector_34_slashes(api, target):
    """Doubled and trailing slashes change nothing: Okta's base URL ends with one."""
    expected = await api.get("v1/Users?startIndex=1&count=2")
    assert expected.body == (await api.get(target)).body


@pytest.mark.parametrize("accept", ["application/json", "application/scim+json", "*/*", "text/html", None])
@BASES
async def test_vector_35_any_accept(api, base, accept):
    """No Accept, Accept-Charset or Content-Type of a GET is ever refused; the answer is JSON in UTF-8."""
    headers = {"Content-Type": "application/xml", "Accept-Charset": "utf-8"}
    if accept:
        headers["Accept"] = accept
    answer = await api.get(f"{base}/Users", headers=headers)
    assert answer.status == 200
    assert answer.headers["Content-Type"].endswith("json; charset=utf-8")
    assert answer.json["Resources"][0]["name"]["familyName"] == "Łukasz"


@pytest.mark.parametrize(
    ("credential", "good", "bad"),
    [
        (
            {"type": "basic", "username": "u", "password": "p"},
            {"Authorization": basic("u", "p")},
            {"Authorization": basic("u", "q")},
        ),
        (
            {"type": "basic", "username": "u", "password": "p"},
            {"Authorization": basic("u", "p").replace("Basic", "bAsIc")},
            {"Authorization": "Bearer p"},
        ),
        ({"type": "bearer", "token": "t"}, {"Authorization": "Bearer t"}, {"Authorization": "Bearer T"}),
        ({"type": "bearer", "token": "t"}, {"Authorization": "bearer t"}, {"X-Api-Key": "t"}),
        ({"type": "header", "header": "X-Api-Key", "token": "t"}, {"x-api-key": "t"}, {"X-Api-Key": "u"}),
        (
            {"type": "header", "header": "Authorization", "token": "Bearer t"},
            {"Authorization": "Bearer t"},
            {"Authorization": "t"},
        ),
    ],
)
async def test_vector_36_kinds_of_credentials(tmp_path, credential, good, bad):
    """Each configured kind lets in who has it and refuses the rest."""
    directory = Directory(tmp_path, auth=[credential]).add(person(1))
    directory.publish()
    async with serving(directory) as api:
        assert (await api.get("v1/Users", auth=None, headers=good)).status == 200
        assert (await api.get("v1/Users", auth=None, headers=bad)).status == 401
        assert (await api.get("v1/Users", auth=None)).status == 401


async def test_vector_37_resource_types_and_schemas(api):
    """ResourceTypes and Schemas are lists with integers, User and Group in both; 1.1 has them too."""
    types = await api.get("v2/ResourceTypes")
    assert types.numbers == (2, 1, 2)
    assert types.json["schemas"] == [LIST]
    assert [item["name"] for item in types.json["Resources"]] == ["User", "Group"]
    schemas = await api.get("v2/Schemas")
    assert schemas.numbers == (4, 1, 4)
    old_types, old_schemas = await api.get("v1/ResourceTypes"), await api.get("v1/Schemas")
    assert old_types.numbers == (2, 1, 2)
    assert CORE in old_types.json["schemas"]
    assert f"{CORE}:ListResponse" in old_schemas.json["schemas"]
    assert old_schemas.json["Resources"][0]["attributes"]


async def test_vector_37_types_of_roles_and_entitlements(linked):
    """Each type has Okta's URN, its own endpoint and an entry in Schemas; SCIM 1.1 does not know them."""
    async with serving(linked) as api:
        types = await api.get("v2/ResourceTypes")
        assert (5, 1, 5) == types.numbers
        assert [
            ("License", "/Licenses", OKTA_ENTITLEMENT),
            ("Profile", "/AccessProfiles", OKTA_ENTITLEMENT),
            ("Role", "/Roles", OKTA_ROLE),
        ] == [(item["name"], item["endpoint"], item["schema"]) for item in types.json["Resources"][2:]]
        for urn, names in ((OKTA_ENTITLEMENT, ["displayName", "type"]), (OKTA_ROLE, ["displayName"])):
            described = (await api.get(f"v2/Schemas/{urn}")).json["attributes"]
            assert names == [item["name"] for item in described]
        found = {
            version: (await api.get(f"{version}/ServiceProviderConfig")).json[OKTA]["userManagementCapabilities"]
            for version in ("v1", "v2")
        }
        assert {"v1": IMPORT_ONLY, "v2": [*IMPORT_ONLY, "IMPORT_USER_SCHEMA"]} == found
        assert (2, 1, 2) == (await api.get("v1/ResourceTypes")).numbers
        assert 404 == (await api.get("v1/Licenses")).status


@pytest.mark.parametrize(
    ("endpoint", "first", "kind"),
    [("Licenses", "l1", "License"), ("AccessProfiles", "p1", "Profile"), ("Roles", "r1", None)],
)
async def test_vector_38_each_endpoint_of_entitlements(linked, endpoint, first, kind):
    """A page of one holds one, whole; its type is the name of the resource type. Roles have no type."""
    async with serving(linked) as api:
        answer = await api.get(f"v2/{endpoint}?count=1&startIndex=1")
        assert (2, 1, 1) == answer.numbers
        assert [LIST] == answer.json["schemas"]
        (found,) = answer.json["Resources"]
        assert (first, "First") == (found["id"], found["displayName"])
        assert kind == found.get("type")
        assert found == (await api.get(f"v2/{endpoint}/{found['id']}")).json


async def test_vector_39_values_are_ids_in_the_same_snapshot(linked):
    """Whatever users are said to have is served under its id and name, though a refresh takes it away meanwhile."""
    async with serving(linked) as api:
        groups = await pages(api, "v2/Groups", 1)
        users = await pages(api, "v2/Users", 2)
        for table in ("licenses", "profiles", "roles"):
            linked.run(f"DELETE FROM {table} WHERE name = 'First'").run(f"UPDATE {table} SET name = 'Other'")
        linked.publish()
        await api.follow()
        served = {("Group", item["id"]): item["displayName"] for page in groups for item in page.json["Resources"]}
        for name, endpoint in (("License", "Licenses"), ("Profile", "AccessProfiles"), ("Role", "Roles")):
            for page in await pages(api, f"v2/{endpoint}", 1):
                served |= {(name, item["id"]): item["displayName"] for item in page.json["Resources"]}
        attributes = {"groups": "Group", "roles": "Role", "entitlements": ""}
        named = [
            ((kind or entry["type"], entry["value"]), entry["display"])
            for page in users
            for user in page.json["Resources"]
            for attribute, kind in attributes.items()
            for entry in user.get(attribute, ())
        ]
        assert 8 == len(named)
        assert set(named) <= set(served.items())
        # The next import sees what is there now.
        await pages(api, "v2/Groups", 10)
        assert ["l2"] == (await api.get("v2/Licenses")).ids
        assert "entitlements" not in (await api.get("v2/Users/E00001")).json


async def test_vector_40_database_down_with_a_snapshot(directory):
    """When a refresh fails, lists go on from the last good snapshot and /health tells its age."""
    async with serving(directory) as api:
        (directory.folder / "people.db").unlink()
        with pytest.raises(SourceError):
            directory.publish()
        await api.follow()
        assert (await api.get("v1/Users")).numbers == (2, 1, 2)
        health = await api.get("/health", auth=None)
        assert health.status == 200
        assert health.json["snapshot_age_seconds"] >= 0


async def test_vector_41_database_down_without_a_snapshot(tmp_path):
    """Before the first snapshot Users is a 503, never an empty list; the configuration is answered."""
    async with serving(Directory(tmp_path)) as api:
        for base in ("v1", "v2"):
            for path in ("Users", "Users/E00001", "Groups", "Users?startIndex=5"):
                answer = await api.get(f"{base}/{path}")
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) > 0
                assert answer.json["detail"]
        assert (await api.get("v1/ServiceProviderConfigs")).status == 200
        assert (await api.get("v2/Schemas")).status == 200
        assert (await api.get("/health", auth=None)).status == 503


async def test_vector_42_truncated_table(tmp_path):
    """A refresh that would drop most people is not published; the old snapshot goes on being served."""
    directory = Directory(tmp_path).add(*[person(number) for number in range(100)])
    guarded = msgspec.structs.replace(directory.config.guard, enabled=True)
    directory.config = msgspec.structs.replace(directory.config, guard=guarded)
    directory.publish()
    async with serving(directory) as api:
        directory.run("DELETE FROM people WHERE id > 'E00010'")
        with pytest.raises(PublishRefusedError):
            directory.publish()
        await api.follow()
        assert (await api.get("v1/Users")).numbers == (100, 1, 100)


async def test_vector_43_duplicate_and_null_ids(tmp_path):
    """Rows with a null or double id or user name never become two resources with one id."""
    rows = [person(1), person(1, first="Other"), person(2, id=None), person(3, login="USER1@example.com")]
    directory = Directory(tmp_path).add(*rows, person(4))
    manifest = directory.publish()
    assert manifest.rejects == 3
    async with serving(directory) as api:
        ids = (await api.get("v1/Users")).ids
        assert len(set(ids)) == len(ids) == 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", True),
        ("0", False),
        ("N", False),
        ("false", False),
        ("Terminated", False),
        ("514", False),
        ("Active", True),
    ],
)
async def test_vector_44_active_by_rule(tmp_path, value, expected):
    """Active follows the configured values; "0", "N" and 514 are inactive."""
    rule = {"column": "state", "true": ["1", "Active"], "false": ["0", "N", "false", "Terminated", "514"]}
    directory = Directory(tmp_path, mapping={"active": rule}).add(person(1, state=value))
    directory.publish()
    async with serving(directory) as api:
        assert expected is (await api.get("v1/Users")).json["Resources"][0]["active"]


async def test_vector_44_null_is_no_state(tmp_path):
    """A person whose active column is NULL is a reject, unless a default is configured; never active by accident."""
    rule = {"column": "state", "true": ["1"], "false": ["0"]}
    directory = Directory(tmp_path, mapping={"active": rule}).add(person(1, state=None), person(2, state="1"))
    assert 1 == directory.publish().rejects
    async with serving(directory) as api:
        assert ["E00002"] == (await api.get("v1/Users")).ids


@pytest.mark.slow
async def test_vector_45_latency(tmp_path):
    """With 100,000 people a page of 200 and a look-up by user name stay well under 400 ms."""
    directory = Directory(tmp_path).add(*[person(number) for number in range(100_000)])
    directory.publish()
    async with serving(directory) as api:
        for target in ("v1/Users?startIndex=50001&count=200", filtered("v1", 'userName eq "user777@example.com"')):
            await api.get("v1/Users?startIndex=1&count=200")
            seconds = []
            for _ in range(5):
                began = time.perf_counter()
                assert (await api.get(target)).status == 200
                seconds.append(time.perf_counter() - began)
            assert min(seconds) < 0.4


async def test_vector_46_large_headers(api, caplog):
    """20 KB of headers are served, more than 32 KB get a 431; their values are never logged."""
    caplog.set_level(logging.DEBUG)
    answer = await api.get("v1/Users", headers={"X-OKTA-ONPREM-DATA": "c2VjcmV0" * 2560})
    assert answer.status == 200
    answer = await api.get("v1/Users", headers={"X-OKTA-ONPREM-DATA": "c2VjcmV0" * 5000})
    assert answer.status == 431
    assert answer.json["Errors"][0]["code"] == "431"
    assert "c2VjcmV0" not in caplog.text
    assert all("c2VjcmV0" not in str(record.__dict__) for record in caplog.records)


async def test_vector_47_drop_in_for_the_old_connector(tmp_path, monkeypatch):
    """With the old connector's variables alone, its paths, keys and defaults answer."""
    monkeypatch.chdir(tmp_path)
    config = environment_config(
        {"DB_SERVER": "sql01", "DB_NAME": "hr", "DB_USERNAME": "u", "DB_PASSWORD": "p", "SCIM_PASSWORD": PASSWORD}
    )
    directory = Directory(tmp_path)
    columns = "id, username, email, first_name, last_name, display_name, active, external_id"
    directory.run(f"CREATE TABLE users ({columns})")
    for number in range(120):
        directory.run(
            "INSERT INTO users VALUES (?, ?, ?, 'A', 'B', 'A B', 1, ?)",
            number + 1,
            f"u{number}",
            f"u{number}@x.example",
            number,
        )
    source = Source(driver="sqlite", path="people.db", users=UsersQuery(table="users"))
    server = msgspec.structs.replace(config.server, host="127.0.0.1", port=0)
    directory.config = msgspec.structs.replace(config, source=source, server=server)
    run_refresh(directory.config)
    good = basic("okta_import", PASSWORD)
    async with serving(directory) as api:
        users = await api.get("/scim/v2/Users?startIndex=1&count=100", auth=good)
        assert users.numbers == (120, 1, 100)
        assert users.json["schemas"] == [CORE]
        expected = {"id", "userName", "name", "emails", "active", "displayName", "externalId"}
        assert expected <= set(users.json["Resources"][0])
        assert (await api.get("/scim/v2/Users", auth=good)).numbers == (120, 1, 100)
        health = await api.get("/health", auth=None)
        assert health.status == 200
        assert health.json["status"] == "healthy"
        assert {"status", "database", "timestamp"} <= set(health.json)
        assert (await api.get("/", auth=None)).status == 200
        assert (await api.get("/scim/v2/ServiceProviderConfig", auth=good)).status == 200


@BASES
async def test_vector_48_probe_of_the_cloud_client(api, base):
    """The cloud client's two probes are answered."""
    users, groups = await asyncio.gather(
        api.get(f"{base}/Users?startIndex=1&count=2"), api.get(f"{base}/Groups?startIndex=1&count=100")
    )
    assert users.numbers == (2, 1, 2)
    assert groups.numbers == (0, 1, 0)
