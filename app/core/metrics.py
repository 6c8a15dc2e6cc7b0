"""Retrieval accuracy from arrays: rank-k (CMC), average precision and inverse negative penalty, query by query, in chunks.

A query that has no relevant row among those that count is left out of every average. Average precision is the mean, over
the relevant rows, of relevant-so-far over rank, on the whole ranking and without interpolation; the inverse negative
penalty is the number of relevant rows over the rank of the last one. Scores are cosines, which rank as squared Euclidean
distances of unit vectors do; equal ones keep the gallery's order. Which rows count for which query is the protocol's
affair (`app.core.protocols`).
Sources: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015 (CMC, mAP); Ye et al., "Deep Learning
for Person Re-identification: A Survey and Outlook", TPAMI 2021 (mINP).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
RANKS = (1, 5, 10, 20, 50)
RESAMPLES, SEED = 1000, 0  # of the bootstrap over queries
_CHUNK = 128  # queries at a time: 9 MB of scores for a gallery of 17,661


@dataclass(frozen=True, slots=True)
class Labelled:
    """Vectors (float32 [n, dim], raw or unit) with the person and the camera of each (int64 [n])."""

    vectors: Floats
    pids: Ints
    camids: Ints

    def __post_init__(self) -> None:
        if not len(self.vectors) == len(self.pids) == len(self.camids):
            raise ValueError(f"{len(self.vectors)} vectors, {len(self.pids)} persons, {len(self.camids)} cameras")


@dataclass(frozen=True, slots=True)
class Index:
    """What queries are ranked against: rows of one person each, and which of a person's rows a query's camera hides.

    vectors: float32 [n, dim], raw or unit. hidden: given rows of the query's own person (their places, ascending) and the
    query's camera, True for each that does not count.
    """

    vectors: Floats
    pids: Ints
    hidden: Callable[[Ints, int], Mask]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Each query's own figures; NaN, or 0 for `first`, where it has no relevant row.

    precision: average precision; penalty: inverse negative penalty; first: rank of the first relevant row, from 1;
    right, wrong: score of the best relevant row, and of the best row of another person.
    """

    precision: Doubles
    penalty: Doubles
    first: Ints
    right: Floats
    wrong: Floats

    @property
    def valid(self) -> Mask:
        """Queries with a relevant row."""
        return self.first > 0


@dataclass(frozen=True, slots=True)
class Interval:
    """95 % of the means over queries drawn with replacement lie between these."""

    mAP: tuple[float, float]
    rank1: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Report:
    """Fractions 0..1; None where no query was valid, and then `reason` says why. gallery: rows that queries are ranked against."""

    mAP: float | None
    mINP: float | None
    ranks: dict[int, float | None]
    valid_queries: int
    queries: int
    gallery: int
    interval95: Interval | None
    reason: str | None = None


def rank(query: Labelled, index: Index, beat: Callable[[], None] = lambda: None) -> Ranked:
    """Rank the index for every query. beat: called before each chunk of queries; what it raises ends the work."""
    count = len(query.pids)
    found = Ranked(
        precision=np.full(count, np.nan),
        penalty=np.full(count, np.nan),
        first=np.zeros(count, dtype=np.int64),
        right=np.full(count, np.nan, dtype=np.float32),
        wrong=np.full(count, np.nan, dtype=np.float32),
    )
    rows_of = rows_by(index.pids)
    relevant = np.zeros(len(index.pids), dtype=bool)  # of one query at a time
    for start, scores in _scores(query.vectors, index.vectors):
        beat()
        for i, row in enumerate(scores, start):
            own = rows_of.get(int(query.pids[i]), _NONE)
            hides = index.hidden(own, int(query.camids[i]))
            _rank_one(found, i, row, own[~hides], own[hides], relevant)
    return found


_NONE: Ints = np.empty(0, dtype=np.int64)


