"""One device: its thread, the embedder that is open on it, and how it is doing.

A device is opened, then proven (each batch size runs, the golden crops come out right), then it serves. One that is lost
is closed and opened anew, later each time; one that is set up wrongly is given up, since waiting changes nothing. No
call is waited for without end: a device whose call lasts too long is `hanging` until that call ends, if it ever does.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from app.core.planner import Costs
from app.engine.thread import DeviceThread
from app.errors import DeviceFailed, DeviceLost, ReidError, SetupError
from app.ports import Crop, Embedder, Floats

log = logging.getLogger(__name__)
State = Literal["starting", "ready", "down", "hanging", "failed", "stopped"]
Answer = TypeVar("Answer")
LONGEST_PAUSE_S = 60.0  # a dead card is asked once a minute
START_S = 600.0  # opening several large models from a slow disk, or a warm-up on a busy host
CLOSE_S = 20.0  # a worker has half of it to end in order, and is killed then


def _nothing() -> None:
    """There is nothing to break off."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a lane is made of: the name people give it (`cpu`, `ascend:0`) and the way to open an embedder on it.

    give_up: makes what runs on the device, or opens it, fail soon; called from another thread, when the lane closes.
    pads: whether a batch of another size than those it has costs as much as one of the next larger size.
    beside: how many devices compute on the same cores, this one included; a batch that is alone there has all of them.
    helps_from: it takes part only where so many crops wait, since it takes cores from another device.
    """

    name: str
    open: Callable[[], Embedder]
    give_up: Callable[[], None] = _nothing
    pads: bool = True
    beside: int = 1
    helps_from: int = 0


@dataclass(frozen=True, slots=True)
class Proof:
    """What a device showed before it was trusted: milliseconds by batch size, and the golden crops' lowest cosine."""

    batch_ms: Mapping[int, float]
    golden_cosine: float | None = None


Prove = Callable[[Embedder], Proof]  # raises ReidError when the device may not serve


def trust(embedder: Embedder) -> Proof:
    """No proof at all; every batch size is taken to cost the same."""
    return Proof(dict.fromkeys(embedder.batch_sizes, 1.0))


