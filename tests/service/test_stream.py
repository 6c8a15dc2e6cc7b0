"""Crops into a collection: each stage a bounded way ahead of the next, none waiting for more to come."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.adapters.memory import MemoryEmbedder, MemoryStore
from app.core.preprocess import Crop, Limits
from app.core.records import Filter, Item, NamePattern, Outcome
from app.engine import Device, Engine
from app.errors import BadArchive, DeviceFailed, ForeignVectors, StorageFailed
from app.ports import Crops, Floats
from app.service.embed import Embedding, Upload
from app.service.galleries import Galleries
from app.service.incoming import Description, New, NewCrop, NewPixels, NewVector, Reading, Result, Unusable
from app.service.ingest import Ingest, each
from app.service.stages import Stages
from app.service.stream import AHEAD, ARRIVED, GROUP

pytestmark = pytest.mark.anyio


class Door(MemoryEmbedder):
    """The embedder that can be worked out by hand, behind a door."""

    def __init__(self) -> None:
        self.open, self.begun = threading.Event(), threading.Event()
        self.open.set()
        self.crops = 0
        self.error: DeviceFailed | None = None

    def embed(self, crops: Crops) -> Floats:
        self.begun.set()
        assert self.open.wait(20)
        if self.error is not None:
            raise self.error
        self.crops += len(crops)
        return super().embed(crops)


class Shelf(MemoryStore):
    """The reference store, which counts commits and can be held or refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.begun = threading.Event(), threading.Event()
        self.open.set()
        self.commits: list[int] = []
        self.full_after = 10**6

    def upsert(
        self, name: str, items: Sequence[Item], vectors: Floats, crops: Sequence[Crop] | None = None
    ) -> list[Outcome]:
        self.begun.set()
        assert self.open.wait(20)
        if len(self.commits) >= self.full_after:
            raise StorageFailed("the disk is full")
        self.commits.append(len(items))
        return super().upsert(name, items, vectors, crops)


@dataclass(frozen=True)
class World:
    ingest: Ingest
    store: Shelf
    device: Door

    async def add(
        self, entries: AsyncIterator[New], reading: Reading = Reading(), together: bool = False
    ) -> list[Result]:
        results: list[Result] = []

        async def take(some: Sequence[Result]) -> None:
            results.extend(some)

        await self.ingest.add("lobby", entries, take, Stages(), reading, together)
        return results


@asynccontextmanager
async def world(held_bytes: int = 10**7, keep_crops: bool = False) -> AsyncIterator[World]:
    device, store, pool = Door(), Shelf(), ThreadPoolExecutor(2)
    engine = Engine([Device("memory", lambda: device)])
    await engine.start()
    galleries = Galleries(store, device.fingerprint, device.dim, lambda: datetime(2026, 3, 1, tzinfo=UTC))
    await galleries.put("lobby", keep_crops)
    yield World(Ingest(Embedding(engine, pool, Limits()), galleries, store, held_bytes), store, device)
    device.open.set()
    await engine.close()
    pool.shutdown()


