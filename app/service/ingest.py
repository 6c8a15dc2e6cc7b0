"""Crops, or their vectors, into a collection, one result for each.

A bad one refuses itself; what was reported as added is on disk. However many come, memory holds a bounded number of them.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

from app.core.records import Collection
from app.errors import ForeignVectors
from app.ports import GalleryStore
from app.service.embed import Embedding
from app.service.galleries import Galleries
from app.service.incoming import New, Reading
from app.service.room import Room
from app.service.stages import Stages
from app.service.stream import Shared, Stream, Take

HELD_BYTES = 64 * 2**20  # encoded crops in memory, over all requests: a request may pass it by one crop
IN_FLIGHT = (
    32  # crops of all requests being decoded or embedded at once: some batches, so that a device finds the next one
)


class Ingest:
    """Decode, embed and commit, side by side."""

    def __init__(
        self,
        embedding: Embedding,
        galleries: Galleries,
        store: GalleryStore,
        held_bytes: int = HELD_BYTES,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        self._galleries = galleries
        self._shared = Shared(embedding, store, Room(held_bytes), asyncio.Semaphore(in_flight))

    async def add(
        self,
        collection: str,
        entries: AsyncIterator[New],
        take: Take,
        stages: Stages,
        reading: Reading = Reading(),
        together: bool = False,
    ) -> None:
        """Add what comes; `take` is handed results in order, each once its crop is committed.

        Groups are what is ready at the same time, so that whoever sends one crop and waits has its result. together: one
        commit at the end, or none. Raises what `entries` raises, when all that came before it is committed; what the
        store raises, and Unavailable, at once: what was committed stays. ForeignVectors, FingerprintMismatch and
        UnknownCollection come before anything is read.
        """
        target = await self.target(collection, reading.fingerprint)
        await Stream(self._shared, target, entries, take, stages, reading, together).run()

    async def target(self, collection: str, fingerprint: str | None = None) -> Collection:
        """The collection, if what comes may go in. fingerprint: of the model that made the vectors, where vectors come."""
        target = await self._galleries.usable(collection)
        if fingerprint is not None and fingerprint != target.fingerprint:
            raise ForeignVectors(target.fingerprint, fingerprint)
        return target


async def each(entries: Iterable[New]) -> AsyncIterator[New]:
    """What is in memory already, one after the other."""
    for entry in entries:
        yield entry
