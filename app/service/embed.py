"""Encoded crops to vectors: decoding in a pool, embedding through the engine."""

import asyncio
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf

import numpy as np

from app.core.metrics import unit
from app.core.preprocess import Crop, Limits, decode
from app.engine import Engine
from app.errors import BadInput, ReidError, Unavailable
from app.ports import Floats
from app.service.stages import Stages


@dataclass(frozen=True, slots=True)
class Upload:
    """An encoded image and the name by which a refusal speaks of it."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Embedded:
    """Unit vectors float32 [n, dim] with the raw norms float32 [n]."""

    vectors: Floats
    norms: Floats

    @classmethod
    def of(cls, raw: Floats) -> "Embedded":
        """Normalise raw vectors. Raises BadInput for one without a direction."""
        norms = np.linalg.norm(raw, axis=1)
        if not norms.all():
            raise BadInput("the model gave a vector of zeros, which has no direction")
        return cls(unit(raw), norms.astype(np.float32))


class Embedding:
    """The way of every crop: bytes, pixels, vector."""

    def __init__(self, engine: Engine, pool: ThreadPoolExecutor, limits: Limits) -> None:
        self._engine, self._pool, self._limits = engine, pool, limits

    @property
    def max_bytes(self) -> int:
        """Bytes that an encoded crop may have."""
        return self._limits.max_bytes

    def require_room(self, crops: int, stages: Stages) -> None:
        """Refuse so many crops before they are decoded, where the devices are too far behind. Raises Overloaded."""
        if crops:
            self._engine.require_room(crops, stages.due)

    async def decode(self, upload: Upload, stages: Stages) -> Crop:
        """The crop uint8 [256, 128, 3] in an image. Raises BadImage, TooLarge."""
        with stages.measure("decode"):
            work = functools.partial(decode, upload.data, upload.name, self._limits)
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def vectors(self, crops: Sequence[Crop], stages: Stages, patient: bool = False) -> Floats:
        """Raw vectors float32 [n, dim] of crops, in order. patient: bulk; it waits for room, and has no deadline.

        Raises what `Engine.embed` raises.
        """
        answers = await self._engine.embed(crops, patient, inf if patient else stages.due)
        last = max(answers, key=lambda answer: answer.queue_s + answer.infer_s)  # the one that was waited for
        stages.add("queue", last.queue_s)
        stages.add("infer", last.infer_s)
        return np.stack([answer.vector for answer in answers])

    async def embed(self, uploads: Sequence[Upload], stages: Stages) -> Embedded:
        """All of several images, or the first refusal among them."""
        crops = [await self.decode(upload, stages) for upload in uploads]
        return Embedded.of(await self.vectors(crops, stages))

    async def try_one(self, upload: Upload) -> tuple[Crop, Floats] | ReidError:
        """A crop and its raw vector [dim], or its refusal; waits for room in the queue: one of many.

        Raises Unavailable, which is not the crop's fault. Many run side by side, so the stages of each would not add up to
        anything; the caller times them together.
        """
        stages = Stages()
        try:
            crop = await self.decode(upload, stages)
            (vector,) = await self.vectors([crop], stages, patient=True)
        except Unavailable:
            raise
        except ReidError as error:
            return error
        return crop, vector