def png(seed: int, padding: int = 0) -> bytes:
    """A picture that differs for every number; what stands behind its end is no part of it, but of its bytes."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 64), (seed % 256, seed // 256, 7)).save(buffer, "PNG")
    return buffer.getvalue() + bytes(padding)


def crop(seed: int, padding: int = 0, **said: Any) -> NewCrop:
    return NewCrop(Upload(f"{seed}.png", png(seed, padding)), Description(**said))


async def test_results_keep_the_order_in_which_crops_came() -> None:
    async with world() as w:
        entries: list[New] = [crop(i) for i in range(200)]
        entries[7] = NewCrop(Upload("bad.png", b"no picture"))
        entries[9] = Unusable("link.png", BadArchive("a link"))
        results = await w.add(each(entries))
        assert [r.name for r in results] == [entry.name for entry in entries]
        assert [r.status for r in results] == ["refused" if i in (7, 9) else "added" for i in range(200)]
        assert w.store.count("lobby") == 198
        assert max(w.store.commits) <= GROUP


async def test_who_sends_one_crop_and_waits_for_its_result_gets_it() -> None:
    async with world() as w:
        told: list[Result] = []
        heard = asyncio.Event()

        async def take(results: Sequence[Result]) -> None:
            told.extend(results)
            heard.set()

        async def entries() -> AsyncIterator[New]:
            for i in range(3):
                yield crop(i)
                await asyncio.wait_for(heard.wait(), 20)
                heard.clear()
                assert w.store.count("lobby") == i + 1  # on disk before it is told

        await w.ingest.add("lobby", entries(), take, Stages())
        assert [r.name for r in told] == ["0.png", "1.png", "2.png"]


async def test_a_device_that_is_stuck_stops_the_reading_after_a_bounded_number_of_crops() -> None:
    async with world() as w:
        w.device.open.clear()
        read = 0

        async def entries() -> AsyncIterator[New]:
            nonlocal read
            for i in range(1000):
                yield crop(i)
                read += 1

        adding = asyncio.create_task(w.add(entries()))
        await _settled(lambda: read)
        # ARRIVED wait to be described and as many are being described, AHEAD to be committed; one is in each hand.
        assert 20 < read <= 2 * ARRIVED + AHEAD + 3
        w.device.open.set()
        assert len(await adding) == 1000


async def test_bytes_are_bounded_as_well_and_a_crop_that_is_larger_than_all_passes_alone() -> None:
    async with world(held_bytes=2 * len(png(0, 400)) + 100) as w:
        w.device.open.clear()
        read = 0

        async def entries() -> AsyncIterator[New]:
            nonlocal read
            for i in range(10):
                read += 1
                yield crop(i, padding=400 if i < 9 else 5000)

        adding = asyncio.create_task(w.add(entries()))
        await _settled(lambda: read)
        assert read == 3  # there is room for two, and the third one waits with the reader
        w.device.open.set()
        assert [r.status for r in await adding] == ["added"] * 10


async def test_the_next_crops_are_embedded_while_a_commit_lasts() -> None:
    async with world() as w:
        w.store.open.clear()
        adding = asyncio.create_task(w.add(each([crop(i) for i in range(40)])))
        await asyncio.to_thread(w.store.begun.wait, 20)
        await _settled(lambda: w.device.crops)
        assert w.device.crops == 40
        assert w.store.commits == []
        w.store.open.set()
        await adding
        assert len(w.store.commits) <= 3  # what was ready when the first commit ended went into the next


async def test_what_breaks_off_comes_after_the_results_of_all_that_came_before() -> None:
    async def entries() -> AsyncIterator[New]:
        for i in range(30):
            yield crop(i)
        raise BadArchive("cut short")

    async with world() as w:
        results: list[Result] = []

        async def take(some: Sequence[Result]) -> None:
            results.extend(some)

        with pytest.raises(BadArchive):
            await w.ingest.add("lobby", entries(), take, Stages())
        assert [r.status for r in results] == ["added"] * 30
        with pytest.raises(BadArchive):  # together: all or nothing
            await w.ingest.add("lobby", entries(), take, Stages(), Reading(otherwise=Description(person_id="x")), True)
        assert [item.person_id for item in w.store.get("lobby", [r.id or "" for r in results]) if item] == [None] * 30


async def test_together_is_one_commit() -> None:
    async with world() as w:
        assert len(await w.add(each([crop(i) for i in range(100)]), together=True)) == 100
        assert w.store.commits == [100]


async def test_a_disk_that_fills_up_ends_it_and_what_was_told_stays() -> None:
    async with world() as w:
        w.store.full_after = 1
        results: list[Result] = []

        async def take(some: Sequence[Result]) -> None:
            results.extend(some)

        async def entries() -> AsyncIterator[New]:
            yield crop(0)
            while not results:
                await asyncio.sleep(0.001)
            for i in range(1, 500):
                yield crop(i)

        with pytest.raises(StorageFailed):
            await w.ingest.add("lobby", entries(), take, Stages())
        assert [r.name for r in results] == ["0.png"]
        assert w.store.count("lobby") == 1
        w.store.full_after = 10**6
        # The same again goes on where it ended; and nothing is left of the first time that would take room from it.
        again = await w.add(each([crop(i) for i in range(500)]))
        assert [r.status for r in again] == ["unchanged"] + ["added"] * 499


async def test_a_device_that_fails_ends_it_with_its_error() -> None:
    async with world() as w:
        w.device.error = DeviceFailed("the chip is gone")
        with pytest.raises(DeviceFailed, match="the chip is gone"):
            await w.add(each([crop(i) for i in range(100)]))
        assert w.store.count("lobby") == 0


async def test_who_leaves_takes_what_waits_along_and_gives_the_room_back() -> None:
    async with world(held_bytes=2 * len(png(0, 400)) + 100) as w:
        w.device.open.clear()
        adding = asyncio.create_task(w.add(each([crop(i, padding=400) for i in range(50)])))
        await asyncio.to_thread(w.device.begun.wait, 20)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        w.device.open.set()
        assert [r.status for r in await w.add(each([crop(i, padding=400) for i in range(3)]))] == ["added"] * 3
        assert w.device.crops <= 2 + 3  # of the 50 those that were on the device
        assert w.store.count("lobby") == 3


async def test_what_is_stored_is_not_embedded_again() -> None:
    async with world() as w:
        await w.add(each([crop(i) for i in range(10)]))
        before = w.device.crops
        results = await w.add(each([crop(i) for i in range(12)]))
        assert [r.status for r in results] == ["unchanged"] * 10 + ["added"] * 2
        assert w.device.crops == before + 2


async def test_of_one_id_the_last_crop_counts_however_close_they_come() -> None:
    async with world() as w:
        await w.add(each([crop(1, id="gate")]))
        results = await w.add(each([crop(2, id="gate"), crop(1, id="gate")]))
        assert [r.status for r in results] == ["updated", "updated"]
        (item,) = w.store.get("lobby", ["gate"])
        assert item is not None
        assert item.source == "1.png"


async def test_the_same_crop_twice_in_a_row_keeps_the_labels_that_came_with_the_first() -> None:
    async with world() as w:
        await w.add(each([crop(1, person_id="anna"), crop(1), crop(1, camera_id="7")]))
        (item,) = w.store.scan("lobby", Filter())
        assert (item.person_id, item.camera_id) == ("anna", "7")


async def test_description_goes_before_name_and_name_before_what_is_said_of_all() -> None:
    async with world() as w:
        reading = Reading(NamePattern("duke"), Description(person_id="all", camera_id="9"))
        named = [
            NewCrop(Upload("0005_c2_f1.png", png(1))),
            NewCrop(Upload("0005_c2_f2.png", png(2)), Description(person_id="anna")),
            NewCrop(Upload("hat.png", png(3)), Description(person_id="bert", camera_id="1")),
            NewCrop(Upload("hat.png", png(4))),
        ]
        results = await w.add(each(named), reading)
        assert [r.status for r in results] == ["added"] * 3 + ["refused"]
        items = w.store.scan("lobby", Filter())
        assert [(i.person_id, i.camera_id) for i in items] == [("0005", "2"), ("anna", "2"), ("bert", "1")]
        await w.add(each([crop(9)]), Reading(None, Description(person_id="all", camera_id="9")))
        assert [(i.person_id, i.camera_id) for i in w.store.scan("lobby", Filter())][3:] == [("all", "9")]


async def test_crops_pixels_and_vectors_mix_and_only_crops_are_kept() -> None:
    pixels = np.full((256, 128, 3), 255, dtype=np.uint8)
    pixels[..., 1:] = 0  # wholly red: [1, 0, 0] four times, then 1
    vector = np.arange(1, 14, dtype=np.float32)
    async with world(keep_crops=True) as w:
        entries: list[New] = [
            crop(1),
            NewVector("v", vector, None, Description(id="v")),
            NewPixels("p", pixels, None, Description(id="p")),
            NewVector("short", vector[:5]),
        ]
        results = await w.add(each(entries), Reading(fingerprint=w.device.fingerprint))
        assert [r.status for r in results] == ["added", "added", "added", "refused"]
        assert w.store.crop("lobby", "v") is None
        kept = w.store.crop("lobby", "p")
        assert kept is not None
        assert np.array_equal(kept, pixels)
        units, norms = w.store.vectors("lobby", ["p", "v"])
        np.testing.assert_allclose(units[0] * norms[0], [1, 0, 0] * 4 + [1], atol=1e-6)
        np.testing.assert_allclose(units[1] * norms[1], vector, rtol=1e-6)


async def test_a_vector_needs_the_fingerprint_of_the_loaded_model() -> None:
    async with world() as w:
        entries = [NewVector("v", np.arange(1, 14, dtype=np.float32))]
        (result,) = await w.add(each(entries))
        assert "fingerprint" in str(result.error)
        with pytest.raises(ForeignVectors):
            await w.add(each(entries), Reading(fingerprint="another"))


async def _settled(count: Callable[[], int]) -> None:
    """Until a number has stopped to change: what could go on has gone on."""
    before, same = count(), 0
    while same < 20:
        await asyncio.sleep(0.01)
        same = same + 1 if count() == before else 0
        before = count()
