"""Interactive crops before bulk ones, requests together, devices side by side. Races are arranged with events."""

import asyncio
import threading
from typing import Any

import pytest

from app.adapters.memory import MemoryEmbedder
from app.engine import Device, Engine, Proof
from app.ports import Crops, Embedder, Floats
from tests.engine.devices import Held, begun, crop, on, queued

pytestmark = pytest.mark.anyio
GUIDE = {1: 0.65, 4: 1.08, 8: 1.87}  # the ModelZoo guide's milliseconds a batch on Ascend310P3
BULK = 200  # the value of a bulk crop


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def as_in_the_guide(embedder: Embedder) -> Proof:
    return Proof(GUIDE)


async def started(device: Embedder, **collaborators: Any) -> Engine:
    engine = on(device, prove=as_in_the_guide, **collaborators)
    await engine.start()
    return engine


def asking(engine: Engine, *values: int) -> "asyncio.Task[object]":
    return asyncio.create_task(engine.embed([crop(value) for value in values]))


def indexing(engine: Engine, count: int) -> "asyncio.Task[object]":
    return asyncio.create_task(engine.embed([crop(BULK)] * count, patient=True))


async def test_who_waits_for_an_answer_goes_first_and_bulk_rides_in_the_free_places() -> None:
    device = Held()
    engine = await started(device)
    tasks = [asking(engine, 0)]
    await begun(device)
    tasks.append(indexing(engine, 9))
    await queued(engine, 9)
    tasks += [asking(engine, value) for value in (1, 2, 3)]
    await queued(engine, 12)
    device.leave.release(10)
    await asyncio.gather(*tasks)
    assert device.rode[:2] == [[0], [1, 2, 3, BULK]]  # padded to four: the fourth place costs nothing
    assert sum(device.sizes) == 13
    await engine.close()


async def test_bulk_has_its_share_however_many_others_wait() -> None:
    device = Held()
    engine = await started(device, max_waiting=250)
    tasks = [asking(engine, 0)]
    await begun(device)
    tasks += [indexing(engine, 4), *(asking(engine, value) for value in range(200))]
    await queued(engine, 204)
    device.leave.release(100)
    await asyncio.gather(*tasks)
    order = [value for batch in device.rode for value in batch]
    # 3 % are bulk: the fourth of them is the 134th crop, or comes as much later as two launches carry.
    assert order[:150].count(BULK) == 4
    await engine.close()


async def test_crops_of_a_request_ride_together() -> None:
    device = Held()
    engine = await started(device)
    tasks = [asking(engine, 0)]
    await begun(device)
    tasks += [asking(engine, *[value] * 4) for value in (1, 2, 3)]
    await queued(engine, 12)
    device.leave.release(10)
    await asyncio.gather(*tasks)
    assert device.rode == [[0], [1] * 4 + [2] * 4, [3] * 4]
    await engine.close()


async def test_devices_that_are_idle_share_what_comes() -> None:
    together, sizes = threading.Barrier(2), list[int]()  # passes only when both are inside a batch

    class Meeting(MemoryEmbedder):
        def embed(self, crops: Crops) -> Floats:
            sizes.append(len(crops))
            together.wait(timeout=10)
            return super().embed(crops)

    engine = Engine([Device("a", Meeting), Device("b", Meeting)], prove=as_in_the_guide)
    await engine.start()
    await engine.embed([crop(value) for value in range(8)])
    assert sizes == [4, 4]
    await engine.close()


async def test_bulk_that_fills_its_room_keeps_nobody_else_out() -> None:
    device = Held()
    engine = await started(device, max_waiting=2)
    tasks = [asking(engine, 0)]
    await begun(device)
    tasks.append(indexing(engine, 5))
    await queued(engine, 2)
    tasks.append(asking(engine, 1, 2))
    await queued(engine, 4)
    device.leave.release(10)
    await asyncio.gather(*tasks)
    assert device.rode[1][:2] == [1, 2]
    await engine.close()


async def test_each_device_learns_its_own_costs() -> None:
    engine = Engine([Device("a", MemoryEmbedder), Device("b", MemoryEmbedder)], prove=as_in_the_guide)
    await engine.start()
    before = [lane.costs for lane in engine.lanes]
    await engine.lanes[0].embed([crop(1)])
    assert engine.lanes[0].costs != before[0]
    assert engine.lanes[1].costs == before[1]
    await engine.close()
