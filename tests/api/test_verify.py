"""Same person? Crops against crops, or against an item."""

import base64
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import numpy as np
import pytest

from app.core.decision import Kind
from app.service import Service
from app.service.embed import Upload
from app.service.stages import Stages
from app.service.verify import Pair, Verdict, Verify

pytestmark = pytest.mark.anyio
Draw = Callable[[int], bytes]
C = "/v1/collections/lobby"


async def vectors(http: httpx.AsyncClient, *pictures: bytes) -> Any:
    answer = await http.post("/v1/embeddings", files=[("image", data) for data in pictures])
    return np.array(answer.json()["vectors"])


async def test_a_crop_is_itself_and_two_crops_have_their_cosine(http: httpx.AsyncClient, picture: Draw) -> None:
    same = (await http.post("/v1/verify", files=[("a", picture(1)), ("b", picture(1))])).json()
    assert same["score"] == pytest.approx(1, abs=1e-6)
    assert (same["a"], same["b"]) == ({"crops": 1, "refused": [], "item_id": None},) * 2
    response = await http.post("/v1/verify", files=[("a", picture(1)), ("b", picture(2))])
    one, two = await vectors(http, picture(1), picture(2))
    assert response.json()["score"] == pytest.approx(float(one @ two), abs=1e-5)
    assert set(response.json()["timings_ms"]) == {"decode", "queue", "infer", "compare"}


async def test_sets_of_crops_meet_in_the_means_of_their_unit_vectors(http: httpx.AsyncClient, picture: Draw) -> None:
    named = (("a", "1", picture(1)), ("a", "bad.png", b"broken"), ("b", "3", picture(3)), ("a", "2", picture(2)))
    files = [*((side, (name, data)) for side, name, data in named), ("b", ("4", picture(4)))]
    answer = (await http.post("/v1/verify", files=files)).json()
    rows = await vectors(http, *(picture(i) for i in (1, 2, 3, 4)))
    a, b = rows[:2].mean(axis=0), rows[2:].mean(axis=0)
    assert answer["score"] == pytest.approx(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), abs=1e-5)
    assert (answer["a"]["crops"], answer["b"]["crops"], answer["b"]["refused"]) == (2, 2, [])
    assert [(crop["name"], crop["error"]["code"]) for crop in answer["a"]["refused"]] == [("bad.png", "bad_image")]
    one, two, three, four = (base64.b64encode(picture(i)).decode() for i in (1, 2, 3, 4))
    coded = {"a": [one, two], "b": [three, four]}
    assert (await http.post("/v1/verify", json=coded)).json()["score"] == pytest.approx(answer["score"], abs=1e-6)


async def test_an_item_stands_in_the_place_of_either_side(http: httpx.AsyncClient, picture: Draw) -> None:
    await http.put(C)
    (item,) = (await http.post(f"{C}/items", files=[("image", picture(1))])).json()["results"]
    one, two = await vectors(http, picture(1), picture(2))
    for side, other in (("a", "b"), ("b", "a")):
        options = f"collection=lobby&item_id={item['id']}"
        answer = (await http.post(f"/v1/verify?{options}", files=[(side, picture(2))])).json()
        assert answer["score"] == pytest.approx(float(one @ two), abs=1e-5)
        assert answer[other] == {"crops": 0, "refused": [], "item_id": item["id"]}
        assert (answer[side]["crops"], answer[side]["item_id"]) == (1, None)
    body = {"a": base64.b64encode(picture(2)).decode(), "collection": "lobby", "item_id": item["id"]}
    assert (await http.post("/v1/verify", json=body)).json()["score"] == pytest.approx(float(one @ two), abs=1e-5)


async def test_without_a_calibration_there_is_no_decision_and_a_reason(http: httpx.AsyncClient, picture: Draw) -> None:
    await http.put(C)
    files = [("a", picture(1)), ("b", picture(2))]
    for options in ("", "?collection=lobby"):
        answer = (await http.post(f"/v1/verify{options}", files=files)).json()
        assert (answer["probability"], answer["decision"]) == (None, None)
        assert len(answer["decision_reason"]) > 20


async def test_whoever_knows_what_scores_mean_is_asked(
    service: Service, http: httpx.AsyncClient, picture: Draw
) -> None:
    asked: list[tuple[str, Kind, int, float | None]] = []

    async def judge(collection: str, by: Kind, scores: Sequence[float], fpir: float | None = None) -> list[Verdict]:
        asked.append((collection, by, len(scores), fpir))
        return [Verdict(0.9, "match")]

    await http.put(C)
    verify = Verify(service.embedding, service.galleries, service.store, judge)
    crops = [Upload("a.png", picture(1))], [Upload("b.png", picture(2))]
    assert (await verify.pair(Pair(*crops, "lobby"), Stages())).verdict == Verdict(0.9, "match")
    await verify.pair(Pair(*crops, "lobby", fpir=0.05), Stages())
    assert asked == [("lobby", "pair", 1, None), ("lobby", "pair", 1, 0.05)]
