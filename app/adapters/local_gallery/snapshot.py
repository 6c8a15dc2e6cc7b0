"""Snapshots: the whole database as it is at one moment, in a folder outside the data directory, whole or absent.

    <folder>/20260301T100000Z-5f2c1e/gallery.sqlite3    readable by its owner alone
    <folder>/20260301T100000Z-5f2c1e/manifest.json      its sha256, what is in it
    <folder>/erasures.jsonl                             what was erased since, of all of them

SQLite's `vacuum into` makes them: writes go on meanwhile, nothing of a row that is gone comes along, and it can be broken off
(the backup API copies pages as they are, with what lies in their gaps, and begins anew when somebody else writes).
"""

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Set
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from app.adapters.local_gallery import audit
from app.adapters.local_gallery.database import FILE, Database
from app.adapters.local_gallery.erasures import LOG, ErasureLog, gallery_of
from app.adapters.local_gallery.rows import condition, to_text
from app.core.records import Filter
from app.core.upkeep import Holders, Snapshot
from app.errors import BadSettings, Interrupted, StorageFailed, UnknownSnapshot
from app.files import sync, whole_file

MANIFEST = "manifest.json"
_LOOK = 10_000  # steps of SQLite's machine between two looks at how far it is: some thirty a second
_GIVEN_UP = "the snapshot was given up"
Tell = Callable[[int, int], None]  # so many bytes of about so many
Stop = Callable[[], bool]  # whether to give up


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is said of a snapshot beside it."""

    id: str
    gallery: str | None
    created_at: str
    bytes: int
    sha256: str
    schema: int
    audit_seq: int
    collections: dict[str, int]

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Of the snapshot in that folder. Raises StorageFailed."""
        try:
            return cls(**json.loads((folder / MANIFEST).read_bytes()))
        except OSError as error:
            raise StorageFailed(f"{folder} is no snapshot: {error.strerror or error}") from error
        except (ValueError, TypeError) as error:
            raise StorageFailed(f"{folder / MANIFEST} cannot be read: {error}") from error


