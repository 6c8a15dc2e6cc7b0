"""Devices that tests hold in their hands, and what is asked of an engine on them."""

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from app.adapters.memory import MemoryEmbedder
from app.core.preprocess import Crop
from app.engine import Device, Engine
from app.ports import Crops, Embedder, Floats


def on(embedder: Embedder, max_waiting: int = 256, **collaborators: Any) -> Engine:
    """An engine on one device."""
    return Engine([Device("cpu", lambda: embedder)], max_waiting, **collaborators)


def crop(value: int) -> Crop:
    return np.full((256, 128, 3), value, dtype=np.uint8)


class Held(MemoryEmbedder):
    """A device that waits for leave before each batch, and remembers which crops rode: by their first value."""

    def __init__(self) -> None:
        super().__init__()
        self.running = threading.Semaphore(0)  # counts the batches that have begun
        self.leave = threading.Semaphore(0)
        self.rode: list[list[int]] = []

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.rode]

    def embed(self, crops: Crops) -> Floats:
        self.running.release()
        assert self.leave.acquire(timeout=10)
        self.rode.append([int(crop[0, 0, 0]) for crop in crops])
        return super().embed(crops)


class Recorder:
    """Counts what the engine says it does."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.never: Counter[str] = Counter()  # crops that reached no device

    def batch(self, size: int, waited_s: Sequence[float], infer_s: float) -> None:
        assert infer_s >= 0
        self.batches.append((size, len(waited_s)))

    def dropped(self, why: str, crops: int) -> None:
        self.never[why] += crops


async def queued(engine: Engine, crops: int) -> None:
    """Returns once so many wait; each turn of the loop lets the others go on."""
    while engine.waiting < crops:
        await asyncio.sleep(0)


async def begun(device: Held) -> None:
    assert await asyncio.to_thread(device.running.acquire, timeout=10)
