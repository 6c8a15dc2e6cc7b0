"""Retrieval accuracy from arrays: CMC (rank-k), average precision and mAP by the `instance` protocol, in chunks.

For each query the gallery rows of the same person **and** the same camera do not count (the Market-1501 protocol). A
query that has no relevant row left is left out of every average. Average precision is the mean, over the relevant rows,
of relevant-so-far over rank, on the whole ranking and without interpolation. Ties keep the gallery's order.
Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015, and the Centroids-ReID evaluation.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
RANKS = (1, 5, 10, 20, 50)
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
class Report:
    """Fractions 0..1; None where no query was valid."""

    mAP: float | None
    ranks: dict[int, float | None]
    valid_queries: int
    queries: int
    gallery: int


def evaluate_instance(query: Labelled, gallery: Labelled) -> Report:
    """Rank the gallery for every query by cosine and average over the valid queries."""
    rows = unit(gallery.vectors)
    precisions: list[float] = []
    firsts: list[int] = []
    for start in range(0, len(query.pids), _CHUNK):
        part = slice(start, start + _CHUNK)
        scores = unit(query.vectors[part]) @ rows.T
        for score, pid, camid in zip(scores, query.pids[part], query.camids[part], strict=True):
            same = gallery.pids == pid
            kept = ~(same & (gallery.camids == camid))
            positions = relevant_positions(score[kept], same[kept])
            if len(positions):
                precisions.append(average_precision(positions))
                firsts.append(int(positions[0]))
    found = np.array(firsts)
    ranks = {k: float(np.mean(found <= k)) if firsts else None for k in RANKS}
    mean = float(np.mean(precisions)) if precisions else None
    return Report(mean, ranks, len(precisions), len(query.pids), len(gallery.pids))


def relevant_positions(scores: Floats, relevant: npt.NDArray[np.bool_]) -> Ints:
    """The ranks (from 1) of the relevant rows, best first. Only rows that score at least as the worst of them are sorted."""
    if not relevant.any():
        return np.empty(0, dtype=np.int64)
    head = np.flatnonzero(scores >= scores[relevant].min())
    order = head[np.argsort(-scores[head], kind="stable")]
    return np.flatnonzero(relevant[order]) + 1


def average_precision(positions: Ints) -> float:
    """AP of relevant rows at these ranks (from 1, ascending): ranks 1 and 3 give (1/1 + 2/3) / 2."""
    return float(np.mean(np.arange(1, len(positions) + 1) / positions))


def unit(vectors: Floats) -> Floats:
    """Each row over its length, float32. A row of zeros stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
