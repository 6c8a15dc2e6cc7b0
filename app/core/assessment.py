"""Beside the averages: where a model fails, camera by camera and query by query, how its scores lie, what re-ranking gains."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from app.core import rerank
from app.core.metrics import (
    Doubles,
    Floats,
    Index,
    Ints,
    Labelled,
    Ranked,
    average_precision,
    lengths,
    rank,
    rows_by,
    summarise,
    unit,
)
from app.core.protocols import PROTOCOLS

SHOWN, LISTED = 10, 10  # worst queries, and rows of each one's ranking
BINS = 40  # of the histograms, from -1 to 1
MOST_CAMERAS = 50  # of each side: a label that counts frames would make millions of pairs
RERANKED = 200  # queries that re-ranking is tried on: some milliseconds each


@dataclass(frozen=True, slots=True)
class CameraPair:
    """Queries of one camera against the gallery's crops of another one alone."""

    query_camera: int
    gallery_camera: int
    mAP: float | None
    rank1: float | None
    valid_queries: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A row of a query's ranking: its place in the gallery, its score, and whether it is the query's person."""

    row: int
    score: float
    right: bool


@dataclass(frozen=True, slots=True)
class Worst:
    """A query that went wrong: its place among the queries, its figures, and the head of its ranking."""

    query: int
    precision: float
    first: int
    head: tuple[Listed, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """How the best right and the best wrong score of each query lie: counts in bins of equal width from -1 to 1."""

    edges: Doubles
    right: Ints
    wrong: Ints


@dataclass(frozen=True, slots=True)
class Gain:
    """What k-reciprocal re-ranking of the shortlist does to some queries: mAP and rank-1 without it and with it."""

    queries: int
    mAP: tuple[float, float]
    rank1: tuple[float, float]


def camera_pairs(
    query: Labelled, gallery: Labelled, most: int = MOST_CAMERAS, beat: Callable[[], None] = lambda: None
) -> list[CameraPair]:
    """By pairs of different cameras, both ascending; a pair without a valid query has no figures.

    Of more than `most` cameras of a side those with the most rows. beat: as of `rank`.
    """
    asked, kept = _busiest(query.camids, most), _busiest(gallery.camids, most)
    pairs = []
    for query_camera, queries in asked.items():
        for gallery_camera, rows in kept.items():
            if query_camera != gallery_camera:
                only = Labelled(query.vectors[queries], query.pids[queries], query.camids[queries])
                against = Labelled(gallery.vectors[rows], gallery.pids[rows], gallery.camids[rows])
                index = PROTOCOLS["instance"].index(only, against, against.camids)
                report = summarise(rank(only, index, beat), len(rows), intervals=False)
                pairs.append(
                    CameraPair(query_camera, gallery_camera, report.mAP, report.ranks[1], report.valid_queries)
                )
    return pairs


def _busiest(camids: Ints, most: int) -> dict[int, Ints]:
    rows_of = rows_by(camids)
    busiest = sorted(rows_of, key=lambda camera: -len(rows_of[camera]))[:most]  # stable: of equal ones the lower
    return {camera: rows_of[camera] for camera in sorted(busiest)}


def worst(query: Labelled, index: Index, ranked: Ranked, shown: int = SHOWN, listed: int = LISTED) -> list[Worst]:
    """The valid queries of lowest average precision, worst first, each with the head of its ranking."""
    valid = np.flatnonzero(ranked.valid)
    order = valid[np.argsort(ranked.precision[valid], kind="stable")][:shown]
    order = order[ranked.precision[order] < 1]  # nothing is wrong with the others
    heads = heads_of(query, index, order, listed)
    return [
        Worst(int(i), float(ranked.precision[i]), int(ranked.first[i]), head)
        for i, head in zip(order, heads, strict=True)
    ]


def heads_of(query: Labelled, index: Index, queries: Ints, listed: int = LISTED) -> list[tuple[Listed, ...]]:
    """The first rows of these queries' rankings; rows that do not count are not in them."""
    heads = []
    for i, scores in _counting(query, index, queries):
        best = np.argsort(-scores, kind="stable")[:listed]
        right = index.pids[best] == query.pids[i]
        heads.append(
            tuple(
                Listed(int(row), float(scores[row]), bool(is_right))
                for row, is_right in zip(best, right, strict=True)
                if np.isfinite(scores[row])
            )
        )
    return heads


def gain_of_reranking(query: Labelled, index: Index, ranked: Ranked, most: int = RERANKED) -> Gain | None:
    """Over an even sample of the valid queries; None where there is none."""
    valid = np.flatnonzero(ranked.valid)
    if not len(valid):
        return None
    chosen = valid[np.unique(np.linspace(0, len(valid) - 1, most).astype(int))]
    precisions, hits = np.empty((2, len(chosen))), np.empty((2, len(chosen)))
    for number, (i, scores) in enumerate(_counting(query, index, chosen)):
        order = np.argsort(-scores, kind="stable")[: int(np.count_nonzero(np.isfinite(scores)))]
        head = order[: rerank.MOST]
        crop = unit(query.vectors[i : i + 1])
        better = np.concatenate([head[rerank.order(crop, unit(index.vectors[head]))], order[len(head) :]])
        for row, ranking in enumerate((order, better)):
            positions = np.flatnonzero(index.pids[ranking] == query.pids[i]) + 1
            precisions[row, number], hits[row, number] = average_precision(positions), positions[0] == 1
    (map_before, map_after), (hit_before, hit_after) = precisions.mean(axis=1), hits.mean(axis=1)
    return Gain(len(chosen), (float(map_before), float(map_after)), (float(hit_before), float(hit_after)))


def _counting(query: Labelled, index: Index, queries: Ints) -> Iterator[tuple[int, Floats]]:
    """These queries with their scores; rows that do not count have none."""
    scale, rows_of, none = 1 / lengths(index.vectors), rows_by(index.pids), np.empty(0, dtype=np.int64)
    for i in queries.tolist():
        scores = (unit(query.vectors[i : i + 1]) @ index.vectors.T)[0] * scale
        own = rows_of.get(int(query.pids[i]), none)
        scores[own[index.hidden(own, int(query.camids[i]))]] = -np.inf
        yield i, scores


def scores_of(ranked: Ranked) -> Scores:
    """Histograms over the valid queries."""
    valid = ranked.valid
    right, edges = np.histogram(np.clip(ranked.right[valid], -1, 1), BINS, (-1, 1))
    wrong, _ = np.histogram(np.clip(ranked.wrong[valid & np.isfinite(ranked.wrong)], -1, 1), BINS, (-1, 1))
    return Scores(edges, right, wrong)
