"""Searches for persons: which of them may be among the best is told by quick sums, the answer by their rows themselves.

The quick sums are in float32, and off in their last bits; whoever they put near the k-th best is scored again in float64
from all of its accepted rows. So the answer does not depend on segments, nor on what was known before.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.adapters.local_gallery.codes import CodeIndex
from app.adapters.local_gallery.index import NEAR, ExactIndex, Mask, Rows
from app.adapters.local_gallery.segment import Segment, Sequences
from app.core.centroids import ROWS, PersonSums, cosine, raw_sum
from app.core.metrics import Doubles
from app.core.records import PersonScore
from app.ports import Floats

Masks = Sequence[tuple[Segment, Mask]]
_MOST_CHANGED = 32  # persons whose rows are looked at in every search; beyond that all sums are made anew
_Rows = npt.NDArray[np.int64]  # [4, n]: a person's number, the sequence number, the segment's place, the row in it
Stored = Callable[[Sequences], Floats]  # unit vectors by sequence number, from the database


@dataclass(frozen=True, slots=True)
class PersonHit:
    """A person that was found: the sequence number of its best item, and how many of its items count."""

    person_id: str
    score: float
    items: int
    best_seq: int
    best_score: float


class KnownSums:
    """The persons' sums of a view, made when they are first asked for; views that follow it keep them for a while.

    `changed` are the persons of whom rows came or went since the sums were made.
    """

    def __init__(self, made: "_Sums | None" = None, changed: frozenset[str] = frozenset()) -> None:
        self._lock = threading.Lock()  # the sums are made once, however many ask at once
        self._made, self._changed = made, changed

    @property
    def made(self) -> bool:
        """Whether there are any."""
        return self._made is not None

    def changed(self, persons: Iterable[str | None]) -> "KnownSums":
        """What is known of the view in which rows of these persons came or went."""
        made = self._made  # without the lock: a write does not wait until they are made
        changed = self._changed.union(person for person in persons if person is not None)
        return KnownSums(made, changed) if made is not None and len(changed) <= _MOST_CHANGED else KnownSums()

    def nearest(self, segments: Sequence[Segment], crops: Floats, k: int, not_camera: str | None) -> set[str]:
        """Persons among whom the k with the best centroids are, all rows counting but those of one camera."""
        if not segments:
            return set()
        with self._lock:
            if self._made is None:
                self._made = _Sums.of(segments)
            made, changed = self._made, self._changed
        return set(changed).union(*(made.nearest(crop, k, not_camera, changed) for crop in crops))


@dataclass(frozen=True, slots=True)
class _Sums:
    names: tuple[str, ...]
    cameras: dict[str, int]
    sums: PersonSums

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> "_Sums":
        persons = _numbered(text for segment in segments for text in segment.columns.persons.numbers)
        cameras = _numbered(text for segment in segments for text in segment.columns.cameras.numbers)
        rows = _rows_of([(segment, segment.alive) for segment in segments], persons)
        camids = np.concatenate([segment.columns.cameras.coded(cameras) for segment in segments])
        starts = np.cumsum([0, *(len(segment.seqs) for segment in segments)])
        # Over the longest: cosines do not ask for the lengths' scale, and float32 ends at 3.4e38.
        longest = max(float(segment.norms.max()) for segment in segments)

        def raw(places: npt.NDArray[np.int64]) -> Floats:
            units, norms = _vectors(segments, rows[:, places], _none_stored)
            return np.asarray(units * (norms / longest)[:, None], dtype=np.float32)

        sums = PersonSums.of(rows[0], camids[starts[rows[2]] + rows[3]], raw, segments[0].index.dim)
        return cls(tuple(persons), cameras, sums)

    def nearest(self, crop: Floats, k: int, not_camera: str | None, changed: frozenset[str]) -> set[str]:
        without = None if not_camera is None else self.cameras.get(not_camera)
        pids, cosines, off = self.sums.scores(crop, without)
        sound = np.array([self.names[pid] not in changed for pid in pids], dtype=bool)
        pids, cosines, off = pids[sound], cosines[sound], off[sound]
        return {self.names[pid] for pid in pids[cosines + off >= _kth(cosines - off, k)]}


def nearest_by_item(masks: Masks, crops: Floats, k: int) -> set[str]:
    """Persons among whom the k with the best items are; of segments without codes."""
    persons = _numbered(text for segment, _ in masks for text in segment.columns.persons.numbers)
    names, wanted = np.array(list(persons), dtype=object), set[str]()
    codes = [np.where(mask, segment.columns.persons.coded(persons), -1) for segment, mask in masks]
    for crop in crops:
        best = np.full(len(persons) + 1, -np.inf)  # its last place is that of rows that do not count
        for (segment, _), code in zip(masks, codes, strict=True):
            assert isinstance(segment.index, ExactIndex)
            np.maximum.at(best, code, segment.index.cosines(crop).astype(np.float64))
        best = best[:-1]
        wanted.update(names[(best > -np.inf) & (best >= _kth(best, k) - 2 * NEAR)].tolist())
    return wanted


def nearest_by_codes(masks: Masks, crops: Floats, count: int) -> dict[str, float]:
    """Persons who have one of the `count` items that are nearest to a crop, with about the cosine of the nearest one."""
    best: dict[str, float] = {}
    for segment, mask in masks:
        persons = segment.columns.persons
        names = list(persons.numbers)  # their numbers are their places
        for crop in crops:
            rows, cosines = _estimated(segment, mask, crop, count)
            order = np.argsort(-cosines, kind="stable")
            numbers, first = np.unique(persons.codes[rows[order]], return_index=True)
            for number, near in zip(numbers.tolist(), cosines[order[first]].tolist(), strict=True):
                if number >= 0:
                    best[names[number]] = max(near, best.get(names[number], -1.0))
    return best


def ranked(
    masks: Masks, crops: Floats, k: int, score: PersonScore, wanted: set[str] | None, stored: Stored
) -> list[PersonHit]:
    """The k best persons of those wanted (None: of all), scored by the rows that count."""
    segments, wide = [segment for segment, _ in masks], list(crops.astype(np.float64))
    everybody = (name for segment in segments for name in segment.columns.persons.numbers)
    persons = _numbered(everybody if wanted is None else wanted)
    names, rows = list(persons), _rows_of(masks, persons)
    order = np.lexsort((rows[1], rows[0]))  # by person, and each one's in the order added
    everyone = np.split(rows[:, order], np.flatnonzero(np.diff(rows[0, order])) + 1, axis=1) if len(order) else []
    found = [
        (_scored(vectors, own[1], wide, names[own[0, 0]], score), own[1, 0])
        for batch in _batches(everyone)
        for own, vectors in _with_vectors(batch, segments, stored)
    ]
    found.sort(key=lambda pair: (-pair[0].score, pair[1]))
    return [hit for hit, _ in found[:k]]


def _scored(
    vectors: Iterable[tuple[Floats, Floats]], seqs: Sequences, crops: Sequence[Doubles], name: str, by: PersonScore
) -> PersonHit:
    """One person by its rows' unit vectors and norms, which come in the order added."""
    total, cosines = np.zeros(len(crops[0])), list[float]()
    for units, norms in vectors:
        total += raw_sum(units, norms)
        # One dot product per row and crop: equal vectors get equal scores, wherever they lie.
        cosines += [max(float(vector @ crop) for crop in crops) for vector in units.astype(np.float64)]
    first = int(np.argmax(cosines))
    best = min(1.0, max(-1.0, cosines[first]))
    return PersonHit(name, cosine(total, crops) if by == "centroid" else best, len(seqs), int(seqs[first]), best)


