"""Who is nearest, in one view: memory tells what may be among the best, and that is scored exactly, in float64."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from app.adapters.local_gallery.codes import CodeIndex, Estimates
from app.adapters.local_gallery.index import NEAR, Mask, Scores
from app.adapters.local_gallery.persons import PersonHit, nearest_by_codes, nearest_by_item, ranked
from app.adapters.local_gallery.plan import IndexPlan
from app.adapters.local_gallery.segment import Segment, Sequences, Wanted
from app.adapters.local_gallery.view import View
from app.core.records import Filter, PersonScore
from app.ports import Floats

Masks = Sequence[tuple[Segment, Mask]]


class Source(Protocol):
    """What a ranking asks of the database, which is at the view's revision."""

    def wanted(self, where: Filter) -> Wanted:
        """The filter with its ids as sequence numbers."""

    def vectors(self, seqs: Sequences) -> Floats:
        """Unit vectors float32 [n, dim] of these rows, in order."""

    def pieces(self, seqs: Sequences) -> Iterator[tuple[slice, Floats]]:
        """The same a piece at a time, each with its place among `seqs`."""


@dataclass(frozen=True, slots=True)
class Hits:
    """Rows that were found, by sequence number, best first; equal scores in the order added."""

    seqs: Sequences
    scores: Scores

    def joined(self, seqs: Sequences, scores: Scores, k: int) -> "Hits":
        """The k best of these and of some rows; of a row that occurs twice its better score."""
        seqs, scores = np.concatenate([self.seqs, seqs]), np.concatenate([self.scores, scores])
        order = np.lexsort((seqs, -scores))
        _, first = np.unique(seqs[order], return_index=True)
        kept = order[np.sort(first)][:k]
        return Hits(seqs[kept], scores[kept])


@dataclass(frozen=True, slots=True)
class Ranking:
    """Searches of one view. exact: whatever has codes is scored from its vectors all the same."""

    view: View
    source: Source
    plan: IndexPlan
    exact: bool

    def items(self, queries: Floats, k: int, where: Filter) -> list[Hits]:
        """For each query, unit float32 [n, dim], its k best accepted rows."""
        masks = self.view.masks(self.source.wanted(where))
        return [self._best(masks, query, k) for query in queries]

    def shortlist(self, crops: Floats, k: int, where: Filter) -> Hits:
        """The k accepted rows that are best for any of the crops, unit float32 [n, dim]."""
        return self._best_of_all(self.view.masks(self.source.wanted(where)), crops, k)

    def persons(self, crops: Floats, k: int, where: Filter, score: PersonScore) -> list[PersonHit]:
        """The k best persons. Where there are codes those are scored whose items are near, from all of their items."""
        masks, wanted = self.view.masks(self.source.wanted(where)), None
        coded = any(segment.coded for segment in self.view.segments)
        if coded and not self.exact:
            wanted = self._near_persons(masks, crops, k)
        elif not coded and score == "best":
            wanted = nearest_by_item(masks, crops, k)
        elif not coded and where == Filter(not_camera=where.not_camera):
            wanted = self.view.sums.nearest(self.view.segments, crops, k, where.not_camera)
        return ranked(masks, crops, k, score, wanted, self.source.vectors)

    def _best(self, masks: Masks, query: Floats, k: int) -> Hits:
        found = _NONE
        for segment, mask in masks:
            if not isinstance(segment.index, CodeIndex):
                rows, cosines = segment.index.search(query, k, mask)
                found = found.joined(segment.seqs[rows], cosines, k)
        coded = [(segment, mask) for segment, mask in masks if segment.coded]
        accepted = sum(int(np.count_nonzero(mask)) for _, mask in coded)
        if self.exact or accepted <= max(self.plan.narrow, k):
            return self._scored(found, np.concatenate([_NONE.seqs, *(s.seqs[mask] for s, mask in coded)]), query, k)
        return self._best_of_codes(found, coded, query, k)

    def _best_of_codes(self, found: Hits, coded: Masks, query: Floats, k: int) -> Hits:
        """The k best of these and of more rows than k that have codes."""
        listed = self.plan.listed(k)
        few = _FEW * listed
        seqs, estimates = _nearest(coded, query, few)
        scored = seqs[:listed]
        found = self._scored(found, scored, query, k)
        # The others that may be better than the k-th, as far as codes can tell; mostly there are none.
        least = found.scores[-1] - self.plan.doubt(len(query))
        if len(estimates) == few and estimates[-1] >= least:
            seqs, estimates = _nearest(coded, query, self.plan.estimated(k))
        return self._scored(found, seqs[(estimates >= least) & ~np.isin(seqs, scored)], query, k)

    def _scored(self, found: Hits, seqs: Sequences, query: Floats, k: int) -> Hits:
        """The k best of these and of some rows, whose vectors are read."""
        for place, vectors in self.source.pieces(seqs):
            near = _near(vectors, query, k)
            found = found.joined(seqs[place][near], _cosines(vectors[near], query), k)
        return found

    def _best_of_all(self, masks: Masks, crops: Floats, k: int) -> Hits:
        # Whoever is among the k best over all crops is among the k best for the crop that it is nearest to.
        found = _NONE
        for each in (self._best(masks, crop, k) for crop in crops):
            found = found.joined(each.seqs, each.scores, k)
        return found

    def _near_persons(self, masks: Masks, crops: Floats, k: int) -> set[str]:
        """Persons whose items are near: more than k of them, since the nearest item is not the nearest person."""
        accepted = sum(int(np.count_nonzero(mask)) for _, mask in masks)
        count, wanted = self.plan.items_for_persons(k), self.plan.persons_for(k)
        while True:
            best = nearest_by_codes(masks, crops, count)
            if len(best) >= wanted or count >= accepted:
                return set(sorted(best, key=lambda person: -best[person])[:wanted])
            count *= 8


_FEW = 4  # times what is scored in any case: so many rows are asked for first, since FAISS takes longer for more
_NONE = Hits(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64))


def _nearest(coded: Masks, query: Floats, count: int) -> tuple[Sequences, Estimates]:
    """Rows that are nearest by their codes, best first, and estimates of their cosines."""
    seqs, estimates = [_NONE.seqs], [np.empty(0, dtype=np.float32)]
    for segment, mask in coded:
        assert isinstance(segment.index, CodeIndex)
        rows, cosines = segment.index.search(query, count, mask)
        seqs.append(segment.seqs[rows])
        estimates.append(cosines)
    order = np.argsort(-np.concatenate(estimates), kind="stable")[:count]
    return np.concatenate(seqs)[order], np.concatenate(estimates)[order]


def _near(vectors: Floats, query: Floats, k: int) -> Sequences:
    """Rows among which the k best are, by quick sums."""
    quick = vectors @ query
    if len(quick) <= k:
        return np.arange(len(quick), dtype=np.int64)
    return np.flatnonzero(quick >= np.partition(quick, -k)[-k] - 2 * NEAR)


def _cosines(vectors: Floats, query: Floats) -> Scores:
    """One dot product per row, in float64: equal vectors get equal scores, wherever they lie."""
    wide = query.astype(np.float64)
    return np.clip(np.array([vector @ wide for vector in vectors.astype(np.float64)], dtype=np.float64), -1, 1)
