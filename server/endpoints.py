"""What is served under the base paths of one version: resource types by their first segment, and how to ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.projection import Names
from server.query import Limits
from snapshot.resource_types import extension_urns, resource_types
from snapshot.scim import CORE_1_1, ENTERPRISE_1_1, ENTERPRISE_2_0, GROUP_2_0, USER_2_0, ScimVersion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from snapshot.config import Config
    from snapshot.resource_types import ResourceType


@dataclass(frozen=True, slots=True)
class Endpoints:
    """`types` by segment without slash, in the order in which they are listed; `names` and `limits` of requests."""

    types: Mapping[str, ResourceType]
    names: Names
    limits: Limits

    @property
    def every_type(self) -> tuple[str, ...]:
        """The names of all resource types: what a query of the root goes over."""
        return tuple(item.name for item in self.types.values())


def make_endpoints(config: Config, version: ScimVersion) -> Endpoints:
    """Return what one version serves."""
    served = resource_types(config)
    new = version is ScimVersion.V2_0
    schemas = dict.fromkeys((CORE_1_1, USER_2_0, GROUP_2_0, *(item.urn for item in served)))
    extensions = dict.fromkeys((ENTERPRISE_2_0, ENTERPRISE_1_1, *extension_urns(config)))
    server = config.server
    return Endpoints(
        types={item.endpoint.strip("/"): item for item in served if version in item.versions},
        names=Names(version, tuple(schemas), tuple(extensions)),
        limits=Limits(server.default_count, server.max_count, cursors=new),
    )
