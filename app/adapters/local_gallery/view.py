"""What searches read: an immutable picture of one collection, derived from the truth.

Rows lie in segments that never change. An upsert appends a small segment; neighbours are joined when the newer is no
longer small beside the older, so that a row is copied a few times at most, and never into a segment that is too large to
copy. A removed or replaced row is marked dead in a new mask. What has codes is joined and swept by the keeper.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from app.adapters.local_gallery.codes import CodeIndex
from app.adapters.local_gallery.index import ExactIndex, Mask, Rows
from app.adapters.local_gallery.persons import KnownSums
from app.adapters.local_gallery.segment import Entries, Segment, Sequences, Wanted, joined_index
from app.core.records import Collection, IndexFacts

LARGEST = 65_536  # rows of a segment that is searched exactly: 512 MiB at 2048 numbers, the most that a join copies


@dataclass(frozen=True, slots=True)
class View:
    """A collection as it was at one revision. `sums` are its persons', as far as known; they are no part of what it is.

    collection_id, revision: the database's, by which a reader sees whether both speak of the same moment.
    """

    collection: Collection
    collection_id: int
    revision: int
    segments: tuple[Segment, ...] = ()
    sums: KnownSums = field(default_factory=KnownSums, compare=False, repr=False)

    @property
    def count(self) -> int:
        """Items."""
        return sum(segment.count for segment in self.segments)

    def masks(self, wanted: Wanted) -> list[tuple[Segment, Mask]]:
        """The segments, each with its rows that count."""
        return [(segment, segment.accepted(wanted)) for segment in self.segments]

    def facts(self, pending: bool) -> IndexFacts:
        """What answers searches."""
        coded = sum(segment.count for segment in self.segments if segment.coded)
        size = sum(segment.bytes for segment in self.segments)
        return IndexFacts("codes" if coded else "exact", self.count, coded, size, pending)

    def at(self, revision: int) -> "View":
        """The same rows, at this revision."""
        return replace(self, revision=revision)

    def with_entries(self, entries: Entries) -> "View":
        """The view after an upsert: rows of the same sequence numbers are replaced."""
        if not len(entries.seqs):
            return self
        rest = self.without(entries.seqs)
        sums = rest.sums.changed(item.person_id for item in entries.items)
        return replace(rest, segments=_joined([*rest.segments, Segment.of(entries)]), sums=sums)

    def without(self, seqs: Sequences) -> "View":
        """The view after a removal."""
        segments = tuple(segment for segment in (s.without(seqs) for s in self.segments) if segment.count)
        return replace(self, segments=segments, sums=self.sums.changed(self._persons(seqs)))

    def relabelled(self, seqs: Sequences, person_id: str | None) -> "View":
        """The view after these rows have become another person's."""
        changed = self._persons(seqs) | {person_id}
        segments = tuple(segment.relabelled(seqs, person_id) for segment in self.segments)
        return replace(self, segments=segments, sums=self.sums.changed(changed))

    def closed(self) -> "View":
        """The same rows, no newer one joining them."""
        return replace(self, segments=tuple(replace(segment, closed=True) for segment in self.segments))

    def swept(self) -> "View":
        """The same rows, in memory no trace of others but in segments with codes."""
        kept = (s if s.coded or s.count == len(s.alive) else s.swept() for s in self.segments)
        return replace(self, segments=tuple(kept), sums=KnownSums())

    def replaced(self, old: Sequence[tuple[Segment, Rows]], index: ExactIndex | CodeIndex) -> "View | None":
        """The view with these rows of segments in one, whatever was removed or renamed since; None where one is gone."""
        now = {segment.origin: segment for segment in self.segments}
        if any(segment.origin not in now for segment, _ in old):
            return None
        origins = {segment.origin for segment, _ in old}
        joined = Segment.joined([(now[segment.origin], rows) for segment, rows in old], index)
        rest = tuple(segment for segment in self.segments if segment.origin not in origins)
        segments = (joined, *rest) if joined.coded else (*rest, joined)
        return replace(self, segments=segments, sums=KnownSums() if joined.coded else self.sums)

    def _persons(self, seqs: Sequences) -> set[str | None]:
        """Who these rows are, as far as sums are known that depend on it."""
        if not self.sums.made:
            return set()
        return {person for segment in self.segments for person in segment.persons_of(segment.rows(seqs))}


def _joined(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The last segments as one, as long as the older is open, and no longer large beside what is newer."""
    first, count = len(segments) - 1, segments[-1].count
    while first and _joins(segments[first - 1], count):
        first -= 1
        count += segments[first].count
    if first == len(segments) - 1:
        return tuple(segments)
    parts = [(segment, np.flatnonzero(segment.alive)) for segment in segments[first:]]
    return (*segments[:first], Segment.joined(parts, joined_index(parts)))


def _joins(older: Segment, count: int) -> bool:
    return not older.closed and older.count <= 2 * count and older.count + count <= LARGEST
