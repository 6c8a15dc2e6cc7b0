"""Out of a snapshot: a whole data directory, or one collection of it; without what was erased since it was made.

A copy is checked against its sha256, brought to the newest schema, and made to forget, before anything of it counts.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from app.adapters.local_gallery import audit, erase
from app.adapters.local_gallery.database import FILE, Database
from app.adapters.local_gallery.erasures import ErasureLog, Recorded, apply
from app.adapters.local_gallery.lock import LOCK, DirectoryLock
from app.adapters.local_gallery.rows import COLLECTION_COLUMNS, ITEM_COLUMNS, from_blobs, row_to_collection, row_to_item
from app.adapters.local_gallery.snapshot import Manifest, Stop, Tell
from app.adapters.local_gallery.writing import Writing
from app.core.records import Collection
from app.core.upkeep import Restored
from app.errors import BadInput, CollectionExists, Interrupted, StorageFailed, UnknownCollection
from app.files import sync

WORKSHOP = ".restoring"  # in the data directory: what is not whole yet; a start clears it away
_GROUP = 500  # items in one transaction
_PIECE = 1 << 20
Write = Callable[[Callable[[Writing], Any], str | None], Any]  # the work, and whose view it changes


def restore_directory(
    source: Path, directory: Path, log: Path | None, tell: Tell = lambda done, total: None
) -> Restored:
    """Make a data directory of a snapshot: whole or absent. log: where erasures are recorded; None: nobody recorded any.

    Raises StorageFailed for a snapshot or a log that is damaged, BadInput for a directory that holds something,
    DataDirectoryBusy.
    """
    recorded = [] if log is None else ErasureLog(log).lines()
    lock = DirectoryLock(directory)
    try:
        if others := sorted(path.name for path in directory.iterdir() if path.name not in (LOCK, WORKSHOP)):
            raise BadInput(f"{directory} is not empty (there is {others[0]}); name a new directory")
        shutil.rmtree(directory / WORKSHOP, ignore_errors=True)
        with _copied(source, directory / WORKSHOP, recorded, tell, lambda: False) as (database, restored):
            with database.transaction() as db:
                audit.append(db, datetime.now(UTC), "restore", "", _details(restored))
            database.close()  # and with it goes the log beside the file
            sync(directory / WORKSHOP / FILE)
            (directory / WORKSHOP / FILE).replace(directory / FILE)
            sync(directory)
            return restored
    except OSError as error:
        raise StorageFailed(f"{directory} could not be restored: {error.strerror or error}") from error
    finally:
        lock.release()


def restore_collection(
    source: Path,
    workshop: Path,
    recorded: Sequence[Recorded],
    wanted: tuple[str, str, datetime],
    write: Write,
    tell: Tell,
    stop: Stop,
) -> Restored:
    """One collection of a snapshot into a new one of a gallery that runs. wanted: its name there, its name here, and when.

    A call that was killed goes on where it stopped, if it is called again with the same `wanted`. What is told to stop
    takes back what it did. Raises UnknownCollection, CollectionExists, StorageFailed, Interrupted.
    """
    old, new, now = wanted
    shutil.rmtree(workshop, ignore_errors=True)
    try:
        with (
            _copied(source, workshop, recorded, lambda done, total: None, stop) as (database, restored),
            database.reading() as db,
        ):
            row = db.execute(f"select {COLLECTION_COLUMNS}, id from collection where name = ?", (old,)).fetchone()
            if row is None:
                raise UnknownCollection(old)
            collection = replace(row_to_collection(row[:-1]), name=new, created_at=now)
            if write(lambda writing: writing.put_collection(collection), new) != collection:
                raise CollectionExists(new)
            (total,) = db.execute("select count(*) from item where collection_id = ?", (row[-1],)).fetchone()
            done = 0
            try:
                for rows in _groups(db.execute(_ROWS, (row[-1],))):
                    if stop():
                        raise Interrupted("the restore was given up")
                    write(partial(_put, collection, rows), new)
                    done += len(rows)
                    tell(done, total)
                details = _details(replace(restored, items=done))
                write(lambda writing: audit.append(writing.db, writing.now, "restore", new, details), new)
            except BaseException:
                with suppress(UnknownCollection):  # somebody else removed it meanwhile
                    write(lambda writing: writing.delete_collection(new), None)
                raise
            return replace(restored, items=done)
    except OSError as error:
        raise StorageFailed(f"{workshop}: {error.strerror or error}") from error


@contextmanager
def _copied(
    source: Path, workshop: Path, recorded: Sequence[Recorded], tell: Tell, stop: Stop
) -> Iterator[tuple[Database, Restored]]:
    """A copy of a snapshot in a folder that is gone at the end: checked, of the newest schema, what was erased forgotten."""
    manifest = Manifest.read(source)
    workshop.mkdir(mode=0o700)
    try:
        if _copy(source / FILE, workshop / FILE, manifest.bytes, tell, stop) != manifest.sha256:
            raise StorageFailed(f"the snapshot {source} is damaged: its sha256 is not that of its manifest")
        database = Database(workshop / FILE)
        try:
            with database.transaction() as db:
                erased, erasures = apply(db, recorded, datetime.now(UTC))
                (items,) = db.execute("select count(*) from item").fetchone()
            if erasures:
                database.rewrite(erase.rewrite_items)
            database.empty_log(surely=True)
            yield database, Restored(manifest.id, items, erased, erasures)
        finally:
            database.close()
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _copy(source: Path, target: Path, total: int, tell: Tell, stop: Stop) -> str:
    """Returns the sha256 of what was copied."""
    sha256, done = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as copy, source.open("rb") as original:
        while piece := original.read(_PIECE):
            if stop():
                raise Interrupted("the restore was given up")
            copy.write(piece)
            sha256.update(piece)
            done += len(piece)
            tell(done, total)
    return sha256.hexdigest()


_ROWS = f"""
select {ITEM_COLUMNS}, norm, added_at, unit, pixels, seq
from item join vector using (seq) left join crop using (seq) where collection_id = ? order by seq
"""


def _groups(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    while group := list(islice(rows, _GROUP)):
        yield group


def _details(restored: Restored) -> dict[str, str | int]:
    return {"snapshot": restored.snapshot, "items": restored.items, "erased": restored.erased}


def _put(collection: Collection, rows: Sequence[tuple[Any, ...]], writing: Writing) -> None:
    """Rows as they were: their vectors to the last bit, and the day on which they came in, from which retention counts."""
    items = [row_to_item(row[:7]) for row in rows]
    norms = np.array([row[7] for row in rows], dtype=np.float32)
    units = from_blobs((row[9] for row in rows), collection.dim)
    writing.upsert(collection, items, units, norms, [row[10] for row in rows])
    added = ((row[8], collection.name, row[0]) for row in rows)
    sql = "update item set added_at = ? where collection_id = (select id from collection where name = ?) and id = ?"
    writing.db.executemany(sql, added)
