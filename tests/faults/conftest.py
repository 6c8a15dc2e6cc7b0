"""A service whose gallery can be hurt, and a disk that is full for real."""

import functools
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from app.adapters.local_gallery import LocalGallery
from app.adapters.model_directory import ModelDirectory
from app.cli.common import application
from app.engine import trust
from app.settings import Settings
from app.wiring import build_service, devices
from tests.faults.visit import SmallDisk, Visit, Visiting, run
from tests.faults.world import PLAN


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def visiting(tiny_model_directory: Path) -> Visiting:
    """Opens a service over a data directory; it is closed at the end of the block."""

    @asynccontextmanager
    async def visit(directory: Path) -> AsyncIterator[Visit]:
        settings = Settings(model_dir=tiny_model_directory, data_dir=directory, threads=1)
        model, store = ModelDirectory.open(settings.model_dir), LocalGallery(directory, derive=False, plan=PLAN)
        service = build_service(model, devices(model, settings), store, settings, prove=trust)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(service.close)
            await service.engine.open()
            await service.start()
            transport = httpx.ASGITransport(application(service, settings))
            http = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1"))
            yield Visit(http, service)

    return visit


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Three megabytes of tmpfs: when they are full, ENOSPC is the kernel's own. Mounting takes root, of a namespace at least."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(
            f"NOT TRIED, what a full or read-only disk does: {mounted.stderr.strip()}; "
            "run `unshare --map-root-user --mount .venv/bin/pytest tests/faults`, or as root"
        )
    try:
        yield SmallDisk(path)
    finally:
        run("umount", "--lazy", str(path))


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], object]]]:
    """An ext4 file system, and what makes the kernel find an error in it, whereupon it may only be read (ext4(5), errors=)."""
    path, image = tmp_path / "disk", tmp_path / "image"
    path.mkdir()
    image.write_bytes(bytes(16 * 2**20))
    try:
        run("mkfs.ext4", "-q", str(image))
        run("mount", "-o", "loop,errors=remount-ro", str(image), str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"NOT TRIED, what an error of the disk does: {error}")
    try:
        device = Path(run("findmnt", "--noheadings", "--output", "SOURCE", str(path)).strip())
        trigger = Path("/sys/fs/ext4") / device.name / "trigger_fs_error"
        yield path, functools.partial(trigger.write_text, "1", encoding="ascii")
    finally:
        run("umount", "--lazy", str(path))
