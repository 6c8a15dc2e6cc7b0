"""The derived half of the local gallery: views that never change, and answers that do not depend on their segments."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import numpy as np

from app.adapters.local_gallery.plan import IndexPlan
from app.adapters.local_gallery.ranking import Ranking
from app.adapters.local_gallery.segment import Entries, Sequences, Wanted
from app.adapters.local_gallery.view import LARGEST, View
from app.core.records import Collection, Filter, Item
from app.ports import Floats

DIM = 16
EMPTY = View(Collection("lobby", "print-1", DIM, keep_crops=False, created_at=datetime(2026, 1, 2, tzinfo=UTC)), 1, 0)
ALL = Filter()


class NoDatabase:
    """Of a view without codes nothing is asked."""

    def wanted(self, where: Filter) -> Wanted:
        assert where.ids is None
        return Wanted(where)

    def vectors(self, seqs: Sequences) -> Floats:
        raise AssertionError

    def pieces(self, seqs: Sequences) -> Iterator[tuple[slice, Floats]]:
        assert not len(seqs)
        return iter(())


def ranking(view: View) -> Ranking:
    return Ranking(view, NoDatabase(), IndexPlan(), exact=False)


def unit(raw: Floats) -> Floats:
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), dtype=np.float32)


def entries(seqs: Sequence[int], vectors: Floats) -> Entries:
    norms = np.array([1 + seq % 3 for seq in seqs], dtype=np.float32)
    return Entries.of(seqs, 1, (Item(str(seq), "sha", f"p{seq % 9}", f"{seq % 4}") for seq in seqs), vectors, norms)


def found(view: View, query: Floats, k: int, where: Filter = ALL) -> list[int]:
    (hits,) = ranking(view).items(query[None], k, where)
    return [int(seq) for seq in hits.seqs]


def test_a_thousand_changes_answer_as_a_search_over_all_rows() -> None:
    rng = np.random.default_rng(5)
    pool = unit(rng.standard_normal((60, DIM)).astype(np.float32))  # shared by many rows: ties in every answer
    view, rows, following = EMPTY, dict[int, int](), 1
    for _ in range(300):
        fresh = list(range(following, following + int(rng.integers(1, 12))))
        following = fresh[-1] + 1
        again = rng.choice(sorted(rows), min(3, len(rows)), replace=False).tolist() if rows else []
        written = {seq: int(rng.integers(len(pool))) for seq in rng.permutation([*fresh, *again]).tolist()}
        view = view.with_entries(entries(list(written), pool[list(written.values())]))
        rows |= written
        gone = rng.choice(sorted(rows), min(4, len(rows)), replace=False)
        view = view.without(gone)
        for seq in gone.tolist():
            del rows[seq]
    assert view.count == len(rows)
    for query in unit(rng.standard_normal((5, DIM)).astype(np.float32)):
        scores = pool.astype(np.float64) @ query.astype(np.float64)
        order = sorted(rows, key=lambda seq: (-scores[rows[seq]], seq))
        assert found(view, query, 40) == order[:40]
        assert found(view, query, 40, Filter(not_camera="2")) == [seq for seq in order if seq % 4 != 2][:40]


def test_persons_are_found_as_over_all_rows_however_many_changed_since_their_sums_were_made() -> None:
    rng = np.random.default_rng(6)
    view, rows, following = EMPTY, dict[int, Floats](), 0
    query = unit(rng.standard_normal((1, DIM)).astype(np.float32))
    for count in (300, *rng.integers(0, 60, 40).tolist()):  # some touch more persons than the sums are kept for
        fresh = range(following, following + count)
        again = rng.choice(sorted(rows), min(3, len(rows)), replace=False).tolist()
        following, written = following + count, [*fresh, *again]
        vectors = unit(rng.standard_normal((len(written), DIM)).astype(np.float32))
        view = view.with_entries(persons(written, vectors))
        rows |= dict(zip(written, vectors, strict=True))
        gone = rng.choice(sorted(rows), min(count // 2, len(rows)), replace=False)
        view = view.without(gone)
        for seq in gone.tolist():
            del rows[seq]
        for camera in (None, "1"):
            found = ranking(view).persons(query, 7, Filter(not_camera=camera), "centroid")
            expected = centroids(rows, query[0], camera)
            assert [(m.person_id, m.items) for m in found] == [row[:2] for row in expected[:7]]
            np.testing.assert_allclose([m.score for m in found], [row[2] for row in expected[:7]], atol=1e-6)


def persons(seqs: Sequence[int], vectors: Floats) -> Entries:
    """Rows of 50 persons, in turn, before 3 cameras; every twentieth is nobody's. Row i's raw vector is 1 + i % 7 long."""
    named = (Item(str(i), "sha", None if i % 20 == 19 else f"p{i % 50}", f"{i % 3}") for i in seqs)
    return Entries.of(seqs, 1, named, vectors, np.array([1 + i % 7 for i in seqs], dtype=np.float32))


def centroids(rows: dict[int, Floats], query: Floats, without: str | None) -> list[tuple[str, int, float]]:
    """Person, rows and score, best first, from all rows."""
    own: dict[str, list[Floats]] = {}
    for seq in sorted(rows):
        if seq % 20 != 19 and f"{seq % 3}" != without:
            own.setdefault(f"p{seq % 50}", []).append(rows[seq] * np.float32(1 + seq % 7))
    means = {person: np.mean(raw, axis=0, dtype=np.float64) for person, raw in own.items()}
    scored = [(p, len(own[p]), float(mean @ query / np.linalg.norm(mean))) for p, mean in means.items()]
    return sorted(scored, key=lambda row: -row[2])


def test_a_view_stays_as_it_was_when_the_next_is_made() -> None:
    vectors = unit(np.eye(DIM, dtype=np.float32)[:4])
    first = EMPTY.with_entries(entries([1, 2, 3, 4], vectors))
    second = first.with_entries(entries([2], vectors[:1])).without(np.array([3, 77]))
    assert (EMPTY.count, first.count, second.count) == (0, 4, 3)
    assert found(first, vectors[2], 1) == [3]
    assert found(first, vectors[0], 2) == [1, 2]
    assert ranking(first).items(vectors[:1], 2, ALL)[0].scores.tolist() == [1, 0]
    assert ranking(second).items(vectors[:1], 2, ALL)[0].scores.tolist() == [1, 1]


def test_single_inserts_leave_few_segments() -> None:
    view = EMPTY
    for seq in range(500):
        view = view.with_entries(entries([seq], np.eye(DIM, dtype=np.float32)[:1]))
    assert view.count == 500
    assert len(view.segments) <= 10  # each more than twice as large as the next: log2(500)


def test_a_segment_that_is_half_dead_is_written_anew_and_an_empty_one_goes() -> None:
    view = EMPTY.with_entries(entries(range(100), np.eye(DIM, dtype=np.float32)[np.arange(100) % DIM]))
    fewer = view.without(np.arange(60))
    assert [len(segment.seqs) for segment in fewer.segments] == [40]
    assert fewer.without(np.arange(100)).segments == ()


def test_large_segments_are_joined_no_more() -> None:
    size, view = LARGEST * 5 // 8, EMPTY
    one_hot = np.eye(DIM, dtype=np.float32)
    for start in (0, size):
        seqs = range(start, start + size)
        view = view.with_entries(entries(seqs, one_hot[np.array(seqs) % DIM]))
    view = view.with_entries(entries([2 * size], one_hot[:1]))
    assert [segment.count for segment in view.segments] == [size, size, 1]
    expected = [seq for seq in range(2 * size) if seq % DIM == 3]
    assert found(view, one_hot[3], 1000) == expected[:1000]
