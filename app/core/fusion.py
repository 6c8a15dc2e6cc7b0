"""Several crops of one person as one query."""

from typing import Literal

import numpy as np

from app.core.metrics import Floats
from app.errors import BadInput

Fusion = Literal["mean", "best"]
_NOWHERE = 1e-6  # a mean shorter than this is what rounding left of vectors that cancel out


def fused(units: Floats, fusion: Fusion) -> Floats:
    """What to search for, unit float32 [m, dim], given the crops' unit vectors float32 [n, dim], n at least 1.

    mean: one vector, the mean of the unit vectors, normalised: every crop weighs the same, however long its raw vector is.
    best: all of them, since a match's score will be its best over the crops. Raises BadInput where the mean points nowhere.
    """
    if fusion == "best" or len(units) == 1:
        return units
    mean = units.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    if length < _NOWHERE:
        raise BadInput("the vectors of these crops cancel out: they are not of one person; search for each by itself")
    return np.asarray(mean[None] / length, dtype=np.float32)
