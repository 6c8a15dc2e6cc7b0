"""The service on a pretended Atlas host: the same answers, every chip shown, and a loss that is told and mended."""

import asyncio
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest

from app.adapters.model_directory import sha256_of
from app.api import create_app
from app.core.manifest import MANIFEST_FILE, parse_manifest
from app.errors import BadDevice, BadSettings
from app.service import Service
from app.settings import Settings
from app.wiring import open_service
from tests.standins import om

pytestmark = pytest.mark.anyio
Draw = Callable[[int], bytes]
Pretend = Callable[..., None]


@pytest.fixture
def on_npu(settings: Settings, om_model_directory: Path) -> Callable[..., Settings]:
    """Settings for the OM variant, changed as given."""

    def change(**given: Any) -> Settings:
        wanted = {
            "model_dir": om_model_directory,
            "variant": "om-fp16",
            "devices": ("ascend:0",),
            "batch_sizes": (1, 4),
        }
        return settings.model_copy(update=wanted | given)

    return change


def opened(settings: Settings) -> AbstractAsyncContextManager[Service]:
    return open_service(settings, stored=False)


def client(service: Service) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(service))
    return httpx.AsyncClient(transport=transport, base_url="http://reid")


async def fill_and_ask(settings: Settings, picture: Draw) -> list[dict[str, Any]]:
    """Twelve items, then five searches: the matches of all."""
    async with opened(settings) as service, client(service) as http:
        await service.start()
        await http.put("/v1/collections/lobby")
        for start in (0, 6):
            files = [("image", picture(number)) for number in range(start, start + 6)]
            assert (await http.post("/v1/collections/lobby/items", files=files)).status_code == 200
        found = []
        for number in range(5):
            answer = await http.post("/v1/collections/lobby/search?k=3", files=[("image", picture(number))])
            found += answer.json()["matches"]
        return found


@pytest.mark.parametrize("variant", ["om-fp16", "om-fp16-aipp"])
async def test_searches_answer_as_on_the_cpu_within_float16(
    variant: str, settings: Settings, on_npu: Callable[..., Settings], atlas_host: Pretend, picture: Draw
) -> None:
    atlas_host()
    npu = await fill_and_ask(on_npu(variant=variant, devices=("ascend:0", "ascend:1")), picture)
    cpu = await fill_and_ask(settings, picture)
    assert [match["id"] for match in npu if match["rank"] == 1] == [match["id"] for match in cpu if match["rank"] == 1]
    assert [match["score"] for match in npu] == pytest.approx([match["score"] for match in cpu], abs=2e-3)


async def test_each_chip_is_shown_with_what_it_proved(on_npu: Callable[..., Settings], atlas_host: Pretend) -> None:
    atlas_host()
    async with opened(on_npu(devices=("ascend:0", "ascend:1"))) as service, client(service) as http:
        await service.start()
        assert (await http.get("/readyz")).status_code == 200
        devices = (await http.get("/v1/stats")).json()["devices"]
        assert set(devices) == {"ascend:0", "ascend:1"}
        for device in devices.values():
            assert device["state"] == "ready"
            assert set(device["batch_ms"]) == {"1", "4"}
            assert 0.999 < device["golden_cosine"] < 1
        assert (await http.get("/v1/model")).json()["fingerprint"].startswith("om-fp16-")


async def test_a_chip_that_fails_is_told_everywhere_and_comes_back(
    on_npu: Callable[..., Settings], atlas_host: Pretend, picture: Draw, tmp_path: Path
) -> None:
    # Before the first request each of two batch sizes runs five times at most, and ten runs take the golden crops through.
    once = {"at": "execute", "code": 507015, "nth": 40, "marker": str(tmp_path / "it happened")}
    atlas_host(acl={"faults": [once]})
    async with opened(on_npu()) as service, client(service) as http:
        await service.start()

        async def embed() -> httpx.Response:
            return await http.post("/v1/embeddings", files=[("image", picture(1))])

        answer = await embed()
        while answer.status_code == 200:
            answer = await embed()
        assert (answer.status_code, answer.json()["code"]) == (503, "device_failed")
        assert "[507015] an AI core raised an exception" in answer.json()["detail"]
        down = await http.get("/readyz")
        assert (down.status_code, down.json()["state"]) == (503, "down")
        assert "507015" in down.json()["devices"]["ascend:0"]["detail"]
        assert 'reid_device_ready{device="ascend:0"} 0.0' in (await http.get("/metrics")).text
        async with asyncio.timeout(30):
            while not service.readiness.ready:
                await asyncio.sleep(0.05)
        assert (await embed()).status_code == 200
        assert (await http.get("/v1/stats")).json()["devices"]["ascend:0"]["restarts"] == 1
        assert 'reid_device_restarts{device="ascend:0"} 1.0' in (await http.get("/metrics")).text


