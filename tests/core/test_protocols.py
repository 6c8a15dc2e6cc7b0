"""Each protocol against cases worked by hand and against a second, slow and obvious implementation."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.metrics import Labelled, Report
from app.core.protocols import PROTOCOLS, evaluate, published_camids
from app.errors import BadField

ORDERED = {"centroid_published", "centroid_modelzoo"}
FIGURES = ("mAP", "mINP", "rank1", "rank5", "rank10", "rank20", "rank50")


def rows(*crops: tuple[int, int, float]) -> Labelled:
    """Crops as (person, camera, degrees): unit vectors in the plane."""
    angles = np.radians([angle for _, _, angle in crops])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    pids, camids = ([crop[place] for crop in crops] for place in (0, 1))
    return Labelled(vectors, np.array(pids, dtype=np.int64), np.array(camids, dtype=np.int64))


def figures(query: Labelled, gallery: Labelled, name: str) -> tuple[float | None, int, int]:
    """mAP, valid queries, rows of the index."""
    report = evaluate(query, gallery, [name], shuffles=0)[name].report
    return report.mAP, report.valid_queries, report.gallery


# Worked by hand. The query is person 1 in camera 1 at 0 degrees.
QUERY = rows((1, 1, 0))


def test_instance_ranks_images() -> None:
    # Left out: 0 (own camera). Then 5 (person 2), 10 (person 1): AP 1/2.
    assert figures(QUERY, rows((1, 1, 0), (2, 2, 5), (1, 2, 10)), "instance") == (0.5, 1, 3)


def test_a_centroid_leaves_out_the_camera_of_the_query() -> None:
    # Person 1 outside camera 1: the mean of 20 and 40, at 30 degrees. Person 2 has no query: no centroid.
    gallery = rows((1, 1, 0), (1, 2, 20), (1, 3, 40), (2, 2, 5))
    assert figures(QUERY, gallery, "centroid") == (1.0, 1, 1)


def test_centroids_of_others_are_made_for_their_queries_cameras() -> None:
    # Person 2 is asked for from cameras 2 and 3: means of its other cameras lie at 1 (without 2) and at 2 (without 3).
    query = rows((1, 1, 0), (2, 2, 1), (2, 3, 2))
    gallery = rows((1, 2, 30), (2, 2, 2), (2, 3, 1))
    # For person 1: 1 and 2 before 30, AP 1/3. For person 2 of camera 2: the mean with camera 2 is hidden; 1 is first.
    mean = (1 / 3 + 1 + 1) / 3
    assert figures(query, gallery, "centroid")[0] == pytest.approx(mean)
    assert figures(query, gallery, "centroid")[1:] == (3, 3)


def test_one_set_of_cameras_makes_one_centroid() -> None:
    # Asked for from cameras 1 and 2, which the gallery has not: all three rows both times.
    query = rows((1, 1, 0), (1, 2, 0))
    assert figures(query, rows((1, 3, 1), (1, 3, 2), (1, 4, 3)), "centroid") == (1.0, 2, 1)


def test_a_person_seen_only_by_the_querys_camera_has_no_centroid() -> None:
    query = rows((1, 1, 0), (2, 1, 90))
    assert figures(query, rows((1, 1, 0), (2, 2, 80)), "centroid") == (1.0, 1, 1)


def test_distractors_keep_one_centroid() -> None:
    # Persons 2 (5 degrees) and 3 (the mean of 1 and 11: 6 degrees) come before person 1 at 10.
    gallery = rows((1, 2, 10), (2, 2, 5), (3, 2, 1), (3, 5, 11))
    mAP, *counts = figures(QUERY, gallery, "centroid_with_distractors")
    assert mAP == pytest.approx(1 / 3)
    assert counts == [1, 3]


def test_any_camera_leaves_nothing_out() -> None:
    # Person 1: the mean of 0 (own camera!) and 20, 10 degrees; person 2 at 5 comes before it.
    assert figures(QUERY, rows((1, 1, 0), (1, 2, 20), (2, 2, 5)), "centroid_any_camera") == (0.5, 1, 2)


def test_as_published_cameras_are_read_from_the_wrong_place() -> None:
    query, gallery = rows((1, 1, 0), (2, 7, 90)), rows((1, 1, 0), (1, 2, 40), (2, 3, 90))
    # Rows 0, 1, 2 of the gallery get the cameras of query 0, query 1 and gallery 0.
    assert published_camids(query, gallery).tolist() == [1, 7, 1]
    # So person 1 "outside camera 1" is row 1 alone, as it should be; and of person 2, whose query is of camera 7, all.
    assert figures(query, gallery, "centroid_published") == (1.0, 2, 2)


def test_as_published_pictures_of_the_querys_own_camera_enter_the_mean() -> None:
    # The only crop of person 1 is of the query's camera. Read as camera 9, that of the first query, it counts.
    query, gallery = rows((2, 9, 90), (1, 1, 0)), rows((1, 1, 0), (2, 3, 90))
    assert figures(query, gallery, "centroid")[1] == 1
    assert figures(query, gallery, "centroid_published")[1] == 2


def test_as_the_modelzoo_nothing_is_left_out() -> None:
    # As published, with both cameras right by chance; person 1 is asked for from cameras 1 and 2.
    query, gallery = rows((1, 1, 0), (1, 2, 0)), rows((1, 1, 10), (1, 2, 20))
    # The two means (camera 2 at 20, camera 1 at 10) are both relevant to both queries; as published one is hidden.
    assert figures(query, gallery, "centroid_published") == (1.0, 2, 2)
    both = evaluate(query, gallery, ["centroid_modelzoo"], shuffles=0)["centroid_modelzoo"]
    assert (both.report.mAP, both.report.mINP) == (1.0, 1.0)


def test_the_worked_example_of_the_documentation() -> None:
    # docs/evaluation.md, whose steps are worked by hand there.
    query = rows((1, 1, 0), (2, 2, 19.2))
    gallery = rows((1, 1, 2), (1, 2, 18), (1, 3, 22), (2, 2, 10), (2, 3, 19), (9, 4, 16))
    found = {name: result.report.mAP for name, result in evaluate(query, gallery, shuffles=0).items()}
    assert found == pytest.approx(dict(zip(PROTOCOLS, (41 / 60, 3 / 4, 2 / 3, 1, 1, 3 / 4), strict=True)))


def test_the_order_of_the_rows_matters_where_it_is_said_to_and_its_range_holds_the_figure() -> None:
    query, gallery = random_case(3, 40, 60, persons=12, cameras=4)
    for name, result in evaluate(query, gallery).items():
        assert (result.over_orders is not None) == (name in ORDERED)
        if result.over_orders and result.report.mAP is not None and result.report.ranks[1] is not None:
            low, high = result.over_orders.mAP
            assert low <= result.report.mAP <= high
            assert low < high
            assert result.over_orders.rank1[0] <= result.report.ranks[1] <= result.over_orders.rank1[1]
            assert result.over_orders.orders == 6


def test_an_unknown_protocol_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadField, match="centroids: no such protocol; there are instance, centroid, "):
        evaluate(QUERY, QUERY, ["centroids"])


def test_protocols_are_told_as_they_begin() -> None:
    told: list[str] = []
    evaluate(QUERY, rows((1, 2, 3)), ["centroid", "instance"], report=told.append)
    assert told == ["instance", "centroid"]


def test_ranking_can_be_ended_between_chunks_of_queries() -> None:
    def beat() -> None:
        raise InterruptedError

    for name in PROTOCOLS:
        with pytest.raises(InterruptedError):
            evaluate(QUERY, rows((1, 2, 3)), [name], shuffles=0, beat=beat)


# The definitions again, in loops over Python lists


def shown(report: Report) -> dict[str, float | None]:
    """As `slow` has it."""
    figures = (report.mAP, report.mINP, *report.ranks.values())
    counts = {"valid_queries": report.valid_queries, "queries": report.queries, "gallery": report.gallery}
    return dict(zip(FIGURES, figures, strict=True)) | counts


@dataclass
class Row:
    pid: int
    vector: list[float]
    cameras: list[int]


def slow(query: Labelled, gallery: Labelled, name: str) -> dict[str, float | None]:
    """Figures and counts by the names that JSON has for them; the figures are None without a valid query."""
    asked = list(zip(query.pids.tolist(), query.camids.tolist(), query.vectors.astype(float).tolist(), strict=True))
    kept = list(
        zip(gallery.pids.tolist(), gallery.camids.tolist(), gallery.vectors.astype(float).tolist(), strict=True)
    )
    index = slow_index([(p, c) for p, c, _ in asked], kept, name)
    hides = name not in ("centroid_modelzoo", "centroid_any_camera")
    found = []
    for pid, camera, vector in asked:
        counting = [row for row in index if not (hides and row.pid == pid and camera in row.cameras)]
        counting.sort(key=lambda row: -cosine(row.vector, vector))
        places = [place for place, row in enumerate(counting, 1) if row.pid == pid]
        if places:
            precision = sum(hits / place for hits, place in enumerate(places, 1)) / len(places)
            ranks = [float(places[0] <= k) for k in (1, 5, 10, 20, 50)]
            found.append((precision, len(places) / places[-1], *ranks))
    means = [sum(column) / len(found) for column in zip(*found, strict=True)] if found else [None] * len(FIGURES)
    counts = {"valid_queries": len(found), "queries": len(asked), "gallery": len(index)}
    return dict(zip(FIGURES, means, strict=True)) | counts


def slow_index(asked: list[tuple[int, int]], kept: list[tuple[int, int, list[float]]], name: str) -> list[Row]:
    if name == "instance":
        return [Row(pid, vector, [camera]) for pid, camera, vector in kept]
    joined = [camera for _, camera in asked] + [camera for _, camera, _ in kept]
    index = []
    for pid in sorted({pid for pid, _, _ in kept}):
        own = [i for i, (of, _, _) in enumerate(kept) if of == pid]
        if name == "centroid_any_camera":
            index.append(Row(pid, average(kept[i][2] for i in own), []))
            continue
        wrong = name in ORDERED
        camera_of = {i: joined[i] if wrong else kept[i][1] for i in own}
        cameras = sorted({camera for of, camera in asked if of == pid})
        used: list[list[int]] = []
        for camera in cameras:
            others = [i for i in own if camera_of[i] != camera]
            contributing = sorted({camera_of[i] for i in others})
            if others and contributing not in used:
                used.append(contributing)
                index.append(Row(pid, average(kept[i][2] for i in others), contributing))
        if not cameras and name == "centroid_with_distractors":
            index.append(Row(pid, average(kept[i][2] for i in own), sorted(set(camera_of.values()))))
    return index


def average(vectors: Iterable[list[float]]) -> list[float]:
    every = list(vectors)
    return [sum(numbers) / len(every) for numbers in zip(*every, strict=True)]


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def random_case(seed: int, queries: int, gallery: int, persons: int, cameras: int) -> tuple[Labelled, Labelled]:
    """Persons that only one of the two sides has, persons of one camera, cameras that only queries have; raw lengths."""
    rng = np.random.default_rng(seed)

    def draw(count: int, first: int, lens: int) -> Labelled:
        pids, camids = rng.integers(first, first + persons, count), rng.integers(0, lens, count)
        camids[pids % 3 == 0] = 0  # a third of the persons live before one camera
        vectors = rng.normal(size=(count, 6)) * rng.uniform(0.1, 10, (count, 1)) + pids[:, None] % 2
        return Labelled(vectors.astype(np.float32), pids.astype(np.int64), camids.astype(np.int64))

    return draw(queries, 0, cameras + 1), draw(gallery, persons // 3, cameras)


def cases(test: Callable[[int, int, int, int, int], None]) -> Callable[[], None]:
    """Sizes of random cases; no deadline, since a busy machine is no fault."""
    sizes = given(
        seed=st.integers(0, 2**32 - 1),
        queries=st.integers(1, 30),
        gallery=st.integers(1, 60),
        persons=st.integers(1, 12),
        cameras=st.integers(1, 5),
    )
    return settings(deadline=None)(sizes(test))


@cases
def test_every_protocol_equals_the_slow_implementation(
    seed: int, queries: int, gallery: int, persons: int, cameras: int
) -> None:
    asked, kept = random_case(seed, queries, gallery, persons, cameras)
    results = evaluate(asked, kept, shuffles=0)
    assert list(results) == list(PROTOCOLS)
    for name, result in results.items():
        assert shown(result.report) == pytest.approx(slow(asked, kept, name), abs=1e-9)


@cases
def test_the_order_of_the_rows_changes_nothing_else(
    seed: int, queries: int, gallery: int, persons: int, cameras: int
) -> None:
    asked, kept = random_case(seed, queries, gallery, persons, cameras)
    rng = np.random.default_rng(seed)
    mixed = [
        Labelled(rows.vectors[order], rows.pids[order], rows.camids[order])
        for rows in (asked, kept)
        for order in [rng.permutation(len(rows.pids))]
    ]
    names = [name for name in PROTOCOLS if name not in ORDERED]
    before, after = evaluate(asked, kept, names), evaluate(mixed[0], mixed[1], names)
    for name in names:
        assert after[name].report.mAP == pytest.approx(before[name].report.mAP, abs=1e-9)
        assert after[name].report.mINP == pytest.approx(before[name].report.mINP, abs=1e-9)
        assert after[name].report.ranks == pytest.approx(before[name].report.ranks, abs=1e-9)
        assert after[name].report.gallery == before[name].report.gallery
