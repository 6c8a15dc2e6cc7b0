"""Who cannot be answered in time is told early, and costs no batch. Races are arranged with events."""

import asyncio

import pytest

from app.engine import Proof
from app.errors import DeadlinePassed, Overloaded
from app.ports import Embedder
from tests.engine.devices import Held, Recorder, begun, crop, on, queued

pytestmark = pytest.mark.anyio
CROP_S = 100.0  # said of a crop: so long that nothing which this machine does counts beside it


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def slow(embedder: Embedder) -> Proof:
    return Proof({1: CROP_S * 1000})


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_crop_whose_time_is_up_never_reaches_the_device() -> None:
    device, recorder = Held(), Recorder()
    engine = on(device, observer=recorder)
    await engine.start()
    running = asyncio.create_task(engine.embed([crop(0)]))
    await begun(device)
    with pytest.raises(DeadlinePassed, match="2 of 2 crops are not embedded"):
        await engine.embed([crop(1), crop(2)], due=now() + 0.01)
    assert engine.waiting == 0
    stays = asyncio.create_task(engine.embed([crop(3)]))
    await queued(engine, 1)
    device.leave.release(2)
    await asyncio.gather(running, stays)
    assert device.rode == [[0], [3]]
    assert recorder.never == {"expired": 2}
    await engine.close()


async def test_a_crop_that_comes_too_late_never_reaches_an_idle_device() -> None:
    device, recorder = Held(), Recorder()
    engine = on(device, observer=recorder)
    await engine.start()
    with pytest.raises(DeadlinePassed):
        await engine.embed([crop(1)], due=now() - 1)
    device.leave.release(1)
    await engine.embed([crop(2)])
    assert device.rode == [[2]]
    assert recorder.never == {"expired": 1}
    await engine.close()


async def test_a_deadline_that_passes_while_the_device_runs_is_told_at_once() -> None:
    device, recorder = Held(), Recorder()
    engine = on(device, observer=recorder)
    await engine.start()
    with pytest.raises(DeadlinePassed):
        await engine.embed([crop(1)], due=now() + 0.05)  # the device has no leave to end
    device.leave.release(2)
    assert len(await engine.embed([crop(2)])) == 1
    assert recorder.never == {}  # it did reach the device
    await engine.close()


async def test_who_leaves_and_who_is_refused_is_counted() -> None:
    device, recorder = Held(), Recorder()
    engine = on(device, max_waiting=2, observer=recorder)
    await engine.start()
    running = asyncio.create_task(engine.embed([crop(0)]))
    await begun(device)
    gone = asyncio.create_task(engine.embed([crop(1), crop(2)]))
    await queued(engine, 2)
    with pytest.raises(Overloaded):
        await engine.embed([crop(3)])
    gone.cancel()
    await asyncio.wait([gone])
    device.leave.release(1)
    await running
    assert recorder.never == {"refused": 1, "departed": 2}
    await engine.close()


async def test_who_would_wait_for_too_long_is_refused_and_told_when_to_come_back() -> None:
    device = Held()
    engine = on(device, prove=slow)
    await engine.start()
    tasks = [asyncio.create_task(engine.embed([crop(0)]))]
    await begun(device)
    tasks += [asyncio.create_task(engine.embed([crop(value)])) for value in (1, 2, 3)]
    await queued(engine, 3)
    # One runs, three wait, and the own crop: 500 s. Of 200 s nine tenths may be spent; 320 s later it would fit.
    with pytest.raises(Overloaded, match="3 crops wait: this would take about ") as refusal:
        await engine.embed([crop(4)], due=now() + 2 * CROP_S)
    assert 300 < refusal.value.retry_after_s <= 320
    with pytest.raises(Overloaded):
        engine.require_room(1, due=now() + 2 * CROP_S)  # the same is told before anything is decoded
    engine.require_room(1, due=now() + 6 * CROP_S)
    device.leave.release(4)
    await asyncio.gather(*tasks)
    await engine.close()


async def test_where_nothing_waits_nobody_is_refused_for_want_of_time() -> None:
    device = Held()
    engine = on(device, prove=slow)
    await engine.start()
    device.leave.release(1)
    assert len(await engine.embed([crop(1)], due=now() + CROP_S / 2)) == 1  # it was faster than it was said to be
    await engine.close()


async def test_of_a_request_that_is_too_late_the_crops_that_still_wait_leave() -> None:
    device, recorder = Held(), Recorder()
    engine = on(device, observer=recorder)
    await engine.start()
    with pytest.raises(DeadlinePassed, match="10 of 10 crops"):
        await engine.embed([crop(value) for value in range(10)], due=now() + 0.05)  # eight ride, two wait
    assert recorder.never == {"expired": 2}
    device.leave.release(2)
    await engine.close()


async def test_when_far_more_comes_than_can_be_done_the_rest_is_told_at_once_and_the_accepted_are_answered() -> None:
    device, recorder = Held(), Recorder()
    engine = on(device, prove=slow, observer=recorder)
    await engine.start()
    first = asyncio.create_task(engine.embed([crop(0)]))
    await begun(device)
    due = now() + 10 * CROP_S
    offered = [asyncio.create_task(engine.embed([crop(value)], due=due)) for value in range(1, 31)]
    # One runs, and nine tenths of 1000 s may be spent: with the own crop eight more fit, until one is done.
    refused, waiting = await asyncio.wait(offered, timeout=0.5)
    assert len(waiting) == engine.waiting == 8
    assert all(isinstance(task.exception(), Overloaded) for task in refused)
    device.leave.release(9)
    assert all(len(answer) == 1 for answer in await asyncio.gather(first, *waiting))
    assert recorder.never == {"refused": 22}
    assert sum(device.sizes) == 9
    await engine.close()
