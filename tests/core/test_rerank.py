"""Re-ranking against a slow second implementation of the paper's formulas, with sets and dicts, and a case worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.metrics import Doubles, Floats
from app.core.rerank import distances, order


def at(*degrees: float) -> Floats:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def random_units(seed: int, count: int, dim: int = 4) -> Floats:
    raw = np.random.default_rng(seed).standard_normal((count, dim))
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), dtype=np.float32)


def slow(query: Floats, shortlist: Floats, k1: int, k2: int, weight: float) -> list[float]:
    """The formulas again, one pair at a time."""
    rows = [[float(x) for x in row] for row in (query, *shortlist)]
    everyone = range(len(rows))
    d = [slow_distances(p, rows) for p in everyone]
    rankings = [[p, *sorted((g for g in everyone if g != p), key=lambda g: d[p][g])] for p in everyone]
    v = [{g: math.exp(-d[p][g]) for g in slow_neighbours(p, rankings, k1)} for p in everyone]

    def expanded(p: int) -> list[float]:
        first = rankings[p][: max(k2, 1)]
        return [sum(v[q].get(g, 0.0) for q in first) / len(first) for g in everyone]

    def jaccard(p: int, g: int) -> float:
        pairs = list(zip(expanded(p), expanded(g), strict=True))
        return 1 - sum(map(min, pairs)) / sum(map(max, pairs))

    return [(1 - weight) * jaccard(0, g) + weight * d[0][g] for g in everyone[1:]]


def slow_distances(p: int, rows: list[list[float]]) -> list[float]:
    squared = [round(sum((x - y) ** 2 for x, y in zip(rows[p], row, strict=True)), 9) for row in rows]
    return [x / max(squared) if max(squared) else 0.0 for x in squared]


def slow_neighbours(p: int, rankings: list[list[int]], k1: int) -> set[int]:
    def n(p: int, k: int) -> set[int]:
        return set(rankings[p][: k + 1])

    def r(p: int, k: int) -> set[int]:
        return {g for g in n(p, k) if p in n(g, k)}

    halves = [r(q, k1 // 2) for q in r(p, k1)]
    return r(p, k1).union(*(half for half in halves if 3 * len(r(p, k1) & half) >= 2 * len(half)))


@settings(deadline=None)  # loops over Python lists, on a machine that may be busy
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 9),
    k1=st.integers(1, 12),
    k2=st.integers(1, 12),
    weight=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_it_equals_the_slow_implementation(seed: int, count: int, k1: int, k2: int, weight: float) -> None:
    units = random_units(seed, count + 1)
    fast = distances(units[0], units[1:], k1, k2, weight)
    np.testing.assert_allclose(fast, slow(units[0], units[1:], k1, k2, weight), atol=1e-6)


def test_a_pair_by_hand() -> None:
    # Query at 0, a at 60, b at 180 degrees; k1 = 1, k2 = 1, half of k1 is 0: no set is expanded.
    # Squared distances: q-a 1, q-b 4, a-b 3. N(q,1) = {q,a}, N(a,1) = {a,q}, N(b,1) = {b,a}.
    # R(q) = {q,a}, R(a) = {a,q}, R(b) = {b}. d: from q 1/4 and 1, from a 1/3 (q) and 1 (b).
    # V(q) = (1, e^-1/4, 0), V(a) = (e^-1/3, 1, 0), V(b) = (0, 0, 1).
    # dJ(q,a) = 1 - (e^-1/3 + e^-1/4) / 2, dJ(q,b) = 1.
    jaccard = 1 - (math.exp(-1 / 3) + math.exp(-1 / 4)) / 2
    expected = [0.7 * jaccard + 0.3 / 4, 0.7 + 0.3]
    np.testing.assert_allclose(distances(at(0)[0], at(60, 180), k1=1, k2=1), expected, atol=1e-6)


def test_whoever_has_the_query_among_its_own_nearest_comes_before_one_who_is_as_near_but_has_not() -> None:
    # 20 and -20 degrees are as near to the query at 0; but around -20 there is a crowd, whose nearest are each other.
    shortlist = at(-20, 20, -21, -22, -23, -24)
    assert order(at(0), shortlist, k1=2, k2=1)[0] == 1


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 30), queries=st.integers(1, 3))
def test_the_shortlist_is_permuted_and_nothing_else(seed: int, count: int, queries: int) -> None:
    units = random_units(seed, count + queries)
    places = order(units[:queries], units[queries:])
    assert sorted(places.tolist()) == list(range(count))


def test_rows_with_equal_vectors_keep_their_order() -> None:
    (row,) = random_units(3, 1, 64)
    others = random_units(4, 20, 64)
    shortlist = np.concatenate([others[:7], [row], others[7:13], [row], others[13:], [row]])
    places = order(random_units(5, 1, 64), shortlist).tolist()
    assert [place for place in places if place in (7, 14, 22)] == [7, 14, 22]
    assert order(np.stack([row]), np.stack([row] * 5)).tolist() == [0, 1, 2, 3, 4]


def test_of_several_crops_each_is_asked_by_itself_and_the_least_distance_counts() -> None:
    units = random_units(6, 14)
    queries, shortlist = units[:2], units[2:]
    least: Doubles = np.minimum(distances(queries[0], shortlist), distances(queries[1], shortlist))
    assert order(queries, shortlist).tolist() == np.argsort(least, kind="stable").tolist()


def test_all_the_weight_on_the_first_distance_changes_nothing() -> None:
    units = random_units(7, 31)
    query, others = units[:1], units[1:]
    ranked = others[np.argsort(-(others @ query[0]), kind="stable")]
    assert order(query, ranked, weight=1.0).tolist() == list(range(30))


@pytest.mark.parametrize("k1", [100, 5000])
def test_neighbourhoods_larger_than_the_shortlist_take_all_of_it(k1: int) -> None:
    units = random_units(8, 6)
    np.testing.assert_allclose(distances(units[0], units[1:], k1), distances(units[0], units[1:], 10), atol=1e-12)
