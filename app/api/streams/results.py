"""Results on their way out, a line each, while the request's body still comes in."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence

from fastapi import Response
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from app.api.departure import while_connected
from app.api.problems import problem_of
from app.api.schemas import IngestResult, Problem
from app.api.streams.body import Body
from app.errors import ReidError
from app.service.incoming import Result
from app.service.stream import Take

# Clients that send all before they read (httpx, requests) would else wait for us while we wait for them: 100,000 lines or so.
HELD_BYTES = 16 * 2**20


def result_out(result: Result, request_id: str) -> IngestResult:
    """What became of one crop, in JSON's words."""
    error = Problem(**problem_of(result.error, request_id)) if result.error else None
    return IngestResult(name=result.name, id=result.id, status=result.status, error=error)


class Lines(Response):
    """Answers with NDJSON. What goes wrong before the first line has a status of its own, later it is the last line.

    Work ends when the client leaves.
    """

    media_type = "application/x-ndjson"

    def __init__(self, work: Callable[[Take], Awaitable[None]], body: Body, request_id: str, silence_s: float) -> None:
        super().__init__()
        del self.headers["content-length"]  # nobody knows it yet
        self._work, self._body, self._request_id, self._silence_s = work, body, request_id, silence_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Do the work and answer."""
        out = _Outbox(send, self.raw_headers, self._silence_s)
        await while_connected(self._body.departure(), self._answer(out))
        await out.end()  # only now: to a server, a request that is answered has left

    async def _answer(self, out: "_Outbox") -> None:
        sending = asyncio.create_task(out.deliver())
        try:
            await self._fill(out)
            await out.close()
            await sending
            if out.gone:
                raise ClientDisconnect
        finally:
            sending.cancel()
            await asyncio.wait({sending})

    async def _fill(self, out: "_Outbox") -> None:
        async def take(results: Sequence[Result]) -> None:
            rows = (result_out(result, self._request_id).model_dump_json(exclude_none=True) for result in results)
            await out.put("".join(f"{row}\n" for row in rows).encode())

        try:
            await self._work(take)
        except ReidError as error:
            if not out.used:
                raise
            await out.put(json.dumps(problem_of(error, self._request_id)).encode() + b"\n")


class _Outbox:
    """Lines that wait for the client to read them. One that reads nothing for too long counts as gone."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]], silence_s: float) -> None:
        self.used = self.gone = self._closed = False
        self._send, self._headers, self._silence_s = send, headers, silence_s
        self._lines: list[bytes] = []
        self._changed = asyncio.Condition()

    async def put(self, lines: bytes) -> None:
        """Add lines; waits for room. Raises ClientDisconnect when the client is gone."""
        async with self._changed:
            self.used = True
            await self._changed.wait_for(lambda: self.gone or sum(map(len, self._lines)) < HELD_BYTES)
            if self.gone:
                raise ClientDisconnect
            self._lines.append(lines)
            self._changed.notify_all()

    async def close(self) -> None:
        """No more comes."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def deliver(self) -> None:
        """Send what there is, until it is closed; the status goes with the first line."""
        try:
            lines = await self._next()
            await self._pass({"type": "http.response.start", "status": 200, "headers": self._headers})
            while lines:
                await self._pass({"type": "http.response.body", "body": lines, "more_body": True})
                lines = await self._next()
        except TimeoutError:
            async with self._changed:
                self.gone = True
                self._changed.notify_all()

    async def end(self) -> None:
        """Say that all was sent."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next(self) -> bytes:
        async with self._changed:
            await self._changed.wait_for(lambda: self._lines or self._closed)
            lines, self._lines = b"".join(self._lines), []
            self._changed.notify_all()
            return lines

    async def _pass(self, message: Message) -> None:
        async with asyncio.timeout(self._silence_s):
            await self._send(message)
