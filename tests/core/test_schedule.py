"""The planner at work, simulated with the ModelZoo guide's costs of Ascend310P3. No speed of this machine is measured."""

import pytest

from app.core.planner import BULK_SHARE, Costs
from app.core.schedule import Outcome, planned, poisson, simulate, take_all, window

GUIDE = Costs({1: 0.65, 4: 1.08, 8: 1.87, 16: 4.63, 32: 8.96})  # milliseconds a batch
CROPS = 8000


def test_a_crop_that_comes_alone_is_answered_after_one_launch_and_after_the_window_where_there_is_one() -> None:
    assert simulate(planned, GUIDE, [10.0]).latencies_ms == [pytest.approx(0.65)]
    assert simulate(window(5, 8), GUIDE, [10.0]).latencies_ms == [pytest.approx(5.65)]


def test_a_window_ends_when_the_batch_is_full() -> None:
    assert simulate(window(5, 4), GUIDE, [0, 1, 2, 3]).latencies_ms == pytest.approx([4.08, 3.08, 2.08, 1.08])


def test_crops_that_come_during_a_launch_ride_in_the_next() -> None:
    # The first runs until 0.65; the four others together until 0.65 + 1.08.
    outcome = simulate(planned, GUIDE, [0, 0.1, 0.2, 0.3, 0.4])
    assert outcome.latencies_ms == pytest.approx([0.65, 1.63, 1.53, 1.43, 1.33])


def test_percentiles_are_nearest_ranks() -> None:
    assert Outcome([float(ms) for ms in range(100, 0, -1)]).percentile(0.99) == 100.0
    assert Outcome([3.0, 1.0, 2.0]).percentile(0.5) == 2.0


@pytest.mark.parametrize("load", [0.05, 0.2, 0.5, 0.7, 0.9])
def test_no_load_is_served_better_by_a_window_or_by_taking_all(load: float) -> None:
    arrivals = poisson(load * GUIDE.best_rate, CROPS, seed=1)
    ours = simulate(planned, GUIDE, arrivals)
    for other in (simulate(window(5, 8), GUIDE, arrivals), simulate(take_all(8), GUIDE, arrivals)):
        for share in (0.5, 0.99):
            assert ours.percentile(share) <= other.percentile(share) * 1.02


@pytest.mark.parametrize("load", [0.05, 0.2, 0.5, 0.7, 0.9])
def test_bulk_uses_what_is_left_and_interactive_crops_hardly_notice(load: float) -> None:
    arrivals = poisson(load * GUIDE.best_rate, CROPS, seed=1)
    alone, beside = simulate(planned, GUIDE, arrivals), simulate(planned, GUIDE, arrivals, backlog=True)
    assert beside.percentile(0.99) <= 2.2 * alone.percentile(0.99)
    left = beside.ended_ms * GUIDE.best_rate - CROPS  # had all been launched in batches of the best size
    assert beside.bulk >= 0.75 * left


def test_bulk_does_not_starve_when_more_comes_than_the_device_can_do() -> None:
    outcome = simulate(planned, GUIDE, poisson(2 * GUIDE.best_rate, CROPS, seed=1), backlog=True)
    assert outcome.bulk / (outcome.bulk + CROPS) == pytest.approx(BULK_SHARE, rel=0.2)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    assert poisson(1.0, 5, 7) == poisson(1.0, 5, 7) != poisson(1.0, 5, 8)
