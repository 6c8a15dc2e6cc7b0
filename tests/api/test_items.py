"""Indexing over HTTP: a result for each crop, nothing twice, nothing kept that was not asked for."""

import hashlib
import io
import json
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


async def add(
    http: httpx.AsyncClient, files: list[tuple[str, bytes]], query: str = "", **data: str
) -> list[dict[str, object]]:
    answer = await http.post(f"{C}/items{query}", files=[("image", file) for file in files], data=data)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, object]] = answer.json()["results"]
    return results


async def test_a_collection_is_made_once_and_removed_with_all_in_it(http: httpx.AsyncClient, picture: Draw) -> None:
    assert (await http.put(C)).status_code == 201
    assert (await http.put(C)).status_code == 200
    await add(http, [("a.png", picture(1))])
    shown = (await http.get(C)).json()
    assert (shown["name"], shown["items"], shown["keep_crops"]) == ("lobby", 1, False)
    assert [c["name"] for c in (await http.get("/v1/collections")).json()["collections"]] == ["lobby"]
    assert (await http.delete(C)).status_code == 204
    assert (await http.get(C)).status_code == 404
    await http.put(C)
    assert (await http.get(C)).json()["items"] == 0


async def test_one_bad_crop_refuses_itself(http: httpx.AsyncClient, picture: Draw) -> None:
    await http.put(C)
    results = await add(http, [("a.png", picture(1)), ("b.png", b"broken"), ("c.png", picture(3))])
    assert [r["status"] for r in results] == ["added", "refused", "added"]
    assert [r["name"] for r in results] == ["a.png", "b.png", "c.png"]
    assert results[1]["error"]["detail"].startswith("b.png: not a whole")  # type: ignore[index]  # a JSON object
    assert (await http.get(C)).json()["items"] == 2


async def test_text_that_cannot_be_stored_refuses_its_crop_only(http: httpx.AsyncClient, picture: Draw) -> None:
    await http.put(C)
    about = json.dumps([{"attributes": {"coat": "re\0d"}}, {}])
    results = await add(http, [("a.png", picture(1)), ("b.png", picture(2))], metadata=about)
    assert [r["status"] for r in results] == ["refused", "added"]


async def test_the_same_crop_twice_adds_nothing_and_costs_no_run_of_the_model(
    http: httpx.AsyncClient, service: Service, picture: Draw
) -> None:
    await http.put(C)
    (first,) = await add(http, [("a.png", picture(1))])
    assert first["id"] == hashlib.sha256(picture(1)).hexdigest()
    before = service.telemetry.text()
    (again,) = await add(http, [("a.png", picture(1))])
    assert (again["status"], again["id"]) == ("unchanged", first["id"])
    count = [line for line in before.splitlines() if line.startswith(b"reid_batch_crops_count")]
    assert count[0] in service.telemetry.text().splitlines()
    twice = await add(http, [("b.png", picture(2)), ("b.png", picture(2))])
    assert {r["id"] for r in twice} == {hashlib.sha256(picture(2)).hexdigest()}
    assert (await http.get(C)).json()["items"] == 2


async def test_the_same_crop_sent_again_without_labels_keeps_them(http: httpx.AsyncClient, picture: Draw) -> None:
    await http.put(C)
    await add(http, [("0005_c2_f1.png", picture(1))], "?pattern=duke")
    (again,) = await add(http, [("upload.png", picture(1))])
    assert again["status"] == "unchanged"
    item = (await http.get(f"{C}/items/{again['id']}")).json()
    assert (item["person_id"], item["camera_id"], item["source"]) == ("0005", "2", "0005_c2_f1.png")
    (moved,) = await add(http, [("upload.png", picture(1))], metadata='[{"person_id": "0006"}]')
    assert moved["status"] == "updated"


async def test_own_ids_and_metadata_as_a_list_or_by_name(http: httpx.AsyncClient, picture: Draw) -> None:
    await http.put(C)
    about = [{"id": "gate-1", "person_id": "anna", "camera_id": "7", "captured_at": "2026-03-01T10:00:00+02:00"}, {}]
    await add(http, [("a.png", picture(1)), ("b.png", picture(2))], metadata=json.dumps(about))
    item = (await http.get(f"{C}/items/gate-1")).json()
    assert (item["person_id"], item["camera_id"], item["source"]) == ("anna", "7", "a.png")
    assert item["captured_at"] == "2026-03-01T08:00:00Z"
    changed = {"a.png": {"id": "gate-1", "person_id": "bert", "attributes": {"coat": "red"}}}
    (result,) = await add(http, [("a.png", picture(1))], metadata=json.dumps(changed))
    assert result["status"] == "updated"
    item = (await http.get(f"{C}/items/gate-1")).json()
    assert (item["person_id"], item["camera_id"], item["attributes"]) == ("bert", None, {"coat": "red"})


async def test_labels_are_read_off_names_and_junk_is_refused(http: httpx.AsyncClient, picture: Draw) -> None:
    await http.put(C)
    names = ["0005_c12_f0046985.png", "-1_c1_f1.png", "hat.png"]
    results = await add(http, [(name, picture(i)) for i, name in enumerate(names)], "?pattern=duke")
    assert [r["status"] for r in results] == ["added", "refused", "refused"]
    (item,) = (await http.get(f"{C}/items")).json()["items"]
    assert (item["person_id"], item["camera_id"]) == ("0005", "12")


async def test_results_stream_as_lines_when_asked_for(http: httpx.AsyncClient, picture: Draw) -> None:
    await http.put(C)
    files = [
        ("image", (f"{i}.png", picture(i) if i != 20 else b"broken")) for i in range(40)
    ]  # more than an unstreamed one
    answer = await http.post(f"{C}/items", files=files, headers={"accept": "application/x-ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["name"] for line in lines] == [f"{i}.png" for i in range(40)]
    assert [line["status"] for line in lines].count("added") == 39
    assert lines[20]["error"]["code"] == "bad_image"


async def test_items_come_in_pages_in_the_order_added(http: httpx.AsyncClient, picture: Draw) -> None:
    await http.put(C)
    about = json.dumps([{"id": f"i{n}", "camera_id": str(n % 2)} for n in range(7)])
    await add(http, [(f"{n}.png", picture(n)) for n in range(7)], metadata=about)
    pages, cursor = [], ""
    while True:
        page = (await http.get(f"{C}/items?limit=3{cursor}")).json()
        pages.append([item["id"] for item in page["items"]])
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert pages == [["i0", "i1", "i2"], ["i3", "i4", "i5"], ["i6"]]
    odd = (await http.get(f"{C}/items?cameras=1")).json()
    assert [item["id"] for item in odd["items"]] == ["i1", "i3", "i5"]


async def test_a_deleted_item_is_found_no_more(http: httpx.AsyncClient, picture: Draw) -> None:
    await http.put(C)
    (result,) = await add(http, [("a.png", picture(1))])
    assert (await http.delete(f"{C}/items/{result['id']}")).status_code == 204
    assert (await http.post(f"{C}/search", files=[("image", picture(1))])).json()["matches"] == []
    assert (await http.get(f"{C}/items/{result['id']}")).status_code == 404


async def test_a_crop_is_kept_lossless_where_the_collection_says_so(http: httpx.AsyncClient, picture: Draw) -> None:
    await http.put(C, json={"keep_crops": True})
    (result,) = await add(http, [("a.png", picture(1))])
    answer = await http.get(f"{C}/items/{result['id']}/crop")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"] == "no-store"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), decode(picture(1), "a.png"))
