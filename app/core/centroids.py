"""A person's centroid: the mean of the raw vectors of its crops. One definition for search and for evaluation.

Raw, not unit vectors: a long vector weighs more. The mean is not normalised here; cosines do not ask for it. Where crops
are left out (those of the query's camera, those that a filter refuses) the mean is taken over the kept ones directly, never
as a difference of sums, whose rounding would be that of the crops left out.
Source: Wieczorek et al., "On the Unreasonable Effectiveness of Centroids in Image Retrieval", 2021.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from app.core.metrics import Doubles, Floats, Ints

ROWS = 1024  # vectors at a time: 16 MiB in float64 at 2048 numbers
MOST_CAMERAS = 64  # whose lengths are kept; those of others are measured for each search
NEAR = 1e-5  # a float32 product of 2048 numbers with a unit vector is off by less, for each unit of length


def centroid(vectors: Floats) -> Floats:
    """The mean float32 [dim] of raw vectors float32 [n, dim], n at least 1; summed in float64.

    >>> centroid(np.array([[1, 0], [0, 3]], dtype=np.float32))
    array([0.5, 1.5], dtype=float32)
    """
    return np.asarray(vectors.mean(axis=0, dtype=np.float64), dtype=np.float32)


def raw_sum(units: Floats, norms: Floats) -> Doubles:
    """The sum float64 [dim] of raw vectors that are kept as unit vectors float32 [n, dim] and lengths float32 [n]."""
    return np.asarray((units.astype(np.float64) * norms.astype(np.float64)[:, None]).sum(axis=0))


def cosine(total: Doubles, crops: Sequence[Doubles]) -> float:
    """Of a centroid, given as any multiple of it, and the nearest of some unit vectors float64 [dim].

    0 where the person's crops cancel out: such a centroid points nowhere.
    """
    length = float(np.linalg.norm(total))
    return min(1.0, max(-1.0, max(float(total @ crop) for crop in crops) / length)) if length else 0.0


@dataclass(frozen=True, slots=True)
class PersonSums:
    """Sums of raw vectors by person and camera: all centroids that leave a camera out, at the price of one product.

    sums: float32 [g, dim], a row for each person and camera of it, by person and then by camera; pids, camids: int64 [g].
    """

    sums: Floats
    pids: Ints
    camids: Ints
    _lengths: dict[int | None, "_Lengths"] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, pids: Ints, camids: Ints, raw: Callable[[Ints], Floats], dim: int) -> "PersonSums":
        """Of rows with these labels int64 [n]; `raw` gives the raw vectors float32 [m, dim] of some rows, by their places.

        Any two numbers that differ are two persons or cameras; crops of an unknown person must not be among the rows.
        """
        rows: Ints = np.lexsort((camids, pids))  # stable
        labels = np.stack([pids[rows], camids[rows]], axis=1)
        new = np.ones(len(rows), dtype=bool)
        new[1:] = (labels[1:] != labels[:-1]).any(axis=1)
        group = np.cumsum(new) - 1
        sums = np.zeros((int(np.count_nonzero(new)), dim), dtype=np.float32)
        for start in range(0, len(rows), ROWS):
            some = group[start : start + ROWS]
            cuts = np.flatnonzero(np.diff(some)) + 1
            for part in np.split(raw(rows[start : start + ROWS]), cuts):  # ten times faster than np.add.reduceat
                sums[some[0]] += part.sum(axis=0, dtype=np.float64)
                some = some[len(part) :]
        return cls(sums, labels[new, 0], labels[new, 1])

    def scores(self, crop: Floats, without: int | None = None) -> tuple[Ints, Doubles, Doubles]:
        """Persons with a row outside the camera `without`, ascending; the cosine of each one's centroid with a unit vector
        float32 [dim]; and how far that may be off, since it is a float32 product: infinity where it says nothing.
        """
        known = self._lengths.get(without)
        if known is None:  # two threads may both make it: they make the same
            known = self._measured(without)
            if len(self._lengths) < MOST_CAMERAS:
                self._lengths[without] = known
        products = np.bincount(known.person, weights=(self.sums @ crop)[known.kept], minlength=len(known.pids))
        with np.errstate(divide="ignore", invalid="ignore"):
            cosines, off = products / known.total, NEAR * known.parts / known.total
        nowhere = ~(known.total > 0)
        return known.pids, np.where(nowhere, 0, cosines), np.where(nowhere, np.inf, off)

    def _measured(self, without: int | None) -> "_Lengths":
        kept: Ints = np.flatnonzero(self.camids != without) if without is not None else np.arange(len(self.pids))
        pids, first, person = np.unique(self.pids[kept], return_index=True, return_inverse=True)
        groups = np.split(kept, first[1:]) if len(kept) else []
        total = [np.linalg.norm(self.sums[rows].sum(axis=0, dtype=np.float64)) for rows in groups]
        parts = np.concatenate([[0.0], *(np.linalg.norm(self.sums[rows], axis=1) for rows in _pieces(kept))])[1:]
        together = np.asarray(np.bincount(person, weights=parts, minlength=len(pids)), dtype=np.float64)
        return _Lengths(kept, person, pids, np.array(total, dtype=np.float64), together)


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Of the sums that are left without one camera. kept: their rows; person: the place in `pids` of each.

    total: the length of each person's sum; parts: the sum of the lengths of what it consists of.
    """

    kept: Ints
    person: Ints
    pids: Ints
    total: Doubles
    parts: Doubles


def _pieces(rows: Ints) -> Iterator[Ints]:
    for start in range(0, len(rows), ROWS):
        yield rows[start : start + ROWS]