class Snapshots:
    """Those of one gallery. The caller sees to it that one thing at a time is done here."""

    def __init__(self, folder: Path, directory: Path, database: Database, clock: Callable[[], datetime]) -> None:
        """folder: where they go."""
        self._folder, self._directory, self._database, self._clock = folder, directory, database, clock

    def take(self, tell: Tell, stop: Stop) -> Snapshot:
        """Copy everything. Raises StorageFailed, Interrupted when told to stop; then nothing is left of it."""
        require_outside(self._folder, self._directory)  # again: a link may have been made since the start
        now = self._clock()
        snapshot_id = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        with _of_folder(self._folder), self._partial(snapshot_id) as partial:
            with self._database.transaction() as db:
                audit.own_key(db)  # without it a restore could not tell whom later erasures mean
            self._copy(partial / FILE, tell, stop)
            manifest = _describe(partial / FILE, snapshot_id, to_text(now))
            with whole_file(partial / MANIFEST) as file:
                file.touch(0o600)
                file.write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
            sync(partial / FILE)
            sync(partial)
            self._record(self._folder, manifest.gallery)  # before it counts: a folder with snapshots has the file
            path = partial.replace(self._folder / snapshot_id)
            sync(self._folder)
        self._remember(manifest, path)
        return _snapshot(manifest, path)

    def all(self) -> list[Snapshot]:
        """The newest first, those that cannot be reached too."""
        self._adopt()
        with self._database.reading() as db:
            rows = db.execute("select id, path, created_at, bytes, sha256, audit_seq from snapshot").fetchall()
        found = [_known(*row) for row in rows]
        return sorted(found, key=lambda snapshot: (snapshot.created_at, snapshot.id), reverse=True)

    def folder_of(self, snapshot_id: str) -> Path:
        """Where a snapshot lies. Raises UnknownSnapshot, StorageFailed where it cannot be reached."""
        for snapshot in self.all():
            if snapshot.id == snapshot_id:
                if not snapshot.reachable:
                    raise StorageFailed(f"the snapshot {snapshot_id} is not at {snapshot.path}, or cannot be read")
                return Path(snapshot.path)
        raise UnknownSnapshot(snapshot_id)

    def delete(self, snapshot_id: str) -> None:
        """Remove one; one that cannot be reached is forgotten. Raises UnknownSnapshot, StorageFailed."""
        found = {snapshot.id: snapshot for snapshot in self.all()}
        if snapshot_id not in found:
            raise UnknownSnapshot(snapshot_id)
        path = Path(found[snapshot_id].path)
        with _of_folder(path.parent):
            if path.exists():
                doomed = path.replace(path.with_name(self._hidden(snapshot_id)))  # at once, or not at all
                shutil.rmtree(doomed)
                sync(path.parent)
        with self._database.transaction() as db:
            db.execute("delete from snapshot where id = ?", (snapshot_id,))

    def holding(self, collection: str, ids: Set[str], persons: Set[str]) -> Holders:
        """Which have an item of one of these ids, or of one of these persons."""
        holding, unreachable = [], []
        for snapshot in self.all():
            try:
                if not snapshot.reachable:
                    raise StorageFailed(snapshot.path)
                if _holds(Path(snapshot.path) / FILE, collection, ids, persons):
                    holding.append(snapshot.id)
            except StorageFailed:
                unreachable.append(snapshot.id)
        return Holders(tuple(holding), tuple(unreachable))

    def clear_away(self) -> None:
        """Remove what a process that was killed left unfinished: it may hold what is erased, and no receipt would name it."""
        for left in self._folder.glob(self._hidden("*").replace(".partial", ".*")):
            shutil.rmtree(left, ignore_errors=True)

    def record_erasures(self) -> bool | None:
        """Tell every folder with snapshots of all erasures; whether each knows them now. None: there is no snapshot."""
        try:
            self._adopt()  # one that nobody knows would bring back who is erased
        except StorageFailed:
            return False
        with self._database.reading() as db:
            gallery, paths = gallery_of(db), db.execute("select path from snapshot").fetchall()
        told = []
        for folder in {Path(path).parent for (path,) in paths}:
            try:
                # A folder without the file is not the one that snapshots were put in: a disk that is not mounted, say.
                told.append(ErasureLog(folder / LOG).exists and self._record(folder, gallery))
            except (OSError, StorageFailed):
                told.append(False)
        return all(told) if told else None

    def workshop(self, source: Path) -> Path:
        """Where a copy of a snapshot may be worked on."""
        return source.with_name(self._hidden(source.name).replace(".partial", ".restoring"))

    def _record(self, folder: Path, gallery: str | None) -> bool:
        with self._database.reading() as db:
            ErasureLog(folder / LOG).add_missing(gallery, audit.erasures(db))
        return True

    def _copy(self, target: Path, tell: Tell, stop: Stop) -> None:
        """The database into a new file, as one read transaction sees it."""
        os.close(
            os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        )  # SQLite would make it readable to others

        def look() -> bool:
            tell(min(target.stat().st_size, total), total)
            return stop()

        with self._database.reading() as db:
            (total,) = db.execute(
                "select (page_count - freelist_count) * page_size from pragma_page_count, pragma_freelist_count, pragma_page_size"
            ).fetchone()
            db.execute("pragma query_only = off")  # SQLite counts writing another file as a write
            db.set_progress_handler(look, _LOOK)
            try:
                db.execute("vacuum into ?", (str(target),))
            except sqlite3.Error as error:
                if stop():
                    raise Interrupted(_GIVEN_UP) from error
                raise StorageFailed(f"the snapshot {target}: {error}") from error
            finally:
                db.set_progress_handler(None, 0)
                db.execute("pragma query_only = on")
        if stop():
            raise Interrupted(_GIVEN_UP)
        tell(total, total)

    @contextmanager
    def _partial(self, snapshot_id: str) -> Iterator[Path]:
        """A folder that is gone at the end, unless it got another name."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.clear_away()
        partial = self._folder / self._hidden(snapshot_id)
        partial.mkdir(mode=0o700)
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _hidden(self, snapshot_id: str) -> str:
        """The name of what is not whole. It has the data directory's mark: another process may use the same folder."""
        mark = hashlib.sha256(str(self._directory.resolve()).encode(errors="surrogateescape")).hexdigest()[:8]
        return f".{snapshot_id}.{mark}.partial"

    def _adopt(self) -> None:
        """Remember snapshots that lie in the folder and are not known: of a process that was killed, or older than a restore."""
        with self._database.reading() as db:
            gallery, known = gallery_of(db), {row for (row,) in db.execute("select id from snapshot").fetchall()}
        for path in sorted(self._folder.glob(f"[0-9]*/{MANIFEST}")):
            if path.parent.name not in known:
                try:
                    manifest = Manifest.read(path.parent)
                except StorageFailed:
                    continue
                if gallery is not None and manifest.gallery == gallery:
                    self._remember(manifest, path.parent)

    def _remember(self, manifest: Manifest, path: Path) -> None:
        m = manifest
        row = (m.id, str(path.resolve()), m.created_at, m.audit_seq, m.bytes, m.sha256)
        with self._database.transaction() as db:
            columns = "id, path, created_at, audit_seq, bytes, sha256"
            db.execute(f"insert or replace into snapshot ({columns}) values (?, ?, ?, ?, ?, ?)", row)


