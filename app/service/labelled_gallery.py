"""A collection as a labelled data set, and how well the live store's answers agree with the exact ranking."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from app.core.metrics import unit
from app.core.records import Filter, Item, Label
from app.core.splits import Sides, Split, SplitCounts, sides_of
from app.errors import BadInput
from app.ports import Floats, GalleryStore

MOST_ITEMS = 100_000  # 0.8 GB of vectors at 2048 numbers
MOST_QUERIES = 5_000  # of a collection's own items: every item against every other is a square
COMPARED, FIRST = 200, 10  # queries whose first ten are compared with the exact ones
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
        labels = [Label(item.person_id or "", item.camera_id or "") for item in chosen]
        names = [item.source or item.id for item in chosen]
        return Split(self.vectors[rows], labels, names), SplitCounts(len(rows), 0, len(self.items) - len(rows), ())


def read_gallery(store: GalleryStore, name: str) -> Gallery:
    """Everything in a collection. Raises BadInput where it is too large, or empty of labels."""
    if (count := store.count(name)) > MOST_ITEMS:
        raise BadInput(f"collection {name!r} has {count} items; up to {MOST_ITEMS} can be evaluated")
    items: list[Item] = []
    parts: list[Floats] = []
    while page := store.scan(name, Filter(), items[-1].id if items else None, _PAGE):
        units, norms = store.vectors(name, [item.id for item in page])
        items += page
        parts.append(units * norms[:, None])
    gallery = Gallery(tuple(items), np.concatenate(parts) if parts else np.empty((0, 1), np.float32))
    if not gallery.rows:
        raise BadInput(f"collection {name!r} has no item that is labelled with person and camera")
    return gallery


def within(gallery: Gallery) -> tuple[Sides, SplitCounts]:
    """The labelled items as queries against all of them; of many, an even sample."""
    split, counts = gallery.labelled()
    if len(split.labels) > MOST_QUERIES:
        chosen = np.linspace(0, len(split.labels) - 1, MOST_QUERIES).astype(int).tolist()
        asked = Split(split.vectors[chosen], [split.labels[i] for i in chosen], [split.names[i] for i in chosen])
        left_out = len(split.labels) - MOST_QUERIES
        counts = replace(counts, used=MOST_QUERIES, skipped=counts.skipped + left_out)
        return replace(sides_of(asked, split), set_apart=False), counts
    return replace(sides_of(split, split), set_apart=False), counts


def agreement(store: GalleryStore, name: str, gallery: Gallery) -> dict[str, Any]:
    """The share of the exact first ten that the live store finds, over some items as queries, themselves left out."""
    units = unit(gallery.vectors)
    rows = np.unique(np.linspace(0, len(units) - 1, COMPARED).astype(int))
    first = min(FIRST, len(units) - 1)
    if first == 0:
        return {"share": None, "queries": 0, "k": FIRST, "reason": "there is only one item"}
    shares = []
    for row, matches in zip(rows, store.search(name, units[rows], first + 1, Filter()), strict=True):
        own = gallery.items[row].id
        found = [match.item.id for match in matches if match.item.id != own][:first]
        scores = units @ units[row]
        scores[row] = -np.inf
        exact = {gallery.items[i].id for i in np.argsort(-scores, kind="stable")[:first]}
        shares.append(len(exact & set(found)) / first)
    return {"share": float(np.mean(shares)), "queries": len(rows), "k": FIRST, "reason": None}
