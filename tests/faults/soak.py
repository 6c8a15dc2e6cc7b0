"""An hour of mixed load in ten minutes on a server of its own; its resident memory must be flat once it is warm.

    python -m tests.faults.soak --minutes 10               # make soak
    python -m tests.faults.soak --minutes 0.5 --items 500  # a look whether the tool works

The server is `reid serve` with the demo model. A gallery that keeps crops is filled, and then stays about as large: what
comes in is searched for, deleted and erased, while snapshots, checks and calibrations are made and removed. The curve of
the server's resident memory (VmRSS) is printed. Ends with status 1 where a request fails, where the work was not done in
twice the time, or where a tenth's median, after a warm-up of a fifth of the run, is more than 5 % from another's.
"""

import argparse
import asyncio
import io
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx
import numpy as np
from PIL import Image

from app.client import Client, CropFile, VectorFile
from tests.server import Server

# What a busy site may do in an hour: ten searches and two new crops a second, as many gone as come in.
HOUR = {
    "search by picture": 24_000, "search by vector": 12_000, "add four crops": 1_800, "delete an item": 6_000,
    "erase a person": 300, "list items": 600, "calibrate": 12, "snapshot": 12, "check": 12,
}  # fmt: skip
ITEMS = 6_000  # above the size at which codes take over
CLIENTS = 8
TENTHS, WARM_UP = 10, 2  # of these are the warm-up
FLAT = 0.05
_PICTURES, _FILL = 64, 50


