"""Accuracy against cases worked by hand and against a second, slow and obvious implementation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.metrics import Labelled, Report, average_precision, evaluate_instance, relevant_positions, unit


def rows(vectors: list[list[float]], pids: list[int], camids: list[int]) -> Labelled:
    return Labelled(np.array(vectors, dtype=np.float32), np.array(pids), np.array(camids))


def at(*angles: float) -> list[list[float]]:
    """Unit vectors in the plane at these degrees."""
    return [[float(np.cos(np.radians(a))), float(np.sin(np.radians(a)))] for a in angles]


def test_same_camera_images_of_the_person_do_not_count() -> None:
    query = rows(at(0), [1], [1])
    # By angle: anna in the query's camera (left out), bert, anna in another camera.
    gallery = rows(at(1, 5, 9), [1, 2, 1], [1, 2, 2])
    report = evaluate_instance(query, gallery)
    assert report.mAP == 0.5  # relevant at rank 2 of the two that are left
    assert report.ranks[1] == 0.0
    assert report.ranks[5] == 1.0


def test_other_persons_of_the_query_camera_do_count() -> None:
    report = evaluate_instance(rows(at(0), [1], [1]), rows(at(1, 9), [2, 1], [1, 2]))
    assert report.mAP == 0.5


def test_average_precision_is_the_mean_of_relevant_so_far_over_rank() -> None:
    assert average_precision(np.array([1, 3])) == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_a_query_without_a_match_is_left_out() -> None:
    report = evaluate_instance(rows(at(0, 0), [1, 7], [1, 1]), rows(at(1, 2), [1, 2], [2, 2]))
    assert (report.valid_queries, report.queries, report.mAP) == (1, 2, 1.0)


def test_without_any_valid_query_there_is_no_number_and_no_exception() -> None:
    report = evaluate_instance(rows(at(0), [1], [1]), rows(at(0), [1], [1]))
    assert report.mAP is None
    assert set(report.ranks.values()) == {None}


def test_ties_keep_the_order_of_the_gallery() -> None:
    scores = np.array([0.5, 0.5, 0.5, 0.9], dtype=np.float32)
    assert relevant_positions(scores, np.array([False, True, False, False])).tolist() == [3]


def test_a_row_of_zeros_stays_zero() -> None:
    assert unit(np.zeros((1, 3), dtype=np.float32)).tolist() == [[0, 0, 0]]


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 vectors, 1 persons"):
        rows(at(0, 1), [1], [1, 1])


def slow(query: Labelled, gallery: Labelled) -> Report:
    """The definition again, as loops over Python lists."""
    precisions, firsts = [], []
    rows_ = unit(gallery.vectors)
    for vector, pid, camid in zip(unit(query.vectors), query.pids, query.camids, strict=True):
        scored = [
            (-float(row @ vector), i, p == pid)
            for i, (row, p, c) in enumerate(zip(rows_, gallery.pids, gallery.camids, strict=True))
            if not (p == pid and c == camid)
        ]
        hits, total, first = 0, 0.0, None
        for rank, (_, _, relevant) in enumerate(sorted(scored), 1):
            if relevant:
                hits += 1
                total += hits / rank
                first = first or rank
        if first:
            precisions.append(total / hits)
            firsts.append(first)
    ranks = {k: sum(f <= k for f in firsts) / len(firsts) if firsts else None for k in (1, 5, 10, 20, 50)}
    mean = sum(precisions) / len(precisions) if precisions else None
    return Report(mean, ranks, len(precisions), len(query.pids), len(gallery.pids))


@given(
    seed=st.integers(0, 2**32 - 1), queries=st.integers(1, 200), gallery=st.integers(1, 80), persons=st.integers(1, 12)
)
def test_it_equals_the_slow_implementation(seed: int, queries: int, gallery: int, persons: int) -> None:
    rng = np.random.default_rng(seed)

    def draw(n: int) -> Labelled:
        # Powers of two as components: sums and products are exact, so that equal scores are ties in both.
        vectors = rng.choice([-1.0, 1.0], (n, 4)).astype(np.float32)
        return Labelled(vectors, rng.integers(0, persons, n), rng.integers(0, 3, n))

    q, g = draw(queries), draw(gallery)
    fast, expected = evaluate_instance(q, g), slow(q, g)
    assert fast.ranks == expected.ranks
    assert fast.valid_queries == expected.valid_queries
    assert fast.mAP == pytest.approx(expected.mAP)
