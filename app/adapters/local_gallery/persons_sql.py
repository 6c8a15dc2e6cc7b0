"""Persons as the items in the database tell of them."""

import json
import sqlite3
from datetime import datetime

from app.core.records import Person

_EACH = """
select person_id, count(*), min(captured_at), max(captured_at) from item
where collection_id = ? and person_id is not null and {wanted} group by person_id order by person_id limit ?
"""
_CAMERAS = """
select distinct person_id, camera_id from item where collection_id = ? and camera_id is not null
and person_id in (select value from json_each(?)) order by camera_id
"""


def page(db: sqlite3.Connection, collection_id: int, after: str | None, limit: int) -> list[Person]:
    """Persons behind one, by id."""
    wanted, start = ("person_id >= ?", "") if after is None else ("person_id > ?", after)
    return _read(db, collection_id, wanted, start, limit)


def one(db: sqlite3.Connection, collection_id: int, person_id: str) -> Person | None:
    """One of them."""
    return next(iter(_read(db, collection_id, "person_id = ?", person_id, 1)), None)


def _read(db: sqlite3.Connection, collection_id: int, wanted: str, person_id: str, limit: int) -> list[Person]:
    rows = db.execute(_EACH.format(wanted=wanted), (collection_id, person_id, limit)).fetchall()
    cameras: dict[str, list[str]] = {row[0]: [] for row in rows}
    for person, camera in db.execute(_CAMERAS, (collection_id, json.dumps(list(cameras)))).fetchall():
        cameras[person].append(camera)
    return [
        Person(person, items, tuple(cameras[person]), _instant(first), _instant(last))
        for person, items, first, last in rows
    ]


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
