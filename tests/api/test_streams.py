"""Streams of crops over HTTP: every kind, results while it still comes in, and what is left when it breaks off."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from app.adapters.memory import MemoryStore
from app.adapters.model_directory import ModelDirectory
from app.api import create_app
from app.api.limits import RequestLimits
from app.core.preprocess import decode
from app.engine import trust
from app.service import Service
from app.service.incoming import New
from app.settings import Settings
from app.wiring import build_service, devices
from tests.streams import tar_of, zip_of

pytestmark = pytest.mark.anyio
Draw = Callable[[int], bytes]
C = "/v1/collections/lobby"
LINES = {"accept": "application/x-ndjson"}
BOUNDARY = "b-1"


def form_of(files: dict[str, bytes]) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename='
    return b"".join(f'{head}"{name}"\r\n\r\n'.encode() + data + b"\r\n" for name, data in files.items()) + (
        f"--{BOUNDARY}--\r\n".encode()
    )


def lines_of(files: dict[str, bytes]) -> bytes:
    rows = ({"image": base64.b64encode(data).decode(), "source": name} for name, data in files.items())
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


KINDS: dict[str, tuple[str, Callable[[dict[str, bytes]], bytes]]] = {
    "form": (f"multipart/form-data; boundary={BOUNDARY}", form_of),
    "tar": ("application/x-tar", tar_of),
    "zip": ("application/zip", zip_of),
    "lines": ("application/x-ndjson", lines_of),
}


async def post(
    http: httpx.AsyncClient, kind: str, body: bytes, query: str = "", streamed: bool = True
) -> httpx.Response:
    """Send a body in chunks, without a length."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    headers = {"content-type": kind, **(LINES if streamed else {})}
    return await http.post(f"{C}/items{query}", content=chunks(), headers=headers)