def snapshots_beside(directory: Path) -> Path:
    """Where a data directory's snapshots lie unless somebody says otherwise."""
    whole = directory.absolute()
    return whole.with_name(f"{whole.name}-snapshots")


def require_outside(folder: Path, directory: Path) -> None:
    """Raises BadSettings for a folder of snapshots in the data directory."""
    if folder.resolve().is_relative_to(directory.resolve()):
        raise BadSettings(
            f"snapshots must lie outside the data directory {directory}, not in {folder}: "
            "what is lost or erased there must neither go nor stay with them; set REID_SNAPSHOT_DIR"
        )


def opened(path: Path) -> sqlite3.Connection:
    """A snapshot's file, to be read and never written: SQLite makes no other file beside it."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)


def _describe(file: Path, snapshot_id: str, created_at: str) -> Manifest:
    with file.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    with closing(opened(file)) as db:
        (schema,) = db.execute("pragma user_version").fetchone()
        (audit_seq,) = db.execute("select coalesce(max(seq), 0) from audit").fetchone()
        collections = dict(
            db.execute(
                "select name, count(item.seq) from collection left join item on collection_id = collection.id group by name"
            ).fetchall()
        )
        gallery = gallery_of(db)
    return Manifest(snapshot_id, gallery, created_at, file.stat().st_size, sha256, schema, audit_seq, collections)


def _holds(file: Path, collection: str, ids: Set[str], persons: Set[str]) -> bool:
    """Whether a snapshot has an item of one of these ids, or persons. Raises StorageFailed."""
    asked = [Filter(ids=frozenset(ids))] if ids else []
    asked += [Filter(persons=frozenset(persons))] if persons else []
    try:
        with closing(opened(file)) as db:
            for where in asked:
                accepted, values = condition(where)
                sql = f"collection_id = (select id from collection where name = ?) and {accepted}"
                if db.execute(f"select 1 from item where {sql} limit 1", (collection, *values)).fetchone():
                    return True
    except sqlite3.Error as error:
        raise StorageFailed(f"{file}: {error}") from error
    return False


def _known(snapshot_id: str, path: str, created_at: str, size: int, sha256: str, audit_seq: int) -> Snapshot:
    """A remembered snapshot, as far as it can be reached."""
    folder, collections = Path(path), dict[str, Any]()
    try:
        collections = Manifest.read(folder).collections
        reachable = (folder / FILE).is_file()
    except StorageFailed:
        reachable = False
    instant = datetime.fromisoformat(created_at)
    return Snapshot(snapshot_id, path, instant, size, sha256, audit_seq, reachable, collections)


def _snapshot(manifest: Manifest, path: Path) -> Snapshot:
    m, instant = manifest, datetime.fromisoformat(manifest.created_at)
    return Snapshot(m.id, str(path.resolve()), instant, m.bytes, m.sha256, m.audit_seq, True, m.collections)


@contextmanager
def _of_folder(folder: Path) -> Iterator[None]:
    """The system's errors as ours."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"the snapshots' folder {folder}: {error.strerror or error}") from error
