"""The golden crops: eight drawn people, the same for every model, whose vectors a server computes at every start."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from app.adapters.model_directory import Golden
from app.core.preprocess import Limits, decode, normalise
from app.demo.dataset import Recipe, draw_dataset
from model_build.network import ReidNetwork

# One crop each of eight persons before four cameras. Never change it: models of all ages are compared on these crops.
RECIPE = Recipe(seed=8, persons=8, distractors=0, cameras=4, queries=1, shots=(0, 0))


def draw_golden_crops(recipe: Recipe = RECIPE) -> npt.NDArray[np.uint8]:
    """The crops uint8 [8, 256, 128, 3]. They travel with the model, since another Pillow may draw other bytes."""
    return np.stack([decode(crop.jpeg, crop.name, Limits()) for crop in draw_dataset(recipe)])


def embed_golden(network: ReidNetwork, crops: npt.NDArray[np.uint8]) -> Golden:
    """The crops with torch's float32 vectors of them, one crop at a time: nothing of a batch can leak into them."""
    with torch.inference_mode():
        rows = [network(torch.from_numpy(normalise(crops[i : i + 1]))).numpy() for i in range(len(crops))]
    return Golden(crops, np.concatenate(rows))


def save_golden(golden: Golden, path: Path) -> None:
    """Two arrays, `crops` and `vectors`; nothing pickled."""
    with path.open("wb") as file:
        np.savez(file, crops=golden.crops, vectors=golden.vectors)
