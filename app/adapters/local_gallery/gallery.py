"""The local gallery: writes go to the database and then into a new view; searches read the view that is there."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from app.adapters.local_gallery.database import FILE, DirectoryLock, connect, open_database, transaction, translated
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
from app.adapters.local_gallery.view import View
from app.core.metrics import unit
from app.core.preprocess import Crop
from app.core.records import Collection, Filter, Item, Match, Outcome
from app.errors import UnknownCollection, UnknownItem
from app.ports import Floats

_COLLECTION = "select name, fingerprint, dim, keep_crops, created_at from collection"


class LocalGallery:
    """`GalleryStore` in a directory of its own. Raises DataDirectoryBusy, StorageFailed when it cannot be opened."""

    def __init__(self, directory: Path, busy_timeout_s: float = 5.0) -> None:
        self._what = f"the database {directory / FILE}"
        self._lock = DirectoryLock(directory)
        try:
            self._writer = open_database(directory, busy_timeout_s)
            with translated(self._what):
                self._reader = connect(directory / FILE, busy_timeout_s)
                self._views = self._derive()
        except BaseException:
            self._lock.release()
            raise
        self._writing = threading.Lock()  # one transaction at a time, and its view published before the next
        self._reading = threading.Lock()  # the reader's connection serves one thread at a time

    def put_collection(self, collection: Collection) -> Collection:
        """As the port says."""
        c = collection
        row = (c.name, c.fingerprint, c.dim, c.keep_crops, to_text(c.created_at))
        with self._write() as db:
            insert = "insert into collection (name, fingerprint, dim, keep_crops, created_at) values (?, ?, ?, ?, ?)"
            with transaction(db):
                db.execute(insert + " on conflict (name) do nothing", row)
            self._publish(c.name, self._views.get(c.name, View()))
        return self.collection(c.name)

    def collection(self, name: str) -> Collection:
        """As the port says."""
        with self._read() as db:
            row = db.execute(f"{_COLLECTION} where name = ?", (name,)).fetchone()
        if row is None:
            raise UnknownCollection(name)
        return row_to_collection(row)

    def collections(self) -> list[Collection]:
        """As the port says."""
        with self._read() as db:
            return [row_to_collection(row) for row in db.execute(f"{_COLLECTION} order by name")]

    def delete_collection(self, name: str) -> None:
        """As the port says."""
        with self._write() as db:
            with transaction(db):
                db.execute("delete from collection where id = ?", (self._id(db, name),))
            self._views = {key: view for key, view in self._views.items() if key != name}

    def count(self, name: str) -> int:
        """As the port says."""
        return self._view(name).count

    def upsert(
        self, name: str, items: Sequence[Item], vectors: Floats, crops: Sequence[Crop] | None = None
    ) -> list[Outcome]:
        """As the port says."""
        units, norms = unit(vectors), np.linalg.norm(vectors, axis=1)
        if not (np.isfinite(vectors).all() and norms.all()):
            raise ValueError("a vector is not finite, or zero")
        with self._write() as db:
            collection_id = self._id(db, name)
            outcomes: list[Outcome] = []
            rows: dict[int, int] = {}  # sequence number -> position of the item that counts
            with transaction(db):
                keep = self.collection_row(db, name).keep_crops and crops is not None
                for position, item in enumerate(items):
                    outcome = self._outcome(db, collection_id, item)
                    outcomes.append(outcome)
                    if outcome == "unchanged":
                        continue
                    values = (collection_id, *item_to_row(item), float(norms[position]), to_blob(units[position]))
                    (seq,) = db.execute(UPSERT, values).fetchone()
                    db.execute("delete from crop where seq = ?", (seq,))
                    if keep and crops is not None:
                        db.execute("insert into crop (seq, pixels) values (?, ?)", (seq, deflate(crops[position])))
                    rows[seq] = position
            positions = list(rows.values())
            view = self._views[name].with_rows(list(rows), [items[p] for p in positions], units[positions])
            self._publish(name, view)
        return outcomes

    def get(self, name: str, ids: Sequence[str]) -> list[Item | None]:
        """As the port says."""
        where, values = condition(Filter(ids=frozenset(ids)))
        with self._read() as db:
            sql = f"select {ITEM_COLUMNS} from item where collection_id = ? and {where}"
            found = {row[0]: row_to_item(row) for row in db.execute(sql, (self._id(db, name), *values))}
        return [found.get(item_id) for item_id in ids]

    def vectors(self, name: str, ids: Sequence[str]) -> tuple[Floats, Floats]:
        """As the port says."""
        where, values = condition(Filter(ids=frozenset(ids)))
        with self._read() as db:
            dim = self.collection_row(db, name).dim
            sql = f"select id, vector, norm from item where collection_id = ? and {where}"
            found = {row[0]: row[1:] for row in db.execute(sql, (self._id(db, name), *values))}
        for item_id in ids:
            if item_id not in found:
                raise UnknownItem(name, item_id)
        norms = np.array([found[item_id][1] for item_id in ids], dtype=np.float32)
        return from_blobs((found[item_id][0] for item_id in ids), dim), norms

    def crop(self, name: str, item_id: str) -> Crop | None:
        """As the port says."""
        with self._read() as db:
            seq = seq_of(db, self._id(db, name), item_id)
            if seq is None:
                raise UnknownItem(name, item_id)
            row = db.execute("select pixels from crop where seq = ?", (seq,)).fetchone()
        return None if row is None else inflate(row[0])

    def scan(self, name: str, where: Filter, after: str | None = None, limit: int = 100) -> list[Item]:
        """As the port says."""
        sql, values = condition(where)
        with self._read() as db:
            collection_id = self._id(db, name)
            start = -1 if after is None else seq_of(db, collection_id, after)
            if start is None:
                raise UnknownItem(name, str(after))
            sql = f"select {ITEM_COLUMNS} from item where collection_id = ? and seq > ? and {sql} order by seq limit ?"
            return [row_to_item(row) for row in db.execute(sql, (collection_id, start, *values, limit))]

    def delete(self, name: str, where: Filter) -> int:
        """As the port says."""
        sql, values = condition(where)
        with self._write() as db:
            collection_id = self._id(db, name)
            with transaction(db):
                deleted = db.execute(
                    f"delete from item where collection_id = ? and {sql} returning seq", (collection_id, *values)
                ).fetchall()
            self._publish(name, self._views[name].without(seq for (seq,) in deleted))
        return len(deleted)

    def search(self, name: str, queries: Floats, k: int, where: Filter) -> list[list[Match]]:
        """As the port says."""
        view = self._view(name)  # one picture for all queries, whatever is written meanwhile
        return [view.search(query, k, where) for query in np.ascontiguousarray(queries, dtype=np.float32)]

    def close(self) -> None:
        """As the port says."""
        with self._writing, self._reading:
            self._reader.close()
            self._writer.close()
            self._lock.release()

    def collection_row(self, db: sqlite3.Connection, name: str) -> Collection:
        """The collection as this connection sees it. Raises UnknownCollection."""
        self._id(db, name)
        return row_to_collection(db.execute(f"{_COLLECTION} where name = ?", (name,)).fetchone())

    def _derive(self) -> dict[str, View]:
        """All views from the database."""
        views: dict[str, View] = {}
        for collection_id, name, dim in self._reader.execute("select id, name, dim from collection").fetchall():
            sql = f"select {ITEM_COLUMNS}, seq, vector from item where collection_id = ? order by seq"
            rows = self._reader.execute(sql, (collection_id,)).fetchall()
            items, seqs = [row_to_item(row) for row in rows], [row[-2] for row in rows]
            views[name] = View().with_rows(seqs, items, from_blobs((row[-1] for row in rows), dim))
        return views

    def _publish(self, name: str, view: View) -> None:
        self._views = {**self._views, name: view}  # replaced as a whole: a reader has the old dict or the new one

    def _view(self, name: str) -> View:
        try:
            return self._views[name]
        except KeyError as error:
            raise UnknownCollection(name) from error

    def _outcome(self, db: sqlite3.Connection, collection_id: int, item: Item) -> Outcome:
        sql = f"select {ITEM_COLUMNS} from item where collection_id = ? and id = ?"
        row = db.execute(sql, (collection_id, item.id)).fetchone()
        if row is None:
            return "added"
        return "unchanged" if row == item_to_row(item) else "updated"

    def _id(self, db: sqlite3.Connection, name: str) -> int:
        row = db.execute("select id from collection where name = ?", (name,)).fetchone()
        if row is None:
            raise UnknownCollection(name)
        return int(row[0])

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._writing, translated(self._what):
            yield self._writer

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._reading, translated(self._what):
            yield self._reader
