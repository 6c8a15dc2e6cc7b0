"""A faster variant as it serves: proven by its own golden vectors, telling what it costs, and kept apart from fp32's galleries."""

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.adapters.model_directory import ModelDirectory, sha256_of
from app.api import create_app
from app.core.manifest import GOLDEN_COSINE, MANIFEST_FILE
from app.errors import BadModelDirectory, BadSettings
from app.service import Service
from app.settings import Settings
from app.wiring import devices, open_service

pytestmark = pytest.mark.anyio
Draw = Callable[[int], bytes]


@pytest.fixture
def fast(fast_model_directory: Path, settings: Settings) -> Settings:
    return settings.model_copy(update={"model_dir": fast_model_directory, "variant": "onnx-int8"})


def client(service: Service) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(service)), base_url="http://reid")


@pytest.mark.parametrize("variant", ["onnx-int8", "openvino-fp32"])
async def test_the_variant_of_the_setting_serves_and_tells_how_it_agrees_with_fp32(
    variant: str, fast: Settings, picture: Draw
) -> None:
    chosen = fast.model_copy(update={"variant": variant})
    described = ModelDirectory.open(fast.model_dir).manifest.variant(variant)
    async with open_service(chosen) as service, client(service) as http:
        await service.start()
        assert service.readiness.ready, service.readiness.sentence
        model = (await http.get("/v1/model")).json()
        answer = await http.post("/v1/embeddings", files=[("image", picture(1))])
    assert answer.status_code == 200
    assert (model["variant"], model["fingerprint"]) == (variant, described.fingerprint)
    assert (model["precision"], model["runtime"]) == (described.precision, described.runtime)
    assert described.agreement is not None
    assert model["agreement"] == described.agreement.model_dump(mode="json")
    assert (model["quantized"] is None) == (variant != "onnx-int8")


async def test_fp32_tells_no_agreement_with_itself(fast: Settings) -> None:
    async with open_service(fast.model_copy(update={"variant": "onnx-fp32"})) as service, client(service) as http:
        assert (await http.get("/v1/model")).json()["agreement"] is None


async def test_a_collection_stays_with_the_variant_that_made_it(fast: Settings, picture: Draw) -> None:
    async with open_service(fast.model_copy(update={"variant": "onnx-fp32"})) as service, client(service) as http:
        await service.start()
        await http.put("/v1/collections/lobby")
        await http.post("/v1/collections/lobby/items", files=[("image", picture(1))])
    async with open_service(fast) as service, client(service) as http:
        await service.start()
        refused = await http.post("/v1/collections/lobby/search", files=[("image", picture(1))])
        assert (refused.status_code, refused.json()["code"]) == (409, "fingerprint_mismatch")
        refused = await http.post("/v1/collections/lobby/items", files=[("image", picture(2))])
        assert (refused.status_code, refused.json()["code"]) == (409, "fingerprint_mismatch")
        assert (await http.put("/v1/collections/hall")).json()["fingerprint"].startswith("onnx-int8-")


async def test_int8_would_not_pass_for_fp32_and_passes_for_itself(fast: Settings) -> None:
    directory = ModelDirectory.open(fast.model_dir)
    assert directory.manifest.verification["onnx-int8"].cosine_min < GOLDEN_COSINE
    async with open_service(fast) as service:
        await service.start()
        assert service.readiness.golden_cosine is not None
        assert service.readiness.golden_cosine > 0.9999


async def test_a_machine_on_which_int8_comes_out_otherwise_does_not_serve(fast: Settings, tmp_path: Path) -> None:
    # As on a CPU whose eight-bit sums saturate: there the graph's vectors are not those that were measured. Here the golden
    # vectors are moved instead, by 3 degrees each: cos 3 = 0.99863.
    path = shutil.copytree(fast.model_dir, tmp_path / "copy")
    with np.load(path / "golden_int8.npz") as arrays:
        vectors = arrays["vectors"]
    aside = np.roll(vectors, 1, axis=1)
    aside -= vectors * (aside * vectors).sum(1, keepdims=True) / (vectors * vectors).sum(1, keepdims=True)
    aside *= np.linalg.norm(vectors, axis=1, keepdims=True) / np.linalg.norm(aside, axis=1, keepdims=True)
    turned = vectors * np.cos(np.deg2rad(3)) + aside * np.sin(np.deg2rad(3))
    np.savez(path / "golden_int8.npz", vectors=turned.astype(np.float32))
    described = ModelDirectory.open(fast.model_dir).manifest
    fact = described.variant("onnx-int8")
    assert fact.golden is not None
    own = path / "golden_int8.npz"
    honest = fact.golden.model_copy(update={"sha256": sha256_of(own), "size_bytes": own.stat().st_size})
    variants = {**described.variants, "onnx-int8": fact.model_copy(update={"golden": honest})}
    (path / MANIFEST_FILE).write_text(described.model_copy(update={"variants": variants}).to_json())
    async with open_service(fast.model_copy(update={"model_dir": path})) as service:
        await service.start()
        assert not service.readiness.ready
        assert "differ from the model directory's: cosine 0.9986, at least 0.999" in service.readiness.sentence


async def test_golden_vectors_of_a_variant_are_checked_by_their_hash(fast: Settings, tmp_path: Path) -> None:
    path = shutil.copytree(fast.model_dir, tmp_path / "copy")
    (path / "golden_int8.npz").write_bytes(b"x" * (path / "golden_int8.npz").stat().st_size)
    with pytest.raises(BadModelDirectory, match=r"golden_int8\.npz is damaged"):
        ModelDirectory.open(path)


def test_a_variant_for_a_cpu_does_not_run_on_an_npu(fast: Settings) -> None:
    directory = ModelDirectory.open(fast.model_dir)
    chosen = fast.model_copy(update={"variant": "openvino-fp32", "devices": ("ascend:0",)})
    with pytest.raises(BadSettings) as refusal:
        devices(directory, chosen)
    said = "variant 'openvino-fp32' runs on cpu, not on ascend:0; variants for other devices here: none"
    assert str(refusal.value) == said
