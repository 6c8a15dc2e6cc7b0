"""From trials to a calibration, measured on persons who had no part in it; or a refusal.

Cross-validation is by person, never by crop: two crops of one walk past a camera are nearly the same picture, and a border
that knows one of them knows the other. A score between two persons belongs to both, so that a fold learns only from
searches whose person **and** whose found person stand outside of what it is measured on. What is kept is fitted to all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from app.core.decision.calibration import Calibration, Counts, HeldOut, Setting, Share, Told, tell
from app.core.decision.probability import (
    Method,
    cases_of,
    expected_calibration_error,
    fit,
    method_for,
    reliability,
    uncalibrated,
)
from app.core.decision.rates import det, interval95, lowest_kept, searches_needed, threshold_at
from app.core.decision.trials import NOBODY, NOTHING, Trials
from app.core.metrics import Doubles, Floats, Ints, Mask
from app.errors import TooFewLabels

FPIRS = (0.001, 0.01, 0.05)
# Nobody knows how often strangers come; half says neither that everyone is known nor that nobody is.
PRIOR = 0.5
# "unknown" tells people to stop looking, so that it is what at most one present person in twenty may be told.
MISS = 0.05
# Rule of three: what did not happen to any of 60 persons happens to at most 3 / 60 = 5 % (at 95 %), the loosest setting.
# With fewer, not even a clean sheet would say that a border keeps what it promises.
MIN_PERSONS = MIN_SEARCHES = 60
FOLDS, SEED = 10, 0


def shortage(trials: Trials) -> str | None:
    """Why these trials are too few to calibrate from; None where they are enough."""
    persons = len(np.unique(trials.pids[trials.present]))
    if persons < MIN_PERSONS:
        return f"too few: {persons} persons seen by two cameras; at least {MIN_PERSONS} are needed"
    searches = int(trials.absent.sum())
    if searches < MIN_SEARCHES:
        return f"too few: {searches} {_impostors(trials)}; at least {MIN_SEARCHES} are needed"
    return None


def calibrate(
    trials: Trials,
    *,
    fpirs: Sequence[float] = FPIRS,
    prior: float = PRIOR,
    miss: float = MISS,
    folds: int = FOLDS,
    seed: int = SEED,
) -> Calibration:
    """Borders for each false-positive rate, and probabilities. The order of the trials does not matter.

    Raises TooFewLabels with a sentence where the labels are too few.
    """
    if not (folds > 1 and 0 < prior < 1 and 0 < miss < 1):
        raise ValueError(f"{folds} folds, prior {prior}, miss {miss}: at least 2, and shares between 0 and 1")
    if too_few := shortage(trials):
        raise TooFewLabels(too_few)
    trials = trials.where(np.lexsort((trials.found, trials.impostor, trials.genuine, trials.pids)))
    cases = cases_of(trials, prior)
    method = method_for(cases)
    parts = list(split(trials, folds, seed))
    before, after = _promises(trials, parts, prior, method)
    bins_before, bins = reliability(*before), reliability(*after)
    return Calibration(
        kind=trials.kind,
        prior=prior,
        miss=miss,
        settings=tuple(_setting(trials, parts, fpir, miss) for fpir in fpirs),
        probability=fit(cases, method),
        reliability=bins,
        reliability_before=bins_before,
        ece_before=expected_calibration_error(bins_before),
        ece_after=expected_calibration_error(bins),
        det=det(trials.impostor[trials.absent], _hits(trials)),
        counts=_counts(trials),
        folds=folds,
        seed=seed,
    )


def split(trials: Trials, folds: int, seed: int) -> Iterator[tuple[Trials, Trials]]:
    """For each fold, the trials to learn from and those to measure on; no person is in both, as the one asked or found.

    A fold that leaves nothing to learn from, because one person is found by everybody, is left out.
    """
    fold, found = _folds(trials, folds, seed)
    for number in range(folds):
        learn = trials.where((fold != number) & (found != number))
        if learn.present.any() and learn.absent.any():
            yield learn, trials.where(fold == number)


def _folds(trials: Trials, folds: int, seed: int) -> tuple[Ints, Ints]:
    """The fold of each trial's person and of the one it found; nobody is in none."""
    persons = np.unique(np.concatenate([trials.pids, trials.found]))
    number = np.random.default_rng(seed).permutation(len(persons)) % folds
    number[persons < 0] = NOBODY
    return number[np.searchsorted(persons, trials.pids)], number[np.searchsorted(persons, trials.found)]


