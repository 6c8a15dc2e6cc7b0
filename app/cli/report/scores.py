"""How scores lie, what a threshold costs, and how far the probabilities made of scores can be believed."""

from typing import Any
from xml.etree.ElementTree import Element

from app.cli.report import plots
from app.cli.report.curves import Det, det_of
from app.cli.report.elements import NONE, add, ends, percent, plot, section, table

Json = dict[str, Any]
_HEAD = (
    "FPIR asked for", "match from", "unknown below", "FPIR, held out", "95 %", "FNIR, held out", "95 %", "matched to another",
)  # fmt: skip


def scores(main: Element, answer: Json) -> None:
    """Histograms and the DET curve."""
    part, found = section(main, "Scores, and persons who are not there"), answer["scores"]
    if not sum(found["right"]) or not sum(found["wrong"]):
        add(part, "p", "No query has both a right row and a wrong one, so there are no scores to compare.")
    else:
        beside = add(part, "div", class_="beside")
        plot(
            beside,
            plots.histograms(found["edges"], found["right"], found["wrong"]),
            f"Histograms of scores. Right persons: mean {_mean(found, 'right')}; others: mean {_mean(found, 'wrong')}.",
            "Of each query with a right row: the best score of the right person, and the best of any other. "
            "The less they overlap, the better a threshold works.",
        )
        _trade(beside, det_of(answer))
    _open_set(part, answer.get("open_set"))


def _mean(found: Json, side: str) -> str:
    edges, counts = found["edges"], found[side]
    total = sum(count * (edges[i] + edges[i + 1]) / 2 for i, count in enumerate(counts))
    return f"{total / sum(counts):.2f}"


def _trade(beside: Element, trade: Det) -> None:
    drawing = plots.det(trade.points)
    if drawing is None:
        add(beside, "p", "No threshold makes both kinds of error, so there is no DET curve to draw.")
        return
    about = "DET: at a threshold, how often an absent person is “found” (FPIR) against how often a present one is missed (FNIR). "
    about += (
        "Read off the histograms: missed means that the right person's best score is below the threshold."
        if trade.coarse
        else "By searches of the gallery itself, each crop against the other cameras' crops."
    )
    nearest = min(trade.points, key=lambda point: abs(point.fpir - point.fnir))
    both = f"Where both errors are about equal: FPIR {percent(nearest.fpir)} %, FNIR {percent(nearest.fnir)} %"
    plot(beside, drawing, f"DET curve. {both}, at the threshold {nearest.threshold:.3f}.", about)


def _open_set(part: Element, open_set: Json | None) -> None:
    """Thresholds for rates of false positives, as held-out persons had them, and the probabilities."""
    if open_set is None:
        return
    calibration = open_set["calibration"]
    if calibration is None:
        add(part, "p", f"No thresholds: {open_set['refused']}.")
        return
    rows = [(f"{setting['fpir'] * 100:g} %", *_setting(setting)) for setting in calibration["settings"]]
    table(part, f"Thresholds, and percent of searches; {NONE}: cannot be told from so few searches.", _HEAD, rows)
    drawing = plots.reliability(calibration["reliability"], calibration["reliability_before"])
    after, before = percent(calibration["ece_after"]), percent(calibration["ece_before"])
    beside = add(part, "div", class_="beside")
    plot(
        beside,
        drawing,
        f"Reliability of the probabilities: off by {after} % on average; the bare score by {before} %.",
        "Of matches told a probability, the share that is right, on held-out persons; on the diagonal they agree. "
        f"Calibrated they are off by {after} % on average, the bare score read as a probability by {before} %.",
    )
    said = add(beside, "ul")
    for sentence in open_set["sentences"]:
        add(said, "li", sentence)


def _setting(setting: Json) -> tuple[str, ...]:
    told = setting["held_out"]
    if told is None:
        return (NONE,) * 7
    return (
        f"{setting['threshold']:.4f}",
        f"{setting['border']:.4f}",
        percent(told["fpir"]["share"]),
        ends(told["fpir"]["interval95"]),
        percent(told["fnir"]["share"]),
        ends(told["fnir"]["interval95"]),
        percent(told["wrong"]["share"]),
    )
