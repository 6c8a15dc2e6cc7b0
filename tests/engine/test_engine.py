"""Every crop that enters leaves with a vector or an error. Races are arranged with events, not with sleeps."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from app.adapters.memory import MemoryEmbedder
from app.core.planner import Costs, Launch, Waiting, next_launch
from app.engine.queue import Plan
from app.errors import DeviceFailed, NotReady, Overloaded
from app.ports import Crops, Floats
from tests.engine.devices import Held, Recorder, begun, crop, on, queued

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Broken(MemoryEmbedder):
    """A device that fails as told."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how

    def embed(self, crops: Crops) -> Floats:
        vectors = super().embed(crops)
        match self._how:
            case "raises":
                raise RuntimeError("the driver is gone")
            case "too few":
                return vectors[:-1]
            case "wrong width":
                return vectors[:, :-1]
            case "nothing":
                return None  # type: ignore[return-value]  # what a faulty adapter may do
        vectors[np.asarray(crops)[:, 0, 0, 0] == 13] = np.nan  # "poisoned"
        return vectors


async def test_vectors_come_back_in_order_and_equal_those_of_the_crops_alone() -> None:
    engine = on(MemoryEmbedder())
    await engine.start()
    crops = [crop(i) for i in range(20)]
    together = await engine.embed(crops)
    alone = [(await engine.embed([one]))[0] for one in crops]
    assert all(np.array_equal(a.vector, b.vector) for a, b in zip(together, alone, strict=True))
    await engine.close()


async def test_an_idle_device_starts_at_once_and_a_batch_forms_while_it_is_busy() -> None:
    device, recorder = Held(), Recorder()
    engine = on(device, observer=recorder)
    await engine.start()
    first = asyncio.create_task(engine.embed([crop(0)]))
    await begun(device)  # with one crop: nobody waited for company
    rest = [asyncio.create_task(engine.embed([crop(i)])) for i in range(1, 12)]
    await queued(engine, 11)
    device.leave.release(3)
    await asyncio.gather(first, *rest)
    assert device.sizes == [1, 8, 3]  # never above the largest size
    assert recorder.batches == [(1, 1), (8, 8), (3, 3)]
    await engine.close()


async def test_a_full_queue_refuses_all_of_a_request_and_says_when_to_come_back() -> None:
    device = Held()
    engine = on(device, max_waiting=2)
    await engine.start()
    running = asyncio.create_task(engine.embed([crop(0)]))
    await begun(device)
    waiting = asyncio.create_task(engine.embed([crop(1)]))
    await queued(engine, 1)
    with pytest.raises(Overloaded) as refusal:
        await engine.embed([crop(2), crop(3)])
    assert refusal.value.retry_after_s >= 1
    assert engine.waiting == 1  # nothing of the refused request stayed behind
    device.leave.release(2)
    await asyncio.gather(running, waiting)
    await engine.close()


async def test_a_patient_caller_waits_for_room() -> None:
    device = Held()
    engine = on(device, max_waiting=2)
    await engine.start()
    device.leave.release(100)
    answers = await engine.embed([crop(i) for i in range(30)], patient=True)
    assert [round(float(a.vector[0]) * 255) for a in answers] == list(range(30))
    await engine.close()


async def test_a_caller_that_left_costs_no_batch() -> None:
    device = Held()
    engine = on(device)
    await engine.start()
    running = asyncio.create_task(engine.embed([crop(0)]))
    await begun(device)
    gone = asyncio.create_task(engine.embed([crop(1), crop(2)]))
    stays = asyncio.create_task(engine.embed([crop(3)]))
    await queued(engine, 3)
    gone.cancel()
    await asyncio.wait([gone])
    device.leave.release(2)
    await asyncio.gather(running, stays)
    assert device.sizes == [1, 1]
    await engine.close()


