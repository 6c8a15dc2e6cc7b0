"""What `reid doctor` tells of a model directory's variants: how fast each runs on this machine, and what it costs."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np

from app.adapters.model_directory import ModelDirectory
from app.core.manifest import ACLRUNTIME, ONNX_FP32, Agreement
from app.core.preprocess import Crop
from app.errors import BadDevice, ReidError
from app.ports import Embedder
from app.settings import Settings
from app.wiring import devices

BATCH = 8  # what a CPU's variants gain from a batch they have gained by then
# The best of some rounds, in which all take their turns: a neighbour on the machine can only make a run longer.
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Told:
    """A variant, and a sentence about it."""

    name: str
    sentence: str


def tell_variants(settings: Settings) -> Iterator[Told]:
    """A sentence for each other variant than the one that serves. Raises ReidError where the directory is none."""
    directory = ModelDirectory.open(settings.model_dir)
    served, described = settings.variant, directory.manifest.variants
    others = [name for name in described if name != served]
    if not others:
        yield Told(served, "the only one; docs/model.md tells how faster ones for CPUs are made, and what they cost")
        return
    with ExitStack() as opened:
        embedders, absent = dict[str, Embedder](), dict[str, str]()
        for name in (served, *others):
            try:
                embedders[name] = opened.enter_context(closing(_open(directory, settings, name)))
            except ReidError as error:
                absent[name] = f"not measured: {error}"
        rates = measure(embedders, directory.golden().crops)
    for name in others:
        cost = "fp32 itself" if name == ONNX_FP32 else _cost(described[name].agreement)
        yield Told(name, absent.get(name) or f"{_speed(rates, name, served)}; {cost}; REID_VARIANT={name} serves it")


def measure(
    embedders: Mapping[str, Embedder], crops: Crop, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Crops a second of each in batches of BATCH."""
    batch, best = np.resize(crops, (BATCH, *crops.shape[1:])), dict[str, float]()
    for turn in range(ROUNDS + 1):
        for name, embedder in embedders.items():
            started = clock()
            embedder.embed(batch)
            if turn:  # the first run allocates
                best[name] = max(best.get(name, 0.0), BATCH / (clock() - started))
    return best


def _open(directory: ModelDirectory, settings: Settings, name: str) -> Embedder:
    """As it would serve. Raises ReidError."""
    if directory.manifest.variant(name).runtime == ACLRUNTIME:
        raise BadDevice("it runs on an NPU; `python -m model_build bench` measures it there")
    chosen = settings.model_copy(update={"variant": name, "devices": (), "batch_sizes": (BATCH,)})
    return devices(directory, chosen)[0].open()


def _speed(rates: Mapping[str, float], name: str, served: str) -> str:
    rate = f"{rates[name]:.0f} crops/s here just now"
    if served not in rates:
        return rate
    times = rates[name] / rates[served]
    if 0.95 < times < 1.05:
        return f"as fast as {served} ({rate})"
    return f"{times:.1f} times the speed of {served} ({rate}, {served} {rates[served]:.0f})"


def _cost(agreement: Agreement | None) -> str:
    """In the words of the manifest, which measured it when the variant was made."""
    if agreement is None:
        return "its accuracy was not compared with fp32's"
    change = agreement.change
    return (
        f"against fp32 rank-1 {change.rank1 * 100:+.1f} points, mAP {change.mAP * 100:+.1f} "
        f"({agreement.queries} queries, {agreement.data})"
    )
