"""Calibration and decisions: refusals, borders, and figures that hold on persons who had no part in setting them."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.decision import (
    NOBODY,
    NOTHING,
    Calibration,
    Kind,
    Trials,
    calibrate,
    decide,
    describe,
    probability,
    search_trials,
    shortage,
)
from app.core.decision.calibrate import split
from app.core.metrics import Doubles, Labelled
from app.errors import BadField, Conflict


def trials(
    pids: list[int] | np.ndarray[tuple[int], np.dtype[np.int64]],
    genuine: list[float] | Doubles,
    impostor: list[float] | Doubles,
    found: list[int] | None = None,
    kind: Kind = "item",
) -> Trials:
    count = len(pids)
    return Trials(
        kind=kind,
        pids=np.array(pids, dtype=np.int64),
        genuine=np.array(genuine, dtype=np.float32),
        impostor=np.array(impostor, dtype=np.float32),
        found=np.array(found if found is not None else [NOBODY] * count, dtype=np.int64),
        asked=count,
        possible=count,
        gallery=count,
    )


@cache
def made(persons: int = 150, crops: int = 4, seed: int = 1) -> Trials:
    """Persons with a few crops each, scores that overlap, some part of them the person's own."""
    rng = np.random.default_rng(seed)
    pids = np.repeat(np.arange(persons), crops)
    genuine = 0.7 + 0.1 * rng.standard_normal(persons)[pids] + 0.05 * rng.standard_normal(len(pids))
    impostor = 0.5 + 0.05 * rng.standard_normal(persons)[pids] + 0.05 * rng.standard_normal(len(pids))
    return trials(pids, genuine, impostor, found=rng.integers(0, persons, len(pids)).tolist())


@cache
def calibration() -> Calibration:
    return calibrate(made())


@pytest.mark.parametrize(
    ("too_few", "sentence"),
    [
        (made(persons=34), "too few: 34 persons seen by two cameras; at least 60 are needed"),
        (
            trials(list(range(70)), [0.5] * 70, [0.1] * 9 + [NOTHING] * 61),
            "too few: 9 searches for absent persons; at least 60 are needed",
        ),
        (
            trials(list(range(70)), [0.5] * 70, [NOTHING] * 70, kind="pair"),
            "too few: 0 pairs of two persons; at least 60 are needed",
        ),
        (trials([], [], []), "too few: 0 persons seen by two cameras; at least 60 are needed"),
    ],
)
def test_too_few_labels_are_refused_with_a_sentence(too_few: Trials, sentence: str) -> None:
    assert shortage(too_few) == sentence
    with pytest.raises(Conflict) as refused:
        calibrate(too_few)
    assert str(refused.value) == sentence


def test_sixty_persons_are_enough_however_few_crops_they_have() -> None:
    sixty = made(persons=60, crops=1)
    assert shortage(sixty) is None
    assert calibrate(sixty).counts.persons == 60


def test_many_crops_of_few_persons_are_still_too_few() -> None:
    assert shortage(made(persons=59, crops=100)) is not None


def test_a_rate_that_the_searches_cannot_tell_is_not_extrapolated() -> None:
    strict, usual, loose = calibration().settings  # 600 searches
    assert strict.reason == "cannot be told: 600 searches for absent persons; at least 1000 are needed"
    assert (strict.threshold, strict.border, strict.held_out) == (None, None, None)
    assert usual.reason is loose.reason is None
    with pytest.raises(BadField, match="fpir: cannot be told: 600 searches"):
        decide(0.9, calibration(), fpir=0.001)


def test_a_rate_that_was_not_measured_is_refused() -> None:
    with pytest.raises(BadField, match=r"fpir: is 0.02; this calibration holds 0.001, 0.01, 0.05"):
        decide(0.9, calibration(), fpir=0.02)


def test_a_thousand_searches_tell_a_tenth_of_a_percent() -> None:
    strict = calibrate(made(persons=250)).setting(0.001)
    assert strict.threshold == made(persons=250).impostor.max()  # one of 1,000 may pass


