"""A device that shares its cores with another one helps where a queue has formed, and else leaves them to it."""

import asyncio
from collections.abc import Callable

import pytest

from app.engine import Device, Engine, Proof
from app.errors import DeviceLost
from app.ports import Crops, Embedder, Floats
from tests.engine.devices import Held, crop

pytestmark = pytest.mark.anyio
FROM = 2


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Lost(Held):
    """A device that is lost with its next batch."""

    def embed(self, crops: Crops) -> Floats:
        super().embed(crops)
        raise DeviceLost("gone")


def one_by_one(embedder: Embedder) -> Proof:
    """A batch costs what its crops cost, so each rides alone."""
    return Proof({size: 10.0 * size for size in embedder.batch_sizes})


async def started(first: Held, helper: Held) -> Engine:
    devices = [
        Device("cpu", lambda: first, pads=False, beside=2),
        Device("cpu+1", lambda: helper, pads=False, beside=2, helps_from=FROM),
    ]
    engine = Engine(devices, prove=one_by_one, first_pause_s=60)
    await engine.start()
    return engine


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


async def test_it_leaves_the_cores_alone_until_enough_waits() -> None:
    first, helper = Held(), Held()
    engine = await started(first, helper)
    answers = [asyncio.create_task(engine.embed([crop(0)]))]
    await until(lambda: engine.lanes[0].busy)
    answers.append(asyncio.create_task(engine.embed([crop(1)])))
    await until(lambda: engine.waiting == 1)
    await asyncio.sleep(0.01)
    assert not engine.lanes[1].busy
    answers.append(asyncio.create_task(engine.embed([crop(2)])))
    await until(lambda: engine.lanes[1].busy)
    assert engine.waiting == 1
    helper.leave.release()
    await answers[1]  # it took the one that had waited longest
    await asyncio.sleep(0.01)
    assert (helper.rode, engine.waiting, engine.lanes[1].busy) == ([[1]], 1, False)
    first.leave.release(2)
    await asyncio.gather(*answers)
    assert first.rode == [[0], [2]]
    await engine.close()


async def test_it_serves_alone_when_the_other_is_lost() -> None:
    first, helper = Lost(), Held()
    engine = await started(first, helper)
    lost = asyncio.create_task(engine.embed([crop(0)]))
    await until(lambda: engine.lanes[0].busy)
    kept = asyncio.create_task(engine.embed([crop(1)]))
    await until(lambda: engine.waiting == 1)
    helper.leave.release()
    first.leave.release()
    with pytest.raises(DeviceLost):
        await lost
    await kept
    assert helper.rode == [[1]]
    await engine.close()


async def test_what_waits_at_the_end_is_done_by_both() -> None:
    first, helper = Held(), Held()
    engine = await started(first, helper)
    answers = [asyncio.create_task(engine.embed([crop(n)])) for n in range(2)]
    await until(lambda: engine.lanes[0].busy and engine.waiting == 1)
    closing = asyncio.create_task(engine.close())
    await until(lambda: engine.lanes[1].busy)
    first.leave.release()
    helper.leave.release()
    await asyncio.gather(*answers, closing)
    assert (first.rode, helper.rode) == ([[0]], [[1]])


async def test_costs_are_those_beside_the_others_however_many_run() -> None:
    """Alone a batch is as fast as it was proven to be, which teaches nothing; it counts double for two that share."""
    first, helper = Held(), Held()
    engine = await started(first, helper)
    lane = engine.lanes[0]
    assert lane.costs.ms(1) == 20.0
    now = 0.0
    lane._clock = lambda: now
    answer = asyncio.create_task(engine.embed([crop(0)]))
    await until(lambda: lane.busy)
    now = 0.01
    first.leave.release()
    await answer
    assert lane.costs.ms(1) == pytest.approx(20.0)
    await engine.close()
