"""Readiness that is true, metrics, documentation without the internet, and faults that tell the client nothing."""

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.adapters.memory import MemoryEmbedder, MemoryStore
from app.adapters.model_directory import ModelDirectory
from app.api import create_app
from app.api.examples import EXAMPLES
from app.core.records import Collection
from app.engine import Device
from app.errors import StorageFailed
from app.ports import Crops, Floats
from app.service import Service
from app.settings import Settings
from app.wiring import build_service, devices, open_service

pytestmark = pytest.mark.anyio
Draw = Callable[[int], bytes]


def client(service: Service) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(service))
    return httpx.AsyncClient(transport=transport, base_url="http://reid")


async def test_ready_only_after_warm_up_and_golden_check(settings: Settings, picture: Draw) -> None:
    async with open_service(settings) as service, client(service) as http:
        assert (await http.get("/livez")).status_code == 200
        before = await http.get("/readyz")
        assert (before.status_code, before.json()["state"]) == (503, "starting")
        refused = await http.post("/v1/embeddings", files=[("image", picture(1))])
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        await service.start()
        after = await http.get("/readyz")
        assert after.status_code == 200
        assert after.json()["golden_cosine"] > 0.999999
        device = (await http.get("/v1/stats")).json()["devices"]["cpu"]
        assert set(device["batch_ms"]) == {"1", "2", "4", "8"}
        assert (device["state"], device["restarts"]) == ("ready", 0)
    async with client(service) as http:
        assert (await http.get("/readyz")).json()["state"] == "stopping"


async def test_wrong_golden_vectors_keep_the_service_from_being_ready(settings: Settings) -> None:
    directory = ModelDirectory.open(settings.model_dir)
    wrong = Device("cpu", lambda: WrongModel(directory.manifest.dim))
    service = build_service(directory, [wrong], MemoryStore(), settings)
    await service.start()
    async with client(service) as http:
        answer = await http.get("/readyz")
        assert answer.status_code == 503
        assert re.search(r"cosine -?0\.\d{4}, at least 0\.999 is needed", answer.json()["detail"])
    await service.close()


