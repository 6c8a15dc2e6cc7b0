"""Work for a client ends when the client has left, or its time is up: what it asked for leaves the queue before it costs
a batch.
"""

import asyncio
import time
from collections.abc import Coroutine
from math import inf
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from app.errors import DeadlinePassed

Answer = TypeVar("Answer")


async def while_connected(request: Request, work: Coroutine[Any, Any, Answer], due: float = inf) -> Answer:
    """Do the work; cancel it and raise ClientDisconnect when the client leaves first. The body must have been read.

    due: by `time.monotonic`; later the work is cancelled too. Raises DeadlinePassed.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(request))
    left_s = None if due == inf else max(0.0, due - time.monotonic())
    try:
        await asyncio.wait({task, gone}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ClientDisconnect
        raise DeadlinePassed("the time that this request had is over; the header X-Timeout-Ms asks for more")
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.wait({task, gone})  # so that what was queued is gone from the queue


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
