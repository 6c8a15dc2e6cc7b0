"""What a search reads from the database: whose ids these are, vectors by sequence number, and the items of the answer."""

import json
import sqlite3
from collections.abc import Iterator, Sequence

import numpy as np

from app.adapters.local_gallery.rows import ITEM_COLUMNS, condition, from_blobs, row_to_item
from app.adapters.local_gallery.segment import Sequences, Wanted
from app.core.records import Filter, Item
from app.ports import Floats

_CHUNK = 1024  # vectors read at a time: 8 MiB at 2048 numbers
_LISTED = "seq in (select value from json_each(?))"


class RowMissing(Exception):
    """The database lacks a row that the index has at the same revision: one of them is damaged."""


class Truth:
    """One collection's rows as one read transaction sees them."""

    def __init__(self, db: sqlite3.Connection, collection_id: int, dim: int) -> None:
        self._db, self._collection_id, self._dim = db, collection_id, dim

    def wanted(self, where: Filter) -> Wanted:
        """The filter with its ids as sequence numbers."""
        return Wanted(
            where,
            None if where.ids is None else self._seqs(where.ids),
            self._seqs(where.exclude) if where.exclude else None,
        )

    def vectors(self, seqs: Sequences) -> Floats:
        """Unit vectors float32 [n, dim] of these rows, in order. Raises RowMissing where one is missing."""
        return np.concatenate([np.empty((0, self._dim), dtype=np.float32), *(v for _, v in self.pieces(seqs))])

    def pieces(self, seqs: Sequences) -> Iterator[tuple[slice, Floats]]:
        """The same a piece at a time, each with its place among `seqs`."""
        for start in range(0, len(seqs), _CHUNK):
            place = slice(start, min(start + _CHUNK, len(seqs)))
            yield place, self._read(seqs[place])

    def items(self, seqs: Sequence[int]) -> list[Item]:
        """The items of these rows, in order. Raises RowMissing where one is missing."""
        sql = f"select seq, {ITEM_COLUMNS} from item where {_LISTED}"
        found = {row[0]: row_to_item(row[1:]) for row in self._db.execute(sql, (json.dumps(seqs),)).fetchall()}
        if len(found) < len(set(seqs)):
            raise RowMissing(f"{len(seqs)} rows of the index, {len(found)} items of the database")
        return [found[seq] for seq in seqs]

    def _read(self, seqs: Sequences) -> Floats:
        sql = f"select seq, unit from vector where {_LISTED}"
        rows = self._db.execute(sql, (json.dumps(np.sort(seqs).tolist()),)).fetchall()
        if len(rows) < len(seqs):
            raise RowMissing(f"{len(seqs)} rows of the index, {len(rows)} vectors of the database")
        vectors = from_blobs((blob for _, blob in rows), self._dim)
        return vectors[np.searchsorted(np.array([seq for seq, _ in rows], dtype=np.int64), seqs)]

    def _seqs(self, ids: frozenset[str]) -> Sequences:
        wanted, values = condition(Filter(ids=ids))
        sql = f"select seq from item where collection_id = ? and {wanted}"
        rows = self._db.execute(sql, (self._collection_id, *values)).fetchall()
        return np.array(sorted(seq for (seq,) in rows), dtype=np.int64)