class Lane:
    """The only caller of its embedder, always from one thread."""

    def __init__(
        self,
        device: Device,
        prove: Prove = trust,
        first_pause_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        call_s: float = 60.0,
    ) -> None:
        """first_pause_s: how long a lost device is left alone at first; a driver that restarts is back in seconds.

        call_s: how long a batch may take. An adapter that can end what hangs (a worker) has to do so before.
        """
        self.name, self.beside, self.helps_from = device.name, device.beside, device.helps_from
        self.state: State = "starting"
        self.sentence = "the model is warming up"
        self.proof: Proof | None = None
        self.costs = Costs({1: 1.0})  # until it is proven
        self.restarts = 0
        self._device, self._prove, self._clock, self._call_s = device, prove, clock, call_s
        self._embedder: Embedder | None = None
        self._first_pause_s, self._lost_in_a_row, self._ready_since = first_pause_s, 0, clock()
        self._running, self._began = 0, 0.0  # crops of the batch that runs, and since when
        self._hanging: asyncio.Future[Any] | None = None  # a call that was waited for long enough
        # One thread: what runs on the device is called, opened and closed from it alone.
        self._thread = DeviceThread(f"device {device.name}")

    @property
    def ready(self) -> bool:
        """Whether it takes batches."""
        return self.state == "ready"

    @property
    def busy(self) -> bool:
        """Whether a batch runs."""
        return self._running > 0

    @property
    def busy_ms(self) -> float:
        """Milliseconds until the batch that runs should be done."""
        if not self.busy:
            return 0.0
        return max(0.0, self.costs.ms(self._running) - (self._clock() - self._began) * 1000)

    @property
    def pause_s(self) -> float:
        """How long to leave a lost device alone before it is opened again."""
        doublings = min(max(0, self._lost_in_a_row - 1), 30)  # more would end beyond what a float holds
        return float(min(LONGEST_PAUSE_S, self._first_pause_s * 2**doublings))

    async def open(self) -> None:
        """Open the embedder. Raises SetupError; a device that cannot be opened now is `down`, to be tried again."""
        try:
            await self._call(self._open, START_S, "opened its model")
        except SetupError as error:
            self._note("failed", str(error))
            raise
        except DeviceFailed as error:
            self._lose(error)
        except Exception:  # a mistake of ours, or of the machine: no room on the disk, no process to be had
            log.exception("%s cannot be opened", self.name)
            self._lose(DeviceLost("it cannot be opened; the log says why"))

    async def prove(self) -> None:
        """Let an open embedder show that it may be trusted; the state says whether it did."""
        if (embedder := self._embedder) is None:
            return
        try:
            self.proof = await self._call(lambda: self._prove(embedder), START_S, "ended its warm-up")
        except SetupError as error:
            self._note("failed", str(error))
        except ReidError as error:
            self._lose(DeviceLost(f"the warm-up failed: {error}"))
        except Exception:  # a mistake in the embedder: the log has it
            log.exception("%s: the warm-up failed", self.name)
            self._lose(DeviceLost("the warm-up failed; the log says why"))
        else:
            # It was alone when it was timed. What is planned and promised is what it costs beside the others.
            self.costs = Costs({size: ms * self.beside for size, ms in self.proof.batch_ms.items()}, self._device.pads)
            self.state, self.sentence, self._ready_since = "ready", "ready", self._clock()

    async def reopen(self) -> None:
        """Close what is left of the embedder and begin again."""
        self.restarts += 1
        await self.give_back()
        if self._hanging is not None:
            return self._lose(DeviceLost("it cannot be closed, and hangs"))
        try:
            await self.open()
        except SetupError:
            return  # the state says so
        await self.prove()

    async def embed(self, crops: Sequence[Crop], share: float = 1.0) -> Floats:
        """Run one batch. share: of what it would have beside all others, the cores that it has; 2 where it has twice as many.

        Raises DeviceFailed; DeviceLost when the lane is down because of it.
        """
        embedder = self._embedder
        if embedder is None:
            raise DeviceFailed(f"{self.name}: {self.sentence}")
        self._running, self._began = len(crops), self._clock()
        try:
            answer = await self._call(lambda: embedder.embed(crops), self._call_s, f"embedded {len(crops)} crops")
            vectors = np.asarray(answer)
        except DeviceLost as error:
            self._lose(error)
            raise
        except SetupError as error:
            self._note("failed", str(error))
            raise DeviceFailed(f"{self.name}: {error}") from error
        except ReidError:
            raise
        except Exception as error:  # the device's library may raise anything
            log.exception("the embedder failed on a batch of %d", len(crops))
            raise DeviceFailed("the model failed on a batch; the log says why") from error
        finally:
            self._running = 0
        if vectors.shape != (len(crops), embedder.dim):
            raise DeviceFailed(f"{len(crops)} crops went in, an array of shape {vectors.shape} came out")
        self.costs = self.costs.seen(len(crops), (self._clock() - self._began) * 1000 * share)
        return vectors

    async def rest(self) -> None:
        """Returns when a lost device may be opened again: what hangs has ended, and a pause after it."""
        if self._hanging is not None:
            await asyncio.wait({self._hanging})
            self._hanging = None
            self._note("down", "it was late, and is opened anew")
        await asyncio.sleep(self.pause_s)

    def give_up(self) -> None:
        """Let what runs on the device fail soon: nobody waits for it any longer."""
        self._device.give_up()

    async def close(self) -> None:
        """Give the device back and end the thread. What still runs on the device is given up, what hangs is left behind."""
        self.give_up()
        try:
            if self._hanging is None or self._hanging.done():
                await self.give_back()
        finally:
            self._thread.end()
        self.state, self.sentence = "stopped", "the server is shutting down"

    async def give_back(self) -> None:
        """Close the embedder, if one is open: what does not serve holds no device."""
        try:
            await self._call(self._close, CLOSE_S, "been given back")
        except Exception:  # whether the device is free shows when it is opened next
            log.exception("%s cannot be closed", self.name)

    def _open(self) -> None:
        """In the thread: an embedder that comes when nobody waits for it any more is there to be closed all the same."""
        self._embedder = self._device.open()

    def _close(self) -> None:
        embedder, self._embedder = self._embedder, None
        if embedder is not None:
            embedder.close()

    async def _call(self, work: Callable[[], Answer], within_s: float, what: str) -> Answer:
        """Run it in the thread. Raises DeviceLost when it lasts too long: a thread cannot be ended, only waited for no more."""
        call = self._thread.call(work)
        await asyncio.wait({call}, timeout=within_s)
        if call.done():
            return call.result()
        self._hanging = call
        raise DeviceLost(f"{self.name} has not {what} within {within_s:g} s, and hangs")

    def _lose(self, error: DeviceFailed) -> None:
        """One that serves for a while begins anew; one that is lost soon after each proof is left alone ever longer."""
        if self.ready and self._clock() - self._ready_since > LONGEST_PAUSE_S:
            self._lost_in_a_row = 0
        self._lost_in_a_row += 1
        self._note("down" if self._hanging is None else "hanging", str(error))

    def _note(self, state: State, sentence: str) -> None:
        log.error("%s is %s: %s", self.name, state, sentence)
        self.state, self.sentence = state, sentence
