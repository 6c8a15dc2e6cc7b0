"""`AuditTrail` in the gallery's database; lines are written inside the transaction of which they tell."""

import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from app.adapters.local_gallery.database import Database
from app.adapters.local_gallery.rows import to_text
from app.core.audit import DIGEST_BYTES, GENESIS, Action, AuditHead, AuditLine, chained, digest, first_break
from app.errors import AuditBroken

_COLUMNS = "seq, at, action, collection, details, items, persons, hash"
_PAGE = 1000


class LocalAudit:
    """As the port says."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def lines(self, after: int = 0, limit: int | None = 100) -> list[AuditLine]:
        """As the port says."""
        with self._database.reading() as db:
            sql = f"select {_COLUMNS} from audit where seq > ? order by seq limit ?"
            rows = db.execute(sql, (after, -1 if limit is None else limit)).fetchall()
        return [_from_row(row) for row in rows]

    def about(self, collection: str, item_id: str | None = None, person_id: str | None = None) -> list[AuditLine]:
        """As the port says."""
        with self._database.reading() as db:
            key = stored_key(db)
            if key is None:
                return []
            item = b"" if item_id is None else digest(key, "item", collection, item_id)
            person = b"" if person_id is None else digest(key, "person", collection, person_id)
            sql = f"select {_COLUMNS} from audit where instr(items, ?) or instr(persons, ?) order by seq"
            rows = db.execute(sql, (item or None, person or None)).fetchall()
        # SQLite looks at bytes, and so may see one that begins in the middle of another.
        return [line for line in map(_from_row, rows) if item in line.items or person in line.persons]

    def verify(self) -> AuditHead:
        """As the port says."""
        try:
            head, broken = first_break(self._all())
        except (TypeError, ValueError) as error:
            raise AuditBroken(f"a line of the audit cannot be read: {error}") from error
        if broken is not None:
            raise AuditBroken(f"line {broken} of the audit does not fit the one before it, number {head.seq}")
        return head

    def _all(self) -> Iterator[AuditLine]:
        after = 0
        while page := self.lines(after, _PAGE):
            yield from page
            after = page[-1].seq


def append(
    db: sqlite3.Connection,
    at: datetime,
    action: Action,
    collection: str,
    details: Mapping[str, str | int],
    items: Iterable[str] = (),
    persons: Iterable[str | None] = (),
) -> AuditHead:
    """A line in the open transaction, about these ids. Returns what the chain then ends with."""
    key = own_key(db)
    of_items = [digest(key, "item", collection, item) for item in items]
    named = sorted({person for person in persons if person is not None})
    of_persons = [digest(key, "person", collection, person) for person in named]
    return append_digests(db, at, action, collection, details, of_items, of_persons)


def append_digests(
    db: sqlite3.Connection,
    at: datetime,
    action: Action,
    collection: str,
    details: Mapping[str, str | int],
    items: Iterable[bytes],
    persons: Iterable[bytes],
) -> AuditHead:
    """The same where only digests are known."""
    row = db.execute("select seq, hash from audit order by seq desc limit 1").fetchone()
    seq, before = row or (0, GENESIS)
    line = chained(before, seq + 1, at, action, collection, details, items, persons)
    db.execute(f"insert into audit ({_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?)", _to_row(line))
    return AuditHead(line.seq, line.hash)


def erasures(db: sqlite3.Connection) -> Iterator[AuditLine]:
    """The lines that tell of erasures."""
    for row in db.execute(f"select {_COLUMNS} from audit where action = 'erase' order by seq"):
        yield _from_row(row)


def own_key(db: sqlite3.Connection) -> bytes:
    """The same, made where there is none yet, in the open transaction."""
    key = stored_key(db)
    if key is None:
        key = secrets.token_bytes(32)
        db.execute("insert into secret (name, value) values ('audit', ?)", (key,))
    return key


def stored_key(db: sqlite3.Connection) -> bytes | None:
    """What digests are made with; None before the first line."""
    row = db.execute("select value from secret where name = 'audit'").fetchone()
    return None if row is None else bytes(row[0])


def _to_row(line: AuditLine) -> tuple[object, ...]:
    details = json.dumps(dict(line.details), sort_keys=True)
    items, persons = b"".join(line.items), b"".join(line.persons)
    return line.seq, to_text(line.at), line.action, line.collection, details, items, persons, line.hash


def _from_row(row: tuple[Any, ...]) -> AuditLine:
    seq, at, action, collection, details, items, persons, hash_ = row
    return AuditLine(
        seq, datetime.fromisoformat(at), action, collection, json.loads(details), _cut(items), _cut(persons), hash_
    )


def _cut(digests: bytes) -> tuple[bytes, ...]:
    return tuple(digests[start : start + DIGEST_BYTES] for start in range(0, len(digests), DIGEST_BYTES))
