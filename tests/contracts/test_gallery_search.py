"""What every gallery store promises of searches, filters and pages; which stores there are stands in conftest.py.

Vectors here have two numbers, written as an angle and a length: the cosine of two is that of the angle between them.
"""

import math
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from app.core.records import Collection, Filter, Item
from app.errors import UnknownItem
from app.ports import Floats, GalleryStore

LOBBY = Collection("lobby", "print-1", 2, keep_crops=False, created_at=datetime(2026, 1, 2, 12, tzinfo=UTC))
ALL = Filter()


def at(*degrees: float, norm: float = 1.0) -> Floats:
    angles = np.radians(degrees)
    return (norm * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)


def item(
    item_id: str, person: str | None = None, camera: str | None = None, hour: int | None = None, **attributes: str
) -> Item:
    captured_at = None if hour is None else datetime(2026, 3, 1, hour, tzinfo=UTC)
    return Item(item_id, "sha-" + item_id, person, camera, captured_at, attributes=attributes)


def fill(store: GalleryStore, items: Sequence[Item], vectors: Floats) -> None:
    store.put_collection(LOBBY)
    store.upsert("lobby", items, vectors)


def found(store: GalleryStore, degrees: float, k: int = 10, where: Filter = ALL) -> list[str]:
    (matches,) = store.search("lobby", at(degrees), k, where)
    return [match.item.id for match in matches]


def listed(store: GalleryStore, where: Filter = ALL) -> list[str]:
    return [entry.id for entry in store.scan("lobby", where, limit=1000)]


def test_matches_are_best_first_with_the_cosine_as_score(store: GalleryStore) -> None:
    fill(store, [item("a"), item("b"), item("c")], at(90, 10, 200, norm=3))
    (matches,) = store.search("lobby", at(0), 2, ALL)
    assert [match.item for match in matches] == [item("b"), item("a")]
    expected = [math.cos(math.radians(10)), 0]
    np.testing.assert_allclose([match.score for match in matches], expected, atol=1e-6)


def test_a_score_never_passes_1(store: GalleryStore) -> None:
    rng = np.random.default_rng(1)
    raw = rng.standard_normal((50, 2)).astype(np.float32)
    fill(store, [item(str(i)) for i in range(50)], raw)
    units, _ = store.vectors("lobby", [str(i) for i in range(50)])
    for matches in store.search("lobby", units, 50, ALL) + store.search("lobby", -units, 50, ALL):
        assert all(-1 <= match.score <= 1 for match in matches)


@pytest.mark.parametrize("copies", [3, 40, 300])
def test_equal_scores_keep_the_order_added(store: GalleryStore, copies: int) -> None:
    store.put_collection(LOBBY)
    for start in range(0, copies, 7):  # so that they come in several pieces
        ids = [f"{i:03}" for i in range(start, min(start + 7, copies))]
        store.upsert("lobby", [item(i) for i in ids], at(*[40] * len(ids)))
    store.upsert("lobby", [item("best")], at(0))
    everyone = ["best", *(f"{i:03}" for i in range(copies))]
    for k in (1, 2, 10, copies, copies + 1, 1000):
        assert found(store, 0, k) == everyone[:k]


def test_a_replaced_item_keeps_its_place_in_the_order(store: GalleryStore) -> None:
    fill(store, [item("a"), item("b"), item("c")], at(0, 0, 0))
    store.upsert("lobby", [item("a", "p1")], at(0))
    assert (found(store, 0), listed(store)) == (["a", "b", "c"], ["a", "b", "c"])


def test_an_item_that_was_removed_and_added_again_comes_last(store: GalleryStore) -> None:
    fill(store, [item("a"), item("b"), item("c")], at(0, 0, 0))
    store.delete("lobby", Filter(ids=frozenset({"a", "c"})))
    store.upsert("lobby", [item("c"), item("a")], at(0, 0))
    assert (found(store, 0), listed(store)) == (["b", "c", "a"], ["b", "c", "a"])


def test_a_search_in_an_empty_collection_finds_nothing(store: GalleryStore) -> None:
    store.put_collection(LOBBY)
    assert store.search("lobby", at(0, 90), 10, ALL) == [[], []]
    assert store.search("lobby", np.empty((0, 2), dtype=np.float32), 10, ALL) == []
    assert store.scan("lobby", ALL) == []
    assert store.delete("lobby", ALL) == 0


def test_every_query_has_its_own_answer(store: GalleryStore) -> None:
    fill(store, [item(str(i)) for i in range(36)], at(*range(0, 360, 10)))
    queries = at(*range(1, 360, 10))
    answers = store.search("lobby", queries, 3, ALL)
    assert [matches[0].item.id for matches in answers] == [str(i) for i in range(36)]
    assert answers == [store.search("lobby", query[None], 3, ALL)[0] for query in queries]