def test_borders_are_worked_from_the_scores() -> None:
    # Person i of 100 is found at 0.50 + i/100 (1 at most), and without i somebody else at 0.99 - i/100. Five absent ones
    # reach 0.95. The top scores of the present ones, the better of the two, are lowest in the middle: 0.75 (24, 25),
    # 0.76 (23, 26), 0.77 (22, 27) and so on, so that five of them lie below the sixth lowest, 0.77, at most.
    steps = np.arange(100) / 100
    made_up = calibrate(trials(list(range(100)), np.minimum(steps + 0.5, 1), 0.99 - steps))
    setting = made_up.setting(0.05)
    assert (setting.threshold, setting.border) == pytest.approx((0.95, 0.77))
    assert decide(setting.threshold or 0, made_up, 0.05) == "match"
    assert decide(0.94, made_up, 0.05) == "unsure"
    assert decide(setting.border or 0, made_up, 0.05) == "unsure"
    assert decide(0.5, made_up, 0.05) == "unknown"


def test_where_matches_miss_few_enough_nobody_is_unsure() -> None:
    apart = trials(list(range(100)), [0.9] * 100, list(np.linspace(0, 0.2, 100)))
    setting = calibrate(apart).setting(0.01)
    assert setting.threshold == setting.border == pytest.approx(0.2)
    assert decide(0.19, calibrate(apart)) == "unknown"


def test_many_scores_are_decided_and_weighed_as_one_at_a_time() -> None:
    scores = np.linspace(-1, 1, 41)
    assert decide(scores, calibration()) == [decide(score, calibration()) for score in scores.tolist()]
    assert set(decide(scores, calibration())) == {"match", "unsure", "unknown"}
    assert probability(scores, calibration()).tolist() == [
        probability(score, calibration()) for score in scores.tolist()
    ]


def test_a_score_that_is_not_a_number_is_refused() -> None:
    for ask in (decide, probability):
        with pytest.raises(ValueError, match="not a number"):
            ask(float("nan"), calibration())


def test_probability_and_decision_never_fall_with_the_score() -> None:
    order = {"unknown": 0, "unsure": 1, "match": 2}
    scores = np.linspace(-2, 2, 401)
    assert (np.diff(probability(scores, calibration())) >= 0).all()
    assert (np.diff([order[told] for told in decide(scores, calibration(), fpir=0.05)]) >= 0).all()


def test_a_calibration_survives_json() -> None:
    assert Calibration.model_validate_json(calibration().model_dump_json()) == calibration()


def test_the_order_of_the_trials_does_not_matter() -> None:
    shuffled = made().where(np.random.default_rng(3).permutation(len(made().pids)))
    assert calibrate(shuffled) == calibration()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), persons=st.integers(2, 40), folds=st.integers(2, 12))
def test_no_person_is_on_both_sides_of_a_fold_neither_asked_nor_found(seed: int, persons: int, folds: int) -> None:
    rng = np.random.default_rng(seed)
    pids, found = rng.integers(0, persons, 200), rng.integers(-1, persons + 5, 200)
    all_ = trials(pids, [0.5] * 200, [0.4] * 200, found=found.tolist())
    measured: list[int] = []  # the person of each search
    for learn, part in split(all_, folds, seed):
        assert not set(learn.pids) & set(part.pids)
        assert not set(learn.found) & set(part.pids)
        measured += part.pids.tolist()
    for person in set(pids.tolist()):  # measured once, or not at all where the fold had nothing to learn from
        assert measured.count(person) in {0, (pids == person).sum()}


def test_a_fold_is_not_measured_with_what_its_own_persons_taught() -> None:
    # 99 persons are never taken for anybody above 0.2. Half of all absent searches are one person's, and all at 0.9. A
    # border set with knowledge of that person lies at 0.9 or above, and nobody passes; one set without knows nothing of it.
    pids = [0] * 297 + [p for p in range(1, 100) for _ in range(3)]
    impostor = [0.9] * 297 + list(np.linspace(0, 0.2, 297))
    held_out = calibrate(trials(pids, [0.95] * 594, impostor)).setting(0.01).held_out
    assert held_out is not None
    assert held_out.fpir.share == 0.5
    low, high = held_out.fpir.interval95
    assert high - low > 0.6  # so much hangs on one person; 594 independent searches would leave 0.08


def test_a_score_between_two_persons_is_not_taught_by_the_other_one() -> None:
    # Twins: 2i and 2i + 1 find each other at a score of the pair's own, five pairs of 50 above 0.8. With a fold for every
    # person, a search of 2i is measured by borders that never saw the search of 2i + 1 at the same score.
    pids = list(range(100))
    pair = np.repeat(np.concatenate([np.linspace(0.8, 0.9, 5), np.linspace(0, 0.2, 45)]), 2)
    all_ = trials(pids, [0.95] * 100, pair, found=[p ^ 1 for p in pids])
    for learn, part in split(all_, folds=100, seed=0):
        assert not set(learn.impostor.tolist()) & set(part.impostor.tolist())


