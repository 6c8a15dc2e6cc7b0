"""Searches whose right answer is known: each labelled crop of a gallery asked as a query, and the scores that it gets.

As in a live search with `camera_id`, every row of the query's own camera is left out. Each search is read twice: with the
person present, and with the person taken out, as if somebody came who is not in the gallery (open set). A negative number
for the person means nobody (background, passers-by without a name): such rows are found by mistake and never asked for.
A negative number for the camera means unknown: such rows are not asked for either, and since they may be of the query's own
camera, they do not count as finding their own person.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.core.metrics import Floats, Ints, Labelled, Mask, lengths, unit

Kind = Literal["item", "person", "pair"]
NOBODY = -1
NOTHING = -np.inf  # the score of a side that had no row
MOST, SEED = 4000, 0  # queries of a collection: about 3 s of products at 17,661 x 2048, and enough for an FPIR of 0.1 %
_OTHERS = 4  # pairs of two persons per crop: small rates of false matches need many of them
_SCORES, _FEWEST, _MOST_ROWS = 2**24, 16, 256  # scores at a time: at most 64 MB (or 16 queries), 18 MB at 17,661 rows
_PAIRS = 1024  # pairs at a time: 16 MB at 2048 numbers a vector


@dataclass(frozen=True, slots=True)
class Trials:
    """One row a search (or pair): whose crop it was, its best score with the right person and with anybody else.

    pids, found: int64 [n], the query's person and the best other one, `NOBODY` for none. genuine, impostor: float32 [n],
    `NOTHING` where the person has no row that counts (nobody else has one). A pair has one of the two scores.
    asked, possible: crops that were asked, of those that could be. gallery: rows.
    """

    kind: Kind
    pids: Ints
    genuine: Floats
    impostor: Floats
    found: Ints
    asked: int
    possible: int
    gallery: int

    def __post_init__(self) -> None:
        counts = [len(self.pids), len(self.genuine), len(self.impostor), len(self.found)]
        if len(set(counts)) > 1:
            raise ValueError("{} persons, {} genuine and {} impostor scores, {} found persons".format(*counts))
        for name, scores in (("genuine", self.genuine), ("impostor", self.impostor)):
            if not (scores < np.inf).all():
                raise ValueError(f"one of the {name} scores is no number below infinity")

    @property
    def present(self) -> Mask:
        """Searches for a person who could be found."""
        return self.genuine > NOTHING

    @property
    def absent(self) -> Mask:
        """Searches that, their person taken out, still had somebody to find."""
        return self.impostor > NOTHING

    @property
    def top(self) -> Floats:
        """The score of the best row of all."""
        return np.maximum(self.genuine, self.impostor)

    @property
    def right(self) -> Mask:
        """Whether the best row is the person's. On a tie it may be either, so that it counts as wrong."""
        return self.genuine > self.impostor

    def where(self, chosen: Mask | Ints) -> "Trials":
        """Some of the rows, or all in another order."""
        rows = (self.pids[chosen], self.genuine[chosen], self.impostor[chosen], self.found[chosen])
        return Trials(self.kind, *rows, self.asked, self.possible, self.gallery)


def persons_seen_by_two(gallery: Labelled) -> int:
    """How many persons have rows in two cameras or more: those who can be found at all when a query's camera is left out."""
    return len(np.unique(gallery.pids[_of_two_cameras(gallery)]))


def search_trials(gallery: Labelled, most: int = MOST, seed: int = SEED) -> Trials:
    """Leave-one-out searches for items. vectors: float32 [n, dim], raw or unit; they are not copied.

    Of a large gallery `draw_queries` says which crops are asked. Raises ValueError for vectors that hold a number that is
    not finite.
    """
    _require_finite(gallery.vectors)
    asked, possible = draw_queries(gallery, most, seed)
    genuine, impostor = (np.full(len(asked), NOTHING, dtype=np.float32) for _ in range(2))
    found = np.full(len(asked), NOBODY, dtype=np.int64)
    known = gallery.camids >= 0
    for some, scores in _scores(gallery, asked):
        queries = asked[some]
        scores[gallery.camids == gallery.camids[queries, None]] = NOTHING
        own = gallery.pids == gallery.pids[queries, None]
        genuine[some] = scores.max(axis=1, where=own & known, initial=NOTHING)
        scores[own] = NOTHING
        impostor[some] = scores.max(axis=1, initial=NOTHING)
        for i, row in enumerate(scores, some.start):
            if impostor[i] > NOTHING:
                found[i] = gallery.pids[row == impostor[i]].min()  # on a tie one that does not depend on the order
    return Trials("item", gallery.pids[asked], genuine, impostor, found, len(asked), possible, len(gallery.pids))


