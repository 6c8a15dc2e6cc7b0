"""The local gallery answers whatever sequence of calls as the reference store does."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.plan import IndexPlan
from app.adapters.memory import MemoryStore
from app.core.audit import AuditLine
from app.core.records import Collection, Filter, Item, PersonScore, Retention
from app.errors import ReidError
from app.ports import Store
from tests.contracts.conftest import Clock

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

    plan = IndexPlan()

    def __init__(self) -> None:
        super().__init__()
        self.directory, self.clock = Path(tempfile.mkdtemp()), Clock()
        self.reference, self.local = MemoryStore(self.clock), self.opened()
        self.both("put", lambda store: store.put_collection(LOBBY))

    def opened(self) -> LocalGallery:
        return LocalGallery(self.directory, clock=self.clock, plan=self.plan)

    def teardown(self) -> None:
        self.local.close()
        shutil.rmtree(self.directory)

    def both(self, what: str, call: Callable[[Store], object]) -> None:
        answers = [answer(call, store) for store in (self.reference, self.local)]
        assert answers[0] == answers[1], what

    @rule(rows=rows)
    def upsert(self, rows: list[tuple[Item, int]]) -> None:
        vectors = POOL[[row for _, row in rows]]
        self.both("upsert", lambda store: store.upsert("lobby", [item for item, _ in rows], vectors))

    @rule(where=filters)
    def delete(self, where: Filter) -> None:
        self.both("delete", lambda store: store.delete("lobby", where))

    @rule(where=filters)
    def erase(self, where: Filter) -> None:
        self.both("erase", lambda store: erased(store, where))

    @rule(item=items)
    def correct(self, item: Item) -> None:
        said = {field: getattr(item, field) for field in ("person_id", "camera_id", "captured_at", "attributes")}
        self.both("correct", lambda store: store.correct("lobby", item.id, said))

    @rule(person=st.sampled_from(PERSONS), new=st.sampled_from(PERSONS))
    def rename(self, person: str, new: str) -> None:
        self.both("rename", lambda store: store.rename("lobby", person, new))

    @rule(where=filters, person=st.none() | st.sampled_from(PERSONS))
    def move(self, where: Filter, person: str | None) -> None:
        self.both("move", lambda store: store.move("lobby", where, person))

    @rule(person=st.sampled_from(PERSONS), into=st.sampled_from(PERSONS))
    def merge(self, person: str, into: str) -> None:
        self.both("merge", lambda store: store.merge("lobby", person, into))

    @rule()
    def undo_merge(self) -> None:
        self.both("undo_merge", lambda store: store.undo_merge("lobby"))

    @rule(days=st.none() | st.integers(1, 3), cameras=st.dictionaries(st.sampled_from(CAMERAS), st.integers(1, 3)))
    def keep(self, days: int | None, cameras: dict[str, int]) -> None:
        self.both("keep", lambda store: store.keep("lobby", Retention(days, cameras)))

    @rule(days=st.integers(0, 2))
    def expire_some_days_later(self, days: int) -> None:
        self.clock.now += timedelta(days=days)
        self.both("expire", lambda store: store.expire("lobby", self.clock.now))

    @rule(after=st.none() | st.sampled_from(PERSONS), limit=st.integers(1, 3))
    def persons(self, after: str | None, limit: int) -> None:
        self.both("persons", lambda store: store.persons("lobby", after, limit))
        self.both("person", lambda store: store.person("lobby", after or "p1"))

    @rule(item_id=st.none() | st.sampled_from(IDS), person=st.none() | st.sampled_from(PERSONS))
    def ask_the_audit(self, item_id: str | None, person: str | None) -> None:
        self.both("about", lambda store: [line.seq for line in store.audit.about("lobby", item_id, person)])
        self.both("lines", lambda store: told(store.audit.lines(limit=None)))

    @rule()
    def begin_anew(self) -> None:
        self.both("delete_collection", lambda store: store.delete_collection("lobby"))
        self.both("put_collection", lambda store: store.put_collection(LOBBY))

    @rule()
    def reopen(self) -> None:
        self.local.close()
        self.local = self.opened()

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


def answer(call: Callable[[Store], object], store: Store) -> object:
    """What the call returns, or the refusal it raises."""
    try:
        return call(store)
    except ReidError as error:
        return type(error), str(error)


def erased(store: Store, where: Filter) -> object:
    """What a receipt says, but for the hash: each audit has a key of its own."""
    erasure = store.erase("lobby", where)
    assert erasure.audit == store.audit.verify()
    return erasure.items, erasure.erased_at, erasure.audit.seq


def told(lines: Sequence[AuditLine]) -> list[object]:
    """What lines say, but for whom of: the keys of digests differ."""
    return [(n.seq, n.at, n.action, n.collection, n.details, len(n.items), len(n.persons)) for n in lines]


class BothStoresWithCodes(BothStores):
    """The same where more than three items get codes, which are then all scored exactly."""

    plan = IndexPlan(flat=3, tail=1, shortlist=100, narrow=2)


# No deadline: a commit waits for the disk, and the disk may be busy with other things.
BothStores.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
BothStoresWithCodes.TestCase.settings = BothStores.TestCase.settings
TestStoresAgree = BothStores.TestCase
TestStoresWithCodesAgree = BothStoresWithCodes.TestCase
