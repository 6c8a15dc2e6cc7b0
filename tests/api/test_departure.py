"""A client that has left costs no batch."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from app.adapters.memory import MemoryStore
from app.adapters.model_directory import ModelDirectory
from app.api import create_app
from app.engine import Device, trust
from app.ports import Crops, Embedder, Floats, RunTimes
from app.settings import Settings
from app.wiring import build_service, devices

pytestmark = pytest.mark.anyio


class Held:
    """The real embedder behind a door."""

    def __init__(self, real: Embedder) -> None:
        self._real = real
        self.fingerprint, self.dim, self.batch_sizes = real.fingerprint, real.dim, real.batch_sizes
        self.last_run: RunTimes | None = None
        self.loop = asyncio.get_running_loop()
        self.begun, self.open = asyncio.Event(), asyncio.Event()
        self.crops = 0

    def embed(self, crops: Crops) -> Floats:
        self.loop.call_soon_threadsafe(self.begun.set)
        asyncio.run_coroutine_threadsafe(self.open.wait(), self.loop).result(timeout=20)
        self.crops += len(crops)
        return self._real.embed(crops)

    def close(self) -> None:
        self._real.close()


class Caller:
    """One ASGI request whose client can leave."""

    def __init__(self, path: str, body: bytes) -> None:
        self.left = asyncio.Event()
        self.sent: list[dict[str, Any]] = []
        self._messages = iter([{"type": "http.request", "body": body, "more_body": False}])
        self.scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http", "server": ("reid", 80),
            "client": ("reid", 1), "headers": [(b"host", b"reid"), (b"content-type", b"image/png")], "state": {},
        }  # fmt: skip

    async def receive(self) -> dict[str, Any]:
        for message in self._messages:
            return message
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)


async def test_who_leaves_while_waiting_costs_no_batch(settings: Settings, picture: Callable[[int], bytes]) -> None:
    directory = ModelDirectory.open(settings.model_dir)
    (cpu,) = devices(directory, settings)
    device = Held(cpu.open())
    held = Device("cpu", lambda: device)
    service = build_service(directory, [held], MemoryStore(), settings, prove=trust)
    await service.engine.start()
    app = create_app(service)
    stays, leaves = (Caller("/v1/embeddings", picture(number)) for number in (1, 2))
    first = asyncio.create_task(app(stays.scope, stays.receive, stays.send))
    await device.begun.wait()
    second = asyncio.create_task(app(leaves.scope, leaves.receive, leaves.send))
    while service.engine.waiting < 1:
        await asyncio.sleep(0.001)
    leaves.left.set()
    await second
    assert service.engine.waiting == 0
    assert leaves.sent == []  # nobody is there
    device.open.set()
    await first
    assert stays.sent[0]["status"] == 200
    assert device.crops == 1
    assert b'status="499"' in service.telemetry.text()
    await service.close()
