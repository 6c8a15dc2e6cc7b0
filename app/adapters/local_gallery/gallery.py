"""The local gallery: writes go to the database and into a new view; searches read the view that is there."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from app.adapters.checks import (
    checked_collection,
    checked_crops,
    checked_items,
    checked_person,
    checked_queries,
    units_and_norms,
)
from app.adapters.local_gallery.calibrations import LocalCalibrations
from app.adapters.local_gallery.database import FILE, Database
from app.adapters.local_gallery.jobs import LocalJobs
from app.adapters.local_gallery.lock import DirectoryLock
from app.adapters.local_gallery.rows import (
    ITEM_COLUMNS,
    UPSERT,
    condition,
    deflate,
    from_blobs,
    inflate,
    item_to_row,
    row_to_collection,
    row_to_item,
    seq_of,
    to_blob,
    to_text,
)
from app.adapters.local_gallery.segment import Entries
from app.adapters.local_gallery.view import View
from app.core.preprocess import Crop
from app.core.records import Collection, Filter, Item, Match, Outcome, PersonMatch, PersonScore
from app.errors import StorageFailed, UnknownCollection, UnknownItem
from app.ports import Floats

_COLLECTION = "select name, fingerprint, dim, keep_crops, created_at from collection"
_CHUNK = 16_384  # rows read at a time when the views are derived: 128 MiB at 2048 numbers


class LocalGallery:
    """`GalleryStore` in a directory of its own.

    A view is made before its transaction commits and published after: once the data is on disk nothing can fail any more.
    """

    def __init__(self, directory: Path, open_database: Callable[[Path], Database] = Database) -> None:
        """Own the directory and derive the views. Raises DataDirectoryBusy, StorageFailed."""
        self._writing = threading.Lock()  # one write at a time, its view published before the next begins
        self._lock = DirectoryLock(directory)
        try:
            self._database = open_database(directory / FILE)
        except BaseException:
            self._lock.release()
            raise
        self.jobs = LocalJobs(self._database)
        self.calibrations = LocalCalibrations(self._database, self._view)
        try:
            self._views = _derived(self._database)
        except BaseException as error:
            self.close()
            if isinstance(error, ValueError):
                raise StorageFailed(f"the database {directory / FILE} is damaged: {error}; restore a copy") from error
            raise

    def put_collection(self, collection: Collection) -> Collection:
        """As the port says."""
        c = checked_collection(collection)
        with self._writing:
            if c.name not in self._views:
                row = (c.name, c.fingerprint, c.dim, c.keep_crops, to_text(c.created_at))
                with self._database.transaction() as db:
                    columns = "name, fingerprint, dim, keep_crops, created_at"
                    db.execute(f"insert into collection ({columns}) values (?, ?, ?, ?, ?)", row)
                self._publish(View(c))
            return self._views[c.name].collection

    def collection(self, name: str) -> Collection:
        """As the port says."""
        return self._view(name).collection

    def collections(self) -> list[Collection]:
        """As the port says."""
        return [view.collection for _, view in sorted(self._views.items())]

    def delete_collection(self, name: str) -> None:
        """As the port says."""
        with self._writing:
            self._view(name)
            with self._database.transaction() as db:
                db.execute("delete from collection where name = ?", (name,))
            self._views = {key: view for key, view in self._views.items() if key != name}
        self._database.empty_log()

    def count(self, name: str) -> int:
        """As the port says."""
        return self._view(name).count

    def upsert(
        self, name: str, items: Sequence[Item], vectors: Floats, crops: Sequence[Crop] | None = None
    ) -> list[Outcome]:
        """As the port says. A replaced item's crop goes with it, also where none comes in its place."""
        collection = self.collection(name)
        kept = checked_items(items)
        units, norms = units_and_norms(vectors, len(kept), collection.dim)
        crops = checked_crops(crops, len(kept)) if collection.keep_crops else None
        pixels = repeat(None, len(kept)) if crops is None else [deflate(crop) for crop in crops]
        rows = zip(kept, map(to_blob, units), norms.tolist(), pixels, strict=True)
        with self._writing:
            view = self._view(name)
            if view.collection != collection:  # deleted and made anew since the checks
                raise UnknownCollection(name)
            with self._database.transaction() as db:
                collection_id = _id(db, name)
                written = [_write(db, collection_id, *row) for row in rows]
                position = {seq: i for i, (outcome, seq) in enumerate(written) if outcome != "unchanged"}
                places = list(position.values())  # where an id came twice, of the later one
                fresh = Entries.of(list(position), (kept[i] for i in places), units[places], norms[places])
                view = view.with_entries(fresh)
            self._publish(view)
        return [outcome for outcome, _ in written]

    def get(self, name: str, ids: Sequence[str]) -> list[Item | None]:
        """As the port says."""
        found = {row[0]: row_to_item(row) for row in self._rows(name, ITEM_COLUMNS, ids)}
        return [found.get(item_id) for item_id in ids]

    def vectors(self, name: str, ids: Sequence[str]) -> tuple[Floats, Floats]:
        """As the port says."""
        dim = self.collection(name).dim
        found = {item_id: (vector, norm) for item_id, vector, norm in self._rows(name, "id, vector, norm", ids)}
        for item_id in ids:
            if item_id not in found:
                raise UnknownItem(name, item_id)
        norms = np.array([found[item_id][1] for item_id in ids], dtype=np.float32)
        return from_blobs((found[item_id][0] for item_id in ids), dim), norms

    def crop(self, name: str, item_id: str) -> Crop | None:
        """As the port says."""
        self._view(name)
        wanted, values = condition(Filter(ids=frozenset({item_id})))
        with self._database.reading() as db:
            sql = f"select pixels from item left join crop using (seq) where collection_id = ? and {wanted}"
            row = db.execute(sql, (_id(db, name), *values)).fetchone()
        if row is None:
            raise UnknownItem(name, item_id)
        return None if row[0] is None else inflate(row[0])

    def scan(self, name: str, where: Filter, after: str | None = None, limit: int = 100) -> list[Item]:
        """As the port says. Raises UnknownItem where there is no item `after`."""
        self._view(name)
        accepted, values = condition(where)
        with self._database.reading() as db:
            collection_id = _id(db, name)
            start = 0 if after is None else seq_of(db, collection_id, after)
            if start is None:
                raise UnknownItem(name, str(after))
            sql = f"select {ITEM_COLUMNS} from item where collection_id = ? and seq > ? and {accepted} order by seq limit ?"
            return [row_to_item(row) for row in db.execute(sql, (collection_id, start, *values, limit)).fetchall()]

    def delete(self, name: str, where: Filter) -> int:
        """As the port says."""
        accepted, values = condition(where)
        with self._writing:
            view = self._view(name)
            with self._database.transaction() as db:
                sql = f"delete from item where collection_id = ? and {accepted} returning seq"
                deleted = db.execute(sql, (_id(db, name), *values)).fetchall()
                view = view.without(np.array([seq for (seq,) in deleted], dtype=np.int64))
            self._publish(view)
        if deleted:
            self._database.empty_log()
        return len(deleted)

    def search(self, name: str, queries: Floats, k: int, where: Filter) -> list[list[Match]]:
        """As the port says."""
        view = self._view(name)  # one picture for all queries, whatever is written meanwhile
        return view.search(checked_queries(queries, k, view.collection.dim), k, where)

    def shortlist(self, name: str, crops: Floats, k: int, where: Filter) -> tuple[list[Match], Floats]:
        """As the port says."""
        view = self._view(name)
        return view.shortlist(checked_person(crops, k, view.collection.dim), k, where)

    def search_persons(
        self, name: str, crops: Floats, k: int, where: Filter, score: PersonScore = "centroid"
    ) -> list[PersonMatch]:
        """As the port says."""
        view = self._view(name)
        return view.search_persons(checked_person(crops, k, view.collection.dim), k, where, score)

    def close(self) -> None:
        """As the port says."""
        with self._writing:
            self._database.close()
            self._lock.release()

    def _rows(self, name: str, columns: str, ids: Sequence[str]) -> list[tuple[Any, ...]]:
        self._view(name)
        wanted, values = condition(Filter(ids=frozenset(ids)))
        with self._database.reading() as db:
            sql = f"select {columns} from item where collection_id = ? and {wanted}"
            return db.execute(sql, (_id(db, name), *values)).fetchall()

    def _publish(self, view: View) -> None:
        self._views = {**self._views, view.collection.name: view}  # a reader has the old dict or the new one, whole

    def _view(self, name: str) -> View:
        try:
            return self._views[name]
        except KeyError as error:
            raise UnknownCollection(name) from error


