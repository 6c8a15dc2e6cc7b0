"""What to launch, on the figures that the ModelZoo guide prints for Ascend310P3."""

import pytest

from app.core.planner import best_size, launch_size

GUIDE_PER_S = {1: 1542, 4: 3715, 8: 4287, 16: 3454, 32: 3571, 64: 2231}  # images a second by batch size
GUIDE = {size: 1000 * size / rate for size, rate in GUIDE_PER_S.items()}  # milliseconds a batch


def test_bigger_is_not_better() -> None:
    assert best_size(GUIDE) == 8


def test_of_sizes_that_are_equally_fast_a_crop_the_smaller_one_waits_less() -> None:
    assert best_size({1: 10.0, 2: 20.0, 4: 40.0}) == 1


@pytest.mark.parametrize(("waiting", "launched"), [(1, 1), (5, 5), (8, 8), (64, 8), (300, 8)])
def test_all_that_wait_are_launched_up_to_the_best_size(waiting: int, launched: int) -> None:
    assert launch_size(waiting, GUIDE) == launched
