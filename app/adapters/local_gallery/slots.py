"""Where vectors and kept crops lie: rows that are overwritten in place and never move, so that no copy of them is left.

SQLite overwrites a row where it lies when the new one is as long. An item that is deleted gives its slots back (a trigger).
"""

import sqlite3


def fill(db: sqlite3.Connection, content: bytes) -> int:
    """Put it into a free slot of its size, or a new one; returns the slot's number."""
    row = db.execute("select id from slot where free and size = ? limit 1", (len(content),)).fetchone()
    if row is None:
        sql = "insert into slot (size, free, bytes) values (?, 0, ?) returning id"
        return int(db.execute(sql, (len(content), content)).fetchone()[0])
    db.execute("update slot set free = 0, bytes = ? where id = ?", (content, row[0]))
    return int(row[0])


def empty(db: sqlite3.Connection, slot: int | None) -> None:
    """Overwrite what is in it with zeros, and give it to whoever comes next; None has nothing in it."""
    db.execute("update slot set free = 1, bytes = zeroblob(size) where id = ?", (slot,))