def _derived(database: Database) -> dict[str, View]:
    """All views from the database. Raises ValueError where what is stored cannot be read."""
    with database.reading() as db:
        collections = [row_to_collection(row) for row in db.execute(_COLLECTION).fetchall()]
        return {collection.name: _derived_view(db, collection) for collection in collections}


def _derived_view(db: sqlite3.Connection, collection: Collection) -> View:
    view = View(collection)
    sql = f"select {ITEM_COLUMNS}, norm, seq, vector from item where collection_id = ? order by seq"
    for rows in _chunks(db.execute(sql, (_id(db, collection.name),))):
        items = (row_to_item(row[:-3]) for row in rows)
        vectors = from_blobs((row[-1] for row in rows), collection.dim)
        norms = np.array([row[-3] for row in rows], dtype=np.float32)
        view = view.with_entries(Entries.of([row[-2] for row in rows], items, vectors, norms))
    return view


def _chunks(cursor: sqlite3.Cursor) -> Iterator[list[tuple[Any, ...]]]:
    while rows := cursor.fetchmany(_CHUNK):
        yield rows


def _id(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("select id from collection where name = ?", (name,)).fetchone()
    if row is None:
        raise UnknownCollection(name)
    return int(row[0])


def _write(
    db: sqlite3.Connection, collection_id: int, item: Item, vector: bytes, norm: float, pixels: bytes | None
) -> tuple[Outcome, int]:
    """One item into the open transaction; what became of it, and its sequence number."""
    sql = f"select {ITEM_COLUMNS}, seq from item where collection_id = ? and id = ?"
    stored = db.execute(sql, (collection_id, item.id)).fetchone()
    row = item_to_row(item)
    if stored is not None and stored[:-1] == row:
        return "unchanged", stored[-1]
    (seq,) = db.execute(UPSERT, (collection_id, *row, norm, vector)).fetchone()
    if stored is not None:
        db.execute("delete from crop where seq = ?", (seq,))
    if pixels is not None:
        db.execute("insert into crop (seq, pixels) values (?, ?)", (seq, pixels))
    return ("added" if stored is None else "updated"), seq
