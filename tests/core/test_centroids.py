"""Centroids against means worked by hand, and person sums against the direct mean of the kept rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.centroids import ROWS, PersonSums, centroid, cosine, raw_sum


def test_a_centroid_is_the_mean_of_raw_vectors_so_that_a_longer_one_weighs_more() -> None:
    vectors = np.array([[1, 0], [0, 3]], dtype=np.float32)
    mean = centroid(vectors)
    assert (mean.tolist(), str(mean.dtype)) == ([0.5, 1.5], "float32")


def test_it_is_summed_in_float64() -> None:
    # In float32, 2**24 + 1 is 2**24: the ones would be lost one by one, and the mean of the five would be 2**24 / 5.
    vectors = np.array([[2**24], [1], [1], [1], [1]], dtype=np.float32)
    assert centroid(vectors).tolist() == [np.float32((2**24 + 4) / 5)]


def test_the_sum_of_unit_vectors_and_lengths_points_where_the_centroid_does() -> None:
    total = raw_sum(np.array([[1, 0], [0, 1]], dtype=np.float32), np.array([1, 3], dtype=np.float32))
    assert total.tolist() == [1, 3]
    assert cosine(total, [np.array([0.0, 1.0])]) == pytest.approx(3 / np.sqrt(10))
    assert cosine(total, [np.array([0.0, 1.0]), total / np.sqrt(10)]) == pytest.approx(1)  # the nearest crop counts


def test_crops_that_cancel_out_score_nothing() -> None:
    assert cosine(np.zeros(2), [np.array([1.0, 0.0])]) == 0
    sums = PersonSums.of(
        np.array([4, 4]), np.array([1, 2]), np.array([[1, 0], [-1, 0]], dtype=np.float32).__getitem__, 2
    )
    pids, cosines, off = sums.scores(np.array([1, 0], dtype=np.float32))
    assert (pids.tolist(), cosines.tolist(), off.tolist()) == ([4], [0], [np.inf])


def test_a_camera_is_left_out_and_who_was_seen_by_it_alone_is_not_there() -> None:
    raw = np.array([[4, 0], [0, 3], [0, 1], [1, 1]], dtype=np.float32)
    sums = PersonSums.of(np.array([7, 7, 7, 9]), np.array([1, 2, 2, 1]), raw.__getitem__, 2)
    query = np.array([1, 0], dtype=np.float32)
    pids, cosines, _ = sums.scores(query)
    assert pids.tolist() == [7, 9]
    # Sums (4, 4) and (1, 1): both at 45 degrees.
    np.testing.assert_allclose(cosines, [np.sqrt(0.5)] * 2, atol=1e-6)
    pids, cosines, _ = sums.scores(query, without=1)
    assert pids.tolist() == [7]
    assert cosines.tolist() == [0]
    pids, cosines, _ = sums.scores(query, without=2)
    assert pids.tolist() == [7, 9]
    np.testing.assert_allclose(cosines, [1, np.sqrt(0.5)], atol=1e-6)


def test_without_rows_there_is_nobody() -> None:
    nothing = np.empty(0, dtype=np.int64)
    sums = PersonSums.of(nothing, nothing, lambda rows: np.empty((len(rows), 3), dtype=np.float32), 3)
    assert [part.tolist() for part in sums.scores(np.ones(3, dtype=np.float32))] == [[], [], []]


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60), persons=st.integers(1, 6), cameras=st.integers(1, 4))
def test_scores_are_those_of_the_direct_mean_of_the_kept_rows(
    seed: int, count: int, persons: int, cameras: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, 5)).astype(np.float32)
    pids, camids = rng.integers(0, persons, count), rng.integers(-1, cameras, count)
    query = vectors[0] / np.linalg.norm(vectors[0])
    sums = PersonSums.of(pids, camids, vectors.__getitem__, 5)
    for without in (None, *range(cameras), 77):
        found, cosines, off = sums.scores(query, without)
        kept = camids != without if without is not None else np.ones(count, dtype=bool)
        assert found.tolist() == sorted(set(pids[kept].tolist()))
        for pid, score, by in zip(found, cosines, off, strict=True):
            mean = centroid(vectors[kept & (pids == pid)]).astype(np.float64)
            assert abs(mean @ query / np.linalg.norm(mean) - score) <= by


def test_a_person_with_more_rows_than_are_summed_at_once_has_one_sum() -> None:
    count = 2 * ROWS + 5
    vectors = np.stack([np.arange(count), np.ones(count)], axis=1).astype(np.float32)
    pids = np.array([1, *[2] * (count - 2), 3])
    sums = PersonSums.of(pids, np.zeros(count, dtype=np.int64), vectors.__getitem__, 2)
    # 1 + 2 + ... + (count - 2)
    assert sums.sums.tolist() == [[0, 1], [(count - 2) * (count - 1) / 2, count - 2], [count - 1, 1]]
