"""Whether the service may be trusted with requests: only after every batch size ran and the golden crops came out right."""

import statistics
import time
from collections.abc import Callable
from typing import Literal

import numpy as np

from app.core.jobs import Progress
from app.core.manifest import GOLDEN_COSINE
from app.core.metrics import unit
from app.core.preprocess import Crop
from app.engine import Engine, Proof
from app.errors import VerificationFailed
from app.ports import Embedder, Floats

_RUNS, _ENOUGH_S = 5, 0.1  # a batch size is timed so often, or until so much time is spent on it


class Readiness:
    """The state that `/readyz` shows: ready while at least one device is, and the galleries can be searched."""

    def __init__(self, engine: Engine, deriving: Callable[[], Progress | None]) -> None:
        """deriving: how far the galleries' indexes are; None when they are there."""
        self._engine, self._deriving = engine, deriving

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self.state == "ready"

    @property
    def state(self) -> Literal["starting", "ready", "down", "failed", "stopping"]:
        """`down`: every device is lost, and tried again; `failed`: no device will come by itself."""
        if self._engine.closing:
            return "stopping"
        if not self._engine.started or self._deriving() is not None:
            return "starting"
        states = {lane.state for lane in self._engine.lanes}
        if "ready" in states:
            return "ready"
        return "failed" if states == {"failed"} else "down"

    @property
    def sentence(self) -> str:
        """The state in words; what is wrong, device by device."""
        match self.state:
            case "ready":
                return "ready"
            case "starting":
                if self._engine.started and (at := self._deriving()) is not None:
                    return f"the galleries are being made ready for searches: {at.done} of {at.total} items"
                return "the model is warming up"
            case "stopping":
                return "the server is shutting down"
        if len(self._engine.lanes) == 1:
            return self._engine.lanes[0].sentence
        return "; ".join(f"{lane.name}: {lane.sentence}" for lane in self._engine.lanes)

    @property
    def golden_cosine(self) -> float | None:
        """The lowest that a proven device reached."""
        found = [lane.proof.golden_cosine for lane in self._engine.lanes if lane.proof]
        return min((cosine for cosine in found if cosine is not None), default=None)


class GoldenProof:
    """What an embedder must show: `prove = GoldenProof(crops, vectors)`, then `prove(embedder)`."""

    def __init__(self, crops: Crop, vectors: Floats, least: float = GOLDEN_COSINE) -> None:
        """crops: uint8 [n, 256, 128, 3]; vectors: the model directory's float32 [n, dim] of them; least: cosine to them."""
        self._crops, self._vectors, self._least = crops, vectors, least

    def __call__(self, embedder: Embedder) -> Proof:
        """The golden crops through each batch size, whose model may be a file of its own, and its time.

        Raises VerificationFailed, DeviceFailed.
        """
        lowest, batch_ms = 1.0, dict[int, float]()
        for size in embedder.batch_sizes:
            lowest = min(lowest, self._compare(embedder, size))
            batch_ms[size] = self._time(embedder, size)
        return Proof(batch_ms, lowest)

    def _compare(self, embedder: Embedder, size: int) -> float:
        """The lowest cosine, by launches of exactly this size; where the last one has room the crops begin again."""
        count = -(-len(self._crops) // size) * size
        crops = np.resize(self._crops, (count, *self._crops.shape[1:]))  # np.resize repeats from the start
        found = np.concatenate([embedder.embed(crops[start : start + size]) for start in range(0, count, size)])
        wanted = np.resize(self._vectors, (count, *self._vectors.shape[1:]))
        lowest = float((unit(found) * unit(wanted)).sum(axis=1).min())
        if not lowest >= self._least:  # so that NaN fails as well
            raise VerificationFailed(
                f"the golden crops' vectors at batch size {size} differ from the model directory's: cosine {lowest:.4f}, "
                f"at least {self._least:.4g} is needed"
            )
        return lowest

    def _time(self, embedder: Embedder, size: int) -> float:
        """Milliseconds of a batch, the median of some. The first run, which allocates, has been."""
        batch = np.resize(self._crops, (size, *self._crops.shape[1:]))
        begun, times = time.perf_counter(), list[float]()
        while not times or (len(times) < _RUNS and time.perf_counter() - begun < _ENOUGH_S):
            started = time.perf_counter()
            embedder.embed(batch)
            times.append((time.perf_counter() - started) * 1000)
        return statistics.median(times)
