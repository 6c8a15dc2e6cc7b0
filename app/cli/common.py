"""What the commands share: options, output, and the way to a service, elsewhere or in this process."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from fastapi import FastAPI
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from app.api import create_app
from app.api.guard import LOOPBACK_NAMES
from app.api.limits import RequestLimits
from app.client import Client
from app.errors import BadInput
from app.files import whole_file
from app.service import Service
from app.settings import Settings, is_loopback, read_settings
from app.wiring import open_service

# Without markup: names and labels are the callers' and may hold square brackets.
out = Console(soft_wrap=True, markup=False, emoji=False)  # results
notes = Console(stderr=True, soft_wrap=True, markup=False, emoji=False)  # progress, remarks, refusals

Url = Annotated[str | None, typer.Option("--url", help="Talk to this server instead of working in this process.")]
Model = Annotated[
    Path | None, typer.Option("--model", help="Model directory [REID_MODEL_DIR; default: the demo model].")
]
Data = Annotated[Path | None, typer.Option("--data", help="Data directory [REID_DATA_DIR; default: reid-data].")]
JsonPath = Annotated[
    str | None, typer.Option("--json", help="Also write the answer as JSON to this file; '-' for stdout.")
]
Pattern = Annotated[str, typer.Option(help="File names: auto, duke, market1501, msmt17, or a regular expression.")]


@dataclass(frozen=True, slots=True)
class Target:
    """Where the work is done."""

    url: str | None
    model: Path | None
    data: Path | None
    variant: str | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        own = (self.model, self.data, self.variant, self.batch_size)
        if self.url is not None and any(value is not None for value in own):
            raise typer.BadParameter(
                "--url talks to a server, which has its own --model, --data, --variant and --batch-size; "
                "give one or the other"
            )


@asynccontextmanager
async def connect(target: Target, stored: bool = True, root: Path | None = None) -> AsyncIterator[Client]:
    """A client to the server at --url, or to one built here; `root` is a folder that it may read."""
    if target.url is not None:
        async with Client(target.url) as client:
            yield client
        return
    settings = read_settings(
        model_dir=target.model,
        data_dir=target.data,
        data_roots=(root.resolve(),) if root else None,
        variant=target.variant,
        batch_sizes=(target.batch_size,) if target.batch_size else None,
    )
    async with open_service(settings, stored) as service:
        await start(service)
        # The same routes as over the network: a command means the same with and without --url.
        async with Client("http://127.0.0.1", httpx.ASGITransport(application(service, settings))) as client:
            yield client


def application(service: Service, settings: Settings, examples: Path | None = None) -> FastAPI:
    """The ASGI application with the limits of the settings."""
    limits = RequestLimits(settings.max_crops, crop_bytes=settings.max_crop_bytes, timeout_s=settings.timeout_ms / 1000)
    names = LOOPBACK_NAMES | {settings.host} if is_loopback(settings.host) else None
    return create_app(service, limits, examples, names)


async def start(service: Service) -> None:
    """Warm up, and refuse to go on with a model that does not pass."""
    await service.start()
    service.require_ready()
    notes.print(f"model: {service.model.label} ({service.model.fingerprint})", style="dim")


async def all_of(work: Iterable[Coroutine[None, None, None]]) -> None:
    """Run side by side; the first failure ends the others and is raised as it is, not in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def log_to_stderr(settings: Settings) -> None:
    """Our own log lines at the level asked for; of the libraries' only warnings."""
    logging.basicConfig(stream=sys.stderr, level="WARNING", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in ("app", "reid"):
        logging.getLogger(name).setLevel(settings.log_level.upper())


def progress(unit: str) -> Progress:
    """A bar with count, rate and time left, on stderr; silent where stderr is no terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(unit))
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=notes, disable=not notes.is_terminal)


class _Rate(ProgressColumn):
    """Steps a second, lately."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Such as `crops, 24.3/s`."""
        return Text(f"{self._unit}, {task.speed:.1f}/s" if self._unit and task.speed else self._unit)


def write_json(path: str | None, answer: Any) -> bool:
    """Write the answer where --json asks for it; True if that was stdout, so that nothing else may go there."""
    if path is None:
        return False
    text = json.dumps(answer, indent=2)
    if path == "-":
        sys.stdout.write(text + "\n")
        return True
    with whole_file(Path(path)) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    return False


def list_folder(folder: Path, recursive: bool = False) -> list[str]:
    """Names of the plain files below a folder, relative to it, with '/'; links are not followed. Raises BadInput."""
    if not folder.is_dir():
        raise BadInput(f"there is no folder {str(folder)!r}")
    entries = folder.rglob("*") if recursive else folder.iterdir()
    return [e.relative_to(folder).as_posix() for e in entries if e.is_file() and not e.is_symlink()]