async def test_wrong_vectors_keep_the_chip_from_serving_with_the_figure(
    on_npu: Callable[..., Settings], atlas_host: Pretend
) -> None:
    atlas_host(acl={"compute": "made-up"})
    async with opened(on_npu()) as service, client(service) as http:
        await service.start()
        answer = (await http.get("/readyz")).json()
        assert (answer["ready"], answer["state"]) == (False, "failed")
        assert re.search(r"at batch size 1 .* cosine -?0\.\d{4}, at least 0\.999 is needed", answer["detail"])


async def test_an_om_of_one_batch_size_that_gives_other_vectors_is_found(
    on_npu: Callable[..., Settings], atlas_host: Pretend, om_model_directory: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(om_model_directory, tmp_path / "model")
    miscompile(model, "model_bs4.om")
    atlas_host()
    async with opened(on_npu(model_dir=model)) as service:
        await service.start()
        assert service.readiness.state == "failed"
        assert "the golden crops' vectors at batch size 4 differ" in service.readiness.sentence


def miscompile(model: Path, file: str) -> None:
    """Put other weights into an OM, and its honest hash into the manifest."""
    header, graph = om.read(model / file)
    network = onnx.load_from_string(graph)
    for weights in network.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.ndim == 4:  # the filters of a convolution
            weights.CopyFrom(onnx.numpy_helper.from_array(values[::-1].copy(), weights.name))
    om.write(model / file, header, network.SerializeToString())
    described = parse_manifest((model / MANIFEST_FILE).read_text())
    honest = {"sha256": sha256_of(model / file), "size_bytes": (model / file).stat().st_size}
    artefacts = tuple(a.model_copy(update=honest) if a.file == file else a for a in described.artefacts)
    (model / MANIFEST_FILE).write_text(described.model_copy(update={"artefacts": artefacts}).to_json())


async def test_without_an_npu_nothing_falls_back_and_the_way_to_the_cpu_is_told(
    on_npu: Callable[..., Settings], atlas_host: Pretend
) -> None:
    atlas_host(acl={"faults": [{"at": "import"}]})
    with pytest.raises(BadDevice, match="to run on the CPU instead, set REID_VARIANT=onnx-fp32"):
        async with opened(on_npu()):
            pass


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"devices": ("cpu",)},
            "variant 'om-fp16' runs on ascend, not on cpu; variants for other devices here: onnx-fp32",
        ),
        ({"variant": "onnx-fp32"}, "variant 'onnx-fp32' runs on cpu, not on ascend:0"),
        ({"batch_sizes": (3,)}, "no OM for batch size 3; there are 1, 2, 4, 8"),
    ],
)
async def test_variant_and_device_that_do_not_go_together_are_refused(
    given: dict[str, Any], sentence: str, on_npu: Callable[..., Settings], atlas_host: Pretend
) -> None:
    atlas_host()
    with pytest.raises(BadSettings, match=sentence):
        async with opened(on_npu(**given)):
            pass


async def test_an_om_variant_takes_the_first_chip_by_itself(
    on_npu: Callable[..., Settings], atlas_host: Pretend
) -> None:
    atlas_host()
    async with opened(on_npu(devices=())) as service:
        assert [lane.name for lane in service.engine.lanes] == ["ascend:0"]


async def test_one_chip_of_two_is_enough_to_serve(
    on_npu: Callable[..., Settings], atlas_host: Pretend, picture: Draw
) -> None:
    atlas_host(acl={"faults": [{"at": "open", "code": 507033, "nth": 0, "device": 1}]})
    async with opened(on_npu(devices=("ascend:0", "ascend:1"))) as service, client(service) as http:
        await service.start()
        ready = await http.get("/readyz")
        assert ready.status_code == 200
        assert "507033" in ready.json()["devices"]["ascend:1"]["detail"]
        assert (await http.post("/v1/embeddings", files=[("image", picture(1))])).status_code == 200
