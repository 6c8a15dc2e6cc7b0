"""What every gallery store promises of searches for persons and of shortlists; which stores there are stands in conftest.py.

Vectors have two numbers, written as an angle and a length, as in the tests of searches for items.
"""

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from app.core.centroids import centroid
from app.core.records import Collection, Filter, Item, PersonScore
from app.errors import UnknownCollection
from app.ports import Floats, GalleryStore

LOBBY = Collection("lobby", "print-1", 2, keep_crops=False, created_at=datetime(2026, 1, 2, 12, tzinfo=UTC))
ALL = Filter()
BOTH: tuple[PersonScore, PersonScore] = ("centroid", "best")


def at(*degrees: float, norm: float = 1.0) -> Floats:
    angles = np.radians(degrees)
    return (norm * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)


def cos(degrees: float) -> float:
    return math.cos(math.radians(degrees))


def put(store: GalleryStore, item_id: str, person: str | None, camera: str | None, vector: Floats) -> None:
    store.put_collection(LOBBY)
    store.upsert("lobby", [Item(item_id, str(vector.tolist()), person, camera)], vector)


def found(
    store: GalleryStore, *crops: float, k: int = 10, where: Filter = ALL, score: PersonScore = "centroid"
) -> list[tuple[str, float, int, str]]:
    """Person, score, number of items, best item."""
    matches = store.search_persons("lobby", at(*crops), k, where, score)
    return [(m.person_id, round(m.score, 5), m.items, m.best.item.id) for m in matches]


@pytest.fixture
def people(store: GalleryStore) -> GalleryStore:
    """anna before cameras 1 and 2, bert before 1 alone, carl before 2 and somewhere, and a crop of nobody."""
    put(store, "a1", "anna", "1", at(10))
    put(store, "n1", None, "1", at(0))
    put(store, "b1", "bert", "1", at(30))
    put(store, "a2", "anna", "2", at(50, norm=3))
    put(store, "c2", "carl", "2", at(80))
    put(store, "c0", "carl", None, at(100))
    return store


def test_each_person_comes_once_with_its_nearest_item_and_nobody_is_no_person(people: GalleryStore) -> None:
    # anna: (cos 10 + 3 cos 50, sin 10 + 3 sin 50) = (2.91317, 2.47178): at 40.31 degrees.
    answer = found(people, 0)
    assert [(person, items, best) for person, _, items, best in answer] == [
        ("bert", 1, "b1"),
        ("anna", 2, "a1"),
        ("carl", 2, "c2"),
    ]
    scores = [cos(30), 2.91317 / math.hypot(2.91317, 2.47178), cos(90)]
    np.testing.assert_allclose([score for _, score, _, _ in answer], scores, atol=2e-5)


def test_the_best_item_may_be_the_score(people: GalleryStore) -> None:
    answer = found(people, 0, score="best")
    expected = [("anna", cos(10), 2, "a1"), ("bert", cos(30), 1, "b1"), ("carl", cos(80), 2, "c2")]
    assert answer == [(person, round(score, 5), items, best) for person, score, items, best in expected]


def test_a_centroid_leaves_out_the_querys_camera_and_whoever_only_that_camera_saw(people: GalleryStore) -> None:
    assert found(people, 0, where=Filter(not_camera="1")) == [
        ("anna", round(cos(50), 5), 1, "a2"),
        ("carl", 0, 2, "c2"),
    ]
    assert found(people, 0, where=Filter(not_camera="2")) == [
        ("anna", round(cos(10), 5), 1, "a1"),
        ("bert", round(cos(30), 5), 1, "b1"),
        ("carl", round(cos(100), 5), 1, "c0"),
    ]
    assert len(found(people, 0, where=Filter(not_camera="9"))) == 3


@pytest.mark.parametrize("score", BOTH)
def test_under_any_filter_only_accepted_items_count(people: GalleryStore, score: PersonScore) -> None:
    where = Filter(exclude=frozenset({"a2", "c2", "b1"}))
    expected = [("anna", round(cos(10), 5), 1, "a1"), ("carl", round(cos(100), 5), 1, "c0")]
    assert found(people, 0, where=where, score=score) == expected
    assert found(people, 0, where=Filter(persons=frozenset({"carl"}), cameras=frozenset({"1"})), score=score) == []
    assert found(people, 0, where=Filter(persons=frozenset()), score=score) == []


def test_of_several_crops_the_nearest_one_counts_for_the_person_and_for_its_item(people: GalleryStore) -> None:
    answer = found(people, 0, 80, score="best")
    assert [row[:2] for row in answer] == [("carl", 1), ("anna", round(cos(10), 5)), ("bert", round(cos(30), 5))]
    # Carl's centroid is at 90 degrees, and his items are as near to it as each other.
    assert [row[:3] for row in found(people, 28, 90)[:2]] == [("carl", 1, 2), ("bert", round(cos(2), 5), 1)]


