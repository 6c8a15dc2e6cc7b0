"""A new model: the crops that a collection kept, embedded anew into another collection, while the old one serves."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np

from app.core.jobs import Job
from app.core.preprocess import Crop
from app.core.records import Collection, Item
from app.errors import BadField, Conflict, UnknownItem
from app.ports import GalleryStore
from app.service.datasets import Tell
from app.service.embed import Embedding
from app.service.galleries import Galleries, Pages
from app.service.stages import Stages

_GROUP = 32  # crops in memory


class Reembed:
    """From one collection to another, which need not be there; the old one stays."""

    def __init__(
        self,
        embedding: Embedding,
        galleries: Galleries,
        store: GalleryStore,
        learn_like: Callable[[str, str, Tell], Awaitable[None]],
    ) -> None:
        """learn_like: calibrate a collection if another one is: a new model's scores mean something else."""
        self._embedding, self._galleries, self._store = embedding, galleries, store
        self._learn_like = learn_like

    async def check(self, collection: str, into: str) -> Collection:
        """The old collection. Raises UnknownCollection, BadField, Conflict where no crops were kept."""
        old = (await self._galleries.get(collection)).collection
        if into == collection:
            raise BadField(
                "into", "is the collection itself; a new one is needed, so that the old one can serve meanwhile"
            )
        if not old.keep_crops:
            count = (await self._galleries.get(collection)).items
            raise Conflict(
                f"collection {collection!r} keeps no crops, so that its {count} items cannot be embedded again; "
                "import their pictures into a new collection (the items' `source` tells their files)"
            )
        return old

    async def job(self, job: Job, report: Tell) -> dict[str, Any]:
        """Params: collection, into. What is there already is not embedded again. Raises what `check` raises."""
        name, into = job.params["collection"], job.params["into"]
        old = await self.check(name, into)
        await self._galleries.put(into, True, old.retention)
        await self._galleries.usable(into)
        total, done, lacking = (await self._galleries.get(name)).items, 0, list[str]()
        pages = Pages(self._store, name, _GROUP)
        while items := await asyncio.to_thread(pages.following):
            lacking += await self._group(name, into, items)
            done += len(items)
            report(done, max(total, done), "embedding")
        await self._learn_like(name, into, report)
        count = (await self._galleries.get(into)).items
        return {
            "collection": name,
            "into": into,
            "items": count,
            "without_crop": len(lacking),
            "lacking": lacking[:200],
        }

    async def _group(self, name: str, into: str, items: Sequence[Item]) -> list[str]:
        """Some items; the ids of those that have no crop."""
        there = await asyncio.to_thread(self._store.get, into, [item.id for item in items])
        missing = [item for item, found in zip(items, there, strict=True) if found != item]
        crops = await asyncio.to_thread(self._crops, name, missing)
        rows = [(item, crop) for item, crop in zip(missing, crops, strict=True) if crop is not None]
        if rows:
            kept = [crop for _, crop in rows]
            vectors = await self._embedding.vectors(kept, Stages(), patient=True)
            sound = np.flatnonzero(vectors.any(axis=1)).tolist()
            items, pixels = [rows[i][0] for i in sound], [kept[i] for i in sound]
            await asyncio.to_thread(self._store.upsert, into, items, vectors[sound], pixels)
        return [item.id for item, crop in zip(missing, crops, strict=True) if crop is None]

    def _crops(self, name: str, items: Sequence[Item]) -> list[Crop | None]:
        crops: list[Crop | None] = []
        for item in items:
            try:
                crops.append(self._store.crop(name, item.id))
            except UnknownItem:  # removed meanwhile
                crops.append(None)
        return crops
