"""The way of many crops into a collection: read, described, embedded and committed at the same time, a bounded way apart.

    entries -> arrived -> described and looked up -> embedded -> rows, in order -> committed -> results

Each arrow waits when what lies behind it is full, so a slow disk or device slows the sender, and a slow sender leaves the
device to others. No stage waits for more to come: a commit takes what is ready.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from app.core.preprocess import Crop
from app.core.records import Collection, Item, Outcome
from app.errors import BadInput, ReidError
from app.ports import Floats, GalleryStore
from app.service.embed import Embedding
from app.service.incoming import New, NewCrop, NewPixels, NewVector, Reading, Result, completed
from app.service.room import Room
from app.service.stages import Stages

ARRIVED = 16  # crops of a stream that are read and wait to be described
AHEAD = 64  # crops of a stream that are described and not yet committed
GROUP = 64  # crops in a commit, at most

Take = Callable[[Sequence[Result]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Shared:
    """What all streams share. in_flight: bounds the decoded crops in memory; room: the bytes of what was read."""

    embedding: Embedding
    store: GalleryStore
    room: Room
    in_flight: asyncio.Semaphore


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    item: Item
    pixels: Crop | None
    vector: Floats


class Stream:
    """One request's crops, or one import's. `run` it once."""

    def __init__(
        self,
        shared: Shared,
        target: Collection,
        entries: AsyncIterator[New],
        take: Take,
        stages: Stages,
        reading: Reading,
        together: bool,
    ) -> None:
        self._shared, self._target, self._entries, self._take = shared, target, entries, take
        self._stages, self._reading, self._together = stages, reading, together
        self._arrived: asyncio.Queue[New | None] = asyncio.Queue(ARRIVED)
        self._rows: asyncio.Queue[asyncio.Task[_Row | Result] | None] = asyncio.Queue(AHEAD)
        self._coming: dict[str, Item] = {}  # on their way: the database does not know them yet
        self._held = 0
        self._broken: ReidError | None = None  # why the entries ended early

    async def run(self) -> None:
        """Until the entries end, or something fails; nothing of it runs on afterwards."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                tasks.create_task(self._describe(tasks))
                tasks.create_task(self._commit())
        except BaseExceptionGroup as failures:  # the first one; the others are its consequences
            raise failures.exceptions[0] from None
        finally:
            self._shared.room.give(self._held)
        if self._broken is not None:
            raise self._broken

    async def _read(self) -> None:
        try:
            async for new in self._entries:
                await self._shared.room.take(new.size)
                self._held += new.size
                await self._arrived.put(new)
        except ReidError as error:  # what came before it is whole, and goes its way
            self._broken = error
        await self._arrived.put(None)

    async def _describe(self, tasks: asyncio.TaskGroup) -> None:
        ended = False
        while not ended:
            arrived = [await self._arrived.get()]
            while not self._arrived.empty():
                arrived.append(self._arrived.get_nowait())
            ended = arrived[-1] is None
            await self._send_on([new for new in arrived if new is not None], tasks)
        await self._rows.put(None)

    async def _send_on(self, batch: Sequence[New], tasks: asyncio.TaskGroup) -> None:
        items = await asyncio.to_thread(lambda: [self._reading.item(new, self._target.dim) for new in batch])
        ids = [item.id for item in items if isinstance(item, Item)]
        # Before the database is asked: what is committed meanwhile must not look as if it had been there.
        coming = {item_id: self._coming[item_id] for item_id in ids if item_id in self._coming}
        found = await asyncio.to_thread(self._shared.store.get, self._target.name, ids) if ids else []
        stored = {item.id: item for item in found if item is not None}
        for new, item in zip(batch, items, strict=True):
            whole, there = item, None
            if isinstance(item, Item):
                earlier = self._coming.get(item.id) or coming.get(item.id)
                there = stored.get(item.id) if earlier is None else None
                self._coming[item.id] = whole = completed(item, new, earlier or there)
            await self._rows.put(tasks.create_task(self._embed(new, whole, there)))

    async def _embed(self, new: New, item: Item | ReidError, stored: Item | None) -> _Row | Result:
        try:
            row = await self._row(new, item, stored)
        finally:
            self._held -= new.size
            self._shared.room.give(new.size)
        if isinstance(row, Result) and isinstance(item, Item) and self._coming.get(item.id) is item:
            del self._coming[item.id]
        return row

    async def _row(self, new: New, item: Item | ReidError, stored: Item | None) -> _Row | Result:
        if isinstance(item, ReidError):
            return Result(new.name, None, "refused", item)
        if stored == item:  # the model need not see it again
            return Result(new.name, item.id, "unchanged")
        match new:
            case NewVector(vector=np.ndarray() as vector):
                return _Row(new.name, item, None, vector)
            case NewCrop() | NewPixels():
                async with self._shared.in_flight:
                    answer = await self._vector(new)
            case _:
                raise RuntimeError(f"{new.name}: has an item and no content")
        if isinstance(answer, ReidError):
            return Result(new.name, None, "refused", answer)
        pixels, vector = answer
        if not vector.any():
            return Result(new.name, None, "refused", BadInput(f"{new.name}: the model gave a vector of zeros"))
        return _Row(new.name, item, pixels, vector)

    async def _vector(self, new: NewCrop | NewPixels) -> tuple[Crop, Floats] | ReidError:
        if isinstance(new, NewCrop):
            return await self._shared.embedding.try_one(new.upload)
        (vector,) = await self._shared.embedding.vectors([new.pixels], Stages(), patient=True)
        return new.pixels, vector

    async def _commit(self) -> None:
        async for group in self._groups():
            rows = [row for row in group if isinstance(row, _Row)]
            with self._stages.measure("commit"):
                outcomes = iter(await asyncio.to_thread(self._upsert, rows) if rows else [])
            for row in rows:
                if self._coming.get(row.item.id) is row.item:
                    del self._coming[row.item.id]
            await self._take(
                [row if isinstance(row, Result) else Result(row.name, row.item.id, next(outcomes)) for row in group]
            )

    async def _groups(self) -> AsyncIterator[list[_Row | Result]]:
        """What is ready, in order: while a commit lasts the next group grows, and nobody waits for one to fill."""
        group: list[_Row | Result] = []
        while True:
            with self._stages.measure("embed"):
                row = await self._rows.get()
            if row is None:
                break
            if group and not row.done() and not self._together:
                yield group
                group = []
            with self._stages.measure("embed"):
                group.append(await row)
            if not self._together and (self._rows.empty() or len(group) >= GROUP):
                yield group
                group = []
        if group and not (self._together and self._broken):
            yield group

    def _upsert(self, rows: Sequence[_Row]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for without_pixels, run in itertools.groupby(rows, key=lambda row: row.pixels is None):
            part = list(run)
            kept = self._target.keep_crops and not without_pixels
            crops = [row.pixels for row in part if row.pixels is not None] if kept else None
            vectors = np.stack([row.vector for row in part])
            outcomes += self._shared.store.upsert(self._target.name, [row.item for row in part], vectors, crops)
        return outcomes
