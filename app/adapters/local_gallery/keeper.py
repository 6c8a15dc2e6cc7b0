"""The background work on what is derived: rows get codes, segments are joined and swept, index files written and removed."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.adapters.local_gallery.codes import CodeIndex
from app.adapters.local_gallery.deriving import CENTRE_ROWS, centre_of
from app.adapters.local_gallery.index import ExactIndex, Rows
from app.adapters.local_gallery.index_files import IndexFiles
from app.adapters.local_gallery.plan import IndexPlan
from app.adapters.local_gallery.segment import Segment, joined_index
from app.adapters.local_gallery.view import View
from app.errors import StorageFailed, UnknownCollection
from app.ports import Floats

log = logging.getLogger(__name__)
Amend = Callable[[str, Callable[[View], View | None]], bool]
_GROWTH = (
    4  # a coded segment is joined with a newer one that has a quarter of its rows: each row moves a few times at most
)
_PIECE = 1024  # rows that get codes at a time


class Keeper:
    """One thread for all collections. It reads views and publishes others of the same rows; writers never wait for it."""

    def __init__(
        self,
        files: IndexFiles,
        plan: IndexPlan,
        view_of: Callable[[str], View],
        amend: Amend,
        quiet_s: float = 1.0,
        latest_s: float = 60.0,
    ) -> None:
        """amend: publish a change of a view between two writes; False where it gave None.

        quiet_s: without a write, before files are written and what is removed is overwritten; latest_s: files are written
        after that time though writes go on.
        """
        self._files, self._plan, self._view_of, self._amend = files, plan, view_of, amend
        self._quiet_s, self._latest_s = quiet_s, latest_s
        self._turn = threading.RLock()  # one tends at a time, this thread or an erase
        self._stored: dict[int, list[_Stored]] = {}  # by collection; under _turn
        self._changed: set[str] = set()  # add, and a copy, are atomic
        self._at: str | None = None  # what is being settled, and is no longer among the changed
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def changed(self, name: str) -> None:
        """A view of this collection was published."""
        self._changed.add(name)
        self._wake.set()

    def pending(self, name: str) -> bool:
        """Whether there is work to do on it."""
        return name in self._changed or name == self._at

    def purge(self, name: str) -> None:
        """Return when nothing derived, in memory or on disk, has a trace of rows that are gone. Raises StorageFailed."""
        with self._turn:
            try:
                self._join(name, sweep=True)
                self._amend(name, View.swept)
                self._store(name)
            except OSError as error:
                raise StorageFailed(f"the index files of {name!r}: {error.strerror or error}") from error

    def forget(self, collection_id: int) -> None:
        """The collection is gone: so are its files. Raises StorageFailed."""
        with self._turn:
            self._stored.pop(collection_id, None)
            try:
                self._files.keep(collection_id, set())
            except OSError as error:
                raise StorageFailed(f"the index files of a collection: {error.strerror or error}") from error

    def close(self) -> None:
        """Write what there is to files, break off the rest, and end. No call follows."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        since: float | None = None  # the first change that is not in a file yet
        while self._wake.wait() and not self._closing:
            self._wake.clear()
            since = time.monotonic() if since is None else since
            names = list(self._changed)
            for name in names:
                self._attempt(name, self._tend)
            quiet = not self._wake.wait(self._quiet_s)
            if quiet or time.monotonic() - since > self._latest_s:
                since = None
                for name in names:
                    self._at = name
                    if quiet:
                        self._changed.discard(name)  # before the work: what changes during it is looked at again
                        self._attempt(name, self._sweep)
                    self._attempt(name, self._store)
                    self._at = None
        for name in list(self._changed):
            self._attempt(name, self._store)

    def _attempt(self, name: str, work: Callable[[str], None]) -> None:
        try:
            with self._turn:
                work(name)
        except UnknownCollection:
            self._changed.discard(name)
        except _BrokenOff:
            pass
        except OSError as error:  # the next change tries again; until then a start takes longer
            log.warning("the index files of a collection: %s", error.strerror or error)
        except Exception:  # a mistake of ours must not end the thread: searches go on as they are
            log.exception("work on an index failed")

    def _tend(self, name: str) -> None:
        """What searches wait for."""
        if self._due(self._view_of(name)):
            self._give_codes(name)
        self._join(name, sweep=False)

    def _sweep(self, name: str) -> None:
        self._join(name, sweep=True)

    def _join(self, name: str, sweep: bool) -> None:
        while parts := _to_join(self._view_of(name).segments, sweep):
            self._replace(name, parts, joined_index(parts))

    def _due(self, view: View) -> bool:
        waiting = sum(segment.count for segment in view.segments if not segment.coded)
        coded = any(segment.coded for segment in view.segments)
        return waiting > (self._plan.tail if coded else self._plan.flat)

    def _give_codes(self, name: str) -> None:
        self._amend(name, View.closed)
        view = self._view_of(name)
        parts = [(s, np.flatnonzero(s.alive)) for s in view.segments if not s.coded and s.closed]
        if not parts:  # removed in this moment
            return
        centres = [s.index.centre for s in view.segments if isinstance(s.index, CodeIndex)]
        centre = centres[0] if centres else _centre(parts)
        self._replace(name, parts, CodeIndex.of(self._breakable(_pieces(parts)), centre))

    def _breakable(self, pieces: Iterator[Floats]) -> Iterator[Floats]:
        for piece in pieces:
            if self._closing:
                raise _BrokenOff
            yield piece

    def _replace(self, name: str, parts: Sequence[tuple[Segment, Rows]], index: ExactIndex | CodeIndex) -> None:
        if not self._amend(name, lambda view: view.replaced(parts, index)):
            log.debug("segments of %r are gone; the next change tries again", name)

    def _store(self, name: str) -> None:
        view = self._view_of(name)
        before = self._stored.get(view.collection_id, [])
        now = [self._file(view, segment, before) for segment in view.segments if segment.coded]
        self._files.keep(view.collection_id, {stored.path for stored in now})
        self._stored[view.collection_id] = now

    def _file(self, view: View, segment: Segment, before: "Sequence[_Stored]") -> "_Stored":
        """The segment's file; one that was written is not even looked at again."""
        for stored in before:
            if stored.index is segment.index and stored.path.exists():
                return stored
        return _Stored(segment.index, self._files.write(view.collection_id, segment))


