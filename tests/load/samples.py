"""What became of each request, and the figures over many of them. Pure."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

OK = "ok"
ENOUGH = 1000  # answers below which a p99 is not quoted without saying of how many


@dataclass(frozen=True, slots=True)
class Sample:
    """One request; instants in seconds from the start of the run.

    due_s: when it should have been sent (closed loop: when it was). Latency counts from there, so that waiting behind
    earlier requests is part of it. outcome: `ok`, or a kind of error.
    """

    due_s: float
    sent_s: float
    done_s: float
    outcome: str = OK
    stages_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def latency_ms(self) -> float:
        """From when it was due to the last byte of its answer."""
        return (self.done_s - self.due_s) * 1000

    @property
    def late_ms(self) -> float:
        """By how much the generator itself was late."""
        return (self.sent_s - self.due_s) * 1000


@dataclass(frozen=True, slots=True)
class Taken:
    """The samples of a run, and the windows (from, to] in which answers count for rates: neither ramp nor end is in them."""

    samples: tuple[Sample, ...]
    windows: tuple[tuple[float, float], ...]

    @property
    def seconds(self) -> float:
        """Of all windows."""
        return sum(end - start for start, end in self.windows)

    def rate_per_s(self, within_ms: float | None = None) -> float:
        """Good answers a second in the windows, within so many ms of when they were due. NaN without a window."""
        good = [s for s in self.samples if s.outcome == OK and (within_ms is None or s.latency_ms <= within_ms)]
        counted = sum(any(start < s.done_s <= end for start, end in self.windows) for s in good)
        return counted / self.seconds if self.seconds > 0 else math.nan

    def latencies_ms(self) -> list[float]:
        """Of good answers, ascending."""
        return sorted(s.latency_ms for s in self.samples if s.outcome == OK)

    def errors(self) -> dict[str, int]:
        """How many of each kind."""
        return dict(Counter(s.outcome for s in self.samples if s.outcome != OK))


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values do not exceed (nearest rank). NaN of nothing."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)] if ascending else math.nan


def spread(values: Sequence[float]) -> dict[str, Any]:
    """p50, p95, p99 and the largest, and of how many; `enough` says whether they are enough for a p99."""
    ascending = sorted(values)
    facts: dict[str, Any] = {f"p{share}": percentile(ascending, share / 100) for share in (50, 95, 99)}
    return facts | {
        "max": ascending[-1] if ascending else math.nan,
        "of": len(ascending),
        "enough": len(ascending) >= ENOUGH,
    }


def stages(samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """The server's own stage times (`Server-Timing`) of good answers, stage by stage."""
    times: dict[str, list[float]] = {}
    for sample in samples:
        if sample.outcome == OK:
            for stage, ms in sample.stages_ms.items():
                times.setdefault(stage, []).append(ms)
    return {stage: spread(values) for stage, values in times.items()}


def pooled(parts: Sequence[Taken]) -> Taken:
    """Several rounds as one run, one behind the other, with a second between them."""
    samples: list[Sample] = []
    windows: list[tuple[float, float]] = []
    at = 0.0
    for part in parts:
        samples += [replace(s, due_s=s.due_s + at, sent_s=s.sent_s + at, done_s=s.done_s + at) for s in part.samples]
        windows += [(start + at, end + at) for start, end in part.windows]
        at = max((s.done_s for s in samples), default=at) + 1
    return Taken(tuple(samples), tuple(windows))
