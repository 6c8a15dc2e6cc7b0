"""Erasures outside the data directory: beside the snapshots, so that whatever is restored forgets what was erased since.

`erasures.jsonl` has the audit's lines of erasures, one JSON object a line, of every gallery that has snapshots in the folder.
They hold keyed digests and no names; the key is in the gallery, and so in its snapshots.
"""

import hmac
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from app.adapters.local_gallery import audit
from app.adapters.local_gallery.erase import forget
from app.adapters.local_gallery.rows import ITEM_COLUMNS, row_to_item, to_text
from app.core.audit import AuditLine, digest
from app.core.records import Item
from app.errors import StorageFailed
from app.files import sync

LOG = "erasures.jsonl"


@dataclass(frozen=True, slots=True)
class Recorded:
    """An erasure, and whose: galleries may share a folder."""

    gallery: str
    line: AuditLine


def gallery_of(db: sqlite3.Connection) -> str | None:
    """What a gallery and all copies of it are known by; None before its audit's first line."""
    key = audit.stored_key(db)
    return None if key is None else hmac.digest(key, b"gallery", "sha256")[:8].hex()


class ErasureLog:
    """The file. A line that a power cut left unfinished is none, and is written again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def exists(self) -> bool:
        """Whether it is there: it is made with a folder's first snapshot."""
        return self._path.is_file()

    def lines(self) -> list[Recorded]:
        """All erasures. Raises StorageFailed where one cannot be read: nobody knows what it told of."""
        try:
            whole = self._path.read_bytes()
        except OSError as error:
            raise StorageFailed(f"{self._path}: {error.strerror or error}") from error
        found = []
        for number, text in enumerate(whole.split(b"\n")[:-1], 1):
            try:
                found.append(_from_json(json.loads(text)))
            except (ValueError, KeyError, TypeError) as error:
                raise StorageFailed(f"{self._path}, line {number}: this erasure cannot be read: {error}") from error
        return found

    def append(self, erasures: Iterable[Recorded]) -> None:
        """Add lines; they are on the disk at the end. Raises OSError."""
        text = b"".join(json.dumps(_to_json(erasure)).encode() + b"\n" for erasure in erasures)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            whole = file.read()
            file.seek(whole.rfind(b"\n") + 1)  # over an unfinished line, where there is one
            file.truncate()
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        sync(self._path.parent)

    def add_missing(self, gallery: str | None, lines: Iterable[AuditLine]) -> None:
        """Bring it up to date with a gallery's audit. Raises OSError, StorageFailed."""
        known = {recorded.line.hash for recorded in self.lines()} if self.exists else set()
        # Those that a restore wrote repeat lines that it found here.
        missing = [line for line in lines if line.hash not in known and "of" not in line.details]
        if gallery is not None and missing:
            self.append(Recorded(gallery, line) for line in missing)
        elif not self.exists:
            self.append([])


def apply(db: sqlite3.Connection, recorded: Sequence[Recorded], now: datetime) -> tuple[int, int]:
    """Take out of a copy, in the open transaction, what was erased since; how many items went, by how many erasures.

    Each gets a line in the copy's audit, so that a copy of the copy does not lose what came in afterwards.
    """
    key, gallery = audit.stored_key(db), gallery_of(db)
    if key is None:
        return 0, 0
    own = list(audit.erasures(db))
    known = {line.hash for line in own} | {bytes.fromhex(str(line.details.get("of", ""))) for line in own}
    pending = [r.line for r in recorded if r.gallery == gallery and r.line.hash not in known]
    removed = 0
    said = _said(db) if pending else set()
    for collection in sorted({line.collection for line in pending}):
        lines = [line for line in pending if line.collection == collection]
        # The persons of a line are erased whole where it says so; else they are those of its items.
        items = {one for line in lines for one in line.items}
        persons = {one for line in lines if line.details.get("persons") for one in line.persons}
        removed += _forget_digests(db, key, collection, items, persons, said, now)
    for line in pending:
        details = {**line.details, "of": line.hash.hex()}
        audit.append_digests(db, now, "erase", line.collection, details, line.items, line.persons)
    return removed, len(pending)


def _forget_digests(
    db: sqlite3.Connection,
    key: bytes,
    collection: str,
    items: set[bytes],
    persons: set[bytes],
    said: set[str],
    now: datetime,
) -> int:
    """Remove a collection's items of these digests, or of persons of these; and what else names them."""
    erased = {text for text in said if digest(key, "person", collection, text) in persons}
    doomed: list[tuple[int, Item]] = []
    sql = f"select seq, {ITEM_COLUMNS} from item where collection_id = (select id from collection where name = ?)"
    known: dict[str | None, bool] = {None: False}  # a person has many items
    for seq, *row in db.execute(sql, (collection,)):
        item = row_to_item(tuple(row))
        if item.person_id not in known:
            known[item.person_id] = digest(key, "person", collection, str(item.person_id)) in persons
        if known[item.person_id] or digest(key, "item", collection, item.id) in items:
            doomed.append((seq, item))
    db.executemany("delete from item where seq = ?", ((seq,) for seq, _ in doomed))
    gone = [item for _, item in doomed]
    ids = {item.id for item in gone} | {text for text in said if digest(key, "item", collection, text) in items}
    erased |= {item.person_id for item in gone if item.person_id is not None and known[item.person_id]}
    forget(db, collection, gone, ids, erased, now)
    return len(doomed)


def _said(db: sqlite3.Connection) -> set[str]:
    """Texts in jobs, calibrations and the memory of merges, any of which may be a name."""
    found = {person for row in db.execute("select person_id, into_person_id from merge") for person in row}
    for (data,) in db.execute("select data from calibration"):
        found.update(_texts(json.loads(data)))
    for params, note, result in db.execute("select params, note, result from job"):
        found |= {note, *_texts(json.loads(params)), *_texts(json.loads(result or "null"))}
    return found


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _to_json(recorded: Recorded) -> dict[str, object]:
    line = recorded.line
    return {
        "gallery": recorded.gallery,
        "seq": line.seq,
        "at": to_text(line.at),
        "collection": line.collection,
        "details": dict(line.details),
        "items": [one.hex() for one in line.items],
        "persons": [one.hex() for one in line.persons],
        "hash": line.hash.hex(),
    }


def _from_json(told: dict[str, Any]) -> Recorded:
    items, persons = (tuple(bytes.fromhex(one) for one in told[name]) for name in ("items", "persons"))
    at, hash_ = datetime.fromisoformat(told["at"]), bytes.fromhex(told["hash"])
    line = AuditLine(int(told["seq"]), at, "erase", told["collection"], dict(told["details"]), items, persons, hash_)
    return Recorded(str(told["gallery"]), line)
