"""Whether what is stored is whole: the database with itself, and what searches read with the database."""

import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from app.adapters.local_gallery.audit import LocalAudit
from app.adapters.local_gallery.codes import CodeIndex
from app.adapters.local_gallery.commits import Views
from app.adapters.local_gallery.database import Database
from app.adapters.local_gallery.index_files import read_all
from app.adapters.local_gallery.rows import ITEM_COLUMNS, row_to_item
from app.adapters.local_gallery.segment import Segment
from app.adapters.local_gallery.truth import RowMissing, Truth
from app.adapters.local_gallery.view import View
from app.core.preprocess import HEIGHT, WIDTH
from app.core.upkeep import MOST_FAULTS, Finding, Report
from app.errors import Interrupted, ReidError

_FAR = 1e-4  # of a unit vector's length from one: float32's sums over some thousand numbers stay far below
_ALIKE = 0.5  # an estimate of a vector's cosine with itself; codes of another vector give about none
_CODES, _SPARSE = (
    200,
    100,
)  # rows of a segment whose codes are tried; of a quick check, each so many-th row is looked at
_TRIES, _SWAP_S = 2000, 0.001  # between a commit and the view that follows it lie some ten microseconds
_LOOK = 100_000  # steps of SQLite's machine
_PIXELS = HEIGHT * WIDTH * 3


def check(
    database: Database, directory: Path, views: Callable[[], Views], quick: bool, stop: Callable[[], bool]
) -> Report:
    """Look at everything; quick: at one vector and crop of a hundred, and at pages without their indexes.

    Raises Interrupted when told to stop.
    """
    every = _SPARSE if quick else 1
    steps: dict[str, Callable[[sqlite3.Connection, _Tally], None]] = {
        "database pages": lambda db, tally: _pages(db, tally, "quick_check" if quick else "integrity_check"),
        "references": _references,
        "items": _items,
        "vectors": lambda db, tally: _vectors(db, tally, every),
        "slots": _slots,
        "crops": lambda db, tally: _crops(db, tally, every),
        "jobs and calibrations": _records,
        "index": lambda db, tally: _views(db, tally, views),
        "index files": lambda db, tally: _files(db, tally, directory),
    }
    findings = []
    for what, step in steps.items():
        tally = _Tally()
        with tally.catching(), database.reading() as db, _breakable(db, stop):
            step(db, tally)
        if stop():
            raise Interrupted("the check was given up")
        findings.append(Finding(what, tally.looked_at, tuple(tally.faults)))
    tally = _Tally()
    with tally.catching():
        tally.looked_at = LocalAudit(database).verify().seq
    return Report((*findings, Finding("audit", tally.looked_at, tuple(tally.faults))))


@contextmanager
def _breakable(db: sqlite3.Connection, stop: Callable[[], bool]) -> Iterator[None]:
    """A statement may take minutes; SQLite ends it where it is told to stop."""
    db.set_progress_handler(stop, _LOOK)
    try:
        yield
    finally:
        db.set_progress_handler(None, 0)


class _Tally:
    """What one step finds."""

    def __init__(self) -> None:
        self.looked_at, self.faults = 0, list[str]()

    def fault(self, sentence: str) -> None:
        """Something is wrong; the first few are told."""
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(sentence)

    @contextmanager
    def catching(self) -> Iterator[None]:
        """What ends a step is a finding of it, and the others go on."""
        try:
            yield
        except (ReidError, RowMissing, ValueError, OSError) as error:
            self.fault(str(error))


def _pages(db: sqlite3.Connection, tally: _Tally, how: str) -> None:
    (tally.looked_at,) = db.execute("pragma page_count").fetchone()
    for (sentence,) in db.execute(f"pragma {how}({MOST_FAULTS})"):
        if sentence != "ok":
            tally.fault(sentence)


def _references(db: sqlite3.Connection, tally: _Tally) -> None:
    tables = [
        name
        for (name,) in db.execute("select name from sqlite_schema where type = 'table' and sql like '%references%'")
    ]
    tally.looked_at = sum(db.execute(f"select count(*) from {table}").fetchone()[0] for table in tables)
    for table, row, other, _ in db.execute("pragma foreign_key_check"):
        tally.fault(f"{table}: row {row} refers to a row of {other} that is not there")


