"""The typed client against a real service: each call, and what a server's refusal becomes."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.api import create_app
from app.client import Client, CropFile, VectorFile
from app.demo.dataset import Recipe, draw_dataset
from app.errors import BadField, BadSettings, ServerRefused, ServerUnreachable
from app.settings import Settings
from app.wiring import open_service
from tests.streams import chunked, tar_of

pytestmark = pytest.mark.anyio
JPEGS = [crop.jpeg for crop in draw_dataset(Recipe(seed=2, persons=2, distractors=0, cameras=2))]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client(tiny_model_directory: Path, tmp_path: Path) -> AsyncIterator[Client]:
    settings = Settings(model_dir=tiny_model_directory, data_dir=tmp_path, data_roots=(tmp_path,), threads=1)
    async with open_service(settings) as service:
        await service.start()
        async with Client("http://reid", httpx.ASGITransport(create_app(service))) as opened:
            yield opened


async def test_a_crop_goes_in_and_is_found(client: Client) -> None:
    await client.put_collection("a-b", keep_crops=True)
    results = await client.add(
        "a-b", [CropFile(f"{i}.jpg", jpeg, {"person_id": str(i)}) for i, jpeg in enumerate(JPEGS)]
    )
    assert [result["status"] for result in results] == ["added"] * len(JPEGS)
    answer = await client.search("a-b", JPEGS[1], k=1, camera_id=None)
    assert answer["matches"][0]["person_id"] == "1"
    many = await client.search_many("a-b", [("x.jpg", JPEGS[0]), ("y.jpg", JPEGS[2])], k=1)
    assert [r["matches"][0]["person_id"] for r in many["results"]] == ["0", "2"]
    one = await client.search_together("a-b", [("x.jpg", JPEGS[0]), ("y.jpg", b"no")], by="person", k=1)
    assert one["persons"][0]["person_id"] == "0"
    assert [crop["name"] for crop in one["refused"]] == ["y.jpg"]
    same = await client.verify([("x.jpg", JPEGS[1])], collection="a-b", item_id=results[1]["id"])
    assert same["score"] == pytest.approx(1, abs=1e-5)


async def test_vectors_come_as_bytes(client: Client) -> None:
    unit, norms, answer = await client.embed([("x.jpg", jpeg) for jpeg in JPEGS[:2]])
    vectors = np.frombuffer(unit, dtype="<f4").reshape(2, answer["dim"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert len(norms) == 2 * 4


async def test_vectors_made_elsewhere_go_in_and_are_found(client: Client) -> None:
    unit, norms, _ = await client.embed([("x.jpg", jpeg) for jpeg in JPEGS[:2]])
    raw = np.frombuffer(unit, dtype="<f4").reshape(2, -1) * np.frombuffer(norms, dtype="<f4")[:, None]
    model = await client.model()
    await client.put_collection("bench")
    files = [VectorFile(f"{i}.jpg", row.tobytes(), {"person_id": str(i)}) for i, row in enumerate(raw)]
    results = await client.add_vectors("bench", model["fingerprint"], files)
    assert [(result["name"], result["status"]) for result in results] == [("0.jpg", "added"), ("1.jpg", "added")]
    answer = await client.search("bench", JPEGS[1], k=1)
    assert (answer["matches"][0]["person_id"], answer["matches"][0]["source"]) == ("1", "1.jpg")
    with pytest.raises(ServerRefused, match=r"of model another, the loaded model is onnx-fp32-"):
        await client.add_vectors("bench", "another", files)


async def test_a_stream_gives_a_result_for_each_crop_and_raises_where_it_broke_off(client: Client) -> None:
    await client.put_collection("tar")
    whole = tar_of({f"000{i}_c{i}_f1.jpg": jpeg for i, jpeg in enumerate(JPEGS[:3])})
    results = [row async for row in client.stream("tar", chunked(whole), "application/x-tar", pattern="duke")]
    assert [(row["name"], row["status"]) for row in results] == [(f"000{i}_c{i}_f1.jpg", "added") for i in range(3)]
    cut = whole[: whole.index(JPEGS[2]) + 100]
    before = client.stream("tar", chunked(cut), "application/x-tar", pattern="duke")
    assert [(await anext(before))["status"] for _ in range(2)] == ["unchanged"] * 2
    with pytest.raises(ServerRefused, match="cut short") as refusal:
        await anext(before)
    assert refusal.value.answered == 422
    with pytest.raises(ServerRefused, match="no collection"):
        await anext(client.stream("nowhere", chunked(whole), "application/x-tar"))


async def test_crops_are_streamed_in_pieces_and_their_results_keep_the_order(client: Client) -> None:
    await client.put_collection("many")

    async def crops() -> AsyncIterator[CropFile]:
        for i in range(150):  # more than two pieces; the bytes behind the picture make each another content
            yield CropFile(f"{i}.jpg", JPEGS[0] + i.to_bytes(4, "big"), {"person_id": str(i)})

    results = [row async for row in client.add_stream("many", crops(), camera_id="7")]
    assert [(row["name"], row["status"]) for row in results] == [(f"{i}.jpg", "added") for i in range(150)]
    (match,) = (await client.search("many", JPEGS[0], k=1))["matches"]
    assert match["camera_id"] == "7"


async def test_a_refusal_carries_the_servers_sentence_and_status(client: Client) -> None:
    with pytest.raises(ServerRefused, match="there is no collection 'nowhere'") as refusal:
        await client.search("nowhere", JPEGS[0])
    assert refusal.value.answered == 404
    with pytest.raises(ServerRefused, match="REID_DATA_ROOTS"):
        await client.evaluate({"folder": "/"})


async def test_names_cannot_become_other_routes(client: Client) -> None:
    for name in ("a?b", "a#b", "a/items", "..", "a\nb"):
        with pytest.raises(ServerRefused) as refusal:
            await client.put_collection(name)
        assert refusal.value.answered in (404, 405, 422)
    with pytest.raises(BadField, match="empty"):
        await client.put_collection("")


async def test_an_overloaded_server_is_asked_again_when_it_says() -> None:
    answers = iter(
        [httpx.Response(429, headers={"retry-after": "0"}, json={"detail": "full"}), httpx.Response(200, json={"a": 1})]
    )
    async with Client("http://reid", httpx.MockTransport(lambda _: next(answers))) as client:
        assert await client.evaluate({"folder": "x"}) == {"a": 1}


async def test_what_is_no_server_of_ours_is_told_in_a_sentence() -> None:
    async with Client("http://reid", httpx.MockTransport(lambda _: httpx.Response(200, text="<html>"))) as client:
        with pytest.raises(ServerRefused, match="not this service"):
            await client.evaluate({"folder": "x"})
    async with Client("http://127.0.0.1:9") as client:
        with pytest.raises(ServerUnreachable, match="no answer from"):
            await client.evaluate({"folder": "x"})
    with pytest.raises(BadSettings, match="no address"):
        Client("http://[::1")
