"""Starts a rival in a process of its own, LitServe in an environment of its own too, which is made when it is missing."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from tests.load.rivals.network import ONNX, PORT, THREADS
from tests.load.run import Target
from tests.load.servers import free_port, wait_until_ready
from tests.server import ROOT

PLAIN, LITSERVE = "FastAPI handler", "LitServe"
_MODULES = {PLAIN: "tests.load.rivals.plain", LITSERVE: "tests.load.rivals.lit"}
ENVIRONMENT = ROOT / "build" / "load" / "rivals"
# LitServe's newest when this was written; the rest as it is here, so that both run the same kernels and decoder.
PINS = (
    "litserve==0.2.19",
    "python-multipart",
    *(f"{name}=={version(name)}" for name in ("numpy", "onnxruntime", "pillow")),
)


def environment(folder: Path = ENVIRONMENT) -> Path:
    """LitServe's Python; installed by pip unless it is there, whole and as pinned."""
    python, stamp = folder / "bin" / "python", folder / ".pins"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != "\n".join(PINS):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PINS], check=True, stdout=sys.stderr)
        stamp.write_text("\n".join(PINS), encoding="utf-8")
    return python


@asynccontextmanager
async def rival(name: str, onnx: Path, threads: int, python: str) -> AsyncIterator[Target]:
    """One that is ready; its processes are gone at the end."""
    port = free_port()
    told = {ONNX: str(onnx.resolve()), THREADS: str(threads), PORT: str(port)}
    variables = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(ROOT), **told}
    command = [python, "-m", _MODULES[name]]
    # A session of its own: LitServe's workers are ended with it.
    process = await asyncio.to_thread(
        lambda: subprocess.Popen(command, env=variables, cwd=ROOT, stdout=sys.stderr, start_new_session=True)
    )
    try:
        await wait_until_ready(f"http://127.0.0.1:{port}/health")
        yield Target(name, f"http://127.0.0.1:{port}", (process.pid,))
    finally:
        await asyncio.to_thread(_end, process)


@contextmanager
def busy_neighbour() -> Iterator[int]:
    """A process that takes all of one core; its pid."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # whatever is left of its session
    process.wait()
