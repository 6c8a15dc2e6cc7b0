"""What a scenario found: figures beside what they should reach, the runs behind them, and the conditions. As text and JSON."""

import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.adapters.model_directory import ModelDirectory
from tests.load.run import Run


@dataclass(frozen=True, slots=True)
class Figure:
    """One number and what it should be: at least, or at most, so much; without either it is only told."""

    name: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    of: str = ""  # what it is made of, in numbers

    @property
    def reached(self) -> bool | None:
        """None where nothing was asked."""
        if self.at_least is None and self.at_most is None:
            return None
        low, high = self.at_least, self.at_most
        return (low is None or self.value >= low) and (high is None or self.value <= high)

    def __str__(self) -> str:
        wanted = f" (at least {self.at_least:g})" if self.at_least is not None else ""
        wanted = f" (at most {self.at_most:g})" if self.at_most is not None else wanted
        verdict = {True: "  reached", False: "  NOT reached", None: ""}[self.reached]
        return f"{self.name}: {self.value:.3g}{wanted}{verdict}" + (f"  [{self.of}]" if self.of else "")


@dataclass(frozen=True, slots=True)
class Report:
    """Of one scenario."""

    scenario: str
    conditions: Mapping[str, Any]
    figures: Sequence[Figure]
    runs: Sequence[Run]

    @property
    def invalid(self) -> list[str]:
        """What speaks against the figures, run by run."""
        return [f"{run.target}, {run.load}: {why}" for run in self.runs for why in run.invalid]

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        figures = [
            {
                "name": f.name,
                "value": f.value,
                "at_least": f.at_least,
                "at_most": f.at_most,
                "reached": f.reached,
                "of": f.of,
            }
            for f in self.figures
        ]
        return {
            "scenario": self.scenario,
            "conditions": dict(self.conditions),
            "figures": figures,
            "valid": not self.invalid,
            "runs": [run.as_json() for run in self.runs],
        }

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{self.scenario}: {self.conditions['command']}", *(_row(run) for run in self.runs)]
        lines += [str(figure) for figure in self.figures]
        if self.invalid:
            lines += ["INVALID, not to be quoted:", *(f"  {why}" for why in self.invalid)]
        return "\n".join(lines)


def conditions(model: Path | None, variant: str, threads: int) -> dict[str, Any]:
    """Machine, model, date and the command, which a number carries with it."""
    label = ModelDirectory.open(model).manifest.label if model else "whatever the server has loaded"
    return {
        "command": f"python -m {_module()} {shlex.join(sys.argv[1:])}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "model": label,
        "variant": variant,
        "threads": threads,
    }


def _row(run: Run) -> str:
    latency, many = run.latency_ms, "" if run.latency_ms["enough"] else f" of only {run.latency_ms['of']}"
    errors = ", ".join(f"{count} x {kind}" for kind, count in run.taken.errors().items())
    rate = f"{run.throughput_per_s:.1f}/s, goodput {run.goodput_per_s:.1f}/s"
    times = f"p50 {latency['p50']:.0f}, p95 {latency['p95']:.0f}, p99 {latency['p99']:.0f} ms{many}"
    return f"  {run.target}, {run.load}: {rate}, {times}" + (f"; {errors}" if errors else "")


def _module() -> str:
    """What was run with -m."""
    return getattr(sys.modules["__main__"].__spec__, "parent", None) or "tests.load"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
