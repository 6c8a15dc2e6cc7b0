"""What searches read: an immutable picture of one collection, derived from the truth, exact.

Rows lie in segments, each a FAISS index that never changes. An insert appends a small segment; neighbours are merged when
the newer is no longer small beside the older, so that a row is copied a few times at most. A removed or replaced row is
marked dead in a new mask. FAISS finds a shortlist; its order at equal scores is not promised, so the shortlist is scored
again and ties are put in the order in which the items were added.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from app.core.records import Filter, Item, Match
from app.ports import Floats

Mask = npt.NDArray[np.bool_]
_TIE = 1e-5  # scores nearer than this may change places when they are computed again


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows that were derived together; `alive` marks those that still stand for an item."""

    index: faiss.IndexFlatIP
    seqs: npt.NDArray[np.int64]
    items: tuple[Item, ...]
    persons: npt.NDArray[np.object_]
    cameras: npt.NDArray[np.object_]
    alive: Mask

    @classmethod
    def of(cls, seqs: Sequence[int], items: Sequence[Item], vectors: Floats) -> "Segment":
        """A segment of unit vectors float32 [n, dim]."""
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        persons = np.array([item.person_id for item in items], dtype=object)
        cameras = np.array([item.camera_id for item in items], dtype=object)
        return cls(
            index, np.array(seqs, dtype=np.int64), tuple(items), persons, cameras, np.ones(len(items), dtype=bool)
        )

    def accepted(self, where: Filter) -> Mask:
        """Rows that count."""
        mask = self.alive
        for column, wanted in ((self.persons, where.persons), (self.cameras, where.cameras)):
            if wanted is not None:
                mask = mask & np.fromiter((value in wanted for value in column), dtype=bool, count=len(column))
        if where.not_camera is not None:
            mask = mask & (self.cameras != where.not_camera)
        if where.ids is not None:
            mask = mask & np.fromiter((item.id in where.ids for item in self.items), dtype=bool, count=len(self.items))
        return mask

    def without(self, seqs: npt.NDArray[np.int64]) -> "Segment":
        """The same rows, those of these sequence numbers dead."""
        dead = np.isin(self.seqs, seqs)
        if not dead.any():
            return self
        return Segment(self.index, self.seqs, self.items, self.persons, self.cameras, self.alive & ~dead)

    def shortlist(self, query: Floats, k: int, mask: Mask) -> npt.NDArray[np.int64]:
        """Rows among which the k best accepted ones surely are, ties with the k-th included."""
        accepted = int(mask.sum())
        bitmap = np.packbits(mask, bitorder="little")
        selector = faiss.IDSelectorBitmap(bitmap)  # holds a pointer into `bitmap`: both must outlive the search
        want = min(k + 8, accepted)
        while want:
            scores, rows = self.index.search(query[None], want, params=faiss.SearchParameters(sel=selector))
            if want == accepted or scores[0, k - 1] - scores[0, -1] > _TIE:
                return np.asarray(rows[0])
            want = min(2 * want, accepted)
        return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class View:
    """A collection at one moment."""

    segments: tuple[Segment, ...] = ()

    @property
    def count(self) -> int:
        """Items."""
        return sum(int(segment.alive.sum()) for segment in self.segments)

    def search(self, query: Floats, k: int, where: Filter) -> list[Match]:
        """The k best accepted items for a unit vector float32 [dim], best first, ties in the order added."""
        found: list[tuple[float, int, Item]] = []
        for segment in self.segments:
            rows = segment.shortlist(query, k, segment.accepted(where))
            vectors = segment.index.reconstruct_batch(rows) if len(rows) else np.empty((0, len(query)))
            # One row at a time in float64: equal vectors get equal scores, wherever they lie.
            scores = [float(vector.astype(np.float64) @ query.astype(np.float64)) for vector in vectors]
            found += [
                (-score, int(segment.seqs[row]), segment.items[row]) for row, score in zip(rows, scores, strict=True)
            ]
        found.sort(key=lambda entry: entry[:2])
        return [Match(item, -score) for score, _, item in found[:k]]

    def with_rows(self, seqs: Sequence[int], items: Sequence[Item], vectors: Floats) -> "View":
        """The view after an upsert of these rows."""
        if not seqs:
            return self
        kept = self.without(seqs).segments
        return View(_merged([*kept, Segment.of(seqs, items, vectors)]))

    def without(self, seqs: Iterable[int]) -> "View":
        """The view after a removal of these rows."""
        gone = np.array(list(seqs), dtype=np.int64)
        return View(tuple(s for s in (segment.without(gone) for segment in self.segments) if s.alive.any()))


def _merged(segments: list[Segment]) -> tuple[Segment, ...]:
    while len(segments) > 1 and len(segments[-2].items) <= 2 * len(segments[-1].items):
        newer, older = segments.pop(), segments.pop()
        rows = [(s, int(row)) for s in (older, newer) for row in np.flatnonzero(s.alive)]
        vectors = np.concatenate(
            [s.index.reconstruct_batch(np.flatnonzero(s.alive)) for s in (older, newer) if s.alive.any()]
        )
        segments.append(Segment.of([int(s.seqs[r]) for s, r in rows], [s.items[r] for s, r in rows], vectors))
    return tuple(segments)
