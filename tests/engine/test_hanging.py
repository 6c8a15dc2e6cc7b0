"""A device that hangs is seen and told of, and never waited for without end. Races are arranged with events."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from app.adapters.memory import MemoryEmbedder
from app.engine import Device, Engine, Proof
from app.errors import DeviceFailed, DeviceLost
from app.ports import Embedder
from app.service.readiness import Readiness
from tests.engine.devices import Held, begun, crop, queued

pytestmark = pytest.mark.anyio
PATIENCE_S = 0.5  # far more than a batch of a device here takes, on a busy machine too


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


async def test_who_waits_for_a_device_that_hangs_is_told_and_the_device_comes_back_when_it_ends() -> None:
    device = Held()
    engine = Engine([Device("cpu", lambda: device)], call_s=PATIENCE_S, first_pause_s=0.001)
    await engine.start()
    riding = asyncio.create_task(engine.embed([crop(0)]))
    await begun(device)
    waiting = asyncio.create_task(engine.embed([crop(1)]))
    await queued(engine, 1)
    for task in (riding, waiting):
        with pytest.raises(DeviceFailed, match=r"cpu has not embedded 1 crops within 0\.5 s, and hangs"):
            await task
    assert engine.lanes[0].state == "hanging"
    state = Readiness(engine, lambda: None)
    assert (state.ready, state.state) == (False, "down")
    assert "hangs" in state.sentence
    with pytest.raises(DeviceFailed, match="no device is there"):
        await engine.embed([crop(2)])
    device.leave.release(2)
    await until(lambda: engine.lanes[0].ready)
    assert engine.lanes[0].restarts == 1
    assert len(await engine.embed([crop(3)])) == 1
    await engine.close()


async def test_other_devices_go_on() -> None:
    device = Held()
    engine = Engine([Device("a", lambda: device), Device("b", MemoryEmbedder)], call_s=PATIENCE_S)
    await engine.start()
    answers = await asyncio.gather(*(engine.embed([crop(value)]) for value in range(2)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {DeviceLost, list}  # of two idle devices each took one
    assert engine.lanes[0].state == "hanging"
    assert Readiness(engine, lambda: None).ready
    assert len(await engine.embed([crop(value) for value in range(20)])) == 20
    device.leave.release(1)
    await engine.close()


async def test_closing_leaves_behind_what_hangs_and_no_thread_keeps_the_process_from_ending() -> None:
    device = Held()
    engine = Engine([Device("cpu", lambda: device)], call_s=PATIENCE_S)
    await engine.start()
    with pytest.raises(DeviceLost):
        await engine.embed([crop(0)])
    async with asyncio.timeout(5):  # and not the ten seconds for which a queue is drained, or twenty for a device
        await engine.close()
    threads = [thread for thread in threading.enumerate() if thread.name == "device cpu"]
    assert threads
    assert all(thread.daemon for thread in threads)
    device.leave.release(1)


async def test_one_that_is_long_about_its_warm_up_keeps_no_other_from_serving() -> None:
    leave = threading.Event()

    def prove(embedder: Embedder) -> Proof:
        if isinstance(embedder, Held):
            assert leave.wait(timeout=10)
        return Proof({8: 1.0})

    engine = Engine([Device("a", Held), Device("b", MemoryEmbedder)], prove=prove)
    starting = asyncio.create_task(engine.start())
    await until(lambda: engine.started)
    assert [lane.state for lane in engine.lanes] == ["starting", "ready"]
    assert len(await engine.embed([crop(1)])) == 1
    leave.set()
    await starting
    assert engine.lanes[0].ready
    await engine.close()