@dataclass
class Told:
    """What happened. samples: seconds since the load began, and bytes."""

    samples: list[tuple[float, int]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Load:
    """A client's deeds, on a collection that it knows all items of."""

    def __init__(self, url: str, client: Client, rng: random.Random, told: Told) -> None:
        self._client, self._rng, self._told = client, rng, told
        self._http = httpx.AsyncClient(base_url=url, timeout=60)
        self._pictures = [picture(number) for number in range(_PICTURES)]
        self._persons: deque[tuple[str, list[str]]] = deque()  # with their items, the oldest first
        self._next, self._dim = 0, 0
        self._deeds: dict[str, Callable[[], Awaitable[object]]] = {
            "search by picture": self._search, "search by vector": self._search_vector, "add four crops": self._add,
            "delete an item": self._delete, "erase a person": self._erase, "list items": self._list,
            "calibrate": lambda: self._client.calibrate("lobby", 0.01), "snapshot": self._snapshot,
            "check": self._check,
        }  # fmt: skip

    async def fill(self, items: int) -> None:
        """The gallery as the hour finds it."""
        model = await self._client.model()
        self._dim = model["dim"]
        await self._client.put_collection("lobby", keep_crops=True)
        for start in range(0, items, _FILL):
            vectors = [
                VectorFile(f"{n}.jpg", self._vector(n).tobytes(), {"id": f"v{n}", **self._about(n)})
                for n in range(start, min(items, start + _FILL))
            ]
            for vector in vectors:
                self._remember(str(vector.about["person_id"]), str(vector.about["id"]))
            await self._client.add_vectors("lobby", model["fingerprint"], vectors)
        self._next = items

    async def do(self, what: str) -> None:
        """One of the deeds; what is refused is noted."""
        try:
            await self._deeds[what]()
        except Exception as error:
            self._told.refused.append(f"{what}: {type(error).__name__}: {error}")
        self._told.done[what] += 1

    async def close(self) -> None:
        await self._http.aclose()

    def _vector(self, number: int) -> np.ndarray:
        """Items of one person, four in a row, lie near each other: a calibration needs that."""
        of_person = np.random.default_rng(number // 4).standard_normal(self._dim)
        return (of_person + 0.5 * np.random.default_rng((number, 1)).standard_normal(self._dim)).astype("<f4")

    def _about(self, number: int) -> dict[str, object]:
        return {"person_id": f"p{number // 4}", "camera_id": str(number % 4)}

    def _remember(self, person: str, item: str) -> None:
        if not self._persons or self._persons[-1][0] != person:
            self._persons.append((person, []))
        self._persons[-1][1].append(item)

    async def _search(self) -> None:
        await self._client.search("lobby", self._rng.choice(self._pictures), k=10)

    async def _search_vector(self) -> None:
        body = {"vector": self._vector(self._rng.randrange(self._next)).tolist()}
        by = self._rng.choice(["item", "person"])
        answer = await self._http.post("/v1/collections/lobby/search", params={"k": "10", "by": by}, json=body)
        answer.raise_for_status()

    async def _add(self) -> None:
        first, self._next = self._next, self._next + 4
        crops = [CropFile(f"{n}.jpg", picture(n), {"id": f"c{n}", **self._about(n)}) for n in range(first, first + 4)]
        results = await self._client.add("lobby", crops)
        for n, result in zip(range(first, first + 4), results, strict=True):
            if result["status"] != "added":
                raise RuntimeError(result)
            self._remember(f"p{n // 4}", f"c{n}")

    async def _delete(self) -> None:
        _, items = self._persons[0]
        item = items.pop()
        if not items:
            self._persons.popleft()
        (await self._http.delete(f"/v1/collections/lobby/items/{item}")).raise_for_status()

    async def _erase(self) -> None:
        person, _ = self._persons.popleft()
        await self._client.erase("lobby", {"persons": [person]})

    async def _list(self) -> None:
        answer = await self._http.get("/v1/collections/lobby/items", params={"limit": "200"})
        answer.raise_for_status()

    async def _snapshot(self) -> None:
        made = await self._client.snapshot()
        for one in (await self._client.snapshots())["snapshots"]:
            if one["id"] != made["id"]:
                await self._client.delete_snapshot(one["id"])

    async def _check(self) -> None:
        report = await self._client.check()
        if not report["ok"]:
            raise RuntimeError(report)


def picture(number: int) -> bytes:
    """A JPEG of a crop's size; others for other numbers."""
    coarse = np.random.default_rng(number).integers(0, 256, (16, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((64, 128), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def schedule(seconds: float, rng: random.Random) -> list[tuple[float, str]]:
    """When to do what: the hour's work in ten minutes' time, or a part of it in less."""
    due = []
    for what, in_hour in HOUR.items():
        count = max(1, round(in_hour * seconds / 600))
        due += [((n + rng.random()) * seconds / count, what) for n in range(count)]
    return sorted(due)


async def work(load: Load, due: Sequence[tuple[float, str]], told: Told) -> None:
    """Each deed when it is due, or as soon as one of the clients is free."""
    waiting, begun = deque(due), time.monotonic()

    async def one_client() -> None:
        while waiting:
            when, what = waiting.popleft()
            await asyncio.sleep(max(0.0, begun + when - time.monotonic()))
            await load.do(what)

    await asyncio.gather(*(one_client() for _ in range(CLIENTS)))
    told.seconds = time.monotonic() - begun


async def watch(pid: int, every_s: float, told: Told) -> None:
    """Sample the server's resident memory until cancelled."""
    begun = time.monotonic()
    while True:
        told.samples.append((time.monotonic() - begun, resident_bytes(pid)))
        await asyncio.sleep(every_s)


def resident_bytes(pid: int) -> int:
    """VmRSS, see proc(5)."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def medians(samples: Sequence[tuple[float, int]]) -> list[float]:
    """Of each tenth of the time."""
    last = samples[-1][0]
    tenths = [[size for when, size in samples if last * n <= TENTHS * when <= last * (n + 1)] for n in range(TENTHS)]
    return [median(tenth) for tenth in tenths]


def spread(levels: Sequence[float]) -> float:
    """How far the tenths behind the warm-up lie apart, as a part of the lowest."""
    warm = levels[WARM_UP:]
    return (max(warm) - min(warm)) / min(warm)


def curve(samples: Sequence[tuple[float, int]], width: int = 60) -> str:
    """A line per twentieth of the run: its highest sample."""
    last, top = samples[-1][0], max(size for _, size in samples)
    lines = []
    for n in range(2 * TENTHS):
        sizes = [size for when, size in samples if last * n <= 2 * TENTHS * when <= last * (n + 1)]
        if sizes:
            bar = "#" * round(width * max(sizes) / top)
            lines.append(f"{last * (n + 1) / 2 / TENTHS:6.0f} s {max(sizes) / 1e6:8.1f} MB {bar}")
    return "\n".join(lines)


async def soak(seconds: float, items: int, seed: int) -> Told:
    """Serve, fill, load, and watch."""
    told, rng = Told(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="reid-soak-") as folder:
        environment = {"REID_THREADS": "1", "REID_TIMEOUT_MS": "60000"}
        server = await asyncio.to_thread(lambda: Server("--data", f"{folder}/data", environment=environment))
        try:
            async with Client(server.url) as client:
                await until_ready(server.url)
                load = Load(server.url, client, rng, told)
                await load.fill(items)
                watching = asyncio.create_task(watch(server.process.pid, max(0.1, seconds / 600), told))
                await work(load, schedule(seconds, rng), told)
                watching.cancel()
                await load.close()
        finally:
            await asyncio.to_thread(server.stop, signal.SIGTERM)
    return told


async def until_ready(url: str) -> None:
    """Raises TimeoutError after a minute."""
    async with asyncio.timeout(60), httpx.AsyncClient() as http:
        while (await http.get(f"{url}/readyz")).status_code != 200:
            await asyncio.sleep(0.1)


def verdict(told: Told, seconds: float) -> list[str]:
    """What is wrong."""
    wrong = [f"{len(told.refused)} requests failed; the first: {told.refused[0]}"] if told.refused else []
    if told.seconds > 2 * seconds:
        wrong.append(f"the work took {told.seconds:.0f} s, not {seconds:.0f}")
    if (apart := spread(medians(told.samples))) > FLAT:
        wrong.append(f"resident memory moves by {apart:.1%} behind the warm-up, more than {FLAT:.0%}")
    return wrong


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    told = asyncio.run(soak(60 * given.minutes, given.items, given.seed))
    print(curve(told.samples))
    print(", ".join(f"{what} {count}" for what, count in told.done.items()), f"in {told.seconds:.0f} s")
    levels = medians(told.samples)
    print("medians of the tenths in MB:", ", ".join(f"{level / 1e6:.1f}" for level in levels))
    print(f"behind the warm-up they lie within {spread(levels):.1%}")
    if wrong := verdict(told, 60 * given.minutes):
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
