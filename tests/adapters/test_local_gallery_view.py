"""The derived half of the local gallery: views that never change, and answers that do not depend on their segments."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from app.adapters.local_gallery.view import LARGEST, Entries, View
from app.core.records import Collection, Filter, Item
from app.ports import Floats

DIM = 16
EMPTY = View(Collection("lobby", "print-1", DIM, keep_crops=False, created_at=datetime(2026, 1, 2, tzinfo=UTC)))
ALL = Filter()


def unit(raw: Floats) -> Floats:
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), dtype=np.float32)


def entries(seqs: Sequence[int], vectors: Floats) -> Entries:
    return Entries.of(seqs, (Item(str(seq), "sha", f"p{seq % 9}", f"{seq % 4}") for seq in seqs), vectors)


def found(view: View, query: Floats, k: int, where: Filter = ALL) -> list[int]:
    (matches,) = view.search(query[None], k, where)
    return [int(match.item.id) for match in matches]


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
        ranking = sorted(rows, key=lambda seq: (-scores[rows[seq]], seq))
        assert found(view, query, 40) == ranking[:40]
        assert found(view, query, 40, Filter(not_camera="2")) == [seq for seq in ranking if seq % 4 != 2][:40]


def test_a_view_stays_as_it_was_when_the_next_is_made() -> None:
    vectors = unit(np.eye(DIM, dtype=np.float32)[:4])
    first = EMPTY.with_entries(entries([1, 2, 3, 4], vectors))
    second = first.with_entries(entries([2], vectors[:1])).without(np.array([3, 77]))
    assert (EMPTY.count, first.count, second.count) == (0, 4, 3)
    assert found(first, vectors[2], 1) == [3]
    assert found(first, vectors[0], 2) == [1, 2]
    assert [round(m.score) for m in first.search(vectors[:1], 2, ALL)[0]] == [1, 0]
    assert [round(m.score) for m in second.search(vectors[:1], 2, ALL)[0]] == [1, 1]


def test_single_inserts_leave_few_segments() -> None:
    view = EMPTY
    for seq in range(500):
        view = view.with_entries(entries([seq], np.eye(DIM, dtype=np.float32)[:1]))
    assert view.count == 500
    assert len(view.segments) <= 10  # each more than twice as large as the next: log2(500)


def test_a_segment_that_is_half_dead_is_written_anew_and_an_empty_one_goes() -> None:
    view = EMPTY.with_entries(entries(range(100), np.eye(DIM, dtype=np.float32)[np.arange(100) % DIM]))
    fewer = view.without(np.arange(60))
    assert [len(segment.items) for segment in fewer.segments] == [40]
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
