"""Where a request's time went adds up to the whole of it."""

import pytest

from app.service.stages import REST, Stages


class Clock:
    """Shows the seconds it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_stages_and_the_rest_add_up_to_the_whole() -> None:
    clock = Clock()
    stages = Stages(clock)
    clock.now += 0.25  # reading the body
    with stages.measure("decode"):
        clock.now += 0.5
    stages.add("infer", 2.0)
    clock.now += 2.0
    clock.now += 0.125  # writing the answer
    assert stages.rest() == 2.875
    assert stages.ms == {"decode": 500, "infer": 2000, REST: 375}


def test_of_work_done_side_by_side_the_longest_part_counts_whole() -> None:
    stages = Stages(Clock())
    short, long = stages.part(), stages.part()
    short.add("decode", 3.0)
    short.add("infer", 1.0)
    long.add("decode", 1.0)
    long.add("queue", 4.0)
    stages.add("decode", 0.5)
    stages.side_by_side([short, long])
    # 5 s, in which the other part's 4 s lie; 3 s of decoding and 4 s of waiting at once would be more than there were.
    assert stages.ms == {"decode": 1500, "queue": 4000}


def test_a_part_is_due_when_the_whole_is() -> None:
    stages = Stages(Clock())
    stages.allow(3.0)
    assert stages.part().due == stages.due < float("inf")


def test_stages_that_were_said_to_be_longer_than_the_whole_leave_no_rest() -> None:
    clock = Clock()
    stages = Stages(clock)
    stages.add("infer", 2.0)
    clock.now += 1.0
    assert stages.rest() == pytest.approx(1.0)
    assert stages.ms[REST] == 0.0
