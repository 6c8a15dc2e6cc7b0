"""What to launch, on the figures that the ModelZoo guide prints for Ascend310P3, and against all that could be done."""

import random
from functools import cache
from math import inf

import pytest

from app.core.planner import BULK_SHARE, Costs, Launch, Waiting, expected_ms, largest_piece, next_launch, owed_after

GUIDE = Costs({1: 0.65, 4: 1.08, 8: 1.87, 16: 4.63, 32: 8.96})  # milliseconds a batch
FAR = 1e9


def waiting(interactive: int, bulk: int = 0, owed: float = 0.0, calm: bool = True) -> Waiting:
    return Waiting([FAR] * interactive, bulk, owed, calm)


@pytest.mark.parametrize(
    ("crops", "launch"),
    [
        (1, Launch(1, 1)),
        (2, Launch(4, 2)),  # 1.08 ms padded, against 1.30 for two of one
        (5, Launch(4, 4)),  # 1.08 and 0.65, against 1.87 for eight
        (6, Launch(8, 6)),  # 1.87, against 1.08 and twice 0.65
        (9, Launch(8, 8)),
        (300, Launch(8, 8)),
    ],
)
def test_the_largest_launch_of_the_cheapest_set_goes_first(crops: int, launch: Launch) -> None:
    assert next_launch(GUIDE, waiting(crops)) == launch


@cache
def all_that_could_be_done(costs: tuple[tuple[int, float], ...], crops: int) -> float:
    """The least milliseconds of any set of launches that carries so many crops, by trying all."""
    if crops == 0:
        return 0.0
    return min(ms + all_that_could_be_done(costs, max(0, crops - size)) for size, ms in costs)


@pytest.mark.parametrize("pads", [True, False])
@pytest.mark.parametrize("seed", range(40))
def test_what_waits_is_cleared_as_cheaply_as_can_be(seed: int, pads: bool) -> None:
    dice = random.Random(seed)
    sizes = sorted(dice.sample(range(1, 9), 3))
    costs = Costs({size: dice.uniform(0.2, 1.0) * size for size in sizes}, pads)
    if pads:  # what a device that pads charges never falls with the size
        costs = Costs(dict(zip(sizes, sorted(costs.warm_ms.values()), strict=True)))
    for crops in range(1, 90):  # beyond the number from which the best size alone is right
        spent, left = 0.0, crops
        while left:
            launch = next_launch(costs, waiting(left))
            assert launch.size <= costs.best
            spent += costs.ms(launch.size)
            left -= launch.interactive
        assert spent == pytest.approx(all_that_could_be_done(tuple(costs.pieces.items()), crops))


def test_launches_of_a_plan_never_grow() -> None:
    left, sizes = 30, []
    while left:
        launch = next_launch(GUIDE, waiting(left))
        sizes.append(launch.size)
        left -= launch.interactive
    assert sizes == sorted(sizes, reverse=True)


def test_free_places_carry_bulk_crops() -> None:
    assert next_launch(GUIDE, waiting(3, bulk=20)) == Launch(4, 3, 1)
    assert next_launch(GUIDE, waiting(6, bulk=1)) == Launch(8, 6, 1)


def test_while_bulk_waits_a_single_crop_does_not_have_the_device_for_itself() -> None:
    assert next_launch(GUIDE, waiting(1, bulk=20)) == Launch(4, 1, 3)
    assert next_launch(GUIDE, waiting(5, bulk=20)) == Launch(8, 5, 3)
    assert next_launch(GUIDE, waiting(1, bulk=1)) == Launch(4, 1, 1)


def test_a_device_that_takes_any_size_alone_gives_a_place_to_each() -> None:
    cpu = Costs({1: 37.4, 4: 146.5, 8: 299.0}, pads=False)
    assert next_launch(cpu, waiting(3, bulk=20)) == Launch(1, 1, 0)


def test_bulk_has_the_best_size_when_it_is_calm_and_a_short_one_when_somebody_may_come() -> None:
    assert next_launch(GUIDE, waiting(0, bulk=20)) == Launch(8, 0, 8)
    assert next_launch(GUIDE, waiting(0, bulk=20, calm=False)) == Launch(4, 0, 4)
    assert next_launch(GUIDE, waiting(0, bulk=2, calm=False)) == Launch(4, 0, 2)


def test_bulk_that_is_owed_rides_before_others() -> None:
    assert next_launch(GUIDE, waiting(50, bulk=20, owed=2.9)) == Launch(8, 6, 2)
    assert next_launch(GUIDE, waiting(50, bulk=1, owed=2.9)) == Launch(8, 7, 1)
    assert next_launch(GUIDE, waiting(50, bulk=20, owed=0.9)) == Launch(8, 8, 0)


@pytest.mark.parametrize("costs", [GUIDE, Costs({1: 37.4, 4: 146.5, 8: 299.0}, pads=False)], ids=["npu", "cpu"])
def test_under_full_interactive_load_bulk_has_its_share(costs: Costs) -> None:
    owed, interactive, bulk = 0.0, 0, 0
    for _ in range(2000):
        launch = next_launch(costs, waiting(1000, 1000, owed, calm=False))
        owed = owed_after(owed, launch, bulk_waits=True)
        interactive, bulk = interactive + launch.interactive, bulk + launch.bulk
    assert bulk / (bulk + interactive) == pytest.approx(BULK_SHARE, rel=0.02)


def test_nothing_is_owed_to_nobody() -> None:
    assert owed_after(3.0, Launch(8, 8), bulk_waits=False) == 0.0


def test_a_smaller_launch_goes_first_where_it_keeps_a_deadline_and_the_larger_one_would_not() -> None:
    assert next_launch(GUIDE, Waiting([1.5] + [FAR] * 9)) == Launch(4, 4)
    assert next_launch(GUIDE, Waiting([0.7] + [FAR] * 9)) == Launch(1, 1)
    assert next_launch(GUIDE, Waiting([FAR] * 8 + [0.1])) == Launch(8, 8)  # the one in a hurry does not ride yet


def test_a_deadline_that_no_launch_keeps_changes_nothing() -> None:
    assert next_launch(GUIDE, Waiting([0.1] + [FAR] * 9)) == Launch(8, 8)


def test_a_launch_is_never_larger_than_allowed() -> None:
    assert largest_piece(GUIDE, 300, most=4) == 4


def test_who_comes_waits_for_what_runs_and_for_those_ahead() -> None:
    # 1.87 ms for eight; one runs for another millisecond; 15 ahead and one's own: two launches.
    assert expected_ms([(GUIDE, 1.0)], ahead=15, crops=1) == pytest.approx(1.0 + 2 * 1.87)
    # Two devices share it: 16 crops and 8/1.87 crops a millisecond each, of which one is taken for a millisecond.
    assert expected_ms([(GUIDE, 1.0), (GUIDE, 0.0)], ahead=15, crops=1) == pytest.approx((16 * 1.87 / 8 + 1.0) / 2)
    # A launch of one, not an eighth of one of eight.
    assert expected_ms([(GUIDE, 0.0)], ahead=0, crops=1) == pytest.approx(0.65)
    # A share of the device belongs to the bulk crops.
    assert expected_ms([(GUIDE, 0.0)], 15, 1, bulk_waits=True) == pytest.approx(2 * 1.87 / (1 - BULK_SHARE))


def test_a_plan_without_deadlines_is_that_of_deadlines_far_away() -> None:
    assert next_launch(GUIDE, Waiting([inf] * 9)) == next_launch(GUIDE, waiting(9))
