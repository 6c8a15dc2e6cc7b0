"""Adapters without a library or a disk: an embedder that can be worked out by hand, and the exact reference store."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from app.adapters.checks import (
    checked_collection,
    checked_crops,
    checked_items,
    checked_person,
    checked_queries,
    in_utc,
    units_and_norms,
)
from app.adapters.memory_audit import MemoryAudit
from app.adapters.memory_records import MemoryCalibrations, MemoryJobs
from app.core.audit import Action, Erasure
from app.core.centroids import cosine, raw_sum
from app.core.jobs import Progress
from app.core.preprocess import HEIGHT, Crop
from app.core.records import (
    Collection,
    Filter,
    IndexFacts,
    Item,
    Match,
    Merge,
    Outcome,
    Person,
    PersonMatch,
    PersonScore,
    Retention,
    check_text,
)
from app.errors import NothingToUndo, UnknownCollection, UnknownItem, UnknownPerson
from app.ports import Crops, Floats, RunTimes

BANDS = 4


class MemoryEmbedder:
    """Mean red, green and blue of four bands from above to below, each over 255, and a one: 13 numbers.

    A wholly red crop gives [1, 0, 0] four times, then 1. The one keeps a black crop from being a vector of zeros.
    """

    fingerprint = "memory-mean-colour-of-4-bands"
    batch_sizes = (1, 2, 4, 8)
    last_run: RunTimes | None = None

    @property
    def dim(self) -> int:
        """13."""
        return BANDS * 3 + 1

    def embed(self, crops: Crops) -> Floats:
        """uint8 [n, 256, 128, 3] to float32 [n, 13]."""
        bands = np.asarray(crops).reshape(len(crops), BANDS, HEIGHT // BANDS, -1, 3)
        means = bands.mean(axis=(2, 3), dtype=np.float64).reshape(len(crops), -1) / 255
        return np.hstack([means, np.ones((len(crops), 1))]).astype(np.float32)

    def close(self) -> None:
        """Nothing is held."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Row:
    item: Item
    vector: Floats
    norm: float
    crop: Crop | None
    added_at: datetime


@dataclass(slots=True)
class _Merged:
    merge: Merge
    rows: list[_Row] = field(default_factory=list)


