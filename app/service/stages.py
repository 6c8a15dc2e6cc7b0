"""Where a request's time went: decode, queue, infer, search. Goes into `Server-Timing` and `timings_ms`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stages:
    """Milliseconds by stage, in the order in which the stages were first seen."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    def add(self, stage: str, seconds: float) -> None:
        """Count so many seconds for a stage."""
        self.ms[stage] = self.ms.get(stage, 0.0) + seconds * 1000

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count the time that the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)
