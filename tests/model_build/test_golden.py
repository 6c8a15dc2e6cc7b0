from pathlib import Path

import numpy as np
import torch

from app.core.preprocess import normalise
from model_build.golden import draw_golden_crops, embed_golden, save_golden
from model_build.network import ReidNetwork


def test_eight_different_crops_are_drawn_and_always_the_same() -> None:
    crops = draw_golden_crops()
    assert crops.shape == (8, 256, 128, 3)
    assert crops.dtype == np.uint8
    assert len({crop.tobytes() for crop in crops}) == 8
    assert np.array_equal(crops, draw_golden_crops())


def test_the_golden_vectors_are_torchs_of_the_normalised_crops(tiny_network: ReidNetwork) -> None:
    golden = embed_golden(tiny_network, draw_golden_crops()[:3])
    with torch.no_grad():
        batch = tiny_network(torch.from_numpy(normalise(golden.crops))).numpy()
    assert golden.vectors.shape == (3, 128)
    assert golden.vectors.dtype == np.float32
    np.testing.assert_allclose(golden.vectors, batch, rtol=1e-4, atol=1e-5)


def test_the_file_holds_two_arrays_and_nothing_pickled(tmp_path: Path, tiny_network: ReidNetwork) -> None:
    golden = embed_golden(tiny_network, draw_golden_crops()[:2])
    save_golden(golden, tmp_path / "golden.npz")
    with np.load(tmp_path / "golden.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"crops", "vectors"}
        assert np.array_equal(arrays["crops"], golden.crops)
        assert np.array_equal(arrays["vectors"], golden.vectors)
