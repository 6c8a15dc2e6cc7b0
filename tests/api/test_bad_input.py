"""Every row of docs/bad-input.md is sent, and gets the status and code that the row promises."""

import io
import json
import re
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.service import Service
from app.settings import Settings
from tests.streams import tar_of

pytestmark = pytest.mark.anyio
DOC = Path(__file__).parents[2] / "docs" / "bad-input.md"
C = "/v1/collections/lobby"


def documented() -> dict[str, tuple[str, int, str]]:
    """Case -> route, status, code: the first table of the page."""
    row = re.compile(r"^\| ([a-z0-9-]+) \| ([^|]+) \| [^|]+ \| (\d{3}) \| (\w+) \|$", re.MULTILINE)
    return {m[1]: (m[2].strip(), int(m[3]), m[4]) for m in row.finditer(DOC.read_text(encoding="utf-8"))}


@dataclass(frozen=True)
class World:
    """What a case may use."""

    http: httpx.AsyncClient
    service: Service
    good: bytes
    root: Path
    outside: Path

    def image(self, data: bytes, name: str = "x.jpg") -> dict[str, object]:
        return {"files": [("image", (name, data))]}

    def vector(self, **changes: float) -> list[float]:
        values = [0.1] * self.service.model.dim
        for position, value in changes.items():
            values[int(position[1:])] = value
        return values


Case = Callable[[World], Awaitable[httpx.Response]]


