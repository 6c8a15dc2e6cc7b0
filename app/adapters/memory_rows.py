"""The reference store's rows, and how they are scored: each by a dot product of its own, in float64."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from app.core.centroids import cosine, raw_sum
from app.core.preprocess import Crop
from app.core.records import Item, Match, PersonMatch, PersonScore
from app.ports import Floats


@dataclass(frozen=True, slots=True)
class Row:
    """An item with its vector. seq: which one it is, also after it was replaced."""

    seq: int
    item: Item
    vector: Floats
    norm: float
    crop: Crop | None
    added_at: datetime


def ranked(rows: Sequence[Row], crops: Floats) -> list[tuple[Match, Floats]]:
    """All rows, best first, each with its vector; a row's score is its best over the crops."""
    scores = [max(_cosine(row.vector, crop) for crop in crops) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: -scores[i])  # stable: ties keep the order added
    return [(Match(rows[i].item, scores[i]), rows[i].vector) for i in order]


def of_person(person_id: str, own: Sequence[Row], crops: Floats, score: PersonScore) -> PersonMatch:
    """A person by all its rows, at least one."""
    best, _ = ranked(own, crops)[0]
    norms = np.array([row.norm for row in own], dtype=np.float32)
    total = raw_sum(np.stack([row.vector for row in own]), norms)
    centroid = cosine(total, list(crops.astype(np.float64)))
    return PersonMatch(person_id, centroid if score == "centroid" else best.score, len(own), best)


def _cosine(vector: Floats, query: Floats) -> float:
    """Of two unit vectors; the last bit of float32 must not carry it past 1."""
    return min(1.0, max(-1.0, float(vector.astype(np.float64) @ query.astype(np.float64))))
