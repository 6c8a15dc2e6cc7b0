"""A request has so much time, by its header or the settings; who cannot be answered in it is told so, early."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.adapters.memory import MemoryStore
from app.adapters.model_directory import ModelDirectory
from app.api import create_app
from app.engine import Device, Proof
from app.ports import Crops, Embedder, Floats, RunTimes
from app.service import Service
from app.settings import Settings
from app.wiring import build_service, devices

pytestmark = pytest.mark.anyio
Draw = Callable[[int], bytes]
SLOW = {1: 100_000.0}  # milliseconds: so much that what this machine does counts nothing beside it


class Held:
    """The real embedder behind a door."""

    def __init__(self, real: Embedder) -> None:
        self._real = real
        self.fingerprint, self.dim, self.batch_sizes = real.fingerprint, real.dim, real.batch_sizes
        self.last_run: RunTimes | None = None
        self._loop = asyncio.get_running_loop()
        self.begun, self.open = asyncio.Event(), asyncio.Event()
        self.crops = 0

    def embed(self, crops: Crops) -> Floats:
        self.crops += len(crops)
        self._loop.call_soon_threadsafe(self.begun.set)
        asyncio.run_coroutine_threadsafe(self.open.wait(), self._loop).result(timeout=20)
        return self._real.embed(crops)

    def close(self) -> None:
        self._real.close()


class World:
    """A service on a device behind a door, and requests to it."""

    def __init__(self, settings: Settings, picture: Draw) -> None:
        directory = ModelDirectory.open(settings.model_dir)
        (cpu,) = devices(directory, settings)
        self.device = Held(cpu.open())
        held = Device("cpu", lambda: self.device)
        self.service: Service = build_service(directory, [held], MemoryStore(), settings, prove=lambda _: Proof(SLOW))
        self.app: FastAPI = create_app(self.service)
        self._picture, self._number = picture, 0
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1")

    async def ask(self, timeout_ms: int | None = None, route: str = "/v1/embeddings") -> httpx.Response:
        self._number += 1
        headers = {} if timeout_ms is None else {"X-Timeout-Ms": str(timeout_ms)}
        return await self.http.post(route, files=[("image", self._picture(self._number))], headers=headers)

    async def waiting(self, crops: int) -> None:
        while self.service.engine.waiting < crops:
            await asyncio.sleep(0.001)


@pytest.fixture
async def world(settings: Settings, picture: Draw) -> AsyncIterator[World]:
    made = World(settings, picture)
    await made.service.start()
    yield made
    made.device.open.set()
    await made.service.close()
    await made.http.aclose()


async def test_an_answer_that_takes_too_long_is_504_and_its_crops_cost_no_batch(world: World) -> None:
    first = asyncio.create_task(world.ask())
    await world.device.begun.wait()
    late = await world.ask(timeout_ms=1)  # nothing waits ahead of it, so it is let in
    assert (late.status_code, late.json()["code"]) == (504, "deadline_passed")
    assert world.service.engine.waiting == 0
    world.device.open.set()
    assert (await first).status_code == 200
    assert world.device.crops == 1


async def test_who_would_wait_for_too_long_is_429_before_its_picture_is_decoded(world: World) -> None:
    running = asyncio.create_task(world.ask(timeout_ms=600_000))
    await world.device.begun.wait()
    waiting = asyncio.create_task(world.ask(timeout_ms=600_000))
    await world.waiting(1)
    # One runs, one waits, and its own: 300 s. Of 200 s nine tenths may be spent; 120 s later it would fit.
    refused = await world.http.post(
        "/v1/embeddings", files=[("image", b"no picture")], headers={"X-Timeout-Ms": "200000"}
    )
    assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
    assert 100 < int(refused.headers["retry-after"]) <= 120
    assert 'reid_dropped_crops_total{why="refused"} 1.0' in world.service.telemetry.text().decode()
    world.device.open.set()
    assert [answer.status_code for answer in await asyncio.gather(running, waiting)] == [200, 200]


@pytest.mark.parametrize("value", ["0", "-5", "soon", "600001"])
async def test_a_time_that_is_none_is_refused_by_name(value: str, world: World) -> None:
    answer = await world.http.post("/v1/embeddings", content=b"x", headers={"X-Timeout-Ms": value})
    assert (answer.status_code, answer.json()["field"]) == (422, "X-Timeout-Ms")


async def test_a_client_that_sends_slowly_holds_nobody_up_and_has_its_time_when_it_has_sent(
    world: World, picture: Draw
) -> None:
    sent, body = asyncio.Event(), picture(99)
    parts = iter([body[:100], body[100:]])
    answers: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        part = next(parts, None)
        if part is None:
            await asyncio.Event().wait()  # it stays
        if part == body[100:]:
            await sent.wait()
        return {"type": "http.request", "body": part, "more_body": part == body[:100]}

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/v1/embeddings",
        "raw_path": b"/v1/embeddings", "query_string": b"", "root_path": "", "scheme": "http", "server": ("reid", 80),
        "client": ("reid", 1), "state": {},
        "headers": [(b"host", b"reid"), (b"content-type", b"image/png"), (b"x-timeout-ms", b"5000")],
    }  # fmt: skip
    slow = asyncio.create_task(world.app(scope, receive, send))
    world.device.open.set()
    assert [(await world.ask()).status_code for _ in range(3)] == [200, 200, 200]
    assert answers == []
    sent.set()
    await slow
    assert answers[0]["status"] == 200


async def test_a_search_and_a_verification_have_a_deadline_too(world: World, picture: Draw) -> None:
    await world.http.put("/v1/collections/lobby")
    first = asyncio.create_task(world.ask())
    await world.device.begun.wait()
    pair = [("a", picture(1)), ("b", picture(2))]
    for answer in (
        await world.ask(1, "/v1/collections/lobby/search"),
        await world.ask(1, "/v1/collections/lobby/search/batch"),
        await world.http.post("/v1/verify", files=pair, headers={"X-Timeout-Ms": "1"}),
    ):
        assert (answer.status_code, json.loads(answer.content)["code"]) == (504, "deadline_passed")
    assert world.service.engine.waiting == 0
    world.device.open.set()
    await first