def png_header(width: int, height: int, depth: int = 8) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes(width * 3 * depth // 8)) * height if width * height < 10**6 else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def search(**how: object) -> Case:
    return lambda w: w.http.post(f"{C}/search", **how)  # type: ignore[arg-type]  # httpx types each option


def search_image(data: bytes) -> Case:
    return lambda w: w.http.post(f"{C}/search", **w.image(data))  # type: ignore[arg-type]  # as above


def options(query: str) -> Case:
    return lambda w: w.http.post(f"{C}/search?{query}", **w.image(w.good))  # type: ignore[arg-type]  # as above


def verify(query: str = "", **crops: int) -> Case:
    """So many good crops in each of these fields."""

    def send(w: World) -> Awaitable[httpx.Response]:
        files = [(field, w.good) for field, count in crops.items() for _ in range(count)]
        return w.http.post(f"/v1/verify?{query}", files=files)

    return send


def items(count: int = 1, query: str = "", headers: dict[str, str] | None = None, **data: str) -> Case:
    def send(w: World) -> Awaitable[httpx.Response]:
        files = [("image", (f"{i}.png", w.good)) for i in range(count)]
        return w.http.post(f"{C}/items{query}", files=files, data=data, headers=headers)

    return send


def vectors(count: int = 1, fingerprint: str | None = None, collection: str = C, **about: object) -> Case:
    def send(w: World) -> Awaitable[httpx.Response]:
        items = [{"vector": w.vector(), **about}] * count
        body = {"fingerprint": fingerprint or w.service.model.fingerprint, "items": items}
        return w.http.post(f"{collection}/items", json=body)

    return send


def evaluate(folder: Callable[[World], object], path: str = "/v1/evaluate", **more: str) -> Case:
    return lambda w: w.http.post(path, json={"folder": str(folder(w)), **more})


def splits(w: World, *names: str) -> Path:
    """A folder with both splits, holding files of these names."""
    folder = w.root / "set"
    for split in ("query", "bounding_box_test"):
        (folder / split).mkdir(parents=True)
        for name in names:
            (folder / split / name).write_bytes(w.good)
    return folder


def no_archive(w: World) -> Awaitable[httpx.Response]:
    (w.root / "notes.tar").write_bytes(b"notes" * 1000)
    return w.http.post(f"{C}/imports", json={"archive": str(w.root / "notes.tar")})


def linked(w: World) -> Path:
    link = w.root / "link"
    link.symlink_to(w.outside)
    return link


def linked_split(w: World) -> Path:
    folder = splits(w, "0001_c1_f1.png")
    moved = w.outside / "gallery"
    (folder / "bounding_box_test").rename(moved)
    (folder / "bounding_box_test").symlink_to(moved)
    return folder


def wrong_method(path: str) -> Case:
    return lambda w: w.http.post(path)


async def chunked(w: World) -> httpx.Response:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(150):
            yield bytes(20_000)

    return await w.http.post(f"{C}/search", content=body(), headers={"content-type": "image/jpeg"})


async def other_model(w: World) -> httpx.Response:
    stored = w.service.store.collection("lobby")
    w.service.store.put_collection(replace(stored, name="old", fingerprint="onnx-fp32-of-another"))
    answer = await w.http.post("/v1/collections/old/search", **w.image(w.good))  # type: ignore[arg-type]  # as above
    assert "onnx-fp32-of-another" in answer.text
    assert w.service.model.fingerprint in answer.text
    return answer


async def crop_not_kept(w: World) -> httpx.Response:
    (result,) = (await items()(w)).json()["results"]
    return await w.http.get(f"{C}/items/{result['id']}/crop")


def stream(kind: str, body: bytes, headers: dict[str, str] | None = None) -> Case:
    return lambda w: w.http.post(f"{C}/items", content=body, headers={"content-type": kind, **(headers or {})})


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


BROKEN_FORM = {"content": b"--x", "headers": {"content-type": "multipart/form-data"}}
CASES: dict[str, Case] = {
    "search-not-an-image": search_image(b"not an image"),
    "search-empty-file": search_image(b""),
    "search-truncated": lambda w: search_image(w.good[: len(w.good) // 2])(w),
    "search-small": search_image(png_header(3, 900)),
    "search-16-bit": search_image(png_header(20, 20, 16)),
    "search-too-many-pixels": search_image(png_header(6000, 5000)),
    "search-too-large": search(content=bytes(3_000_000), headers={"content-type": "image/jpeg"}),
    "search-too-large-chunked": chunked,
    "search-crop-too-large": search(content=bytes(300_000), headers={"content-type": "image/jpeg"}),
    "search-no-file": search(files=[("picture", b"x")]),
    "search-text-field": search(files=[("image", (None, "text"))]),
    "search-too-many-crops": lambda w: w.http.post(f"{C}/search", files=[("image", w.good)] * 9),
    "search-too-many-images": search(json={"image": ["AAAA"] * 9}),
    "search-no-images": search(json={"image": []}),
    "search-all-bad": search(files=[("image", ("x.jpg", b"no")), ("image", ("y.jpg", b""))]),
    "search-broken-form": search(**BROKEN_FORM),
    "search-media-type": search(content=b"hello", headers={"content-type": "text/plain"}),
    "search-not-json": search(content=b'{"image": ', headers={"content-type": "application/json"}),
    "search-not-base64": search(json={"image": "%%%"}),
    "search-nothing": search(json={}),
    "search-both": lambda w: w.http.post(f"{C}/search", json={"image": "AAAA", "vector": w.vector()}),
    "search-form-option": lambda w: w.http.post(f"{C}/search", files=[("image", w.good)], data={"k": "5"}),
    "search-k-0": options("k=0"),
    "search-k-text": options("k=many"),
    "search-unknown-option": options("kk=5"),
    "search-min-score": options("min_score=2"),
    "search-rate": options("fpir=0.02"),
    "search-by": options("by=camera"),
    "search-person-score": options("by=person&person_score=worst"),
    "search-fusion": options("fusion=median"),
    "search-rerank": options("rerank=perhaps"),
    "search-exact": options("exact=nearly"),
    "search-many-words": options("&".join(["exclude=x"] * 257)),
    "search-attribute": options("attribute=red"),
    "search-attribute-key": options("attribute=:red"),
    "search-captured-zone": options("captured_from=2026-03-01T10:00:00"),
    "search-captured-text": options("captured_to=yesterday"),
    "search-window": options("captured_from=2026-03-01T10:00:00Z&captured_to=2026-03-01T10:00:00Z"),
    "search-json-window": search(
        json={"image": "AAAA", "captured_from": "2026-03-01T10:00:00Z", "captured_to": "2026-03-01T09:00:00Z"}
    ),
    "search-vector-dim": search(json={"vector": [1.0, 2.0]}),
    "search-vector-nan": lambda w: w.http.post(
        f"{C}/search",
        content=json.dumps({"vector": w.vector(_3=float("nan"))}),
        headers={"content-type": "application/json"},
    ),
    "search-vector-zero": lambda w: w.http.post(f"{C}/search", json={"vector": [0.0] * w.service.model.dim}),
    "search-unknown-collection": lambda w: w.http.post(
        "/v1/collections/nowhere/search",
        **w.image(w.good),  # type: ignore[arg-type]  # as above
    ),
    "search-other-model": other_model,
    "batch-empty": lambda w: w.http.post(f"{C}/search/batch", json={"queries": []}),
    "batch-too-many": lambda w: w.http.post(f"{C}/search/batch", json={"queries": [{"vector": w.vector()}] * 9}),
    "batch-too-many-crops": lambda w: w.http.post(f"{C}/search/batch", json={"queries": [{"image": ["AAAA"] * 3}] * 3}),
    "batch-attribute": lambda w: w.http.post(
        f"{C}/search/batch", json={"queries": [{"vector": w.vector(), "attribute": ["red"]}]}
    ),
    "batch-unknown-collection": lambda w: w.http.post(
        "/v1/collections/nowhere/search/batch", json={"queries": [{"vector": w.vector()}]}
    ),
    "items-media-type": lambda w: w.http.post(f"{C}/items", content=b"x", headers={"content-type": "text/plain"}),
    "items-no-file": lambda w: w.http.post(f"{C}/items", files=[("picture", b"x")]),
    "items-too-many": items(9),
    "items-metadata-not-json": items(metadata="{"),
    "items-metadata-length": items(metadata="[{}, {}]"),
    "items-metadata-name": items(metadata='{"other.png": {}}'),
    "items-metadata-key": items(metadata='[{"persn_id": "1"}]'),
    "items-metadata-id": items(metadata='[{"id": "a/b"}]'),
    "items-metadata-instant": items(metadata='[{"captured_at": "0001-01-01T00:00:00+14:00"}]'),
    "items-metadata-time": items(metadata='[{"captured_at": "2026-03-01T10:00:00"}]'),
    "items-pattern": items(query="?pattern=%28"),
    "items-pattern-huge": items(query="?pattern=(%3FP<person>a{99999999999})(%3FP<camera>b)"),
    "items-pattern-slow": lambda w: w.http.post(
        f"{C}/items?pattern=(%3FP<person>(%3F:a|a|aa)%2B)(%3FP<camera>[xyz])",
        files=[("image", ("a" * 60 + ".png", w.good))],
    ),
    "items-option": items(query="?patern=duke"),
    "items-field": items(pattern="duke"),
    "items-pattern-groups": items(query="?pattern=%5Cd"),
    "items-unknown-collection": lambda w: w.http.post("/v1/collections/nowhere/items", files=[("image", w.good)]),
    "items-unknown-collection-streamed": lambda w: w.http.post(
        "/v1/collections/nowhere/items", files=[("image", w.good)], headers={"accept": "application/x-ndjson"}
    ),
    "items-vectors-not-json": lambda w: w.http.post(
        f"{C}/items", content=b'{"items": ', headers={"content-type": "application/json"}
    ),
    "items-vectors-model": vectors(fingerprint="om-fp16-of-another"),
    "items-vectors-no-model": lambda w: w.http.post(f"{C}/items", json={"items": [{"vector": w.vector()}]}),
    "items-vectors-none": vectors(0),
    "items-vectors-too-many": vectors(9),
    "items-vectors-no-vector": vectors(vector=None),
    "items-vectors-key": vectors(camera="2"),
    "items-vectors-id": vectors(id="a/b"),
    "items-vectors-unknown-collection": vectors(collection="/v1/collections/nowhere"),
    "items-encoding": stream("application/x-tar", tar_of({}), {"content-encoding": "gzip"}),
    "items-form-cut": stream("multipart/form-data; boundary=b", b"--b\r\n"),
    "items-tar-none": stream("application/x-tar", bytes(range(256)) * 4),
    "items-tar-cut": lambda w: stream("application/x-tar", tar_of({"a.png": w.good, "b.png": w.good})[:2000])(w),
    "items-tar-too-many": lambda w: stream("application/x-tar", tar_of({f"{i}.png": w.good for i in range(9)}))(w),
    "items-tar-list": stream("application/x-tar", tar_of({"items.ndjson": b'{"name": "a.png", "camera": "2"}'})),
    "items-tar-listed": stream("application/x-tar", tar_of({"items.ndjson": b'{"name": "a.png"}'})),
    "items-zip-none": stream("application/zip", bytes(1000)),
    "items-npy-other": stream("application/x-npy", npy(np.zeros((1, 256, 128, 3), dtype=np.float32))),
    "items-npy-lines": lambda w: w.http.post(
        f"{C}/items",
        files=[("items", (None, b"{}")), ("crops", ("c.npy", npy(np.zeros((2, 256, 128, 3), dtype=np.uint8))))],
    ),
    "items-lines-model": lambda w: w.http.post(
        f"{C}/items?fingerprint=another", content=b"{}", headers={"content-type": "application/x-ndjson"}
    ),
    "items-list-limit": lambda w: w.http.get(f"{C}/items?limit=0"),
    "items-list-option": lambda w: w.http.get(f"{C}/items?person=0001"),
    "items-list-window": lambda w: w.http.get(
        f"{C}/items?captured_from=2026-03-01T10:00:00Z&captured_to=2026-03-01T09:00:00Z"
    ),
    "items-list-cursor": lambda w: w.http.get(f"{C}/items?cursor=never"),
    "item-unknown": lambda w: w.http.get(f"{C}/items/never"),
    "item-delete-unknown": lambda w: w.http.delete(f"{C}/items/never"),
    "crop-not-kept": crop_not_kept,
    "collection-unknown": lambda w: w.http.get("/v1/collections/nowhere"),
    "collection-delete-unknown": lambda w: w.http.delete("/v1/collections/nowhere"),
    "collection-name": lambda w: w.http.put("/v1/collections/the%20lobby"),
    "collection-setting": lambda w: w.http.put("/v1/collections/new", json={"keep": True}),
    "collection-keep-crops": lambda w: w.http.put(C, json={"keep_crops": True}),
    "collection-days": lambda w: w.http.put("/v1/collections/new", json={"keep_days": 0}),
    "collection-other-days": lambda w: w.http.put(C, json={"keep_days": 30}),
    "collection-keep-unknown": lambda w: w.http.patch("/v1/collections/nowhere", json={"keep_days": 30}),
    "collection-too-large": lambda w: w.http.put(C, json={"keep_crops": "x" * 100_000}),
    "collection-not-json": lambda w: w.http.put(C, content=b"{", headers={"content-type": "application/json"}),
    "verify-one-side": verify(a=1),
    "verify-nothing": lambda w: w.http.post("/v1/verify", json={}),
    "verify-not-an-image": lambda w: w.http.post("/v1/verify", files=[("a", w.good), ("b", ("x.jpg", b"no"))]),
    "verify-all-bad": lambda w: w.http.post("/v1/verify", files=[("a", w.good), *[("b", ("x.jpg", b"no"))] * 2]),
    "verify-too-many": verify(a=9, b=1),
    "verify-field": verify(a=1, b=1, c=1),
    "verify-option": verify("item=x", a=1),
    "verify-item-nowhere": verify("item_id=x", a=1),
    "verify-item-and-both": verify("collection=lobby&item_id=x", a=1, b=1),
    "verify-item-alone": lambda w: w.http.post("/v1/verify", json={"collection": "lobby", "item_id": "x"}),
    "verify-rate": verify("collection=lobby&fpir=0.02", a=1, b=1),
    "verify-unknown-item": verify("collection=lobby&item_id=never", a=1),
    "verify-unknown-collection": verify("collection=nowhere", a=1, b=1),
    "verify-media-type": lambda w: w.http.post("/v1/verify", content=b"x", headers={"content-type": "image/jpeg"}),
    "verify-not-json": lambda w: w.http.post("/v1/verify", content=b"{", headers={"content-type": "application/json"}),
    "verify-not-base64": lambda w: w.http.post("/v1/verify", json={"a": "%%%", "b": "AAAA"}),
    "embeddings-not-an-image": lambda w: w.http.post(
        "/v1/embeddings", files=[("image", ("good.png", w.good)), ("image", ("bad.png", b"no"))]
    ),
    "embeddings-too-many": lambda w: w.http.post("/v1/embeddings", files=[("image", w.good)] * 9),
    "embeddings-empty-list": lambda w: w.http.post("/v1/embeddings", json={"image": []}),
    "embeddings-media-type": lambda w: w.http.post(
        "/v1/embeddings", content=b"x", headers={"content-type": "text/plain"}
    ),
    "persons-collection": lambda w: w.http.get("/v1/collections/nowhere/persons"),
    "person-unknown": lambda w: w.http.get(f"{C}/persons/5"),
    "person-rename-unknown": lambda w: w.http.patch(f"{C}/persons/5", json={"person_id": "6"}),
    "person-rename-empty": lambda w: w.http.patch(f"{C}/persons/5", json={"person_id": ""}),
    "person-merge-unknown": lambda w: w.http.post(f"{C}/persons/5/merge", json={"into": "6"}),
    "person-undo": lambda w: w.http.post(f"{C}/persons/undo-merge"),
    "move-nothing-said": lambda w: w.http.post(f"{C}/items/move", json={"person_id": "5"}),
    "move-nobody": lambda w: w.http.post(f"{C}/items/move", json={"ids": ["a"]}),
    "correct-unknown": lambda w: w.http.patch(f"{C}/items/a", json={"person_id": "5"}),
    "correct-field": lambda w: w.http.patch(f"{C}/items/a", json={"sha256": "0"}),
    "delete-nothing-said": lambda w: w.http.delete(f"{C}/items"),
    "import-outside": lambda w: w.http.post(f"{C}/imports", json={"folder": str(w.outside)}),
    "import-missing": lambda w: w.http.post(f"{C}/imports", json={"folder": str(w.root / "nowhere")}),
    "import-empty": lambda w: w.http.post(f"{C}/imports", json={"folder": str(w.root)}),
    "import-both": lambda w: w.http.post(f"{C}/imports", json={"folder": str(w.root), "archive": str(w.root)}),
    "import-no-archive": no_archive,
    "export-collection": lambda w: w.http.get("/v1/collections/nowhere/export"),
    "reembed-no-crops": lambda w: w.http.post(f"{C}/reembed", json={"into": "new"}),
    "reembed-itself": lambda w: w.http.post(f"{C}/reembed", json={"into": "lobby"}),
    "calibrate-collection": lambda w: w.http.post("/v1/collections/nowhere/calibration"),
    "calibrate-rate": lambda w: w.http.post(f"{C}/calibration", json={"fpir": 0.5}),
    "calibrate-unlabelled": lambda w: w.http.post(f"{C}/calibration"),
    "calibration-collection": lambda w: w.http.get("/v1/collections/nowhere/calibration"),
    "evaluate-outside": evaluate(lambda w: w.outside),
    "evaluate-dots": evaluate(lambda w: w.root / ".." / "outside"),
    "evaluate-link": evaluate(linked),
    "evaluate-linked-split": evaluate(linked_split),
    "evaluate-long-name": evaluate(lambda w: w.root / ("a" * 300)),
    "evaluate-missing": evaluate(lambda w: w.root / "nowhere"),
    "evaluate-no-splits": evaluate(lambda w: w.root),
    "evaluate-empty": evaluate(splits),
    "evaluate-names": evaluate(lambda w: splits(w, "hat.png")),
    "evaluate-pattern": evaluate(lambda w: w.root, pattern="("),
    "evaluate-no-folder": lambda w: w.http.post("/v1/evaluate", json={}),
    "evaluate-both": evaluate(lambda w: w.root, collection="lobby"),
    "evaluate-unknown-protocol": lambda w: w.http.post(
        "/v1/evaluate", json={"collection": "lobby", "protocols": ["rank"]}
    ),
    "evaluate-unknown-variant": evaluate(lambda w: splits(w, "0001_c1_f1.png"), variant="om-fp16"),
    "evaluate-collection": lambda w: w.http.post("/v1/evaluate", json={"collection": "nowhere"}),
    "evaluate-unlabelled": lambda w: w.http.post("/v1/evaluate", json={"collection": "lobby"}),
    "evaluate-queries-nowhere": lambda w: w.http.post("/v1/evaluate", files=[("image", ("0001_c1_f1.png", w.good))]),
    "evaluate-same-names": lambda w: w.http.post(
        "/v1/evaluate?collection=lobby", files=[("image", ("0001_c1_f1.png", w.good))] * 2
    ),
    "evaluate-raw": lambda w: w.http.post("/v1/evaluate", content=w.good, headers={"content-type": "image/png"}),
    "evaluate-short-path": evaluate(lambda w: w.outside, "/evaluate"),
    "evaluations-limit": lambda w: w.http.get("/v1/evaluations?limit=0"),
    "evaluations-cursor": lambda w: w.http.get("/v1/evaluations?cursor=never"),
    "evaluation-unknown": lambda w: w.http.get("/v1/evaluations/never"),
    "jobs-limit": lambda w: w.http.get("/v1/jobs?limit=0"),
    "jobs-state": lambda w: w.http.get("/v1/jobs?state=lost"),
    "jobs-cursor": lambda w: w.http.get("/v1/jobs?cursor=never"),
    "job-unknown": lambda w: w.http.get("/v1/jobs/never"),
    "job-odd": lambda w: w.http.get("/v1/jobs/%00%C3%A4%ED%A0%80"),
    "job-delete-unknown": lambda w: w.http.delete("/v1/jobs/never"),
    "job-events-unknown": lambda w: w.http.get("/v1/jobs/never/events"),
    "erase-nothing": lambda w: w.http.post(f"{C}/erase", json={}),
    "erase-collection": lambda w: w.http.post("/v1/collections/never/erase", json={"all": True}),
    "erase-not-json": lambda w: w.http.post(f"{C}/erase", content=b"{", headers={"content-type": "application/json"}),
    "erase-person-collection": lambda w: w.http.delete("/v1/collections/never/persons/anna"),
    "snapshots-method": lambda w: w.http.put("/v1/snapshots"),
    "snapshot-wait": lambda w: w.http.post("/v1/snapshots", json={"wait": -1}),
    "snapshot-delete-unknown": lambda w: w.http.delete("/v1/snapshots/never"),
    "restore-unknown": lambda w: w.http.post("/v1/snapshots/never/restore", json={"collection": "lobby", "as": "then"}),
    "restore-name": lambda w: w.http.post("/v1/snapshots/never/restore", json={"collection": "lobby", "as": "../x"}),
    "check-key": lambda w: w.http.post("/v1/check", json={"fast": True}),
    "audit-limit": lambda w: w.http.get("/v1/audit?limit=0"),
    "audit-item": lambda w: w.http.get("/v1/audit?item_id=gate-1"),
    "audit-verify-half": lambda w: w.http.get("/v1/audit/verify?seq=1"),
    "audit-verify-line": lambda w: w.http.get(f"/v1/audit/verify?seq=9&hash={'0' * 64}"),
    "model-method": wrong_method("/v1/model"),
    "stats-method": wrong_method("/v1/stats"),
    "collections-method": wrong_method("/v1/collections"),
    "livez-method": wrong_method("/livez"),
    "readyz-method": wrong_method("/readyz"),
    "metrics-method": wrong_method("/metrics"),
    "other-host": lambda w: w.http.get("/v1/collections", headers={"host": "rebound.example:8000"}),
    "other-origin": items(headers={"origin": "https://elsewhere.example"}),
    "other-site": items(headers={"sec-fetch-site": "cross-site"}),
    "no-such-route": lambda w: w.http.get("/v2/nothing"),
}


async def test_every_row_of_the_page_has_a_case_and_every_case_a_row() -> None:
    assert set(documented()) == set(CASES)


async def test_every_route_has_a_row(service_routes: set[str]) -> None:
    rows = {route for route, _, _ in documented().values()}
    assert {route for route in service_routes if route not in rows} == set()


async def test_every_route_is_documented(service_routes: set[str]) -> None:
    page = DOC.with_name("http.md").read_text(encoding="utf-8")
    assert {route for route in service_routes if f"`{route}`" not in page} == set()


@pytest.mark.parametrize("case", sorted(CASES))
async def test_bad_input_gets_what_the_page_says(
    case: str,
    http: httpx.AsyncClient,
    service: Service,
    settings: Settings,
    tmp_path: Path,
    picture: Callable[[int], bytes],
) -> None:
    await http.put(C)
    outside = tmp_path / "outside"
    outside.mkdir()
    world = World(http, service, picture(1), settings.data_roots[0], outside)
    before = (await http.get("/v1/collections")).json()
    response = await CASES[case](world)
    if case not in ("crop-not-kept", "search-other-model"):  # which make what they ask for
        assert (await http.get("/v1/collections")).json() == before, "something was half done"
    _, status, code = documented()[case]
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["type"] == f"urn:reid:problem:{code}"
    assert body["request_id"] == response.headers["x-request-id"]
    assert len(body["detail"]) > 8
    if code == "bad_field":
        assert body["detail"].startswith(body["field"])
    if code == "bad_image":
        assert re.match(r"(x\.jpg|bad\.png): ", body["detail"])
