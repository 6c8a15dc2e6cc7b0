"""What else in the database names erased items, and how it is made to forget them to the last byte."""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime

from app.adapters.local_gallery.rows import to_text
from app.core.records import Item

ERASED = "erased"  # the code of a job whose texts went with a person


def forget(
    db: sqlite3.Connection, collection: str, items: Sequence[Item], persons: Iterable[str], now: datetime
) -> None:
    """Take these items and persons out of jobs, calibrations and the memory of merges, in the open transaction."""
    names = {name for item in items for name in (item.id, item.source, item.sha256) if name}
    people = set(persons)
    sql = "select seq, params, note, coalesce(error_detail, ''), coalesce(result, ''), state from job"
    for seq, *texts, state in db.execute(sql).fetchall():
        if _names(texts, names, people):
            _clear_job(db, seq, state, now)
    calibrations = "select collection_id, search_by, data from calibration"
    for collection_id, search_by, data in db.execute(calibrations).fetchall():
        if _names([data], names, set()):
            db.execute("delete from calibration where collection_id = ? and search_by = ?", (collection_id, search_by))
    merges = "select person_id, into_person_id from merge join collection on id = collection_id where name = ?"
    if people & {person for row in db.execute(merges, (collection,)).fetchall() for person in row}:
        db.execute("delete from merge where collection_id = (select id from collection where name = ?)", (collection,))


def rewrite_items(db: sqlite3.Connection) -> None:
    """Write the items' table anew, which leaves no stale copy of a row behind. Foreign keys must be off.

    `secure_delete` overwrites what is deleted, but where SQLite has moved rows between pages before, it leaves their old
    copies in the pages' gaps, and those it does not know any more. A table that is dropped is overwritten whole.
    """
    (created,) = db.execute("select sql from sqlite_schema where type = 'table' and name = 'item'").fetchone()
    indexes = "select sql from sqlite_schema where type = 'index' and tbl_name = 'item' and sql is not null"
    remade = [sql for (sql,) in db.execute(indexes).fetchall()]
    (highest,) = db.execute("select seq from sqlite_sequence where name = 'item'").fetchone() or (0,)
    head, columns = created.split("(", 1)
    db.execute(f"{head.replace('item', 'item_rewritten')}({columns}")
    db.execute("insert into item_rewritten select * from item order by seq")
    db.execute("drop table item")
    db.execute("alter table item_rewritten rename to item")
    db.execute("delete from sqlite_sequence where name = 'item'")
    db.execute("insert into sqlite_sequence (name, seq) values ('item', ?)", (highest,))  # no number is given out twice
    for sql in remade:
        db.execute(sql)


def _names(texts: Iterable[str], names: set[str], people: set[str]) -> bool:
    """Whether any text holds a name, or a person's as a JSON text of its own."""
    return any(name in text for text in texts for name in names) or any(
        f'"{person}"' in text for text in texts for person in people
    )


def _clear_job(db: sqlite3.Connection, seq: int, state: str, now: datetime) -> None:
    ended = state not in ("queued", "running")
    sql = "update job set params = '{}', note = '', result = null, error_code = ?, error_detail = ? where seq = ?"
    db.execute(sql, (ERASED, "what it told of was erased", seq))
    if not ended:
        db.execute("update job set state = 'failed', ended_at = ? where seq = ?", (to_text(now), seq))
