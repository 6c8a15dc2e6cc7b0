"""A data directory as an older version left it: of schema 2, before vectors lay in slots."""

import sqlite3
from contextlib import closing
from importlib.resources import files
from itertools import repeat
from pathlib import Path

import numpy as np

from app.adapters.local_gallery.database import FILE, statements
from app.adapters.local_gallery.rows import ITEM_COLUMNS, deflate, item_to_row, to_text
from tests.faults.world import LOBBY, NOON, YARD, State, crop, item, person, raw_vectors, unit_vectors

SCHEMA = 2
EXPECTED = {
    LOBBY.name: {number: State(number % 2, person(number)) for number in range(150)},
    YARD.name: {number: State(0, person(number)) for number in range(1_000_000, 1_000_300)},
}


def make_old(directory: Path) -> None:
    """Write it."""
    directory.mkdir(parents=True)
    with closing(sqlite3.connect(directory / FILE, isolation_level=None)) as db:
        db.execute("pragma journal_mode = WAL")
        db.execute("begin")
        folder = files("app.adapters.local_gallery") / "migrations"
        for step in sorted(folder.iterdir(), key=lambda step: step.name)[:SCHEMA]:
            for statement in statements(step.read_text(encoding="utf-8")):
                db.execute(statement)
        db.execute(f"pragma user_version = {SCHEMA}")
        for number, collection in enumerate((LOBBY, YARD), 1):
            row = (
                number,
                collection.name,
                collection.fingerprint,
                collection.dim,
                collection.keep_crops,
                to_text(NOON),
            )
            db.execute("insert into collection values (?, ?, ?, ?, ?, ?)", row)
            _fill(db, number, collection.name, collection.keep_crops)
        db.execute("commit")


def _fill(db: sqlite3.Connection, collection_id: int, name: str, keep_crops: bool) -> None:
    states = EXPECTED[name]
    norms = np.linalg.norm(raw_vectors(states), axis=1).tolist()
    blobs = [unit.astype("<f4").tobytes() for unit in unit_vectors(states)]
    rows = [item_to_row(item(*one)) for one in states.items()]
    marks = ", ".join(repeat("?", len(rows[0]) + 3))
    sql = f"insert into item (collection_id, {ITEM_COLUMNS}, norm, vector) values ({marks}) returning seq"
    for (number, state), row, norm, blob in zip(states.items(), rows, norms, blobs, strict=True):
        (seq,) = db.execute(sql, (collection_id, *row, norm, blob)).fetchone()
        if keep_crops:
            db.execute("insert into crop (seq, pixels) values (?, ?)", (seq, deflate(crop(number, state.version))))