def _rank_one(found: Ranked, i: int, scores: Floats, right: Ints, hidden: Ints, relevant: Mask) -> None:
    scores[hidden] = -np.inf
    best = scores[right]
    if len(right):
        relevant[right] = True
        positions = relevant_positions(scores, relevant)
        relevant[right] = False
        found.precision[i] = average_precision(positions)
        found.penalty[i] = len(positions) / positions[-1]
        found.first[i] = positions[0]
        found.right[i] = best.max()
    scores[right] = -np.inf
    found.wrong[i] = scores.max(initial=-np.inf)


def _scores(queries: Floats, rows: Floats) -> Iterator[tuple[int, Floats]]:
    """Cosines of some queries with all rows, at a time: place of the first query, float32 [some, rows].

    The rows are not copied to be normalised: at 17,661 x 2048 that would be 145 MB.
    """
    scale = 1 / lengths(rows)
    for start in range(0, len(queries), _CHUNK):
        scores = unit(queries[start : start + _CHUNK]) @ rows.T
        scores *= scale
        yield start, scores


def rows_by(pids: Ints) -> dict[int, Ints]:
    """The places of each person's rows, ascending."""
    order = np.argsort(pids, kind="stable")
    persons, starts = np.unique(pids[order], return_index=True)
    return dict(zip(persons.tolist(), np.split(order, starts[1:]), strict=True)) if len(pids) else {}


def summarise(ranked: Ranked, gallery: int, intervals: bool = True) -> Report:
    """The averages over the valid queries, with their intervals unless told not to."""
    valid, queries = ranked.valid, len(ranked.first)
    if not valid.any():
        nothing: dict[int, float | None] = dict.fromkeys(RANKS)
        reason = "there is no query" if not queries else "no query has a row of its person that counts"
        return Report(None, None, nothing, 0, queries, gallery, None, reason)
    precision, first = ranked.precision[valid], ranked.first[valid]
    return Report(
        mAP=float(precision.mean()),
        mINP=float(ranked.penalty[valid].mean()),
        ranks={k: float(np.mean(first <= k)) for k in RANKS},
        valid_queries=len(first),
        queries=queries,
        gallery=gallery,
        interval95=interval(precision, first <= 1) if intervals else None,
    )


def interval(precision: Doubles, hit: Mask | Doubles) -> Interval:
    """Percentile bootstrap over queries, the same draws for both figures."""
    rng, count = np.random.default_rng(SEED), len(precision)
    means = np.empty((2, RESAMPLES))
    for resample in range(RESAMPLES):
        drawn = rng.integers(0, count, count)
        means[:, resample] = precision[drawn].mean(), hit[drawn].mean()
    (lowest_map, lowest_rank), (highest_map, highest_rank) = np.percentile(means, (2.5, 97.5), axis=1)
    return Interval((float(lowest_map), float(highest_map)), (float(lowest_rank), float(highest_rank)))


def cmc(ranked: Ranked, most: int = 50) -> list[float]:
    """The share of valid queries with a relevant row among the first 1, 2, ... `most`; empty where none is valid."""
    first = ranked.first[ranked.valid]
    return [float(np.mean(first <= k)) for k in range(1, most + 1)] if len(first) else []


def relevant_positions(scores: Floats, relevant: Mask) -> Ints:
    """The ranks (from 1) of the relevant rows, best first. Only rows that score at least as the worst of them are sorted."""
    if not relevant.any():
        return _NONE
    head = np.flatnonzero(scores >= scores[relevant].min())
    order = head[np.argsort(-scores[head], kind="stable")]
    return np.flatnonzero(relevant[order]) + 1


def average_precision(positions: Ints) -> float:
    """AP of relevant rows at these ranks (from 1, ascending): ranks 1 and 3 give (1/1 + 2/3) / 2."""
    return float(np.mean(np.arange(1, len(positions) + 1) / positions))


def lengths(vectors: Floats) -> Floats:
    """Euclidean lengths float32 [n]; 1 for a row of zeros, so that it can be divided by."""
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64, casting="same_kind")
    norms = np.sqrt(squares)
    return np.where(norms > 0, norms, 1).astype(np.float32)


def unit(vectors: Floats) -> Floats:
    """Each row over its length, float32. A row of zeros stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
