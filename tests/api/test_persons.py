"""Persons over HTTP: listed, renamed, merged, undone, and items given to the right one."""

import base64
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest

from app.service import Service

pytestmark = pytest.mark.anyio
ROUTE = "/v1/collections/lobby"


async def fill(http: httpx.AsyncClient, service: Service, rows: Sequence[tuple[str, str | None, str]]) -> None:
    """Items of id, person and camera, each with a vector of its own."""
    await http.put(ROUTE)
    rng = np.random.default_rng(1)
    items = [
        {
            "id": item_id,
            "person_id": person,
            "camera_id": camera,
            "vector": base64.b64encode(rng.normal(size=service.model.dim).astype("<f4").tobytes()).decode(),
        }
        for item_id, person, camera in rows
    ]
    body = {"fingerprint": service.model.fingerprint, "items": items}
    answer = await http.post(f"{ROUTE}/items", json=body)
    assert answer.status_code == 200, answer.text


async def get(http: httpx.AsyncClient, path: str, status: int = 200) -> Any:
    answer = await http.get(ROUTE + path)
    assert answer.status_code == status, answer.text
    return answer.json()


async def post(http: httpx.AsyncClient, path: str, body: Any = None, status: int = 200) -> Any:
    answer = await http.post(ROUTE + path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def items_of(http: httpx.AsyncClient, person: str) -> list[str]:
    return [item["id"] for item in (await get(http, f"/items?persons={person}"))["items"]]


async def test_persons_come_page_by_page_and_nobody_is_not_among_them(
    http: httpx.AsyncClient, service: Service
) -> None:
    await fill(http, service, [("a", "9", "2"), ("b", "7", "1"), ("c", None, "1"), ("d", "9", "1"), ("e", "8", "1")])
    page = await get(http, "/persons?limit=2")
    assert [(p["person_id"], p["items"]) for p in page["persons"]] == [("7", 1), ("8", 1)]
    assert page["next_cursor"] == "8"
    rest = await get(http, "/persons?limit=2&cursor=8")
    assert [(p["person_id"], p["items"], p["cameras"]) for p in rest["persons"]] == [("9", 2, ["1", "2"])]
    assert rest["next_cursor"] is None
    assert (await get(http, "/persons/9"))["items"] == 2
    assert (await get(http, "/persons/5", 404))["code"] == "unknown_person"


async def test_a_new_name_that_is_somebodys_is_refused_and_another_is_taken(
    http: httpx.AsyncClient, service: Service
) -> None:
    await fill(http, service, [("a", "7", "1"), ("b", "8", "1")])
    taken = await http.patch(f"{ROUTE}/persons/7", json={"person_id": "8"})
    assert (taken.status_code, taken.json()["code"]) == (409, "person_exists")
    renamed = await http.patch(f"{ROUTE}/persons/7", json={"person_id": "anna"})
    assert (renamed.status_code, renamed.json()["person_id"]) == (200, "anna")
    assert await items_of(http, "anna") == ["a"]
    found = await post(http, "/search", {"vector": [1.0] * service.model.dim, "persons": ["anna"]})
    assert [match["person_id"] for match in found["matches"]] == ["anna"]


async def test_a_merge_is_undone_once_and_leaves_what_was_moved_since(
    http: httpx.AsyncClient, service: Service
) -> None:
    await fill(http, service, [("a", "7", "1"), ("b", "7", "1"), ("c", "8", "1")])
    assert await post(http, "/persons/7/merge", {"into": "8"}) == {"person_id": "7", "into": "8", "items": 2}
    assert await items_of(http, "8") == ["a", "b", "c"]
    assert await post(http, "/items/move", {"ids": ["b"], "person_id": None}) == {"items": 1}
    assert await post(http, "/persons/undo-merge") == {"person_id": "7", "into": "8", "items": 1}
    assert (await items_of(http, "7"), await items_of(http, "8")) == (["a"], ["c"])
    assert (await post(http, "/persons/undo-merge", status=409))["code"] == "nothing_to_undo"
    assert (await post(http, "/persons/5/merge", {"into": "8"}, 404))["code"] == "unknown_person"


async def test_an_item_is_corrected_and_what_is_not_named_stays(http: httpx.AsyncClient, service: Service) -> None:
    await fill(http, service, [("a", "7", "1")])
    before = (await http.get(f"{ROUTE}/items/a")).json()
    changed = await http.patch(f"{ROUTE}/items/a", json={"camera_id": "4", "attributes": {"coat": "red"}})
    assert changed.json() == {**before, "camera_id": "4", "attributes": {"coat": "red"}}
    assert (await get(http, "/items?cameras=4&attribute=coat:red"))["items"] == [changed.json()]
    nobody = await http.patch(f"{ROUTE}/items/a", json={"person_id": None})
    assert nobody.json()["person_id"] is None
    assert (await http.patch(f"{ROUTE}/items/z", json={"person_id": "1"})).status_code == 404


async def test_items_are_removed_by_filter_and_all_of_them_only_on_demand(
    http: httpx.AsyncClient, service: Service
) -> None:
    await fill(http, service, [("a", "7", "1"), ("b", "8", "2"), ("c", "9", "2"), ("d", "9", "1")])
    refused = await http.delete(f"{ROUTE}/items")
    assert (refused.status_code, refused.json()["field"]) == (422, "all")
    assert (await http.delete(f"{ROUTE}/items?cameras=2&persons=9")).json() == {"items": 1}
    assert (await http.delete(f"{ROUTE}/items?ids=a")).json() == {"items": 1}
    assert [item["id"] for item in (await get(http, "/items"))["items"]] == ["b", "d"]
    assert (await http.delete(f"{ROUTE}/items?all=true")).json() == {"items": 2}


async def test_a_collection_says_how_long_items_stay_and_is_told_otherwise(http: httpx.AsyncClient) -> None:
    made = await http.put(ROUTE, json={"keep_days": 30, "camera_keep_days": {"2": 7}})
    assert (made.status_code, made.json()["keep_days"], made.json()["camera_keep_days"]) == (201, 30, {"2": 7})
    assert (await http.put(ROUTE)).status_code == 200
    assert (await http.put(ROUTE, json={"keep_days": 31})).status_code == 422
    changed = await http.patch(ROUTE, json={"keep_days": 90})
    assert (changed.json()["keep_days"], changed.json()["camera_keep_days"]) == (90, {})
    assert (await http.patch(ROUTE, json={"keep_days": 0})).status_code == 422
