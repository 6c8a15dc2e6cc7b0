"""Vectors made elsewhere come into a collection as if the crops had come, with the loaded model's fingerprint only."""

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from app.api.examples import VECTORS
from app.api.schemas import VectorsIn
from app.core.preprocess import decode
from app.service import Service

pytestmark = pytest.mark.anyio
Draw = Callable[[int], bytes]
C = "/v1/collections/lobby"


async def raw(service: Service, *pictures: bytes) -> np.ndarray:
    """What the model gives for pictures, as an outside run of it would write it."""
    answers = await service.engine.embed([decode(data, "x.png") for data in pictures])
    return np.stack([answer.vector for answer in answers])


def base64_of(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


async def add(
    http: httpx.AsyncClient, service: Service, *items: dict[str, Any], query: str = ""
) -> list[dict[str, Any]]:
    body = {"fingerprint": service.model.fingerprint, "items": list(items)}
    # By hand: httpx refuses NaN, which other clients send.
    answer = await http.post(
        f"{C}/items{query}", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


async def test_vectors_are_found_as_their_crops_would_be(
    http: httpx.AsyncClient, service: Service, picture: Draw
) -> None:
    vectors = await raw(service, *(picture(i) for i in range(4)))
    await http.put(C)
    labels = [{"person_id": str(i), "camera_id": "1", "source": f"{i}.jpg"} for i in range(4)]
    results = await add(
        http, service, *({"vector": base64_of(v), **label} for v, label in zip(vectors, labels, strict=True))
    )
    assert [(r["name"], r["status"]) for r in results] == [(f"{i}.jpg", "added") for i in range(4)]
    await http.put("/v1/collections/crops")
    about = json.dumps([{key: label[key] for key in ("person_id", "camera_id")} for label in labels])
    files = [("image", (f"{i}.jpg", picture(i))) for i in range(4)]
    await http.post("/v1/collections/crops/items", files=files, data={"metadata": about})
    answers = []
    for name in ("lobby", "crops"):
        found = await http.post(f"/v1/collections/{name}/search", files=[("image", picture(2))])
        answers.append([(m["person_id"], m["camera_id"], m["source"], m["score"]) for m in found.json()["matches"]])
    assert [match[:3] for match in answers[0]] == [match[:3] for match in answers[1]]
    assert [match[3] for match in answers[0]] == pytest.approx([match[3] for match in answers[1]], abs=1e-5)
    assert answers[0][0][:3] == ("2", "1", "2.jpg")


async def test_the_raw_norm_is_kept(http: httpx.AsyncClient, service: Service) -> None:
    """Centroids are means of raw outputs."""
    await http.put(C)
    vector = np.zeros(service.model.dim, dtype=np.float32)
    vector[:2] = (30, -40)
    (result,) = await add(http, service, {"vector": base64_of(vector)})
    units, norms = service.store.vectors("lobby", [result["id"]])
    assert norms.tolist() == [50]
    assert units[0, :2].tolist() == pytest.approx([0.6, -0.8])


async def test_numbers_and_base64_are_the_same_vector_and_twice_adds_nothing(
    http: httpx.AsyncClient, service: Service, picture: Draw
) -> None:
    (vector,) = await raw(service, picture(1))
    await http.put(C)
    item = {"vector": base64_of(vector), "person_id": "0005", "camera_id": "2", "source": "0005_c2_f1.jpg"}
    (first,) = await add(http, service, item)
    (again,) = await add(http, service, {"vector": [float(value) for value in vector]})
    assert (again["status"], again["id"]) == ("unchanged", first["id"])
    stored = (await http.get(f"{C}/items/{first['id']}")).json()
    assert (stored["person_id"], stored["camera_id"], stored["source"]) == ("0005", "2", "0005_c2_f1.jpg")
    (moved,) = await add(http, service, {"vector": base64_of(vector), "person_id": "0006"})
    assert moved["status"] == "updated"
    assert (await http.get(C)).json()["items"] == 1


async def test_an_own_id_takes_another_vector(http: httpx.AsyncClient, service: Service, picture: Draw) -> None:
    one, other = await raw(service, picture(1), picture(2))
    await http.put(C)
    said = {"captured_at": "2026-03-01T10:00:00+02:00", "attributes": {"coat": "red"}}
    (first,) = await add(http, service, {"id": "gate-1", "vector": base64_of(one), **said})
    assert (first["id"], first["status"], first["name"]) == ("gate-1", "added", "items.0")
    (second,) = await add(http, service, {"id": "gate-1", "vector": base64_of(other), **said})
    assert second["status"] == "updated"
    (match,) = (await http.post(f"{C}/search", files=[("image", picture(2))])).json()["matches"]
    assert match["score"] == pytest.approx(1, abs=1e-5)
    assert match["captured_at"] == "2026-03-01T08:00:00Z"


async def test_one_bad_vector_refuses_itself(http: httpx.AsyncClient, service: Service, picture: Draw) -> None:
    (good,) = await raw(service, picture(1))
    await http.put(C)
    dim = service.model.dim
    nan, far = good.copy(), np.full(dim, 3e38, dtype=np.float32)
    nan[3] = np.nan
    bad: dict[str, Any] = {
        "is not base64 of float32 numbers": "%%%",
        "is not base64 of float32": base64.b64encode(bytes(7)).decode(),
        f"{dim - 1} numbers instead of {dim}": base64_of(good[:-1]),
        "not finite": base64_of(nan),
        "a number that is not finite": [1e300] * dim,
        "all zeros": [0] * dim,
        "longer than float32 can say": base64_of(far),
    }
    items = [{"vector": vector, "source": f"{i}.jpg"} for i, vector in enumerate(bad.values())]
    results = await add(http, service, *items, {"vector": base64_of(good), "source": "good.jpg"})
    assert [r["status"] for r in results] == ["refused"] * len(bad) + ["added"]
    for i, (result, sentence) in enumerate(zip(results, bad, strict=False)):
        assert result["error"]["detail"].startswith(f"{i}.jpg: ")
        assert sentence in result["error"]["detail"]
    assert (await http.get(C)).json()["items"] == 1


async def test_labels_are_read_off_sources(http: httpx.AsyncClient, service: Service, picture: Draw) -> None:
    vectors = await raw(service, *(picture(i) for i in range(3)))
    await http.put(C)
    names = ["0005_c12_f1.bin", "-1_c1_f1.bin", "hat.bin"]
    items = [{"vector": base64_of(v), "source": name} for v, name in zip(vectors, names, strict=True)]
    results = await add(http, service, *items, query="?pattern=duke")
    assert [r["status"] for r in results] == ["added", "refused", "refused"]
    (item,) = (await http.get(f"{C}/items")).json()["items"]
    assert (item["person_id"], item["camera_id"]) == ("0005", "12")


async def test_no_crop_is_kept_of_a_vector_and_none_is_left_over(
    http: httpx.AsyncClient, service: Service, picture: Draw
) -> None:
    (vector,) = await raw(service, picture(2))
    await http.put(C, json={"keep_crops": True})
    await http.post(f"{C}/items", files=[("image", picture(1))], data={"metadata": '[{"id": "gate-1"}]'})
    assert (await http.get(f"{C}/items/gate-1/crop")).status_code == 200
    (result,) = await add(http, service, {"id": "gate-1", "vector": base64_of(vector)})
    assert result["status"] == "updated"
    assert (await http.get(f"{C}/items/gate-1/crop")).status_code == 404  # it showed somebody else


async def test_results_stream_and_a_foreign_model_is_refused_before_the_first_line(
    http: httpx.AsyncClient, service: Service
) -> None:
    await http.put(C)
    rng = np.random.default_rng(1)
    items = [{"vector": base64_of(rng.standard_normal(service.model.dim)), "source": f"{i}.jpg"} for i in range(40)]
    body = {"fingerprint": service.model.fingerprint, "items": items}
    lines = {"accept": "application/x-ndjson"}
    answer = await http.post(f"{C}/items", json=body, headers=lines)
    assert [json.loads(line)["status"] for line in answer.text.splitlines()] == ["added"] * 40
    refused = await http.post(f"{C}/items", json=body | {"fingerprint": "om-fp16-of-another"}, headers=lines)
    assert (refused.status_code, refused.json()["code"]) == (409, "fingerprint_mismatch")
    assert "om-fp16-of-another" in refused.json()["detail"]
    assert service.model.fingerprint in refused.json()["detail"]


async def test_the_body_is_in_the_schema_with_an_example_that_fits_it(http: httpx.AsyncClient) -> None:
    schema = (await http.get("/openapi.json")).json()
    bodies = schema["paths"]["/v1/collections/{collection}/items"]["post"]["requestBody"]["content"]
    (example,) = bodies["application/json"]["schema"]["examples"]
    assert example == VECTORS
    VectorsIn.model_validate(example)
    assert "$ref" not in json.dumps(bodies)
