"""What every scenario works with: the model, the machine's threads, how long to measure, and the servers to be had."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from tests.load.arrivals import Bounds
from tests.load.bare import Pure, pure
from tests.load.calls import Kind
from tests.load.report import Figure, Report, conditions
from tests.load.run import Run, Target
from tests.load.servers import our_server

# What a figure should reach, by variant; int8 leaves less time in which to hide everything else.
FP32, INT8 = "onnx-fp32", "onnx-int8"


class NoModel(Exception):
    """The scenario measures the bare model too, and none is named."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Options of the command, as the scenarios need them. running: measure this server instead of starting one."""

    model: Path | None
    variant: str
    threads: int
    bounds: Bounds
    rounds: int
    kind: Kind
    clients: Sequence[int]
    shares: Sequence[float]
    deadline_ms: float
    overload_s: float
    rows: int
    crops: int
    pure_by: str
    running: Target | None = None

    @asynccontextmanager
    async def server(self, environment: Mapping[str, str] | None = None) -> AsyncIterator[Target]:
        """The server that runs already, or one of our own that is stopped at the end."""
        if self.running:
            yield self.running
            return
        async with our_server(self.directory, self.variant, self.threads, environment) as target:
            yield target

    @property
    def directory(self) -> Path:
        """The model directory, of which some figures are shares. Raises NoModel where only an address was given."""
        if self.model is None:
            raise NoModel("this scenario measures the bare model too: name it with --model")
        return self.model

    async def pure(self, batch: int = 8) -> Pure:
        """The bare model, in a process of its own, for as long as a run lasts at least."""
        found = await pure(self.directory, self.variant, self.threads, self.bounds.seconds, batch, self.pure_by)
        self.say(f"pure model, batch {batch}: {found.per_s:.1f} crops/s, {found.batch_ms:.1f} ms a batch")
        return found

    def say(self, what: object) -> None:
        """Progress, on stderr."""
        typer.echo(str(what), err=True)

    def done(self, run: Run) -> Run:
        """Say what a run gave, and hand it on."""
        self.say(f"{run.target}, {run.load}: {run.throughput_per_s:.1f}/s, p50 {run.latency_ms['p50']:.0f} ms")
        return run

    def asked(self, by_variant: Mapping[str, float]) -> float | None:
        """What is asked of this variant, if anything is."""
        return by_variant.get(self.variant)

    def report(self, scenario: str, figures: Sequence[Figure], runs: Sequence[Run], **facts: Any) -> Report:
        """With the conditions."""
        return Report(scenario, conditions(self.model, self.variant, self.threads) | facts, figures, runs)
