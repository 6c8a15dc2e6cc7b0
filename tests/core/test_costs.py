"""What launches cost, on the figures that the ModelZoo guide prints for Ascend310P3, and how a table learns."""

import pytest

from app.core.costs import Costs

GUIDE_PER_S = {1: 1542, 4: 3715, 8: 4287, 16: 3454, 32: 3571, 64: 2231}  # images a second by batch size
GUIDE = Costs({size: 1000 * size / rate for size, rate in GUIDE_PER_S.items()})
STEADY = Costs({1: 10.0, 2: 20.0, 4: 40.0})


def test_bigger_is_not_better() -> None:
    assert GUIDE.best == 8


def test_of_sizes_that_are_equally_fast_a_crop_the_smaller_one_waits_less() -> None:
    assert STEADY.best == 1
    assert Costs({1: 37.4, 4: 146.5, 8: 299.0}).best == 1  # 26.7, 27.3 and 26.8 a second: 2 % apart is noise


def test_a_gentle_size_is_near_the_best_rate_and_over_sooner() -> None:
    assert GUIDE.gentle == 4  # 3715 of 4287 is 87 %, 1542 is 36 %


def test_a_device_that_pads_charges_the_next_size() -> None:
    costs = Costs({1: 1.0, 4: 2.0, 8: 3.0})
    assert [costs.ms(crops) for crops in (1, 2, 4, 5, 8)] == [1, 2, 2, 3, 3]
    assert list(costs.pieces) == [1, 4, 8]


def test_a_device_that_takes_any_size_is_charged_in_between() -> None:
    costs = Costs({2: 10.0, 4: 16.0, 8: 20.0}, pads=False)
    assert [costs.ms(crops) for crops in (1, 2, 3, 5, 8)] == [10, 10, 13, 17, 20]
    assert costs.ms(16) == 40  # more than it takes at once: in proportion
    assert list(costs.pieces) == list(range(1, 9))


def test_sizes_above_the_best_are_no_pieces() -> None:
    assert list(GUIDE.pieces) == [1, 4, 8]


def test_what_is_seen_again_and_again_is_believed() -> None:
    costs = STEADY
    for _ in range(50):
        costs = costs.seen(2, 26.0)
    assert costs.ms(2) == pytest.approx(26.0, rel=0.01)


def test_one_launch_that_took_for_ever_teaches_little() -> None:
    assert STEADY.seen(1, 60_000.0).ms(1) == pytest.approx(12.0)  # counts as twice as slow, a fifth of which is learnt


def test_a_size_that_once_was_slow_is_tried_again() -> None:
    slow = STEADY
    for _ in range(20):
        slow = slow.seen(1, 30.0)
    assert slow.best == 2  # 15 ms a crop at least, against 10
    later = slow
    for _ in range(300):
        later = later.seen(2, 20.0)
    assert later.best == 1


def test_a_machine_that_slows_down_is_slower_at_every_size() -> None:
    costs = STEADY
    for _ in range(300):
        costs = costs.seen(1, 20.0)
    assert costs.ms(4) == pytest.approx(80.0, rel=0.05)


def test_a_launch_between_two_measured_sizes_corrects_both() -> None:
    costs = Costs({2: 10.0, 4: 20.0}, pads=False).seen(3, 30.0)  # 15 expected: twice as slow, a fifth is learnt
    assert [costs.ms(2), costs.ms(4)] == pytest.approx([12.0, 24.0])
