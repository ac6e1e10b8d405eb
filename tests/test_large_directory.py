"""Large groups, and users in many groups: exact in both directions, in bounded memory. `make large` for the long ones."""

from __future__ import annotations

import os
import time

import large_directory
import pytest
from large_directory import Size, memberships_of_groups, memberships_of_users
from related_folder import RelatedFolder
from server_fixtures import ADMIN_TOKEN, PASSWORD, serving
from server_fixtures import USER as LOGIN

from snapshot.scim import GROUP, USER, ScimVersion

SHORT = {"20,000 members, a user in 1,000 groups": Size(22_000, 1_200, 1, 20_000, 1_000)}
LONG = {
    "800,000 memberships": Size(100_000, 3_000, 8, 5_000, 3_000),
    "200,000 members, a user in 5,000 groups": Size(250_000, 6_000, 2, 200_000, 5_000),
}
SIZES = LONG if os.environ.get("SCIM_LARGE") else SHORT
# Of the refresh; the largest group is in memory once, as objects and as bytes. Files that are mapped count too.
MAX_MIB, MAX_MIB_A_MEMBER = 180, 0.0015


@pytest.mark.timeout(0 if SIZES is LONG else 240)
@pytest.mark.parametrize("name", SIZES)
async def test_a_large_directory(tmp_path, name, record_property):
    """Members and groups are the rows of the source in both versions, and the largest group is served whole."""
    size = SIZES[name]
    folder = RelatedFolder(tmp_path)
    folder.settings["server"] |= {
        "port": 0,
        "auth": [{"type": "basic", "username": LOGIN, "password": PASSWORD}],
        "admin": {"type": "bearer", "token": ADMIN_TOKEN},
    }
    wanted = large_directory.write(folder, size)
    began = time.monotonic()
    figures = large_directory.refresh(folder)
    seconds = time.monotonic() - began
    began = time.monotonic()
    again = large_directory.refresh(folder)
    record_property(
        "figures",
        f"{name}: {size.people:,} people, {size.groups:,} groups, {len(wanted):,} memberships; {seconds:.1f} s "
        f"{figures['seconds']}, {figures['mib']} MiB; unchanged {time.monotonic() - began:.1f} s, {again['mib']} MiB",
    )
    assert figures["generation"] == again["generation"]
    assert {"groups": len(wanted), "entitlements": size.people} == figures["links"]
    snapshot = folder.snapshot()
    assert (size.people, size.groups) == (snapshot.count(USER), snapshot.count(GROUP))
    for version in ScimVersion:
        assert wanted == memberships_of_groups(snapshot, version)
        assert wanted == memberships_of_users(snapshot, version)
    if figures["mib"] is not None:
        mapped = sum(facts.bytes for name, facts in snapshot.manifest.files.items() if name.endswith(".json")) / 2**20
        assert figures["mib"] < MAX_MIB + mapped + size.largest * MAX_MIB_A_MEMBER
    async with serving(folder) as api:
        group = (await api.get("v2/Groups/G00000")).json
        base = "https://scim.example.com/scim/v2/Users"
        assert [
            {"value": f"E{n:06}", "$ref": f"{base}/E{n:06}", "type": "User", "display": f"Person {n}"}
            for n in range(size.largest)
        ] == group["members"]
        page = await api.get("v2/Groups?count=100&excludedAttributes=members")
        assert (size.groups, 1, 100) == page.numbers
        assert not any("members" in item for item in page.json["Resources"])
        user = (await api.get("v1/Users/E000000")).json
        assert [{"value": f"G{n:05}", "display": f"Group {n}"} for n in range(size.busiest)] == user["groups"]
        found = await api.get('v2/Groups?filter=members%20eq%20"E000000"&attributes=id&count=10000')
        assert size.busiest == found.json["totalResults"]
        found = await api.get('v2/Users?filter=groups%20eq%20"G00000"&count=1')
        assert size.largest == found.json["totalResults"]
