"""A disk that is full, or read-only, as the kernel tells it: reads go on, writes are refused whole, and space makes it good."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.adapters.local_gallery import LocalGallery
from app.errors import StorageFailed
from tests.faults.visit import LOBBY, SmallDisk, Visit, Visiting, refusal

pytestmark = pytest.mark.anyio
REFUSED = (503, "storage_failed")
GROUP = 16


def names(count: int) -> list[str]:
    return [f"i{number:05}" for number in range(count)]


async def filled(visit: Visit) -> int:
    """Add items until the disk is full; how many were acknowledged."""
    await visit.http.put(LOBBY)
    for start in range(0, 20_000, GROUP):
        answer = await visit.add(start, start + GROUP)
        if answer.status_code != 200:
            assert refusal(answer) == REFUSED, answer.text
            return start
    raise AssertionError("the disk was never full")


async def test_a_full_disk_refuses_writes_whole_and_answers_reads(small_disk: SmallDisk, visiting: Visiting) -> None:
    ballast = small_disk.path / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    async with visiting(small_disk.path / "data") as visit:
        count = await filled(visit)
        assert small_disk.free() < 200_000
        assert await visit.ids() == names(count)  # of the group that was refused, none
        assert [await visit.found(number) for number in (0, count - 1)] == [names(count)[0], names(count)[-1]]
        assert (await visit.http.get("/readyz")).status_code == 200
        ballast.unlink()
        assert (await visit.add(count, count + GROUP)).status_code == 200
        assert await visit.found(count + 1) == names(count + 2)[-1]
        assert await visit.ids() == names(count + GROUP)
        assert await visit.check() == {}
    async with visiting(small_disk.path / "data") as visit:
        assert await visit.ids() == names(count + GROUP)
        assert await visit.check() == {}


async def test_an_erase_on_a_full_disk_is_refused_or_done_and_done_for_good_when_there_is_room(
    small_disk: SmallDisk, visiting: Visiting
) -> None:
    ballast = small_disk.path / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    async with visiting(small_disk.path / "data") as visit:
        count = await filled(visit)
        answer = await visit.http.post(f"{LOBBY}/erase", json={"persons": ["p0"]})
        assert refusal(answer) == REFUSED  # overwriting takes room first
        assert await visit.ids() in (names(count), names(count)[4:])  # never two of the four
        ballast.unlink()
        assert (await visit.http.post(f"{LOBBY}/erase", json={"persons": ["p0"]})).status_code == 200
        assert await visit.ids() == names(count)[4:]
        assert await visit.check() == {}
    stored = b"".join(path.read_bytes() for path in (small_disk.path / "data").rglob("*") if path.is_file())
    assert not any(name.encode() in stored for name in names(4))
    assert names(5)[4].encode() in stored


async def test_a_snapshot_that_finds_no_room_leaves_nothing(small_disk: SmallDisk, visiting: Visiting) -> None:
    async with visiting(small_disk.path / "data") as visit:
        await filled(visit)
        small_disk.remount("size=3500k")  # for the job itself
        answer = await visit.http.post("/v1/snapshots", json={"wait": 30})
        assert refusal(answer) == REFUSED, answer.text
        left = [path.name for path in (small_disk.path / "data-snapshots").iterdir()]
        assert [name for name in left if name != "erasures.jsonl"] == []
        small_disk.remount("size=12m")
        assert (await visit.http.post("/v1/snapshots", json={"wait": 30})).status_code == 201


def test_a_read_only_disk_is_refused_at_the_start_and_served_when_it_may_be_written(small_disk: SmallDisk) -> None:
    directory = small_disk.path / "data"
    LocalGallery(directory).close()
    small_disk.remount("ro")
    with pytest.raises(StorageFailed, match=r"the data directory .* cannot be used: Read-only file system"):
        LocalGallery(directory)
    small_disk.remount("rw")
    LocalGallery(directory).close()


async def test_a_start_on_a_full_disk_is_refused_and_finds_everything_when_there_is_room(
    small_disk: SmallDisk, visiting: Visiting
) -> None:
    async with visiting(small_disk.path / "data") as visit:
        await visit.http.put(LOBBY)
        assert (await visit.add(0, GROUP)).status_code == 200
    ballast = small_disk.path / "ballast"
    ballast.write_bytes(bytes(small_disk.free()))
    with pytest.raises(StorageFailed, match=str(small_disk.path / "data")):
        async with visiting(small_disk.path / "data"):
            pass
    ballast.unlink()
    async with visiting(small_disk.path / "data") as visit:
        assert await visit.ids() == names(GROUP)


async def test_a_disk_that_turns_read_only_refuses_writes_answers_reads_and_loses_nothing(
    failing_disk: tuple[Path, Callable[[], object]], visiting: Visiting, tmp_path: Path
) -> None:
    disk, fail = failing_disk
    async with visiting(disk / "data") as visit:
        await visit.http.put(LOBBY)
        assert (await visit.add(0, 3 * GROUP)).status_code == 200
        fail()
        assert refusal(await visit.add(3 * GROUP, 4 * GROUP)) == REFUSED
        assert refusal(await visit.http.post(f"{LOBBY}/erase", json={"persons": ["p0"]})) == REFUSED
        assert refusal(await visit.http.delete(f"{LOBBY}/items/{names(1)[0]}")) == REFUSED
        assert await visit.ids() == names(3 * GROUP)
        assert [await visit.found(number) for number in (0, 47)] == [names(48)[0], names(48)[47]]
    with pytest.raises(StorageFailed, match="Read-only file system"):
        LocalGallery(disk / "data")
    copy = shutil.copytree(disk / "data", tmp_path / "copy")  # to a disk that works
    async with visiting(copy) as visit:
        assert await visit.ids() == names(3 * GROUP)
        assert await visit.check() == {}
