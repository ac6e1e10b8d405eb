"""The middleware that asks for credentials: before 404, 405 and 501, on every path of its area."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from server.errors import ForbiddenError
from server.keys import DIRECTORIES, FACTS
from server.routes import Area

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through when its credential is right: that of one app opens no other app and nothing else."""
    facts = request[FACTS]
    area = facts.route.area
    if area is not Area.OPEN:
        authenticator = facts.directory.access if area is Area.SCIM else request.app[DIRECTORIES].admin
        if authenticator is None:
            raise ForbiddenError(
                "Administration is off. Set [server.admin] in the configuration "
                "(or SCIM_ADMIN_TOKEN in the environment) to turn it on."
            )
        headers = request.headers
        facts.principal = authenticator.recall(headers) or await authenticator.authenticate(headers)
    return await handler(request)