@pytest.mark.parametrize("score", BOTH)
def test_persons_with_equal_scores_keep_the_order_of_their_first_items(store: GalleryStore, score: PersonScore) -> None:
    for number, person in enumerate("dbcadbca"):
        put(store, str(number), person, "1", at(20))
    assert [row[0] for row in found(store, 0, score=score)] == list("dbca")
    assert [row[0] for row in found(store, 0, k=3, score=score)] == list("dbc")
    assert [row[3] for row in found(store, 0, score=score)] == ["0", "1", "2", "3"]
    # Of d's items the first accepted one is now behind those of all others.
    assert [row[0] for row in found(store, 0, where=Filter(exclude=frozenset("0")), score=score)] == list("bcad")


def test_a_centroid_follows_every_write(people: GalleryStore) -> None:
    assert found(people, 0)[0][0] == "bert"
    put(people, "b1", "bert", "1", at(70))
    assert found(people, 70)[0] == ("bert", 1, 1, "b1")
    put(people, "b1", "dora", "1", at(70))
    assert [row[0] for row in found(people, 70)] == ["dora", "carl", "anna"]
    people.delete("lobby", Filter(ids=frozenset({"a2"})))
    assert found(people, 10)[0] == ("anna", 1, 1, "a1")
    people.delete("lobby", Filter(persons=frozenset({"anna", "dora"})))
    assert [row[0] for row in found(people, 10)] == ["carl"]


def test_lengths_of_any_size_weigh_as_they_are(store: GalleryStore) -> None:
    put(store, "a1", "anna", "1", at(0, norm=1e30))
    put(store, "a2", "anna", "2", at(90, norm=1e30))
    put(store, "b1", "bert", "1", at(0, norm=1e-30))
    put(store, "b2", "bert", "2", at(60, norm=1e-30))
    assert found(store, 0) == [("bert", round(cos(30), 5), 2, "b1"), ("anna", round(cos(45), 5), 2, "a1")]


@pytest.mark.parametrize("without", [None, "0", "3"])
def test_scores_are_those_of_the_centroids_that_evaluation_uses(store: GalleryStore, without: str | None) -> None:
    rng = np.random.default_rng(2)
    raw = (rng.standard_normal((200, 2)) * rng.uniform(1, 30, (200, 1))).astype(np.float32)
    persons, cameras = rng.integers(0, 30, 200), rng.integers(0, 4, 200)
    store.put_collection(LOBBY)
    items = [Item(str(i), "sha", str(p), str(c)) for i, (p, c) in enumerate(zip(persons, cameras, strict=True))]
    store.upsert("lobby", items, raw)
    matches = store.search_persons("lobby", at(33), 100, Filter(not_camera=without))
    kept = cameras != (-1 if without is None else int(without))
    assert {match.person_id for match in matches} == {str(p) for p in persons[kept]}
    for match in matches:
        mean = centroid(raw[kept & (persons == int(match.person_id))]).astype(np.float64)
        assert match.score == pytest.approx(float(mean @ at(33)[0]) / np.linalg.norm(mean), abs=1e-5)
    assert matches == sorted(matches, key=lambda match: -match.score)


def test_an_empty_collection_has_nobody(store: GalleryStore) -> None:
    store.put_collection(LOBBY)
    for score in BOTH:
        assert store.search_persons("lobby", at(0), 10, ALL, score) == []
    matches, vectors = store.shortlist("lobby", at(0), 10, ALL)
    assert (matches, vectors.shape) == ([], (0, 2))
    with pytest.raises(UnknownCollection):
        store.search_persons("cellar", at(0), 10, ALL)
    with pytest.raises(UnknownCollection):
        store.shortlist("cellar", at(0), 10, ALL)


def test_a_search_without_crops_makes_no_sense(people: GalleryStore) -> None:
    nothing = np.empty((0, 2), dtype=np.float32)
    with pytest.raises(ValueError, match="at least one crop"):
        people.search_persons("lobby", nothing, 10, ALL)
    with pytest.raises(ValueError, match="at least one crop"):
        people.shortlist("lobby", nothing, 10, ALL)


def test_a_shortlist_has_each_item_once_by_its_best_crop_and_its_vector(people: GalleryStore) -> None:
    matches, vectors = people.shortlist("lobby", at(12, 82), 4, Filter(not_camera="9"))
    assert [match.item.id for match in matches] == ["a1", "c2", "n1", "b1"]  # 2, 2, 12, 18 degrees; 18 to c0 as well
    np.testing.assert_allclose([m.score for m in matches], [cos(2), cos(2), cos(12), cos(18)], atol=1e-6)
    np.testing.assert_allclose(vectors, at(10, 80, 0, 30), atol=1e-6)
    alone, _ = people.shortlist("lobby", at(12), 4, ALL)
    assert alone == people.search("lobby", at(12), 4, ALL)[0]