def pair_trials(gallery: Labelled, most: int = MOST, seed: int = SEED) -> Trials:
    """Pairs of crops from two cameras, for 1:1: for each crop one of the same person and four with others, drawn by the seed.

    Crops are drawn as in `search_trials`; a pair that comes up from both of its ends counts once.
    """
    _require_finite(gallery.vectors)
    asked, possible = draw_queries(gallery, most, seed)
    rng = np.random.default_rng((seed, 1))
    mates, others = [], []
    for place in asked.tolist():
        elsewhere = gallery.camids != gallery.camids[place]
        own = gallery.pids == gallery.pids[place]
        mates += _some(rng, place, np.flatnonzero(elsewhere & own & (gallery.camids >= 0)), 1)
        others += _some(rng, place, np.flatnonzero(elsewhere & ~own), _OTHERS)
    same, different = _once(mates), _once(others)
    return Trials(
        kind="pair",
        pids=gallery.pids[np.concatenate([same[:, 0], different[:, 0]])],
        genuine=_beside_nothing(_cosines(gallery.vectors, same), len(different)),
        impostor=_beside_nothing(_cosines(gallery.vectors, different), -len(same)),
        found=np.concatenate([np.full(len(same), NOBODY), gallery.pids[different[:, 1]]]),
        asked=len(asked),
        possible=possible,
        gallery=len(gallery.pids),
    )


def _require_finite(vectors: Floats) -> None:
    with np.errstate(invalid="ignore"):  # infinities of both signs
        sums = vectors.sum(axis=1, dtype=np.float64)
    if not np.isfinite(sums).all():
        raise ValueError(f"vector {int(np.flatnonzero(~np.isfinite(sums))[0])} holds a number that is not finite")


def draw_queries(gallery: Labelled, most: int = MOST, seed: int = SEED) -> tuple[Ints, int]:
    """The places of the crops to ask, ascending, and how many could be asked.

    Where there are more than `most`: the persons in turn, one crop each, until there are enough, half of the crops of
    persons seen by two cameras if there are as many.
    """
    of_two = _of_two_cameras(gallery)
    two, one = np.flatnonzero(of_two), np.flatnonzero(_askable(gallery) & ~of_two)
    # Both kinds of persons are needed, however rare one of them is: only the first can be found.
    for_one = min(len(one), max(most // 2, most - len(two)))
    rng = np.random.default_rng(seed)
    drawn = [_in_turn(two, gallery.pids, most - for_one, rng), _in_turn(one, gallery.pids, for_one, rng)]
    return np.sort(np.concatenate(drawn)), len(two) + len(one)


def _askable(gallery: Labelled) -> Mask:
    return (gallery.pids >= 0) & (gallery.camids >= 0)


def _of_two_cameras(gallery: Labelled) -> Mask:
    """The crops of persons who were seen by two cameras."""
    askable = _askable(gallery)
    seen = np.unique(np.stack([gallery.pids[askable], gallery.camids[askable]], axis=1), axis=0)
    persons, cameras = np.unique(seen[:, 0], return_counts=True)
    return np.isin(gallery.pids, persons[cameras > 1]) & askable


def _in_turn(places: Ints, pids: Ints, most: int, rng: np.random.Generator) -> Ints:
    """Some of the places: one of every person, then a second one, and so on."""
    if len(places) <= most:
        return places
    mixed = rng.permutation(places)
    by_person = mixed[np.argsort(pids[mixed], kind="stable")]
    _, first, counts = np.unique(pids[by_person], return_index=True, return_counts=True)
    turn = np.arange(len(by_person)) - np.repeat(first, counts)
    return by_person[np.lexsort((rng.random(len(turn)), turn))[:most]]


def _scores(gallery: Labelled, asked: Ints) -> Iterator[tuple[slice, Floats]]:
    """Cosines of some of the queries with all rows, at a time. Rows are scaled by score, not normalised as a copy."""
    scale = 1 / lengths(gallery.vectors)
    step = min(max(_SCORES // max(len(scale), 1), _FEWEST), _MOST_ROWS)
    for start in range(0, len(asked), step):
        some = slice(start, min(start + step, len(asked)))
        scores = unit(gallery.vectors[asked[some]]) @ gallery.vectors.T
        scores *= scale
        yield some, scores


def _some(rng: np.random.Generator, place: int, candidates: Ints, most: int) -> list[tuple[int, int]]:
    drawn = rng.choice(candidates, min(most, len(candidates)), replace=False)
    return [(place, other) for other in drawn.tolist()]


def _once(pairs: list[tuple[int, int]]) -> Ints:
    """int64 [n, 2], each pair once whichever end came first; the first of a pair stays its first."""
    both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    _, first = np.unique(np.sort(both, axis=1), axis=0, return_index=True)
    return both[np.sort(first)]


def _cosines(vectors: Floats, pairs: Ints) -> Floats:
    cosines = np.empty(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), _PAIRS):
        left, right = pairs[start : start + _PAIRS].T
        cosines[start : start + _PAIRS] = np.einsum("nd,nd->n", unit(vectors[left]), unit(vectors[right]))
    return cosines


def _beside_nothing(scores: Floats, count: int) -> Floats:
    """The scores followed by so many times `NOTHING`; preceded where the count is negative."""
    return np.pad(scores, (max(-count, 0), max(count, 0)), constant_values=NOTHING)
