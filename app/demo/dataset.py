"""Drawn people as a data set: the crops of a recipe, one by one, and as a folder in DukeMTMC-reID's layout.

    write_folder(DEMO, Path("demo/data"))      # demo/data/query/*.jpg, demo/data/bounding_box_test/*.jpg

Same recipe, same bytes (for one version of Pillow). Every crop has a random generator of its own, so a crop does not
depend on which others are drawn.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from app.demo.people import Camera, Person, draw_camera, draw_person
from app.demo.scene import draw_crop, encode_jpeg

Split = Literal["bounding_box_train", "query", "bounding_box_test"]
_CAMERAS, _PERSONS, _CROPS = 1, 2, 3  # streams of random numbers below one seed


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to draw. A person is seen by most cameras; a distractor by one, and never asked for."""

    seed: int
    persons: int = 120
    distractors: int = 40
    absent: int = 0  # persons that are asked for and are in no gallery
    cameras: int = 6
    shift: float = 0.6
    hard: float = 0.5
    seen_by: float = 0.75  # probability that a camera sees a person
    queries: int = 0  # most queries of a person; 0: one from every camera that saw it
    shots: tuple[int, int] = (1, 1)  # fewest and most gallery crops of a person from a camera


@dataclass(frozen=True, slots=True)
class DrawnCrop:
    """One drawn crop with its labels and its JPEG bytes."""

    split: Split
    person: int
    camera: int
    frame: int
    jpeg: bytes

    @property
    def name(self) -> str:
        """DukeMTMC-reID's file name, such as `0005_c2_f0046985.jpg`."""
        return f"{self.person:04d}_c{self.camera}_f{self.frame:07d}.jpg"


# The data of `make run`: about 1,100 crops, of which about 250 are queries and twelve ask for a person who is not there.
DEMO = Recipe(seed=20, absent=12, queries=2, shots=(1, 2))


def draw_dataset(recipe: Recipe) -> Iterator[DrawnCrop]:
    """Draw query and gallery crops of a recipe, person by person."""
    cameras = [draw_camera(_rng(recipe, _CAMERAS, i), recipe.shift) for i in range(recipe.cameras)]
    number = 0
    for index in range(recipe.persons + recipe.distractors + recipe.absent):
        rng = _rng(recipe, _PERSONS, index)
        number += int(rng.integers(1, 8))  # like the real sets, identities are not contiguous
        person = draw_person(rng, recipe.hard)
        if index < recipe.persons:
            yield from _person(recipe, rng, number, person, cameras)
        elif index < recipe.persons + recipe.distractors:
            camera = int(rng.integers(recipe.cameras))
            for shot in range(int(rng.integers(recipe.shots[0], recipe.shots[1] + 1))):
                yield _crop(recipe, "bounding_box_test", number, person, cameras, camera, shot)
        else:
            yield _crop(recipe, "query", number, person, cameras, int(rng.integers(recipe.cameras)), 0)


def write_folder(recipe: Recipe, root: Path, drawn: Callable[[], object] = lambda: None) -> dict[Split, int]:
    """Write the crops below `root`, calling `drawn` after each; how many each split holds. Whole or not at all."""
    counts: dict[Split, int] = {"query": 0, "bounding_box_test": 0}
    partial = root.with_name(f".{root.name}.{os.getpid()}.partial")
    try:
        for split in counts:
            (partial / split).mkdir(parents=True, exist_ok=True)
        for crop in draw_dataset(recipe):
            (partial / crop.split / crop.name).write_bytes(crop.jpeg)
            counts[crop.split] += 1
            drawn()
        os.replace(partial, root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return counts


def _person(
    recipe: Recipe, rng: np.random.Generator, number: int, person: Person, cameras: list[Camera]
) -> Iterator[DrawnCrop]:
    seen = [i for i in range(recipe.cameras) if rng.random() < recipe.seen_by]
    if len(seen) < 2:
        seen = rng.permutation(recipe.cameras)[:2].tolist()
    asked = rng.permutation(seen)[: recipe.queries or len(seen)].tolist()
    for camera in seen:
        if camera in asked:
            yield _crop(recipe, "query", number, person, cameras, camera, 0)
        for shot in range(int(rng.integers(recipe.shots[0], recipe.shots[1] + 1))):
            yield _crop(recipe, "bounding_box_test", number, person, cameras, camera, 1 + shot)


def _crop(
    recipe: Recipe, split: Split, number: int, person: Person, cameras: list[Camera], camera: int, shot: int
) -> DrawnCrop:
    rng = _rng(recipe, _CROPS, number, camera, shot)
    passer_by = draw_person(rng, recipe.hard)
    picture = draw_crop(rng, person, cameras[camera], passer_by)
    frame = number * 1000 + camera * 100 + shot * 7 + int(rng.integers(7))
    return DrawnCrop(split, number, camera + 1, frame, encode_jpeg(picture, cameras[camera]))


def _rng(recipe: Recipe, *stream: int) -> np.random.Generator:
    return np.random.default_rng([recipe.seed, *stream])
