"""A made-up crowd of any size, a piece at a time, and who in it is truly nearest.

Vectors are an identity that persons share out of 96 numbers, a look out of 64 that changes from crop to crop, and noise:
clustered, as a network's are. Every piece is made from its own seed, so that it can be made again instead of being kept.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from app.core.metrics import Doubles, Floats, Ints
from app.core.records import Filter, Item

PER_PERSON = 16
_IDENTITY, _LOOK = 96, 64  # numbers that are mixed into dim
_LOOKS, _NOISE = 0.6, 0.5  # beside an identity of 1: crops of a person have a cosine of about 0.6
_BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
PIECE = 1024  # rows made at a time: 8 MiB at 2048 numbers


@dataclass(frozen=True, slots=True)
class Size:
    """Of the crowd."""

    rows: int = 100_000
    queries: int = 200
    dim: int = 2048
    cameras: int = 8
    seed: int = 0


class Crowd:
    """Row i is of person i modulo their number, so that each one's crops lie far apart, as in a gallery that grew."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.persons = max(1, size.rows // PER_PERSON)
        rng = np.random.default_rng(size.seed)
        self._identities = rng.standard_normal((self.persons, _IDENTITY), dtype=np.float32)
        self._mix = rng.standard_normal((_IDENTITY, size.dim), dtype=np.float32) / np.float32(np.sqrt(_IDENTITY))
        self._looks = rng.standard_normal((_LOOK, size.dim), dtype=np.float32) / np.float32(np.sqrt(_LOOK))

    def pieces(self) -> Iterator[tuple[int, Floats]]:
        """The first row of each piece, and its raw vectors float32 [n, dim]."""
        for start in range(0, self.size.rows, PIECE):
            rows = np.arange(start, min(start + PIECE, self.size.rows))
            yield start, self._drawn(rows % self.persons, np.random.default_rng([self.size.seed, 1, start]))

    def queries(self) -> tuple[Floats, Ints]:
        """Unit vectors float32 [n, dim] of new crops of persons in the crowd, and their cameras."""
        rng = np.random.default_rng([self.size.seed, 2])
        drawn = self._drawn(rng.integers(self.persons, size=self.size.queries), rng)
        unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return np.asarray(unit, dtype=np.float32), rng.integers(self.size.cameras, size=self.size.queries)

    def cameras(self, rows: Ints) -> Ints:
        """Whose picture each row is: a person's crops go round the cameras."""
        return rows // self.persons % self.size.cameras

    def items(self, start: int, count: int) -> list[Item]:
        """The rows' items, a second apart."""
        rows = np.arange(start, start + count)
        cameras = self.cameras(rows).tolist()
        return [
            Item(
                str(row),
                f"{row:064x}",
                str(row % self.persons),
                str(camera),
                captured_at(row),
                f"{row % self.persons:06d}_c{camera}_f{row:09d}.jpg",
            )
            for row, camera in zip(rows.tolist(), cameras, strict=True)
        ]

    def _drawn(self, persons: Ints, rng: np.random.Generator) -> Floats:
        vectors = self._identities[persons] @ self._mix
        vectors += _LOOKS * (rng.standard_normal((len(persons), _LOOK), dtype=np.float32) @ self._looks)
        vectors += _NOISE * rng.standard_normal(vectors.shape, dtype=np.float32)
        return np.asarray(vectors, dtype=np.float32)


def captured_at(row: int) -> datetime:
    """When a row's crop was taken."""
    return _BEGUN + timedelta(seconds=row)


@dataclass(frozen=True, slots=True)
class Ask:
    """A kind of search: its filter for each query, and the same as a mask over rows [queries, n]."""

    name: str
    where: Callable[[int], Filter]
    accepted: Callable[[Ints], np.ndarray]


def asks(crowd: Crowd, cameras: Ints) -> list[Ask]:
    """Without a filter; not the query's camera; and a window of time that holds one row in a thousand."""
    rows, queries = crowd.size.rows, crowd.size.queries
    length = max(1, rows // 1000)
    starts = np.random.default_rng([crowd.size.seed, 3]).integers(rows - length + 1, size=queries)

    def window(query: int) -> Filter:
        first = int(starts[query])
        return Filter(captured_from=captured_at(first), captured_to=captured_at(first + length))

    return [
        Ask("all", lambda query: Filter(), lambda rows: np.ones((queries, len(rows)), dtype=bool)),
        Ask(
            "not the query's camera",
            lambda query: Filter(not_camera=str(cameras[query])),
            lambda rows: crowd.cameras(rows)[None] != cameras[:, None],
        ),
        Ask(
            "one in a thousand",
            window,
            lambda rows: (rows[None] >= starts[:, None]) & (rows[None] < starts[:, None] + length),
        ),
    ]


class Nearest:
    """The k truly nearest accepted rows of each query, found a piece at a time by plain products."""

    def __init__(self, queries: Floats, k: int, kinds: Sequence[Ask]) -> None:
        self._queries, self._kinds = queries, kinds
        self._rows = {ask.name: np.full((len(queries), k), -1) for ask in kinds}
        self._scores: dict[str, Doubles] = {ask.name: np.full((len(queries), k), -np.inf) for ask in kinds}

    def see(self, start: int, units: Floats) -> None:
        """Rows from `start` on, unit float32 [n, dim]."""
        rows = np.arange(start, start + len(units))
        products = (units @ self._queries.T).T.astype(np.float64)
        for ask in self._kinds:
            scores = np.where(ask.accepted(rows), products, -np.inf)
            self._keep(ask.name, np.broadcast_to(rows, scores.shape), scores)

    def recall(self, name: str, query: int, found: Sequence[str]) -> float:
        """The share of a query's nearest rows that were found, by their ids."""
        wanted = {str(row) for row in self._rows[name][query].tolist() if row >= 0}
        return len(wanted & set(found)) / len(wanted) if wanted else 1.0

    def _keep(self, name: str, rows: Ints, scores: Doubles) -> None:
        k = self._rows[name].shape[1]
        rows = np.concatenate([self._rows[name], rows], axis=1)
        scores = np.concatenate([self._scores[name], scores], axis=1)
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        self._scores[name] = np.take_along_axis(scores, best, axis=1)
        self._rows[name] = np.where(np.isinf(self._scores[name]), -1, np.take_along_axis(rows, best, axis=1))
