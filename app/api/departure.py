"""Work for a client ends when the client has left: what it asked for leaves the queue before it costs a batch."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

Answer = TypeVar("Answer")


async def while_connected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Do the work; cancel it and raise ClientDisconnect when the client leaves first. The body must have been read."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.wait({task, gone})  # so that what was queued is gone from the queue


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
