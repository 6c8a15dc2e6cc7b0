"""A request's body as it comes in: no longer than allowed, no slower than allowed, and the news that its client has left."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message

from app.errors import TooLarge, TooSlow


class Body:
    """Read it once. Raises TooLarge, TooSlow, ClientDisconnect."""

    def __init__(self, request: Request, most_bytes: int | None, silence_s: float) -> None:
        """most_bytes: None for a stream. silence_s: how long a client may send nothing while it is waited for."""
        self._request, self._most, self._silence_s = request, most_bytes, silence_s
        self._came = 0
        self._ended = asyncio.Event()
        declared = request.headers.get("content-length", "")
        if declared.isdigit():
            self._check(int(declared))

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, in whatever lengths they come."""
        while not self._ended.is_set():
            if data := (await self._receive()).get("body", b""):
                yield data

    def request(self) -> Request:
        """The same request with these limits, for whoever reads its body whole."""
        return Request(self._request.scope, self._receive)

    def departure(self) -> Request:
        """What is left of the request once its body has been read: the news that the client is gone."""
        return Request(self._request.scope, self._after)

    async def _receive(self) -> Message:
        try:
            async with asyncio.timeout(self._silence_s):
                message = await self._request.receive()
        except TimeoutError as error:
            raise TooSlow(f"nothing came for {self._silence_s:g} s, after {self._came} bytes") from error
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self._came += len(message.get("body", b""))
        self._check(self._came)
        if not message.get("more_body", False):
            self._ended.set()
        return message

    async def _after(self) -> Message:
        await self._ended.wait()
        return await self._request.receive()

    def _check(self, size: int) -> None:
        if self._most is not None and size > self._most:
            raise TooLarge(f"a body of {size} bytes or more; here it may have {self._most}")
