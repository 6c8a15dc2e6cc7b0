"""A request's time: where it went (decode, queue, infer, search, rerank), and until when it lasts.

Where it went stands in `Server-Timing` and `timings_ms`. Stages follow each other: their times add up, and `rest` makes
what nobody measured a stage of its own.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import inf

REST = "other"


class Stages:
    """Milliseconds by stage, in the order in which the stages were first seen.

    due: by `time.monotonic`, when the answer is no longer waited for.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter, due: float = inf) -> None:
        self.ms: dict[str, float] = {}
        self.due = due
        self._clock = clock
        self._begun = clock()

    def allow(self, seconds: float) -> None:
        """It lasts for so long from now on."""
        self.due = time.monotonic() + seconds

    def add(self, stage: str, seconds: float) -> None:
        """Count so many seconds for a stage."""
        self.ms[stage] = self.ms.get(stage, 0.0) + seconds * 1000

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count the time that the block takes."""
        started = self._clock()
        try:
            yield
        finally:
            self.add(stage, self._clock() - started)

    def part(self) -> "Stages":
        """For work that is done side by side with other work, and is due at the same time."""
        return Stages(self._clock, self.due)

    def side_by_side(self, parts: "Iterable[Stages]") -> None:
        """Count work that was done at the same time: the stages of the part that took longest, which the others fit into."""
        for stage, ms in max((part.ms for part in parts), key=lambda ms: sum(ms.values()), default={}).items():
            self.add(stage, ms / 1000)

    def rest(self) -> float:
        """Count what of the time since the beginning is in no stage yet, and return the whole in seconds."""
        whole_s = self._clock() - self._begun
        self.add(REST, max(0.0, whole_s - sum(self.ms.values()) / 1000))
        return whole_s
