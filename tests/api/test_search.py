"""The main job over HTTP: crops go in, the right person comes out."""

import base64
import io
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from PIL import Image

from app.core.preprocess import decode
from app.service import Service

pytestmark = pytest.mark.anyio
Draw = Callable[[int], bytes]
C = "/v1/collections/lobby"


@pytest.fixture
async def lobby(http: httpx.AsyncClient, picture: Draw) -> str:
    """Three persons before two cameras; person p's picture at camera c is number 10 p + c."""
    await http.put(C)
    names = [f"{p:04d}_c{c}_f1.png" for p in (1, 2, 3) for c in (1, 2)]
    files = [("image", (name, picture(int(name[3]) * 10 + int(name[6])))) for name in names]
    answer = await http.post(f"{C}/items?pattern=duke", files=files)
    assert [r["status"] for r in answer.json()["results"]] == ["added"] * 6
    return C


async def test_a_crop_finds_itself_first(http: httpx.AsyncClient, lobby: str, picture: Draw) -> None:
    answer = (await http.post(f"{lobby}/search?k=3", files=[("image", picture(21))])).json()
    first = answer["matches"][0]
    assert (first["rank"], first["person_id"], first["camera_id"]) == (1, "0002", "1")
    assert first["score"] == pytest.approx(1, abs=1e-5)
    assert [m["rank"] for m in answer["matches"]] == [1, 2, 3]
    scores = [m["score"] for m in answer["matches"]]
    assert scores == sorted(scores, reverse=True)
    assert set(answer["timings_ms"]) == {"decode", "queue", "infer", "search"}


async def test_all_ways_in_give_the_same_answer(http: httpx.AsyncClient, lobby: str, picture: Draw) -> None:
    data = picture(99)
    vector = (await http.post("/v1/embeddings", files=[("image", data)])).json()["vectors"][0]
    answers = [
        await http.post(f"{lobby}/search?k=4", files=[("image", data)]),
        await http.post(f"{lobby}/search?k=4", content=data, headers={"content-type": "image/png"}),
        await http.post(f"{lobby}/search?k=4", content=data, headers={"content-type": "application/octet-stream"}),
        await http.post(f"{lobby}/search", json={"image": base64.b64encode(data).decode(), "k": 4}),
        await http.post(
            f"{lobby}/search?k=4", json={"image": "data:image/png;base64," + base64.b64encode(data).decode()}
        ),
        await http.post(f"{lobby}/search", json={"vector": vector, "k": 4}),
        await http.post(f"{lobby}/search", json={"vector": [1e30 * v for v in vector], "k": 4}),
    ]
    rows = [[(m["id"], round(m["score"], 4)) for m in answer.json()["matches"]] for answer in answers]
    assert all(row == rows[0] for row in rows)
    assert len(rows[0]) == 4


async def test_the_querys_camera_is_left_out_unless_told_otherwise(
    http: httpx.AsyncClient, lobby: str, picture: Draw
) -> None:
    async def cameras(options: str) -> set[str]:
        answer = await http.post(f"{lobby}/search?{options}", files=[("image", picture(11))])
        return {m["camera_id"] for m in answer.json()["matches"]}

    assert await cameras("camera_id=1") == {"2"}
    assert await cameras("camera_id=1&same_camera=true") == {"1", "2"}
    assert await cameras("") == {"1", "2"}


async def test_filters_narrow_the_answer(http: httpx.AsyncClient, lobby: str, picture: Draw) -> None:
    async def found(**options: object) -> list[str]:
        body = {"image": base64.b64encode(picture(11)).decode(), **options}
        return [
            m["person_id"] + m["camera_id"] for m in (await http.post(f"{lobby}/search", json=body)).json()["matches"]
        ]

    assert set(await found(persons=["0002", "0003"])) == {"00021", "00022", "00031", "00032"}
    assert set(await found(cameras=["2"], persons=["0003"])) == {"00032"}
    assert await found(persons=[]) == []
    assert await found(min_score=0.9999) == ["00011"]


async def test_a_batch_answers_each_query_by_itself(http: httpx.AsyncClient, lobby: str, picture: Draw) -> None:
    files = [("image", ("a.png", picture(11))), ("image", ("b.png", b"broken")), ("image", ("c.png", picture(32)))]
    results = (await http.post(f"{lobby}/search/batch?k=1", files=files)).json()["results"]
    assert [r["matches"] and r["matches"][0]["person_id"] for r in results] == ["0001", None, "0003"]
    assert results[1]["error"]["code"] == "bad_image"
    assert results[1]["error"]["detail"].startswith("b.png: ")


async def test_a_batch_of_json_queries_has_options_of_its_own(
    http: httpx.AsyncClient, lobby: str, picture: Draw
) -> None:
    image = base64.b64encode(picture(11)).decode()
    queries = [{"image": image, "k": 1}, {"image": image, "camera_id": "1"}, {"vector": [1, 2]}]
    results = (await http.post(f"{lobby}/search/batch?k=2", json={"queries": queries})).json()["results"]
    assert [len(r["matches"] or []) for r in results] == [1, 2, 0]
    assert results[2]["error"]["code"] == "bad_field"


async def test_embeddings_are_unit_vectors_with_their_raw_norms(
    http: httpx.AsyncClient, service: Service, picture: Draw
) -> None:
    crops = np.stack([decode(picture(i), "x") for i in (1, 2)])
    raw = np.stack([answer.vector for answer in await service.engine.embed(list(crops))])
    files = [("image", picture(1)), ("image", picture(2))]
    plain = (await http.post("/v1/embeddings", files=files)).json()
    assert plain["dim"] == raw.shape[1]
    assert plain["model"]["fingerprint"] == service.model.fingerprint
    np.testing.assert_allclose(
        np.array(plain["vectors"]) * np.array(plain["norms"])[:, None], raw, rtol=1e-4, atol=1e-5
    )

    coded = (
        await http.post("/v1/embeddings", files=files, headers={"accept": "application/vnd.reid.base64+json"})
    ).json()
    vectors = np.frombuffer(base64.b64decode(coded["vectors"]), dtype="<f4").reshape(2, -1)
    np.testing.assert_allclose(vectors, np.array(plain["vectors"]), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)

    npy = await http.post("/v1/embeddings", files=files, headers={"accept": "application/x-npy"})
    np.testing.assert_allclose(np.load(io.BytesIO(npy.content), allow_pickle=False), vectors, atol=1e-6)


async def test_a_grey_picture_is_no_special_case(http: httpx.AsyncClient, lobby: str) -> None:
    buffer = io.BytesIO()
    Image.new("L", (30, 60), 128).save(buffer, "PNG")
    assert (await http.post(f"{lobby}/search", files=[("image", buffer.getvalue())])).status_code == 200
