"""Searches whose answer is known, against a gallery worked by hand and a second, slow and obvious implementation."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.decision import NOBODY, NOTHING, Trials, draw_queries, pair_trials, persons_seen_by_two, search_trials
from app.core.metrics import Labelled, unit

ANNA, BERT, CARL = 1, 2, 3


def rows(vectors: list[list[float]], pids: list[int], camids: list[int]) -> Labelled:
    return Labelled(np.array(vectors, dtype=np.float32), np.array(pids), np.array(camids))


def test_a_crop_finds_its_person_in_other_cameras_alone_and_without_the_person_the_next_one() -> None:
    # Across the cameras: anna's crops (1, 0) of camera 1 and (0, 1) of camera 2 are at 0, and carl (-1, 0) is at -1 of the
    # first; bert, (3, 4) of camera 1, is at 4/5 of anna in camera 2 and at -3/5 of carl.
    gallery = rows([[2, 0], [1, 0], [3, 4], [0, 1], [-1, 0]], [ANNA, ANNA, BERT, ANNA, CARL], [1, 1, 1, 2, 2])
    trials = search_trials(gallery)
    assert trials.genuine.tolist() == [0, 0, NOTHING, 0, NOTHING]
    assert trials.impostor == pytest.approx([-1, -1, 0.8, 0.8, -0.6])
    assert trials.found.tolist() == [CARL, CARL, ANNA, BERT, BERT]
    assert trials.right.tolist() == [True, True, False, False, False]
    assert trials.present.tolist() == [True, True, False, True, False]


def test_nobody_is_found_and_never_asked_for() -> None:
    gallery = rows([[1, 0], [1, 0], [0, 1]], [ANNA, NOBODY, ANNA], [1, 2, 2])
    trials = search_trials(gallery)
    assert trials.pids.tolist() == [ANNA, ANNA]
    assert (trials.impostor[0], trials.found[0], trials.possible) == (1, NOBODY, 2)
    assert trials.impostor[1] == NOTHING  # the background is of the second crop's camera


def test_a_row_without_a_camera_is_somebody_to_find_but_not_the_person_found_again() -> None:
    gallery = rows([[1, 0], [1, 0], [1, 0]], [ANNA, ANNA, BERT], [1, -1, -1])
    trials = search_trials(gallery)
    assert (trials.pids.tolist(), trials.genuine.tolist(), trials.impostor.tolist()) == ([ANNA], [NOTHING], [1])


def test_a_tie_of_the_right_and_a_wrong_person_counts_as_wrong() -> None:
    trials = search_trials(rows([[1, 0], [1, 0], [1, 0]], [ANNA, ANNA, BERT], [1, 2, 2]))
    assert (trials.genuine[0], trials.impostor[0], trials.right[0]) == (1, 1, False)


def slow(gallery: Labelled) -> list[tuple[int, float, float, int]]:
    """The definition again, query by query and row by row."""
    vectors, found = unit(gallery.vectors), []
    people = list(zip(vectors, gallery.pids.tolist(), gallery.camids.tolist(), strict=True))
    for vector, pid, camid in people:
        if pid < 0 or camid < 0:
            continue
        others = [(float(v @ vector), p, c) for v, p, c in people if c != camid]
        genuine = max([score for score, p, c in others if p == pid and c >= 0], default=NOTHING)
        impostor = max([score for score, p, _ in others if p != pid], default=NOTHING)
        who = min([p for score, p, _ in others if p != pid and score == impostor], default=NOBODY)
        found.append((pid, genuine, impostor, who))
    return found


def random_gallery(seed: int, count: int, persons: int) -> Labelled:
    rng = np.random.default_rng(seed)
    # Four components of +-1, of length 2: sums and products are exact, so that equal scores are ties in both.
    vectors = rng.choice([-1.0, 1.0], (count, 4)).astype(np.float32)
    return Labelled(vectors, rng.integers(-1, persons, count), rng.integers(-1, 3, count))


def as_rows(trials: Trials) -> list[tuple[int, float, float, int]]:
    columns = (trials.pids.tolist(), trials.genuine.tolist(), trials.impostor.tolist(), trials.found.tolist())
    return list(zip(*columns, strict=True))


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 300), persons=st.integers(1, 12))
def test_searches_equal_the_slow_implementation(seed: int, count: int, persons: int) -> None:
    gallery = random_gallery(seed, count, persons)  # some of more than 256 rows, which are two chunks of queries
    assert as_rows(search_trials(gallery)) == slow(gallery)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60), persons=st.integers(1, 12))
def test_the_order_of_the_rows_does_not_matter(seed: int, count: int, persons: int) -> None:
    gallery = random_gallery(seed, count, persons)
    order = np.random.default_rng(seed).permutation(count)
    shuffled = Labelled(gallery.vectors[order], gallery.pids[order], gallery.camids[order])
    assert sorted(as_rows(search_trials(shuffled))) == sorted(as_rows(search_trials(gallery)))


def test_raw_lengths_do_not_change_a_score() -> None:
    gallery = random_gallery(3, 40, 5)
    longer = Labelled(gallery.vectors * np.float32(8), gallery.pids, gallery.camids)
    assert as_rows(search_trials(longer)) == as_rows(search_trials(gallery))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused(bad: float) -> None:
    gallery = rows([[1, 0], [bad, 1]], [ANNA, ANNA], [1, 2])
    for collect in (search_trials, pair_trials):
        with pytest.raises(ValueError, match="vector 1 holds a number that is not finite"):
            collect(gallery)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_trials_refuse_a_score_that_is_none(bad: float) -> None:
    score, person = np.array([bad], dtype=np.float32), np.array([ANNA])
    good = np.array([0.5], dtype=np.float32)
    with pytest.raises(ValueError, match="one of the genuine scores"):
        Trials("person", person, score, good, person, asked=1, possible=1, gallery=1)
    with pytest.raises(ValueError, match="one of the impostor scores"):
        Trials("person", person, good, score, person, asked=1, possible=1, gallery=1)


def test_trials_of_unequal_lengths_are_refused() -> None:
    score, person = np.zeros(2, dtype=np.float32), np.array([ANNA])
    with pytest.raises(ValueError, match="1 persons, 2 genuine and 2 impostor scores, 1 found persons"):
        Trials("person", person, score, score, person, asked=1, possible=1, gallery=1)


def test_persons_seen_by_two_cameras_are_counted() -> None:
    gallery = rows([[1, 0]] * 6, [ANNA, ANNA, BERT, BERT, NOBODY, NOBODY], [1, 2, 1, 1, 1, 2])
    assert persons_seen_by_two(gallery) == 1


def of_persons(crops: list[tuple[int, int]]) -> Labelled:
    """A gallery from (person, camera) of each crop; what the vectors are does not matter."""
    pids, camids = np.array(crops).T
    return Labelled(np.ones((len(crops), 2), dtype=np.float32), pids, camids)


def test_a_large_gallery_is_sampled_by_person_not_by_crop() -> None:
    # Anna has 90 crops, nine others two each; 20 crops are two of everybody.
    gallery = of_persons([(0, i % 2) for i in range(90)] + [(1 + i // 2, i % 2) for i in range(18)])
    asked, possible = draw_queries(gallery, most=20)
    assert np.bincount(gallery.pids[asked]).tolist() == [2] * 10
    assert possible == 108
    assert asked.tolist() == draw_queries(gallery, most=20)[0].tolist()  # the seed decides


def test_few_persons_of_two_cameras_are_not_lost_among_many_of_one() -> None:
    gallery = of_persons([(i // 2, i % 2) for i in range(20)] + [(100 + i, 0) for i in range(200)])
    asked, _ = draw_queries(gallery, most=50)
    assert len(asked) == 50
    assert sum(gallery.pids[asked] < 100) == 20  # all of them, since half of 50 would be allowed


def test_of_many_persons_of_either_kind_half_the_crops_are_asked() -> None:
    gallery = of_persons([(i // 2, i % 2) for i in range(100)] + [(100 + i, 0) for i in range(100)])
    asked, _ = draw_queries(gallery, most=50)
    assert (len(asked), sum(gallery.pids[asked] < 100)) == (50, 25)


def test_pairs_are_of_two_cameras_and_of_one_person_or_two() -> None:
    # A vector says its person and its camera: the cosine is half for each that two crops share.
    labels = [(person, camera) for person in range(8) for camera in range(3)]
    vectors = [np.concatenate([np.eye(8)[person], np.eye(3)[camera]]).tolist() for person, camera in labels]
    trials = pair_trials(rows(vectors, [p for p, _ in labels], [c for _, c in labels]))
    assert trials.genuine[trials.present] == pytest.approx(0.5)  # the person, not the camera
    assert trials.impostor[trials.absent].tolist() == [0] * int(trials.absent.sum())  # neither
    assert not (trials.present & trials.absent).any()
    assert (trials.found != trials.pids).all()
    # 24 crops with a pair of one person each and four of two; some come up from both ends.
    assert 12 <= trials.present.sum() <= 24
    assert 48 <= trials.absent.sum() <= 96


def test_a_pair_counts_once_whichever_end_it_is_drawn_from() -> None:
    trials = pair_trials(rows([[1, 0], [0, 1], [1, 1]], [ANNA, ANNA, BERT], [1, 2, 3]))
    assert (trials.present.sum(), trials.absent.sum()) == (1, 2)


def test_scores_are_exact_enough_to_compare() -> None:
    """The cosine of (3, 4) and (4, 3) is 24/25, whatever their lengths."""
    trials = search_trials(rows([[3, 4], [40, 30]], [ANNA, ANNA], [1, 2]))
    assert trials.genuine == pytest.approx([float(Fraction(24, 25))] * 2, abs=1e-6)