class WrongModel(MemoryEmbedder):
    """An embedder of the right width that gives other vectors: what a wrong channel order would be."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self._width = dim

    @property
    def dim(self) -> int:
        return self._width

    def embed(self, crops: Crops) -> Floats:
        return np.resize(super().embed(crops), (len(crops), self._width)).astype(np.float32)


class FullDisk(MemoryStore):
    """A store whose disk is full."""

    def upsert(self, *_: object, **__: object) -> list[str]:  # type: ignore[override]  # refuses whatever it is given
        raise StorageFailed("the disk is full; nothing of this request was stored")


class Faulty(MemoryStore):
    """A store with a mistake in it."""

    def collections(self) -> list[Collection]:
        raise RuntimeError("secret path /home/someone")


async def served(settings: Settings, store: MemoryStore) -> Service:
    directory = ModelDirectory.open(settings.model_dir)
    service = build_service(directory, devices(directory, settings), store, settings)
    await service.engine.start()
    return service


async def test_a_full_disk_is_a_clear_error_and_nothing_is_half_done(settings: Settings, picture: Draw) -> None:
    service = await served(settings, FullDisk())
    async with client(service) as http:
        await http.put("/v1/collections/lobby")
        files = [("image", picture(i)) for i in range(3)]
        answer = await http.post("/v1/collections/lobby/items", files=files)
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_failed")
        assert "disk is full" in answer.json()["detail"]
        lines = await http.post("/v1/collections/lobby/items", files=files, headers={"accept": "application/x-ndjson"})
        assert (lines.status_code, lines.json()["code"]) == (503, "storage_failed")  # no line was sent yet
        assert (await http.get("/v1/collections/lobby")).json()["items"] == 0
    await service.close()


async def test_a_fault_of_ours_tells_the_client_an_id_and_nothing_else(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    service = await served(settings, Faulty())
    async with client(service) as http:
        answer = await http.get("/v1/collections", headers={"x-request-id": "abc-1"})
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "abc-1"
    assert "secret" not in answer.text
    assert "secret path" in caplog.text
    await service.close()


async def test_metrics_count_requests_batches_stages_and_the_gallery(http: httpx.AsyncClient, picture: Draw) -> None:
    await http.put("/v1/collections/lobby")
    await http.post("/v1/collections/lobby/items", files=[("image", picture(i)) for i in range(3)])
    await http.post("/v1/collections/lobby/search", files=[("image", picture(1))])
    await http.get("/no/such/path/0005_c2.jpg")
    text = (await http.get("/metrics")).text
    assert 'reid_requests_total{route="POST /v1/collections/{collection}/search",status="200"} 1.0' in text
    assert 'reid_gallery_items{collection="lobby"} 3.0' in text
    assert 'reid_queue_crops{class="interactive"} 0.0' in text
    assert 'reid_device_hanging{device="cpu"} 0.0' in text
    assert "reid_ready 1.0" in text
    assert 'reid_device_ready{device="cpu"} 1.0' in text
    assert 'reid_device_restarts{device="cpu"} 0.0' in text
    assert 'reid_stage_seconds_count{stage="infer"} 1.0' in text
    assert 'reid_stage_seconds_count{stage="commit"} 1.0' in text
    assert re.search(r"reid_batch_crops_sum 4\.0", text)
    assert "0005_c2" not in text  # a path nobody serves makes no label


async def test_probes_that_are_content_do_not_fill_the_log(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "reid.access")
    for path in ("/livez", "/readyz", "/metrics", "/v1/model"):
        await http.get(path)
    assert [record.args[1] for record in caplog.records if isinstance(record.args, tuple)] == ["/v1/model"]


async def test_every_answer_says_where_its_time_went_and_carries_an_id(http: httpx.AsyncClient, picture: Draw) -> None:
    answer = await http.post("/v1/embeddings", files=[("image", picture(1))])
    parts = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"]))
    assert list(parts) == ["decode", "queue", "infer", "other", "total"]
    total, *stages = (float(ms) for ms in reversed(parts.values()))
    assert sum(stages) == pytest.approx(total, abs=0.03)  # each is rounded to a hundredth
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
    odd = await http.get("/livez", headers={"x-request-id": "a b\tc"})
    assert re.fullmatch(r"[0-9a-f]{32}", odd.headers["x-request-id"])


async def test_the_documentation_and_the_page_ask_nobody_else(http: httpx.AsyncClient) -> None:
    for path in ("/docs", "/", "/web/page.js", "/web/page.css"):
        answer = await http.get(path)
        assert answer.status_code == 200
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", answer.text), path
    assert (await http.get("/docs/static/swagger-ui-bundle.js")).status_code == 200


async def test_the_schema_resolves_and_has_examples(http: httpx.AsyncClient) -> None:
    schema = (await http.get("/openapi.json")).json()
    names = set(re.findall(r"#/components/schemas/(\w+)", (await http.get("/openapi.json")).text))
    assert names <= set(schema["components"]["schemas"])
    for model, example in EXAMPLES.items():
        model.model_validate(example)
        assert schema["components"]["schemas"][model.__name__]["examples"] == [example]
    assert "HTTPValidationError" not in str(schema)  # the framework's form of a 422, which is never sent


async def test_the_model_route_says_what_is_loaded(
    http: httpx.AsyncClient, service: Service, settings: Settings
) -> None:
    model = (await http.get("/v1/model")).json()
    assert model["fingerprint"] == service.model.fingerprint
    assert model["label"] == ModelDirectory.open(settings.model_dir).manifest.label
    assert model["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert model["verification"]["onnx-fp32"]["relative_difference"] <= 1e-4


async def test_a_gallery_answers_after_a_restart_as_before(settings: Settings, picture: Draw, tmp_path: Path) -> None:
    async def ask(http: httpx.AsyncClient) -> object:
        answer = await http.post("/v1/collections/lobby/search", files=[("image", picture(3))])
        return answer.json()["matches"]

    async with open_service(settings) as service, client(service) as http:
        await service.start()
        await http.put("/v1/collections/lobby")
        await http.post("/v1/collections/lobby/items", files=[("image", picture(i)) for i in range(6)])
        before = await ask(http)
    async with open_service(settings) as service, client(service) as http:
        await service.start()
        assert await ask(http) == before
