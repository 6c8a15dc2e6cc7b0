"""Searches, told with the items of the same moment: the view and the database are of one revision."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.adapters.checks import checked_person, checked_queries
from app.adapters.local_gallery.database import Database
from app.adapters.local_gallery.plan import IndexPlan
from app.adapters.local_gallery.ranking import Hits, Ranking
from app.adapters.local_gallery.truth import RowMissing, Truth
from app.adapters.local_gallery.view import View
from app.core.records import Filter, Match, PersonMatch, PersonScore
from app.errors import StorageFailed
from app.ports import Floats

_SWAP_S = 0.0005  # between a commit and the view that follows it lie some ten microseconds


class Reads:
    """The three searches of `GalleryStore`."""

    def __init__(self, database: Database, view_of: Callable[[str], View], plan: IndexPlan) -> None:
        """view_of: the view that was published last. Raises UnknownCollection."""
        self._database, self._view_of, self._plan = database, view_of, plan

    def search(self, name: str, queries: Floats, k: int, where: Filter, exact: bool) -> list[list[Match]]:
        """As the port says."""
        with self._moment(name) as (view, truth):
            checked = checked_queries(queries, k, view.collection.dim)
            hits = Ranking(view, truth, self._plan, exact).items(checked, k, where)
            return [_matches(of_query, truth) for of_query in hits]

    def shortlist(self, name: str, crops: Floats, k: int, where: Filter, exact: bool) -> tuple[list[Match], Floats]:
        """As the port says."""
        with self._moment(name) as (view, truth):
            checked = checked_person(crops, k, view.collection.dim)
            hits = Ranking(view, truth, self._plan, exact).shortlist(checked, k, where)
            return _matches(hits, truth), truth.vectors(hits.seqs)

    def search_persons(
        self, name: str, crops: Floats, k: int, where: Filter, score: PersonScore, exact: bool
    ) -> list[PersonMatch]:
        """As the port says."""
        with self._moment(name) as (view, truth):
            checked = checked_person(crops, k, view.collection.dim)
            hits = Ranking(view, truth, self._plan, exact).persons(checked, k, where, score)
            items = truth.items([hit.best_seq for hit in hits])
            return [
                PersonMatch(hit.person_id, hit.score, hit.items, Match(item, hit.best_score))
                for hit, item in zip(hits, items, strict=True)
            ]

    @contextmanager
    def _moment(self, name: str) -> Iterator[tuple[View, Truth]]:
        """The view and the database, both of one revision, whatever is written meanwhile."""
        with self._database.reading() as db:
            while True:
                db.execute("begin")
                try:
                    row = db.execute("select id, revision from collection where name = ?", (name,)).fetchone()
                    view = self._view_of(name)
                    if row == (view.collection_id, view.revision):
                        try:
                            yield view, Truth(db, view.collection_id, view.collection.dim)
                        except RowMissing as error:
                            raise StorageFailed(f"collection {name!r}: {error}; run `reid check`") from error
                        return
                finally:
                    db.execute("rollback")
                time.sleep(_SWAP_S)


def _matches(hits: Hits, truth: Truth) -> list[Match]:
    items = truth.items(hits.seqs.tolist())
    return [Match(item, score) for item, score in zip(items, hits.scores.tolist(), strict=True)]
