"""Where a request's time went: decode, queue, infer, search, rerank. Goes into `Server-Timing` and `timings_ms`."""

import time
from collections.abc import Iterable, Iterator
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

    def side_by_side(self, parts: "Iterable[Stages]") -> None:
        """Count work that was done at the same time: of each stage the longest."""
        for part in parts:
            for stage, ms in part.ms.items():
                self.ms[stage] = max(self.ms.get(stage, 0.0), ms)
