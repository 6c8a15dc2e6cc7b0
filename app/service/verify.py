"""Are these the same person? Crops against crops, or against an item of a collection."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from app.core.decision import Decision, Kind
from app.core.fusion import fused
from app.errors import BadField
from app.ports import Floats, GalleryStore
from app.service.embed import Embedding, Upload
from app.service.galleries import Galleries
from app.service.person import Refused, embed_person
from app.service.stages import Stages


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a score means: how likely it is the same person, and the decision; None with the reason where nobody can tell."""

    probability: float | None
    decision: Decision | None
    reason: str | None = None


class Judge(Protocol):
    """Whoever knows what scores of a collection mean."""

    async def __call__(
        self, collection: str, by: Kind, scores: Sequence[float], fpir: float | None = None
    ) -> list[Verdict]:
        """A verdict on each score of this kind, at this rate of false matches, or the collection's.

        Raises UnknownCollection, BadField for a rate that none tells.
        """


@dataclass(frozen=True, slots=True)
class Pair:
    """What is compared: two sets of crops of one person each; or one, and an item of the collection in the other's place.

    collection: the one that the item is in, and whose scores say what this one means.
    fpir: rate of false matches that the decision keeps; None: the collection's.
    """

    a: Sequence[Upload]
    b: Sequence[Upload]
    collection: str | None = None
    item_id: str | None = None
    fpir: float | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """What was used of one side: so many crops, or an item."""

    crops: int
    refused: tuple[Refused, ...] = ()
    item_id: str | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """The cosine of the two sides' mean directions, and what it means."""

    score: float
    verdict: Verdict
    a: Side
    b: Side


class Verify:
    """Embeds both sides and compares them."""

    def __init__(
        self, embedding: Embedding, galleries: Galleries, store: GalleryStore, judge: Judge | None = None
    ) -> None:
        self._embedding, self._galleries, self._store, self._judge = embedding, galleries, store, judge

    async def pair(self, pair: Pair, stages: Stages) -> Verified:
        """Compare the two sides. Raises BadField for a side too few or too many, or a rate that none tells, UnknownItem."""
        _require_two_sides(pair)
        if pair.collection is not None:
            await self._galleries.usable(pair.collection)
        parts = (stages.part(), stages.part())
        work = (self._side(crops, pair, part) for crops, part in zip((pair.a, pair.b), parts, strict=True))
        (one, a), (other, b) = await asyncio.gather(*work)
        stages.side_by_side(parts)
        with stages.measure("compare"):
            score = min(1.0, max(-1.0, float(one.astype(np.float64) @ other.astype(np.float64))))
        return Verified(score, await self._verdict(pair, score), a, b)

    async def _side(self, crops: Sequence[Upload], pair: Pair, stages: Stages) -> tuple[Floats, Side]:
        """Unit vector float32 [dim] of one side."""
        if crops:
            person = await embed_person(self._embedding, crops, stages)
            return fused(person.vectors, "mean")[0], Side(len(person.vectors), person.refused)
        assert pair.collection is not None
        assert pair.item_id is not None
        vectors, _ = await asyncio.to_thread(self._store.vectors, pair.collection, [pair.item_id])
        return vectors[0], Side(0, item_id=pair.item_id)

    async def _verdict(self, pair: Pair, score: float) -> Verdict:
        if pair.collection is None:
            return Verdict(None, None, "name a collection: how likely a score is depends on a gallery's own crops")
        if self._judge is None:
            return Verdict(None, None, f"collection {pair.collection!r} is not calibrated")
        (verdict,) = await self._judge(pair.collection, "pair", [score], pair.fpir)
        return verdict


def _require_two_sides(pair: Pair) -> None:
    if pair.item_id is not None and pair.collection is None:
        raise BadField("collection", f"is missing: which collection is item {pair.item_id!r} in?")
    if pair.item_id is not None and pair.a and pair.b:
        raise BadField("item_id", "stands in the place of `a` or of `b`; both are given")
    if pair.item_id is not None and not pair.a and not pair.b:
        raise BadField("a", "is missing: give a crop to compare the item with")
    for name in ("a", "b"):
        if pair.item_id is None and not getattr(pair, name):
            raise BadField(name, "is missing: give crops in `a` and in `b`, or an item_id in the place of one of them")
