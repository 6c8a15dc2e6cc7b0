"""Gather single crops into batches for the devices. Every crop that enters leaves with a vector or an error.

The engine is work-conserving: an idle device starts at once with what waits, and a batch forms while all are busy; there
is no waiting window. A device that shares its cores with another one helps where a queue has formed. Interactive callers
are refused when the queue is full, or when they would wait for longer than they may; patient ones (bulk indexing) wait
for room, and for a share of the devices.
"""

import asyncio
import logging
import math
from collections.abc import Iterable, Sequence
from math import inf
from typing import Literal, Protocol

import numpy as np

from app.core.planner import Costs, expected_ms, next_launch
from app.engine.lane import Device, Lane, Prove, trust
from app.engine.queue import Embedding, Plan, Queue, Waiter
from app.errors import DeadlinePassed, DeviceFailed, NotReady, Overloaded, ReidError, SetupError
from app.ports import Crop

log = logging.getLogger(__name__)
Why = Literal["refused", "departed", "expired", "failed"]
CALL_S = 60.0  # of a device that nobody has set a time for; see `Lane`
SAFE = 0.9  # of the time that a request has may be spent by what is expected: costs are known to a tenth or so


class Observer(Protocol):
    """Whoever counts what the engine does."""

    def batch(self, size: int, waited_s: Sequence[float], infer_s: float) -> None:
        """A batch of `size` crops ran; each had waited so long."""

    def dropped(self, why: Why, crops: int) -> None:
        """So many crops never reached a device.

        refused: at the door; departed: their caller left; expired: their time was up; failed: with others of their request.
        """


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
        plan: Plan = next_launch,
        prove: Prove = trust,
        first_pause_s: float = 1.0,
        call_s: float = CALL_S,
    ) -> None:
        """max_waiting: crops of either class. call_s: how long a device may take for a batch before it counts as hanging."""
        self.lanes = [Lane(device, prove, first_pause_s, call_s=call_s) for device in devices]
        self._max_waiting = max_waiting
        self._observer = observer
        self._plan = plan
        self._queue = Queue()
        self._filled = asyncio.Event()  # something waits, or the engine is closing
        self._crowded = asyncio.Event()  # more waits than some helper asks for, or it may be the last that is there
        self._room = asyncio.Event()  # a patient caller may look again
        self._ending = asyncio.Event()  # no lane need pause any longer
        self._up = asyncio.Event()  # see `started`
        self._proven = asyncio.Event()  # every device has had its chance
        self._serving: list[asyncio.Task[None]] = []
        self._opened, self._proving = False, 0

    @property
    def waiting(self) -> int:
        """Crops in the queue."""
        return len(self._queue)

    @property
    def waiting_by_class(self) -> dict[str, int]:
        """Crops in the queue that somebody waits for, and those of bulk indexing."""
        return {"interactive": len(self._queue.interactive), "bulk": len(self._queue.bulk)}

    @property
    def started(self) -> bool:
        """Whether a device serves, or every one has had its chance to."""
        return self._up.is_set()

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
        """Prove the devices; each serves the queue from then on, and waits for no other. Returns when all had their chance:
        how each did stands in `lanes`; those lost are tried again.

        Opens them first where that was not done. Raises what `open` raises.
        """
        if not self._opened:
            await self.open()
        self._proving = len(self.lanes)
        self._serving = [asyncio.create_task(self._prove(lane), name=f"lane {lane.name}") for lane in self.lanes]
        await self._proven.wait()

    def require_room(self, crops: int, due: float = inf) -> None:
        """Refuse so many interactive crops now, before anything is spent on them, where they cannot be done by `due`.

        Where nothing waits nothing is refused for want of time: nobody knows better than the device how long it takes.
        Raises Overloaded, with the seconds after which the same would be taken if nobody else came.
        """
        ahead, over = len(self._queue.interactive), len(self._queue.interactive) + crops - self._max_waiting
        if over > 0:
            sentence = f"{ahead} crops wait and {crops} more do not fit ({self._max_waiting} may wait)"
            self._refuse(crops, sentence, self._expected_s(0, over))
        left_s = due - self._now()
        if ahead and (expected_s := self._expected_s(ahead, crops)) > SAFE * left_s:
            sentence = f"{ahead} crops wait: this would take about {expected_s:.2f} s, and may take {left_s:.2f} s"
            self._refuse(crops, sentence, expected_s - SAFE * left_s)

    async def embed(self, crops: Sequence[Crop], patient: bool = False, due: float = inf) -> list[Embedding]:
        """Embed crops uint8 [256, 128, 3], in order.

        patient: bulk, which waits for room and for its share. due: by the loop's clock (`time.monotonic`), when the caller
        stops waiting.

        Raises Overloaded (see `require_room`), DeadlinePassed, DeviceFailed when the model fails or no device is there,
        NotReady when the engine is closing. When the caller is cancelled its waiting crops leave.
        """
        if not patient:
            self.require_room(len(crops), due)
        waiters: list[Waiter] = []
        why: Why = "failed"
        try:
            async with asyncio.timeout_at(None if due == inf else due):
                for crop in crops:
                    while patient and len(self._queue.bulk) >= self._max_waiting and not self.closing:
                        self._room.clear()
                        await self._room.wait()
                    waiters.append(self._enter(crop, patient, due))
                return list(await asyncio.gather(*(waiter.answer for waiter in waiters)))
        except TimeoutError as error:
            why = "expired"
            lacking = sum(not waiter.answer.done() or waiter.answer.cancelled() for waiter in waiters)
            raise DeadlinePassed(f"the time is up, and {lacking} of {len(crops)} crops are not embedded") from error
        except asyncio.CancelledError:
            why = "expired" if due <= self._now() else "departed"
            raise
        finally:
            self._leave(waiters, why)

    async def close(self, drain_s: float = 10.0) -> None:
        """Take no more, finish what waits within `drain_s`, answer the rest with NotReady, give the devices back."""
        self._ending.set()
        self._filled.set()
        self._crowded.set()
        self._room.set()
        for lane in self.lanes:
            if not lane.ready:  # it is being opened or proven, and will not be needed
                lane.give_up()
        if self._serving:
            await asyncio.wait(self._serving, timeout=drain_s)
            for task in self._serving:
                task.cancel()
        _fail(self._queue.drain(), NotReady("the server is shutting down"))
        await asyncio.gather(*(lane.close() for lane in self.lanes))

    def _enter(self, crop: Crop, patient: bool, due: float) -> Waiter:
        if self.closing or not self.started:
            raise NotReady("the server is shutting down" if self.closing else "the model is not loaded yet")
        if not any(lane.ready for lane in self.lanes):
            raise self._no_device()
        waiter = Waiter(crop, asyncio.get_running_loop().create_future(), self._now(), due)
        self._queue.put(waiter, patient)
        self._filled.set()
        self._crowded.set()
        return waiter

    def _leave(self, waiters: Sequence[Waiter], why: Why) -> None:
        """Those that are answered have left already; the places of the others are free at once."""
        if gone := [waiter for waiter in waiters if waiter.answer.cancel() or waiter.answer.cancelled()]:
            self._queue.forget(self._now())
            self._room.set()
            self._drop(why, sum(not waiter.riding for waiter in gone))

    def _refuse(self, crops: int, sentence: str, wait_s: float) -> None:
        self._drop("refused", crops)
        raise Overloaded(sentence, retry_after_s=max(1, math.ceil(wait_s)))

    def _drop(self, why: Why, crops: int) -> None:
        if self._observer and crops:
            self._observer.dropped(why, crops)

    def _expected_s(self, ahead: int, crops: int) -> float:
        """Seconds until so many crops are done that come now; 0 where nobody can tell."""
        devices = [(lane.costs, lane.busy_ms) for lane in self.lanes if lane.ready]
        return expected_ms(devices, ahead, crops, bool(self._queue.bulk)) / 1000 if devices else 0.0

    def _no_device(self) -> DeviceFailed:
        return DeviceFailed("no device is there: " + "; ".join(f"{lane.name}: {lane.sentence}" for lane in self.lanes))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _prove(self, lane: Lane) -> None:
        if lane.helps_from:  # each is timed alone, and those that help are not waited for
            await self._up.wait()
        await lane.prove()
        self._proving -= 1
        if not self._proving:
            self._proven.set()
        if lane.ready or self._proven.is_set():
            self._up.set()
        await self._serve(lane)

    async def _serve(self, lane: Lane) -> None:
        while not (self.closing and not self._queue):
            if not lane.ready:
                self._dismiss()
                if lane.state == "failed":
                    await lane.give_back()
                if lane.state == "failed" or self.closing:
                    return
                await self._revive(lane)
                continue
            call = self._crowded if lane.helps_from else self._filled
            await call.wait()
            if self._needs(lane) and (batch := self._take(lane.costs)):
                await self._launch(lane, batch)
            elif not self.closing:
                call.clear()

    def _needs(self, lane: Lane) -> bool:
        """Whether a device is to take what waits. One that helps does where much waits, or where no other is left to do it."""
        if not lane.helps_from or self.closing or len(self._queue) >= lane.helps_from:
            return True
        return not any(other.ready for other in self.lanes if other.helps_from < lane.helps_from)

    def _dismiss(self) -> None:
        """Where no device serves, nobody is left waiting for one."""
        self._crowded.set()
        if not any(lane.ready for lane in self.lanes):
            _fail(self._queue.drain(), self._no_device())
            self._room.set()

    async def _revive(self, lane: Lane) -> None:
        """When a lost device has rested, open it anew."""
        log.info("%s: opened again in %g s, or after what hangs on it has ended", lane.name, lane.pause_s)
        rested, ending = asyncio.create_task(lane.rest()), asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({rested, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            rested.cancel()
            ending.cancel()
        if not self.closing:
            await lane.reopen()

    def _take(self, costs: Costs) -> list[Waiter]:
        """The next batch. A mistake in the plan is an answer too: else all would wait for ever."""
        idle = sum(lane.ready and not lane.busy and self._needs(lane) for lane in self.lanes)
        try:
            return self._queue.take(self._plan, costs, self._now(), idle)
        except Exception:
            log.exception("no batch could be planned")
            _fail(self._queue.drain(), DeviceFailed("no batch could be planned; the log says why"))
            return []
        finally:
            self._room.set()

    async def _launch(self, lane: Lane, batch: list[Waiter]) -> None:
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

    async def _answer(self, lane: Lane, batch: list[Waiter]) -> None:
        started = self._now()
        busy = 1 + sum(other.busy for other in self.lanes if other is not lane and other.beside > 1)
        vectors = await lane.embed(
            [waiter.crop for waiter in batch], share=lane.beside / busy if lane.beside > 1 else 1.0
        )
        infer_s = self._now() - started
        waited_s = [started - waiter.entered for waiter in batch]
        if self._observer:
            self._observer.batch(len(batch), waited_s, infer_s)
        for waiter, vector, queue_s in zip(batch, vectors, waited_s, strict=True):
            if not np.isfinite(vector).all():
                _fail([waiter], DeviceFailed("the model gave a vector that is not finite"))
            elif not waiter.answer.done():
                waiter.answer.set_result(Embedding(vector, queue_s, infer_s))


def _fail(waiters: Iterable[Waiter], error: ReidError) -> None:
    for waiter in waiters:
        if not waiter.answer.done():
            waiter.answer.set_exception(error)
