"""Gather single crops into batches for one device. Every crop that enters leaves with a vector or an error.

The engine is work-conserving: an idle device starts at once with what waits, and a batch forms while it is busy; there
is no waiting window. Interactive callers are refused when the queue is full; patient ones (bulk indexing) wait for room.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from app.errors import DeviceFailed, NotReady, Overloaded, ReidError
from app.ports import Crop, Embedder, Floats

log = logging.getLogger(__name__)
Plan = Callable[[int], int]  # crops waiting -> crops to launch now


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
    """One queue before one embedder.

    engine = Engine(embedder, max_waiting=256)
    await engine.start()
    (embedding,) = await engine.embed([crop])
    await engine.close()
    """

    def __init__(
        self, embedder: Embedder, max_waiting: int = 256, observer: Observer | None = None, plan: Plan | None = None
    ) -> None:
        self.embedder = embedder
        self._max_waiting = max_waiting
        self._observer = observer
        self._plan: Plan = plan or (lambda waiting: min(waiting, embedder.batch_sizes[-1]))
        self._waiting: deque[_Waiter] = deque()
        self._filled = asyncio.Event()  # something waits, or the engine is closing
        self._room = asyncio.Event()  # a patient caller may look again
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")  # one thread: it owns the device
        self._lane: asyncio.Task[None] | None = None
        self._closing = False
        self._crop_s = 0.05  # recent seconds of device time per crop, for Retry-After

    @property
    def waiting(self) -> int:
        """Crops in the queue."""
        return len(self._waiting)

    async def start(self) -> None:
        """Begin to serve the queue."""
        self._lane = asyncio.create_task(self._serve(), name="engine lane")

    async def embed(self, crops: Sequence[Crop], patient: bool = False) -> list[Embedding]:
        """Embed crops uint8 [256, 128, 3], in order.

        Raises Overloaded when the queue has no room for all of them (a patient caller waits instead), DeviceFailed when
        the model fails, NotReady when the engine is closing. When the caller is cancelled its waiting crops leave.
        """
        if not patient and len(self._waiting) + len(crops) > self._max_waiting:
            self._refuse(len(crops))
        waiters: list[_Waiter] = []
        try:
            for crop in crops:
                while patient and len(self._waiting) >= self._max_waiting and not self._closing:
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

    async def run(self, crops: Crop) -> Floats:
        """Run one batch uint8 [n, 256, 128, 3] on the device as it is, beside the queue: for warm-up and checks."""
        return await asyncio.get_running_loop().run_in_executor(self._device, self._embed, crops)

    async def close(self, drain_s: float = 10.0) -> None:
        """Take no more, finish what waits within `drain_s`, answer the rest with NotReady, give the device back."""
        self._closing = True
        self._filled.set()
        self._room.set()
        if self._lane:
            await asyncio.wait([self._lane], timeout=drain_s)
            self._lane.cancel()
        _fail(self._waiting, NotReady("the server is shutting down"))
        await asyncio.get_running_loop().run_in_executor(self._device, self.embedder.close)
        self._device.shutdown()

    def _enter(self, crop: Crop) -> _Waiter:
        if self._closing or self._lane is None:
            raise NotReady("the server is shutting down" if self._closing else "the model is not loaded yet")
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

    async def _serve(self) -> None:
        while not (self._closing and not self._waiting):
            await self._filled.wait()
            if batch := self._take():
                await self._launch(batch)
            elif not self._closing:
                self._filled.clear()

    def _take(self) -> list[_Waiter]:
        """The next batch, without those whose callers have left."""
        batch: list[_Waiter] = []
        wanted = max(1, self._plan(len(self._waiting)))
        while self._waiting and len(batch) < wanted:
            waiter = self._waiting.popleft()
            if not waiter.answer.done():
                batch.append(waiter)
        self._room.set()
        return batch

    async def _launch(self, batch: list[_Waiter]) -> None:
        """Run a batch and answer its waiters. Whatever goes wrong is an answer too: a lane that ends leaves all waiting."""
        try:
            await self._answer(batch)
        except asyncio.CancelledError:
            _fail(batch, NotReady("the server is shutting down"))
            raise
        except ReidError as error:
            _fail(batch, error)
        except Exception:  # a mistake in the embedder or in whoever observes: the log has it, the waiters are told
            log.exception("a batch of %d failed", len(batch))
            _fail(batch, DeviceFailed("the model failed on a batch; the log says why"))

    async def _answer(self, batch: list[_Waiter]) -> None:
        started = time.perf_counter()
        vectors = await self.run(np.stack([waiter.crop for waiter in batch]))
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

    def _embed(self, crops: Crop) -> Floats:
        """Runs in the device's thread; whatever goes wrong there becomes one of our errors."""
        try:
            vectors = np.asarray(self.embedder.embed(crops))
        except ReidError:
            raise
        except Exception as error:  # the device's library may raise anything
            log.exception("the embedder failed on a batch of %d", len(crops))
            raise DeviceFailed("the model failed on a batch; the log says why") from error
        if vectors.shape != (len(crops), self.embedder.dim):
            raise DeviceFailed(f"{len(crops)} crops went in, an array of shape {vectors.shape} came out")
        return vectors


def _fail(waiters: Iterable[_Waiter], error: ReidError) -> None:
    for waiter in waiters:
        if not waiter.answer.done():
            waiter.answer.set_exception(error)
