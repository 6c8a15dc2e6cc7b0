"""The page's curves as SVG, drawn by matplotlib; the only module that imports it.

Colours are placeholders that become the page's own variables, so that a curve is legible on light and on dark paper, and
lines differ by their dashes too. Text stays text.
"""

import io
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any
from xml.etree.ElementTree import Element, fromstring

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from app.cli.report.curves import Point

INK, LINE = "#0000b1", "#0000b2"  # as nothing else is coloured; see _VARIABLES
SERIES = tuple(f"#0000a{i}" for i in range(1, 7))
_VARIABLES = {INK: "var(--ink)", LINE: "var(--line)", "#000000": "var(--ink)"} | {
    colour: f"var(--series-{i})" for i, colour in enumerate(SERIES, 1)
}
_DASHES: tuple[tuple[float, tuple[float, ...]], ...] = (
    (0, ()), (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), (0, (10, 3)), (0, (4, 1.5, 1, 1.5, 1, 1.5)),
)  # fmt: skip


def cmc(curves: Mapping[str, Sequence[float]]) -> Element:
    """The share of queries with a right row among the first k, by protocol."""
    with _settings():
        figure, axes = _axes(7.2, 3.4)
        for i, (name, shares) in enumerate(curves.items()):
            # Wide below and narrow above: curves that coincide stay visible.
            (line,) = axes.plot(range(1, len(shares) + 1), shares, color=SERIES[i % 6], label=name)
            line.set_linestyle(_DASHES[i % 6])
            line.set_linewidth(3.4 - 0.4 * (i % 6))
        lowest = min(min(shares) for shares in curves.values())
        axes.set_ylim(max(0.0, math.floor(lowest * 20) / 20 - 0.02), 1.005)
        axes.set_xlim(0.5, 50.5)
        axes.set_xticks([1, 5, 10, 20, 30, 40, 50])
        axes.set_xlabel("rank k", color=INK)
        axes.set_ylabel("found among the first k", color=INK)
        axes.yaxis.set_major_formatter(_PERCENT)
        figure.legend(loc="outside right upper", frameon=False, labelcolor=INK, handlelength=4)
        return _svg(figure, "cmc")


def histograms(edges: Sequence[float], right: Sequence[int], wrong: Sequence[int]) -> Element:
    """Best scores of right and of wrong persons, one of each a query."""
    with _settings():
        figure, axes = _axes(4.8, 3.2)
        for counts, name, colour, dash in ((right, "right", SERIES[0], "-"), (wrong, "wrong", SERIES[1], "--")):
            axes.stairs(counts, edges, fill=True, color=colour, alpha=0.25)
            axes.stairs(counts, edges, color=colour, linestyle=dash, linewidth=1.6, label=name)
        used = [i for i, counts in enumerate(zip(right, wrong, strict=True)) if any(counts)]
        axes.set_xlim(edges[max(0, used[0] - 1)], edges[min(len(edges) - 1, used[-1] + 2)])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("score (cosine)", color=INK)
        axes.set_ylabel("queries", color=INK)
        axes.legend(frameon=False, labelcolor=INK, handlelength=3)
        return _svg(figure, "scores")


def det(points: Sequence[Point]) -> Element | None:
    """FNIR against FPIR on logarithmic axes; None where fewer than two points have both."""
    drawn = [point for point in points if point.fpir > 0 and point.fnir > 0]  # a logarithm has no zero
    if len(drawn) < 2:
        return None
    with _settings():
        figure, axes = _axes(4.8, 3.2)
        axes.set_xscale("log")
        axes.set_yscale("log")
        fpir, fnir = [point.fpir for point in drawn], [point.fnir for point in drawn]
        axes.plot(fpir, fnir, color=SERIES[0], linewidth=1.8, marker="o", markersize=3 if len(drawn) < 50 else 0)
        axes.set_xlim(10 ** math.floor(math.log10(min(*fpir, 0.009))), 1.1)
        axes.set_ylim(10 ** math.floor(math.log10(min(*fnir, 0.009))), 1.1)
        axes.set_xlabel("FPIR: absent persons that are “found”", color=INK)
        axes.set_ylabel("FNIR: present persons missed", color=INK)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(_PERCENT)
            axis.set_minor_formatter(NullFormatter())
        return _svg(figure, "det")


def reliability(after: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]) -> Element:
    """The share that is right against the probability told, by bins; larger marks stand for more searches."""
    with _settings():
        figure, axes = _axes(4.8, 3.2)
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=1.5)
        for bins, name, colour, dash, mark in (
            (after, "calibrated", SERIES[0], "-", "o"),
            (before, "bare score", SERIES[1], "--", "s"),
        ):
            told, right = [one["probability"] for one in bins], [one["right"] for one in bins]
            axes.plot(told, right, color=colour, linestyle=dash, linewidth=1.6, marker=mark, markersize=4, label=name)
            sizes = [10 + 250 * one["weight"] for one in bins]
            axes.scatter(told, right, s=sizes, color=colour, alpha=0.35, marker=mark, clip_on=False)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("probability told", color=INK)
        axes.set_ylabel("share that is right", color=INK)
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.yaxis.set_major_formatter(_PERCENT)
        axes.legend(frameon=False, labelcolor=INK, handlelength=3)
        return _svg(figure, "reliability")


_PERCENT = FuncFormatter(lambda share, _: f"{share * 100:g} %")


def _settings() -> AbstractContextManager[None]:
    """Text stays text, a dollar sign is one, and the same figure gets the same ids."""
    return rc_context({"svg.fonttype": "none", "svg.hashsalt": "reid", "text.parse_math": False, "font.size": 9})


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Inches. A figure of its own: pyplot would keep every one that it makes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
    return figure, axes


def _svg(figure: Figure, name: str) -> Element:
    """The figure as an element of HTML: no namespaces, no style of its own, ids that no other figure has."""
    text = io.BytesIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}  # then nothing points to anybody's site
    figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    root = fromstring(text.getvalue())
    for element in root.iter():
        element.tag = element.tag.split("}")[-1]
        attributes = {key.split("}")[-1]: value for key, value in element.items()}
        element.attrib.clear()
        element.attrib.update({key: _renamed(key, value, name) for key, value in attributes.items()})
        for child in [child for child in element if child.tag.endswith("}style")]:
            element.remove(child)  # it would hold for the whole page
    width, height = (root.attrib.pop(side).removesuffix("pt") for side in ("width", "height"))
    root.set("style", f"aspect-ratio: {width} / {height}; max-width: {float(width) * 4 / 3:.0f}px")
    return root


def _renamed(key: str, value: str, name: str) -> str:
    """Ids and what refers to them, and colours."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value.removeprefix('#')}"
    value = value.replace("url(#", f"url(#{name}-")
    for colour, variable in _VARIABLES.items():
        value = value.replace(colour, variable)
    return value
