"""Error rates and thresholds on a handful of scores, worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.decision.rates import (
    det,
    interval95,
    lowest_kept,
    rate_at_or_above,
    rate_below,
    searches_needed,
    threshold_at,
)
from app.core.metrics import Floats


def scores(*values: float) -> Floats:
    return np.array(values, dtype=np.float32)


def test_a_score_at_the_threshold_is_a_match() -> None:
    assert rate_at_or_above(scores(0.25, 0.5, 0.75, 0.125), 0.5) == 0.5
    assert rate_below(scores(0.25, 0.5, 0.75, 0.125), 0.5) == 0.5


def test_a_present_person_whose_top_match_is_somebody_else_is_missed_at_every_threshold() -> None:
    assert rate_below(scores(0.5, -np.inf), -1.0) == 0.5


@pytest.mark.parametrize(
    ("fpir", "threshold"),
    [
        (0.2, 0.75),  # one of five may pass
        (0.39, 0.75),  # still one
        (0.4, 0.5),
        (0.6, 0.375),
    ],
)
def test_the_threshold_is_the_lowest_that_few_enough_impostors_reach(fpir: float, threshold: float) -> None:
    assert threshold_at(scores(0.5, 0.125, 0.75, 0.375, 0.25), fpir) == threshold


def test_equal_impostor_scores_pass_together_or_not_at_all() -> None:
    # Two of five may pass, but the second highest score is there three times.
    assert threshold_at(scores(0.75, 0.5, 0.5, 0.5, 0.25), 0.4) == 0.75


def test_where_no_impostor_may_pass_the_threshold_is_the_next_number_above_them() -> None:
    for impostors in (scores(0.5, 0.25), scores(0.5, 0.5)):
        threshold = threshold_at(impostors, 0.4)
        assert threshold == np.nextafter(np.float32(0.5), np.float32(1))
        assert rate_at_or_above(impostors, threshold) == 0


@given(values=st.lists(st.integers(-8, 8), min_size=1, max_size=40), fpir=st.floats(0.001, 0.999))
def test_no_threshold_lets_more_pass_than_asked_and_none_lower_would_do(values: list[int], fpir: float) -> None:
    impostors = scores(*(value / 8 for value in values))
    threshold = threshold_at(impostors, fpir)
    assert rate_at_or_above(impostors, threshold) <= fpir
    lower = impostors[impostors < threshold]
    assert not len(lower) or rate_at_or_above(impostors, float(lower.max())) > fpir


def test_a_tenth_of_a_percent_needs_a_thousand_searches() -> None:
    assert [searches_needed(rate) for rate in (0.001, 0.01, 0.05, 0.3)] == [1000, 100, 20, 4]


@pytest.mark.parametrize("rate", [0, 1, -0.1, float("nan")])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="is not between 0 and 1"):
        searches_needed(rate)


def test_at_most_the_given_share_lies_below_the_border() -> None:
    five = scores(0.5, 0.125, 0.75, 0.375, 0.25)
    assert lowest_kept(five, 0.2) == 0.25  # one of five below
    assert lowest_kept(five, 0.1) == 0.125  # none
    assert lowest_kept(scores(0.25, 0.25, 0.5), 0.4) == 0.25  # both would fall


def test_the_det_curve_holds_every_step_of_a_small_case() -> None:
    points = det(scores(0.75, 0.5, 0.5, 0.25), scores(0.875, 0.5, -np.inf, 0.375))
    assert [(p.fpir, p.fnir) for p in points] == [(0, 0.75), (0.25, 0.75), (0.75, 0.5), (1, 0.25)]
    assert [p.threshold for p in points[1:]] == [0.75, 0.5, 0.25]


@given(seed=st.integers(0, 2**32 - 1), impostors=st.integers(1, 500), hits=st.integers(1, 500))
def test_along_the_det_curve_one_rate_rises_as_the_other_falls(seed: int, impostors: int, hits: int) -> None:
    rng = np.random.default_rng(seed)
    points = det(rng.integers(-8, 9, impostors) / np.float32(8), rng.integers(-8, 9, hits) / np.float32(8))
    assert (np.diff([p.threshold for p in points]) < 0).all()
    assert (np.diff([p.fpir for p in points]) > 0).all()
    assert (np.diff([p.fnir for p in points]) <= 0).all()
    assert (points[0].fpir, points[-1].fpir) == (0, 1)
    assert len(points) <= 101


def test_the_interval_of_independent_searches_is_wilsons() -> None:
    # 10 of 100: (0.1 + z^2/200 -+ z sqrt(0.09/100 + z^2/40000)) / (1 + z^2/100) with z = 1.96 is 0.0552 to 0.1744, the
    # textbook figures [Newcombe, "Two-sided confidence intervals for the single proportion", 1998, method 3].
    # Persons of one search each have a variance of n / (n - 1), which is 1 % more.
    low, high = interval95(np.arange(100) < 10, np.arange(100))
    assert (low, high) == pytest.approx((0.0552, 0.1744), abs=0.001)


def test_ten_crops_of_one_person_are_not_ten_persons() -> None:
    wrong, persons = np.arange(1000) < 100, np.arange(1000) // 10  # ten persons are always wrong, ninety never
    low, high = interval95(wrong, persons)
    assert (low, high) == pytest.approx((0.0552, 0.1744), abs=0.001)


def test_where_nothing_went_wrong_each_person_counts_once() -> None:
    # Wilson's upper end for 0 of n is z^2 / (n + z^2): 3.84 / 63.84; the rule of three says 3 / 60.
    low, high = interval95(np.zeros(600, dtype=bool), np.arange(600) % 60)
    assert low == 0
    assert high == pytest.approx(3.8415 / 63.8415, abs=1e-4)


def test_rates_of_nothing_and_of_nan_are_refused() -> None:
    for figure in (rate_at_or_above, rate_below, threshold_at, lowest_kept):
        with pytest.raises(ValueError, match="no search"):
            figure(scores(), 0.5)
        with pytest.raises(ValueError, match="not a number"):
            figure(scores(0.5, float("nan")), 0.5)
