"""Closed loops beside the bare model: how much of its rate arrives, what a single client waits, what memory it takes."""

import statistics

from tests.load.bench import FP32, INT8, Bench
from tests.load.calls import Kind, calls_of, drawn_jpegs
from tests.load.gallery import DUKE_ROWS, make_collection
from tests.load.report import Figure, Report
from tests.load.run import Load, Run, Target, measure, together, warm_up
from tests.load.usage import SERVER

_MIB = 2**20


async def efficiency(bench: Bench) -> Report:
    """Vectors over HTTP as a share of the pure model's rate, several clients, JPEG in, vector out."""
    return await _shares(bench, "efficiency", "embeddings", {FP32: 0.97, INT8: 0.90})


async def search_efficiency(bench: Bench) -> Report:
    """The same with a search of a gallery of DukeMTMC-reID's size in each request."""
    rows = bench.rows or DUKE_ROWS
    return await _shares(bench, "search-efficiency", "search", {FP32: 0.95, INT8: 0.87}, rows)


async def _shares(bench: Bench, name: str, kind: Kind, asked: dict[str, float], rows: int = 0) -> Report:
    """Pure and served in turn, so that a drift of the machine meets both; the median of the rounds' ratios."""
    found: dict[int, list[Run]] = {clients: [] for clients in bench.clients}
    ratios: dict[int, list[float]] = {clients: [] for clients in bench.clients}
    pure_rates = []
    for _ in range(bench.rounds):
        pure_rates.append((await bench.pure()).per_s)
        async with bench.server() as target:
            if rows:
                await make_collection(target, rows)
            for clients in bench.clients:
                run = bench.done(await _closed(bench, target, kind, clients))
                found[clients].append(run)
                ratios[clients].append(run.throughput_per_s / pure_rates[-1])
    figures = [
        Figure(
            f"served over pure, {clients} clients",
            statistics.median(some),
            at_least=bench.asked(asked),
            of=f"rounds {', '.join(f'{ratio:.3f}' for ratio in some)}",
        )
        for clients, some in ratios.items()
    ]
    return bench.report(name, figures, [together(some) for some in found.values()], pure_per_s=pure_rates, gallery=rows)


async def one_client(bench: Bench) -> Report:
    """One client's median latency over the pure model's time for one crop."""
    runs, ratios, pure_ms = [], [], []
    for _ in range(bench.rounds):
        pure_ms.append((await bench.pure(batch=1)).batch_ms)
        async with bench.server() as target:
            runs.append(bench.done(await _closed(bench, target, "embeddings", 1)))
        ratios.append(runs[-1].latency_ms["p50"] / pure_ms[-1])
    of = f"rounds {', '.join(f'{ratio:.3f}' for ratio in ratios)}"
    asked = bench.asked({FP32: 1.10, INT8: 1.25})
    figures = [Figure("p50 of one client over pure", statistics.median(ratios), at_most=asked, of=of)]
    return bench.report("one-client", figures, [together(runs)], pure_ms=pure_ms)


async def memory(bench: Bench) -> Report:
    """Resident memory of the server's processes after 1,000 requests of eight clients."""
    async with bench.server() as target:
        if bench.kind != "embeddings":
            await make_collection(target, bench.rows)
        run = bench.done(await _closed(bench, target, bench.kind, 8))
    used = run.usages[-1].memory(SERVER)
    asked = bench.asked({FP32: 480, INT8: 260})
    figures = [
        Figure("resident MiB", used["rss_bytes"] / _MIB, at_most=asked, of=f"after {run.latency_ms['of']} requests")
    ]
    figures += [
        Figure(f"{key.removesuffix('_bytes')} MiB", used[key] / _MIB) for key in ("pss_bytes", "peak_rss_bytes")
    ]
    return bench.report("memory", figures, [run])


async def _closed(bench: Bench, target: Target, kind: Kind, clients: int) -> Run:
    calls = calls_of(kind, drawn_jpegs())
    await warm_up(target, calls, clients)
    return await measure(target, Load(kind, clients), calls, bench.bounds)
