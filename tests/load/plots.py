"""Curves against offered load as SVG in data URLs, drawn by matplotlib (extra `report`); the only module here that imports it."""

import base64
import io
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tests.load.run import Run

_MS = FuncFormatter(lambda ms, _: f"{ms:g}")


def latency(runs: Sequence[Run]) -> str:
    """p50 whole and p99 dashed, a colour for each server and kind."""
    figure, axes = _axes("latency, ms")
    for name, some in _curves(runs).items():
        offered = [run.load.offered_per_s for run in some]
        (line,) = axes.plot(offered, [run.latency_ms["p50"] for run in some], marker="o", label=name)
        p99 = [run.latency_ms["p99"] for run in some]
        axes.plot(offered, p99, marker="o", linestyle="--", color=line.get_color())
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(_MS)
    axes.yaxis.set_minor_formatter(NullFormatter())
    return _url(figure, axes)


def goodput(runs: Sequence[Run]) -> str:
    """Good answers in time beside a grey diagonal, on which all would be."""
    figure, axes = _axes("good answers in time a second")
    most = max(run.load.offered_per_s for run in runs)
    axes.plot([0, most], [0, most], color="0.8")
    for name, some in _curves(runs).items():
        axes.plot([run.load.offered_per_s for run in some], [run.goodput_per_s for run in some], marker="o", label=name)
    axes.set_ylim(bottom=0)
    return _url(figure, axes)


def _curves(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """By server and kind, from the least offered load to the most."""
    found: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.load.offered_per_s):
        found.setdefault(f"{run.target}, {run.load.kind}", []).append(run)
    return found


def _axes(what: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel("offered requests a second")
    axes.set_ylabel(what)
    axes.grid(color="0.9")
    return figure, axes


def _url(figure: Figure, axes: Axes) -> str:
    axes.set_xlim(left=0)
    axes.legend(frameon=False)
    data = io.BytesIO()
    with rc_context({"svg.hashsalt": "reid", "text.parse_math": False}):  # the same figure, the same bytes
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(data.getvalue()).decode()
