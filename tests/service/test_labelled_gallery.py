"""A collection as a data set of its own: who is asked for, and what counts as found by the live store."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import numpy as np

from app.adapters.memory import MemoryStore
from app.core.records import Collection, Filter, Item
from app.ports import Floats
from app.service.labelled_gallery import Gallery, agreement, read_gallery, within


def gallery_of(*labels: tuple[str, str]) -> Gallery:
    items = tuple(Item(f"i{row}", "0" * 64, person, camera) for row, (person, camera) in enumerate(labels))
    return Gallery(items, np.eye(len(labels), dtype=np.float32))


def stored(vectors: Floats, store: MemoryStore | None = None) -> MemoryStore:
    store = store or MemoryStore()
    store.put_collection(Collection("lobby", "f", vectors.shape[1], False, datetime(2026, 1, 2, tzinfo=UTC)))
    store.upsert("lobby", [Item(f"i{row}", "0" * 64, "1", "1") for row in range(len(vectors))], vectors)
    return store


def agree(found: Floats, exact: Floats) -> float:
    """What is agreed on where the store ranks by `found`, and the collection's vectors are `exact`."""
    gallery = read_gallery(stored(exact), "lobby")
    share: float = agreement(stored(found), "lobby", gallery)["share"]
    return share


def test_background_stays_in_the_gallery_and_is_never_asked_for() -> None:
    sides, counts = within(gallery_of(("0001", "1"), ("0000", "1"), ("0001", "2"), ("0000", "2")))
    assert [sides.persons[pid] for pid in sides.query.pids] == ["0001", "0001"]
    assert len(sides.gallery.pids) == 4
    assert (counts.used, counts.junk) == (2, 2)
    assert sides.query.vectors.tolist() == sides.gallery.vectors[[0, 2]].tolist()


def in_the_plane(angles: Iterable[float]) -> Floats:
    radians = np.radians(list(angles))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_which_of_equal_crops_is_found_makes_no_difference() -> None:
    # Fifteen copies of one crop within 0.05 degrees (cosines above 1 - 4e-7), to the store in another order: any ten will do.
    hair = np.linspace(0, 0.05, 15).tolist()
    assert agree(in_the_plane(hair), in_the_plane(hair[::-1])) == 1.0


def test_what_the_store_does_not_find_is_told() -> None:
    # Twelve crops a degree apart; the store has the first six. The exact ten leave out the farthest of the eleven others:
    # for the first six queries that is row 11, and the store finds five of the ten; for the last six row 0, and it finds
    # rows 1 to 5 of them.
    assert agree(in_the_plane(range(6)), in_the_plane(range(12))) == 0.5


class Shrinking(MemoryStore):
    """Loses items between two calls of whoever reads it: some once they were listed, some once their vectors were read."""

    def __init__(self, listed: Sequence[str], read: Sequence[str]) -> None:
        super().__init__()
        self.listed, self.read = set(listed), set(read)

    def scan(self, name: str, where: Filter, after: str | None = None, limit: int = 100) -> list[Item]:
        page = super().scan(name, where, after, limit)
        self.delete(name, Filter(ids=frozenset(self.listed & {item.id for item in page})))
        return page

    def vectors(self, name: str, ids: Sequence[str]) -> tuple[Floats, Floats]:
        found = super().vectors(name, ids)
        self.delete(name, Filter(ids=frozenset(self.read & set(ids))))
        return found


def test_items_that_are_removed_while_a_collection_is_read_are_left_out() -> None:
    vectors = in_the_plane(row / 10 for row in range(2100))
    # The last two are the end of the first page, behind which the second begins.
    store = stored(vectors, Shrinking(listed=["i3", "i1500", "i2099"], read=["i998", "i999"]))
    gallery = read_gallery(store, "lobby")
    there = [row for row in range(2100) if row not in (3, 1500, 2099)]
    assert [item.id for item in gallery.items] == [f"i{row}" for row in there]
    np.testing.assert_allclose(gallery.vectors, vectors[there], atol=1e-6)