def test_one_person_whom_everybody_finds_leaves_a_fold_out_and_no_error() -> None:
    hub = trials(list(range(80)), [0.9] * 80, np.linspace(0, 0.5, 80), found=[1] + [0] * 79)
    held_out = calibrate(hub).setting(0.05).held_out
    assert held_out is not None
    assert held_out.fpir.searches < 80


@pytest.mark.parametrize("fpir", [0.01, 0.05])
def test_absent_persons_are_found_about_as_often_as_promised(fpir: float) -> None:
    held_out = calibrate(made(persons=400)).setting(fpir).held_out
    assert held_out is not None
    low, high = held_out.fpir.interval95
    assert low <= fpir <= high
    assert held_out.present.unknown == pytest.approx(0.05, abs=0.02)


def test_the_open_set_report_adds_up() -> None:
    held_out = calibration().setting(0.05).held_out
    assert held_out is not None
    for told in (held_out.absent, held_out.present):
        assert told.match + told.unsure + told.unknown == pytest.approx(1)
    assert held_out.absent.match == held_out.fpir.share
    # Missed are all that are no match, and those that are a match with somebody else.
    assert held_out.fnir.share == pytest.approx(1 - held_out.present.match + held_out.wrong.share)


@pytest.mark.parametrize(("persons", "method"), [(150, "logistic"), (400, "isotonic")])
def test_probabilities_hold_on_held_out_persons(persons: int, method: str) -> None:
    found = calibrate(made(persons=persons))
    assert found.probability.method == method
    assert found.ece_after < 0.05
    assert found.ece_before > 0.2  # (0.5 + 1) / 2 is far from the truth for a stranger
    assert sum(bin_.searches for bin_ in found.reliability) == 2 * 4 * persons


def test_a_rarer_present_person_is_less_probable() -> None:
    rare, usual = calibrate(made(), prior=0.1), calibration()
    assert rare.prior == 0.1
    assert probability(0.6, rare) < probability(0.6, usual)


def test_pairs_have_rates_of_their_own() -> None:
    # 100 pairs of one person at 0.5 to 1, 200 pairs of two at 0 to 0.6; ten of the latter may match at 5 %.
    genuine, impostor = np.linspace(0.5, 1, 100), np.linspace(0, 0.6, 200)
    pids = [*range(100), *(i % 100 for i in range(200))]
    nothing = [NOTHING]
    made_up = trials(pids, [*genuine, *nothing * 200], [*nothing * 100, *impostor], kind="pair")
    found = calibrate(made_up)
    assert found.setting(0.05).threshold == pytest.approx(float(np.sort(impostor)[-10]))
    assert (found.counts.present, found.counts.absent, found.counts.persons) == (100, 200, 100)
    assert "FMR 5 %: match from" in describe(found)[3]


def test_the_report_is_sentences_with_the_facts_in_them() -> None:
    rests, strict, usual, _, probabilities = describe(calibration())
    assert rests.startswith(
        "Rests on 150 persons seen by two cameras and 0 others (all labelled crops asked): 600 searches"
    )
    assert "may still happen to 2 % of all" in rests  # 3 / 150
    assert strict == "FPIR 0.1 %: cannot be told: 600 searches for absent persons; at least 1000 are needed."
    assert usual.startswith("FPIR 1 %: match from 0.")
    assert probabilities.startswith("Probabilities (logistic; taking 50 % of searches")


def test_a_gallery_of_vectors_is_calibrated_from_end_to_end() -> None:
    rng = np.random.default_rng(4)
    pids, camids = np.repeat(np.arange(90), 3), np.tile([0, 1, 2], 90)
    pids[240:] = 80 + np.arange(30)  # ten persons seen by three cameras become thirty seen by one
    vectors = rng.standard_normal((110, 32))[pids] + 0.5 * rng.standard_normal((270, 32))
    found = calibrate(search_trials(Labelled(vectors.astype(np.float32), pids, camids)))
    assert (found.counts.persons, found.counts.others) == (80, 30)
    assert (found.counts.present, found.counts.absent, found.counts.gallery) == (240, 270, 270)
    held_out = found.setting(0.05).held_out
    assert held_out is not None
    assert held_out.fnir.share < 0.2


@pytest.mark.parametrize("wrong", [{"folds": 1}, {"prior": 0.0}, {"miss": 1.0}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least 2, and shares between 0 and 1"):
        calibrate(made(), **wrong)  # type: ignore[arg-type]
