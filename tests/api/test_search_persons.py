"""What this field needs of a search: persons, several crops of one, re-ranking, and all filters at once."""

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from app.core.rerank import order
from app.service import Service

pytestmark = pytest.mark.anyio
Draw = Callable[[int], bytes]
C = "/v1/collections/lobby"


def about(person: int, camera: int) -> dict[str, object]:
    """Person p at camera c: at c o'clock, in a red coat where p is odd, in a blue one else."""
    return {
        "id": f"p{person}c{camera}",
        "person_id": f"{person:04d}",
        "camera_id": str(camera),
        "captured_at": f"2026-03-01T0{camera}:00:00Z",
        "attributes": {"coat": "red" if person % 2 else "blue", "kind": "a:b"},
    }


@pytest.fixture
async def lobby(http: httpx.AsyncClient, picture: Draw) -> str:
    """Four persons before two cameras; person p's picture at camera c is number 10 p + c."""
    await http.put(C)
    places = [(person, camera) for person in (1, 2, 3, 4) for camera in (1, 2)]
    files = [("image", (f"{p}-{c}.png", picture(10 * p + c))) for p, c in places]
    metadata = json.dumps([about(p, c) for p, c in places])
    answer = await http.post(f"{C}/items", files=files, data={"metadata": metadata})
    assert [result["status"] for result in answer.json()["results"]] == ["added"] * 8
    return C


async def ask(http: httpx.AsyncClient, options: str, *pictures: bytes, route: str = "search") -> Any:
    files = [("image", (f"{i}.png", data)) for i, data in enumerate(pictures)]
    answer = await http.post(f"{C}/{route}?{options}", files=files)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_by_person_answers_each_person_once_with_its_best_item(
    http: httpx.AsyncClient, lobby: str, picture: Draw
) -> None:
    answer = await ask(http, "by=person&person_score=best", picture(21))
    assert "matches" not in answer
    assert sorted(person["person_id"] for person in answer["persons"]) == ["0001", "0002", "0003", "0004"]
    first = answer["persons"][0]
    assert (first["rank"], first["person_id"], first["items"], first["best"]["id"]) == (1, "0002", 2, "p2c1")
    assert first["score"] == first["best"]["score"] == pytest.approx(1, abs=1e-5)
    assert len((await ask(http, "by=person&k=2", picture(21)))["persons"]) == 2


async def test_a_persons_centroid_leaves_out_the_querys_camera(
    http: httpx.AsyncClient, service: Service, lobby: str, picture: Draw
) -> None:
    with_camera = await ask(http, "by=person&camera_id=1", picture(99))
    assert {person["items"] for person in with_camera["persons"]} == {1}
    for person in with_camera["persons"]:  # one crop is left of each: the centroid is that crop
        assert person["best"]["camera_id"] == "2"
        assert person["score"] == pytest.approx(person["best"]["score"], abs=1e-6)
    same = await ask(http, "by=person&camera_id=1&same_camera=true&k=1", picture(99))
    (person,) = same["persons"]
    ids = [f"p{int(person['person_id'])}c{camera}" for camera in (1, 2)]
    units, norms = service.store.vectors("lobby", ids)
    mean = (units * norms[:, None]).mean(axis=0, dtype=np.float64)
    query = np.array((await http.post("/v1/embeddings", files=[("image", picture(99))])).json()["vectors"][0])
    assert person["score"] == pytest.approx(float(mean @ query / np.linalg.norm(mean)), abs=1e-5)
    assert person["items"] == 2


async def test_items_without_a_person_are_nobody(http: httpx.AsyncClient, lobby: str, picture: Draw) -> None:
    await http.post(f"{lobby}/items", files=[("image", ("door.png", picture(77)))])
    assert (await ask(http, "k=1", picture(77)))["matches"][0]["person_id"] is None
    assert len((await ask(http, "by=person", picture(77)))["persons"]) == 4


async def test_several_crops_are_one_query(http: httpx.AsyncClient, lobby: str, picture: Draw) -> None:
    both = [picture(11), picture(42)]
    vectors = np.array((await http.post("/v1/embeddings", files=[("image", p) for p in both])).json()["vectors"])
    mean = vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))
    by_mean = await ask(http, "k=8", *both)
    alone = (await http.post(f"{lobby}/search?k=8", json={"vector": mean.tolist()})).json()
    assert shown(by_mean) == shown(alone)
    best = await ask(http, "k=8&fusion=best", *both)
    singles = [{m["id"]: m["score"] for m in (await ask(http, "k=8", one))["matches"]} for one in both]
    assert {m["id"] for m in best["matches"][:2]} == {"p1c1", "p4c2"}
    for match in best["matches"]:
        assert match["score"] == pytest.approx(max(single[match["id"]] for single in singles), abs=1e-6)
    coded = [base64.b64encode(data).decode() for data in both]
    as_json = await http.post(f"{lobby}/search", json={"image": coded, "k": 8, "fusion": "best"})
    assert shown(as_json.json()) == shown(best)


