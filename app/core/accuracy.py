"""One evaluation: every protocol that the data allow, beside what was published, and where it goes wrong."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.core.assessment import CameraPair, Gain, Scores, Worst, camera_pairs, gain_of_reranking, scores_of, worst
from app.core.decision import NOBODY, Calibration, calibrate, search_trials
from app.core.metrics import Labelled, lengths
from app.core.protocols import PROTOCOLS, SHUFFLES, Result, check_names, evaluate
from app.core.published import Comparison, Figure, compare_with_guide, data_set_of, figures_of
from app.core.records import is_background
from app.core.splits import Sides
from app.errors import BadInput, TooFewLabels

SHORTEST, LONGEST = 1e-15, 1e15  # of raw vectors: float32 holds their squares; no model's are near either
# With queries from among the gallery's own crops a centroid must not hold the query itself: these leave its camera out.
WITHIN_GALLERY = ("instance", "centroid", "centroid_with_distractors")


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What was found. omitted: protocols that the data do not allow, and why."""

    sides: Sides
    results: Mapping[str, Result]
    omitted: Mapping[str, str]
    data_set: str | None
    published: Mapping[str, Sequence[Figure]]
    comparison: Comparison
    pairs: Sequence[CameraPair]
    worst: Sequence[Worst]
    scores: Scores
    reranking: Gain | None
    open_set: Calibration | str  # what searches of the gallery itself say of absent persons; or why they say nothing


def measure(
    sides: Sides,
    protocols: Sequence[str] = (),
    use_centroids: bool | None = None,
    shuffles: int = SHUFFLES,
    tell: Callable[[str], None] = lambda what: None,
    beat: Callable[[], None] = lambda: None,
) -> Accuracy:
    """Evaluate. use_centroids: the checkpoint's MODEL.USE_CENTROIDS, which says how the guide's figure was made.

    tell: told what comes next. beat: called before each chunk of queries; what either raises ends the work.
    Raises BadField for an unknown protocol, BadInput for vectors that cannot be compared.
    """
    check_names(protocols)
    for name, rows in (("query", sides.query), ("gallery", sides.gallery)):
        _check(name, rows)
    wanted = [name for name in PROTOCOLS if not protocols or name in protocols]
    allowed = [name for name in wanted if sides.set_apart or name in WITHIN_GALLERY]
    reason = "its centroids would hold the query itself: it needs queries set apart from the gallery"
    results = evaluate(sides.query, sides.gallery, allowed, shuffles, tell, beat) if allowed else {}
    tell("cameras and worst queries")
    index = PROTOCOLS["instance"].index(sides.query, sides.gallery, sides.gallery.camids)
    images = results.get("instance") or evaluate(sides.query, sides.gallery, ["instance"], beat=beat)["instance"]
    data_set = data_set_of(sides.query, sides.gallery)
    return Accuracy(
        sides=sides,
        results=results,
        omitted={name: reason for name in wanted if name not in allowed},
        data_set=data_set.name if data_set else None,
        published={name: figures_of(data_set, name) for name in results},
        comparison=compare_with_guide(sides.query, sides.gallery, results, use_centroids),
        pairs=camera_pairs(sides.query, sides.gallery, beat=beat),
        worst=worst(sides.query, index, images.ranked),
        scores=scores_of(images.ranked),
        reranking=gain_of_reranking(sides.query, index, images.ranked),
        open_set=_open_set(sides, tell),
    )


def _open_set(sides: Sides, tell: Callable[[str], None]) -> Calibration | str:
    """Learnt of the gallery's own crops, each asked with its camera left out, as a collection's calibration is."""
    tell("absent persons")
    nobody = [number for number, person in enumerate(sides.persons) if is_background(person)]
    gallery = sides.gallery
    pids = np.where(np.isin(gallery.pids, nobody), NOBODY, gallery.pids)
    try:
        return calibrate(search_trials(Labelled(gallery.vectors, pids, gallery.camids)))
    except TooFewLabels as error:
        return str(error)


def _check(name: str, rows: Labelled) -> None:
    """Raises BadInput for what has no direction or no number."""
    for start in range(0, len(rows.vectors), 4096):
        part = rows.vectors[start : start + 4096]
        if not np.isfinite(part).all():
            place = start + int(np.flatnonzero(~np.isfinite(part).all(axis=1))[0])
            raise BadInput(f"{name} vector {place} holds a number that is not finite")
        if not part.any(axis=1).all():
            raise BadInput(
                f"{name} vector {start + int(np.flatnonzero(~part.any(axis=1))[0])} is all zeros: it has no direction"
            )
        with np.errstate(over="ignore"):  # what is too long for float32 becomes infinite, and is refused as such
            long = lengths(part)
        if len(odd := np.flatnonzero((long < SHORTEST) | (long > LONGEST))):
            raise BadInput(
                f"{name} vector {start + int(odd[0])} is {long[odd[0]]:.3g} long; {SHORTEST:g} to {LONGEST:g} can be compared"
            )
