"""The sweep removes what has stayed long enough, by the clock it is given, and survives a disk that refuses."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from app.adapters.memory import MemoryStore
from app.core.records import Collection, Filter, Item, Retention
from app.errors import StorageFailed
from app.service.retention import Sweeper

pytestmark = pytest.mark.anyio
START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def filled(clock: Callable[[], datetime], retention: Retention) -> MemoryStore:
    store = MemoryStore(clock)
    store.put_collection(Collection("lobby", "print", 2, False, START, retention))
    items = [Item("a", "sha", camera_id="1"), Item("b", "sha", camera_id="2"), Item("c", "sha")]
    store.upsert("lobby", items, np.eye(3, 2, dtype=np.float32) + 1)
    return store


def there(store: MemoryStore) -> list[str]:
    return [item.id for item in store.scan("lobby", Filter())]


async def test_items_go_when_their_days_are_over_a_cameras_own_number_first() -> None:
    clock = Clock()
    store = filled(clock, Retention(10, {"2": 3, "1": 20}))
    sweeper = Sweeper(store, clock)
    clock.now = START + timedelta(days=3) - timedelta(microseconds=1)
    assert (await sweeper.sweep(), there(store)) == (0, ["a", "b", "c"])
    clock.now = START + timedelta(days=3)
    assert (await sweeper.sweep(), there(store)) == (1, ["a", "c"])
    clock.now = START + timedelta(days=10)
    assert (await sweeper.sweep(), there(store)) == (1, ["a"])
    assert sweeper.as_json() == {
        "expired": 2,
        "last_sweep": "2026-01-11T00:00:00+00:00",
        "next_sweep": "2026-01-11T01:00:00+00:00",
    }


async def test_nothing_goes_where_nothing_is_said() -> None:
    clock = Clock()
    store = filled(clock, Retention())
    clock.now = START + timedelta(days=10_000)
    assert (await Sweeper(store, clock).sweep(), there(store)) == (0, ["a", "b", "c"])


class Refusing(MemoryStore):
    """Its disk is full until `full` is cleared."""

    full = True

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(clock)
        self.asked = 0

    def collections(self) -> list[Collection]:
        self.asked += 1
        if self.full:
            raise StorageFailed("the disk is full")
        return super().collections()


async def test_a_sweep_that_fails_does_not_end_the_next_ones() -> None:
    store = Refusing(Clock())
    sweeper = Sweeper(store, Clock(), every_s=0)
    sweeper.start()
    while store.asked < 2:
        await asyncio.sleep(0)
    store.full = False
    while sweeper.as_json()["last_sweep"] is None:
        await asyncio.sleep(0)
    await sweeper.close()
