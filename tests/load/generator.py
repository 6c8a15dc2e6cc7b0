"""Sends requests, in a closed loop (so many clients, each waiting for its answer) or in an open one (by the clock).

An open loop does not wait: a server that falls behind is sent the next request all the same, and the latency counts from
when that was due. Every request ends as a sample, whatever becomes of it.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp

from tests.load.arrivals import Bounds
from tests.load.calls import Call, Calls
from tests.load.samples import OK, Sample, Taken

NOT_SENT = "not sent: too many are in flight"
MOST_IN_FLIGHT = (
    4000  # each holds a socket of this process; a server that keeps so many waiting has no limit of its own
)


@dataclass(frozen=True, slots=True)
class Answer:
    """`ok` or the kind of error, and the server's stage times."""

    outcome: str
    stages_ms: Mapping[str, float]


Send = Callable[[Call], Awaitable[Answer]]


async def closed_loop(send: Send, calls: Calls, clients: int, bounds: Bounds) -> Taken:
    """Each client sends its next request when the last one was answered."""
    samples: list[Sample] = []
    numbers = itertools.count()
    begun = time.perf_counter()

    async def client() -> None:
        while not bounds.over(len(samples), time.perf_counter() - begun):
            call = calls(next(numbers))
            sent = time.perf_counter() - begun
            answer = await send(call)
            samples.append(Sample(sent, sent, time.perf_counter() - begun, answer.outcome, answer.stages_ms))

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
            await asyncio.sleep(0)
    # Batches answer several at once. From the first answer to the first one after which a client stopped, both of them
    # the first of their batch, whole batches are counted; from then on fewer clients were at work.
    done = sorted(sample.done_s for sample in samples)
    return Taken(tuple(samples), ((done[0], done[-min(clients, len(done))]),))


async def open_loop(
    send: Send, calls: Calls, due: Iterator[float], bounds: Bounds, most_in_flight: int = MOST_IN_FLIGHT
) -> Taken:
    """Requests go out when they are due; at the end their answers are waited for."""
    samples: list[Sample] = []
    flying: set[asyncio.Task[None]] = set()
    begun = time.perf_counter()
    due_s = 0.0

    async def one(number: int, due_s: float) -> None:
        call = calls(number)
        sent = time.perf_counter() - begun
        answer = await send(call)
        samples.append(Sample(due_s, sent, time.perf_counter() - begun, answer.outcome, answer.stages_ms))

    for number, due_s in enumerate(due):
        if bounds.over(number, due_s):
            break
        await asyncio.sleep(max(0.0, begun + due_s - time.perf_counter()))
        if len(flying) >= most_in_flight:
            samples.append(Sample(due_s, due_s, due_s, NOT_SENT))
            continue
        task = asyncio.create_task(one(number, due_s))
        flying.add(task)
        task.add_done_callback(flying.discard)
    await asyncio.gather(*flying)
    return Taken(tuple(samples), ((0.0, due_s),))


class Client:
    """Sends over HTTP with aiohttp, which takes about a sixth of httpx's time for a crop. `async with Client(url) as client`."""

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        self.url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def __aenter__(self) -> Self:
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    async def send(self, call: Call) -> Answer:
        """Never raises for what a server or a network may do."""
        try:
            async with self.session.post(self.url + call.path, data=call.body, headers=call.headers) as answer:
                body = await answer.read()
                timing = answer.headers.get("server-timing", "")
                return Answer(outcome(answer.status, body), server_timing(timing))
        except TimeoutError:
            return Answer("no answer in time", {})
        except (aiohttp.ClientError, OSError) as error:
            return Answer(f"connection: {type(error).__name__}", {})


def outcome(status: int, body: bytes) -> str:
    """`ok`; `status code` of a problem; or `item refused` in an answer of 200."""
    if status >= 300:
        return f"{status} {_code(body)}".rstrip()
    if b'"status":"refused"' in body:
        return "item refused"
    return OK


def server_timing(header: str) -> dict[str, float]:
    """`decode;dur=1.20, infer;dur=6.14` by stage."""
    found = {}
    for part in header.split(","):
        name, _, duration = part.strip().partition(";dur=")
        if duration:
            found[name] = float(duration)
    return found


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body).get("code", ""))
    except (ValueError, AttributeError):
        return ""
