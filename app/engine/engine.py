"""Gather single crops into batches for the devices. Every crop that enters leaves with a vector or an error.

The engine is work-conserving: an idle device starts at once with what waits, and a batch forms while all are busy; there
is no waiting window. Interactive callers are refused when the queue is full; patient ones (bulk indexing) wait for room.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from app.core.planner import launch_size
from app.engine.lane import Device, Lane, Prove, trust
from app.errors import DeviceFailed, NotReady, Overloaded, ReidError, SetupError
from app.ports import Crop, Floats

log = logging.getLogger(__name__)
Plan = Callable[[int, Mapping[int, float]], int]  # crops waiting, milliseconds by batch size -> crops to launch now


@dataclass(frozen=True, slots=True)
class Embedding:
    """A crop's raw vector float32 [dim], how long the crop waited and how long its batch ran."""

    vector: Floats
    queue_s: float
    infer_s: float


class Observer(Protocol):
    """Whoever counts what the engine does."""

    def batch(self, size: int, waited_s: Sequence[float], infer_s: float) -> None:
        """A batch of `size` crops ran; each had waited so long."""


@dataclass(eq=False, slots=True)
class _Waiter:
    crop: Crop
    answer: asyncio.Future[Embedding]
    entered: float


class Engine:
    """One queue before one or more devices.

    engine = Engine([Device("cpu", open_embedder)], max_waiting=256)
    await engine.open()
    await engine.start()
    (embedding,) = await engine.embed([crop])
    await engine.close()
    """

    def __init__(
        self,
        devices: Sequence[Device],
        max_waiting: int = 256,
        observer: Observer | None = None,
        plan: Plan = launch_size,
        prove: Prove = trust,
        first_pause_s: float = 1.0,
    ) -> None:
        self.lanes = [Lane(device, prove, first_pause_s) for device in devices]
        self._max_waiting = max_waiting
        self._observer = observer
        self._plan = plan
        self._waiting: deque[_Waiter] = deque()
        self._filled = asyncio.Event()  # something waits, or the engine is closing
        self._room = asyncio.Event()  # a patient caller may look again
        self._ending = asyncio.Event()  # no lane need pause any longer
        self._serving: list[asyncio.Task[None]] = []
        self._opened = False
        self._crop_s = 0.05  # recent seconds of device time per crop, for Retry-After

    @property
    def waiting(self) -> int:
        """Crops in the queue."""
        return len(self._waiting)

    @property
    def started(self) -> bool:
        """Whether every device has had its chance to come up."""
        return bool(self._serving)

    @property
    def closing(self) -> bool:
        """Whether no more crops are taken."""
        return self._ending.is_set()

    async def open(self) -> None:
        """Open all devices, side by side. Raises a SetupError when no device can ever come."""
        self._opened = True
        outcomes = await asyncio.gather(*(lane.open() for lane in self.lanes), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if not isinstance(failure, SetupError) or len(failures) == len(self.lanes):
                raise failure

    async def start(self) -> None:
        """Prove the devices and begin to serve the queue. How each did stands in `lanes`; those lost are tried again.

        Opens them first where that was not done. Raises what `open` raises.
        """
        if not self._opened:
            await self.open()
        await asyncio.gather(*(lane.prove() for lane in self.lanes))
        self._serving = [asyncio.create_task(self._serve(lane), name=f"lane {lane.name}") for lane in self.lanes]

    async def embed(self, crops: Sequence[Crop], patient: bool = False) -> list[Embedding]:
        """Embed crops uint8 [256, 128, 3], in order.

        Raises Overloaded when the queue has no room for all of them (a patient caller waits instead), DeviceFailed when
        the model fails or no device is there, NotReady when the engine is closing. When the caller is cancelled its
        waiting crops leave.
        """
        if not patient and len(self._waiting) + len(crops) > self._max_waiting:
            self._refuse(len(crops))
        waiters: list[_Waiter] = []
        try:
            for crop in crops:
                while patient and len(self._waiting) >= self._max_waiting and not self.closing:
                    self._room.clear()
                    await self._room.wait()
                waiters.append(self._enter(crop))
            return list(await asyncio.gather(*(waiter.answer for waiter in waiters)))
        finally:
            for waiter in waiters:
                waiter.answer.cancel()  # no effect on those answered
            if any(waiter.answer.cancelled() for waiter in waiters):  # their places are for others, at once
                self._waiting = deque(waiter for waiter in self._waiting if not waiter.answer.done())
                self._room.set()

    async def close(self, drain_s: float = 10.0) -> None:
        """Take no more, finish what waits within `drain_s`, answer the rest with NotReady, give the devices back."""
        self._ending.set()
        self._filled.set()
        self._room.set()
        for lane in self.lanes:
            if not lane.ready:  # it is being opened or proven, and will not be needed
                lane.give_up()
        if self._serving:
            await asyncio.wait(self._serving, timeout=drain_s)
            for task in self._serving:
                task.cancel()
        _fail(self._waiting, NotReady("the server is shutting down"))
        await asyncio.gather(*(lane.close() for lane in self.lanes))

    def _enter(self, crop: Crop) -> _Waiter:
        if self.closing or not self.started:
            raise NotReady("the server is shutting down" if self.closing else "the model is not loaded yet")
        if not any(lane.ready for lane in self.lanes):
            raise self._no_device()
        waiter = _Waiter(crop, asyncio.get_running_loop().create_future(), time.perf_counter())
        self._waiting.append(waiter)
        self._filled.set()
        return waiter

    def _refuse(self, count: int) -> None:
        wait_s = max(1, math.ceil(len(self._waiting) * self._crop_s))
        raise Overloaded(
            f"{len(self._waiting)} crops wait and {count} more do not fit ({self._max_waiting} may wait)",
            retry_after_s=wait_s,
        )

    def _no_device(self) -> DeviceFailed:
        return DeviceFailed("no device is there: " + "; ".join(f"{lane.name}: {lane.sentence}" for lane in self.lanes))

    async def _serve(self, lane: Lane) -> None:
        while not (self.closing and not self._waiting):
            if not lane.ready:
                self._dismiss()
                if lane.state == "failed":
                    await lane.give_back()
                if lane.state == "failed" or self.closing:
                    return
                await self._revive(lane)
                continue
            await self._filled.wait()
            if batch := self._take(lane):
                await self._launch(lane, batch)
            elif not self.closing:
                self._filled.clear()

    def _dismiss(self) -> None:
        """Where no device serves, nobody is left waiting for one."""
        if not any(lane.ready for lane in self.lanes):
            waiting, self._waiting = self._waiting, deque()
            _fail(waiting, self._no_device())
            self._room.set()

    async def _revive(self, lane: Lane) -> None:
        """After a pause, open a lost device anew."""
        log.info("%s: opened again in %g s", lane.name, lane.pause_s)
        try:
            await asyncio.wait_for(self._ending.wait(), lane.pause_s)
        except TimeoutError:
            await lane.reopen()

    def _take(self, lane: Lane) -> list[_Waiter]:
        """The next batch, without those whose callers have left."""
        batch: list[_Waiter] = []
        wanted = max(1, self._plan(len(self._waiting), lane.proof.batch_ms if lane.proof else {1: 1.0}))
        while self._waiting and len(batch) < wanted:
            waiter = self._waiting.popleft()
            if not waiter.answer.done():
                batch.append(waiter)
        self._room.set()
        return batch

    async def _launch(self, lane: Lane, batch: list[_Waiter]) -> None:
        """Run a batch and answer its waiters. Whatever goes wrong is an answer too: a lane that ends leaves all waiting."""
        try:
            await self._answer(lane, batch)
        except asyncio.CancelledError:
            _fail(batch, NotReady("the server is shutting down"))
            raise
        except ReidError as error:
            _fail(batch, error)
        except Exception:  # a mistake in the embedder or in whoever observes: the log has it, the waiters are told
            log.exception("a batch of %d failed", len(batch))
            _fail(batch, DeviceFailed("the model failed on a batch; the log says why"))

    async def _answer(self, lane: Lane, batch: list[_Waiter]) -> None:
        started = time.perf_counter()
        vectors = await lane.embed([waiter.crop for waiter in batch])
        infer_s = time.perf_counter() - started
        self._crop_s = 0.8 * self._crop_s + 0.2 * infer_s / len(batch)
        waited_s = [started - waiter.entered for waiter in batch]
        if self._observer:
            self._observer.batch(len(batch), waited_s, infer_s)
        for waiter, vector, queue_s in zip(batch, vectors, waited_s, strict=True):
            if not np.isfinite(vector).all():
                _fail([waiter], DeviceFailed("the model gave a vector that is not finite"))
            elif not waiter.answer.done():
                waiter.answer.set_result(Embedding(vector, queue_s, infer_s))


def _fail(waiters: Iterable[_Waiter], error: ReidError) -> None:
    for waiter in waiters:
        if not waiter.answer.done():
            waiter.answer.set_exception(error)