def _items(db: sqlite3.Connection, tally: _Tally) -> None:
    sql = f"""
    select {ITEM_COLUMNS}, item.seq, norm, added_at, item.revision, collection.revision, vector.seq
    from item join collection on collection.id = collection_id left join vector on vector.seq = item.seq
    """
    columns = ", ".join("item." + column for column in ITEM_COLUMNS.split(", "))
    for row in db.execute(sql.replace(ITEM_COLUMNS, columns)):
        tally.looked_at += 1
        seq, norm, added_at, revision, newest, vector = row[7:]
        try:
            row_to_item(row[:7])
            datetime.fromisoformat(added_at)
        except (ValueError, TypeError) as error:
            tally.fault(f"item {seq}: {error}")
        if vector is None:
            tally.fault(f"item {seq} has no vector")
        if not (np.isfinite(norm) and norm > 0):
            tally.fault(f"item {seq}: its vector's norm is {norm}")
        if revision > newest:
            tally.fault(f"item {seq} is of revision {revision}, its collection of {newest}")


def _vectors(db: sqlite3.Connection, tally: _Tally, every: int) -> None:
    sql = """
    select seq, unit, dim from vector join item using (seq) join collection on collection.id = collection_id
    where seq % ? = 0 order by seq
    """
    for seq, blob, dim in db.execute(sql, (every,)):
        tally.looked_at += 1
        if len(blob) != 4 * dim:
            tally.fault(f"item {seq}: its vector has {len(blob)} bytes, not {4 * dim}")
            continue
        length = float(np.linalg.norm(np.frombuffer(blob, dtype="<f4").astype(np.float64)))
        if not abs(length - 1) <= _FAR:  # so that NaN fails as well
            tally.fault(f"item {seq}: its vector's length is {length:.6f}, not 1")


def _slots(db: sqlite3.Connection, tally: _Tally) -> None:
    """Each is an item's, once, or free and overwritten."""
    (tally.looked_at,) = db.execute("select count(*) from slot").fetchone()
    owned = "select vector_slot as id from item union all select crop_slot from item where crop_slot is not null"
    wrong = {
        "has two items": f"select id from ({owned}) group by id having count(*) > 1",
        "has an item and is said to be free": f"select id from ({owned}) join slot using (id) where free",
        "has no item and is not free": f"select id from slot where not free and id not in ({owned})",
        "is free and still holds something": "select id from slot where free and bytes <> zeroblob(length(bytes))",
    }
    for what, sql in wrong.items():
        for (slot,) in db.execute(f"{sql} limit {MOST_FAULTS}"):
            tally.fault(f"slot {slot} {what}")


def _crops(db: sqlite3.Connection, tally: _Tally, every: int) -> None:
    sql = """
    select seq, pixels, keep_crops from crop join item using (seq) join collection on collection.id = collection_id
    where seq % ? = 0 order by seq
    """
    for seq, pixels, kept in db.execute(sql, (every,)):
        tally.looked_at += 1
        try:
            size = len(zlib.decompress(pixels))
        except zlib.error as error:
            tally.fault(f"item {seq}: its crop cannot be read: {error}")
            continue
        if size != _PIXELS:
            tally.fault(f"item {seq}: its crop has {size} bytes, not {_PIXELS}")
        if not kept:
            tally.fault(f"item {seq} has a crop, and its collection keeps none")


def _records(db: sqlite3.Connection, tally: _Tally) -> None:
    sql = "select 'job ' || id, params, result from job union all select 'a calibration', data, null from calibration"
    for what, *texts in db.execute(sql):
        tally.looked_at += 1
        for text in texts:
            try:
                json.loads(text or "null")
            except ValueError as error:
                tally.fault(f"{what}: {error}")


def _views(db: sqlite3.Connection, tally: _Tally, views: Callable[[], Views]) -> None:
    """Every row in exactly one place, at its revision, with its person, camera and vector."""
    for name in sorted(views()):
        db.execute("begin")
        try:
            view = _of_this_moment(db, name, views)
            if view is not None:
                tally.looked_at += view.count
                _view(db, tally, name, view)
        finally:
            db.execute("rollback")


