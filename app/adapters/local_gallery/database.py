"""The truth: one SQLite file. Opened by one process, migrated step by step, every write a transaction that is on disk."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from app.errors import DataDirectoryBusy, StorageFailed

FILE, LOCK = "gallery.sqlite3", "lock"


class DirectoryLock:
    """Owns a data directory. The lock ends with the process, however it ends; the file's text says who it was."""

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageFailed(f"the data directory {directory} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise DataDirectoryBusy(str(directory), holder or "unknown") from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others in."""
        os.close(self._descriptor)


def connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """A connection that may be used from any thread, one at a time. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = on", "secure_delete = on"):
            connection.execute(f"pragma {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def open_database(directory: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """The writer's connection, with the newest schema. Raises StorageFailed."""
    path = directory / FILE
    with translated(f"the database {path}"):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite would make it readable to others
        connection = connect(path, busy_timeout_s)
        try:
            migrate(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Run the numbered steps that the database has not seen, each in a transaction of its own."""
    folder = files("app.adapters.local_gallery") / "migrations"
    steps = sorted((step for step in folder.iterdir() if step.name.endswith(".sql")), key=lambda step: step.name)
    (version,) = connection.execute("pragma user_version").fetchone()
    if version > len(steps):
        raise StorageFailed(f"{path} was written by a newer version (schema {version}, this one knows {len(steps)})")
    for number, step in enumerate(steps[version:], version + 1):
        with transaction(connection):
            for statement in statements(step.read_text(encoding="utf-8")):
                connection.execute(statement)
            connection.execute(f"pragma user_version = {number}")


def statements(script: str) -> Iterator[str]:
    """A script's statements one by one: `executescript` would commit the transaction that they belong to."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; on disk when the block has ended."""
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


@contextmanager
def translated(what: str) -> Iterator[None]:
    """SQLite's and the system's errors as StorageFailed, with a sentence that says what to look at."""
    try:
        yield
    except sqlite3.OperationalError as error:
        known = {
            sqlite3.SQLITE_FULL: "the disk is full",
            sqlite3.SQLITE_BUSY: "another program holds a lock on it",
            sqlite3.SQLITE_READONLY: "it may only be read",
            sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
        }
        code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
        raise StorageFailed(f"{what}: {known.get(code, str(error))}; nothing of this was stored") from error
    except sqlite3.DatabaseError as error:
        raise StorageFailed(f"{what} is damaged: {error}; restore a copy, or move it away to start anew") from error
    except OSError as error:
        raise StorageFailed(f"{what}: {error.strerror or error}") from error
