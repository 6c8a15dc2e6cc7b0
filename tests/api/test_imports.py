"""Imports as jobs, export and import of a whole collection, and kept crops for a new model."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.core.records import Filter
from app.service import Service
from app.settings import Settings

pytestmark = pytest.mark.anyio
LOBBY, HALL = "/v1/collections/lobby", "/v1/collections/hall"
Picture = Callable[[int], bytes]


def folder_of(settings: Settings, picture: Picture, *names: str) -> Path:
    folder = settings.data_roots[0] / "crops"
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(picture(number))
    return folder


async def done(http: httpx.AsyncClient, path: str, body: Any) -> dict[str, Any]:
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["result"]
    return result


async def test_a_folder_is_imported_and_again_without_the_model(
    http: httpx.AsyncClient, service: Service, settings: Settings, picture: Picture
) -> None:
    folder = folder_of(settings, picture, "0005_c2_f1.png", "0006_c1_f1.png", "somebody.png", "below/0007_c1_f1.png")
    (folder / "0008_c1_f1.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("not a crop")
    await http.put(LOBBY)
    result = await done(http, f"{LOBBY}/imports", {"folder": str(folder)})
    assert result["results"] == {"added": 3, "unchanged": 0, "updated": 0, "refused": 1}
    assert (result["labelled"], result["unlabelled"], result["skipped"]) == (3, 1, 1)
    assert [refusal["name"] for refusal in result["refused"]] == ["0008_c1_f1.jpg"]
    assert (await http.get(f"{LOBBY}/persons/0005")).json()["cameras"] == ["2"]

    embedded = embeddings(await http.get("/metrics"))
    again = await done(http, f"{LOBBY}/imports", {"folder": str(folder), "recursive": True})
    assert again["results"] == {"added": 1, "unchanged": 3, "updated": 0, "refused": 1}
    assert embeddings(await http.get("/metrics")) == embedded + 1


def embeddings(metrics: httpx.Response) -> float:
    """Crops that went through the model."""
    return sum(float(line.split()[-1]) for line in metrics.text.splitlines() if line.startswith("reid_batch_crops_sum"))


async def test_what_cannot_be_imported_is_refused_before_a_job_is_made(
    http: httpx.AsyncClient, settings: Settings
) -> None:
    root = settings.data_roots[0]
    await http.put(LOBBY)
    wishes: list[tuple[dict[str, Any], int]] = [
        ({"folder": "/etc"}, 403),
        ({"folder": str(root / "nowhere")}, 422),
        ({"archive": str(root / "nowhere.tar")}, 422),
        ({"folder": str(root), "archive": str(root)}, 422),
        ({}, 422),
        ({"folder": str(root), "pattern": "("}, 422),
        ({"folder": str(root) + "\0"}, 422),
    ]
    for wish, status in wishes:
        assert (await http.post(f"{LOBBY}/imports", json=wish)).status_code == status, wish
    assert (await http.post("/v1/collections/none/imports", json={"folder": str(root)})).status_code == 404
    assert (await http.get("/v1/jobs")).json()["jobs"] == []
    empty = await http.post(f"{LOBBY}/imports", json={"folder": str(root)})
    assert (empty.status_code, empty.json()["code"]) == (422, "bad_input")


async def exported(http: httpx.AsyncClient, path: str, to: Path) -> tarfile.TarFile:
    answer = await http.get(f"{path}/export")
    assert answer.status_code == 200, answer.text
    to.write_bytes(answer.content)
    return tarfile.open(fileobj=io.BytesIO(answer.content))


async def test_a_collection_comes_back_as_it_was(
    http: httpx.AsyncClient, service: Service, settings: Settings, picture: Picture
) -> None:
    folder = folder_of(settings, picture, "0005_c2_f1.png", "0006_c1_f1.png", "somebody.png")
    await http.put(LOBBY, json={"keep_crops": True})
    await done(http, f"{LOBBY}/imports", {"folder": str(folder)})
    file = settings.data_roots[0] / "lobby.tar"
    with await exported(http, LOBBY, file) as archive:
        names = archive.getnames()
    assert names[:2] == ["reid-collection.json", "00000/items.ndjson"]
    result = await done(http, f"{HALL}/imports", {"archive": str(file)})
    assert result["results"] == {"added": 3, "unchanged": 0, "updated": 0}
    store, ids = service.store, [item.id for item in service.store.scan("lobby", Filter())]
    assert store.get("hall", ids) == store.get("lobby", ids)
    assert store.collection("hall").keep_crops
    for ours, theirs in zip(store.vectors("hall", ids), store.vectors("lobby", ids), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    for item_id in ids:
        np.testing.assert_array_equal(store.crop("hall", item_id), store.crop("lobby", item_id))
    again = await done(http, f"{HALL}/imports", {"archive": str(file)})
    assert again["results"] == {"added": 0, "unchanged": 3, "updated": 0}


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda whole: whole[:1500], "cut short"),
        (lambda whole: whole[: whole.index(b"00000/vectors.npy")], "damaged"),
        (lambda whole: b"no archive at all" * 100, "damaged"),
        (lambda whole: whole.replace(b'"format": 1', b'"format": 7'), "format 7"),
        (lambda whole: whole[1024:], "no exported collection"),
    ],
)
async def test_a_damaged_archive_is_refused_with_a_sentence(
    http: httpx.AsyncClient,
    settings: Settings,
    picture: Picture,
    damage: Callable[[bytes], bytes],
    sentence: str,
) -> None:
    folder = folder_of(settings, picture, "0005_c2_f1.png")
    await http.put(LOBBY)
    await done(http, f"{LOBBY}/imports", {"folder": str(folder)})
    file = settings.data_roots[0] / "lobby.tar"
    await exported(http, LOBBY, file)
    file.write_bytes(damage(file.read_bytes()))
    answer = await http.post(f"{HALL}/imports", json={"archive": str(file)})
    assert (answer.status_code, sentence in answer.json()["detail"]) == (422, True), answer.text


async def test_vectors_of_another_model_are_not_imported(
    http: httpx.AsyncClient, settings: Settings, picture: Picture
) -> None:
    folder = folder_of(settings, picture, "0005_c2_f1.png")
    await http.put(LOBBY)
    await done(http, f"{LOBBY}/imports", {"folder": str(folder)})
    file = settings.data_roots[0] / "lobby.tar"
    await exported(http, LOBBY, file)
    whole = file.read_bytes()
    at = whole.index(b'"fingerprint": "') + 16
    file.write_bytes(whole[:at] + b"ANNX" + whole[at + 4 :])
    answer = await http.post(f"{HALL}/imports", json={"archive": str(file)})
    assert (answer.status_code, answer.json()["code"]) == (409, "fingerprint_mismatch")


async def test_kept_crops_become_a_new_collection_and_the_old_one_stays(
    http: httpx.AsyncClient, service: Service, settings: Settings, picture: Picture
) -> None:
    folder = folder_of(settings, picture, "0005_c2_f1.png", "0006_c1_f1.png")
    await http.put(LOBBY, json={"keep_crops": True, "keep_days": 30})
    await done(http, f"{LOBBY}/imports", {"folder": str(folder)})
    result = await done(http, f"{LOBBY}/reembed", {"into": "lobby-2"})
    assert result == {"collection": "lobby", "into": "lobby-2", "items": 2, "without_crop": 0, "lacking": []}
    store, ids = service.store, [item.id for item in service.store.scan("lobby", Filter())]
    assert store.get("lobby-2", ids) == store.get("lobby", ids)
    np.testing.assert_allclose(store.vectors("lobby-2", ids)[0], store.vectors("lobby", ids)[0], atol=1e-5)
    assert (store.collection("lobby-2").keep_crops, store.collection("lobby-2").retention.keep_days) == (True, 30)
    assert store.calibrations.calibration("lobby-2", "item") is None  # as little as the old one


async def test_what_a_calibrated_collection_becomes_is_calibrated_too(
    http: httpx.AsyncClient, service: Service, settings: Settings, picture: Picture
) -> None:
    folder = folder_of(settings, picture, "0005_c2_f1.png", "0006_c1_f1.png")
    await http.put(LOBBY, json={"keep_crops": True})
    await done(http, f"{LOBBY}/imports", {"folder": str(folder)})
    await http.post(f"{LOBBY}/calibration", json={"fpir": 0.05})
    await done(http, f"{LOBBY}/reembed", {"into": "lobby-2"})
    learnt = (await http.get("/v1/collections/lobby-2/calibration")).json()["calibrations"]["item"]
    assert (learnt["fpir"], learnt["items"]) == (0.05, 2)  # two persons are too few, and it says so
    assert "at least" in learnt["refused"]


async def test_without_kept_crops_the_refusal_says_what_to_do(http: httpx.AsyncClient) -> None:
    await http.put(LOBBY)
    refused = await http.post(f"{LOBBY}/reembed", json={"into": "lobby-2"})
    assert refused.status_code == 409
    assert "keeps no crops" in refused.json()["detail"]
    assert "import their pictures" in refused.json()["detail"]
