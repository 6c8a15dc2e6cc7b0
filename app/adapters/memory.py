"""Adapters without a library or a disk: an embedder that can be worked out by hand, and the exact reference store."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import numpy as np

from app.adapters.checks import (
    checked_collection,
    checked_crops,
    checked_items,
    checked_person,
    checked_queries,
    checked_retention,
    in_utc,
    units_and_norms,
)
from app.adapters.memory_audit import MemoryAudit
from app.adapters.memory_embedder import MemoryEmbedder
from app.adapters.memory_records import MemoryCalibrations, MemoryJobs
from app.adapters.memory_rows import Row, of_person, ranked
from app.adapters.memory_upkeep import MemoryUpkeep
from app.core.audit import Action, Erasure
from app.core.erasing import Names
from app.core.jobs import Progress
from app.core.preprocess import Crop
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
from app.errors import NothingToUndo, PersonExists, UnknownCollection, UnknownItem, UnknownPerson
from app.ports import Floats

__all__ = ["MemoryEmbedder", "MemoryStore"]


def _now() -> datetime:
    return datetime.now(UTC)


class MemoryStore:
    """`GalleryStore` as obvious as it gets: a dict per collection, every search over all rows in float64."""

    deriving: Progress | None = None

    def __init__(self, clock: Callable[[], datetime] = _now) -> None:
        self._lock = threading.RLock()  # one call at a time sees and changes the dicts
        self._clock = clock
        self._collections: dict[str, Collection] = {}
        self._rows: dict[str, dict[str, Row]] = {}
        self._seqs = count(1)
        self._merges: dict[str, tuple[Merge, set[int]]] = {}  # the last one of a collection, and the rows it moved
        self.audit = MemoryAudit()
        self.jobs = MemoryJobs()
        self.calibrations = MemoryCalibrations(self._lock, self.collection)
        self.upkeep = MemoryUpkeep(self.audit)

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
            rows = list(self._of(name).values())
            del self._collections[name], self._rows[name]
            self._merges.pop(name, None)
            self.calibrations.forget(name)
            persons = {row.item.person_id for row in rows}
            details = {"items": len(rows)}
            self.audit.append(self._clock(), "delete_collection", name, details, [r.item.id for r in rows], persons)

    def derive(self) -> None:
        """Nothing is derived."""

    def keep(self, name: str, retention: Retention) -> Collection:
        """As the port says."""
        with self._lock:
            self._collections[name] = replace(self.collection(name), retention=checked_retention(retention))
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
                seq, added_at = (next(self._seqs), now) if stored is None else (stored.seq, stored.added_at)
                # A key that is there already keeps its place in the dict.
                rows[item.id] = Row(seq, item, units[position], float(norms[position]), crop, added_at)
                outcomes.append("added" if stored is None else "updated")
                persons |= {item.person_id, None if stored is None else stored.item.person_id}
                changed[item.id] = None
            if changed:
                details = {outcome: outcomes.count(outcome) for outcome in ("added", "updated")}
                self.audit.append(now, "add", name, details, changed, persons)
            return outcomes

    def correct(self, name: str, item_id: str, changes: Mapping[str, Any]) -> Item:
        """As the port says."""
        with self._lock:
            row = self._row(name, item_id)
            (kept,) = checked_items([replace(row.item, **changes)])
            if row.item != kept:
                persons = {row.item.person_id, kept.person_id}
                self._of(name)[item_id] = replace(row, item=kept)
                self.audit.append(self._clock(), "correct", name, {"items": 1}, [item_id], persons)
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
        """As the port says. What is named, and alone, is told in the audit whether it was there or not."""
        with self._lock:
            whole = (where.persons or frozenset()) if where == Filter(persons=where.persons) else frozenset[str]()
            named = (where.ids or frozenset()) if where == Filter(ids=where.ids) else frozenset[str]()
            rows = [row for row in self._of(name).values() if where.accepts(row.item)]
            self._drop(name, rows)
            now, details = self._clock(), {"items": len(rows), "persons": len(whole)}
            items = sorted({row.item.id for row in rows} | named)
            head = self.audit.append(now, "erase", name, details, items, {row.item.person_id for row in rows} | whole)
            self._forget(name, rows, {*(where.ids or ()), *items}, {*(where.persons or ()), *whole}, now)
            return Erasure(len(rows), now, head)

    def _forget(self, name: str, gone: list[Row], ids: set[str], persons: set[str], now: datetime) -> None:
        """Take erased rows out of all else that names them, and ids and persons as far as nothing is left of them."""
        persons |= {row.item.person_id for row in gone if row.item.person_id is not None}
        merge, moved = self._merges.get(name, (None, set[int]()))
        if merge and moved & {row.seq for row in gone}:
            persons |= {merge.person_id, merge.into}
            del self._merges[name]
        left = [row.item for row in self._of(name).values()]
        persons -= {item.person_id for item in left if item.person_id is not None}
        if merge and {merge.person_id, merge.into} & persons:
            self._merges.pop(name, None)
        names = Names.of([row.item for row in gone], ids - {item.id for item in left}, persons)
        self.jobs.erase(names, now)
        self.calibrations.erase(name, names)

    def expire(self, name: str, now: datetime) -> int:
        """As the port says."""
        with self._lock:
            kept, rows, today = self.collection(name).retention, list(self._of(name).values()), in_utc(now)

            def is_old(row: Row) -> bool:
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

    def rename(self, name: str, person_id: str, new: str) -> int:
        """As the port says."""
        check_text("person_id", new)
        with self._lock:
            self.person(name, person_id)
            rows = [row for row in self._of(name).values() if row.item.person_id == person_id]
            if person_id != new and any(row.item.person_id == new for row in self._of(name).values()):
                raise PersonExists(name, new)
            return len(self._move(name, rows, new, "move"))

    def merge(self, name: str, person_id: str, into: str) -> Merge:
        """As the port says."""
        with self._lock:
            self.person(name, person_id)
            self.person(name, into)
            rows = [row for row in self._of(name).values() if row.item.person_id == person_id]
            merge = Merge(person_id, into, len(self._move(name, rows, into, "merge")))
            if person_id != into:
                self._merges[name] = merge, {row.seq for row in rows}
            return merge

    def undo_merge(self, name: str) -> Merge:
        """As the port says."""
        with self._lock:
            rows = self._of(name)
            if name not in self._merges:
                raise NothingToUndo(name)
            merge, moved = self._merges.pop(name)
            there = [row for row in rows.values() if row.seq in moved and row.item.person_id == merge.into]
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
        return [[match for match, _ in ranked(rows, query[None])][:k] for query in checked]

    def shortlist(
        self, name: str, crops: Floats, k: int, where: Filter, exact: bool = False
    ) -> tuple[list[Match], Floats]:
        """As the port says."""
        collection, rows = self._accepted(name, where)
        best = ranked(rows, checked_person(crops, k, collection.dim))[:k]
        vectors = np.array([vector for _, vector in best], dtype=np.float32)
        return [match for match, _ in best], vectors.reshape(len(best), collection.dim)

    def search_persons(
        self, name: str, crops: Floats, k: int, where: Filter, score: PersonScore = "centroid", exact: bool = False
    ) -> list[PersonMatch]:
        """As the port says."""
        collection, rows = self._accepted(name, where)
        crops = checked_person(crops, k, collection.dim)
        persons: dict[str, list[Row]] = {}  # in the order of their first items
        for row in rows:
            if row.item.person_id is not None:
                persons.setdefault(row.item.person_id, []).append(row)
        found = [of_person(person_id, own, crops, score) for person_id, own in persons.items()]
        return sorted(found, key=lambda match: -match.score)[:k]  # stable

    def close(self) -> None:
        """Nothing is held."""

    def _remove(self, name: str, doomed: list[Row], action: Action, now: datetime | None = None) -> list[Row]:
        self._drop(name, doomed)
        if doomed:
            items, persons = [row.item.id for row in doomed], {row.item.person_id for row in doomed}
            self.audit.append(now or self._clock(), action, name, {"items": len(doomed)}, items, persons)
        return doomed

    def _drop(self, name: str, doomed: list[Row]) -> None:
        for row in doomed:
            del self._of(name)[row.item.id]

    def _move(self, name: str, rows: Sequence[Row], person_id: str | None, action: Action) -> list[Row]:
        moved = [row for row in rows if row.item.person_id != person_id]
        persons = {row.item.person_id for row in moved} | {person_id}
        for row in moved:
            self._of(name)[row.item.id] = replace(row, item=replace(row.item, person_id=person_id))
        if moved:
            self.audit.append(self._clock(), action, name, {"items": len(moved)}, [r.item.id for r in moved], persons)
        return moved

    def _accepted(self, name: str, where: Filter) -> tuple[Collection, list[Row]]:
        with self._lock:
            return self.collection(name), [row for row in self._of(name).values() if where.accepts(row.item)]

    def _of(self, name: str) -> dict[str, Row]:
        if name not in self._rows:
            raise UnknownCollection(name)
        return self._rows[name]

    def _row(self, name: str, item_id: str) -> Row:
        try:
            return self._of(name)[item_id]
        except KeyError as error:
            raise UnknownItem(name, item_id) from error
