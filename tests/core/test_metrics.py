"""Accuracy against cases worked by hand. Protocols, and the slow second implementation, are in test_protocols.py."""

import numpy as np
import pytest

from app.core.metrics import (
    RANKS,
    Index,
    Labelled,
    Report,
    average_precision,
    cmc,
    interval,
    lengths,
    rank,
    relevant_positions,
    rows_by,
    summarise,
    unit,
)


def rows(vectors: list[list[float]], pids: list[int], camids: list[int]) -> Labelled:
    numbers = np.array(vectors, dtype=np.float32).reshape(len(vectors), 2)
    return Labelled(numbers, np.array(pids, dtype=np.int64), np.array(camids, dtype=np.int64))


def at(*angles: float) -> list[list[float]]:
    """Unit vectors in the plane at these degrees."""
    return [[float(np.cos(np.radians(a))), float(np.sin(np.radians(a)))] for a in angles]


def instance(query: Labelled, gallery: Labelled) -> Report:
    index = Index(gallery.vectors, gallery.pids, lambda own, camera: np.asarray(gallery.camids[own] == camera))
    return summarise(rank(query, index), len(gallery.pids))


def test_same_camera_images_of_the_person_do_not_count() -> None:
    query = rows(at(0), [1], [1])
    # By angle: anna in the query's camera (left out), bert, anna in another camera.
    gallery = rows(at(1, 5, 9), [1, 2, 1], [1, 2, 2])
    report = instance(query, gallery)
    assert report.mAP == 0.5  # relevant at rank 2 of the two that are left
    assert report.ranks[1] == 0.0
    assert report.ranks[5] == 1.0


def test_other_persons_of_the_query_camera_do_count() -> None:
    assert instance(rows(at(0), [1], [1]), rows(at(1, 9), [2, 1], [1, 2])).mAP == 0.5


def test_average_precision_is_the_mean_of_relevant_so_far_over_rank() -> None:
    assert average_precision(np.array([1, 3])) == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_the_inverse_negative_penalty_is_the_number_of_relevant_rows_over_the_rank_of_the_last() -> None:
    # Relevant at ranks 1 and 4: 2 / 4; average precision (1/1 + 2/4) / 2.
    report = instance(rows(at(0), [1], [1]), rows(at(1, 2, 3, 4), [1, 2, 2, 1], [2, 2, 2, 2]))
    assert (report.mINP, report.mAP) == (0.5, 0.75)


def test_a_query_without_a_match_is_left_out() -> None:
    report = instance(rows(at(0, 0), [1, 7], [1, 1]), rows(at(1, 2), [1, 2], [2, 2]))
    assert (report.valid_queries, report.queries, report.mAP) == (1, 2, 1.0)


@pytest.mark.parametrize(
    ("query", "gallery", "reason"),
    [
        (rows(at(0), [1], [1]), rows(at(0), [1], [1]), "no query has a row of its person that counts"),
        (rows(at(0), [1], [1]), rows(at(0), [2], [2]), "no query has a row of its person that counts"),
        (rows(at(0), [1], [1]), rows([], [], []), "no query has a row of its person that counts"),
        (rows([], [], []), rows(at(0), [1], [1]), "there is no query"),
    ],
)
def test_without_any_valid_query_there_is_no_number_and_a_reason(
    query: Labelled, gallery: Labelled, reason: str
) -> None:
    report = instance(query, gallery)
    assert (report.mAP, report.mINP, report.interval95) == (None, None, None)
    assert report.ranks == dict.fromkeys(RANKS)
    assert report.reason == reason


def test_a_gallery_under_fifty_has_a_rank_50() -> None:
    assert instance(rows(at(0), [1], [1]), rows(at(1, 2), [2, 1], [2, 2])).ranks[50] == 1.0


def test_ties_keep_the_order_of_the_gallery() -> None:
    scores = np.array([0.5, 0.5, 0.5, 0.9], dtype=np.float32)
    assert relevant_positions(scores, np.array([False, True, False, False])).tolist() == [3]


def test_the_best_right_and_the_best_wrong_score_are_told() -> None:
    # The query's own camera is hidden; 60 degrees to the other picture of anna, 90 to bert.
    gallery = rows(at(0, 60, 90), [1, 1, 2], [1, 2, 2])
    index = Index(gallery.vectors, gallery.pids, lambda own, camera: np.asarray(gallery.camids[own] == camera))
    found = rank(rows(at(0), [1], [1]), index)
    assert found.right[0] == pytest.approx(0.5, abs=1e-6)
    assert found.wrong[0] == pytest.approx(0.0, abs=1e-6)


def test_lengths_do_not_change_the_ranking() -> None:
    query, gallery = rows(at(0), [1], [1]), rows(at(5, 1), [2, 1], [2, 2])
    longer = Labelled(gallery.vectors * np.array([[100], [0.01]], np.float32), gallery.pids, gallery.camids)
    assert instance(query, longer).mAP == instance(query, gallery).mAP == 1.0


def test_an_interval_of_equal_queries_is_a_point_and_holds_the_mean_of_others() -> None:
    same = interval(np.array([0.5, 0.5]), np.array([True, True]))
    assert (same.mAP, same.rank1) == ((0.5, 0.5), (1.0, 1.0))
    # Of one query in two right, resamples have none, one or both right: a quarter, a half and a quarter of them.
    mixed = interval(np.array([0.0, 1.0]), np.array([False, True]))
    assert (mixed.mAP, mixed.rank1) == ((0.0, 1.0), (0.0, 1.0))
    many = interval(np.tile([0.0, 1.0], 200), np.tile([False, True], 200))
    # The mean's standard deviation is 0.5 / sqrt(400) = 0.025; 95 % lie within 1.96 of them.
    assert many.mAP == pytest.approx((0.451, 0.549), abs=0.006)
    assert many == interval(np.tile([0.0, 1.0], 200), np.tile([False, True], 200))  # the draws are fixed


def test_the_curve_rises_to_one() -> None:
    gallery = rows(at(1, 2, 3), [2, 1, 3], [2, 2, 2])
    index = Index(gallery.vectors, gallery.pids, lambda own, camera: np.zeros(len(own), dtype=bool))
    assert cmc(rank(rows(at(0, 0), [1, 2], [1, 1]), index), 3) == [0.5, 1.0, 1.0]


def test_a_row_of_zeros_stays_zero() -> None:
    zeros = np.zeros((1, 3), dtype=np.float32)
    assert unit(zeros).tolist() == [[0, 0, 0]]
    assert lengths(zeros).tolist() == [1]


def test_rows_are_found_by_person_in_their_order() -> None:
    found = rows_by(np.array([7, 3, 7, -1]))
    assert {pid: places.tolist() for pid, places in found.items()} == {-1: [3], 3: [1], 7: [0, 2]}
    assert rows_by(np.empty(0, dtype=np.int64)) == {}


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 vectors, 1 persons"):
        rows(at(0, 1), [1], [1, 1])
