"""From scores to probabilities: fits against hand-worked cases and a library's answers; calibration errors by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.decision import NOBODY, NOTHING, Trials
from app.core.decision.probability import (
    Bin,
    Cases,
    Method,
    cases_of,
    expected_calibration_error,
    fit,
    logistic,
    method_for,
    pool_adjacent_violators,
    reliability,
    uncalibrated,
)
from app.core.metrics import Doubles


def cases(scores: list[float], right: list[int], persons: list[int] | None = None) -> Cases:
    count = len(scores)
    return Cases(
        np.array(scores, dtype=np.float64),
        np.array(right, dtype=bool),
        np.full(count, 1 / count),
        np.array(persons if persons is not None else range(count)),
    )


def test_violators_are_pooled_until_nothing_falls() -> None:
    # 3 and 1 pool to 2, which is not above the next 2; these three weigh 1, 1 and 2: (3 + 1 + 4) / 4.
    assert pool_adjacent_violators(np.array([3.0, 1, 2, 5]), np.array([1.0, 1, 2, 1])).tolist() == [2, 2, 2, 5]


def test_pooling_agrees_with_scikit_learn() -> None:
    values = np.array([3, 1, 2, 4, 3.5, 3.5, 6, 5, 7, 6.5])
    weights = np.array([1, 2, 1, 1, 2, 1, 3, 1, 1, 2], dtype=np.float64)
    # scikit-learn 1.9.1: IsotonicRegression().fit_transform(range(10), values, sample_weight=weights)
    expected = [5 / 3, 5 / 3, 2, 3.625, 3.625, 3.625, 5.75, 5.75, 20 / 3, 20 / 3]
    assert pool_adjacent_violators(values, weights).tolist() == pytest.approx(expected, abs=1e-15)


@given(values=st.lists(st.floats(-100, 100), min_size=1, max_size=30), seed=st.integers(0, 2**32 - 1))
def test_pooled_values_never_fall_and_keep_the_mean(values: list[float], seed: int) -> None:
    weights = np.random.default_rng(seed).uniform(0.5, 2, len(values))
    pooled = pool_adjacent_violators(np.array(values), weights)
    assert (np.diff(pooled) >= 0).all()
    assert weights @ pooled == pytest.approx(weights @ np.array(values), abs=1e-9)


def test_the_logistic_curve_agrees_with_scikit_learn() -> None:
    scores = np.array([0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.55, 0.6, 0.7, 0.9])
    right = np.array([0, 0, 1, 0, 0, 1, 1, 0, 1, 1], dtype=bool)
    weights = np.array([1, 2, 1, 1, 1, 1, 3, 1, 1, 2], dtype=np.float64)
    # scikit-learn 1.9.1: LogisticRegression(C=inf, tol=1e-14, solver="newton-cholesky") on each score twice, as right with
    # weight * target and as wrong with weight * (1 - target), the targets being Platt's 6/7 and 1/7.
    assert logistic(scores, right, weights) == pytest.approx((4.527701378239062, -1.888707219031081), abs=1e-9)


def test_a_clean_cut_has_a_finite_slope() -> None:
    slope, intercept = logistic(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True]), np.ones(4))
    assert 0 < slope < 100
    assert -intercept / slope == pytest.approx(0.5)  # half way, by symmetry


@pytest.mark.parametrize(
    ("scores", "right"),
    [
        ([0.1, 0.2, 0.8, 0.9], [True, True, False, False]),  # high scores are wrong: no curve may fall
        ([0.5, 0.5, 0.5, 0.5], [True, True, False, False]),  # one score says nothing
    ],
)
def test_scores_that_tell_nothing_leave_the_share_of_right_ones(scores: list[float], right: list[bool]) -> None:
    assert logistic(np.array(scores), np.array(right), np.ones(4)) == pytest.approx((0, 0))  # 1 / (1 + exp(0)) = 1/2


def test_isotonic_knots_stand_at_the_middle_of_their_steps() -> None:
    # Right or wrong by score: 0 | 1 0 | 1, so the steps are 0, 1/2 (at 0.2 and 0.4) and 1; eight persons cut to [0.1, 0.9].
    fitted = fit(cases([0.0, 0.2, 0.4, 1.0] * 2, [0, 1, 0, 1] * 2), "isotonic")
    assert np.array(fitted.knots) == pytest.approx(np.array([[0, 0], [0.3, 0.5], [1, 1]]))
    assert fitted.of([0.3, 0.15, -1, 2]).tolist() == pytest.approx([0.5, 0.25, 0.1, 0.9])


@pytest.mark.parametrize("method", ["isotonic", "logistic"])
@given(data=st.lists(st.tuples(st.integers(-16, 16), st.booleans()), min_size=1, max_size=60))
def test_every_map_is_monotone_and_strictly_between_none_and_all(method: Method, data: list[tuple[int, bool]]) -> None:
    fitted = fit(cases([score / 16 for score, _ in data], [int(right) for _, right in data]), method)
    probabilities = fitted.of(np.linspace(-3, 3, 601))
    assert (np.diff(probabilities) >= 0).all()
    assert probabilities.min() > 0
    assert probabilities.max() < 1


def test_no_map_claims_more_than_its_persons_support() -> None:
    # A thousand crops of three persons, all right above 0.5: Laplace's rule leaves 1 / (3 + 2) to what was not seen.
    scores = np.linspace(0, 1, 1000)
    fitted = fit(cases(scores.tolist(), (scores > 0.5).astype(int).tolist(), [i % 3 for i in range(1000)]), "isotonic")
    assert fitted.of([0, 1]).tolist() == pytest.approx([0.2, 0.8])


def test_a_score_that_is_not_a_number_has_no_probability() -> None:
    with pytest.raises(ValueError, match="not a number"):
        fit(cases([0.1, 0.9], [0, 1]), "logistic").of([0.5, float("nan")])


def trials(genuine: list[float], impostor: list[float]) -> Trials:
    count = len(genuine)
    return Trials(
        kind="item",
        pids=np.arange(count),
        genuine=np.array(genuine, dtype=np.float32),
        impostor=np.array(impostor, dtype=np.float32),
        found=np.full(count, NOBODY),
        asked=count,
        possible=count,
        gallery=count,
    )


def test_a_search_is_a_case_with_its_person_and_a_case_without() -> None:
    # Right at 0.75; wrong at 0.5 (the person had 0.25); a person who cannot be found; and each without the person.
    found = cases_of(trials([0.75, 0.25, NOTHING], [0.125, 0.5, 0.375]), prior=0.25)
    assert found.scores.tolist() == [0.75, 0.5, 0.125, 0.5, 0.375]
    assert found.right.tolist() == [True, False, False, False, False]
    assert found.weights.tolist() == [0.125, 0.125, 0.25, 0.25, 0.25]  # two present share 1/4, three absent 3/4
    assert found.pids.tolist() == [0, 1, 0, 1, 2]


def test_cases_need_present_and_absent_persons() -> None:
    with pytest.raises(ValueError, match="0 searches for present persons and 1 for absent ones"):
        cases_of(trials([NOTHING], [0.5]), prior=0.5)


def test_steps_are_fitted_only_where_many_persons_give_both_outcomes() -> None:
    def made(persons: int, count: int) -> Cases:
        return cases([0.5] * 2 * count, [1, 0] * count, [i // 2 % persons for i in range(2 * count)])

    assert method_for(made(200, 1000)) == "isotonic"
    assert method_for(made(199, 1000)) == "logistic"
    assert method_for(made(200, 999)) == "logistic"


def test_the_calibration_error_is_the_mean_distance_of_promise_and_truth() -> None:
    probabilities, right = np.array([0.25, 0.25, 0.75, 1.0]), np.array([False, True, True, True])
    weights = np.array([1.0, 1.0, 2.0, 4.0])
    bins = reliability(probabilities, right, weights)
    assert bins == (
        Bin(low=0.2, high=0.3, searches=2, weight=0.25, probability=0.25, right=0.5),
        Bin(low=0.7, high=0.8, searches=1, weight=0.25, probability=0.75, right=1.0),
        Bin(low=0.9, high=1.0, searches=1, weight=0.5, probability=1.0, right=1.0),
    )
    assert expected_calibration_error(bins) == 0.25 * 0.25 + 0.25 * 0.25


def test_an_uncalibrated_cosine_is_read_linearly() -> None:
    assert uncalibrated(np.array([-1, 0, 0.5, 1, 1.0000001])).tolist() == [0, 0.5, 0.75, 1, 1]


@pytest.mark.parametrize("method", ["isotonic", "logistic"])
def test_a_known_curve_is_found_again(method: Method) -> None:
    """Scores whose true probability is 1 / (1 + exp(-(8 s - 4))): the fit is within a few hundredths of it."""
    rng = np.random.default_rng(5)

    def truth(scores: Doubles) -> Doubles:
        return 1 / (1 + np.exp(-(8 * scores - 4)))

    scores = rng.uniform(0, 1, 4000)
    fitted = fit(cases(scores.tolist(), (rng.random(4000) < truth(scores)).astype(int).tolist()), method)
    grid = np.linspace(0.05, 0.95, 19)
    # Isotonic steps of 4,000 cases err by about (p (1 - p) p' / n)^(1/3) = (0.25 * 2 / 4000)^(1/3) = 0.05 at the steepest.
    assert np.abs(fitted.of(grid) - truth(grid)).mean() < 0.03
