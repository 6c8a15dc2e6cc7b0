"""The demo model is a real re-identifier: on drawn people and cameras it never saw, far above colours and above chance."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from app.adapters.model_directory import ModelDirectory
from app.api import create_app
from app.core.metrics import Labelled, Report
from app.core.protocols import evaluate
from app.demo.dataset import Recipe, draw_dataset, write_folder
from app.settings import DEMO_MODEL, Settings
from app.wiring import open_service
from model_build.demo_table import score, stripe_vectors

pytestmark = pytest.mark.anyio
# Neither the training's seed nor those of the table in docs/; small, so the bounds leave room for chance.
UNSEEN = Recipe(seed=77, persons=30, distractors=10, shift=0.6)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


async def test_it_finds_people_over_http_far_better_than_colour_stripes(tmp_path: Path) -> None:
    write_folder(UNSEEN, tmp_path / "set")
    settings = Settings(data_roots=(tmp_path,), model_dir=DEMO_MODEL)
    async with open_service(settings, stored=False) as service:
        await service.start()
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://reid") as http:
            answer = (await http.post("/v1/evaluate", json={"folder": str(tmp_path / "set")}, timeout=60)).json()
    report = answer["protocols"]["instance"]
    stripes = score(list(draw_dataset(UNSEEN)), stripe_vectors)
    assert stripes.ranks[1] is not None
    assert report["rank1"] > 0.85
    assert report["rank1"] > stripes.ranks[1] + 0.2
    assert report["mAP"] > 0.75


def instance(query: Labelled, gallery: Labelled) -> Report:
    return evaluate(query, gallery, ["instance"])["instance"].report


def test_with_permuted_labels_it_would_fall_to_chance() -> None:
    # The score measures labels, not luck: the best possible vectors under shuffled labels.
    rng = np.random.default_rng(0)
    persons = np.repeat(np.arange(30), 4)
    vectors = np.eye(30, dtype=np.float32)[persons]
    cameras = np.tile(np.arange(4), 30)
    honest = instance(Labelled(vectors, persons, cameras), Labelled(vectors, persons, cameras))
    shuffled = Labelled(vectors, rng.permutation(persons), cameras)
    chance = instance(Labelled(vectors, persons, cameras), shuffled)
    assert honest.mAP == 1.0
    assert chance.mAP is not None
    assert chance.mAP < 0.2


def test_the_shipped_directory_is_whole_and_says_what_it_is() -> None:
    manifest = ModelDirectory.open(DEMO_MODEL).manifest
    assert manifest.label == "demo model, trained on drawn people, not for real use"
    assert (manifest.width, manifest.dim) == (16, 512)
    assert sum(file.size_bytes for file in manifest.files()) < 8_000_000
