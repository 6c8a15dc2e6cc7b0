"""Trials of searches for persons: a query's score with each person's centroid, which leaves the query's camera out."""

import numpy as np

from app.core.centroids import PersonSums
from app.core.decision.trials import MOST, NOBODY, NOTHING, SEED, Trials, draw_queries
from app.core.metrics import Floats, Ints, Labelled, unit


def person_trials(gallery: Labelled, most: int = MOST, seed: int = SEED) -> Trials:
    """Leave-one-out searches for persons. Crops of nobody (a negative person) are in no centroid; the crops asked are those
    that `search_trials` asks, and a person with rows in the query's camera alone is not among those who can be found.
    """
    asked, possible = draw_queries(gallery, most, seed)
    named = np.flatnonzero(gallery.pids >= 0)
    sums = PersonSums.of(
        gallery.pids[named],
        gallery.camids[named],
        lambda rows: gallery.vectors[named[rows]],
        gallery.vectors.shape[1],
    )
    genuine, impostor = (np.full(len(asked), NOTHING, dtype=np.float32) for _ in range(2))
    found = np.full(len(asked), NOBODY, dtype=np.int64)
    for camera in np.unique(gallery.camids[asked]).tolist():
        places = np.flatnonzero(gallery.camids[asked] == camera)
        persons, centroids = _without(sums, camera)
        if not len(persons):
            continue
        for some in np.array_split(places, -(-len(places) // 256)):
            scores = unit(gallery.vectors[asked[some]]) @ centroids.T
            own = persons == gallery.pids[asked[some], None]
            genuine[some] = scores.max(axis=1, where=own, initial=NOTHING)
            scores[own] = NOTHING
            impostor[some] = scores.max(axis=1)
            best = persons[scores.argmax(axis=1)]  # ascending: on a tie the lowest number
            found[some] = np.where(impostor[some] > NOTHING, best, NOBODY)
    return Trials("person", gallery.pids[asked], genuine, impostor, found, len(asked), possible, len(gallery.pids))


def _without(sums: PersonSums, camera: int) -> tuple[Ints, Floats]:
    """Persons seen by another camera, ascending, and the unit vectors of their centroids without that one."""
    kept = np.flatnonzero(sums.camids != camera)
    persons, first = np.unique(sums.pids[kept], return_index=True)
    if not len(persons):
        return persons, np.empty((0, sums.sums.shape[1]), dtype=np.float32)
    return persons, unit(np.add.reduceat(sums.sums[kept], first, axis=0))
