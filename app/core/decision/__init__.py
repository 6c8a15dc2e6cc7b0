"""From a bare score to a decision: what a gallery's own labels say about the scores of its searches.

    trials = search_trials(gallery)                  # every labelled crop as a query, its own camera left out
    calibration = calibrate(trials)                  # borders, probabilities, and what they are worth on held-out persons
    decide(0.83, calibration, fpir=0.01)             # "match", "unsure" or "unknown"
    probability(0.83, calibration)                   # that the top match is the right person

Trials can come from anywhere: searches for items (`search_trials`), pairs of crops (`pair_trials`), or searches for
persons. Each kind has scores of its own and so a calibration of its own.
"""

from app.core.decision.calibrate import FPIRS, MIN_PERSONS, MIN_SEARCHES, MISS, PRIOR, calibrate, shortage
from app.core.decision.calibration import (
    DEFAULT_FPIR,
    Calibration,
    Counts,
    Decision,
    HeldOut,
    Setting,
    Share,
    Told,
    decide,
    probability,
)
from app.core.decision.persons import person_trials
from app.core.decision.probability import Bin, ProbabilityMap
from app.core.decision.rates import DetPoint
from app.core.decision.report import describe
from app.core.decision.trials import (
    NOBODY,
    NOTHING,
    Kind,
    Trials,
    draw_queries,
    pair_trials,
    persons_seen_by_two,
    search_trials,
)

__all__ = [
    "DEFAULT_FPIR",
    "FPIRS",
    "MIN_PERSONS",
    "MIN_SEARCHES",
    "MISS",
    "NOBODY",
    "NOTHING",
    "PRIOR",
    "Bin",
    "Calibration",
    "Counts",
    "Decision",
    "DetPoint",
    "HeldOut",
    "Kind",
    "ProbabilityMap",
    "Setting",
    "Share",
    "Told",
    "Trials",
    "calibrate",
    "decide",
    "describe",
    "draw_queries",
    "pair_trials",
    "person_trials",
    "persons_seen_by_two",
    "probability",
    "search_trials",
    "shortage",
]
