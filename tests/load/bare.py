"""The model alone, in a process of its own: crops a second, and the time of one batch. What everything else is a share of.

    python -m tests.load.bare MODEL_DIR [--variant onnx-fp32] [--batch 8] [--seconds 10] [--by session]

by session: ONNX Runtime as it comes (its threads spin), floats ready, nothing else: the strictest denominator.
by adapter: the embedder that serves, which takes pixels and normalises them; for variants of other runtimes.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from app.adapters.model_directory import ModelDirectory
from app.core.manifest import ONNXRUNTIME
from app.core.preprocess import Crop, normalise
from app.settings import Settings
from tests.load.samples import percentile
from tests.server import ROOT


@dataclass(frozen=True, slots=True)
class Pure:
    """Crops a second, and the median time of a batch."""

    per_s: float
    batch_ms: float


async def pure(model: Path, variant: str, threads: int, seconds: float, batch: int = 8, by: str = "session") -> Pure:
    """Measured in a new process, so that no thread of it is left when a server is measured."""
    command = [sys.executable, "-m", "tests.load.bare", str(model), "--variant", variant, "--threads", str(threads)]
    command += ["--batch", str(batch), "--seconds", str(seconds), "--by", by]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the bare model ended with status {process.returncode}")
    return Pure(**json.loads(output))


def main(
    model: Path,
    variant: str = "onnx-fp32",
    batch: int = 8,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    seconds: float = 10.0,
    by: str = "session",
) -> None:
    """Print the figures as JSON."""
    directory = ModelDirectory.open(model)
    crops = np.resize(directory.golden().crops, (batch, *directory.golden().crops.shape[1:]))
    is_onnx = directory.manifest.variant(variant).runtime == ONNXRUNTIME
    make = _session if by == "session" and is_onnx else _adapter
    times_s = _timed(make(directory, variant, threads, crops), seconds)
    rate, median_ms = batch * len(times_s) / sum(times_s), percentile(sorted(times_s), 0.5) * 1000
    typer.echo(json.dumps({"per_s": rate, "batch_ms": median_ms}))


def _session(directory: ModelDirectory, variant: str, threads: int, crops: Crop) -> Callable[[], object]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(directory.artefact(variant)), options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: normalise(crops)}
    return lambda: session.run(None, inputs)


def _adapter(directory: ModelDirectory, variant: str, threads: int, crops: Crop) -> Callable[[], object]:
    from app.wiring import devices

    settings = Settings(model_dir=directory.path, variant=variant, threads=threads)
    embedder = devices(directory, settings)[0].open()
    return lambda: embedder.embed(crops)


def _timed(call: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each call, after one that warms up."""
    call()
    times = []
    begun = time.perf_counter()
    while (now := time.perf_counter()) - begun < seconds:
        call()
        times.append(time.perf_counter() - now)
    return times


if __name__ == "__main__":
    typer.run(main)
