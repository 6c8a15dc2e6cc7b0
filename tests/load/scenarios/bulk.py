"""Long streams into a gallery: alone, and beside people who wait for answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.load.bench import FP32, INT8, Bench
from tests.load.bulk import TAR, Stream, tar_of
from tests.load.calls import calls_of, drawn_jpegs
from tests.load.gallery import make_collection
from tests.load.report import Figure, Report
from tests.load.run import Load, Run, measure, warm_up, watched
from tests.load.samples import OK, Sample, Taken

_ENDLESS = 10_000_000
_INTERACTIVE_SHARE = 0.25  # of the capacity, sent by people while bulk takes the rest


async def bulk(bench: Bench) -> Report:
    """A tar of JPEGs into an empty collection: items on disk a second as a share of the pure model's rate."""
    pure = await bench.pure()
    async with bench.server() as target:
        await make_collection(target)
        await warm_up(target, calls_of("embeddings", drawn_jpegs()))
        stream = Stream(target, tar_of(drawn_jpegs(), bench.crops), TAR)
        run = bench.done(await streamed(stream))
    rate, asked = stream.rate_per_s(), bench.asked({FP32: 0.97, INT8: 0.90})
    of = f"{rate:.1f}/s of {pure.per_s:.1f}/s, {len(stream.times_s)} crops, {stream.statuses}"
    return bench.report("bulk", [Figure("ingested over pure", rate / pure.per_s, at_least=asked, of=of)], [run])


async def beside_bulk(bench: Bench) -> Report:
    """How long people wait while a stream is indexed flat out, over how long without; and what the stream still gets."""
    calls = calls_of("embeddings", drawn_jpegs())
    async with bench.server() as target:
        await make_collection(target)
        await warm_up(target, calls)
        closed = bench.done(await measure(target, Load("embeddings", 8), calls, bench.bounds))
        load = Load("embeddings", offered_per_s=_INTERACTIVE_SHARE * closed.throughput_per_s)
        alone = bench.done(await measure(target, load, calls, bench.bounds, seed=1))
        stream = Stream(target, tar_of(drawn_jpegs(), _ENDLESS), TAR)
        async with _running(stream):
            start = stream.now()
            both = bench.done(await measure(target, load, calls, bench.bounds, seed=1))
            bulk_rate = stream.rate_per_s(start, start + both.taken.seconds)
    left = closed.throughput_per_s - both.throughput_per_s
    waited = f"p99 {alone.latency_ms['p99']:.0f} ms alone, {both.latency_ms['p99']:.0f} ms beside bulk"
    of = f"{bulk_rate:.1f}/s of {left:.1f}/s"
    figures = [
        Figure(
            "interactive p99 beside bulk over alone",
            both.latency_ms["p99"] / alone.latency_ms["p99"],
            at_most=2.2,
            of=waited,
        ),
        Figure("bulk over what is left", bulk_rate / left, at_least=0.8, of=of),
    ]
    return bench.report("beside-bulk", figures, [closed, alone, both], bulk_statuses=stream.statuses)


async def streamed(stream: Stream) -> Run:
    """The whole stream as a run; each crop is a sample without a latency of its own."""

    async def sending() -> Taken:
        await stream.send()
        samples = tuple(Sample(at, at, at, OK) for at in stream.times_s)
        return Taken(samples, ((0.0, samples[-1].done_s if samples else 0.0),))

    return await watched(stream.target, Load(f"stream of {stream.kind}"), sending)


@asynccontextmanager
async def _running(stream: Stream) -> AsyncIterator[None]:
    """The stream flows within the block: entered when its first items are on disk, and broken off at its end.

    In order it would end late: what the buffers on its way hold takes minutes to embed.
    """
    task = asyncio.create_task(stream.send())
    while not stream.times_s:
        if task.done():
            task.result()
            raise RuntimeError("the stream ended before its first item")
        await asyncio.sleep(0.02)
    try:
        yield
    finally:
        if not task.cancel():  # it ended by itself, which it should not have
            task.result()
        await asyncio.wait({task})
