"""`python -m tests.load.rivals`: ours, LitServe and a plain handler in turn, several rounds, and the ratios."""

import asyncio
import sys
from collections import deque
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from app.adapters.model_directory import ModelDirectory
from tests.load.__main__ import HtmlFile, JsonFile, deliver, require_plots
from tests.load.arrivals import Bounds
from tests.load.bare import pure
from tests.load.bench import FP32
from tests.load.calls import drawn_jpegs
from tests.load.model import made_up_model
from tests.load.report import Report, conditions
from tests.load.rivals.phases import Phases, Rounds, check_equal, go_through, vectors_of
from tests.load.rivals.start import LITSERVE, PLAIN, environment, rival
from tests.load.run import Target, together
from tests.load.servers import OURS, cores, our_server


@dataclass(frozen=True, slots=True)
class Contest:
    """What all servers have in common."""

    model: Path
    variant: str
    threads: int
    clients: tuple[int, ...]
    bounds: Bounds
    pythons: dict[str, str]

    def server(self, name: str) -> AbstractAsyncContextManager[Target]:
        """Start it."""
        if name == OURS:
            return our_server(self.model, self.variant, self.threads)
        onnx = ModelDirectory.open(self.model).artefact(self.variant)
        return rival(name, onnx, self.threads, self.pythons[name])


def main(
    model: Annotated[Path | None, typer.Option(help="Model directory; default: a made-up full-size one.")] = None,
    variant: Annotated[str, typer.Option(help="Variant of it that ONNX Runtime runs.")] = FP32,
    threads: Annotated[int, typer.Option(min=0, help="Of the model; 0: one a core.")] = 0,
    clients: Annotated[str, typer.Option(help="Of closed loops, separated by commas.")] = "1,8,32",
    rounds: Annotated[int, typer.Option(min=1, help="Of all servers in turn.")] = 3,
    requests: Annotated[int, typer.Option(min=0, help="A run has at least so many,")] = 350,
    seconds: Annotated[float, typer.Option(min=0.1, help="and lasts at least so long,")] = 15.0,
    most_seconds: Annotated[float, typer.Option(min=0.1, help="but never longer.")] = 60.0,
    json: JsonFile = None,
    html: HtmlFile = None,
) -> None:
    """Measure the service beside its rivals. The rounds of a run are pooled: three of 350 requests give a p99 of 1,050."""
    require_plots(html)
    contest = Contest(
        model or made_up_model(variant),
        variant,
        threads or cores(),
        tuple(int(part) for part in clients.split(",")),
        Bounds(requests, seconds, most_seconds=most_seconds),
        {PLAIN: sys.executable, LITSERVE: str(environment())},
    )
    deliver(asyncio.run(compare(contest, rounds)), json, html)


async def compare(contest: Contest, rounds: int) -> Report:
    """Each round begins with another server, so that none always has the machine at its coolest."""
    order = deque([OURS, LITSERVE, PLAIN])
    pures: list[float] = []
    phases: dict[str, list[Phases]] = {name: [] for name in order}
    apart = await _same_vectors(contest, list(order))
    for number in range(rounds):
        found = await pure(contest.model, contest.variant, contest.threads, contest.bounds.seconds)
        pures.append(found.per_s)
        for name in order:
            async with contest.server(name) as target:
                phases[name].append(await go_through(target, found.per_s, contest.clients, contest.bounds, number))
            said = ", ".join(f"{phase} {run.throughput_per_s:.1f}/s" for phase, run in phases[name][-1].items())
            typer.echo(f"round {number + 1}, {name}: {said}", err=True)
        order.rotate(-1)
    runs = [together([done[phase] for done in all_]) for all_ in phases.values() for phase in all_[0]]
    facts = conditions(contest.model, contest.variant, contest.threads) | {"pure_per_s": pures, "vectors_apart": apart}
    return Report("rivals", facts, Rounds(pures, phases).figures(), runs)


async def _same_vectors(contest: Contest, names: list[str]) -> dict[str, float]:
    """How far each server's vectors are from ours, before anything is timed."""
    reference: np.ndarray | None = None
    apart = {}
    for name in names:
        async with contest.server(name) as target:
            found = await vectors_of(target, drawn_jpegs()[:8])
        reference = found if reference is None else reference
        apart[name] = check_equal(name, found, reference)
    return apart


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
