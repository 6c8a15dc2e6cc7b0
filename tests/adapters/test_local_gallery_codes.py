"""One-bit codes and the files that hold them: near enough to choose a shortlist, whole or not used, and without a trace of
rows that are gone.
"""

import stat
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.local_gallery.codes import CodeIndex
from app.adapters.local_gallery.index_files import FOLDER, IndexFiles
from app.adapters.local_gallery.segment import Entries, Segment
from app.core.records import Item
from app.ports import Floats

DIM = 64
CENTRE = np.zeros(DIM, dtype=np.float32)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def unit(seed: int, count: int) -> Floats:
    raw = np.random.default_rng(seed).standard_normal((count, DIM))
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), dtype=np.float32)


def coded(vectors: Floats) -> CodeIndex:
    return CodeIndex.of([vectors[:30], vectors[30:]], CENTRE)


@cache
def hundred() -> CodeIndex:
    return coded(unit(1, 100))


def everything(index: CodeIndex) -> np.ndarray:
    return np.ones(len(index.ids), dtype=bool)


def nearest(index: CodeIndex, query: Floats) -> int:
    rows, _ = index.search(query, 1, everything(index))
    return int(rows[0])


def segment(vectors: Floats, first: int = 1) -> Segment:
    """Rows with codes, of sequence numbers from `first` on."""
    seqs = range(first, first + len(vectors))
    items = (Item(f"i{seq}", "sha", f"p{seq % 9}", "1", NOON) for seq in seqs)
    exact = Segment.of(Entries.of(seqs, 5, items, vectors, np.ones(len(vectors), dtype=np.float32)))
    return Segment.joined([(exact, np.arange(len(vectors)))], coded(vectors))


def test_every_row_is_its_own_nearest_and_its_estimate_is_about_one() -> None:
    vectors = unit(1, 100)
    index = coded(vectors)
    for row in range(100):
        rows, estimates = index.search(vectors[row], 3, everything(index))
        assert rows[0] == row
        # Off by 0.85 / sqrt(64) = 0.11 in one case of three; a vector with itself is among the best cases.
        assert estimates[0] == pytest.approx(1, abs=0.35)
        assert (estimates[:-1] >= estimates[1:]).all()


@given(accepted=st.lists(st.booleans(), min_size=100, max_size=100), count=st.integers(1, 120))
def test_only_accepted_rows_are_found_and_never_fewer_than_there_are(accepted: list[bool], count: int) -> None:
    mask = np.array(accepted)
    rows, _ = hundred().search(unit(2, 1)[0], count, mask)
    assert mask[rows].all()
    assert len(set(rows.tolist())) == min(count, mask.sum())


def test_joined_codes_answer_as_codes_of_the_joined_rows_do() -> None:
    vectors = unit(3, 100)
    some, others = np.array([0, 2, 39]), np.arange(5, 60)
    parts = [(coded(vectors[:40]), some), (coded(vectors[40:]), others)]
    joined = CodeIndex.joined(parts)
    kept = np.concatenate([vectors[:40][some], vectors[40:][others]])
    assert len(joined.ids) == len(kept)
    for row, vector in enumerate(kept):
        assert nearest(joined, vector) == row
    for (index, _), end in zip(parts, (40, 60), strict=True):  # what they were made of is as it was
        assert len(index.ids) == end
        assert nearest(index, vectors[end - 1 if end == 40 else 99]) == end - 1


