"""What a way of launching comes to, simulated: crops arrive at given times before one device whose launches cost what
a table says. Pure and repeatable; nothing is copied, decoded or late, so that the ways alone differ.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf

from app.core.planner import QUIET_S, Costs, Launch, Waiting, next_launch, owed_after

# Given the costs, what waits and for how long the first one has: a launch, or the milliseconds to wait for more at most.
Way = Callable[[Costs, Waiting, float], Launch | float]


@dataclass(slots=True)
class Outcome:
    """Of a simulation: each interactive crop's milliseconds from arrival to answer, bulk crops done, and when it ended."""

    latencies_ms: list[float] = field(default_factory=list)
    bulk: int = 0
    ended_ms: float = 0.0

    def percentile(self, share: float) -> float:
        """Milliseconds within which so many of the crops were answered (nearest rank)."""
        ranked = sorted(self.latencies_ms)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def planned(costs: Costs, waiting: Waiting, oldest_ms: float) -> Launch:
    """Ours."""
    return next_launch(costs, waiting)


def take_all(most: int) -> Way:
    """Whatever waits, up to so many, at once."""

    def way(costs: Costs, waiting: Waiting, oldest_ms: float) -> Launch:
        return _any(costs, min(most, len(waiting.interactive)))

    return way


def window(window_ms: float, most: int) -> Way:
    """As many servers batch: wait until so many are there, or the first has waited for so long."""

    def way(costs: Costs, waiting: Waiting, oldest_ms: float) -> Launch | float:
        if len(waiting.interactive) < most and oldest_ms < window_ms:
            return window_ms - oldest_ms
        return _any(costs, min(most, len(waiting.interactive)))

    return way


def poisson(rate: float, count: int, seed: int) -> list[float]:
    """So many arrivals that know nothing of each other, `rate` a millisecond."""
    random_numbers = random.Random(seed)
    return list(accumulate(random_numbers.expovariate(rate) for _ in range(count)))


def simulate(way: Way, costs: Costs, arrivals_ms: Sequence[float], backlog: bool = False) -> Outcome:
    """Until all that arrive are answered. backlog: bulk crops wait without end. Deadlines are far away."""
    outcome, queue, coming, now, owed = Outcome(), deque[float](), deque(arrivals_ms), 0.0, 0.0
    bulk, last_ms = (1_000_000 if backlog else 0), -inf
    while queue or coming:
        if not queue and not backlog:
            now = max(now, coming[0])
        while coming and coming[0] <= now:
            last_ms = coming[0]
            queue.append(coming.popleft())
        waiting = Waiting([inf] * len(queue), bulk, owed, calm=now - last_ms > QUIET_S * 1000)
        launch = way(costs, waiting, now - queue[0] if queue else 0.0)
        if not isinstance(launch, Launch):
            now = min(now + max(launch, 1e-9), coming[0] if coming else inf)
            continue
        now += costs.ms(launch.size)
        outcome.latencies_ms += [now - queue.popleft() for _ in range(launch.interactive)]
        outcome.bulk += launch.bulk
        owed = owed_after(owed, launch, backlog)
    outcome.ended_ms = now
    return outcome


def _any(costs: Costs, crops: int) -> Launch:
    """A launch of so many crops, in the smallest batch that holds them."""
    return Launch(next(size for size in costs.batch_ms if size >= crops), crops)