def _of_this_moment(db: sqlite3.Connection, name: str, views: Callable[[], Views]) -> View | None:
    """The view of the revision that the transaction sees; None where the collection is gone. Raises ValueError."""
    for _ in range(_TRIES):
        row = db.execute("select id, revision from collection where name = ?", (name,)).fetchone()
        view = views().get(name)
        if view is None or row == (view.collection_id, view.revision):
            return view
        db.execute("rollback")
        time.sleep(_SWAP_S)
        db.execute("begin")
    raise ValueError(f"collection {name!r}: the index is not of the database's revision")


def _view(db: sqlite3.Connection, tally: _Tally, name: str, view: View) -> None:
    """The index's rows and the database's, side by side in ascending order."""
    where = f"collection {name!r}: row"
    sql = "select seq, revision, person_id, camera_id from item where collection_id = ? order by seq"
    indexed = _ascending(view)
    told = next(indexed, None)
    for stored in db.execute(sql, (view.collection_id,)):
        while told is not None and told[0] < stored[0]:
            tally.fault(f"{where} {told[0]} of the index is not in the database, or twice in the index")
            told = next(indexed, None)
        if told is None or told[0] > stored[0]:
            tally.fault(f"{where} {stored[0]} of the database is not in the index")
            continue
        if told != stored:
            tally.fault(f"{where} {stored[0]} has another revision, person or camera in the index than in the database")
        told = next(indexed, None)
    while told is not None:
        tally.fault(f"{where} {told[0]} of the index is not in the database, or twice in the index")
        told = next(indexed, None)
    for segment in view.segments:
        _compare(Truth(db, view.collection_id, view.collection.dim), tally, name, segment)


def _ascending(view: View) -> Iterator[tuple[Any, ...]]:
    """The living rows by sequence number, each with its revision, person and camera."""
    # A row without a text has the number -1, which is the last place of these lists.
    persons = [[*segment.columns.persons.numbers, None] for segment in view.segments]
    cameras = [[*segment.columns.cameras.numbers, None] for segment in view.segments]
    rows = [np.flatnonzero(segment.alive) for segment in view.segments]
    seqs = np.concatenate([np.empty(0, np.int64), *(s.seqs[r] for s, r in zip(view.segments, rows, strict=True))])
    of_segment = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    in_segment = np.concatenate([np.empty(0, np.int64), *rows])
    for place in np.argsort(seqs, kind="stable"):
        number, row = int(of_segment[place]), int(in_segment[place])
        segment, columns = view.segments[number], view.segments[number].columns
        person, camera = persons[number][columns.persons.codes[row]], cameras[number][columns.cameras.codes[row]]
        yield int(segment.seqs[row]), int(segment.revisions[row]), person, camera


def _compare(truth: Truth, tally: _Tally, name: str, segment: Segment) -> None:
    """Vectors in memory are the database's to the last bit; codes are of these vectors, as far as a code tells."""
    rows = np.flatnonzero(segment.alive)
    index = segment.index
    if isinstance(index, CodeIndex):
        rows = rows[:: max(1, len(rows) // _CODES)]
    for place, vectors in truth.pieces(segment.seqs[rows]):
        if not isinstance(index, CodeIndex):
            same = (index.vectors(rows[place]) == vectors).all(axis=1)
        else:
            same = np.array([_estimate(index, row, v) > _ALIKE for row, v in zip(rows[place], vectors, strict=True)])
        for row in rows[place][~same].tolist():
            tally.fault(
                f"collection {name!r}: the index has another vector of row {segment.seqs[row]} than the database"
            )


def _estimate(index: CodeIndex, row: int, vector: Any) -> float:
    only = np.zeros(len(index.ids), dtype=bool)
    only[row] = True
    _, estimates = index.search(vector, 1, only)
    return float(estimates[0]) if len(estimates) else -1.0


def _files(db: sqlite3.Connection, tally: _Tally, directory: Path) -> None:
    """Files that a start would throw away cost it time, no more; it is told all the same."""
    for path, error in read_all(directory):
        tally.looked_at += 1
        if error is not None:
            tally.fault(f"{path.name} cannot be used ({error}); the next start makes it anew")