@pytest.mark.parametrize("rows", [1, 544, 545, 1088])
def test_any_number_of_rows_can_be_joined(rows: int) -> None:
    # 17 bytes a row in blocks of 32 are 544 bytes: FAISS writes past its memory where rows are added to as many rows.
    vectors, more = unit(8, rows), unit(9, 40)
    joined = CodeIndex.joined([(coded(vectors), np.arange(rows)), (coded(more), np.arange(40))])
    assert [nearest(joined, vector) for vector in more] == list(range(rows, rows + 40))
    assert nearest(joined, vectors[rows // 2]) == rows // 2


def test_a_row_that_is_the_query_itself_is_found_however_long_the_vectors_are() -> None:
    # Vectors of -1 and 1 alone have the largest sums that there are, and FAISS adds up in 16 bits: at 2048 numbers such a row
    # was taken for the farthest.
    raw = np.random.default_rng(1).choice([-1, 1], (50, 2048)).astype(np.float32) / np.float32(np.sqrt(2048))
    index = CodeIndex.of([raw], np.zeros(2048, dtype=np.float32))
    assert [nearest(index, vector) for vector in raw] == list(range(50))


def test_codes_that_were_swept_can_be_swept_and_joined_again() -> None:
    vectors = unit(3, 100)
    once = CodeIndex.joined([(coded(vectors), np.arange(0, 100, 2))])
    twice = CodeIndex.joined([(once, np.arange(10, 50)), (coded(vectors[:35]), np.array([1, 3]))])
    kept = [*range(20, 100, 2), 1, 3]
    assert [nearest(twice, vectors[row]) for row in kept] == list(range(42))


def test_numbers_are_places_after_every_sweep() -> None:
    # A search's bitmap is as long as the largest number: what was added and removed for years must not count.
    vectors = unit(3, 100)
    index = coded(vectors)
    for _ in range(5):
        index = CodeIndex.joined([(index, np.arange(40, 100)), (coded(vectors[:40]), np.arange(40))])
        assert index.ids.tolist() == list(range(100))
        vectors = np.concatenate([vectors[40:], vectors[:40]])
        assert [nearest(index, vector) for vector in vectors] == list(range(100))
    again = CodeIndex.read(index.stored(), index.ids)
    assert [nearest(again, vector) for vector in vectors] == list(range(100))


@pytest.mark.parametrize("place", [0, 33, 64, 69])
def test_no_code_of_a_removed_row_is_left_in_what_is_stored(place: int) -> None:
    # 70 equal rows but for one. FAISS moves the last rows into the holes and leaves their old places as they were, and
    # packs rows by 32: were the odd row's bits left anywhere, the bytes would differ from those of an index that never had it.
    many = np.repeat(unit(4, 1), 70, axis=0)
    odd = many.copy()
    odd[place] = -odd[place]
    kept = np.setdiff1d(np.arange(70), [place])
    without = CodeIndex.joined([(coded(odd), kept)]).stored()
    never = CodeIndex.joined([(coded(many), kept)]).stored()
    assert (without == never).all()


def test_stored_codes_come_back_and_other_bytes_are_refused() -> None:
    vectors = unit(5, 50)
    index = coded(vectors)
    again = CodeIndex.read(index.stored(), index.ids)
    assert [nearest(again, vector) for vector in vectors] == list(range(50))
    assert (again.centre == CENTRE).all()
    with pytest.raises(ValueError, match="of 50 rows"):
        CodeIndex.read(index.stored(), index.ids[:-1])
    with pytest.raises(ValueError, match="read error"):
        CodeIndex.read(index.stored()[:100], index.ids)


def test_a_file_gives_back_what_was_written_and_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    files, rows = IndexFiles(tmp_path), segment(unit(6, 50))
    path = files.write(7, rows)
    assert path.parent == tmp_path / FOLDER
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert files.write(7, rows) == path  # the same content has the same name
    (stored,) = files.read(7, DIM)
    assert (stored.seqs.tolist(), set(stored.revisions.tolist())) == (list(range(1, 51)), {5})
    assert nearest(stored.index, unit(6, 50)[20]) == 20
    assert list(files.read(8, DIM)) == []


@pytest.mark.parametrize("damage", ["cut short", "one bit", "empty", "another thing", "longer"])
def test_a_damaged_file_is_thrown_away(tmp_path: Path, damage: str) -> None:
    files = IndexFiles(tmp_path)
    path = files.write(7, segment(unit(6, 50)))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(
        {
            "cut short": whole[:-1],
            "one bit": bytes(flipped),
            "empty": b"",
            "another thing": b"x" * 5000,
            "longer": whole + b"x",
        }[damage]
    )
    assert list(files.read(7, DIM)) == []
    assert not path.exists()


def test_a_file_of_vectors_of_another_length_is_thrown_away(tmp_path: Path) -> None:
    files = IndexFiles(tmp_path)
    files.write(7, segment(unit(6, 50)))
    assert list(files.read(7, DIM + 1)) == []


def test_files_of_other_states_and_half_written_ones_are_removed_and_other_collections_stay(tmp_path: Path) -> None:
    files = IndexFiles(tmp_path)
    old, new, other = (files.write(n, segment(unit(s, 40))) for n, s in ((7, 1), (7, 2), (77, 3)))
    half = old.with_name(".7-abc.codes.123.partial")
    half.write_bytes(b"half")
    files.keep(7, {new})
    assert sorted(path.name for path in old.parent.iterdir()) == sorted([new.name, other.name])
    files.keep_collections({7})
    assert [path.name for path in old.parent.iterdir()] == [new.name]
    files.keep_collections(set())
    assert list(old.parent.iterdir()) == []
