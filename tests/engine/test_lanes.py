"""Several devices before one queue; those that are lost come back, and nobody waits for one that does not."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from app.adapters.memory import MemoryEmbedder
from app.core.planner import Costs, Launch, Waiting
from app.core.preprocess import Crop
from app.engine import Device, Engine, Lane, Proof, Prove, trust
from app.errors import BadDevice, DeviceFailed, DeviceLost, VerificationFailed
from app.ports import Crops, Embedder, Floats

pytestmark = pytest.mark.anyio
CROP: Crop = np.zeros((256, 128, 3), dtype=np.uint8)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Chip:
    """A device that does as it is told: errors for its next openings and batches, in order; None lets one pass."""

    openings: list[Exception | None] = field(default_factory=list)
    batches: list[Exception | None] = field(default_factory=list)
    opened: int = 0
    closed: int = 0

    def open(self) -> Embedder:
        self.opened += 1
        if self.openings and (error := self.openings.pop(0)):
            raise error
        return OnChip(self)


class OnChip(MemoryEmbedder):
    def __init__(self, chip: Chip) -> None:
        self.chip = chip

    def embed(self, crops: Crops) -> Floats:
        if self.chip.batches and (error := self.chip.batches.pop(0)):
            raise error
        return super().embed(crops)

    def close(self) -> None:
        self.chip.closed += 1


def engine_on(*chips: Chip, prove: Prove = trust, first_pause_s: float = 0.001) -> Engine:
    devices = [Device(f"ascend:{n}", chip.open) for n, chip in enumerate(chips)]
    return Engine(devices, prove=prove, first_pause_s=first_pause_s)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


async def test_two_devices_work_at_the_same_time() -> None:
    together = threading.Barrier(2)  # passes only when both are inside a batch

    class Meeting(MemoryEmbedder):
        def embed(self, crops: Crops) -> Floats:
            together.wait(timeout=10)
            return super().embed(crops)

    def one_at_a_time(costs: Costs, waiting: Waiting) -> Launch:
        return Launch(1, 1)

    engine = Engine([Device("a", Meeting), Device("b", Meeting)], plan=one_at_a_time)
    await engine.start()
    assert len(await engine.embed([CROP, CROP])) == 2
    await engine.close()


async def test_a_lost_device_answers_its_waiters_with_the_error_and_is_opened_again() -> None:
    chip = Chip(batches=[DeviceLost("the chip is gone")])
    engine = engine_on(chip)
    await engine.start()
    with pytest.raises(DeviceFailed, match="the chip is gone"):
        await engine.embed([CROP])
    await until(lambda: engine.lanes[0].ready)
    assert (chip.opened, chip.closed, engine.lanes[0].restarts) == (2, 1, 1)
    assert len(await engine.embed([CROP])) == 1
    await engine.close()


async def test_while_no_device_is_there_nobody_is_kept_waiting() -> None:
    held, leave = threading.Event(), threading.Event()

    class Dying(MemoryEmbedder):
        def embed(self, crops: Crops) -> Floats:
            held.set()
            leave.wait(timeout=10)
            raise DeviceLost("it broke")

    engine = Engine([Device("ascend:0", Dying)], first_pause_s=60)
    await engine.start()
    running = asyncio.create_task(engine.embed([CROP]))
    assert await asyncio.to_thread(held.wait, 10)
    queued = asyncio.create_task(engine.embed([CROP]))
    patient = asyncio.create_task(engine.embed([CROP], patient=True))
    await until(lambda: engine.waiting == 2)
    leave.set()
    for task in (running, queued, patient):
        with pytest.raises(DeviceFailed, match="it broke"):
            await task
    with pytest.raises(DeviceFailed, match="no device is there: ascend:0: it broke"):
        await engine.embed([CROP])
    await engine.close()  # at once, though the pause is long


async def test_whoever_waits_for_the_last_device_is_told_when_it_is_given_up() -> None:
    held, leave = threading.Event(), threading.Event()

    class Misfit(MemoryEmbedder):
        def embed(self, crops: Crops) -> Floats:
            held.set()
            leave.wait(timeout=10)
            raise BadDevice("the OM does not fit")

    engine = Engine([Device("ascend:0", Misfit)])
    await engine.start()
    running = asyncio.create_task(engine.embed([CROP]))
    assert await asyncio.to_thread(held.wait, 10)
    queued = asyncio.create_task(engine.embed([CROP]))
    patient = asyncio.create_task(engine.embed([CROP], patient=True))
    await until(lambda: engine.waiting == 2)
    leave.set()
    async with asyncio.timeout(10):
        for task in (running, queued, patient):
            with pytest.raises(DeviceFailed, match="does not fit"):
                await task
    await engine.close()


async def test_a_device_comes_back_whatever_an_attempt_to_open_it_ran_into() -> None:
    full, mistake = OSError(28, "No space left on device"), TypeError("a mistake of ours")
    chip = Chip(openings=[None, full, mistake], batches=[DeviceLost("gone")])
    engine = engine_on(chip)
    await engine.start()
    with pytest.raises(DeviceLost):
        await engine.embed([CROP])
    await until(lambda: engine.lanes[0].ready)
    assert (chip.opened, engine.lanes[0].restarts) == (4, 3)
    await engine.close()


async def test_a_device_that_cannot_be_closed_is_opened_again_all_the_same() -> None:
    chip = Chip(batches=[DeviceLost("gone")])

    class Stuck(OnChip):
        def close(self) -> None:
            super().close()
            raise OSError("the driver does not answer")

    def open_it() -> Embedder:
        chip.opened += 1
        return Stuck(chip)

    engine = Engine([Device("ascend:0", open_it)], first_pause_s=0.001)
    await engine.start()
    with pytest.raises(DeviceLost):
        await engine.embed([CROP])
    await until(lambda: engine.lanes[0].ready)
    await engine.close()
    assert (chip.opened, chip.closed) == (2, 2)


@pytest.mark.parametrize("step", ["open", "start"])
async def test_closing_gives_up_what_is_being_opened_and_closes_what_comes_of_it(step: str) -> None:
    begun, given_up = threading.Event(), threading.Event()
    chip = Chip()

    def open_slowly() -> Embedder:
        begun.set()
        assert given_up.wait(timeout=10)
        return chip.open()

    engine = Engine([Device("ascend:0", open_slowly, given_up.set)])
    opening = asyncio.create_task(engine.open() if step == "open" else engine.start())
    assert await asyncio.to_thread(begun.wait, 10)
    opening.cancel()  # as Ctrl-C does
    await engine.close()
    assert (chip.opened, chip.closed) == (1, 1)


async def test_closing_does_not_wait_for_a_lost_device_that_is_being_opened_again() -> None:
    begun, given_up = threading.Event(), threading.Event()
    openings = iter(["first", "again"])

    class Dying(MemoryEmbedder):
        def embed(self, crops: Crops) -> Floats:
            raise DeviceLost("gone")

    def open_it() -> Embedder:
        if next(openings) == "again":
            begun.set()
            assert given_up.wait(timeout=10)
            raise DeviceLost("given up")
        return Dying()

    engine = Engine([Device("ascend:0", open_it, given_up.set)], first_pause_s=0.001)
    await engine.start()
    with pytest.raises(DeviceLost):
        await engine.embed([CROP])
    assert await asyncio.to_thread(begun.wait, 10)
    async with asyncio.timeout(5):  # and not the ten seconds for which a queue is drained
        await engine.close()


async def test_another_device_serves_on_while_one_is_lost() -> None:
    lost, sound = Chip(openings=[DeviceFailed("busy")] * 100), Chip()
    engine = engine_on(lost, sound)
    await engine.start()
    assert [one.state for one in engine.lanes] == ["down", "ready"]
    assert len(await engine.embed([CROP] * 20)) == 20
    await until(lambda: lost.opened > 2)  # and it is asked again
    await engine.close()


async def test_pauses_double_and_end_at_a_minute() -> None:
    chip = Chip(openings=[DeviceFailed("busy")] * 8)
    engine = engine_on(chip, first_pause_s=1)
    pauses = []
    for _ in range(8):
        await engine.lanes[0].open()
        pauses.append(engine.lanes[0].pause_s)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    await engine.close()


async def test_a_card_that_is_dead_for_days_is_still_asked_once_a_minute() -> None:
    times = 1100  # 18 hours; 2 to that power is no float
    lane = Lane(Device("ascend:0", Chip(openings=[DeviceFailed("busy")] * times).open))
    for _ in range(times):
        await lane.open()
    assert lane.pause_s == 60
    await lane.close()


async def test_a_device_lost_soon_after_each_proof_is_left_alone_ever_longer_and_one_that_served_is_not() -> None:
    now_s = 0.0
    chip = Chip(batches=[DeviceLost("gone"), DeviceLost("gone"), None, DeviceLost("gone")])
    lane = Lane(Device("ascend:0", chip.open), clock=lambda: now_s)
    await lane.open()
    pauses = []
    for served_s in (1, 1, 61):
        await lane.prove()
        now_s += served_s
        if served_s > 60:
            await lane.embed([CROP])
        with pytest.raises(DeviceLost):
            await lane.embed([CROP])
        pauses.append(lane.pause_s)
    assert pauses == [1, 2, 1]
    await lane.close()


async def test_a_device_that_is_set_up_wrongly_is_not_asked_again() -> None:
    wrong, sound = Chip(openings=[BadDevice("no such chip")]), Chip()
    engine = engine_on(wrong, sound)
    await engine.start()
    assert [one.state for one in engine.lanes] == ["failed", "ready"]
    assert len(await engine.embed([CROP])) == 1
    assert wrong.opened == 1
    await engine.close()


async def test_when_no_device_can_ever_come_the_start_is_refused() -> None:
    engine = engine_on(Chip(openings=[BadDevice("aclruntime is not installed")]))
    with pytest.raises(BadDevice, match="aclruntime is not installed"):
        await engine.start()
    await engine.close()


async def test_a_device_that_does_not_prove_itself_never_serves() -> None:
    def refuse(embedder: Embedder) -> Proof:
        raise VerificationFailed("cosine 0.9")

    chip = Chip()
    engine = engine_on(chip, prove=refuse)
    await engine.start()
    assert (engine.lanes[0].state, engine.lanes[0].sentence) == ("failed", "cosine 0.9")
    with pytest.raises(DeviceFailed, match=r"cosine 0\.9"):
        await engine.embed([CROP])
    await until(lambda: chip.closed == 1)  # what does not serve holds no device
    await engine.close()
    assert chip.closed == 1


async def test_a_device_is_proven_again_after_every_opening() -> None:
    proven: list[Embedder] = []

    def note(embedder: Embedder) -> Proof:
        proven.append(embedder)
        return Proof({8: 1.0}, 0.9999)

    chip = Chip(batches=[DeviceLost("gone")])
    engine = engine_on(chip, prove=note)
    await engine.start()
    with pytest.raises(DeviceLost):
        await engine.embed([CROP])
    await until(lambda: engine.lanes[0].ready)
    assert len(proven) == 2
    await engine.close()


async def test_a_fault_of_set_up_that_shows_while_running_ends_the_lane() -> None:
    chip = Chip(batches=[BadDevice("the OM does not fit")])
    engine = engine_on(chip)
    await engine.start()
    with pytest.raises(DeviceFailed, match="the OM does not fit"):
        await engine.embed([CROP])
    assert engine.lanes[0].state == "failed"
    await until(lambda: chip.closed == 1)
    await engine.close()
    assert (chip.opened, chip.closed) == (1, 1)
