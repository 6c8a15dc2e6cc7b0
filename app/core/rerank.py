"""k-reciprocal re-ranking of a shortlist: two crops that are among each other's nearest belong together.

    places = order(query, vectors)      # of the shortlist, best first; the query is one crop or several of one person

The set is the query and the shortlist, nothing else, so that the price is bounded by the shortlist, not by the gallery.
d(p, g) is the squared Euclidean distance of unit vectors over the largest one from p, hence 0..1.

  N(p, k)   p and its k nearest others; ties in the order of the shortlist, the query before them
  R(p, k)   those g of N(p, k) with p in N(g, k): the k-reciprocal neighbours
  R*(p, k)  R(p, k), and every R(q, k/2) of a q in R(p, k) of which at least two thirds lie in R(p, k)
  V(p)      exp(-d(p, g)) for each g of R*(p, k1), 0 for the others; then the mean over the k2 first of p's ranking, p included
  dJ(p, g)  1 - sum of min(V(p), V(g)) / sum of max(V(p), V(g))
  d*(p, g)  (1 - lambda) dJ(p, g) + lambda d(p, g)

Source: Zhong, Zheng, Cao, Li, "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017, whose k1, k2
and lambda these are. The paper leaves the scale of d open; over the largest one is how the authors' program has it. Where
the program departs from the paper we do not: it scales each V(p) to the sum 1, and asks R(q, k/2) for more than two thirds.
"""

import numpy as np

from app.core.metrics import Doubles, Floats, Ints, Mask

K1, K2, LAMBDA = 20, 6, 0.3
MOST = 100  # rows of a shortlist: the price grows with their square


def order(queries: Floats, shortlist: Floats, k1: int = K1, k2: int = K2, weight: float = LAMBDA) -> Ints:
    """The places of the shortlist's rows, best first; rows that are equally near keep their order.

    queries: unit float32 [m, dim], crops of one person: each is asked by itself, and a row's distance is its least one.
    shortlist: unit float32 [n, dim], in the order of the first ranking. weight: how much of d stays, lambda in the paper.
    """
    if not len(shortlist):
        return np.empty(0, dtype=np.int64)
    nearest = np.min([distances(query, shortlist, k1, k2, weight) for query in queries], axis=0)
    return np.asarray(np.argsort(nearest, kind="stable"), dtype=np.int64)


def distances(query: Floats, shortlist: Floats, k1: int = K1, k2: int = K2, weight: float = LAMBDA) -> Doubles:
    """d* of one query with each row of the shortlist, float64 [n]."""
    first = _distances(np.vstack([query[None], shortlist]).astype(np.float64))
    ranking = _ranking(first)
    encoded = _encoded(first, _expanded(ranking, k1))
    expanded = np.stack([encoded[row[: max(k2, 1)]].mean(axis=0) for row in ranking])
    shared = np.minimum(expanded[0], expanded[1:]).sum(axis=1)
    either = np.maximum(expanded[0], expanded[1:]).sum(axis=1)  # never 0: everyone is in a set of its own
    return np.asarray((1 - weight) * (1 - shared / either) + weight * first[0, 1:])


def _distances(vectors: Doubles) -> Doubles:
    """d of all pairs, [n, n]: each row over its largest."""
    # Rounded, since float32 vectors say no more, and the last bits would part vectors that are equal.
    squared = np.maximum(np.round(2 - 2 * vectors @ vectors.T, 9), 0)
    np.fill_diagonal(squared, 0)
    largest = squared.max(axis=1, keepdims=True)
    return np.asarray(squared / np.where(largest > 0, largest, 1))


def _ranking(first: Doubles) -> Ints:
    """Each row's ranking of all, itself first, even where others are as near."""
    apart = first.copy()
    np.fill_diagonal(apart, -1)
    return np.asarray(np.argsort(apart, axis=1, kind="stable"), dtype=np.int64)


def _reciprocal(ranking: Ints, k: int) -> Mask:
    """R(p, k) as the row of each p, [n, n]."""
    near = np.zeros(ranking.shape, dtype=bool)
    np.put_along_axis(near, ranking[:, : k + 1], True, axis=1)
    return near & near.T


def _expanded(ranking: Ints, k1: int) -> Mask:
    """R*(p, k1) as the row of each p, [n, n]."""
    wide, narrow = _reciprocal(ranking, k1), _reciprocal(ranking, k1 // 2)
    inside = wide.astype(np.int64) @ narrow.T.astype(np.int64)  # [p, q]: how many of R(q, k/2) lie in R(p, k)
    joined = wide & (3 * inside >= 2 * narrow.sum(axis=1))
    return np.asarray(wide | (joined.astype(np.int64) @ narrow.astype(np.int64) > 0))


def _encoded(first: Doubles, neighbours: Mask) -> Doubles:
    return np.where(neighbours, np.exp(-first), 0)
