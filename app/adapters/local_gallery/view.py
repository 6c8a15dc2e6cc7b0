"""What searches read: an immutable picture of one collection, derived from the truth.

Rows lie in segments that never change. An upsert appends a small segment; neighbours are joined when the newer is no
longer small beside the older, so that a row is copied a few times at most, and never into a segment that is too large to
copy. A removed or replaced row is marked dead in a new mask; a segment that is half dead is written anew.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from app.adapters.local_gallery.index import ExactIndex, Mask, Rows
from app.core.records import Collection, Filter, Item, Match
from app.ports import Floats

LARGEST = 65_536  # rows of a segment: 512 MiB at 2048 numbers, the most that a join copies
Sequences = npt.NDArray[np.int64]  # an item's place in the order added


@dataclass(frozen=True, slots=True)
class Entries:
    """Rows on their way into a view. vectors: unit, float32 [n, dim]."""

    seqs: Sequences
    items: tuple[Item, ...]
    vectors: Floats

    @classmethod
    def of(cls, seqs: Sequence[int], items: Iterable[Item], vectors: Floats) -> "Entries":
        """Entries in ascending order of `seqs`."""
        numbers, unordered = np.array(seqs, dtype=np.int64), tuple(items)
        order = np.argsort(numbers)
        return cls(numbers[order], tuple(unordered[i] for i in order), vectors[order])


@dataclass(frozen=True, slots=True)
class Column:
    """One text per row, as numbers: a filter looks at each distinct text once. Rows without one have -1."""

    numbers: Mapping[str, int]
    codes: npt.NDArray[np.int32]

    @classmethod
    def of(cls, texts: Iterable[str | None]) -> "Column":
        """A column of these texts."""
        numbers: dict[str, int] = {}
        codes = [-1 if text is None else numbers.setdefault(text, len(numbers)) for text in texts]
        return cls(numbers, np.array(codes, dtype=np.int32))

    def among(self, wanted: Iterable[str]) -> Mask:
        """Which rows have one of these texts."""
        chosen = np.zeros(len(self.numbers) + 1, dtype=bool)  # its last place, which is also -1, stays False
        chosen[[self.numbers[text] for text in wanted if text in self.numbers]] = True
        return np.asarray(chosen[self.codes])


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows in ascending order of `seqs`; `alive` marks those that still stand for an item."""

    index: ExactIndex
    seqs: Sequences
    items: tuple[Item, ...]
    persons: Column
    cameras: Column
    alive: Mask
    count: int

    @classmethod
    def of(cls, entries: Entries) -> "Segment":
        """A segment of these, all alive."""
        items = entries.items
        persons, cameras = Column.of(item.person_id for item in items), Column.of(item.camera_id for item in items)
        index, alive = ExactIndex(entries.vectors), np.ones(len(items), dtype=bool)
        return cls(index, entries.seqs, items, persons, cameras, alive, len(items))

    def accepted(self, where: Filter) -> Mask:
        """Rows that count."""
        mask = self.alive
        if where.persons is not None:
            mask = mask & self.persons.among(where.persons)
        if where.cameras is not None:
            mask = mask & self.cameras.among(where.cameras)
        if where.not_camera is not None:
            mask = mask & ~self.cameras.among((where.not_camera,))
        if where.ids is not None:
            mask = mask & np.fromiter((item.id in where.ids for item in self.items), dtype=bool, count=len(self.items))
        return mask

    def without(self, seqs: Sequences) -> "Segment":
        """The same rows, those of these sequence numbers dead."""
        places = np.searchsorted(self.seqs, seqs)
        rows = places[places < len(self.seqs)]
        dead = rows[(self.seqs[rows] == seqs[places < len(self.seqs)]) & self.alive[rows]]
        if not len(dead):
            return self
        alive = self.alive.copy()
        alive[dead] = False
        rest = replace(self, alive=alive, count=int(np.count_nonzero(alive)))
        return Segment.of(rest.entries()) if 0 < 2 * rest.count < len(alive) else rest

    def entries(self) -> Entries:
        """The rows that are alive, copied."""
        rows: Rows = np.flatnonzero(self.alive)
        return Entries(self.seqs[rows], tuple(self.items[row] for row in rows), self.index.vectors(rows))


@dataclass(frozen=True, slots=True)
class View:
    """A collection at one moment."""

    collection: Collection
    segments: tuple[Segment, ...] = ()

    @property
    def count(self) -> int:
        """Items."""
        return sum(segment.count for segment in self.segments)

    def search(self, queries: Floats, k: int, where: Filter) -> list[list[Match]]:
        """For each unit query float32 [n, dim] the k best accepted items, best first, ties in the order added."""
        masks = [(segment, segment.accepted(where)) for segment in self.segments]
        return [_best(query, k, masks) for query in queries]

    def with_entries(self, entries: Entries) -> "View":
        """The view after an upsert: rows of the same sequence numbers are replaced."""
        if not len(entries.seqs):
            return self
        kept = self.without(entries.seqs).segments
        return replace(self, segments=_joined([*kept, Segment.of(entries)]))

    def without(self, seqs: Sequences) -> "View":
        """The view after a removal."""
        return replace(self, segments=tuple(s for s in (s.without(seqs) for s in self.segments) if s.count))


def _best(query: Floats, k: int, masks: Sequence[tuple[Segment, Mask]]) -> list[Match]:
    found: list[tuple[float, int, Item]] = []
    for segment, mask in masks:
        rows, scores = segment.index.search(query, k, mask)
        found += [(-float(s), int(segment.seqs[row]), segment.items[row]) for row, s in zip(rows, scores, strict=True)]
    found.sort(key=lambda entry: entry[:2])
    return [Match(item, -negated) for negated, _, item in found[:k]]


def _joined(segments: list[Segment]) -> tuple[Segment, ...]:
    """The last segments as one, as long as the older is no longer large beside what is newer."""
    first, count = len(segments) - 1, segments[-1].count
    while first and segments[first - 1].count <= 2 * count and segments[first - 1].count + count <= LARGEST:
        first -= 1
        count += segments[first].count
    if first == len(segments) - 1:
        return tuple(segments)
    parts = [segment.entries() for segment in segments[first:]]
    seqs = np.concatenate([part.seqs for part in parts])
    entries = Entries.of(
        seqs.tolist(), (item for part in parts for item in part.items), np.concatenate([part.vectors for part in parts])
    )
    return (*segments[:first], Segment.of(entries))
