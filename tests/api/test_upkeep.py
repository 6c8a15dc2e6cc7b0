"""Erasing with a receipt, snapshots and what comes out of them, checks and the audit, over HTTP."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.service import Service
from app.settings import Settings

pytestmark = pytest.mark.anyio
C = "/v1/collections/lobby"
Draw = Callable[[int], bytes]


@pytest.fixture
async def filled(http: httpx.AsyncClient, picture: Draw) -> httpx.AsyncClient:
    """Four items, two of Anna and two of Bert."""
    await http.put(C)
    files = [("image", (f"{n}.png", picture(n))) for n in range(4)]
    about = [{"id": f"i{n}", "person_id": name} for n, name in enumerate(("anna", "anna", "bert", "bert"))]
    assert (await http.post(f"{C}/items", files=files, data={"metadata": json.dumps(about)})).status_code == 200
    return http


async def answer(request: Any, status: int = 200) -> dict[str, Any]:
    response = await request
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_a_person_is_erased_with_a_receipt_that_the_audit_confirms(filled: httpx.AsyncClient) -> None:
    snapshot = await answer(filled.post("/v1/snapshots"), 201)
    receipt = await answer(filled.delete(f"{C}/persons/anna"))
    assert (receipt["items"], receipt["snapshots"], receipt["recorded"]) == (2, [snapshot["id"]], True)
    listed = await answer(filled.get(f"{C}/items"))
    assert [item["id"] for item in listed["items"]] == ["i2", "i3"]
    line = receipt["audit"]
    head = await answer(filled.get("/v1/audit/verify", params=line))
    assert head == line  # it is the last one yet
    about = await answer(filled.get("/v1/audit", params={"collection": "lobby", "person_id": "anna"}))
    assert [one["action"] for one in about["lines"]] == ["add", "erase"]
    await filled.delete(f"{C}/items/i2")
    later = await answer(filled.get("/v1/audit/verify", params=line))
    assert later["seq"] == line["seq"] + 1
    changed = {**line, "hash": "0" * 64}
    assert (await answer(filled.get("/v1/audit/verify", params=changed), 503))["code"] == "audit_broken"


async def test_somebody_who_is_not_there_can_be_erased_too(filled: httpx.AsyncClient) -> None:
    receipt = await answer(filled.delete(f"{C}/persons/carl"))
    assert (receipt["items"], receipt["snapshots"], receipt["recorded"]) == (0, [], None)


async def test_items_are_erased_by_id_or_filter(filled: httpx.AsyncClient) -> None:
    assert (await answer(filled.post(f"{C}/erase", json={"ids": ["i0", "i9"]})))["items"] == 1
    assert (await answer(filled.post(f"{C}/erase", json={"persons": ["bert"], "exclude": ["i2"]})))["items"] == 1
    assert (await answer(filled.post(f"{C}/erase", json={"all": True})))["items"] == 2


async def test_a_collection_comes_out_of_a_snapshot_under_another_name(
    filled: httpx.AsyncClient, picture: Draw
) -> None:
    snapshot = await answer(filled.post("/v1/snapshots"), 201)
    assert snapshot["collections"] == {"lobby": 4}
    await answer(filled.delete(f"{C}/persons/anna"))
    path, wish = f"/v1/snapshots/{snapshot['id']}/restore", {"collection": "lobby", "as": "then"}
    restored = await answer(filled.post(path, json=wish), 201)
    assert restored == {"collection": "then", "snapshot": snapshot["id"], "items": 2, "erased": 2, "erasures": 1}
    found = await answer(filled.post("/v1/collections/then/search", files=[("image", picture(2))]))
    assert found["matches"][0]["id"] == "i2"
    assert (await answer(filled.post(path, json=wish), 409))["code"] == "collection_exists"
    assert (await answer(filled.post(path, json={"collection": "hall", "as": "x"}), 404))[
        "code"
    ] == "unknown_collection"


async def test_snapshots_are_listed_and_removed(filled: httpx.AsyncClient, settings: Settings) -> None:
    first, second = [await answer(filled.post("/v1/snapshots"), 201) for _ in range(2)]
    listed = (await answer(filled.get("/v1/snapshots")))["snapshots"]
    assert sorted(listed, key=lambda one: one["id"]) == sorted([first, second], key=lambda one: one["id"])
    assert Path(first["path"]).parent == settings.data_dir.with_name("data-snapshots")
    assert (await filled.delete(f"/v1/snapshots/{first['id']}")).status_code == 204
    assert (await answer(filled.get("/v1/snapshots")))["snapshots"] == [second]


async def test_whoever_does_not_wait_is_told_of_a_job(filled: httpx.AsyncClient) -> None:
    response = await filled.post("/v1/snapshots", json={"wait": 0})
    assert response.status_code == 202
    async with asyncio.timeout(10):
        while (job := (await filled.get(response.headers["location"])).json())["state"] in ("queued", "running"):
            await asyncio.sleep(0.01)
    assert job["result"] == (await answer(filled.get("/v1/snapshots")))["snapshots"][0]


async def test_a_check_finds_nothing_wrong(filled: httpx.AsyncClient) -> None:
    report = await answer(filled.post("/v1/check"))
    assert report["ok"]
    assert {one["what"]: one["looked_at"] for one in report["findings"]}["index"] == 4
    assert (await answer(filled.post("/v1/check", json={"quick": True})))["ok"]


async def test_the_audit_comes_page_by_page(filled: httpx.AsyncClient) -> None:
    for name in ("i0", "i1", "i2"):
        await filled.delete(f"{C}/items/{name}")
    first = await answer(filled.get("/v1/audit", params={"limit": 3}))
    assert ([line["seq"] for line in first["lines"]], first["next_after"]) == ([1, 2, 3], 3)
    rest = await answer(filled.get("/v1/audit", params={"limit": 3, "after": first["next_after"]}))
    assert ([line["seq"] for line in rest["lines"]], rest["next_after"]) == ([4], None)
    assert "anna" not in str(first)


async def test_an_erase_goes_on_when_its_caller_leaves(filled: httpx.AsyncClient, service: Service) -> None:
    request = asyncio.create_task(filled.delete(f"{C}/persons/anna"))
    while not request.done() and not service.store.audit.lines(after=1):
        await asyncio.sleep(0)
    request.cancel()
    async with asyncio.timeout(10):
        while service.store.count("lobby") > 2:
            await asyncio.sleep(0.01)
