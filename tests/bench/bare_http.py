"""What the server is measured against: an aiohttp handler that returns ready-made bytes.

Bodies are files in a folder: GET /NAME answers with the bytes of NAME.
"""

from __future__ import annotations

import sys
from pathlib import Path

from aiohttp import web


def main() -> None:
    """Serve until killed."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    bodies = {path.name: path.read_bytes() for path in folder.iterdir()}

    async def answer(request: web.Request) -> web.Response:
        return web.Response(
            body=bodies[request.match_info["name"]], content_type="application/scim+json", charset="utf-8"
        )

    app = web.Application()
    app.router.add_get("/{name}", answer)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main()
