"""What a collection keeps of its calibration, and how a score becomes a probability and a decision with it."""

from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from app.core.decision.probability import Bin, ProbabilityMap
from app.core.decision.rates import DetPoint, Fact
from app.core.decision.trials import Kind
from app.core.metrics import Doubles, Ints
from app.errors import BadField

Decision = Literal["match", "unsure", "unknown"]
_DECISIONS: tuple[Decision, ...] = ("unknown", "unsure", "match")
DEFAULT_FPIR = 0.01


class Share(Fact):
    """A share of some searches, and where the true one lies at 95 %, crops of one person not taken for many."""

    share: float
    searches: int
    interval95: tuple[float, float]


class Told(Fact):
    """Of some searches, the shares that were told each decision."""

    match: float
    unsure: float
    unknown: float


class HeldOut(Fact):
    """How a setting did on persons who had no part in choosing it.

    fpir: absent persons for whom somebody was matched (FMR of pairs). fnir: present persons who were not matched: told
    unsure or unknown, or somebody else was matched (FNMR of pairs). wrong: that last part alone.
    """

    fpir: Share
    fnir: Share
    wrong: Share
    absent: Told
    present: Told


class Setting(Fact):
    """The borders for one false-positive rate: match from `threshold` on, unknown below `border`, unsure between.

    Where the searches are too few to tell, all are None and `reason` says what is missing.
    """

    fpir: float
    threshold: float | None = None
    border: float | None = None
    held_out: HeldOut | None = None
    reason: str | None = None


class Counts(Fact):
    """What a calibration rests on.

    persons: those who could be found (seen by two cameras). others: further persons who were asked for, as absent ones.
    present, absent: searches (pairs of one person, pairs of two). asked, possible: crops asked, of those that could be.
    """

    persons: int
    others: int
    present: int
    absent: int
    asked: int
    possible: int
    gallery: int


class Calibration(Fact):
    """Borders and probabilities for one kind of score; `model_dump(mode="json")` and `model_validate` are its way to JSON.

    prior: the assumed share of searches whose person is in the gallery. miss: share of present persons told unknown at most.
    reliability, ece_after: of the probabilities, on held-out persons; ece_before: of (score + 1) / 2 on the same searches.
    """

    kind: Kind
    prior: float
    miss: float
    settings: tuple[Setting, ...]
    probability: ProbabilityMap
    reliability: tuple[Bin, ...]
    reliability_before: tuple[Bin, ...]
    ece_before: float
    ece_after: float
    det: tuple[DetPoint, ...]
    counts: Counts
    folds: int
    seed: int

    def setting(self, fpir: float) -> Setting:
        """The setting for this false-positive rate, usable or not. Raises BadField for a rate that was not measured."""
        for setting in self.settings:
            if np.isclose(setting.fpir, fpir, rtol=1e-9, atol=0):
                return setting
        known = ", ".join(f"{setting.fpir:g}" for setting in self.settings)
        raise BadField("fpir", f"is {fpir:g}; this calibration holds {known}")


def tell(scores: npt.ArrayLike, threshold: float, border: float) -> Ints:
    """2 for match, 1 for unsure, 0 for unknown."""
    given = np.asarray(scores)
    if np.isnan(given).any():
        raise ValueError("a score is not a number")
    return (given >= border).astype(np.int64) + (given >= threshold)


@overload
def decide(scores: float, calibration: Calibration, fpir: float = ...) -> Decision: ...
@overload
def decide(scores: npt.NDArray[np.floating], calibration: Calibration, fpir: float = ...) -> list[Decision]: ...
def decide(
    scores: float | npt.NDArray[np.floating], calibration: Calibration, fpir: float = DEFAULT_FPIR
) -> Decision | list[Decision]:
    """The decision about the top match, or about each of many.

    Raises BadField where the calibration cannot tell this rate.
    """
    setting = calibration.setting(fpir)
    if setting.threshold is None or setting.border is None:
        raise BadField("fpir", setting.reason or "cannot be told")
    told = tell(scores, setting.threshold, setting.border)
    return [_DECISIONS[i] for i in told.tolist()] if told.ndim else _DECISIONS[int(told)]


@overload
def probability(scores: float, calibration: Calibration) -> float: ...
@overload
def probability(scores: npt.NDArray[np.floating], calibration: Calibration) -> Doubles: ...
def probability(scores: float | npt.NDArray[np.floating], calibration: Calibration) -> float | Doubles:
    """That the match with this score is the right person, read as if it were the top match."""
    found = calibration.probability.of(scores)
    return found if found.ndim else float(found)