@dataclass(frozen=True, slots=True)
class _Stored:
    """An index, and the file that has it with its rows' numbers."""

    index: ExactIndex | CodeIndex
    path: Path


class _BrokenOff(Exception):
    """The gallery is being closed."""


def _to_join(segments: Sequence[Segment], sweep: bool) -> list[tuple[Segment, Rows]]:
    """Coded segments to become one now, with the rows that stay; nothing where all are as they should be."""
    coded = sorted((s for s in segments if s.coded), key=lambda s: s.count)
    joined = coded[:1]
    for segment in coded[1:]:
        if segment.count <= _GROWTH * sum(s.count for s in joined):
            joined.append(segment)
    if len(joined) < 2:
        least = 1 if sweep else 0.5
        joined = [s for s in coded if s.count < len(s.alive) * least][:1]
    ascending = sorted(joined, key=lambda s: int(s.seqs[0]))  # mostly in the order added, which lookups like
    return [(segment, np.flatnonzero(segment.alive)) for segment in ascending]


def _centre(parts: Sequence[tuple[Segment, Rows]]) -> Floats:
    total = sum(len(rows) for _, rows in parts)
    step = max(1, total // CENTRE_ROWS)
    return centre_of(np.concatenate([_vectors(segment, rows[::step]) for segment, rows in parts]))


def _pieces(parts: Sequence[tuple[Segment, Rows]]) -> Iterator[Floats]:
    for segment, rows in parts:
        for start in range(0, len(rows), _PIECE):
            yield _vectors(segment, rows[start : start + _PIECE])


def _vectors(segment: Segment, rows: Rows) -> Floats:
    assert isinstance(segment.index, ExactIndex)
    return segment.index.vectors(rows)
