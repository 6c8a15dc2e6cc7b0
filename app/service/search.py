"""Who in the gallery is this? One query or many independent ones, by crops of one person or by a vector."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from app.core import rerank
from app.core.calibrated import By
from app.core.fusion import Fusion, fused
from app.core.records import Filter, Match, PersonMatch, PersonScore
from app.errors import BadField, ReidError
from app.ports import Floats, GalleryStore
from app.service.embed import Embedded, Embedding, Upload
from app.service.galleries import Galleries
from app.service.judgement import Judge, Judgement
from app.service.person import Person, Refused, embed_person
from app.service.stages import Stages

MAX_K = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """How to search. `camera_id` is the query's camera: its items are left out unless `same_camera`.

    rerank: the `app.core.rerank.MOST` best items change places by k-reciprocal re-ranking; scores stay what they are.
    Persons then stand in the order of their first items there, and those who have none there behind them.
    exact: everything is scored, also where a large gallery would choose by codes.
    """

    k: int = 10
    by: By = "item"
    person_score: PersonScore = "centroid"
    fusion: Fusion = "mean"
    rerank: bool = False
    exact: bool = False
    camera_id: str | None = None
    same_camera: bool = False
    where: Filter = field(default_factory=Filter)
    min_score: float | None = None
    fpir: float | None = None  # rate of false matches that the decision keeps; None: the collection's

    def filter(self) -> Filter:
        """Which items of the gallery count."""
        return replace(self.where, not_camera=None if self.same_camera else self.camera_id)

    @property
    def kind(self) -> By:
        """Whose scores these are like: a person's best item scores as it would in a search for items."""
        return "person" if self.by == "person" and self.person_score == "centroid" else "item"

    def best(self, matches: Sequence[Match | PersonMatch]) -> list[Match | PersonMatch]:
        """What of a ranking is answered."""
        least = -np.inf if self.min_score is None else self.min_score
        return [match for match in matches if match.score >= least][: self.k]


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: encoded crops of one person, or a vector (it is normalised here)."""

    options: Options
    crops: Sequence[Upload] = ()
    vector: Sequence[float] = ()  # where there are no crops


@dataclass(frozen=True, slots=True)
class Found:
    """Items or persons, whichever were asked for, best first; and the crops that could not be used."""

    matches: list[Match | PersonMatch]
    judgement: Judgement
    refused: tuple[Refused, ...] = ()


class Search:
    """Embeds the query and asks the store."""

    def __init__(self, embedding: Embedding, galleries: Galleries, store: GalleryStore, judge: Judge) -> None:
        self._embedding, self._galleries, self._store, self._judge = embedding, galleries, store, judge

    async def one(self, collection: str, query: Query, stages: Stages) -> Found:
        """What one query finds."""
        dim = (await self._galleries.usable(collection)).dim
        person, options = await self._person(query, dim, stages), query.options
        crops = fused(person.vectors, options.fusion)
        ranked = await asyncio.to_thread(self._ranked, collection, crops, options, stages)
        best = options.best(ranked)
        if not best and ranked:
            return Found(best, await self._left_out(collection, ranked, options), person.refused)
        # Re-ranked or not, the decision is about the highest score.
        scores = [match.score for match in best]
        judgement = await self._judge(collection, options.kind, scores, options.fpir)
        return Found(best, judgement, person.refused)

    async def many(self, collection: str, queries: Sequence[Query], stages: Stages) -> list[Found | ReidError]:
        """What each query finds, or its own refusal."""
        await self._galleries.usable(collection)
        parts = [stages.part() for _ in queries]
        work = (self.one(collection, query, part) for query, part in zip(queries, parts, strict=True))
        answers = await asyncio.gather(*work, return_exceptions=True)
        stages.side_by_side(parts)
        results: list[Found | ReidError] = []
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, ReidError):
                raise answer
            results.append(answer)
        return results

    async def _left_out(self, collection: str, ranked: Sequence[Match | PersonMatch], options: Options) -> Judgement:
        """Of an answer that `min_score` left empty: "unknown" only where the best score says so by itself."""
        top = max(match.score for match in ranked)
        judged = await self._judge(collection, options.kind, [top], options.fpir)
        if judged.decision in (None, "unknown"):
            return Judgement((), judged.decision, judged.reason)
        return Judgement((), None, f"min_score leaves out the best match, whose score is {top:.3f}")

    async def _person(self, query: Query, dim: int, stages: Stages) -> Person:
        if query.crops:
            return await embed_person(self._embedding, query.crops, stages)
        return Person(check_vector(query.vector, dim))

    def _ranked(
        self, collection: str, crops: Floats, options: Options, stages: Stages
    ) -> Sequence[Match | PersonMatch]:
        if options.by == "person":
            return self._persons(collection, crops, options, stages)
        return self._items(collection, crops, options, stages)

    def _items(self, collection: str, crops: Floats, options: Options, stages: Stages) -> Sequence[Match]:
        k = max(options.k, rerank.MOST) if options.rerank else options.k
        with stages.measure("search"):
            matches, vectors = self._store.shortlist(collection, crops, k, options.filter(), options.exact)
        return _reranked(matches, crops, vectors, stages) if options.rerank else matches

    def _persons(self, collection: str, crops: Floats, options: Options, stages: Stages) -> Sequence[PersonMatch]:
        k = max(options.k, rerank.MOST) if options.rerank else options.k
        where, score = options.filter(), options.person_score
        with stages.measure("search"):
            persons = self._store.search_persons(collection, crops, k, where, score, options.exact)
        if not options.rerank:
            return persons
        with stages.measure("search"):
            items, vectors = self._store.shortlist(collection, crops, rerank.MOST, where, options.exact)
        place: dict[str | None, int] = {}
        for number, match in enumerate(_reranked(items, crops, vectors, stages)):
            place.setdefault(match.item.person_id, number)
        return sorted(persons, key=lambda person: place.get(person.person_id, len(items)))  # stable


def _reranked(matches: Sequence[Match], crops: Floats, vectors: Floats, stages: Stages) -> list[Match]:
    """The shortlist in its new order; what lies beyond it keeps its place."""
    with stages.measure("rerank"):
        places = rerank.order(crops, vectors[: rerank.MOST])
    return [*(matches[place] for place in places), *matches[len(places) :]]


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
