"""What searches read: an immutable picture of one collection, derived from the truth.

Rows lie in segments that never change. An upsert appends a small segment; neighbours are joined when the newer is no
longer small beside the older, so that a row is copied a few times at most, and never into a segment that is too large to
copy. A removed or replaced row is marked dead in a new mask; a segment that is half dead is written anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from app.adapters.local_gallery.index import Mask
from app.adapters.local_gallery.persons import KnownSums, nearest_by_item, ranked
from app.adapters.local_gallery.segment import Entries, Segment, Sequences
from app.core.records import Collection, Filter, Match, PersonMatch, PersonScore
from app.ports import Floats

LARGEST = 65_536  # rows of a segment: 512 MiB at 2048 numbers, the most that a join copies


@dataclass(frozen=True, slots=True)
class View:
    """A collection at one moment. `sums` are its persons', as far as they are known; they are no part of what it is."""

    collection: Collection
    segments: tuple[Segment, ...] = ()
    sums: KnownSums = field(default_factory=KnownSums, compare=False, repr=False)

    @property
    def count(self) -> int:
        """Items."""
        return sum(segment.count for segment in self.segments)

    def search(self, queries: Floats, k: int, where: Filter) -> list[list[Match]]:
        """For each unit query float32 [n, dim] the k best accepted items, best first, ties in the order added."""
        masks = self.masks(where)
        return [[hit.match() for hit in _best(query, k, masks)] for query in queries]

    def shortlist(self, crops: Floats, k: int, where: Filter) -> tuple[list[Match], Floats]:
        """The k items that are best for any of the crops, unit float32 [n, dim], and their unit vectors."""
        masks, best = self.masks(where), dict[int, _Hit]()
        # Whoever is among the k best over all crops is among the k best for the crop that it is nearest to.
        for hit in (hit for crop in crops for hit in _best(crop, k, masks)):
            if hit.seq not in best or hit.score > best[hit.seq].score:
                best[hit.seq] = hit
        hits = sorted(best.values(), key=_Hit.place)[:k]
        vectors = [np.empty((0, crops.shape[1]), dtype=np.float32)]
        vectors += [hit.segment.index.vectors(np.array([hit.row])) for hit in hits]
        return [hit.match() for hit in hits], np.concatenate(vectors)

    def search_persons(self, crops: Floats, k: int, where: Filter, score: PersonScore) -> list[PersonMatch]:
        """The k persons that are best for any of the crops, unit float32 [n, dim]."""
        masks, wanted = self.masks(where), None
        if score == "best":
            wanted = nearest_by_item(masks, crops, k)
        elif where == Filter(not_camera=where.not_camera):
            wanted = self.sums.nearest(self.segments, crops, k, where.not_camera)
        return ranked(masks, crops, k, score, wanted)

    def masks(self, where: Filter) -> list[tuple[Segment, Mask]]:
        """The segments, each with its rows that count."""
        return [(segment, segment.accepted(where)) for segment in self.segments]

    def with_entries(self, entries: Entries) -> "View":
        """The view after an upsert: rows of the same sequence numbers are replaced."""
        if not len(entries.seqs):
            return self
        rest = self.without(entries.seqs)
        sums = rest.sums.changed(item.person_id for item in entries.items)
        return replace(rest, segments=_joined([*rest.segments, Segment.of(entries)]), sums=sums)

    def without(self, seqs: Sequences) -> "View":
        """The view after a removal."""
        gone = (segment.items[row].person_id for segment in self.segments for row in segment.rows(seqs).tolist())
        sums = self.sums.changed(gone)
        return replace(self, segments=tuple(s for s in (s.without(seqs) for s in self.segments) if s.count), sums=sums)


@dataclass(frozen=True, slots=True)
class _Hit:
    score: float
    seq: int
    segment: Segment
    row: int

    def place(self) -> tuple[float, int]:
        """Best first, ties in the order added."""
        return -self.score, self.seq

    def match(self) -> Match:
        return Match(self.segment.items[self.row], self.score)


def _best(query: Floats, k: int, masks: Sequence[tuple[Segment, Mask]]) -> list[_Hit]:
    found: list[_Hit] = []
    for segment, mask in masks:
        rows, scores = segment.index.search(query, k, mask)
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            found.append(_Hit(score, int(segment.seqs[row]), segment, row))
    return sorted(found, key=_Hit.place)[:k]


def _joined(segments: list[Segment]) -> tuple[Segment, ...]:
    """The last segments as one, as long as the older is no longer large beside what is newer."""
    first, count = len(segments) - 1, segments[-1].count
    while first and segments[first - 1].count <= 2 * count and segments[first - 1].count + count <= LARGEST:
        first -= 1
        count += segments[first].count
    if first == len(segments) - 1:
        return tuple(segments)
    parts = [segment.entries() for segment in segments[first:]]
    entries = Entries.of(
        np.concatenate([part.seqs for part in parts]).tolist(),
        (item for part in parts for item in part.items),
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.norms for part in parts]),
    )
    return (*segments[:first], Segment.of(entries))
