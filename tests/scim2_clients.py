"""scim2-client connected to a judged server, and what was published in the form in which its models hold it."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from httpx2 import Client
from judged_directory import STRICT
from scim2_client.engines.httpx2 import SyncSCIMClient

from snapshot.reader import open_snapshot
from snapshot.scim import ScimVersion

if TYPE_CHECKING:
    from judged_directory import Judged

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def connected(judged: Judged, base: str = STRICT) -> SyncSCIMClient:
    return SyncSCIMClient(Client(base_url=judged.origin + base, auth=judged.credentials))


def endpoints(judged: Judged) -> dict[str, str]:
    """Return the endpoint of each resource type by its name."""
    return {item["name"]: item["endpoint"] for item in judged.get(f"{STRICT}/ResourceTypes").json["Resources"]}


def published(judged: Judged, kind: str = "User") -> dict[str, dict[str, Any]]:
    """Return the resources of the newest generation by id, read from its files."""
    snapshot = open_snapshot(judged.config.data_dir)
    body = bytes(snapshot.resources(kind, ScimVersion.V2_0, 0, snapshot.count(kind)))
    return {item["id"]: with_instants(item) for item in json.loads(b"[" + body + b"]")}


def received(resources: Any) -> dict[str, dict[str, Any]]:
    """Return what the client's models hold, by id, in order."""
    return {item.id: with_instants(item.model_dump()) for item in resources}


def with_instants(value: Any) -> Any:
    """Return JSON with its dates and times as instants, and its schemas as a set: the client's models write them in another way."""
    if isinstance(value, dict):
        return {name: set(item) if name == "schemas" else with_instants(item) for name, item in value.items()}
    if isinstance(value, list):
        return [with_instants(item) for item in value]
    if isinstance(value, str) and _INSTANT.fullmatch(value):
        return datetime.fromisoformat(value)
    return value
