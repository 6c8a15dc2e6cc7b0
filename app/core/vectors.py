"""What makes numbers a vector that can be compared with others. For vectors that were made elsewhere."""

import numpy as np

from app.core.metrics import Floats


def fault(vector: Floats, dim: int) -> str | None:
    """Why a raw vector cannot be kept or ranked among vectors of `dim` numbers; None where it can.

    >>> fault(np.zeros(2, dtype=np.float32), 2)
    'all zeros, which has no direction'
    """
    if vector.shape != (dim,):
        return f"{vector.size} numbers instead of {dim}"
    if not np.isfinite(vector).all():
        return "holds a number that is not finite"
    if not vector.any():
        return "all zeros, which has no direction"
    too_long = np.linalg.norm(vector.astype(np.float64)) > np.finfo(np.float32).max
    return "longer than float32 can say" if too_long else None
