"""Against offered load: the whole curve, and what happens at three times the capacity."""

from tests.load.arrivals import Bounds
from tests.load.bench import Bench
from tests.load.calls import calls_of, drawn_jpegs
from tests.load.gallery import DUKE_ROWS, make_collection
from tests.load.report import Figure, Report
from tests.load.run import Load, Run, Target, measure, warm_up


async def sweep(bench: Bench) -> Report:
    """Closed loops give the capacity, then open loops at shares of it: latency and goodput against offered load."""
    calls = calls_of(bench.kind, drawn_jpegs())
    async with bench.server() as target:
        await _prepare(bench, target)
        await warm_up(target, calls)
        runs = [
            bench.done(await measure(target, Load(bench.kind, clients), calls, bench.bounds))
            for clients in bench.clients
        ]
        capacity = max(run.throughput_per_s for run in runs)
        for number, share in enumerate(bench.shares):
            load = Load(bench.kind, offered_per_s=share * capacity, deadline_ms=bench.deadline_ms)
            timed = calls_of(bench.kind, drawn_jpegs(), bench.deadline_ms)
            runs.append(bench.done(await measure(target, load, timed, bench.bounds, seed=number)))
    return bench.report("sweep", [Figure("capacity, answers/s", capacity)], runs, deadline_ms=bench.deadline_ms)


async def overload(bench: Bench) -> Report:
    """Three times the capacity for a minute: what is still answered in time, and how late those that were taken are."""
    calls = calls_of(bench.kind, drawn_jpegs(), bench.deadline_ms)
    minute = Bounds(requests=0, seconds=bench.overload_s, most_seconds=bench.overload_s)
    async with bench.server() as target:
        await _prepare(bench, target)
        await warm_up(target, calls)
        before = bench.done(await _capacity(bench, target))
        load = Load(bench.kind, offered_per_s=3 * before.throughput_per_s, deadline_ms=bench.deadline_ms)
        over = bench.done(await measure(target, load, calls, minute))
        after = bench.done(await _capacity(bench, target))
    capacity = before.throughput_per_s
    of = f"{over.goodput_per_s:.1f}/s of {capacity:.1f}/s, {len(over.taken.samples)} offered"
    figures = [
        Figure("goodput over capacity", over.goodput_per_s / capacity, at_least=0.95, of=of),
        Figure(
            "p99 of accepted, ms",
            over.latency_ms["p99"],
            at_most=bench.deadline_ms,
            of=f"{over.latency_ms['of']} accepted",
        ),
        Figure("capacity afterwards over before", after.throughput_per_s / capacity),
    ]
    return bench.report("overload", figures, [before, over, after], deadline_ms=bench.deadline_ms)


async def _capacity(bench: Bench, target: Target) -> Run:
    """What the most clients of a closed loop get, without a deadline."""
    clients = max(bench.clients)
    return await measure(target, Load(bench.kind, clients), calls_of(bench.kind, drawn_jpegs()), bench.bounds)


async def _prepare(bench: Bench, target: Target) -> None:
    if bench.kind != "embeddings":
        asked = bench.kind != "index"  # an index request needs nothing to be there
        await make_collection(target, (bench.rows or DUKE_ROWS) if asked else 0)
