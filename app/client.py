"""The typed HTTP client: the command line speaks through it, to a server elsewhere or to one inside its own process.

async with Client("http://127.0.0.1:8000") as reid:
    answer = await reid.search("lobby", Path("crop.jpg").read_bytes(), k=5)
    print(answer["matches"][0]["person_id"])
"""

import asyncio
import base64
import json
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote

import httpx

from app.errors import BadField, BadSettings, ServerRefused, ServerUnreachable

Json = dict[str, Any]
_PATIENCE_S = 120.0  # how long a batch is offered again to a server that is overloaded
_LINES = "application/x-ndjson"
_PIECE_CROPS, _PIECE_BYTES, _PIECES_AT_ONCE = 64, 16 * 2**20, 2  # one is sent while the other is embedded


@dataclass(frozen=True, slots=True)
class CropFile:
    """An encoded crop to index; `about` holds any of id, person_id, camera_id, captured_at, attributes."""

    name: str
    data: bytes
    about: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class VectorFile:
    """A crop's raw vector to index, little-endian float32; `about` as for a crop."""

    name: str
    data: bytes
    about: Mapping[str, object]


class Client:
    """One server. Raises ServerRefused with the server's sentence, ServerUnreachable when nothing answers."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        timeout = httpx.Timeout(None, connect=5.0)  # long work answers late, but a dead host must not hang
        try:
            self._http = httpx.AsyncClient(base_url=url, transport=transport, timeout=timeout, trust_env=False)
        except httpx.InvalidURL as error:
            raise BadSettings(f"{url!r} is no address: {error}") from error
        self._url = url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def stats(self) -> Json:
        """What is going on."""
        return await self._json("GET", "/v1/stats")

    async def model(self) -> Json:
        """The loaded model: fingerprint, dim, variant, where it comes from."""
        return await self._json("GET", "/v1/model")

    async def put_collection(self, name: str, keep_crops: bool | None = None) -> Json:
        """Make a collection, or find it."""
        return await self._json("PUT", _path(name), json={"keep_crops": keep_crops})

    async def delete_collection(self, name: str) -> None:
        """Remove a collection with everything in it."""
        await self._json("DELETE", _path(name))

    async def add(self, collection: str, crops: Sequence[CropFile]) -> list[Json]:
        """Index crops; one result each, in order."""
        files = [("image", (crop.name, crop.data)) for crop in crops]
        metadata = json.dumps([crop.about for crop in crops])
        answer = await self._json("POST", _path(collection, "items"), files=files, data={"metadata": metadata})
        return cast(list[Json], answer["results"])

    async def add_vectors(self, collection: str, fingerprint: str, vectors: Sequence[VectorFile]) -> list[Json]:
        """Index vectors that the model of this fingerprint made elsewhere; one result each, in order."""
        items = [{"source": v.name, "vector": base64.b64encode(v.data).decode(), **v.about} for v in vectors]
        body = {"fingerprint": fingerprint, "items": items}
        answer = await self._json("POST", _path(collection, "items"), json=body)
        return cast(list[Json], answer["results"])

    async def stream(
        self, collection: str, body: AsyncIterable[bytes], kind: str, **options: object
    ) -> AsyncIterator[Json]:
        """Index what a stream holds (kind: its media type, such as `application/x-tar`); a result for each crop, in order.

        The stream is never held whole. Results are read when all of it is sent, and the server keeps about 100,000 for
        that long: send more crops in several streams. A stream that breaks off raises ServerRefused behind its results.
        """
        headers = {"Content-Type": kind, "Accept": _LINES}
        how: Json = {"content": body, "headers": headers, "params": _set(options)}
        try:
            async with self._http.stream("POST", _path(collection, "items"), **how) as response:
                if not response.is_success:
                    await response.aread()
                    raise _refusal(response)
                async for line in response.aiter_lines():
                    row = json.loads(line)
                    if "name" not in row:
                        raise ServerRefused(row["status"], row["detail"])
                    yield row
        except httpx.TransportError as error:
            raise ServerUnreachable(f"{self._url} broke off: {str(error) or type(error).__name__}") from error

    async def add_stream(
        self, collection: str, crops: AsyncIterable[CropFile], **options: object
    ) -> AsyncIterator[Json]:
        """Index crops as they come, however many; their results in order, while more are on their way."""
        sending: deque[asyncio.Task[list[Json]]] = deque()
        try:
            async for piece in _pieces(crops):
                sending.append(asyncio.create_task(self._send(collection, piece, options)))
                if len(sending) == _PIECES_AT_ONCE:
                    for row in await sending.popleft():
                        yield row
            while sending:
                for row in await sending.popleft():
                    yield row
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)

    async def _send(self, collection: str, crops: Sequence[CropFile], options: Mapping[str, object]) -> list[Json]:
        return [row async for row in self.stream(collection, _as_lines(crops), _LINES, **options)]

    async def import_into(self, collection: str, wish: Json) -> Json:
        """The job that imports a folder or an archive that the server can read; done where `wish["wait"]` was enough."""
        return await self._json("POST", _path(collection, "imports"), json=wish)

    async def reembed(self, collection: str, into: str, wait: float = 30) -> Json:
        """The job that makes another collection of the kept crops with the loaded model."""
        return await self._json("POST", _path(collection, "reembed"), json={"into": into, "wait": wait})

    async def export(self, collection: str) -> AsyncIterator[bytes]:
        """A collection as a tar archive, in pieces."""
        try:
            async with self._http.stream("GET", _path(collection, "export")) as response:
                if not response.is_success:
                    await response.aread()
                    raise _refusal(response)
                async for piece in response.aiter_bytes():
                    yield piece
        except httpx.TransportError as error:
            raise ServerUnreachable(f"{self._url} broke off: {str(error) or type(error).__name__}") from error

    async def persons(self, collection: str, cursor: str | None = None, limit: int | None = None) -> Json:
        """A page of persons by id."""
        return await self._json("GET", _path(collection, "persons"), params=_set({"cursor": cursor, "limit": limit}))

    async def rename_person(self, collection: str, person_id: str, new: str) -> Json:
        """Call a person by another name."""
        path = _path(collection, "persons", quote(person_id, safe=""))
        return await self._json("PATCH", path, json={"person_id": new})

    async def merge_persons(self, collection: str, person_id: str, into: str) -> Json:
        """Make a person's items another's."""
        path = _path(collection, "persons", quote(person_id, safe=""), "merge")
        return await self._json("POST", path, json={"into": into})

    async def undo_merge(self, collection: str) -> Json:
        """Take a collection's last merge back."""
        return await self._json("POST", _path(collection, "persons", "undo-merge"))

    async def move_items(self, collection: str, ids: Sequence[str], person_id: str | None) -> Json:
        """Make items a person's, or nobody's."""
        body = {"ids": list(ids), "person_id": person_id}
        return await self._json("POST", _path(collection, "items", "move"), json=body)

    async def search(self, collection: str, image: bytes, name: str = "image", **options: object) -> Json:
        """Search by a picture. Options are those of the route: k, by, camera_id, rerank, filters and so on."""
        return await self.search_together(collection, [(name, image)], **options)

    async def search_together(self, collection: str, images: Sequence[tuple[str, bytes]], **options: object) -> Json:
        """Search by several pictures of one person; `fusion` is one more option. Those that cannot be used are in `refused`."""
        files = [("image", image) for image in images]
        return await self._json("POST", _path(collection, "search"), files=files, params=_set(options))

    async def search_many(self, collection: str, images: Sequence[tuple[str, bytes]], **options: object) -> Json:
        """Search by several pictures, each a query of its own."""
        files = [("image", image) for image in images]
        return await self._json("POST", _path(collection, "search", "batch"), files=files, params=_set(options))

    async def verify(
        self, a: Sequence[tuple[str, bytes]], b: Sequence[tuple[str, bytes]] = (), **options: object
    ) -> Json:
        """Same person? Pictures of one against those of another, or against an item (options: collection, item_id, fpir)."""
        files = [(side, image) for side, images in (("a", a), ("b", b)) for image in images]
        return await self._json("POST", "/v1/verify", files=files, params=_set(options))

    async def embed(self, images: Sequence[tuple[str, bytes]]) -> tuple[bytes, bytes, Json]:
        """Unit vectors and raw norms of pictures as little-endian float32 bytes, and the whole answer."""
        files = [("image", image) for image in images]
        headers = {"Accept": "application/vnd.reid.base64+json", "X-Timeout-Ms": str(round(_PATIENCE_S * 1000))}
        answer = await self._json("POST", "/v1/embeddings", files=files, headers=headers)
        return base64.b64decode(answer["vectors"]), base64.b64decode(answer["norms"]), answer

    async def evaluate(self, wish: Json) -> Json:
        """The report of POST /v1/evaluate where it is done within `wish["wait"]` seconds; else the job that makes it,
        which has a `state`."""
        return await self._json("POST", "/v1/evaluate", json=wish)

    async def jobs(self, cursor: str | None = None, limit: int | None = None, state: str | None = None) -> Json:
        """A page of jobs without their results, the newest first."""
        return await self._json("GET", "/v1/jobs", params=_set({"cursor": cursor, "limit": limit, "state": state}))

    async def job(self, job_id: str) -> Json:
        """A job as it is now, with its result when it is done."""
        return await self._json("GET", f"/v1/jobs/{quote(job_id, safe='')}")

    async def delete_job(self, job_id: str) -> Json:
        """Cancel a job that has not ended, and get it; or remove one that has, and get {}."""
        return await self._json("DELETE", f"/v1/jobs/{quote(job_id, safe='')}")

    async def calibrate(self, collection: str, fpir: float, wait: float = 30) -> Json:
        """Calibrate a collection: what `calibrations` gives where it is done within `wait` seconds, else the job."""
        return await self._json("POST", _path(collection, "calibration"), json={"fpir": fpir, "wait": wait})

    async def calibrations(self, collection: str) -> Json:
        """What is known of a collection's scores."""
        return await self._json("GET", _path(collection, "calibration"))

    async def erase(self, collection: str, which: Json) -> Json:
        """Remove items for good: those that `which` says (ids, persons, filters, all). The receipt."""
        return await self._json("POST", _path(collection, "erase"), json=_set(which))

    async def snapshots(self) -> Json:
        """Snapshots, the newest first."""
        return await self._json("GET", "/v1/snapshots")

    async def snapshot(self, wait: float = 30) -> Json:
        """Make a snapshot: the snapshot where it is done within `wait` seconds, else the job, which has a `state`."""
        return await self._json("POST", "/v1/snapshots", json={"wait": wait})

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """Remove a snapshot."""
        await self._json("DELETE", f"/v1/snapshots/{quote(snapshot_id, safe='')}")

    async def restore(self, snapshot_id: str, collection: str, name: str, wait: float = 30) -> Json:
        """A new collection of one in a snapshot: what was restored, or the job."""
        body = {"collection": collection, "as": name, "wait": wait}
        return await self._json("POST", f"/v1/snapshots/{quote(snapshot_id, safe='')}/restore", json=body)

    async def check(self, quick: bool = False, wait: float = 30) -> Json:
        """What a check found, or the job that makes it."""
        return await self._json("POST", "/v1/check", json={"quick": quick, "wait": wait})

    async def audit(self, **options: object) -> Json:
        """Lines of the audit. Options are those of the route: after, limit; or collection with item_id or person_id."""
        return await self._json("GET", "/v1/audit", params=_set(options))

    async def verify_audit(self, seq: int | None = None, hash: str | None = None) -> Json:
        """The end of the audit's chain, when it holds; seq, hash: of a line that must be in it."""
        return await self._json("GET", "/v1/audit/verify", params=_set({"seq": seq, "hash": hash}))

    async def _json(self, method: str, path: str, **how: Any) -> Json:
        """An answer; what an overloaded server refuses is offered again when it says, for a while."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE_S
        while True:
            try:
                return await self._once(method, path, **how)
            except ServerRefused as error:
                if error.retry_after_s is None or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(error.retry_after_s)

    async def _once(self, method: str, path: str, **how: Any) -> Json:
        try:
            response = await self._http.request(method, path, **how)
        except httpx.TransportError as error:
            raise ServerUnreachable(f"no answer from {self._url}: {str(error) or type(error).__name__}") from error
        if not response.is_success:
            raise _refusal(response)
        if response.status_code == 204:
            return {}
        try:
            return cast(Json, response.json())
        except ValueError as error:
            raise ServerRefused(response.status_code, f"{self._url} answers, but it is not this service") from error


async def _pieces(crops: AsyncIterable[CropFile]) -> AsyncIterator[list[CropFile]]:
    """Crops in pieces of a request each: so many, or so many bytes."""
    piece: list[CropFile] = []
    async for crop in crops:
        piece.append(crop)
        if len(piece) == _PIECE_CROPS or sum(len(one.data) for one in piece) >= _PIECE_BYTES:
            yield piece
            piece = []
    if piece:
        yield piece


async def _as_lines(crops: Sequence[CropFile]) -> AsyncIterator[bytes]:
    for crop in crops:
        row = {"image": base64.b64encode(crop.data).decode(), "source": crop.name, **crop.about}
        yield json.dumps(row).encode() + b"\n"


def _path(collection: str, *rest: str) -> str:
    """A collection's route; its name may hold anything, and must not become another route."""
    if not collection:
        raise BadField("collection", "the name is empty")
    return "/".join(("/v1/collections", quote(collection, safe=""), *rest))


def _refusal(response: httpx.Response) -> ServerRefused:
    try:
        sentence = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        sentence = f"status {response.status_code}, not from this service"
    retry = response.headers.get("retry-after", "")
    return ServerRefused(response.status_code, sentence, float(retry) if retry.isdigit() else None)


def _set(options: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
