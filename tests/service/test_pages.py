"""A collection's items page by page, while items go."""

from datetime import UTC, datetime

import numpy as np

from app.adapters.memory import MemoryStore
from app.core.records import Collection, Filter, Item
from app.service.galleries import Pages


def test_pages_go_on_where_the_last_item_of_one_is_removed() -> None:
    store = MemoryStore()
    store.put_collection(Collection("lobby", "print", 2, False, datetime(2026, 1, 1, tzinfo=UTC)))
    store.upsert("lobby", [Item(f"i{n}", "sha") for n in range(7)], np.ones((7, 2), dtype=np.float32))
    pages, seen = Pages(store, "lobby", 3), list[str]()
    while page := pages.following():
        seen += [item.id for item in page]
        store.delete("lobby", Filter(ids=frozenset({page[-1].id})))
    assert seen == ["i0", "i1", "i2", "i3", "i4", "i5", "i6"]
