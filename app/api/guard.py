"""Keeps web pages of other sites away from a server that has no keys: a browser on this machine reaches it for them.

A page elsewhere can make the browser post a form here, or point a name of its own at this address and read the answers. The
first is told by `Sec-Fetch-Site` and `Origin`, which pages cannot set, the second by the name in `Host`.
"""

import re
from collections.abc import Set

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import problem, respond

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Guard:
    """Answers 403 to what a browser sends for another site. hosts: names this server goes by, None for any."""

    def __init__(self, app: ASGIApp, hosts: Set[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request through, or refuse it."""
        if scope["type"] == "http" and (reason := self._reason(Headers(scope=scope))):
            refusal = respond(problem(scope["state"]["request_id"], 403, "forbidden", reason))
            return await refusal(scope, receive, send)
        await self._app(scope, receive, send)

    def _reason(self, headers: Headers) -> str | None:
        name = re.sub(r":\d*$", "", headers.get("host", "")).lower()  # without the port
        if self._hosts is not None and name not in self._hosts:
            return f"this server does not go by the name {name!r}"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            return "sent by a web page of another site"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate":
            return "sent by a web page of another site"  # following a link to our page is a person's own doing
        return None
