"""A view from the truth: codes that lie on disk and still fit, and the rest made anew, a piece at a time."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from app.adapters.local_gallery.codes import CodeIndex
from app.adapters.local_gallery.columns import Columns
from app.adapters.local_gallery.index import ExactIndex, Rows
from app.adapters.local_gallery.index_files import IndexFiles, StoredCodes
from app.adapters.local_gallery.plan import IndexPlan
from app.adapters.local_gallery.rows import ITEM_COLUMNS, row_to_item
from app.adapters.local_gallery.segment import Segment
from app.adapters.local_gallery.truth import Truth
from app.adapters.local_gallery.view import View
from app.core.records import Collection, Item
from app.ports import Floats

_FIELDS = f"select {ITEM_COLUMNS}, norm, revision, seq from item where collection_id = ? order by seq"
_CHUNK = 16_384  # items at a time
CENTRE_ROWS = 4096  # whose mean codes are taken around
Report = Callable[[int], None]  # so many more items are done


def derived(
    db: sqlite3.Connection,
    collection: Collection,
    collection_id: int,
    files: IndexFiles,
    plan: IndexPlan,
    report: Report,
) -> View:
    """The collection's view, within one read transaction. Raises ValueError, RowMissing where what is stored is damaged."""
    (revision,) = db.execute("select revision from collection where id = ?", (collection_id,)).fetchone()
    rows = _all_rows(db, collection_id)
    truth = Truth(db, collection_id, collection.dim)
    view = View(collection, collection_id, revision)
    if len(rows.seqs) <= plan.flat:
        files.keep(collection_id, set())
        segments = [_exact(rows, np.arange(len(rows.seqs)), truth, report)] if len(rows.seqs) else []
        return replace(view, segments=tuple(segments))
    segments, missing = _stored(files.read(collection_id, collection.dim), rows, report)
    if len(missing) > plan.tail or not segments:
        centre = segments[0].index.centre if segments and isinstance(segments[0].index, CodeIndex) else None
        segments.append(_coded(rows, missing, truth, report, centre))
    elif len(missing):
        segments.append(_exact(rows, missing, truth, report))
    return replace(view, segments=tuple(segments))


def centre_of(vectors: Floats) -> Floats:
    """What codes are taken around: the mean of unit vectors float32 [n, dim]."""
    return np.asarray(vectors.mean(axis=0, dtype=np.float64), dtype=np.float32)


def _all_rows(db: sqlite3.Connection, collection_id: int) -> Segment:
    """All rows' fields, ascending, as a segment that has no index yet."""
    parts = []
    cursor = db.execute(_FIELDS, (collection_id,))
    for chunk in _chunks(cursor):
        items: list[Item] = [row_to_item(row[:-3]) for row in chunk]
        norms, revisions, seqs = ([row[place] for row in chunk] for place in (-3, -2, -1))
        parts.append(_segment(Columns.of(items), norms, revisions, seqs))
    if not parts:
        return _segment(Columns.of([]), [], [], [])
    return Segment.joined([(part, np.arange(len(part.seqs))) for part in parts], _NO_INDEX)


def _stored(files: Iterator[StoredCodes], rows: Segment, report: Report) -> tuple[list[Segment], Rows]:
    """Segments of what the files have and the truth confirms, around one centre; and the rows that none has."""
    segments, lacking = list[Segment](), np.ones(len(rows.seqs), dtype=bool)
    for stored in files:
        if segments and not np.array_equal(stored.index.centre, segments[0].index.centre):  # type: ignore[union-attr]  # all coded
            continue
        places = np.minimum(np.searchsorted(rows.seqs, stored.seqs), len(rows.seqs) - 1)
        fits = (rows.seqs[places] == stored.seqs) & (rows.revisions[places] == stored.revisions) & lacking[places]
        if fits.any():
            kept = places[fits]
            index = CodeIndex.joined([(stored.index, np.flatnonzero(fits))]) if not fits.all() else stored.index
            segments.append(Segment.joined([(rows, kept)], index))
            lacking[kept] = False
            report(len(kept))
    return segments, np.flatnonzero(lacking)


def _coded(rows: Segment, chosen: Rows, truth: Truth, report: Report, centre: Floats | None) -> Segment:
    seqs = rows.seqs[chosen]
    if centre is None:
        # Evenly chosen: the first rows of a gallery may all be one camera's.
        some = np.unique(np.linspace(0, len(seqs) - 1, min(CENTRE_ROWS, len(seqs))).astype(np.int64))
        centre = centre_of(truth.vectors(seqs[some]))

    def parts() -> Iterator[Floats]:
        for _, vectors in truth.pieces(seqs):
            yield vectors
            report(len(vectors))

    return Segment.joined([(rows, chosen)], CodeIndex.of(parts(), centre))


def _exact(rows: Segment, chosen: Rows, truth: Truth, report: Report) -> Segment:
    vectors = truth.vectors(rows.seqs[chosen])
    report(len(chosen))
    return Segment.joined([(rows, chosen)], ExactIndex(vectors))


_NO_INDEX = ExactIndex(np.empty((0, 1), dtype=np.float32))


def _segment(columns: Columns, norms: list[float], revisions: list[int], seqs: list[int]) -> Segment:
    alive = np.ones(len(seqs), dtype=bool)
    numbers, written = np.array(seqs, dtype=np.int64), np.array(revisions, dtype=np.int64)
    return Segment(_NO_INDEX, numbers, written, np.array(norms, dtype=np.float32), columns, alive, len(seqs))


def _chunks(cursor: sqlite3.Cursor) -> Iterator[list[tuple[Any, ...]]]:
    while chunk := list(islice(cursor, _CHUNK)):
        yield chunk