async def test_one_bad_crop_of_several_is_reported_and_the_others_answer(
    http: httpx.AsyncClient, lobby: str, picture: Draw
) -> None:
    answer = await ask(http, "k=3", picture(21), b"broken", picture(22))
    (refused,) = answer["refused"]
    assert refused["name"] == "1.png"
    assert (refused["error"]["code"], refused["error"]["status"]) == ("bad_image", 422)
    assert refused["error"]["detail"].startswith("1.png: ")
    assert shown(answer) == shown(await ask(http, "k=3", picture(21), picture(22)))
    assert (await ask(http, "k=3", picture(21)))["refused"] == []


async def test_a_batch_may_ask_for_persons_by_several_crops_each(
    http: httpx.AsyncClient, lobby: str, picture: Draw
) -> None:
    good, bad = (base64.b64encode(data).decode() for data in (picture(31), b"broken"))
    queries = [{"image": [good, bad], "by": "person", "person_score": "best", "k": 1}, {"image": good, "k": 1}]
    first, second = (await http.post(f"{lobby}/search/batch", json={"queries": queries})).json()["results"]
    assert (first["persons"][0]["person_id"], first["matches"]) == ("0003", None)
    assert [crop["name"] for crop in first["refused"]] == ["queries.0.image.1"]
    assert (second["matches"][0]["id"], second["persons"], second["refused"]) == ("p3c1", None, [])


async def test_reranking_changes_places_and_keeps_scores(
    http: httpx.AsyncClient, service: Service, lobby: str, picture: Draw
) -> None:
    files = [("image", ("query.png", picture(99)))]
    plain = (await http.post(f"{lobby}/search?k=8", files=files)).json()["matches"]
    response = await http.post(f"{lobby}/search?k=8&rerank=true", files=files)
    assert "rerank;dur=" in response.headers["server-timing"]
    answer = response.json()
    query = np.array((await http.post("/v1/embeddings", files=files)).json()["vectors"], dtype=np.float32)
    vectors, _ = service.store.vectors("lobby", [match["id"] for match in plain])
    expected = [plain[place]["id"] for place in order(query, vectors)]
    assert [match["id"] for match in answer["matches"]] == expected
    assert [match["rank"] for match in answer["matches"]] == list(range(1, 9))
    scores = {match["id"]: match["score"] for match in plain}
    assert all(match["score"] == scores[match["id"]] for match in answer["matches"])
    fewer = await ask(http, "k=3&rerank=true", picture(99))
    assert [match["id"] for match in fewer["matches"]] == expected[:3]  # k does not change the shortlist
    persons = await ask(http, "by=person&rerank=true", picture(99))
    in_order = list(dict.fromkeys(f"000{item_id[1]}" for item_id in expected))
    assert [person["person_id"] for person in persons["persons"]] == in_order


async def test_all_filters_hold_at_once_for_searches_and_pages(
    http: httpx.AsyncClient, lobby: str, picture: Draw
) -> None:
    cases = {
        "attribute=coat:red": {"p1c1", "p1c2", "p3c1", "p3c2"},
        "attribute=coat:red&attribute=kind:a:b&cameras=2": {"p1c2", "p3c2"},
        "attribute=coat:red&attribute=coat:blue": set[str](),
        "captured_from=2026-03-01T02:00:00Z": {"p1c2", "p2c2", "p3c2", "p4c2"},
        "captured_to=2026-03-01T02:00:00Z": {"p1c1", "p2c1", "p3c1", "p4c1"},
        "captured_from=2026-03-01T02:00:00%2B01:00&captured_to=2026-03-01T01:00:01Z&persons=0001": {"p1c1"},
        "exclude=p1c1&exclude=p1c2&persons=0001&persons=0002": {"p2c1", "p2c2"},
    }
    for options, expected in cases.items():
        assert {m["id"] for m in (await ask(http, options, picture(1)))["matches"]} == expected, options
        page = (await http.get(f"{lobby}/items?{options}")).json()
        assert {item["id"] for item in page["items"]} == expected, options
        persons = (await ask(http, f"by=person&{options}", picture(1)))["persons"]
        assert {person["best"]["id"] for person in persons} <= expected
        assert sum(person["items"] for person in persons) == len(expected)
    body = {"image": base64.b64encode(picture(1)).decode(), "attribute": ["coat:red"], "exclude": ["p1c1", "p3c2"]}
    answer = (await http.post(f"{lobby}/search?cameras=1&cameras=2", json=body)).json()
    assert {m["id"] for m in answer["matches"]} == {"p1c2", "p3c1"}


def shown(answer: dict[str, Any]) -> list[tuple[str, float]]:
    return [(match["id"], round(match["score"], 4)) for match in answer["matches"]]
