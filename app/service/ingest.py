"""Crops into a collection, one result for each. One bad crop refuses itself; what was reported as added is on disk."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

import numpy as np

from app.core.preprocess import Crop
from app.core.records import Collection, Item, NamePattern, check_texts, is_junk
from app.errors import BadField, BadInput, ReidError
from app.ports import Floats, GalleryStore
from app.service.embed import Embedding, Upload
from app.service.galleries import Galleries
from app.service.stages import Stages

IN_FLIGHT = 16  # crops of all requests being decoded or embedded at once: enough to keep a device busy


@dataclass(frozen=True, slots=True)
class Description:
    """What the caller says of a crop. What is None is read off the name where a pattern is given."""

    id: str | None = None
    person_id: str | None = None
    camera_id: str | None = None
    captured_at: datetime | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewCrop:
    """An encoded crop on its way in."""

    upload: Upload
    description: Description = Description()


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one crop; `error` says why it was refused."""

    name: str
    id: str | None
    status: Literal["added", "unchanged", "updated", "refused"]
    error: ReidError | None = None


class Ingest:
    """Decode, embed and commit in groups."""

    def __init__(self, embedding: Embedding, galleries: Galleries, store: GalleryStore) -> None:
        self._embedding, self._galleries, self._store = embedding, galleries, store
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)  # bounds the decoded crops in memory, over all requests

    async def add(
        self, collection: str, crops: Sequence[NewCrop], pattern: NamePattern | None, group: int, stages: Stages
    ) -> AsyncIterator[Result]:
        """Results in order, each group's after its commit. Raises what the store raises; earlier groups stay."""
        target = await self._galleries.usable(collection)
        for start in range(0, len(crops), group):
            for result in await self._group(target, crops[start : start + group], pattern, stages):
                yield result

    async def _group(
        self, target: Collection, crops: Sequence[NewCrop], pattern: NamePattern | None, stages: Stages
    ) -> list[Result]:
        items = await asyncio.to_thread(lambda: [_describe(crop, pattern) for crop in crops])  # hashes all bytes
        known = await self._known(target.name, [item for item in items if isinstance(item, Item)])
        items = [_completed(item, crop, known) for item, crop in zip(items, crops, strict=True)]
        with stages.measure("embed"):
            work = (self._embed(item, crop, known) for item, crop in zip(items, crops, strict=True))
            fresh = await asyncio.gather(*work)
        rows = [row for row in fresh if isinstance(row, _Row)]
        if rows:
            with stages.measure("commit"):
                outcomes = await asyncio.to_thread(self._commit, target, rows)
            for row, outcome in zip(rows, outcomes, strict=True):
                row.result = Result(row.name, row.item.id, outcome)
        return [row.result if isinstance(row, _Row) else row for row in fresh]

    async def _known(self, collection: str, items: Sequence[Item]) -> dict[str, Item]:
        stored = await asyncio.to_thread(self._store.get, collection, [item.id for item in items])
        return {item.id: item for item in stored if item is not None}

    async def _embed(self, item: Item | ReidError, crop: NewCrop, known: Mapping[str, Item]) -> "_Row | Result":
        name = crop.upload.name
        if isinstance(item, ReidError):
            return Result(name, None, "refused", item)
        if known.get(item.id) == item:  # the model need not see it again
            return Result(name, item.id, "unchanged")
        async with self._in_flight:
            answer = await self._embedding.try_one(crop.upload)
        if isinstance(answer, ReidError):
            return Result(name, None, "refused", answer)
        pixels, vector = answer
        if not vector.any():
            return Result(name, None, "refused", BadInput(f"{name}: the model gave a vector of zeros"))
        return _Row(name, item, pixels, vector, Result(name, item.id, "added"))

    def _commit(self, target: Collection, rows: "Sequence[_Row]") -> Sequence[Literal["added", "unchanged", "updated"]]:
        kept = [row.pixels for row in rows] if target.keep_crops else None
        return self._store.upsert(target.name, [row.item for row in rows], np.stack([row.vector for row in rows]), kept)


def _completed(item: Item | ReidError, crop: NewCrop, known: Mapping[str, Item]) -> Item | ReidError:
    """The same picture sent again without an id keeps what is known of it where nothing new is said."""
    if isinstance(item, ReidError) or crop.description.id is not None or item.id not in known:
        return item
    stored = known[item.id]
    return replace(
        item,
        person_id=item.person_id or stored.person_id,
        camera_id=item.camera_id or stored.camera_id,
        captured_at=item.captured_at or stored.captured_at,
        attributes=item.attributes or stored.attributes,
        source=stored.source,
    )


@dataclass(slots=True)
class _Row:
    name: str
    item: Item
    pixels: Crop
    vector: Floats
    result: Result


def _describe(crop: NewCrop, pattern: NamePattern | None) -> Item | ReidError:
    """The item to be: what the caller said, then what the name says; its id is the caller's or the content's hash."""
    said, name = crop.description, crop.upload.name
    person_id, camera_id = said.person_id, said.camera_id
    if pattern is not None and (person_id is None or camera_id is None):
        label = pattern.read(name.rpartition("/")[2])
        if label is None:
            return BadInput(f"{name}: the name does not fit the pattern")
        person_id, camera_id = person_id or label.person_id, camera_id or label.camera_id
        if is_junk(label.person_id):
            return BadInput(f"{name}: junk by its name (person {label.person_id})")
    sha256 = hashlib.sha256(crop.upload.data).hexdigest()
    item = Item(said.id or sha256, sha256, person_id, camera_id, said.captured_at, name, dict(said.attributes))
    try:
        check_texts(item)
    except BadField as error:
        return error
    return item
