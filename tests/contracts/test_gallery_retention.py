"""What every gallery store promises of how long items stay: days from when they came in, by the store's own clock."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from app.core.records import Collection, Filter, Item, Retention
from app.errors import BadField, UnknownCollection
from app.ports import GalleryStore
from tests.contracts.conftest import Clock

LOBBY = Collection("lobby", "print-1", 2, keep_crops=False, created_at=datetime(2020, 1, 1, tzinfo=UTC))
EAST = np.array([[1, 0]], dtype=np.float32)
DAY = timedelta(days=1)


def put(store: GalleryStore, item_id: str, camera: str | None = None, sha: str = "sha") -> None:
    old = datetime(2020, 1, 1, tzinfo=UTC)  # when it was taken does not matter
    store.upsert("lobby", [Item(item_id, sha, None, camera, old)], EAST)


def there(store: GalleryStore) -> str:
    (matches,) = store.search("lobby", EAST, 100, Filter())
    assert store.count("lobby") == len(matches)
    return " ".join(match.item.id for match in matches)


def test_items_go_when_they_have_stayed_for_the_days_and_not_a_moment_before(store: GalleryStore, clock: Clock) -> None:
    store.put_collection(replace(LOBBY, retention=Retention(30)))
    put(store, "first")
    clock.now += timedelta(microseconds=1)
    put(store, "second")
    came = clock.now
    assert store.expire("lobby", came + 30 * DAY - timedelta(microseconds=2)) == 0
    assert there(store) == "first second"
    assert store.expire("lobby", came + 30 * DAY - timedelta(microseconds=1)) == 1
    assert there(store) == "second"
    assert store.expire("lobby", (came + 30 * DAY).astimezone(timezone(timedelta(hours=9)))) == 1
    assert there(store) == ""


def test_a_cameras_own_days_go_before_the_collections(store: GalleryStore, clock: Clock) -> None:
    odd = 'ä"\\ \U0001f6b6'
    store.put_collection(replace(LOBBY, retention=Retention(10, {"door": 2, "vault": 100, odd: 3})))
    for camera in ("door", "vault", "hall", odd):
        put(store, camera, camera)
    put(store, "unknown")
    expected = {
        1: f"door vault hall {odd} unknown",
        2: f"vault hall {odd} unknown",
        3: "vault hall unknown",
        10: "vault",
    }
    for days, left in expected.items():
        store.expire("lobby", clock.now + days * DAY)
        assert there(store) == left
    assert store.expire("lobby", clock.now + 100 * DAY) == 1


def test_without_days_items_stay_for_ever_but_for_a_camera_that_has_some(store: GalleryStore, clock: Clock) -> None:
    store.put_collection(LOBBY)
    put(store, "hall", "hall")
    put(store, "door", "door")
    assert store.expire("lobby", clock.now + 40_000 * DAY) == 0
    changed = replace(LOBBY, retention=Retention(None, {"door": 1}))
    assert store.keep("lobby", changed.retention) == store.collection("lobby") == changed
    assert store.expire("lobby", clock.now + DAY) == 1
    assert there(store) == "hall"


def test_a_change_of_days_removes_nothing_by_itself(store: GalleryStore, clock: Clock) -> None:
    store.put_collection(replace(LOBBY, retention=Retention(5)))
    put(store, "a")
    store.keep("lobby", Retention(1))
    assert there(store) == "a"
    store.keep("lobby", Retention())
    assert store.expire("lobby", clock.now + 9 * DAY) == 0
    assert store.put_collection(replace(LOBBY, retention=Retention(7))).retention == Retention()  # as it is stored


def test_an_item_that_was_replaced_or_corrected_came_in_when_it_first_did(store: GalleryStore, clock: Clock) -> None:
    store.put_collection(replace(LOBBY, retention=Retention(2)))
    put(store, "a")
    put(store, "b")
    clock.now += DAY
    put(store, "a", sha="other")
    store.correct("lobby", "b", {"person_id": "anna"})
    store.delete("lobby", Filter(ids=frozenset({"b"})))
    put(store, "b")
    assert store.expire("lobby", clock.now + DAY) == 1
    assert there(store) == "b"


def test_days_that_are_none_and_cameras_that_cannot_be_are_refused(store: GalleryStore) -> None:
    store.put_collection(LOBBY)
    for wrong in (Retention(0), Retention(-1), Retention(40_000), Retention(None, {"1": 0})):
        with pytest.raises(ValueError, match="days; items stay"):
            store.keep("lobby", wrong)
        with pytest.raises(ValueError, match="days; items stay"):
            store.put_collection(replace(LOBBY, name="gate", retention=wrong))
    with pytest.raises(BadField, match="cameras"):
        store.keep("lobby", Retention(None, {"a\0b": 1}))
    assert store.collections() == [LOBBY]


def test_what_the_caller_changes_afterwards_does_not_change_the_days(store: GalleryStore) -> None:
    days = {"door": 1}
    store.put_collection(replace(LOBBY, retention=Retention(None, days)))
    days["door"] = 9
    assert store.collection("lobby").retention.cameras == {"door": 1}


def test_an_instant_without_a_zone_and_an_unknown_collection_are_refused(store: GalleryStore) -> None:
    store.put_collection(LOBBY)
    with pytest.raises(ValueError, match="zone"):
        store.expire("lobby", LOBBY.created_at.replace(tzinfo=None))
    for name in ("x", "lobb"):
        with pytest.raises(UnknownCollection):
            store.expire(name, LOBBY.created_at)
        with pytest.raises(UnknownCollection):
            store.keep(name, Retention(1))
