"""One server for two apps: each has its own paths, people, credentials and operations, and no way to the other."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from urllib.parse import quote

import aiohttp
import msgspec
import pytest
from apps_folder import ADMIN_TOKEN, PASSWORDS, AppsFolder
from people_folder import people
from server_fixtures import Answer, Api
from yarl import URL

from server.app import create_instance_app
from server.directory import Directory
from server.keys import DIRECTORIES
from server.listener import Listener
from server.live import LiveSnapshot
from snapshot import control
from snapshot.errors import PublishRefusedError
from snapshot.store import generation_directory, write_manifest

NAMES = ("hr", "partners")
BASES = ("/hr/scim/v1", "/hr/scim/v2", "/partners/scim/v1", "/partners/scim/v2")
ADMIN = f"Bearer {ADMIN_TOKEN}"


def key_of(name: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{PASSWORDS[name]}".encode()).decode()


class Client(Api):
    """Asks with the credential of the app whose path it is, or with that of administrators."""

    async def send(self, method: str, target: str, *, auth: str | None = "", **options) -> Answer:
        name = target.split("/")[1]
        if auth == "":
            auth = key_of(name) if name in NAMES else ADMIN
        headers = {"Authorization": auth} if auth is not None else {}
        url = URL(f"http://127.0.0.1:{self.port}{target}", encoded=True)
        async with self._session.request(method, url, headers=headers, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    def app(self, name: str) -> Directory:
        return self.listener._app[DIRECTORIES].named(name)

    async def follow(self) -> None:
        for name in NAMES:
            await self.app(name).live.poll()


@contextlib.asynccontextmanager
async def serving(folder: AppsFolder, *names: str):
    """Serve the apps of these names on a free port, both by default."""
    instance = folder.instance
    configs = [app for app in instance.apps if app.name in (names or NAMES)]
    directories = [Directory(config, LiveSnapshot(config.data_dir)) for config in configs]
    for directory in directories:
        await directory.live.poll()
    listener = Listener(create_instance_app(directories))
    addresses = await listener.start()
    try:
        async with aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as session:
            yield Client(session, addresses[0][1], listener, directories[0].live)
    finally:
        await listener.stop()


@pytest.fixture
def apps(tmp_path):
    """Two apps with three and five people, published."""
    folder = AppsFolder(tmp_path)
    folder.hr.publish(people(3))
    folder.partners.publish(people(5))
    return folder


@pytest.fixture
async def api(apps):
    async with serving(apps) as api:
        yield api


# --- paths and people ---


@pytest.mark.parametrize("base", BASES)
async def test_each_path_has_the_people_of_its_app(api, base):
    """A base path answers with the people of its app, mapped as that app says, located below it."""
    answer = await api.get(f"{base}/Users")
    hr = base.startswith("/hr")
    expected = [f"E0000{n}" for n in range(1, 4)] if hr else [f"user{n}@example.com" for n in range(1, 6)]
    assert expected == answer.ids
    users = answer.json["Resources"]
    assert {("emails" in user, "nickName" in user) for user in users} == {(hr, not hr)}
    assert all(user["meta"]["location"].startswith(f"https://scim.example.com{base}/Users/") for user in users)
    other = "user1@example.com" if hr else "E00001"
    assert 404 == (await api.get(f"{base}/Users/{quote(other)}")).status


@pytest.mark.parametrize("path", ["/scim/v2/Users", "/hr/Users", "/hr/scim/Users", "/nobody/scim/v2/Users", "/hr"])
async def test_no_other_path(api, path):
    """There is nothing at the paths that one app alone would have, nor at any other."""
    assert 404 == (await api.get(path)).status


async def test_discovery_is_about_one_app(apps):
    """Page sizes, ways to authenticate and schemas are those of the app that the path belongs to."""
    apps.partners.settings["server"] |= {"max_count": 200, "auth": [{"type": "bearer", "token": "t"}]}
    async with serving(apps) as api:
        found = {}
        for name, auth in (("hr", key_of("hr")), ("partners", "Bearer t")):
            document = (await api.get(f"/{name}/scim/v2/ServiceProviderConfig", auth=auth)).json
            schemas = (await api.get(f"/{name}/scim/v2/Schemas", auth=auth)).json["Resources"]
            user = next(item for item in schemas if item["name"] == "User")
            assert user["meta"]["location"].startswith(f"https://scim.example.com/{name}/scim/v2/")
            kinds = [item["type"] for item in document["authenticationSchemes"]]
            names = {item["name"] for item in user["attributes"]} & {"emails", "nickName"}
            found[name] = (document["filter"]["maxResults"], kinds, names)
        assert found == {
            "hr": (10_000, ["httpbasic"], {"emails"}),
            "partners": (200, ["oauthbearertoken"], {"nickName"}),
        }
        assert 200 == (await api.get("/partners/scim/v2/Users?count=900", auth="Bearer t")).status


# --- credentials ---


@pytest.mark.parametrize("name", NAMES)
async def test_a_credential_opens_its_own_app_only(api, name):
    """What opens one app opens no path of the other, however it is spelt, nor those of administrators."""
    for _ in range(2):  # the second time the credential is remembered where it is right
        for base in BASES:
            right = base.startswith(f"/{name}/")
            for below in ("/Users", "/Users/E00001", "/Groups", "/Schemas", "", "/nothing"):
                answer = await api.get(f"{base}{below}", auth=key_of(name))
                assert right is (answer.status != 401), (base, below)
                assert right or b"user1" not in answer.body
        other = NAMES[1 - NAMES.index(name)]
        for path in (
            f"//{other}//scim/v2//Users",
            f"/{other}/scim/v2/Users/",
            f"/%{ord(other[0]):x}{other[1:]}/scim/v2/Users",
        ):
            assert 401 == (await api.get(path, auth=key_of(name))).status
            assert 200 == (await api.get(path, auth=key_of(other))).status
        for path in ("/-/status", "/admin/refresh", f"/admin/apps/{name}/refresh", f"/admin/apps/{name}/quarantine"):
            assert 401 == (await api.get(path, auth=key_of(name))).status


@pytest.mark.parametrize("base", BASES)
async def test_the_credential_of_administrators_opens_no_people(api, base):
    """The credential of administrators is good for /admin of all apps and for the people of none."""
    assert 401 == (await api.get(f"{base}/Users", auth=ADMIN)).status
    assert 401 == (await api.get(f"{base}/Users", auth=None)).status
    name = base.split("/")[1]
    assert 200 == (await api.get(f"/admin/apps/{name}/refresh")).status


async def test_an_inherited_credential_opens_whoever_inherits_it(apps):
    """`auth` at the top level is that of each app without its own, and of no other."""
    apps.settings["server"]["auth"] = [{"type": "bearer", "token": "of all"}]
    del apps.partners.settings["server"]
    async with serving(apps) as api:
        assert 200 == (await api.get("/partners/scim/v2/Users", auth="Bearer of all")).status
        assert 401 == (await api.get("/hr/scim/v2/Users", auth="Bearer of all")).status


async def test_without_administrators(apps):
    """Without [server.admin] the administration of every app is off."""
    del apps.settings["server"]["admin"]
    async with serving(apps) as api:
        for path in ("/-/status", "/admin/refresh", "/admin/apps/hr/refresh"):
            assert 403 == (await api.get(path)).status


# --- what probes and administrators ask ---


async def test_ready_only_if_every_app_is(tmp_path):
    """/-/ready and /health are 503 until each app has a snapshot, and say of each how it is."""
    folder = AppsFolder(tmp_path)
    folder.hr.publish(people(3))
    async with serving(folder) as api:
        ready = await api.get("/-/ready", auth=None)
        assert (503, "not ready", ["status", "apps"]) == (ready.status, ready.json["status"], list(ready.json))
        assert {"hr": "ready", "partners": "not ready"} == {
            name: item["status"] for name, item in ready.json["apps"].items()
        }
        alone = {"status", "snapshot_age_seconds", "max_age_seconds", "quarantined", "serving_previous", "scheduler"}
        assert [alone, alone] == [set(item) for item in ready.json["apps"].values()]
        health = await api.get("/health", auth=None)
        assert (503, "unhealthy", "disconnected") == (
            health.status,
            health.json["status"],
            health.json["database"],
        )
        assert ["healthy", "unhealthy"] == [health.json["apps"][name]["status"] for name in NAMES]
        assert (200, 503) == tuple([(await api.get(f"/{name}/scim/v2/Users")).status for name in NAMES])
        folder.partners.publish(people(5))
        await api.follow()
        assert (200, "ready") == ((ready := await api.get("/-/ready", auth=None)).status, ready.json["status"])
        assert (200, "healthy") == ((health := await api.get("/health", auth=None)).status, health.json["status"])


async def test_a_stale_app(apps):
    """One app that is older than its own limit makes the instance stale, not the other app."""
    apps.hr.settings["server"]["max_age_seconds"] = 1
    manifest = apps.hr.snapshot().manifest
    older = msgspec.structs.replace(manifest, created_ms=manifest.created_ms - 60_000)
    write_manifest(generation_directory(apps.hr.data_dir, 1), older)
    async with serving(apps) as api:
        ready = await api.get("/-/ready", auth=None)
        assert (503, "stale") == (ready.status, ready.json["status"])
        assert ["stale", "ready"] == [ready.json["apps"][name]["status"] for name in NAMES]
        assert [3, 5] == [(await api.get(f"/{name}/scim/v2/Users")).json["totalResults"] for name in NAMES]


async def test_the_root_lists_every_path(api):
    """/ names the base paths of all apps."""
    assert {f"{base}/": "1.1" if base.endswith("1") else "2.0" for base in BASES} == (
        (await api.get("/", auth=None)).json["base_paths"]
    )


async def test_status_of_each_app(api):
    """/-/status has the whole status of each app under its name."""
    body = (await api.get("/-/status")).json
    assert ["version", "time", "apps"] == list(body)
    assert {"hr": 3, "partners": 5} == {name: item["snapshot"]["counts"]["User"] for name, item in body["apps"].items()}
    assert {"hr": "test [apps.hr]", "partners": "test [apps.partners]"} == {
        name: item["config"] for name, item in body["apps"].items()
    }


@pytest.mark.parametrize("name", NAMES)
async def test_a_refresh_of_one_app(apps, api, name):
    """A refresh is asked of one app: the request lies in its folder, and can be asked for there."""
    asked = await api.send("POST", f"/admin/apps/{name}/refresh")
    assert 202 == asked.status
    where = f"/admin/apps/{name}/refresh/{asked.json['id']}"
    assert (where, where) == (asked.json["status_url"], asked.headers["Location"])
    folders = {app.name: app.data_dir for app in (apps.hr, apps.partners)}
    assert [asked.json["id"]] == [item.id for item in control.list_requests(folders[name])]
    other = NAMES[1 - NAMES.index(name)]
    assert [] == control.list_requests(folders[other])
    assert "queued" == (await api.get(where)).json["state"]
    assert 404 == (await api.get(where.replace(name, other))).status
    assert [where] == [item["status_url"] for item in (await api.get(f"/admin/apps/{name}/refresh")).json["requests"]]
    assert 405 == (await api.send("DELETE", f"/admin/apps/{name}/refresh")).status


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path", ["/admin/refresh", "/admin/quarantine", "/admin/quarantine/2/approve", "/admin", "/admin/apps"]
)
async def test_without_a_name(apps, api, method, path):
    """What does not say which app it is about is a 404 that names the apps, and asks for nothing."""
    answer = await api.send(method, path)
    assert 404 == answer.status
    assert "hr, partners" in answer.json["detail"]
    assert [[], []] == [control.list_requests(app.data_dir) for app in (apps.hr, apps.partners)]


@pytest.mark.parametrize("path", ["/admin/apps/nobody/refresh", "/admin/apps/HR/refresh"])
async def test_an_app_that_is_none(api, path):
    """An unknown name is a 404 that names the apps."""
    answer = await api.get(path)
    assert 404 == answer.status
    assert answer.json["detail"].startswith("There is no app")
    assert "hr, partners" in answer.json["detail"]


@pytest.mark.parametrize("path", ["/admin/apps/hr", "/admin/apps/hr/nothing", "/admin/apps/hr/apps/partners/refresh"])
async def test_no_such_path_of_an_app(api, path):
    """Below an app there is what there is with one app, and nothing else."""
    assert (404, "There is no such path.") == ((answer := await api.get(path)).status, answer.json["detail"])


async def test_quarantine_of_one_app(apps):
    """A generation in quarantine waits, is shown and is decided in its own app; the other has none of that number."""
    apps.hr.publish(people(50))
    apps.hr.settings["guard"] = {"enabled": True}
    with pytest.raises(PublishRefusedError):
        apps.hr.publish(people(5))
    async with serving(apps) as api:
        ready = (await api.get("/-/ready", auth=None)).json["apps"]
        assert [1, 0] == [ready[name]["quarantined"] for name in NAMES]
        found = [(await api.get(f"/admin/apps/{name}/quarantine")).json["quarantine"] for name in NAMES]
        assert [[3], []] == [[item["generation"] for item in items] for items in found]
        shown = await api.get("/admin/apps/hr/quarantine/3?count=2")
        assert 2 == len(shown.json["people"]["removed"]["people"])
        assert 404 == (await api.get("/admin/apps/partners/quarantine/3")).status
        assert 404 == (await api.send("POST", "/admin/apps/partners/quarantine/3/approve")).status
        asked = await api.send("POST", "/admin/apps/hr/quarantine/3/approve")
        assert (202, "approve") == (asked.status, asked.json["kind"])
        assert ["approve"] == [item.kind for item in control.list_requests(apps.hr.data_dir)]
        assert [] == control.list_requests(apps.partners.data_dir)


# --- one app and the harm of the other ---


class BrokenSnapshot:
    """A snapshot whose every use fails."""

    generation = 99

    def __getattr__(self, name):
        raise RuntimeError("broken")


async def test_a_broken_app_hurts_no_other(api, caplog):
    """An app that fails with every request is named in the log; the other one is served as before."""
    api.app("hr").live.current = BrokenSnapshot()
    for _ in range(3):
        assert 500 == (await api.get("/hr/scim/v2/Users")).status
        assert 5 == (await api.get("/partners/scim/v2/Users")).json["totalResults"]
    told = [record.facts for record in caplog.records if record.getMessage() == "unexpected error"]
    assert ["hr"] * 3 == [facts["app"] for facts in told]


async def test_a_folder_that_hangs(apps):
    """A look at one folder that does not come back holds up no look at the other."""
    blocked = asyncio.Event()

    async def hang() -> None:
        blocked.set()
        await asyncio.Event().wait()

    async with serving(apps) as api:
        api.app("hr").live.poll = hang
        await asyncio.wait_for(blocked.wait(), 10)
        apps.partners.publish(people(9))
        for _ in range(500):
            found = (await api.get("/partners/scim/v2/Users")).json["totalResults"]
            if found == 9:
                break
            await asyncio.sleep(0.02)
        assert 9 == found
        assert 3 == (await api.get("/hr/scim/v2/Users")).json["totalResults"]


async def test_imports_of_two_apps(apps, api):
    """An import of one app goes on in its generation whatever is published in either; numbers mean nothing between."""
    first = {name: await api.get(f"/{name}/scim/v2/Users?startIndex=1&count=2") for name in NAMES}
    apps.hr.publish(people(4))
    await api.follow()
    assert 3 == (await api.get("/hr/scim/v2/Users?startIndex=3&count=2")).json["totalResults"]
    assert 5 == (await api.get("/partners/scim/v2/Users?startIndex=3&count=2")).json["totalResults"]
    assert [3, 5] == [answer.json["totalResults"] for answer in first.values()]
    assert [1, 1] == [len(api.app(name).pins) for name in NAMES]
    assert 4 == (await api.get("/hr/scim/v2/Users")).json["totalResults"]
    assert 5 == (await api.get("/partners/scim/v2/Users")).json["totalResults"]


async def test_a_cursor_belongs_to_its_app(api):
    """A cursor of one app is refused by the other."""
    cursor = (await api.get("/hr/scim/v2/Users?cursor=&count=1")).json["nextCursor"]
    assert ["E00002"] == (await api.get(f"/hr/scim/v2/Users?count=1&cursor={quote(cursor)}")).ids
    answer = await api.get(f"/partners/scim/v2/Users?count=1&cursor={quote(cursor)}")
    assert (400, "expiredCursor") == (answer.status, answer.json["scimType"])


async def test_the_log_names_the_app(api, caplog):
    """The line of a request says whose path it was; one about the whole instance names none."""
    caplog.set_level("DEBUG", logger="server.request")
    for path in ("/hr/scim/v2/Users", "/partners/scim/v2/Users", "/admin/apps/hr/refresh", "/-/ready"):
        await api.get(path)
    facts = [record.facts for record in caplog.records if record.getMessage() == "request"]
    assert [
        ("hr", "/hr/scim/v2/Users"),
        ("partners", "/partners/scim/v2/Users"),
        ("hr", "/admin/apps/hr/refresh"),
        (None, "/-/ready"),
    ] == [(item.get("app"), item["path"]) for item in facts]


# --- one app with a name ---


async def test_one_app_with_a_name_answers_as_one_without(apps):
    """With one app the operations are those of a configuration without [apps], and its name is good as well."""
    async with serving(apps, "hr") as api:
        ready = await api.get("/-/ready", auth=None)
        assert (200, "ready") == (ready.status, ready.json["status"])
        assert "apps" not in ready.json
        assert 3 == (await api.get("/-/status")).json["snapshot"]["counts"]["User"]
        assert "snapshot_age_seconds" in (await api.get("/health", auth=None)).json
        for path in ("/admin/refresh", "/admin/apps/hr/refresh"):
            asked = await api.send("POST", path)
            assert f"/admin/refresh/{asked.json['id']}" == asked.json["status_url"]
        assert 1 == len(control.list_requests(apps.hr.data_dir))
        assert 404 == (await api.get("/partners/scim/v2/Users")).status
