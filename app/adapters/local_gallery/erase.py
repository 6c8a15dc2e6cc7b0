"""What else in the database names erased items, and how it is made to forget them to the last byte."""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime

from app.adapters.local_gallery import jobs
from app.adapters.local_gallery.rows import listed
from app.core.erasing import Names, parsed
from app.core.records import Item

_REWRITTEN = ("item", "job", "calibration", "merge")  # names stand in these


def forget(
    db: sqlite3.Connection,
    collection: str,
    items: Sequence[Item],
    ids: Iterable[str],
    persons: Iterable[str],
    now: datetime,
) -> Names:
    """Take these items and persons out of jobs, calibrations and the memory of merges, in the open transaction.

    ids: of the items, and of such as are not there any more. persons: those who are gone with them. Returns their names.
    """
    people = set(persons)
    names = Names.of(items, ids, people)
    jobs.forget(db, names, now)
    its = "collection_id = (select id from collection where name = ?)"
    for search_by, data in db.execute(f"select search_by, data from calibration where {its}", (collection,)).fetchall():
        if names.within(parsed(data)):
            db.execute(f"delete from calibration where {its} and search_by = ?", (collection, search_by))
    merged = listed(people)
    which = "(person_id in (select value from json_each(?)) or into_person_id in (select value from json_each(?)))"
    db.execute(f"delete from merge where {its} and {which}", (collection, merged, merged))
    return names


def begin(db: sqlite3.Connection) -> None:
    """Note in the erase's own transaction that its traces are still there, so that a start after a kill removes them."""
    db.execute("insert or replace into secret (name, value) values ('erasing', x'')")


def end(db: sqlite3.Connection) -> None:
    """They are gone."""
    db.execute("delete from secret where name = 'erasing'")


def is_unfinished(db: sqlite3.Connection) -> bool:
    """Whether an erase began and did not end."""
    return db.execute("select 1 from secret where name = 'erasing'").fetchone() is not None


def rewrite_items(db: sqlite3.Connection) -> None:
    """Write the tables anew in which names stand, so that no stale copy of a row is left.

    `secure_delete` overwrites what is deleted, but where SQLite has moved rows between pages before, it leaves their old
    copies in the pages' gaps, and those it does not know any more. A table that is dropped is overwritten whole. (Vectors
    and crops never move: see `slots`.)
    """
    for table in _REWRITTEN:
        _rewrite(db, table)


def _rewrite(db: sqlite3.Connection, table: str) -> None:
    """As https://sqlite.org/lang_altertable.html#otheralter describes it."""
    (created,) = db.execute("select sql from sqlite_schema where type = 'table' and name = ?", (table,)).fetchone()
    others = "select sql from sqlite_schema where type in ('index', 'trigger') and tbl_name = ? and sql is not null"
    remade = [sql for (sql,) in db.execute(others, (table,)).fetchall()]
    numbered = db.execute("select seq from sqlite_sequence where name = ?", (table,)).fetchone()
    columns = created.partition("(")[2]
    db.execute(f"create table rewritten ({columns}")
    db.execute(f"insert into rewritten select * from {table} order by rowid")
    db.execute(f"drop table {table}")
    db.execute(f"alter table rewritten rename to {table}")
    if numbered is not None:  # no number is given out twice, also where the last rows are gone
        db.execute("delete from sqlite_sequence where name = ?", (table,))
        db.execute("insert into sqlite_sequence (name, seq) values (?, ?)", (table, *numbered))
    for sql in remade:
        db.execute(sql)
