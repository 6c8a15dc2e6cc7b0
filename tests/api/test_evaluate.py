"""The accuracy number through the running service equals a slow second implementation on the same vectors."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.core.preprocess import decode
from app.demo.dataset import Recipe, write_folder
from app.service import Service
from app.settings import Settings

pytestmark = pytest.mark.anyio
SMALL = Recipe(seed=3, persons=6, distractors=2, cameras=3, seen_by=0.9)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    write_folder(SMALL, folder)
    return folder


@pytest.fixture
def folder(drawn: Path, settings: Settings) -> Path:
    return Path(shutil.copytree(drawn, settings.data_roots[0] / "set"))


async def vectors(service: Service, split: Path) -> list[tuple[np.ndarray, str, str]]:
    """Unit vectors with labels read by splitting the name: another way than the product's."""
    rows = []
    for path in sorted(split.glob("*.jpg")):
        raw = (await service.engine.embed([decode(path.read_bytes(), path.name)]))[0].vector.astype(np.float64)
        person, camera, _ = path.name.split("_")
        rows.append((raw / np.sqrt((raw**2).sum()), person, camera))
    return rows


async def test_it_equals_a_slow_second_implementation(http: httpx.AsyncClient, service: Service, folder: Path) -> None:
    gallery = await vectors(service, folder / "bounding_box_test")
    precisions, firsts = [], []
    for vector, person, camera in await vectors(service, folder / "query"):
        kept = [row for row in gallery if not (row[1] == person and row[2] == camera)]
        ranked = sorted(kept, key=lambda row: -float(row[0] @ vector))
        ranks = [rank for rank, row in enumerate(ranked, 1) if row[1] == person]
        if ranks:
            precisions.append(np.mean([(i + 1) / rank for i, rank in enumerate(ranks)]))
            firsts.append(ranks[0])
    for path in ("/v1/evaluate", "/evaluate"):
        report = (await http.post(path, json={"folder": str(folder)})).json()["protocols"]["instance"]
        assert report["mAP"] == pytest.approx(np.mean(precisions), abs=1e-9)
        for k in (1, 5, 10, 20, 50):
            assert report[f"rank{k}"] == pytest.approx(np.mean([first <= k for first in firsts]))
        assert (report["valid_queries"], report["gallery"]) == (len(firsts), len(gallery))


async def test_progress_shows_while_it_runs_and_is_gone_after(
    http: httpx.AsyncClient, service: Service, folder: Path
) -> None:
    running = asyncio.create_task(http.post("/v1/evaluate", json={"folder": str(folder)}))
    seen = set()
    while not running.done():
        counts = (await http.get("/v1/stats")).json()["evaluating"]
        seen.add((counts["done"], counts["total"]))
    crops = sum(len(list((folder / split).iterdir())) for split in ("query", "bounding_box_test"))
    assert max(done for done, _ in seen) > 0
    assert max(total for _, total in seen) == crops
    assert all(done <= total for done, total in seen)
    assert (await http.get("/v1/stats")).json()["evaluating"] == {"done": 0, "total": 0}


async def test_shuffled_pictures_score_less(http: httpx.AsyncClient, folder: Path) -> None:
    honest = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()["protocols"]["instance"]
    names = sorted((folder / "bounding_box_test").iterdir())
    order = np.random.default_rng(0).permutation(len(names))
    contents = [names[i].read_bytes() for i in order]
    for name, content in zip(names, contents, strict=True):
        name.write_bytes(content)
    permuted = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()["protocols"]["instance"]
    assert permuted["mAP"] < honest["mAP"]


async def test_what_is_no_crop_is_counted_and_left_out(
    http: httpx.AsyncClient, folder: Path, picture: Callable[[int], bytes]
) -> None:
    clean = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()
    gallery = folder / "bounding_box_test"
    (gallery / "Thumbs.db").write_bytes(b"x")
    (gallery / "deeper").mkdir()
    (gallery / "hat.png").write_bytes(picture(1))
    (gallery / "-1_c1s1_000001_00.png").write_bytes(picture(2))
    (gallery / "0001_c1_broken.jpg").write_bytes(b"broken")
    (folder / "query" / "0000_c1_f1.png").write_bytes(picture(3))  # background is never asked for
    (gallery / "linked.jpg").symlink_to(gallery / "hat.png")
    answer = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()
    assert answer["protocols"] == clean["protocols"]
    counts = answer["data"]["gallery"]
    assert (counts["junk"], counts["skipped"]) == (1, 4)
    assert counts["refused"] == ["0001_c1_broken.jpg: not a whole JPEG, PNG, WEBP or BMP image"]
    assert answer["data"]["query"]["junk"] == 1


async def test_background_stays_a_distractor_in_the_gallery(
    http: httpx.AsyncClient, folder: Path, picture: Callable[[int], bytes]
) -> None:
    before = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()["protocols"]["instance"]["gallery"]
    (folder / "bounding_box_test" / "0000_c1s1_000001_00.png").write_bytes(picture(3))
    after = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()["protocols"]["instance"]["gallery"]
    assert after == before + 1


async def test_a_data_set_nested_one_folder_deeper_is_found(
    http: httpx.AsyncClient, folder: Path, settings: Settings
) -> None:
    answer = await http.post("/v1/evaluate", json={"folder": str(settings.data_roots[0])})
    assert answer.json()["data"]["folder"] == "set"
