"""When requests are due: by the clock and at random, as people come, whether or not earlier ones have been answered."""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """A run goes on until both `requests` were sent and `seconds` have passed, and never beyond the other two.

    requests: 1,000, since a p99 of fewer is one of its ten slowest answers or less.
    """

    requests: int = 1000
    seconds: float = 20.0
    most_requests: int = 100_000
    most_seconds: float = 120.0

    def over(self, sent: int, seconds: float) -> bool:
        """Whether to stop after so many requests and so much time."""
        if sent >= self.most_requests or seconds >= self.most_seconds:
            return True
        return sent >= self.requests and seconds >= self.seconds


def poisson(rate_per_s: float, seed: int) -> Iterator[float]:
    """Seconds from the start at which requests are due, without end: gaps are exponential, 1 / rate long on average."""
    rng = random.Random(seed)
    due = 0.0
    while True:
        due += rng.expovariate(rate_per_s)
        yield due
