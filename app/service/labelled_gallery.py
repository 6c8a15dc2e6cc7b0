"""A collection as a labelled data set, and how well the live store's answers agree with the exact ranking."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from app.core.metrics import lengths, unit
from app.core.records import Filter, Item, Label, is_background
from app.core.splits import Sides, Split, SplitCounts, sides_of
from app.errors import BadInput, UnknownItem
from app.ports import Floats, GalleryStore

MOST_ITEMS = 100_000  # 0.8 GB of vectors at 2048 numbers
MOST_QUERIES = 5_000  # of a collection's own items: every item against every other is a square
COMPARED, FIRST = 200, 10  # queries whose first ten are compared with the exact ones
NEAR = 1e-6  # scores no further apart are one and the same: the same crop, embedded in another batch
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Gallery:
    """All items of a collection with their raw vectors float32 [n, dim], in the order added."""

    items: tuple[Item, ...]
    vectors: Floats

    @property
    def rows(self) -> list[int]:
        """Places of the items that are labelled with person and camera."""
        return [i for i, item in enumerate(self.items) if item.person_id is not None and item.camera_id is not None]

    def labelled(self) -> tuple[Split, SplitCounts]:
        """The labelled items as a split; the others may be anybody, and are left out."""
        rows = self.rows
        chosen = [self.items[row] for row in rows]
        vectors = self.vectors if len(rows) == len(self.items) else self.vectors[rows]  # 0.8 GB need no copy
        labels = [Label(item.person_id or "", item.camera_id or "") for item in chosen]
        names = [item.source or item.id for item in chosen]
        return Split(vectors, labels, names), SplitCounts(len(rows), 0, len(self.items) - len(rows), ())


def read_gallery(store: GalleryStore, name: str) -> Gallery:
    """Everything in a collection; what is removed before its turn comes is left out.

    Raises BadInput where it is too large, or empty of labels.
    """
    if (count := store.count(name)) > MOST_ITEMS:
        raise BadInput(f"collection {name!r} has {count} items; up to {MOST_ITEMS} can be evaluated")
    items: list[Item] = []
    vectors = np.empty((count, store.collection(name).dim), dtype=np.float32)
    # Up to as many as were counted: what is added meanwhile comes behind them.
    while room := min(_PAGE, count - len(items)):
        page = _behind(store, name, items, room)
        if not page:
            break
        page, units, norms = there(store, name, page)
        np.multiply(units, norms[:, None], out=vectors[len(items) : len(items) + len(page)])
        items += page
    gallery = Gallery(tuple(items), vectors[: len(items)])
    if not gallery.rows:
        raise BadInput(f"collection {name!r} has no item that is labelled with person and camera")
    return gallery


def _behind(store: GalleryStore, name: str, read: Sequence[Item], limit: int) -> list[Item]:
    """The items behind those that were read: behind the last of them that is still there."""
    for item in reversed(read):
        with suppress(UnknownItem):
            return store.scan(name, Filter(), item.id, limit)
    return store.scan(name, Filter(), None, limit)


def there(store: GalleryStore, name: str, page: list[Item]) -> tuple[list[Item], Floats, Floats]:
    """Of these items those that are still there, with their unit vectors and raw norms."""
    while True:
        try:
            units, norms = store.vectors(name, [item.id for item in page])
        except UnknownItem:
            page = [item for item in store.get(name, [item.id for item in page]) if item is not None]
        else:
            return page, units, norms


def within(gallery: Gallery) -> tuple[Sides, SplitCounts]:
    """The labelled items as queries against all of them; of many, an even sample. Background, which is nobody, is not asked for."""
    split, counts = gallery.labelled()
    asked = [row for row, label in enumerate(split.labels) if not is_background(label.person_id)]
    chosen = [asked[i] for i in np.unique(np.linspace(0, len(asked) - 1, MOST_QUERIES).astype(int))] if asked else []
    junk, left_out = len(split.labels) - len(asked), len(asked) - len(chosen)
    counts = replace(counts, used=len(chosen), junk=junk, skipped=counts.skipped + left_out)
    query = split if len(chosen) == len(split.labels) else _only(split, chosen)
    return replace(sides_of(query, split), set_apart=False), counts


def _only(split: Split, rows: Sequence[int]) -> Split:
    return Split(split.vectors[list(rows)], [split.labels[row] for row in rows], [split.names[row] for row in rows])


def agreement(store: GalleryStore, name: str, gallery: Gallery) -> dict[str, Any]:
    """The share of the exact first ten that the live store finds, over some items as queries, themselves left out.

    Which of several equal ones is found makes no difference.
    """
    scale, count = 1 / lengths(gallery.vectors), len(gallery.items)
    rows = np.unique(np.linspace(0, count - 1, COMPARED).astype(int))
    first, queries = min(FIRST, count - 1), unit(gallery.vectors[rows])
    if first == 0:
        return {"share": None, "queries": 0, "k": FIRST, "reason": "there is only one item"}
    place = {item.id: row for row, item in enumerate(gallery.items)}
    shares = []
    found_by_store = store.search(name, queries, first + 1, Filter())
    for row, query, matches in zip(rows, queries, found_by_store, strict=True):
        own = gallery.items[row].id
        found = [place[match.item.id] for match in matches if match.item.id != own and match.item.id in place][:first]
        scores = (gallery.vectors @ query) * scale
        scores[row] = -np.inf
        last = np.partition(scores, count - first)[count - first]  # of the exact first ones
        shares.append(np.count_nonzero(scores[found] >= last - NEAR) / first)
    return {"share": float(np.mean(shares)), "queries": len(rows), "k": FIRST, "reason": None}
