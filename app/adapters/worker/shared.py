"""What parent and worker share: one piece of memory for crops and vectors, and messages of a few bytes about it.

The memory has no name in any file system: pictures of people are gone with the two processes, however those end.
"""

import mmap
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from app.core.preprocess import HEIGHT, WIDTH
from app.errors import ReidError
from app.ports import Floats, RunTimes

_CROP_BYTES = HEIGHT * WIDTH * 3


@dataclass(frozen=True, slots=True)
class Question:
    """An opener first, then numbers of crops that lie in the shared memory; None at the end. `within_s`: the parent's patience."""

    what: Any
    within_s: float


@dataclass(frozen=True, slots=True)
class Opened:
    """The worker's first word: its embedder is open."""

    fingerprint: str
    dim: int
    batch_sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """The vectors of the batch lie in the shared memory."""

    run: RunTimes | None


@dataclass(frozen=True, slots=True)
class Failed:
    """What went wrong. The worker has ended its embedder, or is about to, when `lost` is set."""

    error: ReidError
    lost: bool


class SharedBatch:
    """Room for one batch: `crops` uint8 [largest, 256, 128, 3] and `vectors` float32 [largest, dim]."""

    def __init__(self, descriptor: int, largest: int, dim: int) -> None:
        self.largest, self.dim = largest, dim
        memory = mmap.mmap(descriptor, self.size_bytes(largest, dim))
        self.crops: npt.NDArray[np.uint8] = np.frombuffer(memory, np.uint8, largest * _CROP_BYTES).reshape(
            largest, HEIGHT, WIDTH, 3
        )
        self.vectors: Floats = np.frombuffer(memory, np.float32, offset=largest * _CROP_BYTES).reshape(largest, dim)

    @staticmethod
    def size_bytes(largest: int, dim: int) -> int:
        """Bytes of such a piece of memory. A crop's size is a multiple of four, so the vectors lie aligned behind."""
        return largest * (_CROP_BYTES + 4 * dim)

    @classmethod
    def reserve(cls, largest: int, dim: int) -> int:
        """A new piece of memory, as a descriptor that a child may be given."""
        descriptor = os.memfd_create("reid-batch")
        os.ftruncate(descriptor, cls.size_bytes(largest, dim))
        return descriptor
