"""Figures over samples, worked by hand."""

import itertools

import pytest

from tests.load.arrivals import Bounds, poisson
from tests.load.samples import OK, Sample, Taken, percentile, pooled, spread, stages


def sample(due_s: float, done_s: float, outcome: str = OK, **stages_ms: float) -> Sample:
    return Sample(due_s, due_s, done_s, outcome, stages_ms)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    ascending = [float(i) for i in range(1, 11)]
    # Nearest rank of 10 values: the 5th for one half, the 10th for 95 and 99 in a hundred.
    assert [percentile(ascending, share) for share in (0.5, 0.95, 0.99)] == [5.0, 10.0, 10.0]


def test_a_p99_of_few_answers_says_so() -> None:
    assert not spread([1.0] * 999)["enough"]
    assert spread([1.0] * 1000)["enough"]


def test_waiting_before_it_was_sent_is_part_of_a_latency() -> None:
    late = Sample(due_s=1.0, sent_s=1.5, done_s=2.0)
    assert (late.latency_ms, late.late_ms) == (1000.0, 500.0)


def test_only_good_answers_in_the_window_count_for_rates_and_only_those_in_time_for_goodput() -> None:
    samples = (
        sample(0.0, 0.5),  # before the window
        sample(0.5, 1.0),  # on its edge: the window begins behind it
        sample(1.0, 1.25),
        sample(1.0, 3.0),  # 2,000 ms
        sample(1.0, 2.0, "429 overloaded"),
        sample(1.0, 3.5),  # behind it
    )
    taken = Taken(samples, ((1.0, 3.0),))
    assert taken.rate_per_s() == 1.0  # two in two seconds
    assert taken.rate_per_s(within_ms=1999) == 0.5
    assert taken.errors() == {"429 overloaded": 1}


def test_rounds_put_together_keep_their_windows_apart() -> None:
    one = Taken((sample(0.0, 1.0), sample(0.0, 9.0)), ((0.0, 1.0),))  # the second comes long after the window
    both = pooled([one, one])
    assert both.seconds == 2.0
    assert both.rate_per_s() == 1.0
    assert both.latencies_ms() == pytest.approx([1000, 1000, 9000, 9000])


def test_stage_times_are_those_of_good_answers() -> None:
    taken = [
        sample(0, 1, infer=10.0),
        sample(0, 1, infer=30.0, search=1.0),
        sample(0, 1, "504 deadline_passed", queue=5.0),
    ]
    found = stages(taken)
    assert set(found) == {"infer", "search"}
    assert (found["infer"]["p50"], found["infer"]["max"]) == (10.0, 30.0)


def test_arrivals_come_at_the_rate_that_was_asked_for_and_again_from_the_same_seed() -> None:
    due = [at for at, _ in zip(poisson(50.0, seed=3), range(10_000), strict=False)]
    # The 10,000th of exponential gaps of 20 ms is due at 200 s, give or take sqrt(10,000) * 20 ms = 2 s.
    assert abs(due[-1] - 200) < 5 * 2
    gaps = [after - before for before, after in itertools.pairwise(due)]
    # Of exponential gaps 1 - 1/e, 63.2 %, are shorter than their mean; of even ones about one half would be.
    assert abs(sum(gap < 0.02 for gap in gaps) / len(gaps) - 0.632) < 0.025  # five standard deviations
    assert due[:5] == [at for at, _ in zip(poisson(50.0, seed=3), range(5), strict=False)]


def test_a_run_is_bounded_in_time_and_in_count() -> None:
    bounds = Bounds(requests=10, seconds=5.0, most_requests=20, most_seconds=8.0)
    assert not bounds.over(10, 4.9)  # too short
    assert not bounds.over(9, 5.0)  # too few
    assert bounds.over(10, 5.0)
    assert bounds.over(3, 8.0)
    assert bounds.over(20, 1.0)
