"""One long stream into a collection: a tar of JPEGs, or an array of uint8 crops, sent as fast as it is taken.

The answer's lines come while the stream still goes out; each is an item that is on disk. Counting them by the clock gives the
rate of all that ingest does: reading, decoding, embedding, committing.
"""

import asyncio
import io
import secrets
import struct
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import aiohttp
import numpy as np

from app.core.preprocess import HEIGHT, WIDTH
from tests.load.calls import COLLECTION, stamped
from tests.load.run import Target

TAR, NPY = "application/x-tar", "application/x-npy"
Pieces = Callable[[], AsyncIterator[bytes]]
_BLOCK = 512  # of a tar [POSIX.1-2017, pax, ustar interchange format]


@dataclass(slots=True)
class Stream:
    """One that runs or has run. times_s: of each answered crop, from the start."""

    target: Target
    pieces: Pieces
    kind: str
    times_s: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    begun: float = 0.0

    async def send(self) -> None:
        """Send all and read all lines. Raises RuntimeError for an answer that is none."""
        headers = {"Content-Type": self.kind, "Accept": "application/x-ndjson"}
        url = f"{self.target.url}/v1/collections/{COLLECTION}/items"
        self.begun = time.perf_counter()
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
            session.post(url, data=self.pieces(), headers=headers) as answer,
        ):
            if answer.status != 200:
                raise RuntimeError(f"the stream was answered with {answer.status}: {await answer.text()}")
            async for line in answer.content:
                self._count(line)

    def now(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self.begun

    def rate_per_s(self, start_s: float = 0.0, end_s: float | None = None) -> float:
        """Crops a second that were answered between two instants; without an end, until the last one."""
        end = (self.times_s[-1] if self.times_s else 0.0) if end_s is None else end_s
        return sum(start_s < at <= end for at in self.times_s) / (end - start_s) if end > start_s else 0.0

    def _count(self, line: bytes) -> None:
        status = line.partition(b'"status":"')[2].partition(b'"')[0].decode() or line.decode(errors="replace")[:200]
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.times_s.append(self.now())


def tar_of(jpegs: Sequence[bytes], crops: int) -> Pieces:
    """So many crops, each with bytes of its own, in a tar."""
    run = secrets.randbits(63)

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(crops):
            jpeg = stamped(jpegs[number % len(jpegs)], number, run)
            entry = tarfile.TarInfo(f"{number:08d}.jpg")
            entry.size = len(jpeg)
            yield entry.tobuf(tarfile.USTAR_FORMAT) + jpeg + bytes(-len(jpeg) % _BLOCK)
        yield bytes(2 * _BLOCK)

    return pieces


def array_of(crops: int, at_once: int = 16) -> Pieces:
    """So many uint8 crops as one array: noise, each crop with a number of its own in its first pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (at_once, HEIGHT, WIDTH, 3), dtype=np.uint8)
    run = secrets.randbits(63)

    async def pieces() -> AsyncIterator[bytes]:
        yield _header(crops)
        for first in range(0, crops, at_once):
            piece = bytearray(noise[: crops - first].tobytes())
            for i in range(min(at_once, crops - first)):
                struct.pack_into(">QQ", piece, i * HEIGHT * WIDTH * 3, run, first + i)
            yield bytes(piece)
            await asyncio.sleep(0)  # the lines of the answer are read in between

    return pieces


def _header(crops: int) -> bytes:
    buffer = io.BytesIO()
    shape = (crops, HEIGHT, WIDTH, 3)
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()
