"""Who in the gallery is this? One query or many independent ones, by crop or by vector."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.core.records import Filter, Match
from app.errors import BadField, ReidError
from app.ports import Floats, GalleryStore
from app.service.embed import Embedded, Embedding, Upload
from app.service.galleries import Galleries
from app.service.stages import Stages

MAX_K = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """How to search. `camera_id` is the query's camera: its items are left out unless `same_camera`."""

    k: int = 10
    camera_id: str | None = None
    same_camera: bool = False
    persons: frozenset[str] | None = None
    cameras: frozenset[str] | None = None
    min_score: float | None = None

    def filter(self) -> Filter:
        """Which items of the gallery count."""
        return Filter(self.persons, self.cameras, not_camera=None if self.same_camera else self.camera_id)


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: an encoded image, or a vector (it is normalised here)."""

    source: Upload | Sequence[float]
    options: Options


class Search:
    """Embeds the query and asks the store."""

    def __init__(self, embedding: Embedding, galleries: Galleries, store: GalleryStore) -> None:
        self._embedding, self._galleries, self._store = embedding, galleries, store

    async def one(self, collection: str, query: Query, stages: Stages) -> list[Match]:
        """The matches of one query, best first."""
        dim = (await self._galleries.usable(collection)).dim
        vector = await self._vector(query.source, dim, stages)
        options = query.options
        with stages.measure("search"):
            (matches,) = await asyncio.to_thread(self._store.search, collection, vector, options.k, options.filter())
        return [match for match in matches if options.min_score is None or match.score >= options.min_score]

    async def many(self, collection: str, queries: Sequence[Query], stages: Stages) -> list[list[Match] | ReidError]:
        """Matches for each query, or its own refusal."""
        await self._galleries.usable(collection)
        parts = [Stages() for _ in queries]
        work = (self.one(collection, query, part) for query, part in zip(queries, parts, strict=True))
        answers = await asyncio.gather(*work, return_exceptions=True)
        for part in parts:
            for stage, ms in part.ms.items():
                stages.ms[stage] = max(stages.ms.get(stage, 0.0), ms)  # they ran side by side
        results: list[list[Match] | ReidError] = []
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, ReidError):
                raise answer
            results.append(answer)
        return results

    async def _vector(self, source: Upload | Sequence[float], dim: int, stages: Stages) -> Floats:
        if isinstance(source, Upload):
            return (await self._embedding.embed([source], stages)).vectors
        return check_vector(source, dim)


def check_vector(values: Sequence[float], dim: int) -> Floats:
    """A caller's vector as unit float32 [1, dim]. Raises BadField."""
    vector = np.asarray(values, dtype=np.float64).reshape(1, -1)
    if vector.shape[1] != dim:
        raise BadField("vector", f"{vector.shape[1]} numbers; the model's vectors have {dim}")
    if not np.isfinite(vector).all():
        raise BadField("vector", "holds a number that is not finite")
    if not vector.any():
        raise BadField("vector", "is all zeros, which has no direction")
    return Embedded.of((vector / np.abs(vector).max()).astype(np.float32)).vectors  # scaled first: squares may overflow
