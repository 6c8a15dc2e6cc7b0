"""Items and persons as the database has them: what is read without a search."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.adapters.local_gallery import persons_sql
from app.adapters.local_gallery.database import Database
from app.adapters.local_gallery.rows import ITEM_COLUMNS, condition, from_blobs, inflate, row_to_item, seq_of
from app.adapters.local_gallery.view import View
from app.core.preprocess import Crop
from app.core.records import Filter, Item, Person, is_storable
from app.errors import UnknownItem, UnknownPerson
from app.ports import Floats


class Items:
    """A part of `GalleryStore`; of the view only what names the collection is used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, of: View, ids: Sequence[str]) -> list[Item | None]:
        """As the port says."""
        found = {row[0]: row_to_item(row) for row in self._rows(of, ITEM_COLUMNS, "item", ids)}
        return [found.get(item_id) for item_id in ids]

    def vectors(self, of: View, ids: Sequence[str]) -> tuple[Floats, Floats]:
        """As the port says."""
        rows = self._rows(of, "id, unit, norm", "item join vector using (seq)", ids)
        found = {item_id: (vector, norm) for item_id, vector, norm in rows}
        for item_id in ids:
            if item_id not in found:
                raise UnknownItem(of.collection.name, item_id)
        norms = np.array([found[item_id][1] for item_id in ids], dtype=np.float32)
        return from_blobs((found[item_id][0] for item_id in ids), of.collection.dim), norms

    def crop(self, of: View, item_id: str) -> Crop | None:
        """As the port says."""
        rows = self._rows(of, "pixels", "item left join crop using (seq)", [item_id])
        if not rows:
            raise UnknownItem(of.collection.name, item_id)
        return None if rows[0][0] is None else inflate(rows[0][0])

    def scan(self, of: View, where: Filter, after: str | None, limit: int) -> list[Item]:
        """As the port says. Raises UnknownItem where there is no item `after`."""
        accepted, values = condition(where)
        with self._database.reading() as db:
            start = 0 if after is None else seq_of(db, of.collection_id, after)
            if start is None:
                raise UnknownItem(of.collection.name, str(after))
            sql = f"select {ITEM_COLUMNS} from item where collection_id = ? and seq > ? and {accepted} order by seq limit ?"
            rows = db.execute(sql, (of.collection_id, start, *values, limit)).fetchall()
        return [row_to_item(row) for row in rows]

    def persons(self, of: View, after: str | None, limit: int) -> list[Person]:
        """As the port says."""
        with self._database.reading() as db:
            return persons_sql.page(db, of.collection_id, after, limit)

    def person(self, of: View, person_id: str) -> Person:
        """As the port says."""
        with self._database.reading() as db:
            found = persons_sql.one(db, of.collection_id, person_id) if is_storable(person_id) else None
        if found is None:
            raise UnknownPerson(of.collection.name, person_id)
        return found

    def _rows(self, of: View, columns: str, tables: str, ids: Sequence[str]) -> list[tuple[Any, ...]]:
        wanted, values = condition(Filter(ids=frozenset(ids)))
        with self._database.reading() as db:
            sql = f"select {columns} from {tables} where collection_id = ? and {wanted}"
            return db.execute(sql, (of.collection_id, *values)).fetchall()
