"""The AIPP file's numbers, by the bound that the module states. What an NPU makes of them only an NPU can show."""

import numpy as np
import numpy.typing as npt
import pytest

from app.core.manifest import Preprocessing
from app.core.preprocess import HEIGHT, WIDTH, normalise
from model_build.aipp import MAX_ERROR, aipp_text, simulate


def all_values() -> npt.NDArray[np.uint8]:
    """One crop whose row y is y in all three channels: each of the 256 values that a pixel can have."""
    rows = np.arange(HEIGHT, dtype=np.uint8)[None, :, None, None]
    return np.broadcast_to(rows, (1, HEIGHT, WIDTH, 3))


def field(text: str, name: str) -> str:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(f"{name}:")]
    return line.split(":")[1].strip()


def test_the_guides_preprocessing_comes_out_within_the_stated_bound() -> None:
    crops = all_values()
    difference = np.abs(simulate(aipp_text(Preprocessing()), crops) - normalise(crops)).max()
    assert 0.0005 < difference <= MAX_ERROR  # float16 parameters are not the exact ones: no difference would be no test


def test_the_numbers_are_those_of_imagenet_worked_by_hand() -> None:
    text = aipp_text(Preprocessing())
    # 255 * 0.485, 255 * 0.456, 255 * 0.406; 1 / (255 * 0.229), and so on for 0.224 and 0.225.
    assert [field(text, f"min_chn_{i}") for i in range(3)] == ["123.675", "116.28", "103.53"]
    factors = [float(field(text, f"var_reci_chn_{i}")) for i in range(3)]
    assert factors == pytest.approx([1 / 58.395, 1 / 57.12, 1 / 57.375], rel=1e-12)
    assert (field(text, "src_image_size_w"), field(text, "src_image_size_h")) == ("128", "256")
    assert field(text, "input_format") == "RGB888_U8"


def test_a_model_trained_with_other_numbers_gets_other_numbers() -> None:
    other = Preprocessing(mean=(0.5, 0.25, 0.125), std=(0.5, 0.25, 1.0))
    crops = all_values()
    exact = (crops[0, :, 0, :] / 255 - np.array(other.mean)) / np.array(other.std)
    np.testing.assert_allclose(simulate(aipp_text(other), crops)[0, :, :, 0].T, exact, atol=2e-3)


@pytest.mark.parametrize(("shown", "channel"), [("red", 0), ("green", 1), ("blue", 2)])
def test_channels_keep_their_places(shown: str, channel: int) -> None:
    crops = np.zeros((1, HEIGHT, WIDTH, 3), dtype=np.uint8)
    crops[..., channel] = 255
    planes = simulate(aipp_text(Preprocessing()), crops)[0, :, 0, 0]
    assert planes.argmax() == channel, shown