@pytest.mark.parametrize("how", ["raises", "too few", "wrong width", "nothing"])
async def test_a_device_that_fails_answers_every_waiter_and_the_lane_goes_on(how: str) -> None:
    engine = on(Broken(how))
    await engine.start()
    for _ in range(2):
        answers = await asyncio.gather(*(engine.embed([crop(i)]) for i in range(3)), return_exceptions=True)
        assert all(isinstance(answer, DeviceFailed) for answer in answers)
    await engine.close()


class Clumsy(Recorder):
    """An observer with a mistake in it."""

    def batch(self, size: int, waited_s: Sequence[float], infer_s: float) -> None:
        super().batch(size, waited_s, infer_s)
        if len(self.batches) == 1:
            raise RuntimeError("cannot count")


async def test_a_mistake_of_ours_is_an_answer_too_and_the_lane_goes_on() -> None:
    engine = on(MemoryEmbedder(), observer=Clumsy())
    await engine.start()
    with pytest.raises(DeviceFailed):
        await engine.embed([crop(1)])
    odd = asyncio.create_task(engine.embed([crop(1), np.zeros((2, 2, 3), dtype=np.uint8)]))
    with pytest.raises(DeviceFailed):
        await odd
    assert len(await engine.embed([crop(1)])) == 1
    await engine.close()


async def test_a_mistaken_plan_is_an_answer_too_and_the_lane_goes_on() -> None:
    plans: list[Plan] = [lambda costs, waiting: Launch(1, 0)]  # launches nothing, once

    def plan(costs: Costs, waiting: Waiting) -> Launch:
        return (plans.pop() if plans else next_launch)(costs, waiting)

    engine = on(MemoryEmbedder(), plan=plan)
    await engine.start()
    with pytest.raises(DeviceFailed, match="no batch could be planned"):
        await engine.embed([crop(1)])
    assert len(await engine.embed([crop(1)])) == 1
    await engine.close()


async def test_places_of_callers_that_left_are_free_at_once() -> None:
    device = Held()
    engine = on(device, max_waiting=2)
    await engine.start()
    running = asyncio.create_task(engine.embed([crop(0)]))
    await begun(device)
    gone = asyncio.create_task(engine.embed([crop(1), crop(2)]))
    await queued(engine, 2)
    gone.cancel()
    await asyncio.wait([gone])
    stays = asyncio.create_task(engine.embed([crop(3), crop(4)]))
    await queued(engine, 2)
    device.leave.release(2)
    await asyncio.gather(running, stays)
    await engine.close()


async def test_a_vector_that_is_not_finite_fails_its_own_crop_only() -> None:
    engine = on(Broken("poisoned"))
    await engine.start()
    answers = await asyncio.gather(*(engine.embed([crop(i)]) for i in (12, 13, 14)), return_exceptions=True)
    assert [isinstance(answer, DeviceFailed) for answer in answers] == [False, True, False]
    await engine.close()


async def test_closing_finishes_what_waits_and_takes_no_more() -> None:
    device = Held()
    engine = on(device)
    await engine.start()
    tasks = [asyncio.create_task(engine.embed([crop(i)])) for i in range(5)]
    await begun(device)
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    with pytest.raises(NotReady, match="shutting down"):
        await engine.embed([crop(9)])
    device.leave.release(5)
    assert len(await asyncio.gather(*tasks)) == 5
    await closing


async def test_closing_does_not_wait_for_a_stuck_queue_for_ever() -> None:
    device = Held()
    engine = on(device)
    await engine.start()
    running = asyncio.create_task(engine.embed([crop(0)]))
    await begun(device)
    waiting = asyncio.create_task(engine.embed([crop(1)]))
    await queued(engine, 1)
    closing = asyncio.create_task(engine.close(drain_s=0.01))
    with pytest.raises(NotReady):
        await waiting
    device.leave.release(2)
    await closing
    assert (await asyncio.wait([running], timeout=5))[0], "whoever was on the device is answered as well"


async def test_before_the_start_nothing_is_taken() -> None:
    engine = on(MemoryEmbedder())
    with pytest.raises(NotReady, match="not loaded"):
        await engine.embed([crop(0)])
    await engine.close()
