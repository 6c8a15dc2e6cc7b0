"""Rows of a collection that never change, with what searches and filters look at."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from app.adapters.local_gallery.columns import Columns
from app.adapters.local_gallery.index import ExactIndex, Mask, Rows
from app.core.records import Filter, Item
from app.ports import Floats

Sequences = npt.NDArray[np.int64]  # an item's place in the order added


@dataclass(frozen=True, slots=True)
class Entries:
    """Rows on their way into a view. vectors: unit, float32 [n, dim]; norms: their raw lengths, float32 [n]."""

    seqs: Sequences
    items: tuple[Item, ...]
    vectors: Floats
    norms: Floats

    @classmethod
    def of(cls, seqs: Sequence[int], items: Iterable[Item], vectors: Floats, norms: Floats) -> "Entries":
        """Entries in ascending order of `seqs`."""
        numbers, unordered = np.array(seqs, dtype=np.int64), tuple(items)
        order = np.argsort(numbers)
        return cls(numbers[order], tuple(unordered[i] for i in order), vectors[order], norms[order])


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows in ascending order of `seqs`; `alive` marks those that still stand for an item."""

    index: ExactIndex
    seqs: Sequences
    items: tuple[Item, ...]
    norms: Floats
    columns: Columns
    alive: Mask
    count: int

    @classmethod
    def of(cls, entries: Entries) -> "Segment":
        """A segment of these, all alive."""
        items, alive = entries.items, np.ones(len(entries.items), dtype=bool)
        index = ExactIndex(entries.vectors)
        return cls(index, entries.seqs, items, entries.norms, Columns.of(items), alive, len(items))

    def accepted(self, where: Filter) -> Mask:
        """Rows that count."""
        return self.columns.accepted(where, self.alive)

    def rows(self, seqs: Sequences) -> Rows:
        """Those of these sequence numbers that are alive here."""
        places = np.searchsorted(self.seqs, seqs)
        rows = places[places < len(self.seqs)]
        found: Rows = rows[(self.seqs[rows] == seqs[places < len(self.seqs)]) & self.alive[rows]]
        return found

    def without(self, seqs: Sequences) -> "Segment":
        """The same rows, those of these sequence numbers dead."""
        dead = self.rows(seqs)
        if not len(dead):
            return self
        alive = self.alive.copy()
        alive[dead] = False
        rest = replace(self, alive=alive, count=int(np.count_nonzero(alive)))
        return Segment.of(rest.entries()) if 0 < 2 * rest.count < len(alive) else rest

    def entries(self) -> Entries:
        """The rows that are alive, copied."""
        rows: Rows = np.flatnonzero(self.alive)
        items = tuple(self.items[row] for row in rows)
        return Entries(self.seqs[rows], items, self.index.vectors(rows), self.norms[rows])
