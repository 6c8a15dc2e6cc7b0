"""Vectors made elsewhere are refused for a reason that says what is wrong."""

import numpy as np
import pytest

from app.core.vectors import fault


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0, 3.0], None),
        ([1e-45, 0.0, 0.0], None),  # the smallest float32 still has a direction
        ([1.0, 2.0], "2 numbers instead of 3"),
        ([1.0, float("nan"), 3.0], "holds a number that is not finite"),
        ([0.0, 0.0, 0.0], "all zeros, which has no direction"),
        ([3e38, 3e38, 3e38], "longer than float32 can say"),  # each is below 3.4e38, their length is 5.2e38
    ],
)
def test_what_cannot_be_compared_is_named(values: list[float], expected: str | None) -> None:
    assert fault(np.array(values, dtype=np.float32), 3) == expected
