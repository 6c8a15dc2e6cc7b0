"""Writes that come at the same time, in one transaction: one fsync for all, each acknowledged after it."""

import sqlite3
import threading
from collections.abc import Callable
from copy import copy
from typing import Any, Generic, TypeVar

from app.adapters.local_gallery.database import Database
from app.adapters.local_gallery.view import View

Answer = TypeVar("Answer")
Views = dict[str, View]
Work = Callable[[sqlite3.Connection, Views], Answer]


class Commits:
    """The one way to write to collections.

    A work changes the database through the connection, and the views that are to be published, in place; it sees what the
    works before it did. Where it raises, what it did is undone, and the others go on. Views are published after the
    commit, and before anybody is told: once the data is on disk nothing can fail any more.
    """

    def __init__(self, database: Database, views: Callable[[], Views], publish: Callable[[Views], None]) -> None:
        self._database, self._views, self._publish = database, views, publish
        self._entering = threading.Lock()  # protects _waiting
        self._writing = threading.RLock()  # one group at a time, its views published before the next begins
        self._waiting: list[_Entry[Any]] = []

    def run(self, work: Work[Answer]) -> Answer:
        """Do the work, and return what it returned when that is on disk. Raises what it raised, and StorageFailed."""
        entry = _Entry(work)
        with self._entering:
            self._waiting.append(entry)
        with self._writing:  # whoever comes in first does all that waits; the others find it done
            if not entry.done:
                with self._entering:
                    group, self._waiting = self._waiting, []
                self._commit(group)
        return entry.answered()

    @property
    def waiting(self) -> int:
        """How many works wait for the next commit."""
        return len(self._waiting)

    def amend(self, name: str, change: Callable[[View], View | None]) -> bool:
        """Publish another view of the same rows, between two writes. False where `change` gave None, or nothing is there."""
        with self._writing:
            views = self._views()
            changed = change(views[name]) if name in views else None
            if changed is not None:
                self._publish({**views, name: changed})
            return changed is not None

    def _commit(self, group: "list[_Entry[Any]]") -> None:
        views = dict(self._views())
        try:
            with self._database.transaction(then=lambda: self._publish(views)) as db:
                for entry in group:
                    entry.attempt(db, views, self._database.told)
        except BaseException as error:
            for entry in group:
                entry.fail(error)
        finally:
            for entry in group:
                entry.done = True


class _Entry(Generic[Answer]):
    def __init__(self, work: Work[Answer]) -> None:
        self.done = False
        self._work = work
        self._answer: list[Answer] = []
        self._error: BaseException | None = None

    def attempt(self, db: sqlite3.Connection, views: Views, told: Callable[[sqlite3.Error], Exception]) -> None:
        """Do it, or undo it. Raises what SQLite raises where it has undone the whole transaction: that is everybody's."""
        before = dict(views)
        db.execute("savepoint work")
        try:
            self._answer.append(self._work(db, views))
        except BaseException as error:
            if not db.in_transaction:
                raise
            db.execute("rollback to work")
            views.clear()
            views.update(before)
            self._error = error
            if isinstance(error, sqlite3.Error):
                self._error = told(error)
                self._error.__cause__ = error
        db.execute("release work")

    def fail(self, error: BaseException) -> None:
        """The whole group failed. Each of those who wait raises an error of its own: a raise writes into it."""
        if self._error is None:
            self._error = copy(error)
            self._error.__cause__ = error

    def answered(self) -> Answer:
        """What came of it."""
        if self._error is not None:
            raise self._error
        return self._answer[0]
