"""A calibration in sentences for people: how often an absent person is found at each setting, and what the figures support."""

from dataclasses import dataclass

from app.core.decision.calibration import Calibration, HeldOut, Setting, Share

_THREE = 3  # of the rule of three


@dataclass(frozen=True, slots=True)
class _Words:
    """What trials of a kind are called, one whose person is there, one whose person is not,."""

    rate: str
    trials: str
    present: str
    absent: str


_SEARCHES = _Words("FPIR", "searches", "for somebody who is in the gallery", "for somebody who is not")
_PAIRS = _Words("FMR", "pairs", "of one person", "of two persons")


def describe(calibration: Calibration) -> list[str]:
    """One sentence on what it rests on, one for each setting, one on the probabilities."""
    words, counts = _PAIRS if calibration.kind == "pair" else _SEARCHES, calibration.counts
    drawn = "all" if counts.asked == counts.possible else f"{counts.asked:,} of {counts.possible:,}"
    return [
        f"Rests on {counts.persons:,} persons seen by two cameras and {counts.others:,} others ({drawn} labelled crops asked): "
        f"{counts.present:,} {words.trials} {words.present}, {counts.absent:,} {words.absent}. "
        f"What happened to none of so many persons may still happen to {_percent(_THREE / counts.persons)} of all.",
        *(_sentence(setting, words) for setting in calibration.settings),
        f"Probabilities ({calibration.probability.method}; taking {_percent(calibration.prior)} of {words.trials} to be "
        f"{words.present}) are off by {_percent(calibration.ece_after)} on average on held-out persons, "
        f"the bare score read as one by {_percent(calibration.ece_before)}.",
    ]


def _sentence(setting: Setting, words: _Words) -> str:
    name = f"{words.rate} {_percent(setting.fpir)}"
    if setting.threshold is None or setting.border is None or setting.held_out is None:
        return f"{name}: {setting.reason}."
    return f"{name}: match from {setting.threshold:.4f}, unknown below {setting.border:.4f}. {_measured(setting.held_out, words)}"


def _measured(told: HeldOut, words: _Words) -> str:
    mistaken = "" if words is _PAIRS else f", {_percent(told.wrong.share)} were a match with somebody else"
    return (
        f"On held-out persons, of {told.fpir.searches:,} {words.trials} {words.absent} {_share(told.fpir)} were a match; "
        f"of {told.fnir.searches:,} {words.present} {_share(told.fnir)} were not matched rightly, "
        f"{_percent(told.present.unknown)} were unknown{mistaken}."
    )


def _share(share: Share) -> str:
    low, high = share.interval95
    return f"{_percent(share.share)} (95 %: {_percent(low)} to {_percent(high)})"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"
