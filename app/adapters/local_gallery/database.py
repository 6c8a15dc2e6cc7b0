"""The truth: one SQLite file, migrated step by step. Every write is a transaction that is on disk when it has ended."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path

from app.errors import StorageFailed

FILE = "gallery.sqlite3"
_COPY_AFTER = 2000  # rows: some 8 MB of log where a third of them are vectors
_PRAGMAS = (
    "journal_mode = WAL", "synchronous = FULL", "foreign_keys = on", "secure_delete = on", "wal_autocheckpoint = 0",
    "temp_store = memory",  # nothing of a row in another file
)  # fmt: skip
_SENTENCES = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_BUSY: "another program holds a lock on it",
    sqlite3.SQLITE_READONLY: "it may only be read",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore a copy, or move it away to start anew",
    sqlite3.SQLITE_NOTADB: "it is damaged or no gallery; restore a copy, or move it away to start anew",
}


class Database:
    """One connection that writes, and as many that read as threads read at once: in WAL mode no reader waits for a writer."""

    def __init__(self, path: Path, busy_timeout_s: float = 5.0, max_pages: int | None = None) -> None:
        """Open the file, with the newest schema. max_pages: how large it may grow, in pages of 4096 bytes.

        Raises StorageFailed.
        """
        self._path, self._busy_timeout_s = path, busy_timeout_s
        self._changes = 0  # rows since the log was copied
        self._turn = threading.Lock()  # one transaction at a time: they share a connection
        self._idle: list[sqlite3.Connection] = []  # readers' connections; append and pop are atomic
        with self._translated():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite would make it readable to others
            self._writer = self._connect()
            try:
                if max_pages is not None:
                    self._writer.execute(f"pragma max_page_count = {max_pages}")
                self._migrate()
            except BaseException:
                self._writer.close()
                raise

    @contextmanager
    def transaction(self, then: Callable[[], None] = lambda: None) -> Iterator[sqlite3.Connection]:
        """All or nothing: on disk when the block has ended, undone when it raises. Raises StorageFailed.

        then: what others are to see as soon as it is on disk; it must not raise.
        """
        with self._turn, self._translated():
            before = self._writer.total_changes
            self._writer.execute("begin immediate")
            try:
                yield self._writer
                self.commit()
            except BaseException:
                if self._writer.in_transaction:  # SQLite may have undone it itself, on a full disk for one
                    self._writer.execute("rollback")
                raise
            then()
            self._copy_log(self._writer.total_changes - before)

    def commit(self) -> None:
        """Put the transaction on disk."""
        self._writer.execute("commit")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for this thread alone; each statement sees whole transactions. Raises StorageFailed."""
        with self._translated():
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
                connection.execute("pragma query_only = on")
            try:
                yield connection
            finally:
                self._idle.append(connection)

    def empty_log(self, surely: bool = False) -> None:
        """Take what was deleted out of the write-ahead log too.

        It is a courtesy, since a later transaction gets there as well; unless surely: then it waits for readers, and
        raises StorageFailed where they do not end.
        """
        with self._turn, self._translated() if surely else suppress(sqlite3.Error):
            if not surely:
                self._writer.execute("pragma busy_timeout = 0")  # whoever writes next would wait with it
            try:
                busy, _, _ = self._writer.execute("pragma wal_checkpoint(truncate)").fetchone()
            finally:
                self._writer.execute(f"pragma busy_timeout = {round(self._busy_timeout_s * 1000)}")
            if busy and surely:
                raise StorageFailed(
                    f"the database {self._path}: its log could not be emptied while others read; ask again"
                )

    def rewrite(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """A transaction that may put one table in the place of another, under views that name it. Raises StorageFailed."""
        with self.transaction() as db:
            db.execute("pragma legacy_alter_table = on")  # else SQLite looks at the views while there is no such table
            try:
                work(db)
            finally:
                db.execute("pragma legacy_alter_table = off")

    def _copy_log(self, changes: int) -> None:
        """Now and then, take the log's pages to the database.

        SQLite would do it inside a commit, when others see it already and those who wait for `then` do not.
        """
        self._changes += changes
        if self._changes >= _COPY_AFTER:
            self._changes = 0
            with suppress(sqlite3.Error):  # the data is on disk; the next time will do
                self._writer.execute("pragma wal_checkpoint(passive)").fetchall()

    def close(self) -> None:
        """Close all connections. No call follows."""
        with self._turn:
            for connection in (*self._idle, self._writer):
                connection.close()

    def _connect(self) -> sqlite3.Connection:
        timeout, path = self._busy_timeout_s, self._path
        connection = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"pragma {pragma}").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self) -> None:
        """Run the numbered steps that the database has not seen, each in a transaction of its own."""
        folder = files("app.adapters.local_gallery") / "migrations"
        steps = sorted((step for step in folder.iterdir() if step.name.endswith(".sql")), key=lambda step: step.name)
        (version,) = self._writer.execute("pragma user_version").fetchone()
        if version > len(steps):
            raise StorageFailed(
                f"the database {self._path} was written by a newer version of this program "
                f"(its schema is {version}, this program knows {len(steps)}); use that version"
            )
        for number, step in enumerate(steps[version:], version + 1):
            with self.transaction() as db:
                for statement in statements(step.read_text(encoding="utf-8")):
                    db.execute(statement)
                db.execute(f"pragma user_version = {number}")

    def told(self, error: sqlite3.Error) -> StorageFailed:
        """The error as others are to see it, with a sentence that says what to look at."""
        code = getattr(error, "sqlite_errorcode", None)  # errors of the Python module itself have none
        sentence = str(error) if code is None else _SENTENCES.get(code & 0xFF, str(error))
        return StorageFailed(f"the database {self._path}: {sentence}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's and the system's errors as StorageFailed."""
        try:
            yield
        except sqlite3.Error as error:
            raise self.told(error) from error
        except OSError as error:
            raise StorageFailed(f"the database {self._path}: {error.strerror or error}") from error


def statements(script: str) -> Iterator[str]:
    """A script's statements one by one: `executescript` would commit the transaction that they belong to."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
