"""What every server goes through in a round, and the ratios between ours and the best of the others."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp
import numpy as np

from tests.load.arrivals import Bounds
from tests.load.calls import calls_of, drawn_jpegs, form_call
from tests.load.report import Figure
from tests.load.rivals.start import busy_neighbour
from tests.load.run import Load, Run, Target, measure, warm_up
from tests.load.servers import OURS

OPEN_SHARE = 0.64  # of the pure model's rate
NEIGHBOUR = "8 clients, one core taken by another process"
OPEN = f"open loop at {OPEN_SHARE:.0%} of the pure rate"
MOST_APART = 1e-4  # of a vector's numbers, between servers
Phases = Mapping[str, Run]  # of one server in one round


async def go_through(target: Target, pure_per_s: float, clients: Sequence[int], bounds: Bounds, seed: int) -> Phases:
    """All phases on one server; the random arrivals of a round are the same for every server."""
    calls = calls_of("embeddings", drawn_jpegs())
    await warm_up(target, calls)
    done = {f"{n} clients": await measure(target, Load("embeddings", n), calls, bounds) for n in clients}
    offered = Load("embeddings", offered_per_s=OPEN_SHARE * pure_per_s)
    done[OPEN] = await measure(target, offered, calls, bounds, seed)
    with busy_neighbour() as pid:
        done[NEIGHBOUR] = await measure(
            target, Load("embeddings beside a busy process", 8), calls, bounds, neighbours=(pid,)
        )
    return done


async def vectors_of(target: Target, jpegs: Sequence[bytes]) -> np.ndarray:
    """What it answers to each crop."""
    found = []
    async with aiohttp.ClientSession() as session:
        for jpeg in jpegs:
            call = form_call("/v1/embeddings", jpeg)
            async with session.post(target.url + call.path, data=call.body, headers=call.headers) as answer:
                if answer.status != 200:
                    raise ValueError(f"{target.name} answered {answer.status}: {await answer.text()}")
                found.append((await answer.json())["vectors"][0])
    return np.array(found)


def check_equal(name: str, found: np.ndarray, reference: np.ndarray) -> float:
    """The largest difference between two numbers. Raises ValueError where servers do not compute the same."""
    apart = float(np.abs(found - reference).max())
    if not apart <= MOST_APART:
        raise ValueError(f"{name} gives other vectors than {OURS}: {apart:.2g} apart, {MOST_APART} is allowed")
    return apart


@dataclass(frozen=True, slots=True)
class Rounds:
    """All rounds: of each server its phases, and the pure model's rate."""

    pure_per_s: Sequence[float]
    phases: Mapping[str, Sequence[Phases]]

    def figures(self) -> list[Figure]:
        """Ours, theirs, and between them; each the median of the rounds' ratios."""
        names = list(self.phases[OURS][0])
        closed = [name for name in names if name != OPEN]
        found = [self._over_pure(server, name) for name in closed if name != NEIGHBOUR for server in self.phases]
        found += [self._ratio(name, 1.3 if name == NEIGHBOUR else None) for name in closed]
        found += [self._latency(share, at_most) for share, at_most in (("p50", 0.6), ("p99", 0.8))]
        return found

    def _over_pure(self, server: str, name: str) -> Figure:
        rates = [phases[name].throughput_per_s for phases in self.phases[server]]
        ratios = [rate / pure for rate, pure in zip(rates, self.pure_per_s, strict=True)]
        return Figure(f"{server} over pure, {name}", statistics.median(ratios), of=f"{statistics.median(rates):.1f}/s")

    def _ratio(self, name: str, at_least: float | None) -> Figure:
        """Throughput over that of the best rival of the round."""
        pairs = [
            (ours[name].throughput_per_s, max(r[name].throughput_per_s for r in others))
            for ours, others in self._pairs()
        ]
        of = ", ".join(f"{ours:.1f} to {best:.1f}/s" for ours, best in pairs)
        ratio = statistics.median(ours / best for ours, best in pairs)
        return Figure(f"{OURS} over the best rival, {name}", ratio, at_least, of=of)

    def _latency(self, share: str, at_most: float) -> Figure:
        """Over that of the best rival of the round."""
        pairs = [
            (ours[OPEN].latency_ms[share], min(r[OPEN].latency_ms[share] for r in others))
            for ours, others in self._pairs()
        ]
        of = ", ".join(f"{ours:.0f} to {best:.0f} ms" for ours, best in pairs)
        ratio = statistics.median(ours / best for ours, best in pairs)
        return Figure(f"{share} of {OURS} over the best rival, {OPEN}", ratio, at_most=at_most, of=of)

    def _pairs(self) -> list[tuple[Phases, list[Phases]]]:
        others = [rounds for server, rounds in self.phases.items() if server != OURS]
        return [(ours, [rounds[i] for rounds in others]) for i, ours in enumerate(self.phases[OURS])]
