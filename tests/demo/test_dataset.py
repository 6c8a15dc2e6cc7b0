"""Drawn people: the same seed gives the same bytes, in a layout that the rest of the product reads."""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from app.core.records import Label, NamePattern
from app.demo.dataset import DEMO, DrawnCrop, Recipe, draw_dataset, write_folder
from app.demo.people import draw_camera, draw_person

SMALL = Recipe(seed=5, persons=5, distractors=3, absent=2, cameras=4)


def drawn(recipe: Recipe) -> list[DrawnCrop]:
    return list(draw_dataset(recipe))


def test_same_seed_same_bytes_and_another_seed_others() -> None:
    assert drawn(SMALL) == drawn(SMALL)
    assert drawn(SMALL)[0].jpeg != drawn(replace(SMALL, seed=6))[0].jpeg


def test_a_crop_does_not_depend_on_which_others_are_drawn() -> None:
    fewer = {crop.name: crop.jpeg for crop in drawn(replace(SMALL, persons=2, distractors=0, absent=0))}
    more = {crop.name: crop.jpeg for crop in drawn(SMALL)}
    assert fewer.items() <= more.items()


def test_persons_are_asked_for_distractors_never_and_absent_ones_are_in_no_gallery() -> None:
    crops = drawn(SMALL)
    asked = {crop.person for crop in crops if crop.split == "query"}
    gallery = {crop.person for crop in crops if crop.split == "bounding_box_test"}
    assert len(asked & gallery) == SMALL.persons
    assert len(gallery - asked) == SMALL.distractors
    assert len(asked - gallery) == SMALL.absent


def test_a_person_is_seen_by_two_cameras_at_least_and_a_distractor_by_one() -> None:
    seen = Counter((crop.person, crop.camera) for crop in drawn(SMALL) if crop.split == "bounding_box_test")
    cameras = Counter(person for person, _ in seen)
    asked = {crop.person for crop in drawn(SMALL) if crop.split == "query"}
    assert all(count >= 2 for person, count in cameras.items() if person in asked)
    assert all(count == 1 for person, count in cameras.items() if person not in asked)


def test_names_are_dukemtmcs_and_cameras_may_have_two_digits() -> None:
    crop = next(crop for crop in draw_dataset(replace(SMALL, cameras=12, seen_by=1.0)) if crop.camera > 9)
    assert NamePattern("duke").read(crop.name) == Label(f"{crop.person:04d}", str(crop.camera))


def test_crops_are_pictures_of_the_size_a_camera_gives() -> None:
    for crop in drawn(SMALL):
        with Image.open(io.BytesIO(crop.jpeg)) as image:
            assert image.format == "JPEG"
            assert 64 <= image.height <= 320
            assert image.width < image.height


def test_shift_decides_how_far_a_camera_is_from_neutral() -> None:
    def spread(shift: float) -> float:
        cameras = [draw_camera(np.random.default_rng(i), shift) for i in range(40)]
        return float(np.std([np.log(camera.gains) for camera in cameras]))

    assert spread(0.0) == 0.0
    assert spread(0.5) < spread(1.5)


def test_hard_decides_how_many_clothes_are_dull() -> None:
    def colourfulness(hard: float) -> float:
        people = [draw_person(np.random.default_rng(i), hard) for i in range(60)]
        return float(np.mean([max(p.top_colour) - min(p.top_colour) for p in people]))

    assert colourfulness(1.0) < 0.5 * colourfulness(0.0)


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    counts = write_folder(SMALL, tmp_path / "data")
    files = {split: len(list((tmp_path / "data" / split).iterdir())) for split in counts}
    assert files == counts
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_demo_has_about_1100_crops_of_which_at_least_100_are_queries() -> None:
    splits = Counter(crop.split for crop in draw_dataset(DEMO))
    assert 1000 <= splits.total() <= 1200
    assert splits["query"] >= 100
