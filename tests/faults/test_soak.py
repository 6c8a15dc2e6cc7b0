"""The tool that watches a server's memory: it does all that it says, and a leak is seen."""

import asyncio
import random

import pytest

from tests.faults.soak import HOUR, Told, curve, medians, schedule, soak, spread, verdict

SECONDS = 100.0


def sampled(sizes: list[int]) -> Told:
    """A run in which one size was seen through each tenth."""
    told = Told(seconds=SECONDS)
    told.samples = [(n * SECONDS / 1000, sizes[min(n // 100, 9)]) for n in range(1001)]
    return told


def test_memory_that_rises_while_it_warms_up_is_flat() -> None:
    told = sampled([100, 150, 200, 200, 204, 200, 209, 200, 200, 200])
    assert medians(told.samples) == [100, 150, 200, 200, 204, 200, 209, 200, 200, 200]
    assert spread(medians(told.samples)) == pytest.approx(9 / 200)
    assert verdict(told, SECONDS) == []


@pytest.mark.parametrize("last", [211, 189])  # 200 and 5 %; 189 and 5.8 %
def test_memory_that_moves_by_more_than_a_twentieth_is_not(last: int) -> None:
    told = sampled([100, 150, 200, 200, 200, 200, 200, 200, 200, last])
    assert [sentence.partition(" by ")[0] for sentence in verdict(told, SECONDS)] == ["resident memory moves"]
    assert curve(told.samples).count("\n") == 19


def test_a_refusal_and_a_server_that_does_not_keep_up_are_told() -> None:
    told = sampled([200] * 10)
    told.refused, told.seconds = ["search: 500", "add: 500"], 201.0
    assert verdict(told, SECONDS) == ["2 requests failed; the first: search: 500", "the work took 201 s, not 100"]


def test_a_minute_is_a_tenth_of_the_hour() -> None:
    due = schedule(60, random.Random(1))
    assert sum(what == "search by vector" for _, what in due) == 1200
    assert sum(what == "snapshot" for _, what in due) == 1
    assert due == sorted(due)
    assert due[-1][0] <= 60


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_few_seconds_of_the_load_are_done_without_a_refusal() -> None:
    told = asyncio.run(soak(6, 120, seed=1))
    assert told.refused == []
    assert told.done.keys() == HOUR.keys()
    assert len(told.samples) > 10
