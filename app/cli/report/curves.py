"""The error trade-off of an open gallery: from the answer's own searches, or roughly from its histograms of scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Point:
    """At a threshold: the share of absent persons that are `found`, and of present persons that are missed."""

    threshold: float
    fpir: float
    fnir: float


@dataclass(frozen=True, slots=True)
class Det:
    """Points from the lowest threshold to the highest. coarse: made of the histograms, not of the scores themselves."""

    points: tuple[Point, ...]
    coarse: bool


def det_of(answer: dict[str, Any]) -> Det:
    """The curve that the answer brings (`open_set.calibration.det`); else the one that its histograms of scores give.

    The histograms know of a query the best score of the right person and that of the best other one, but not which of
    the two was higher: a miss is then a right person below the threshold.
    """
    calibration = (answer.get("open_set") or {}).get("calibration")
    if calibration:
        points = [Point(p["threshold"], p["fpir"], p["fnir"]) for p in calibration["det"]]
        return Det(tuple(sorted(points, key=lambda point: point.threshold)), coarse=False)
    scores = answer["scores"]
    return Det(_of_histograms(scores["edges"], scores["right"], scores["wrong"]), coarse=True)


def _of_histograms(edges: Sequence[float], right: Sequence[int], wrong: Sequence[int]) -> tuple[Point, ...]:
    present, absent = sum(right), sum(wrong)
    if not present or not absent:
        return ()
    return tuple(Point(edge, sum(wrong[i:]) / absent, sum(right[:i]) / present) for i, edge in enumerate(edges))
