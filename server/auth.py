"""Asks for credentials: before 404, 405 and 501, on every path of its area."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.errors import ForbiddenError
from server.keys import DIRECTORIES, FACTS
from server.routes import Area

if TYPE_CHECKING:
    from aiohttp import web


async def authenticate(request: web.BaseRequest) -> None:
    """Let a request through when its credential is right: that of one app opens no other app and nothing else."""
    facts = request[FACTS]
    area = facts.route.area
    if area is Area.OPEN:
        return
    authenticator = facts.directory.access if area is Area.SCIM else facts.app[DIRECTORIES].admin
    if authenticator is None:
        raise ForbiddenError(
            "Administration is off. Set [server.admin] in the configuration "
            "(or SCIM_ADMIN_TOKEN in the environment) to turn it on."
        )
    headers = request.headers
    facts.principal = authenticator.recall(headers) or await authenticator.authenticate(headers)