_Promise = tuple[Doubles, Mask, Doubles]  # probabilities, whether it came true, weights


def _promises(
    trials: Trials, parts: Sequence[tuple[Trials, Trials]], prior: float, method: Method
) -> tuple[_Promise, _Promise]:
    """For every held-out search: what its bare score promises, and what the map of its fold does."""
    persons = np.concatenate([part.pids for _, part in parts])
    measured = cases_of(trials.where(np.isin(trials.pids, persons)), prior)
    after = np.empty_like(measured.scores)
    for learn, part in parts:
        here = np.isin(measured.pids, part.pids)
        after[here] = fit(cases_of(learn, prior), method).of(measured.scores[here])
    before = uncalibrated(measured.scores)
    return (before, measured.right, measured.weights), (after, measured.right, measured.weights)


def _setting(trials: Trials, parts: Sequence[tuple[Trials, Trials]], fpir: float, miss: float) -> Setting:
    searches, needed = int(trials.absent.sum()), searches_needed(fpir)
    if searches < needed:
        reason = f"cannot be told: {searches} {_impostors(trials)}; at least {needed} are needed"
        return Setting(fpir=fpir, reason=reason)
    threshold, border = _borders(trials, fpir, miss)
    return Setting(fpir=fpir, threshold=threshold, border=border, held_out=_held_out(parts, fpir, miss))


def _borders(trials: Trials, fpir: float, miss: float) -> tuple[float, float]:
    """Match from the first on, unknown below the second. Where matches miss fewer than `miss`, nothing is left to be unsure of."""
    threshold = threshold_at(trials.impostor[trials.absent], fpir)
    return threshold, min(threshold, lowest_kept(trials.top[trials.present], miss))


@dataclass(frozen=True, slots=True)
class _Answers:
    """What held-out searches were told (2, 1, 0), whether their top match was right, and whose they were."""

    told: Ints
    right: Mask
    pids: Ints


def _held_out(parts: Sequence[tuple[Trials, Trials]], fpir: float, miss: float) -> HeldOut:
    absent, present = [], []
    for learn, part in parts:
        borders = _borders(learn, fpir, miss)
        here = part.where(part.absent)
        absent.append(_Answers(tell(here.impostor, *borders), np.zeros(len(here.pids), dtype=bool), here.pids))
        here = part.where(part.present)
        present.append(_Answers(tell(here.top, *borders), here.right, here.pids))
    nobody, somebody = _joined(absent), _joined(present)
    matched = somebody.told == 2
    return HeldOut(
        fpir=_share(nobody.told == 2, nobody.pids),
        fnir=_share(~(matched & somebody.right), somebody.pids),
        wrong=_share(matched & ~somebody.right, somebody.pids),
        absent=_told(nobody.told),
        present=_told(somebody.told),
    )


def _joined(answers: Sequence[_Answers]) -> _Answers:
    return _Answers(
        told=np.concatenate([answer.told for answer in answers]),
        right=np.concatenate([answer.right for answer in answers]),
        pids=np.concatenate([answer.pids for answer in answers]),
    )


def _share(wrong: Mask, pids: Ints) -> Share:
    return Share(share=float(wrong.mean()), searches=len(wrong), interval95=interval95(wrong, pids))


def _told(told: Ints) -> Told:
    unknown, unsure, match = (np.bincount(told, minlength=3) / len(told)).tolist()
    return Told(match=match, unsure=unsure, unknown=unknown)


def _hits(trials: Trials) -> Floats:
    """Scores of present persons where the top match is right, else `NOTHING`."""
    present = trials.where(trials.present)
    return np.where(present.right, present.genuine, np.float32(NOTHING))


def _counts(trials: Trials) -> Counts:
    persons = len(np.unique(trials.pids[trials.present]))
    return Counts(
        persons=persons,
        others=len(np.unique(trials.pids[trials.pids >= 0])) - persons,
        present=int(trials.present.sum()),
        absent=int(trials.absent.sum()),
        asked=trials.asked,
        possible=trials.possible,
        gallery=trials.gallery,
    )


def _impostors(trials: Trials) -> str:
    return "pairs of two persons" if trials.kind == "pair" else "searches for absent persons"
