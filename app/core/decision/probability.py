"""A monotone map from a search's top score to the probability that its top match is the right person, and how good it is.

Two forms: a logistic curve for few persons, since steps fitted to few cases follow their noise, and isotonic regression
where there are enough, since nothing says that the curve is logistic. Both hold outside the range of scores that was seen,
and neither claims more than the number of persons supports.
Sources: Platt, "Probabilistic outputs for support vector machines", 1999 (targets that are not quite 0 and 1);
Niculescu-Mizil and Caruana, "Predicting good probabilities with supervised learning", ICML 2005 (isotonic regression needs
about a thousand cases); Oron and Flournoy, "Centered isotonic regression", 2017 (a knot at the middle of each step).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from app.core.decision.rates import Fact
from app.core.decision.trials import Trials
from app.core.metrics import Doubles, Ints, Mask

Method = Literal["isotonic", "logistic"]
BINS = 10
ISOTONIC_PERSONS, ISOTONIC_CASES = 200, 1000
_STEPS, _SMALL = 100, 1e-12


class ProbabilityMap(Fact):
    """isotonic: straight lines between `knots` (score, probability). logistic: 1 / (1 + exp(-(slope * score + intercept))).

    Either is cut to [least, 1 - least].
    """

    method: Method
    least: float
    knots: tuple[tuple[float, float], ...] = ()
    slope: float = 0.0
    intercept: float = 0.0

    def of(self, scores: npt.ArrayLike) -> Doubles:
        """Probabilities, never falling with the score. Raises ValueError for a score that is not a number."""
        given = np.asarray(scores, dtype=np.float64)
        if np.isnan(given).any():
            raise ValueError("a score is not a number")
        cut: Doubles = np.clip(self._raw(given.ravel()), self.least, 1 - self.least).reshape(given.shape)
        return cut

    def _raw(self, scores: Doubles) -> Doubles:
        # To the last digit: numpy's own exp differs with the place in the array, its interp may step over a knot.
        if self.method == "logistic":
            return np.array([_curve(x) for x in (self.slope * scores + self.intercept).tolist()])
        at, heights = np.array(self.knots).T
        left = np.clip(np.searchsorted(at, scores, side="right") - 1, 0, max(len(at) - 2, 0))
        right = np.minimum(left + 1, len(at) - 1)
        width = np.where(right > left, at[right] - at[left], 1)
        line = heights[left] + (np.clip(scores, at[0], at[-1]) - at[left]) * ((heights[right] - heights[left]) / width)
        inside: Doubles = np.clip(line, heights[left], heights[right])
        return inside


class Bin(Fact):
    """Searches whose probability lies in [low, high): what was promised on average, and what came true.

    weight: their share of all searches at the assumed prior. The last bin includes 1.
    """

    low: float
    high: float
    searches: int
    weight: float
    probability: float
    right: float


@dataclass(frozen=True, slots=True)
class Cases:
    """Top scores, whether the top match was right, and how much each counts. Weights sum to 1."""

    scores: Doubles
    right: Mask
    weights: Doubles
    pids: Ints


def cases_of(trials: Trials, prior: float) -> Cases:
    """Each search with the person present and each with the person taken out, the first ones weighing `prior` together.

    Raises ValueError where one of the two is missing.
    """
    present, absent = trials.present, trials.absent
    if not (present.any() and absent.any()):
        raise ValueError(f"{present.sum()} searches for present persons and {absent.sum()} for absent ones")
    side = np.repeat([prior / present.sum(), (1 - prior) / absent.sum()], [present.sum(), absent.sum()])
    return Cases(
        scores=np.concatenate([trials.top[present], trials.impostor[absent]]).astype(np.float64),
        right=np.concatenate([trials.right[present], np.zeros(absent.sum(), dtype=bool)]),
        weights=side,
        pids=np.concatenate([trials.pids[present], trials.pids[absent]]),
    )


def method_for(cases: Cases) -> Method:
    """Isotonic where both outcomes are plentiful and come from many persons."""
    persons = len(np.unique(cases.pids[cases.right]))
    rarest = min(cases.right.sum(), (~cases.right).sum())
    return "isotonic" if persons >= ISOTONIC_PERSONS and rarest >= ISOTONIC_CASES else "logistic"


def fit(cases: Cases, method: Method) -> ProbabilityMap:
    """The map that fits the cases. Its ends leave to the unseen what Laplace's rule of succession leaves to it."""
    least = 1 / (len(np.unique(cases.pids)) + 2)
    if method == "isotonic":
        return ProbabilityMap(method=method, least=least, knots=_knots(cases))
    slope, intercept = logistic(cases.scores, cases.right, cases.weights)
    return ProbabilityMap(method=method, least=least, slope=slope, intercept=intercept)


