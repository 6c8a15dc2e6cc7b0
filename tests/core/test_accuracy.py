"""Beside the averages: pairs of cameras, worst queries, published figures, and what the data do not allow."""

from dataclasses import replace

import numpy as np
import pytest

from app.core.accuracy import WITHIN_GALLERY, measure
from app.core.assessment import camera_pairs
from app.core.metrics import Labelled
from app.core.protocols import PROTOCOLS
from app.core.published import DUKE, GUIDE, Comparison
from app.core.splits import Sides
from app.errors import BadField, BadInput


def rows(*crops: tuple[int, int, float]) -> Labelled:
    """Crops as (person, camera, degrees)."""
    angles = np.radians([angle for _, _, angle in crops])
    pids, camids = (np.array([crop[place] for crop in crops], dtype=np.int64) for place in (0, 1))
    return Labelled(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32), pids, camids)


def sides(query: Labelled, gallery: Labelled) -> Sides:
    names = [f"{side}{i}" for side, part in (("q", query), ("g", gallery)) for i in range(len(part.pids))]
    split = len(query.pids)
    return Sides(query, gallery, list("0123456789"), list("0123456789"), names[:split], names[split:])


# Person 1 from camera 0: 20 degrees away in camera 1, behind person 2; 5 degrees away in camera 2.
CASE = sides(rows((1, 0, 0)), rows((1, 0, 1), (1, 1, 20), (2, 1, 10), (1, 2, 5), (2, 2, 30)))


def test_a_pair_of_cameras_is_the_instance_protocol_on_the_two() -> None:
    found = measure(CASE, ["instance"])
    pairs = {(pair.query_camera, pair.gallery_camera): (pair.mAP, pair.rank1) for pair in found.pairs}
    assert pairs == {(0, 1): (0.5, 0.0), (0, 2): (1.0, 1.0)}


def test_of_many_cameras_those_with_the_most_rows_are_paired() -> None:
    # Queries: cameras 0 (twice) and 3. Gallery: cameras 1 (twice), 2 and 5, of which 2 and 5 are equal.
    query = rows((1, 0, 0), (1, 0, 1), (1, 3, 2))
    gallery = rows((1, 5, 3), (1, 2, 4), (1, 1, 5), (1, 1, 6))
    pairs = [(pair.query_camera, pair.gallery_camera) for pair in camera_pairs(query, gallery, most=2)]
    assert pairs == [(0, 1), (0, 2), (3, 1), (3, 2)]
    assert [(p.query_camera, p.gallery_camera) for p in camera_pairs(query, gallery, most=1)] == [(0, 1)]


@pytest.mark.parametrize("length", [1e-20, 1e20])  # whose squares float32 cannot say
def test_vectors_too_short_or_too_long_to_be_measured_are_refused(length: float) -> None:
    far = replace(CASE.gallery, vectors=CASE.gallery.vectors * np.array([[1], [1], [length], [1], [1]], np.float32))
    with pytest.raises(BadInput, match=r"gallery vector 2 is 1e[+-]20 long"):
        measure(replace(CASE, gallery=far))


def test_the_worst_queries_come_with_the_head_of_their_ranking() -> None:
    found = measure(CASE, ["instance"])
    (worst,) = found.worst
    # Ranking without the query's camera: person 1 at 5, person 2 at 10, person 1 at 20, person 2 at 30 degrees.
    assert worst.precision == pytest.approx((1 + 2 / 3) / 2)
    assert [(row.row, row.right) for row in worst.head] == [(3, True), (2, False), (1, True), (4, False)]
    assert worst.head[0].score == pytest.approx(np.cos(np.radians(5)), abs=1e-6)


def test_queries_that_are_all_right_are_no_worst_ones() -> None:
    assert not measure(sides(rows((1, 0, 0)), rows((1, 1, 5), (2, 1, 10)))).worst


def test_scores_are_counted_by_query() -> None:
    scores = measure(CASE, ["instance"]).scores
    assert (scores.right.sum(), scores.wrong.sum()) == (1, 1)
    assert scores.right[-1] == scores.wrong[-1] == 1  # cos 5 and cos 10 degrees lie in the last of 40 bins


def test_queries_of_the_gallery_itself_are_ranked_only_where_they_do_not_find_themselves() -> None:
    found = measure(replace(CASE, query=CASE.gallery, set_apart=False))
    assert tuple(found.results) == WITHIN_GALLERY
    assert set(found.omitted) == set(PROTOCOLS) - set(WITHIN_GALLERY)
    assert all("would hold the query itself" in reason for reason in found.omitted.values())


def test_other_data_are_not_compared_with_the_guide_and_the_counts_are_told() -> None:
    comparison = measure(CASE).comparison
    assert (comparison.comparable, comparison.reproduced) == (False, {})
    assert "which has 2,228 queries of 702 persons and 17,661 gallery crops of 1,110" in str(comparison.reason)
    assert "here are 1 queries of 1 persons and 5 gallery crops of 2" in str(comparison.reason)


def duke(rank1: float) -> Sides:
    """Made-up vectors with the counts of the real set; so many of the queries are right first."""
    queries = np.arange(DUKE.queries) % DUKE.query_persons
    gallery = np.arange(DUKE.gallery) % DUKE.gallery_persons
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(DUKE.gallery_persons, 32)).astype(np.float32)
    wrong = np.arange(DUKE.queries) >= rank1 * DUKE.queries
    asked = directions[(queries + wrong) % DUKE.query_persons]
    return sides(
        Labelled(asked, queries.astype(np.int64), np.zeros(DUKE.queries, dtype=np.int64)),
        Labelled(directions[gallery], gallery.astype(np.int64), np.ones(DUKE.gallery, dtype=np.int64)),
    )


@pytest.mark.parametrize(
    ("use_centroids", "names"),
    [
        (None, {"centroid_published", "centroid_modelzoo"}),
        (True, {"centroid_published"}),
        (False, {"centroid_modelzoo"}),
    ],
)
@pytest.mark.parametrize(("rank1", "same"), [(0.968, True), (0.9, False)])
def test_on_the_real_set_it_says_whether_the_guides_figure_came_out_again(
    rank1: float, same: bool, use_centroids: bool | None, names: set[str]
) -> None:
    wanted = ["centroid_published", "centroid_modelzoo"]
    persons = [str(number) for number in range(DUKE.gallery_persons)]
    found = measure(replace(duke(rank1), persons=persons), wanted, use_centroids, shuffles=0)
    assert found.data_set == DUKE.name
    assert found.comparison == Comparison(True, None, dict.fromkeys(names, same))
    assert GUIDE in found.published["centroid_published"]


@pytest.mark.parametrize(
    ("vector", "sentence"),
    [([np.nan, 1], "gallery vector 1 holds a number that is not finite"), ([0, 0], "gallery vector 1 is all zeros")],
)
def test_vectors_that_cannot_be_compared_are_refused_by_place(vector: list[float], sentence: str) -> None:
    gallery = Labelled(np.array([[1, 0], vector], dtype=np.float32), np.array([1, 2]), np.array([1, 1]))
    with pytest.raises(BadInput, match=sentence):
        measure(sides(rows((1, 0, 0)), gallery))


def test_an_unknown_protocol_is_refused_before_the_work() -> None:
    with pytest.raises(BadField, match="no such protocol"):
        measure(CASE, ["rank"])