def rows(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"] == "application/json":
        found: list[dict[str, Any]] = answer.json()["results"]
        return found
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_each_kind_gives_the_same_items(
    kind: str, streamed: bool, http: httpx.AsyncClient, picture: Draw
) -> None:
    await http.put(C)
    content_type, made = KINDS[kind]
    files = {f"000{i}_c{i}_f1.png": picture(i) for i in range(1, 5)} | {"0009_c1_f1.png": b"broken"}
    found = rows(await post(http, content_type, made(files), "?pattern=duke", streamed))
    assert [(row["name"], row["status"]) for row in found] == [
        *((name, "added") for name in list(files)[:4]),
        ("0009_c1_f1.png", "refused"),
    ]
    assert found[4]["error"]["code"] == "bad_image"
    items = (await http.get(f"{C}/items")).json()["items"]
    assert [(item["person_id"], item["camera_id"], item["source"]) for item in items] == [
        (f"000{i}", str(i), f"000{i}_c{i}_f1.png") for i in range(1, 5)
    ]
    again = rows(await post(http, content_type, made(files), "?pattern=duke", streamed))
    assert [row["status"] for row in again] == ["unchanged"] * 4 + ["refused"]


async def test_decoded_crops_give_the_vectors_of_their_pictures(
    http: httpx.AsyncClient, service: Service, picture: Draw
) -> None:
    await http.put(C, json={"keep_crops": True})
    crops = np.stack([decode(picture(i), "x.png") for i in range(3)])
    buffer = io.BytesIO()
    np.save(buffer, crops)
    (first, *_) = found = rows(await post(http, "application/x-npy", buffer.getvalue(), "?camera_id=7"))
    assert [(row["name"], row["status"]) for row in found] == [(f"crops.{i}", "added") for i in range(3)]
    item = (await http.get(f"{C}/items/{first['id']}")).json()
    assert (item["camera_id"], item["source"]) == ("7", None)
    assert (await http.get(f"{C}/items/{first['id']}/crop")).status_code == 200
    files = [("items", (None, b'{"id": "a"}\n{"id": "b"}\n{"id": "c"}')), ("crops", ("c.npy", buffer.getvalue()))]
    assert [row["id"] for row in rows(await http.post(f"{C}/items", files=files, headers=LINES))] == ["a", "b", "c"]
    await http.put("/v1/collections/pictures")
    await http.post("/v1/collections/pictures/items", files=[("image", picture(1))], data={"metadata": '[{"id": "b"}]'})
    same, _ = service.store.vectors("pictures", ["b"])
    np.testing.assert_allclose(service.store.vectors("lobby", ["b"])[0], same, atol=1e-6)


async def test_vectors_come_in_lines_with_the_fingerprint_as_an_option(
    http: httpx.AsyncClient, service: Service
) -> None:
    await http.put(C)
    vectors = [[float(i + 1)] * service.model.dim for i in range(3)]
    body = "".join(json.dumps({"vector": vector, "source": f"{i}.png"}) + "\n" for i, vector in enumerate(vectors))
    mine = f"?fingerprint={service.model.fingerprint}"
    found = rows(await post(http, "application/x-ndjson", body.encode(), mine))
    assert [row["status"] for row in found] == ["added"] * 3
    without = rows(await post(http, "application/x-ndjson", body.encode()))
    assert {row["error"]["field"] for row in without} == {"fingerprint"}
    foreign = await post(http, "application/x-ndjson", body.encode(), "?fingerprint=another")
    assert (foreign.status_code, foreign.json()["code"]) == (409, "fingerprint_mismatch")


async def test_an_archive_says_of_its_crops_what_its_list_says(http: httpx.AsyncClient, picture: Draw) -> None:
    await http.put(C)
    about = {"name": "a.png", "id": "gate-1", "person_id": "anna", "captured_at": "2026-03-01T10:00:00Z",
             "attributes": {"coat": "red"}}  # fmt: skip
    body = tar_of({"items.ndjson": json.dumps(about).encode(), "a.png": picture(1)})
    (row,) = rows(await post(http, "application/x-tar", body))
    assert (row["id"], row["status"]) == ("gate-1", "added")
    item = (await http.get(f"{C}/items/gate-1")).json()
    assert (item["person_id"], item["attributes"], item["source"]) == ("anna", {"coat": "red"}, "a.png")


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_stream_that_is_cut_short_keeps_what_came_before_and_says_where(
    kind: str, http: httpx.AsyncClient, picture: Draw
) -> None:
    await http.put(C)
    content_type, made = KINDS[kind]
    files = {f"{i}.png": picture(i) for i in range(3)}
    whole = made(files)
    cut = whole[: whole.index(picture(2)[30:60]) + 20] if kind in ("form", "tar") else whole[: len(whole) * 3 // 4]
    found = rows(await post(http, content_type, cut))
    assert [row["status"] for row in found[:2]] == ["added"] * 2
    last = found[-1]
    if kind == "lines":  # a line that is cut is a bad line
        assert last["name"] == "line 3"
        assert "not JSON" in last["error"]["detail"]
    else:
        assert (last["code"], last["status"]) == ("bad_archive", 422)
        assert "cut short: it ends at byte" in last["detail"]
    assert (await http.get(C)).json()["items"] == 2
    # Sent whole, it goes on where it stopped.
    again = rows(await post(http, content_type, whole))
    assert [row["status"] for row in again] == ["unchanged", "unchanged", "added"]


async def test_what_is_broken_from_the_start_has_a_status_and_no_line(http: httpx.AsyncClient) -> None:
    await http.put(C)
    for kind in ("application/x-tar", "application/zip", "application/x-npy"):
        answer = await post(http, kind, b"neither of them" * 100)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_archive")
        assert answer.headers["content-type"] == "application/problem+json"


async def test_an_answer_in_one_piece_stores_all_of_it_or_nothing(http: httpx.AsyncClient, picture: Draw) -> None:
    await http.put(C)
    files = {f"{i}.png": picture(i) for i in range(9)}  # one more than a request may hold here
    for kind, made in ((kind, made) for kind, made in KINDS.values() if kind != "x"):
        answer = await post(http, kind, made(files), streamed=False)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    cut = await post(http, "application/x-tar", tar_of(files)[:2000], streamed=False)
    assert (cut.status_code, cut.json()["code"]) == (422, "bad_archive")
    assert (await http.get(C)).json()["items"] == 0


async def test_a_crop_above_the_limit_refuses_itself_in_every_kind(http: httpx.AsyncClient, picture: Draw) -> None:
    await http.put(C)
    files = {"large.png": bytes(400_000), "good.png": picture(1)}  # 200,000 are allowed here
    for kind, made in KINDS.values():
        large, good = rows(await post(http, kind, made(files)))
        assert large["error"]["code"] == "too_large"
        assert good["status"] in ("added", "unchanged")


async def test_a_compressed_body_is_refused_with_advice(http: httpx.AsyncClient) -> None:
    await http.put(C)
    headers = {"content-type": "application/x-tar", "content-encoding": "gzip", **LINES}
    answer = await http.post(f"{C}/items", content=b"x", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media")


class Caller:
    """One ASGI request whose body the test sends piece by piece, and whose answer it reads as it comes."""

    def __init__(self, kind: str) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.heard = asyncio.Condition()
        self.reads = asyncio.Event()
        self.reads.set()
        headers = [(b"host", b"reid"), (b"content-type", kind.encode()), (b"accept", b"application/x-ndjson")]
        self.scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
            "path": f"{C}/items", "raw_path": f"{C}/items".encode(), "query_string": b"", "root_path": "",
            "scheme": "http", "server": ("reid", 80), "client": ("reid", 1), "headers": headers, "state": {},
        }  # fmt: skip

    def say(self, body: bytes, more: bool = True) -> None:
        self.messages.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> dict[str, Any]:
        return await self.messages.get()

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        async with self.heard:
            self.sent.append(message)
            self.heard.notify_all()
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.leave()  # as servers say it of a request that is answered

    async def lines(self, count: int) -> list[dict[str, Any]]:
        """The answer's lines, when there are so many."""

        def told() -> list[bytes]:
            return b"".join(message.get("body", b"") for message in self.sent).splitlines()

        async with self.heard:
            await asyncio.wait_for(self.heard.wait_for(lambda: len(told()) >= count), 20)
        return [json.loads(line) for line in told()]


@pytest.fixture
async def held(settings: Settings) -> AsyncIterator[Service]:
    directory = ModelDirectory.open(settings.model_dir)
    service = build_service(directory, devices(directory, settings), MemoryStore(), settings, prove=trust)
    await service.engine.start()
    await service.galleries.put("lobby", None)
    yield service
    await service.close()


def call(service: Service, caller: Caller, **limits: float) -> Awaitable[None]:
    app = create_app(service, replace(RequestLimits(), **limits))  # type: ignore[arg-type]  # a field's type each
    return asyncio.create_task(app(caller.scope, caller.receive, caller.send))


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_result_comes_while_the_next_crop_is_not_yet_sent(kind: str, held: Service, picture: Draw) -> None:
    content_type, made = KINDS[kind]
    files = {f"{i}.png": picture(i) for i in range(3)}
    whole = made(files)
    # Cut before the second and the third crop, behind all that tells where the one before them ends.
    markers = {"form": b"--b-1", "tar": b"", "zip": b"PK\3\4", "lines": b'{"image"'}
    starts = [whole.index(b"1.png"), whole.index(b"2.png")]
    cuts = [whole.rindex(markers[kind], 0, start) if kind != "tar" else start for start in starts]
    caller = Caller(content_type)
    answering = call(held, caller)
    caller.say(whole[: cuts[0] + 7])
    (first,) = await caller.lines(1)
    assert (first["name"], first["status"], held.store.count("lobby")) == ("0.png", "added", 1)
    caller.say(whole[cuts[0] + 7 : cuts[1] + 7])
    assert [line["name"] for line in await caller.lines(2)] == ["0.png", "1.png"]
    caller.say(whole[cuts[1] + 7 :], more=False)
    assert [line["status"] for line in await caller.lines(3)] == ["added"] * 3
    await answering
    assert b'status="200"' in held.telemetry.text()
    assert b'status="499"' not in held.telemetry.text()


async def test_who_leaves_in_the_middle_keeps_what_was_told_and_nothing_runs_on(held: Service, picture: Draw) -> None:
    whole = tar_of({f"{i}.png": picture(i) for i in range(3)})
    caller = Caller("application/x-tar")
    answering = call(held, caller)
    caller.say(whole[: whole.index(b"1.png")])
    await caller.lines(1)
    caller.say(whole[whole.index(b"1.png") : whole.index(b"1.png") + 700])
    caller.leave()
    await answering
    assert held.store.count("lobby") == 1
    assert held.engine.waiting == 0
    assert b'status="499"' in held.telemetry.text()


class Stuck:
    """An ingest that reads all and then never ends."""

    def __init__(self) -> None:
        self.read = 0

    async def target(self, collection: str) -> None:
        pass

    async def add(self, collection: str, entries: AsyncIterator[New], *how: object, **more: object) -> None:
        async for _ in entries:
            self.read += 1
        await asyncio.Event().wait()


async def test_who_leaves_after_the_last_byte_is_noticed_too(held: Service, picture: Draw) -> None:
    stuck, caller = Stuck(), Caller("application/x-tar")
    answering = call(replace(held, ingest=stuck), caller)  # type: ignore[arg-type]  # all of it that the route uses
    caller.say(tar_of({"a.png": picture(1)}), more=False)
    caller.leave()
    await asyncio.wait_for(answering, 20)
    assert stuck.read == 1


async def test_who_sends_nothing_is_told_so_in_the_last_line(held: Service, picture: Draw) -> None:
    whole = tar_of({f"{i}.png": picture(i) for i in range(2)})
    caller = Caller("application/x-tar")
    answering = call(held, caller, silence_s=1.0)
    caller.say(whole[: whole.index(b"1.png")])
    added, last = await caller.lines(2)
    assert added["status"] == "added"
    assert (last["code"], last["status"]) == ("too_slow", 408)
    assert "nothing came for 1 s, after" in last["detail"]
    await answering


async def test_who_sent_nothing_at_all_gets_a_408(held: Service) -> None:
    caller = Caller("application/x-tar")
    await call(held, caller, silence_s=0.05)
    assert caller.sent[0]["status"] == 408


async def test_who_reads_only_when_all_is_sent_gets_all_the_same(held: Service) -> None:
    """Many HTTP clients cannot do both at once; they and the server would wait for each other."""
    caller = Caller("application/x-ndjson")
    caller.reads.clear()
    answering = call(held, caller)
    for _ in range(500):  # far more than are on their way at a time
        caller.say(b"{}\n")
    caller.say(b"", more=False)
    while not caller.messages.empty():
        await asyncio.sleep(0.001)
    caller.reads.set()
    assert [line["status"] for line in await caller.lines(500)] == ["refused"] * 500
    await answering


async def test_who_reads_nothing_is_taken_for_gone(held: Service, picture: Draw) -> None:
    caller = Caller("application/x-tar")
    caller.reads.clear()
    answering = call(held, caller, silence_s=0.2)
    caller.say(tar_of({"a.png": picture(1)}), more=False)
    await asyncio.wait_for(answering, 20)
    assert caller.sent == []
    assert held.store.count("lobby") == 1  # committed, and told to nobody
