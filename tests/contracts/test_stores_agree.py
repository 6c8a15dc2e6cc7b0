"""The local gallery answers whatever sequence of calls as the reference store does."""

import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from app.adapters.local_gallery import LocalGallery
from app.adapters.memory import MemoryStore
from app.core.records import Collection, Filter, Item, PersonScore
from app.errors import ReidError
from app.ports import GalleryStore

LOBBY = Collection("lobby", "print-1", 8, keep_crops=False, created_at=datetime(2026, 1, 2, tzinfo=UTC))
IDS, PERSONS, CAMERAS = [f"i{n}" for n in range(12)], ["p1", "p2", "p3"], ["1", "2", "3"]
HOURS = [datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in range(4)]
PAIRS = [("coat", "red"), ("coat", "blue"), ("a:b \U0001f9e5", 'é"\\')]
# Few vectors, so that many items share one: their scores are equal, and the order added decides.
POOL = np.random.default_rng(11).standard_normal((10, 8)).astype(np.float32)
QUERIES = (POOL[:4] + POOL[4:8]) / np.linalg.norm(POOL[:4] + POOL[4:8], axis=1, keepdims=True)

items = st.builds(
    Item,
    st.sampled_from(IDS),
    st.sampled_from(["sha-1", "sha-2"]),
    st.none() | st.sampled_from(PERSONS),
    st.none() | st.sampled_from(CAMERAS),
    st.none() | st.sampled_from(HOURS),
    attributes=st.sets(st.sampled_from(PAIRS)).map(dict),
)
rows = st.lists(st.tuples(items, st.integers(0, len(POOL) - 1)), max_size=8)
filters = st.builds(
    Filter,
    st.none() | st.frozensets(st.sampled_from(PERSONS)),
    st.none() | st.frozensets(st.sampled_from(CAMERAS)),
    st.none() | st.frozensets(st.sampled_from(IDS)),
    st.none() | st.sampled_from(CAMERAS),
    st.none() | st.sampled_from(HOURS),
    st.none() | st.sampled_from(HOURS),
    st.just(frozenset[tuple[str, str]]()) | st.frozensets(st.sampled_from(PAIRS), max_size=2),
    st.frozensets(st.sampled_from(IDS), max_size=4),
)
# What the sums of persons are kept for: a mixture of both kinds.
cameras_only = st.builds(Filter, not_camera=st.none() | st.sampled_from(CAMERAS))


def test_the_queries_tell_the_vectors_of_the_pool_apart() -> None:
    scores = np.sort(QUERIES @ (POOL / np.linalg.norm(POOL, axis=1, keepdims=True)).T, axis=1)
    assert np.diff(scores, axis=1).min() > 1e-4  # ten times what their scores may differ by


class BothStores(RuleBasedStateMachine):
    """Hands every call to both and compares what they say."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.reference, self.local = MemoryStore(), LocalGallery(self.directory)
        self.both("put", lambda store: store.put_collection(LOBBY))

    def teardown(self) -> None:
        self.local.close()
        shutil.rmtree(self.directory)

    def both(self, what: str, call: Callable[[GalleryStore], object]) -> None:
        answers = [answer(call, store) for store in (self.reference, self.local)]
        assert answers[0] == answers[1], what

    @rule(rows=rows)
    def upsert(self, rows: list[tuple[Item, int]]) -> None:
        vectors = POOL[[row for _, row in rows]]
        self.both("upsert", lambda store: store.upsert("lobby", [item for item, _ in rows], vectors))

    @rule(where=filters)
    def delete(self, where: Filter) -> None:
        self.both("delete", lambda store: store.delete("lobby", where))

    @rule()
    def begin_anew(self) -> None:
        self.both("delete_collection", lambda store: store.delete_collection("lobby"))
        self.both("put_collection", lambda store: store.put_collection(LOBBY))

    @rule()
    def reopen(self) -> None:
        self.local.close()
        self.local = LocalGallery(self.directory)

    @rule(where=filters, k=st.integers(1, 15))
    def search(self, where: Filter, k: int) -> None:
        expected, answers = (store.search("lobby", QUERIES, k, where) for store in (self.reference, self.local))
        assert [[m.item for m in matches] for matches in answers] == [[m.item for m in matches] for matches in expected]
        for matches, other in zip(answers, expected, strict=True):
            assert [m.score for m in matches] == pytest.approx([m.score for m in other], abs=1e-6)

    @rule(where=filters | cameras_only, k=st.integers(1, 15), crops=st.integers(1, 3))
    def shortlist(self, where: Filter, k: int, crops: int) -> None:
        (expected, wanted), (found, vectors) = (
            store.shortlist("lobby", QUERIES[:crops], k, where) for store in (self.reference, self.local)
        )
        assert [match.item for match in found] == [match.item for match in expected]
        assert [match.score for match in found] == pytest.approx([match.score for match in expected], abs=1e-6)
        assert np.array_equal(vectors, wanted)

    @rule(
        where=filters | cameras_only,
        k=st.integers(1, 4),
        crops=st.integers(1, 3),
        score=st.sampled_from(["centroid", "best"]),
    )
    def search_persons(self, where: Filter, k: int, crops: int, score: PersonScore) -> None:
        expected, found = (
            store.search_persons("lobby", QUERIES[:crops], k, where, score) for store in (self.reference, self.local)
        )
        assert [(m.person_id, m.items, m.best.item) for m in found] == [
            (m.person_id, m.items, m.best.item) for m in expected
        ]
        for one, other in zip(found, expected, strict=True):
            assert (one.score, one.best.score) == pytest.approx((other.score, other.best.score), abs=1e-6)

    @rule(where=filters, after=st.none() | st.sampled_from(IDS), limit=st.integers(1, 5))
    def scan(self, where: Filter, after: str | None, limit: int) -> None:
        self.both("scan", lambda store: store.scan("lobby", where, after, limit))

    @rule(ids=st.lists(st.sampled_from(IDS), max_size=5))
    def get(self, ids: list[str]) -> None:
        self.both("get", lambda store: store.get("lobby", ids))
        self.both("vectors", lambda store: [part.tolist() for part in store.vectors("lobby", ids)])

    @invariant()
    def counts_agree(self) -> None:
        self.both("count", lambda store: store.count("lobby"))


def answer(call: Callable[[GalleryStore], object], store: GalleryStore) -> object:
    """What the call returns, or the refusal it raises."""
    try:
        return call(store)
    except ReidError as error:
        return type(error), str(error)


# No deadline: a commit waits for the disk, and the disk may be busy with other things.
BothStores.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestStoresAgree = BothStores.TestCase
