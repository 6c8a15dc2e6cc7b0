"""Rows of a collection that never change, with what searches and filters look at."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from app.adapters.local_gallery.codes import CodeIndex
from app.adapters.local_gallery.columns import Columns
from app.adapters.local_gallery.index import ExactIndex, Mask, Rows
from app.core.records import Filter, Item
from app.ports import Floats

Sequences = npt.NDArray[np.int64]  # an item's place in the order added
_origins = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Entries:
    """Rows on their way into a view. revisions: of the collection when each vector was written; vectors: unit, float32
    [n, dim]; norms: their raw lengths, float32 [n].
    """

    seqs: Sequences
    revisions: Sequences
    items: tuple[Item, ...]
    vectors: Floats
    norms: Floats

    @classmethod
    def of(cls, seqs: Sequence[int], revision: int, items: Iterable[Item], vectors: Floats, norms: Floats) -> "Entries":
        """Entries of one revision, in ascending order of `seqs`."""
        numbers, unordered = np.array(seqs, dtype=np.int64), tuple(items)
        order = np.argsort(numbers)
        revisions = np.full(len(numbers), revision, dtype=np.int64)
        return cls(numbers[order], revisions, tuple(unordered[i] for i in order), vectors[order], norms[order])


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter whose ids are told by sequence numbers, ascending; None where it names none."""

    where: Filter
    seqs: Sequences | None = None
    excluded: Sequences | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows, each sequence number once; `alive` marks those that still stand for an item.

    order: the rows by ascending sequence number; None where they lie so. closed: no newer rows join it, since it is being
    given codes or has them. origin: tells the segment, through changes of what is alive and whose it is, from segments
    of other rows.
    """

    index: ExactIndex | CodeIndex
    seqs: Sequences
    revisions: Sequences
    norms: Floats
    columns: Columns
    alive: Mask
    count: int
    order: Rows | None = None
    closed: bool = False
    origin: int = field(default_factory=lambda: next(_origins))

    @classmethod
    def of(cls, entries: Entries) -> "Segment":
        """A segment of these, all alive, searched exactly."""
        alive = np.ones(len(entries.seqs), dtype=bool)
        columns, index = Columns.of(entries.items), ExactIndex(entries.vectors)
        return cls(index, entries.seqs, entries.revisions, entries.norms, columns, alive, len(alive))

    @classmethod
    def joined(cls, parts: "Sequence[tuple[Segment, Rows]]", index: ExactIndex | CodeIndex) -> "Segment":
        """These rows (ascending) of some segments, one after another; `index` is of them in that order."""
        seqs = np.concatenate([part.seqs[rows] for part, rows in parts])
        alive = np.concatenate([part.alive[rows] for part, rows in parts])
        return cls(
            index=index,
            seqs=seqs,
            revisions=np.concatenate([part.revisions[rows] for part, rows in parts]),
            norms=np.concatenate([part.norms[rows] for part, rows in parts]),
            columns=Columns.joined([(part.columns, rows) for part, rows in parts]),
            alive=alive,
            count=int(np.count_nonzero(alive)),
            closed=isinstance(index, CodeIndex),
            order=None if (seqs[1:] > seqs[:-1]).all() else np.argsort(seqs),
        )

    @property
    def coded(self) -> bool:
        """Whether its rows have codes, and their vectors are in the database alone."""
        return isinstance(self.index, CodeIndex)

    @property
    def bytes(self) -> int:
        """Memory that it takes, about."""
        columns = self.columns
        arrays = (self.seqs, self.revisions, self.norms, self.alive, columns.captured)
        codes = columns.persons.codes.nbytes + columns.cameras.codes.nbytes
        return self.index.bytes + codes + sum(array.nbytes for array in arrays)

    def accepted(self, wanted: Wanted) -> Mask:
        """Rows that count."""
        mask = self.columns.accepted(wanted.where, self.alive)
        if wanted.seqs is not None:
            mask = mask & self._marked(wanted.seqs)
        if wanted.excluded is not None:
            mask = mask & ~self._marked(wanted.excluded)
        return mask

    def rows(self, seqs: Sequences) -> Rows:
        """Those of these sequence numbers that are alive here."""
        places = np.searchsorted(self.seqs, seqs, sorter=self.order)
        within = places < len(self.seqs)
        rows = places[within] if self.order is None else self.order[places[within]]
        found: Rows = rows[(self.seqs[rows] == seqs[within]) & self.alive[rows]]
        return found

    def _marked(self, seqs: Sequences) -> Mask:
        mask = np.zeros(len(self.seqs), dtype=bool)
        mask[self.rows(seqs)] = True
        return mask

    def persons_of(self, rows: Rows) -> set[str]:
        """Who these rows are."""
        return self.columns.persons.texts(rows) if len(rows) else set()

    def without(self, seqs: Sequences) -> "Segment":
        """The same rows, those of these sequence numbers dead."""
        dead = self.rows(seqs)
        if not len(dead):
            return self
        alive = self.alive.copy()
        alive[dead] = False
        rest = replace(self, alive=alive, count=int(np.count_nonzero(alive)))
        return rest.swept() if not rest.closed and 0 < 2 * rest.count < len(alive) else rest

    def relabelled(self, seqs: Sequences, person_id: str | None) -> "Segment":
        """The same rows, those of these sequence numbers another person's."""
        rows = self.rows(seqs)
        return replace(self, columns=self.columns.with_person(rows, person_id)) if len(rows) else self

    def swept(self) -> "Segment":
        """The rows that are alive, without a trace of the others. Of codes this takes a while."""
        rows: Rows = np.flatnonzero(self.alive)
        return Segment.joined([(self, rows)], joined_index([(self, rows)]))


def joined_index(parts: Sequence[tuple[Segment, Rows]]) -> ExactIndex | CodeIndex:
    """The index of these rows of segments that are all exact, or all coded around one centre."""
    indexes = [(part.index, rows) for part, rows in parts]
    codes = [(index, rows) for index, rows in indexes if isinstance(index, CodeIndex)]
    if codes:
        return CodeIndex.joined(codes)
    flat = [index.vectors(rows) for index, rows in indexes if isinstance(index, ExactIndex)]
    return ExactIndex(np.concatenate(flat))
