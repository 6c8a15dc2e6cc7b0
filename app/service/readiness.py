"""Whether the service may be trusted with requests: only after every batch size ran and the golden crops came out right."""

import logging
import time
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from app.core.metrics import unit
from app.core.preprocess import Crop
from app.engine import Engine
from app.errors import ReidError
from app.ports import Floats

log = logging.getLogger(__name__)
GOLDEN_COSINE = 0.999  # a wrong resize, channel order or weight gives less; fp16 and int8 give more


@dataclass(slots=True)
class Readiness:
    """The state that `/readyz` shows."""

    state: Literal["starting", "ready", "failed", "stopping"] = "starting"
    sentence: str = "the model is warming up"
    batch_ms: dict[int, float] = field(default_factory=dict)
    golden_cosine: float | None = None

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self.state == "ready"

    def fail(self, sentence: str) -> None:
        """Not ready, and why."""
        log.error("not ready: %s", sentence)
        self.state, self.sentence = "failed", sentence


async def warm_up(engine: Engine, golden: tuple[Crop, Floats], readiness: Readiness) -> None:
    """Run and time each batch size, then compare the golden crops' vectors with the manifest's."""
    crops, expected = golden
    try:
        for size in engine.embedder.batch_sizes:
            batch = np.resize(crops, (size, *crops.shape[1:]))
            await engine.run(batch)  # the first run allocates
            started = time.perf_counter()
            await engine.run(batch)
            readiness.batch_ms[size] = (time.perf_counter() - started) * 1000
        rows = [await engine.run(crops[i : i + 1]) for i in range(len(crops))]
    except ReidError as error:
        return readiness.fail(f"the warm-up failed: {error}")
    cosines = (unit(np.concatenate(rows)) * unit(expected)).sum(axis=1)
    readiness.golden_cosine = float(cosines.min())
    if not readiness.golden_cosine >= GOLDEN_COSINE:  # so that NaN fails as well
        return readiness.fail(
            f"the golden crops' vectors differ from the model directory's: cosine {readiness.golden_cosine:.4f}, "
            f"at least {GOLDEN_COSINE} is needed"
        )
    readiness.state, readiness.sentence = "ready", "ready"
