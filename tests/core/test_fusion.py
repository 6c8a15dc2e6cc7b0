"""Several crops of one person as one query."""

import numpy as np
import pytest

from app.core.fusion import fused
from app.core.metrics import Floats
from app.errors import BadInput


def units(*rows: list[float]) -> Floats:
    return np.array(rows, dtype=np.float32)


def test_the_mean_of_unit_vectors_is_normalised() -> None:
    mean = fused(units([1, 0], [0, 1]), "mean")
    assert (mean.shape, str(mean.dtype)) == ((1, 2), "float32")
    np.testing.assert_allclose(mean, [[np.sqrt(0.5), np.sqrt(0.5)]], rtol=1e-6)


def test_the_best_needs_every_crop() -> None:
    assert fused(units([1, 0], [0, 1]), "best").tolist() == [[1, 0], [0, 1]]


def test_one_crop_is_itself_bit_by_bit() -> None:
    one = units([0.6, 0.8])
    assert np.array_equal(fused(one, "mean"), one)


def test_crops_that_cancel_out_have_no_mean() -> None:
    with pytest.raises(BadInput, match="cancel out"):
        fused(units([1, 0], [-1, 0]), "mean")