class MemoryStore:
    """`GalleryStore` as obvious as it gets: a dict per collection, every search over all rows in float64."""

    deriving: Progress | None = None

    def __init__(self, clock: Callable[[], datetime] = _now) -> None:
        self._lock = threading.RLock()  # one call at a time sees and changes the dicts
        self._clock = clock
        self._collections: dict[str, Collection] = {}
        self._rows: dict[str, dict[str, _Row]] = {}
        self._merges: dict[str, _Merged] = {}
        self.audit = MemoryAudit()
        self.jobs = MemoryJobs()
        self.calibrations = MemoryCalibrations(self._lock, self.collection)

    def put_collection(self, collection: Collection) -> Collection:
        """As the port says."""
        with self._lock:
            self._rows.setdefault(collection.name, {})
            return self._collections.setdefault(collection.name, checked_collection(collection))

    def collection(self, name: str) -> Collection:
        """As the port says."""
        with self._lock:
            self._of(name)
            return self._collections[name]

    def collections(self) -> list[Collection]:
        """As the port says."""
        with self._lock:
            return [self._collections[name] for name in sorted(self._collections)]

    def delete_collection(self, name: str) -> None:
        """As the port says."""
        with self._lock:
            count = len(self._of(name))
            del self._collections[name], self._rows[name]
            self._merges.pop(name, None)
            self.calibrations.forget(name)
            self.audit.append(self._clock(), "delete_collection", name, {"items": count})

    def derive(self) -> None:
        """Nothing is derived."""

    def keep(self, name: str, retention: Retention) -> Collection:
        """As the port says."""
        with self._lock:
            self._collections[name] = replace(self.collection(name), retention=retention)
            return self._collections[name]

    def count(self, name: str) -> int:
        """As the port says."""
        with self._lock:
            return len(self._of(name))

    def upsert(
        self, name: str, items: Sequence[Item], vectors: Floats, crops: Sequence[Crop] | None = None
    ) -> list[Outcome]:
        """As the port says."""
        with self._lock:
            collection, rows = self.collection(name), self._of(name)
            kept = checked_items(items)
            units, norms = units_and_norms(vectors, len(kept), collection.dim)
            pixels = checked_crops(crops, len(kept)) if collection.keep_crops else None
            outcomes: list[Outcome] = []
            persons, changed, now = set[str | None](), dict[str, None](), self._clock()
            for position, item in enumerate(kept):
                stored = rows.get(item.id)
                if stored is not None and stored.item == item:
                    outcomes.append("unchanged")
                    continue
                crop = None if pixels is None else pixels[position].copy()
                added_at = now if stored is None else stored.added_at
                # A key that is there already keeps its place in the dict.
                rows[item.id] = _Row(item, units[position], float(norms[position]), crop, added_at)
                outcomes.append("added" if stored is None else "updated")
                persons |= {item.person_id, None if stored is None else stored.item.person_id}
                changed[item.id] = None
            if changed:
                details = {outcome: outcomes.count(outcome) for outcome in ("added", "updated")}
                self.audit.append(now, "add", name, details, changed, persons)
            return outcomes

    def correct(self, name: str, item: Item) -> Item:
        """As the port says."""
        (kept,) = checked_items([item])
        with self._lock:
            row = self._row(name, item.id)
            if row.item != kept:
                persons = {row.item.person_id, kept.person_id}
                row.item = kept
                self.audit.append(self._clock(), "correct", name, {"items": 1}, [item.id], persons)
            return kept

    def get(self, name: str, ids: Sequence[str]) -> list[Item | None]:
        """As the port says."""
        with self._lock:
            rows = self._of(name)
            return [rows[item_id].item if item_id in rows else None for item_id in ids]

    def vectors(self, name: str, ids: Sequence[str]) -> tuple[Floats, Floats]:
        """As the port says."""
        with self._lock:
            rows = [self._row(name, item_id) for item_id in ids]
            dim = self._collections[name].dim
            stacked = np.array([row.vector for row in rows], dtype=np.float32).reshape(len(rows), dim)
            return stacked, np.array([row.norm for row in rows], dtype=np.float32)

    def crop(self, name: str, item_id: str) -> Crop | None:
        """As the port says."""
        with self._lock:
            crop = self._row(name, item_id).crop
            return None if crop is None else crop.copy()

    def scan(self, name: str, where: Filter, after: str | None = None, limit: int = 100) -> list[Item]:
        """As the port says. Raises UnknownItem where there is no item `after`."""
        with self._lock:
            items = [row.item for row in self._of(name).values()]
            start = 0 if after is None else items.index(self._row(name, after).item) + 1
            return [item for item in items[start:] if where.accepts(item)][:limit]

    def delete(self, name: str, where: Filter) -> int:
        """As the port says."""
        with self._lock:
            return len(
                self._remove(name, [row for row in self._of(name).values() if where.accepts(row.item)], "delete")
            )

    def erase(self, name: str, where: Filter) -> Erasure:
        """As the port says."""
        with self._lock:
            rows = self._remove(name, [row for row in self._of(name).values() if where.accepts(row.item)], "erase")
            people = {row.item.person_id for row in rows} | (where.persons or frozenset())
            merged = self._merges.get(name)
            if merged and {merged.merge.person_id, merged.merge.into} & people:
                del self._merges[name]
            line = self.audit.lines(self.audit.verify().seq - 1)[0]
            return Erasure(len(rows), line.at, self.audit.verify())

    def expire(self, name: str, now: datetime) -> int:
        """As the port says."""
        with self._lock:
            kept, rows, today = self.collection(name).retention, list(self._of(name).values()), in_utc(now)

            def is_old(row: _Row) -> bool:
                days = kept.cameras.get(row.item.camera_id or "", kept.keep_days)
                return days is not None and row.added_at <= today - timedelta(days=days)

            return len(self._remove(name, [row for row in rows if is_old(row)], "expire", today))

    def persons(self, name: str, after: str | None = None, limit: int = 100) -> list[Person]:
        """As the port says."""
        check_text("after", after or "")
        with self._lock:
            everybody = sorted(
                {row.item.person_id for row in self._of(name).values() if row.item.person_id is not None}
            )
            return [self.person(name, person) for person in everybody if after is None or person > after][:limit]

    def person(self, name: str, person_id: str) -> Person:
        """As the port says."""
        with self._lock:
            own = [row.item for row in self._of(name).values() if row.item.person_id == person_id]
            if not own:
                raise UnknownPerson(name, person_id)
            times = [item.captured_at for item in own if item.captured_at is not None]
            cameras = sorted({item.camera_id for item in own if item.camera_id is not None})
            return Person(person_id, len(own), tuple(cameras), min(times, default=None), max(times, default=None))

    def move(self, name: str, where: Filter, person_id: str | None) -> int:
        """As the port says."""
        check_text("person_id", person_id or "")
        with self._lock:
            rows = [row for row in self._of(name).values() if where.accepts(row.item)]
            return len(self._move(name, rows, person_id, "move"))

    def merge(self, name: str, person_id: str, into: str) -> Merge:
        """As the port says."""
        with self._lock:
            self.person(name, person_id)
            self.person(name, into)
            rows = [row for row in self._of(name).values() if row.item.person_id == person_id]
            merge = Merge(person_id, into, len(self._move(name, rows, into, "merge")))
            if person_id != into:
                self._merges[name] = _Merged(merge, rows)
            return merge

    def undo_merge(self, name: str) -> Merge:
        """As the port says."""
        with self._lock:
            rows = self._of(name)
            if name not in self._merges:
                raise NothingToUndo(name)
            merged = self._merges.pop(name)
            merge = merged.merge
            there = [row for row in merged.rows if rows.get(row.item.id) is row and row.item.person_id == merge.into]
            return replace(merge, items=len(self._move(name, there, merge.person_id, "undo_merge")))

    def index(self, name: str) -> IndexFacts:
        """As the port says."""
        with self._lock:
            rows = self._of(name).values()
            return IndexFacts("exact", len(rows), 0, sum(row.vector.nbytes for row in rows), pending=False)

    def search(self, name: str, queries: Floats, k: int, where: Filter, exact: bool = False) -> list[list[Match]]:
        """As the port says."""
        collection, rows = self._accepted(name, where)
        checked = checked_queries(queries, k, collection.dim)
        return [[match for match, _ in _ranked(rows, query[None])][:k] for query in checked]

    def shortlist(
        self, name: str, crops: Floats, k: int, where: Filter, exact: bool = False
    ) -> tuple[list[Match], Floats]:
        """As the port says."""
        collection, rows = self._accepted(name, where)
        best = _ranked(rows, checked_person(crops, k, collection.dim))[:k]
        vectors = np.array([vector for _, vector in best], dtype=np.float32)
        return [match for match, _ in best], vectors.reshape(len(best), collection.dim)

    def search_persons(
        self, name: str, crops: Floats, k: int, where: Filter, score: PersonScore = "centroid", exact: bool = False
    ) -> list[PersonMatch]:
        """As the port says."""
        collection, rows = self._accepted(name, where)
        wide = list(checked_person(crops, k, collection.dim).astype(np.float64))
        persons: dict[str, list[_Row]] = {}  # in the order of their first items
        for row in rows:
            if row.item.person_id is not None:
                persons.setdefault(row.item.person_id, []).append(row)
        found = []
        for person_id, own in persons.items():
            best, _ = _ranked(own, crops)[0]
            norms = np.array([row.norm for row in own], dtype=np.float32)
            total = raw_sum(np.stack([row.vector for row in own]), norms)
            of_person = cosine(total, wide) if score == "centroid" else best.score
            found.append(PersonMatch(person_id, of_person, len(own), best))
        return sorted(found, key=lambda match: -match.score)[:k]  # stable

    def close(self) -> None:
        """Nothing is held."""

    def _remove(self, name: str, doomed: list[_Row], action: Action, now: datetime | None = None) -> list[_Row]:
        for row in doomed:
            del self._of(name)[row.item.id]
        if doomed or action == "erase":
            items, persons = [row.item.id for row in doomed], {row.item.person_id for row in doomed}
            self.audit.append(now or self._clock(), action, name, {"items": len(doomed)}, items, persons)
        return doomed

    def _move(self, name: str, rows: Sequence[_Row], person_id: str | None, action: Action) -> list[_Row]:
        moved = [row for row in rows if row.item.person_id != person_id]
        persons = {row.item.person_id for row in moved} | {person_id}
        for row in moved:
            row.item = replace(row.item, person_id=person_id)
        if moved:
            self.audit.append(self._clock(), action, name, {"items": len(moved)}, [r.item.id for r in moved], persons)
        return moved

    def _accepted(self, name: str, where: Filter) -> tuple[Collection, list[_Row]]:
        with self._lock:
            return self.collection(name), [row for row in self._of(name).values() if where.accepts(row.item)]

    def _of(self, name: str) -> dict[str, _Row]:
        if name not in self._rows:
            raise UnknownCollection(name)
        return self._rows[name]

    def _row(self, name: str, item_id: str) -> _Row:
        try:
            return self._of(name)[item_id]
        except KeyError as error:
            raise UnknownItem(name, item_id) from error


def _ranked(rows: Sequence[_Row], crops: Floats) -> list[tuple[Match, Floats]]:
    """All rows, best first, each with its vector; a row's score is its best over the crops."""
    scores = [max(_cosine(row.vector, crop) for crop in crops) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: -scores[i])  # stable: ties keep the order added
    return [(Match(rows[i].item, scores[i]), rows[i].vector) for i in order]


def _cosine(vector: Floats, query: Floats) -> float:
    """Of two unit vectors; the last bit of float32 must not carry it past 1."""
    return min(1.0, max(-1.0, float(vector.astype(np.float64) @ query.astype(np.float64))))
