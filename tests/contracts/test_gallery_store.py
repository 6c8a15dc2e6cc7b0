"""What every gallery store promises of collections and items; which stores there are stands in conftest.py.

Vectors here have two numbers, written as an angle and a length: the cosine of two is that of the angle between them.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from app.core.preprocess import HEIGHT, WIDTH, Crop
from app.core.records import Collection, Filter, Item
from app.errors import BadField, UnknownCollection, UnknownItem
from app.ports import Floats, GalleryStore

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LOBBY = Collection("lobby", "print-1", 2, keep_crops=False, created_at=NOON)
ALL = Filter()


def at(*degrees: float, norm: float = 1.0) -> Floats:
    angles = np.radians(degrees)
    return (norm * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)


def item(item_id: str, person: str | None = None, camera: str | None = None, **other: Any) -> Item:
    return Item(item_id, "sha-" + item_id, person, camera, **other)


def fill(store: GalleryStore, items: Sequence[Item], vectors: Floats, name: str = "lobby") -> None:
    store.put_collection(replace(LOBBY, name=name))
    store.upsert(name, items, vectors)


def found(store: GalleryStore, degrees: float, k: int = 10, where: Filter = ALL) -> list[str]:
    (matches,) = store.search("lobby", at(degrees), k, where)
    return [match.item.id for match in matches]


def listed(store: GalleryStore, where: Filter = ALL) -> list[str]:
    return [entry.id for entry in store.scan("lobby", where, limit=1000)]


def crops(count: int) -> list[Crop]:
    return list(np.random.default_rng(3).integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8))


def test_a_collection_is_kept_as_it_was_first_put(store: GalleryStore) -> None:
    assert store.put_collection(LOBBY) == LOBBY
    later = replace(LOBBY, fingerprint="print-2", keep_crops=True, created_at=NOON + timedelta(days=1))
    assert store.put_collection(later) == LOBBY
    assert store.collection("lobby") == LOBBY


def test_collections_are_listed_by_name(store: GalleryStore) -> None:
    for name in ("b", "a", "B"):
        store.put_collection(replace(LOBBY, name=name))
    assert [c.name for c in store.collections()] == ["B", "a", "b"]  # by code point


def test_every_call_refuses_a_collection_that_is_not_there(store: GalleryStore) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.collection("x"),
        lambda: store.delete_collection("x"),
        lambda: store.count("x"),
        lambda: store.upsert("x", [item("a")], at(0)),
        lambda: store.get("x", ["a"]),
        lambda: store.vectors("x", ["a"]),
        lambda: store.crop("x", "a"),
        lambda: store.scan("x", ALL),
        lambda: store.delete("x", ALL),
        lambda: store.search("x", at(0), 1, ALL),
    ]
    for call in calls:
        with pytest.raises(UnknownCollection, match="'x'"):
            call()


def test_a_deleted_collection_takes_its_items_along_and_its_name_is_free(store: GalleryStore) -> None:
    fill(store, [item("a")], at(0))
    store.delete_collection("lobby")
    assert store.collections() == []
    wider = replace(LOBBY, dim=3, fingerprint="print-2")
    assert store.put_collection(wider) == wider
    assert store.count("lobby") == 0
    assert store.upsert("lobby", [item("a")], np.ones((1, 3), dtype=np.float32)) == ["added"]


def test_collections_do_not_see_each_other(store: GalleryStore) -> None:
    fill(store, [item("a", "p1")], at(0))
    fill(store, [item("a", "p2"), item("b", "p1")], at(90, 180), name="gate")
    assert found(store, 0) == ["a"]
    assert store.get("lobby", ["a", "b"]) == [item("a", "p1"), None]
    assert store.delete("lobby", Filter(persons=frozenset({"p1"}))) == 1
    assert (store.count("lobby"), store.count("gate")) == (0, 2)


def test_an_item_comes_back_as_it_went_in(store: GalleryStore) -> None:
    full = item("ä/1 \U0001f6b6", "0005", "2", captured_at=NOON, source="cam/ü.jpg", attributes={"hat": "röd", "": "x"})
    fill(store, [full, item("bare")], at(0, 10))
    assert store.get("lobby", ["bare", "nobody", full.id, "bare"]) == [item("bare"), None, full, item("bare")]
    assert store.get("lobby", []) == []


def test_an_instant_keeps_its_microseconds_and_is_told_in_utc(store: GalleryStore) -> None:
    elsewhere = datetime(2026, 1, 2, 5, 0, 0, 123456, tzinfo=timezone(timedelta(hours=-7)))
    fill(store, [item("a", captured_at=elsewhere)], at(0))
    (kept,) = store.get("lobby", ["a"])
    assert kept is not None
    assert kept.captured_at == elsewhere
    assert kept.captured_at.utcoffset() == timedelta(0)


def test_what_the_caller_changes_afterwards_does_not_change_the_store(store: GalleryStore) -> None:
    attributes, vectors = {"hat": "red"}, at(0, 90)
    fill(store, [item("a", attributes=attributes), item("b")], vectors)
    attributes["hat"] = "blue"
    vectors[:] = at(180, 180)
    assert store.get("lobby", ["a"]) == [item("a", attributes={"hat": "red"})]
    assert found(store, 0) == ["a", "b"]


def test_upsert_says_what_became_of_each_item(store: GalleryStore) -> None:
    store.put_collection(LOBBY)
    assert store.upsert("lobby", [item("a"), item("b")], at(0, 10)) == ["added", "added"]
    changed = [item("c"), item("a"), item("b", "p1")]
    assert store.upsert("lobby", changed, at(20, 0, 10)) == ["added", "unchanged", "updated"]
    assert store.get("lobby", ["a", "b", "c"]) == [item("a"), item("b", "p1"), item("c")]
    assert store.upsert("lobby", [], np.empty((0, 2), dtype=np.float32)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "other"},
        {"person_id": None},
        {"camera_id": "3"},
        {"captured_at": NOON + timedelta(microseconds=1)},
        {"source": "elsewhere.jpg"},
        {"attributes": {"hat": "blue"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_of_any_field_is_an_update(store: GalleryStore, change: dict[str, Any]) -> None:
    first = item("a", "1", "2", captured_at=NOON, source="a.jpg", attributes={"hat": "red"})
    fill(store, [first], at(0))
    second = replace(first, **change)
    assert store.upsert("lobby", [second], at(45)) == ["updated"]
    assert store.get("lobby", ["a"]) == [second]
    (matches,) = store.search("lobby", at(45), 1, ALL)
    assert matches[0].item == second
    assert matches[0].score == pytest.approx(1)


def test_the_order_of_attributes_and_the_zone_of_an_instant_are_no_change(store: GalleryStore) -> None:
    fill(store, [item("a", captured_at=NOON, attributes={"x": "1", "y": "2"})], at(0))
    zoned = NOON.astimezone(timezone(timedelta(hours=3)))
    same = item("a", captured_at=zoned, attributes={"y": "2", "x": "1"})
    assert store.upsert("lobby", [same], at(0)) == ["unchanged"]


def test_of_an_id_twice_in_one_call_the_later_counts(store: GalleryStore) -> None:
    store.put_collection(LOBBY)
    twice = [item("a", "p1"), item("b"), item("a", "p2"), item("a", "p2")]
    assert store.upsert("lobby", twice, at(0, 90, 180, 180)) == ["added", "added", "updated", "unchanged"]
    assert (store.count("lobby"), listed(store)) == (2, ["a", "b"])
    (matches,) = store.search("lobby", at(180), 5, ALL)
    assert [(m.item, round(m.score, 5)) for m in matches] == [(item("a", "p2"), 1), (item("b"), 0)]


def test_vectors_are_kept_as_unit_vectors_with_their_raw_norms(store: GalleryStore) -> None:
    fill(store, [item("a"), item("b")], np.concatenate([at(30, norm=4), at(60, norm=0.5)]))
    units, norms = store.vectors("lobby", ["b", "a", "b"])
    assert (str(units.dtype), str(norms.dtype)) == ("float32", "float32")
    np.testing.assert_allclose(units, at(60, 30, 60), atol=1e-6)
    np.testing.assert_allclose(norms, [0.5, 4, 0.5], rtol=1e-6)
    assert [part.shape for part in store.vectors("lobby", [])] == [(0, 2), (0,)]
    with pytest.raises(UnknownItem, match="'c'"):
        store.vectors("lobby", ["a", "c"])


@pytest.mark.parametrize("norm", [1e-30, 1e30])
def test_a_vector_may_be_very_short_or_very_long(store: GalleryStore, norm: float) -> None:
    fill(store, [item("a")], at(30, norm=norm))  # its square is no float32
    units, norms = store.vectors("lobby", ["a"])
    np.testing.assert_allclose(units, at(30), atol=1e-6)
    np.testing.assert_allclose(norms, [norm], rtol=1e-6)


@pytest.mark.parametrize(
    "vectors",
    [
        np.zeros((2, 2)),
        np.array([[1, 0], [np.nan, 0]]),
        np.array([[1, 0], [np.inf, 0]]),
        np.ones((2, 3)),
        np.ones((1, 2)),
        np.ones(2),
    ],
    ids=["zero", "nan", "infinite", "longer", "fewer", "flat"],
)
def test_a_vector_that_cannot_be_used_refuses_the_whole_call(
    store: GalleryStore, vectors: npt.NDArray[np.float64]
) -> None:
    fill(store, [item("a")], at(0))
    with pytest.raises(ValueError, match="vector"):
        store.upsert("lobby", [item("b"), item("a", "p1")], vectors.astype(np.float32))
    assert listed(store) == ["a"]
    assert store.get("lobby", ["a"]) == [item("a")]


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("id", item("a\0b")),
        ("person_id", item("b", "\ud800")),  # half a surrogate pair, as a file name that is not UTF-8 gives it
        ("source", item("b", source="x\udcff.jpg")),
        ("attributes", item("b", attributes={"a\0": "b"})),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_text_that_cannot_be_kept_refuses_the_whole_call(store: GalleryStore, field: str, bad: Item) -> None:
    fill(store, [item("a")], at(0))
    with pytest.raises(BadField, match=field):
        store.upsert("lobby", [item("c"), bad], at(0, 0))
    assert listed(store) == ["a"]


@pytest.mark.parametrize("never", ["a\0b", "\ud800"], ids=["nul", "half a pair"])
def test_what_can_never_be_stored_is_not_taken_for_something_that_is(store: GalleryStore, never: str) -> None:
    fill(store, [item("a", "p1", "1")], at(0))
    for where in (Filter(ids=frozenset({never})), Filter(frozenset({never})), Filter(cameras=frozenset({never}))):
        assert (listed(store, where), found(store, 0, where=where), store.delete("lobby", where)) == ([], [], 0)
    others = Filter(not_camera=never)
    assert listed(store, others) == found(store, 0, where=others) == ["a"]
    assert store.get("lobby", [never]) == [None]
    calls: list[Callable[[], object]] = [
        lambda: store.vectors("lobby", [never]),
        lambda: store.crop("lobby", never),
        lambda: store.scan("lobby", ALL, after=never),
    ]
    for call in calls:
        with pytest.raises(UnknownItem):
            call()


def test_an_instant_without_a_zone_is_refused(store: GalleryStore) -> None:
    store.put_collection(LOBBY)
    with pytest.raises(ValueError, match="zone"):
        store.upsert("lobby", [item("a", captured_at=NOON.replace(tzinfo=None))], at(0))


def test_what_was_deleted_is_found_no_more(store: GalleryStore) -> None:
    fill(store, [item("a", "p1"), item("b", "p2"), item("c", "p1"), item("d")], at(0, 10, 20, 30))
    assert store.delete("lobby", Filter(persons=frozenset({"p1"}))) == 2
    assert (store.count("lobby"), found(store, 0), listed(store)) == (2, ["b", "d"], ["b", "d"])
    assert store.get("lobby", ["a"]) == [None]
    with pytest.raises(UnknownItem):
        store.vectors("lobby", ["a"])
    with pytest.raises(UnknownItem):
        store.crop("lobby", "a")
    assert store.delete("lobby", ALL) == 2
    assert (store.count("lobby"), found(store, 0)) == (0, [])


def test_kept_crops_come_back_bit_by_bit(store: GalleryStore) -> None:
    store.put_collection(replace(LOBBY, keep_crops=True))
    pictures = crops(2)
    store.upsert("lobby", [item("a"), item("b")], at(0, 10), sent := [picture.copy() for picture in pictures])
    sent[0][:] = 0  # the caller's array is the caller's
    for item_id, picture in zip("ab", pictures, strict=True):
        kept = store.crop("lobby", item_id)
        assert kept is not None
        assert (str(kept.dtype), kept.shape) == ("uint8", (HEIGHT, WIDTH, 3))
        assert np.array_equal(kept, picture)


def test_a_replaced_items_crop_goes_with_it(store: GalleryStore) -> None:
    store.put_collection(replace(LOBBY, keep_crops=True))
    first, second = crops(2)
    store.upsert("lobby", [item("a"), item("b")], at(0, 10), [first, first])
    store.upsert("lobby", [item("a", "p1")], at(0), [second])
    store.upsert("lobby", [item("b", "p1")], at(10))
    kept = store.crop("lobby", "a")
    assert kept is not None
    assert np.array_equal(kept, second)
    assert store.crop("lobby", "b") is None


def test_no_crop_is_kept_where_the_collection_says_so(store: GalleryStore) -> None:
    store.put_collection(LOBBY)
    store.upsert("lobby", [item("a")], at(0), crops(1))
    assert store.crop("lobby", "a") is None
    with pytest.raises(UnknownItem):
        store.crop("lobby", "b")


def test_crops_that_do_not_fit_refuse_the_whole_call(store: GalleryStore) -> None:
    store.put_collection(replace(LOBBY, keep_crops=True))
    with pytest.raises(ValueError, match="2 items, 1 crops"):
        store.upsert("lobby", [item("a"), item("b")], at(0, 10), crops(1))
    with pytest.raises(ValueError, match="a crop is uint8"):
        store.upsert("lobby", [item("a")], at(0), [crops(1)[0][:10]])
    assert store.count("lobby") == 0


def test_threads_that_write_and_read_at_once_lose_nothing_and_see_whole_calls(store: GalleryStore) -> None:
    store.put_collection(LOBBY)
    torn: list[int] = []
    done = threading.Event()

    def write(worker: int) -> None:
        for group in range(10):
            triple = [item(f"{worker}-{group}-{i}") for i in range(3)]
            store.upsert("lobby", triple, at(0, 120, 240))

    def read() -> None:
        while not done.is_set():
            count = len(found(store, 0, k=1000))
            if count % 3:
                torn.append(count)

    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    reader = threading.Thread(target=read)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert torn == []
    assert store.count("lobby") == len(listed(store)) == len(found(store, 0, k=1000)) == 120
