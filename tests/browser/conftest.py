"""A real server on loopback with a drawn gallery, and Debian's chromium to look at it with."""

import asyncio
import os
import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from app.cli.common import application
from app.cli.serve import Server, listen
from app.client import Client, CropFile, VectorFile
from app.core.records import NamePattern
from app.demo.dataset import Recipe, write_folder
from app.settings import Settings
from app.wiring import open_service

Fill = Callable[[Client], Awaitable[None]]
HOSTILE = '<img src=x onerror="document.title = `run`">'
# Without these it calls home, and would be what asks somebody else.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    write_folder(Recipe(seed=4, persons=5, distractors=2, cameras=3), folder)
    return folder


@pytest.fixture(scope="session")
def examples(drawn: Path) -> list[Path]:
    """The example queries in the order of the page."""
    return sorted((drawn / "query").iterdir())


@pytest.fixture(scope="session")
def site(tiny_model_directory: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with the collections `demo` (crops kept), `hostile`, `known` (calibrated) and `lean` (none kept),
    and examples.
    """
    settings = Settings(model_dir=tiny_model_directory, data_dir=tmp_path_factory.mktemp("site"), threads=1)
    gallery = sorted((drawn / "bounding_box_test").iterdir())

    async def fill(client: Client) -> None:
        await client.put_collection("demo", keep_crops=True)
        await client.add("demo", [CropFile(path.name, path.read_bytes(), labels_of(path)) for path in gallery])
        await client.put_collection("hostile", keep_crops=True)
        about = {"id": "a b?&#<i>", "person_id": HOSTILE, "camera_id": HOSTILE}
        await client.add("hostile", [CropFile(HOSTILE, gallery[0].read_bytes(), about)])
        await fill_known(client, sorted((drawn / "query").iterdir())[0])
        await client.put_collection("lean", keep_crops=False)
        await client.add("lean", [CropFile("lean.jpg", gallery[0].read_bytes(), {})])

    with serving(settings, drawn / "query", fill) as url:
        yield url


@pytest.fixture(scope="session")
def empty_site(tiny_model_directory: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that has no collection yet."""
    settings = Settings(model_dir=tiny_model_directory, data_dir=tmp_path_factory.mktemp("empty"), threads=1)
    with serving(settings, drawn / "query") as url:
        yield url


# Not for the session: while playwright's sync API is open, no other test of this process can run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        missing = "Debian's chromium is not installed (apt-get install chromium)"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    expect.set_options(timeout=20_000)  # ms; the machine may be busy with other tests
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page of its own profile. Afterwards: it asked nobody but this machine, and no script of it failed."""
    with watched(browser.new_page(viewport={"width": 1280, "height": 900})) as opened:
        yield opened


@contextmanager
def watched(page: Page) -> Iterator[Page]:
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if is_wrong(said) else None)
    yield page
    served = page.evaluate("location.origin")
    page.close()
    strangers = [url for url in asked if not url.startswith((f"{served}/", "data:", f"blob:{served}/"))]
    assert strangers == []
    assert wrong == []


def is_wrong(said: ConsoleMessage) -> bool:
    """Errors and warnings, less the browser's own note of a refused search; the page shows its sentence."""
    refused = "the server responded with a status of 4" in said.text and "/search?" in said.location["url"]
    return said.type in ("error", "warning") and not refused


@contextmanager
def serving(settings: Settings, examples: Path, fill: Fill | None = None) -> Iterator[str]:
    """A whole server on a free port, in a thread of its own: playwright's sync API keeps this thread's event loop."""
    url: Future[str] = Future()
    stop = threading.Event()

    async def work() -> None:
        async with open_service(settings) as service:
            await service.start()
            assert service.readiness.ready, service.readiness.sentence
            with listen("127.0.0.1", 0) as door:
                running = Server(application(service, settings, examples))
                task = asyncio.create_task(running.serve(sockets=[door]))
                address = f"http://127.0.0.1:{door.getsockname()[1]}"
                if fill is not None:
                    async with Client(address) as client:
                        await fill(client)
                url.set_result(address)
                await asyncio.to_thread(stop.wait)
                running.should_exit = True
                await task

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            if url.done():
                raise
            url.set_exception(error)

    thread = threading.Thread(target=run, name="site")
    thread.start()
    try:
        yield url.result(timeout=60)
    finally:
        stop.set()
        thread.join(timeout=30)
        assert not thread.is_alive()


async def fill_known(client: Client, crop: Path) -> None:
    """Calibrated by made-up vectors of 62 persons before two cameras, like no picture; the crop itself is of camera 9."""
    model, rng = await client.model(), np.random.default_rng(0)
    directions = rng.normal(size=(62, model["dim"]))
    vectors = [
        VectorFile(f"{p}-{c}", (one + rng.normal(size=len(one)) / 2).astype("<f4").tobytes(), made_up(p, c))
        for c in (1, 2)
        for p, one in enumerate(directions)
    ]
    await client.put_collection("known")
    for half in (vectors[:62], vectors[62:]):
        await client.add_vectors("known", model["fingerprint"], half)
    await client.add("known", [CropFile(crop.name, crop.read_bytes(), {"person_id": "0007", "camera_id": "9"})])
    learnt = (await client.calibrate("known", 0.01))["calibrations"]["item"]
    assert learnt["refused"] is None


def made_up(person: int, camera: int) -> dict[str, str]:
    return {"person_id": f"made up {person}", "camera_id": str(camera)}


def labels_of(path: Path) -> dict[str, str]:
    label = NamePattern("duke").read(path.name)
    assert label is not None
    return {"person_id": label.person_id, "camera_id": label.camera_id}