def _knots(cases: Cases) -> tuple[tuple[float, float], ...]:
    """One knot for each step, at the mean score of its cases. Equal scores are one case."""
    scores, place = np.unique(cases.scores, return_inverse=True)
    weights: Doubles = np.bincount(place, cases.weights).astype(np.float64)
    right = np.bincount(place, cases.weights * cases.right)
    fitted = pool_adjacent_violators(right / weights, weights)
    step = np.cumsum(np.diff(fitted, prepend=fitted[0]) > 0)
    middle = np.bincount(step, weights * scores) / np.bincount(step, weights)
    heights = fitted[np.unique(step, return_index=True)[1]]
    return tuple(zip(middle.tolist(), np.clip(heights, 0, 1).tolist(), strict=True))


def pool_adjacent_violators(values: Doubles, weights: Doubles) -> Doubles:
    """The non-decreasing sequence with the least weighted squared distance from the values.

    >>> pool_adjacent_violators(np.array([0.0, 1.0, 0.0, 1.0]), np.ones(4)).tolist()
    [0.0, 0.5, 0.5, 1.0]
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, total, length = value, weight, 1
        while blocks and blocks[-1][0] >= mean:
            before, heavy, long = blocks.pop()
            mean, total, length = (before * heavy + mean * total) / (heavy + total), heavy + total, long + length
        blocks.append((mean, total, length))
    return np.repeat([mean for mean, _, _ in blocks], [length for _, _, length in blocks])


def logistic(scores: Doubles, right: Mask, weights: Doubles) -> tuple[float, float]:
    """Slope (never negative) and intercept of greatest weighted likelihood, by Newton's method with halved steps.

    Targets are Platt's, (n + 1) / (n + 2) and 1 / (n + 2), with which the answer is finite even where a threshold separates
    right from wrong.
    """
    targets = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))
    weights = weights / weights.sum()
    centre, spread = scores.mean(), scores.std()
    level = _logit(float(weights @ targets))
    if spread <= _SMALL:
        return 0.0, level
    x = np.stack([(scores - centre) / spread, np.ones_like(scores)], axis=1)
    beta = np.array([0.0, level])
    for _ in range(_STEPS):
        p = _sigmoid(x @ beta)
        curvature = (x * (weights * p * (1 - p))[:, None]).T @ x + _SMALL * np.eye(2)
        step = np.linalg.solve(curvature, x.T @ (weights * (targets - p)))
        loss = _loss(x @ beta, targets, weights)
        while _loss(x @ (beta + step), targets, weights) > loss and np.abs(step).max() > _SMALL:
            step /= 2
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    slope = float(beta[0] / spread)
    return (slope, float(beta[1] - slope * centre)) if slope > _SMALL else (0.0, level)


def _curve(x: float) -> float:
    return 1 / (1 + math.exp(min(-x, 700)))  # exp(710) is more than a double can say


def _sigmoid(x: Doubles) -> Doubles:
    return np.exp(-np.logaddexp(0, -x))


def _logit(p: float) -> float:
    return float(np.log(p) - np.log1p(-p))


def _loss(x: Doubles, targets: Doubles, weights: Doubles) -> float:
    return float(weights @ (np.logaddexp(0, x) - targets * x))


def reliability(probabilities: Doubles, right: Mask, weights: Doubles) -> tuple[Bin, ...]:
    """The searches by probability, in ten bins of equal width; empty ones are left out."""
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    bins = []
    for number in np.unique(place).tolist():
        here = place == number
        weight = weights[here] / weights[here].sum()
        bins.append(
            Bin(
                low=number / BINS,
                high=(number + 1) / BINS,
                searches=int(here.sum()),
                weight=float(weights[here].sum() / weights.sum()),
                probability=float(weight @ probabilities[here]),
                right=float(weight @ right[here]),
            )
        )
    return tuple(bins)


def expected_calibration_error(bins: tuple[Bin, ...]) -> float:
    """How far promise and truth lie apart on average, over the bins by their weights."""
    return sum(bin_.weight * abs(bin_.probability - bin_.right) for bin_ in bins)


def uncalibrated(scores: Doubles) -> Doubles:
    """A cosine read as if it were a probability: -1 is 0, 1 is 1. What a calibration has to beat."""
    return np.clip((scores + 1) / 2, 0, 1)