def _estimated(segment: Segment, mask: Mask, crop: Floats, count: int) -> tuple[Rows, Floats]:
    if isinstance(segment.index, CodeIndex):
        return segment.index.search(crop, count, mask)
    rows: Rows = np.flatnonzero(mask)  # few, or else they would have codes
    return rows, segment.index.cosines(crop)[rows]


def _rows_of(masks: Masks, persons: dict[str, int]) -> _Rows:
    """The rows that count of these persons, by their numbers."""
    found = [np.empty((4, 0), dtype=np.int64)]
    for place, (segment, mask) in enumerate(masks):
        codes = segment.columns.persons.coded(persons)
        rows = np.flatnonzero(mask & (codes >= 0))
        found.append(np.stack([codes[rows], segment.seqs[rows], np.full(len(rows), place), rows]))
    return np.concatenate(found, axis=1)


def _vectors(segments: Sequence[Segment], rows: _Rows, stored: Stored) -> tuple[Floats, Floats]:
    """Unit vectors and raw norms of some rows, at least one; those that have codes alone come from the database."""
    units = np.empty((rows.shape[1], segments[0].index.dim), dtype=np.float32)
    norms = np.empty(rows.shape[1], dtype=np.float32)
    for place in np.unique(rows[2]).tolist():
        here, index = rows[2] == place, segments[place].index
        units[here] = index.vectors(rows[3, here]) if isinstance(index, ExactIndex) else stored(rows[1, here])
        norms[here] = segments[place].norms[rows[3, here]]
    return units, norms


def _batches(everyone: Sequence[_Rows]) -> Iterator[list[_Rows]]:
    """Persons whose rows are read at once: up to `ROWS`, or one person."""
    batch, count = list[_Rows](), 0
    for own in everyone:
        if batch and count + own.shape[1] > ROWS:
            yield batch
            batch, count = [], 0
        batch.append(own)
        count += own.shape[1]
    if batch:
        yield batch


def _with_vectors(
    batch: Sequence[_Rows], segments: Sequence[Segment], stored: Stored
) -> Iterator[tuple[_Rows, Iterable[tuple[Floats, Floats]]]]:
    """Each person's rows and their vectors, in pieces that begin with the person's first row: sums depend on that."""
    if len(batch) == 1:
        yield batch[0], (_vectors(segments, piece, stored) for piece in _pieces(batch[0]))
        return
    units, norms = _vectors(segments, np.concatenate(batch, axis=1), stored)
    end = 0
    for own in batch:
        start, end = end, end + own.shape[1]
        yield own, [(units[start:end], norms[start:end])]


def _none_stored(seqs: Sequences) -> Floats:
    raise RuntimeError("sums are made of vectors in memory alone")


def _pieces(rows: _Rows) -> Iterator[_Rows]:
    for start in range(0, rows.shape[1], ROWS):
        yield rows[:, start : start + ROWS]


def _numbered(texts: Iterable[str]) -> dict[str, int]:
    return {text: number for number, text in enumerate(dict.fromkeys(texts))}


def _kth(scores: Doubles, k: int) -> float:
    """The k-th largest; below all of them where there are fewer."""
    return float(np.partition(scores, -k)[-k]) if len(scores) > k else -np.inf
