"""Crops, or their vectors, into a collection, one result for each.

A bad one refuses itself; what was reported as added is on disk.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, TypeVar

import numpy as np

from app.core.preprocess import Crop
from app.core.records import Collection, Item, NamePattern, check_texts, is_junk
from app.core.vectors import fault
from app.errors import BadField, BadInput, ForeignVectors, ReidError
from app.ports import Floats, GalleryStore
from app.service.embed import Embedding, Upload
from app.service.galleries import Galleries
from app.service.stages import Stages

Sent = TypeVar("Sent")
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
class NewVector:
    """A crop's raw vector on its way in, float32 [n], or why it cannot be read. The crop itself stays where it is."""

    name: str  # by which a refusal speaks of it
    vector: Floats | BadInput
    source: str | None = None
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
        return _one_by_one(self._group(target, part, pattern, stages) for part in _parts(crops, group))

    async def add_vectors(
        self,
        collection: str,
        fingerprint: str,
        vectors: Sequence[NewVector],
        pattern: NamePattern | None,
        group: int,
        stages: Stages,
    ) -> AsyncIterator[Result]:
        """The same for vectors of the model of this fingerprint. Raises ForeignVectors where that is not the loaded one."""
        target = await self._galleries.usable(collection)
        if fingerprint != target.fingerprint:
            raise ForeignVectors(target.fingerprint, fingerprint)
        return _one_by_one(self._vectors(target, part, pattern, stages) for part in _parts(vectors, group))

    async def _group(
        self, target: Collection, crops: Sequence[NewCrop], pattern: NamePattern | None, stages: Stages
    ) -> list[Result]:
        items = await asyncio.to_thread(lambda: [_crop_item(crop, pattern) for crop in crops])  # hashes all bytes
        known = await self._known(target.name, items)
        items = [_completed(item, crop.description, known) for item, crop in zip(items, crops, strict=True)]
        with stages.measure("embed"):
            work = (self._embed(item, crop, known) for item, crop in zip(items, crops, strict=True))
            fresh = await asyncio.gather(*work)
        return await self._committed(target, fresh, stages)

    async def _vectors(
        self, target: Collection, vectors: Sequence[NewVector], pattern: NamePattern | None, stages: Stages
    ) -> list[Result]:
        items = await asyncio.to_thread(lambda: [_vector_item(new, target.dim, pattern) for new in vectors])
        known = await self._known(target.name, items)
        items = [_completed(item, new.description, known) for item, new in zip(items, vectors, strict=True)]
        fresh = [_vector_row(item, new, known) for item, new in zip(items, vectors, strict=True)]
        return await self._committed(target, fresh, stages)

    async def _committed(self, target: Collection, fresh: "Sequence[_Row | Result]", stages: Stages) -> list[Result]:
        rows = [row for row in fresh if isinstance(row, _Row)]
        if rows:
            with stages.measure("commit"):
                outcomes = await asyncio.to_thread(self._commit, target, rows)
            for row, outcome in zip(rows, outcomes, strict=True):
                row.result = Result(row.name, row.item.id, outcome)
        return [row.result if isinstance(row, _Row) else row for row in fresh]

    async def _known(self, collection: str, described: Sequence[Item | ReidError]) -> dict[str, Item]:
        ids = [item.id for item in described if isinstance(item, Item)]
        stored = await asyncio.to_thread(self._store.get, collection, ids)
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
        pixels = [row.pixels for row in rows if row.pixels is not None]  # of all rows, or of none: vectors come alone
        kept = pixels if target.keep_crops and pixels else None
        return self._store.upsert(target.name, [row.item for row in rows], np.stack([row.vector for row in rows]), kept)


@dataclass(slots=True)
class _Row:
    name: str
    item: Item
    pixels: Crop | None
    vector: Floats
    result: Result


def _parts(rows: Sequence[Sent], group: int) -> Iterator[Sequence[Sent]]:
    return (rows[start : start + group] for start in range(0, len(rows), group))


async def _one_by_one(groups: Iterable[Awaitable[Sequence[Result]]]) -> AsyncIterator[Result]:
    for group in groups:
        for result in await group:
            yield result


def _completed(item: Item | ReidError, said: Description, known: Mapping[str, Item]) -> Item | ReidError:
    """The same content sent again without an id keeps what is known of it where nothing new is said."""
    if isinstance(item, ReidError) or said.id is not None or item.id not in known:
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


def _crop_item(crop: NewCrop, pattern: NamePattern | None) -> Item | ReidError:
    name = crop.upload.name
    return _item(crop.description, name, name, crop.upload.data, pattern)


def _vector_item(new: NewVector, dim: int, pattern: NamePattern | None) -> Item | ReidError:
    if isinstance(new.vector, BadInput):
        return new.vector
    if why := fault(new.vector, dim):
        return BadInput(f"{new.name}: {why}")
    return _item(new.description, new.name, new.source, new.vector.astype("<f4").tobytes(), pattern)


def _vector_row(item: Item | ReidError, new: NewVector, known: Mapping[str, Item]) -> _Row | Result:
    if isinstance(item, ReidError):
        return Result(new.name, None, "refused", item)
    if known.get(item.id) == item:
        return Result(new.name, item.id, "unchanged")
    assert not isinstance(new.vector, BadInput)
    return _Row(new.name, item, None, new.vector, Result(new.name, item.id, "added"))


def _item(
    said: Description, name: str, source: str | None, content: bytes, pattern: NamePattern | None
) -> Item | ReidError:
    """The item to be: what the caller said, then what the name says; its id is the caller's or the content's hash."""
    person_id, camera_id = said.person_id, said.camera_id
    if pattern is not None and (person_id is None or camera_id is None):
        label = pattern.read(name.rpartition("/")[2])
        if label is None:
            return BadInput(f"{name}: the name does not fit the pattern")
        person_id, camera_id = person_id or label.person_id, camera_id or label.camera_id
        if is_junk(label.person_id):
            return BadInput(f"{name}: junk by its name (person {label.person_id})")
    sha256 = hashlib.sha256(content).hexdigest()
    item = Item(said.id or sha256, sha256, person_id, camera_id, said.captured_at, source, dict(said.attributes))
    try:
        check_texts(item)
    except BadField as error:
        return error
    return item
