"""Error rates at a threshold, and thresholds for error rates, as ISO/IEC 19795-1 defines them.

FPIR, false-positive identification rate: the share of searches for somebody who is not in the gallery that return
somebody. FNIR, false-negative identification rate: the share of searches for somebody who is in the gallery that do not
return them; here only the top match counts (rank 1), since the decision is about that one. A match is a score **at or
above** the threshold. For pairs the same arithmetic gives FMR and FNMR, the false match and false non-match rates.
"""

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from app.core.metrics import Ints, Mask

Scores = npt.NDArray[np.floating[Any]]
_Values = TypeVar("_Values", Scores, Mask)
_Z95 = 1.959964  # two-sided 95 % of the normal distribution
_DET_POINTS = 100
_ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996


class Fact(BaseModel):
    """Frozen and closed, plain values only: it is stored and shown as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DetPoint(Fact):
    """One point of the detection error trade-off curve."""

    threshold: float
    fpir: float
    fnir: float


def rate_at_or_above(scores: Scores, threshold: float) -> float:
    """FPIR (FMR) of impostor scores: the share that would be taken for a match. Raises ValueError for none."""
    return float(np.mean(_some(scores) >= threshold))


def rate_below(hits: Scores, threshold: float) -> float:
    """FNIR (FNMR): the share of missed ones. hits: the score where the top match was right, -inf where it was not."""
    return float(np.mean(_some(hits) < threshold))


def searches_needed(rate: float) -> int:
    """Fewest searches that can tell a rate: with fewer, one error is already more than the rate allows."""
    if not 0 < rate < 1:
        raise ValueError(f"a rate of {rate} is not between 0 and 1")
    return math.ceil(1 / rate - _ROUNDING)


def threshold_at(impostors: Scores, fpir: float) -> float:
    """The lowest threshold that at most this share of the impostor scores reaches.

    It is one of the scores, the k-th highest with k = floor(fpir * n): then a new search exceeds it with probability
    k / (n + 1), which is below `fpir` too. Where even one is too many, or equal scores would make it more than k, the
    next number above: none is made up by extrapolation.
    """
    ordered = np.sort(_some(impostors))[::-1]
    allowed = math.floor(fpir * len(ordered) + _ROUNDING)
    refused = ordered[min(allowed, len(ordered) - 1)]  # the first score that must stay below
    above = ordered[ordered > refused]
    return float(above[-1] if len(above) else np.nextafter(refused, refused.dtype.type(np.inf)))


def lowest_kept(scores: Scores, share: float) -> float:
    """The highest border below which at most this share of the scores lies. It is one of them."""
    ordered = np.sort(_some(scores))
    return float(ordered[min(math.floor(share * len(ordered) + _ROUNDING), len(ordered) - 1)])


def det(impostors: Scores, hits: Scores, most: int = _DET_POINTS) -> tuple[DetPoint, ...]:
    """FPIR against FNIR from the strictest threshold (none passes) down to the lowest impostor score.

    The points lie evenly on a logarithmic scale of FPIR, as the curve is drawn.
    """
    ordered = np.sort(_some(impostors))[::-1]
    steps = np.unique(np.round(np.geomspace(1, len(ordered), most)).astype(int)) - 1
    strictest = np.nextafter(ordered[0], ordered.dtype.type(np.inf))
    thresholds = [float(strictest), *np.unique(ordered[steps])[::-1].tolist()]
    return tuple(DetPoint(threshold=t, fpir=rate_at_or_above(ordered, t), fnir=rate_below(hits, t)) for t in thresholds)


def interval95(wrong: Mask, pids: Ints) -> tuple[float, float]:
    """Where the true share of wrong ones lies, at 95 %: Wilson's interval, with crops of one person not taken for many.

    The searches are counted as fewer by the design effect: the variance of the share between persons over that of
    independent searches. Where all are right (or wrong) it cannot be told, and each person counts once; this says about
    what the rule of three says, at most 3 / persons.
    """
    count, share = len(_some(wrong)), float(wrong.mean())
    persons, member = np.unique(pids, return_inverse=True)
    effective = float(len(persons))
    if 0 < share < 1 and effective > 1:
        surplus = np.bincount(member, wrong - share)  # wrong ones of a person beyond what the share lets expect
        between = float(surplus @ surplus) * effective / (effective - 1) / count
        effective = count / max(1.0, between / (share * (1 - share)))
    return _wilson(share, effective)


def _wilson(share: float, count: float) -> tuple[float, float]:
    square = _Z95 * _Z95
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = _Z95 / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def _some(values: _Values) -> _Values:
    if not len(values):
        raise ValueError("there is no search to take a rate of")
    if np.isnan(values).any():
        raise ValueError("a score is not a number")
    return values
