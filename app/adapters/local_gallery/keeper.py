"""The background work on what is derived: rows get codes, segments are joined and swept, index files written and removed."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
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
        quiet_s: float = 0.5,
    ) -> None:
        """amend: publish a change of a view between two writes; False where it gave None. quiet_s: without a write."""
        self._files, self._plan, self._view_of, self._amend, self._quiet_s = files, plan, view_of, amend, quiet_s
        self._turn = threading.RLock()  # one tends at a time, this thread or an erase
        self._changed: set[str] = set()  # add, and a copy, are atomic
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
        return name in self._changed

    def purge(self, name: str) -> None:
        """Return when nothing derived, in memory or on disk, has a trace of rows that are gone. Raises StorageFailed."""
        with self._turn:
            try:
                self._tend(name, quiet=True)
                self._amend(name, View.swept)
            except OSError as error:
                raise StorageFailed(f"the index files of {name!r}: {error.strerror or error}") from error

    def forget(self, collection_id: int) -> None:
        """The collection is gone: so are its files. Raises StorageFailed."""
        with self._turn:
            try:
                self._files.keep(collection_id, set())
            except OSError as error:
                raise StorageFailed(f"the index files of a collection: {error.strerror or error}") from error

    def close(self) -> None:
        """Finish what is being done and end. No call follows."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._closing:
                return
            names = list(self._changed)
            for name in names:
                self._attempt(name, quiet=False)
            if self._wake.wait(self._quiet_s):  # somebody writes: what has time waits
                continue
            for name in names:
                self._changed.discard(name)  # before the work: what changes during it is looked at again
                self._attempt(name, quiet=True)

    def _attempt(self, name: str, quiet: bool) -> None:
        try:
            with self._turn:
                self._tend(name, quiet)
        except UnknownCollection:
            self._changed.discard(name)
        except OSError as error:  # the next change tries again; until then a start takes longer
            log.warning("the index files of a collection: %s", error.strerror or error)
        except Exception:  # a mistake of ours must not end the thread: searches go on as they are
            log.exception("work on an index failed")

    def _tend(self, name: str, quiet: bool) -> None:
        """quiet: also what has time."""
        view = self._view_of(name)
        if self._due(view):
            self._give_codes(name)
        while parts := _to_join(self._view_of(name).segments, sweep=quiet):
            self._replace(name, parts, joined_index(parts))
        if quiet:
            self._store(self._view_of(name))

    def _due(self, view: View) -> bool:
        waiting = sum(segment.count for segment in view.segments if not segment.coded)
        coded = any(segment.coded for segment in view.segments)
        return waiting > (self._plan.tail if coded else self._plan.flat)

    def _give_codes(self, name: str) -> None:
        self._amend(name, View.closed)
        view = self._view_of(name)
        parts = [(s, np.flatnonzero(s.alive)) for s in view.segments if not s.coded and s.closed]
        centres = [s.index.centre for s in view.segments if isinstance(s.index, CodeIndex)]
        centre = centres[0] if centres else _centre(parts)
        self._replace(name, parts, CodeIndex.of(_pieces(parts), centre))

    def _replace(self, name: str, parts: Sequence[tuple[Segment, Rows]], index: ExactIndex | CodeIndex) -> None:
        if not self._amend(name, lambda view: view.replaced(parts, index)):
            log.debug("segments of %r are gone; the next change tries again", name)

    def _store(self, view: View) -> None:
        coded = [segment for segment in view.segments if segment.coded]
        paths: set[Path] = {self._files.write(view.collection_id, segment) for segment in coded}
        self._files.keep(view.collection_id, paths)


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
