import numpy as np
import numpy.typing as npt
import pytest

from app.core.manifest import Verification
from app.errors import VerificationFailed
from app.ports import Crops, Floats
from model_build.verify import Row, compare, embed_in, worst


class Counting:
    """Answers each crop with its first byte, and remembers the launches."""

    fingerprint, dim, batch_sizes = "f", 1, (4,)
    last_run = None

    def __init__(self) -> None:
        self.launches: list[int] = []

    def embed(self, crops: Crops) -> Floats:
        self.launches.append(len(crops))
        return np.stack([crop[0, 0, :1] for crop in crops]).astype(np.float32)

    def close(self) -> None:
        """Nothing to give back."""


def numbered(count: int) -> npt.NDArray[np.uint8]:
    return np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 1, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("batch", "launches", "seen"),
    [(1, [1, 1, 1], [0, 1, 2]), (2, [2, 2], [0, 1, 2, 0]), (3, [3], [0, 1, 2]), (7, [7], [0, 1, 2, 0, 1, 2, 0])],
)
def test_every_launch_is_full_and_crops_begin_again(batch: int, launches: list[int], seen: list[int]) -> None:
    embedder = Counting()
    assert embed_in(embedder, numbered(3), batch)[:, 0].tolist() == seen
    assert embedder.launches == launches


def test_the_figures_of_a_comparison_are_those_worked_by_hand() -> None:
    golden = np.array([[3, 4], [0, 2]], dtype=np.float32)
    actual = np.array([[3, 4], [0, 2], [4, 3]], dtype=np.float32)  # row 2 answers golden row 0 again
    figures = compare(golden, actual)
    assert figures.crops == 3
    assert figures.cosine_min == pytest.approx(24 / 25)
    assert figures.cosine_mean == pytest.approx((1 + 1 + 24 / 25) / 3)
    assert figures.largest_difference == 1
    assert figures.relative_difference == 1 / 4


def test_vectors_of_another_length_are_refused() -> None:
    with pytest.raises(VerificationFailed, match=r"shape \(2, 3\) where \(2, 2\)"):
        compare(np.ones((2, 2), dtype=np.float32), np.ones((2, 3), dtype=np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_do_not_pass(value: float) -> None:
    actual = np.array([[value, 1]], dtype=np.float32)
    assert not Row("model.onnx", None, compare(np.ones((1, 2), dtype=np.float32), actual)).passed


def row(file: str, relative: float, crops: int = 8, cosine: float = 1.0) -> Row:
    return Row(file, None, Verification(
        crops=crops, cosine_min=cosine, cosine_mean=cosine, largest_difference=relative, relative_difference=relative
    ))  # fmt: skip


def test_the_bound_is_one_part_in_ten_thousand() -> None:
    assert row("a", 1e-4).passed
    assert not row("a", 1.01e-4).passed


def test_the_worst_figures_of_all_artefacts_count() -> None:
    figures = worst([row("a", 1e-6, crops=8, cosine=0.999), row("b", 5e-5, crops=16, cosine=0.996)])
    assert figures.crops == 24
    assert figures.cosine_min == 0.996
    assert figures.cosine_mean == pytest.approx((8 * 0.999 + 16 * 0.996) / 24)
    assert figures.relative_difference == figures.largest_difference == 5e-5


def test_every_artefact_that_failed_is_named() -> None:
    with pytest.raises(VerificationFailed) as refusal:
        worst([row("a.onnx", 1e-6), row("b.onnx", 0.02), row("c.onnx", float("nan"))])
    assert str(refusal.value) == (
        "vectors differ from torch's: b.onnx by 0.02 of the largest value, c.onnx by nan of the largest value; "
        "0.0001 is allowed"
    )
