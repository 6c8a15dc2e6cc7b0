"""Whatever befalls one request, the answers of the others in a full queue stay what they are, to the last bit."""

import asyncio

import numpy as np
import pytest

from app.adapters.memory import MemoryEmbedder
from app.core.planner import Costs, Launch, Waiting
from app.errors import DeviceFailed
from app.ports import Crops, Floats
from tests.engine.devices import Held, begun, crop, on, queued

pytestmark = pytest.mark.anyio
CANCELLED, POISONED, FATAL = 5, 13, 21  # values of crops, each in another batch of eight
REQUESTS = 32


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Unlucky(Held):
    """Fails on the batch with the fatal crop, and gives the poisoned one a vector that is not finite."""

    def embed(self, crops: Crops) -> Floats:
        vectors = super().embed(crops)
        if FATAL in self.rode[-1]:
            raise RuntimeError("the driver is unwell")
        vectors[[value == POISONED for value in self.rode[-1]]] = np.nan
        return vectors


def eights(costs: Costs, waiting: Waiting) -> Launch:
    return Launch(8, min(8, len(waiting.interactive)))


async def test_one_cancelled_one_poisoned_and_one_failed_batch_change_no_other_answer() -> None:
    device = Unlucky()
    engine = on(device, max_waiting=REQUESTS, plan=eights)
    await engine.start()
    first = asyncio.create_task(engine.embed([crop(255)]))
    await begun(device)
    tasks = [asyncio.create_task(engine.embed([crop(value)])) for value in range(REQUESTS)]
    await queued(engine, REQUESTS)
    tasks[CANCELLED].cancel()
    await asyncio.wait([tasks[CANCELLED]])
    device.leave.release(REQUESTS)
    await first
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    (unlucky,) = (batch for batch in device.rode if FATAL in batch)
    alone = MemoryEmbedder()
    for value, answer in enumerate(answers):
        if value == CANCELLED:
            assert isinstance(answer, asyncio.CancelledError)
        elif value == POISONED or value in unlucky:
            assert isinstance(answer, DeviceFailed)
        else:
            assert isinstance(answer, list)
            assert np.array_equal(answer[0].vector, alone.embed([crop(value)])[0])
    assert CANCELLED not in {value for batch in device.rode for value in batch}
    await engine.close()