@pytest.mark.parametrize(
    ("queries", "k"),
    [(at(0), 0), (at(0, norm=2), 1), (at(0)[0], 1), (np.ones((1, 3)), 1), (np.full((1, 2), np.nan), 1)],
    ids=["no k", "no unit vector", "flat", "longer", "nan"],
)
def test_a_query_that_makes_no_sense_is_refused(store: GalleryStore, queries: Floats, k: int) -> None:
    fill(store, [item("a")], at(0))
    with pytest.raises(ValueError, match=r"quer|k is 0"):
        store.search("lobby", queries, k, ALL)


PEOPLE = [
    item("a", "p1", "1", 8, coat="red"),
    item("b", "p1", "2", 9, coat="red", hat="none: bare"),
    item("c", "p2", "1", 10, coat="blue"),
    item("d", "p2", None, 11, hat="red"),
    item("e", None, "2", None, coat="red"),
    item("f", None, None),
]
NINE, ELEVEN = datetime(2026, 3, 1, 9, tzinfo=UTC), datetime(2026, 3, 1, 11, tzinfo=UTC)
FILTERS = {
    "persons": (Filter(persons=frozenset({"p1", "p9"})), "ab"),
    "no person": (Filter(persons=frozenset()), ""),
    "cameras": (Filter(cameras=frozenset({"1"})), "ac"),
    "an unknown camera": (Filter(cameras=frozenset({"9"})), ""),
    "ids": (Filter(ids=frozenset({"f", "b", "z"})), "bf"),
    "not a camera": (Filter(not_camera="1"), "bdef"),  # items without a camera stay
    "not an unknown camera": (Filter(not_camera="9"), "abcdef"),
    "from an instant": (Filter(captured_from=NINE), "bcd"),  # items without a time are in no window
    "to an instant": (Filter(captured_to=ELEVEN), "abc"),
    "a window": (Filter(captured_from=NINE, captured_to=ELEVEN), "bc"),
    "a window told in another zone": (
        Filter(captured_from=NINE.astimezone(timezone(timedelta(hours=9))), captured_to=ELEVEN),
        "bc",
    ),
    "an attribute": (Filter(attributes=frozenset({("coat", "red")})), "abe"),
    "two attributes": (Filter(attributes=frozenset({("coat", "red"), ("hat", "none: bare")})), "b"),
    "two values of one attribute": (Filter(attributes=frozenset({("coat", "red"), ("coat", "blue")})), ""),
    "an unknown attribute": (Filter(attributes=frozenset({("shoe", "red")})), ""),
    "an attribute that nobody can have": (Filter(attributes=frozenset({("coat", "red\0")})), ""),
    "without some": (Filter(exclude=frozenset({"a", "f", "z"})), "bcde"),
    "all at once": (
        Filter(
            frozenset({"p1", "p2"}),
            frozenset({"1", "2"}),
            frozenset("abe"),
            "1",
            NINE,
            ELEVEN,
            frozenset({("coat", "red")}),
            frozenset("d"),
        ),
        "b",
    ),
}


@pytest.mark.parametrize(("where", "expected"), FILTERS.values(), ids=FILTERS)
def test_a_filter_means_the_same_to_search_scan_and_delete(store: GalleryStore, where: Filter, expected: str) -> None:
    fill(store, PEOPLE, at(0, 10, 20, 30, 40, 50))
    assert "".join(entry.id for entry in PEOPLE if where.accepts(entry)) == expected
    assert found(store, 0, where=where) == list(expected)
    assert listed(store, where) == list(expected)
    assert store.delete("lobby", where) == len(expected)
    assert listed(store) == [entry.id for entry in PEOPLE if entry.id not in expected]


def test_the_filters_above_use_every_field_of_a_filter() -> None:
    used = {field.name for field in fields(Filter) for where, _ in FILTERS.values() if getattr(where, field.name)}
    assert used == {field.name for field in fields(Filter)}


def test_a_filter_may_name_more_ids_than_sql_takes_parameters(store: GalleryStore) -> None:
    fill(store, PEOPLE, at(0, 10, 20, 30, 40, 50))
    many = frozenset(map(str, range(300_000))) | {"a"}
    assert listed(store, Filter(ids=many)) == found(store, 0, where=Filter(ids=many)) == ["a"]


def test_scan_goes_on_behind_an_item_that_the_filter_need_not_accept(store: GalleryStore) -> None:
    fill(store, PEOPLE, at(0, 10, 20, 30, 40, 50))
    assert [i.id for i in store.scan("lobby", ALL, limit=4)] == ["a", "b", "c", "d"]
    assert [i.id for i in store.scan("lobby", ALL, after="d", limit=4)] == ["e", "f"]
    assert [i.id for i in store.scan("lobby", Filter(persons=frozenset({"p1"})), after="a")] == ["b"]
    assert [i.id for i in store.scan("lobby", Filter(persons=frozenset({"p2"})), after="b", limit=1)] == ["c"]
    assert store.scan("lobby", ALL, after="f") == []
    with pytest.raises(UnknownItem, match="'z'"):
        store.scan("lobby", ALL, after="z")
