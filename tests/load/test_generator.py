"""Both loops before a server that answers when it is told to, and what becomes of answers."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.load.arrivals import Bounds
from tests.load.calls import Call
from tests.load.generator import NOT_SENT, Answer, Client, closed_loop, open_loop, outcome, server_timing
from tests.load.samples import OK


def call(number: int) -> Call:
    return Call(f"/{number}", b"")


async def test_an_open_loop_sends_on_while_nothing_is_answered() -> None:
    all_sent = asyncio.Event()
    sent: list[str] = []

    async def send(call: Call) -> Answer:
        sent.append(call.path)
        if len(sent) == 5:
            all_sent.set()
        await all_sent.wait()  # a loop that waits for answers never gets here five times
        return Answer(OK, {})

    async with asyncio.timeout(10):
        taken = await open_loop(send, call, iter([0.0, 0.01, 0.02, 0.03, 0.04, 0.05]), Bounds(5, 0.0))
    assert sent == ["/0", "/1", "/2", "/3", "/4"]
    assert len(taken.samples) == 5
    # The first was answered only after the fifth was sent, and all that time is its latency.
    assert max(sample.latency_ms for sample in taken.samples) >= 40


async def test_a_closed_loop_has_as_many_requests_out_as_clients() -> None:
    out = most = 0
    full = asyncio.Event()

    async def send(call: Call) -> Answer:
        nonlocal out, most
        out += 1
        most = max(most, out)
        if out == 3:
            full.set()
        await full.wait()
        out -= 1
        return Answer(OK, {"infer": 1.0})

    async with asyncio.timeout(10):
        taken = await closed_loop(send, call, 3, Bounds(requests=30, seconds=0.0))
    assert most == 3
    assert 30 <= len(taken.samples) <= 32  # those that were out when the thirtieth was answered end too


async def test_requests_that_cannot_be_kept_in_flight_are_counted_and_not_dropped() -> None:
    released = asyncio.Event()

    async def send(call: Call) -> Answer:
        await released.wait()
        return Answer(OK, {})

    def due() -> Iterator[float]:
        yield from (0.0, 0.0, 0.0, 0.0)
        released.set()  # asked for the fifth, so four were dealt with
        yield 1.0

    async with asyncio.timeout(10):
        taken = await open_loop(send, call, due(), Bounds(4, 0.0), most_in_flight=2)
    assert taken.errors() == {NOT_SENT: 2}


async def test_a_server_that_is_not_there_is_an_error_of_its_own_kind_and_ends_nothing() -> None:
    async with Client("http://127.0.0.1:1") as client:  # a port that nobody listens on
        answer = await client.send(call(0))
    assert answer.outcome.startswith("connection: ")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"vectors": []}', OK),
        (429, b'{"code":"overloaded"}', "429 overloaded"),
        (502, b"<html>", "502"),
        (200, b'{"results":[{"name":"crop.jpg","id":null,"status":"refused"}]}', "item refused"),
    ],
)
def test_an_answer_is_good_or_an_error_of_a_kind(status: int, body: bytes, expected: str) -> None:
    assert outcome(status, body) == expected


def test_stage_times_are_read_off_the_header() -> None:
    assert server_timing("decode;dur=1.20, infer;dur=6.14") == {"decode": 1.2, "infer": 6.14}
    assert server_timing("") == {}
