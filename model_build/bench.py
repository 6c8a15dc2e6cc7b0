"""The closing table of the ModelZoo guide for the devices that are here: batch size, images a second, accuracy.

Images a second are counted as ais_bench counts them: 1000 * batch size / mean milliseconds of the execution alone, on
data that lies on the device already. Beside it stands what serving gets: with the copies to and from the device, and as
the server runs a batch, from uint8 crops to vectors, normalisation and the way to the worker process included.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from app.adapters.model_directory import ModelDirectory
from app.core.published import GUIDE
from app.errors import BadField
from app.ports import Embedder

Clock = Callable[[], float]
SHOWN = ("instance", *GUIDE.protocols)  # the field's own protocol, and those that the guide's accuracy may be of


@dataclass(frozen=True, slots=True)
class Target:
    """A variant on a device: `open` makes an embedder for one batch size."""

    device: str  # "cpu", "ascend:0"
    chip: str  # as the guide's table names it: "Ascend310P3"; the processor's name for a CPU
    variant: str
    sizes: tuple[int, ...]
    open: Callable[[int], Embedder]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """An evaluation of one variant at one batch size: what it was on, and rank-1 by protocol, as fractions."""

    fingerprint: str
    variant: str
    batch_size: int
    data: str
    rank1: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One row: mean milliseconds of a batch over `runs` runs."""

    device: str
    chip: str
    variant: str
    batch_size: int
    runs: int
    execute_ms: float
    copied_ms: float
    served_ms: float
    accuracy: Accuracy | None = None

    def per_s(self, batch_ms: float) -> float:
        """Images a second at so many milliseconds a batch."""
        return 1000 * self.batch_size / batch_ms


def run(
    target: Target,
    crops: npt.NDArray[np.uint8],
    loop: int,
    seconds: float,
    reports: Sequence[Accuracy] = (),
    clock: Clock = time.perf_counter,
) -> Iterator[Line]:
    """One line for each batch size, each when it is done; a size runs `loop` times, or for so many seconds.

    crops: uint8 [n, 256, 128, 3], repeated to fill a batch. Raises DeviceFailed, and what opening raises.
    """
    for size in target.sizes:
        batch = np.resize(crops, (size, *crops.shape[1:]))
        with closing(target.open(size)) as embedder:
            times = _times(embedder, batch, loop, seconds, clock)
        execute_ms, copied_ms, served_ms = (fmean(column) for column in zip(*times, strict=True))
        found = next((r for r in reports if (r.variant, r.batch_size) == (target.variant, size)), None)
        facts = (target.device, target.chip, target.variant, size, len(times))
        yield Line(*facts, execute_ms, copied_ms, served_ms, found)


def _times(
    embedder: Embedder, batch: npt.NDArray[np.uint8], loop: int, seconds: float, clock: Clock
) -> list[tuple[float, float, float]]:
    """Milliseconds of each run: executed, with copies, as served."""
    embedder.embed(batch)  # the first run allocates; ais_bench leaves one out as well
    times: list[tuple[float, float, float]] = []
    begun = clock()
    while not times or (len(times) < loop and clock() - begun < seconds):
        started = clock()
        embedder.embed(batch)
        served_ms = (clock() - started) * 1000
        if embedder.last_run is None:
            raise RuntimeError("an embedder that does not tell its times cannot be measured")
        times.append((embedder.last_run.execute_ms, embedder.last_run.copied_ms, served_ms))
    return times


def best(lines: Sequence[Line]) -> dict[tuple[str, str], int]:
    """For each device and variant the batch size with most images a second by the device alone; of equals the smaller."""
    found: dict[tuple[str, str], Line] = {}
    for line in sorted(lines, key=lambda line: line.batch_size):
        key = (line.device, line.variant)
        if key not in found or line.per_s(line.execute_ms) > found[key].per_s(found[key].execute_ms):
            found[key] = line
    return {key: line.batch_size for key, line in found.items()}


def read_report(path: Path, directory: ModelDirectory) -> Accuracy:
    """What `reid evaluate --json` wrote, of a variant of this directory at one batch size. Raises BadField."""
    try:
        answer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        model, protocols = answer["model"], answer["protocols"]
        rank1 = {str(name): report["rank1"] for name, report in protocols.items()}
        data = str(answer["data"]["folder"] or answer["data"]["collection"])
        found = Accuracy(model["fingerprint"], model["variant"], model["batch_size"], data, rank1)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadField("--report", f"{path} is no report that `reid evaluate --json` wrote ({error!r})") from error
    described = directory.manifest.variants.get(found.variant)
    if described is None or described.fingerprint != found.fingerprint:
        raise BadField("--report", f"{path} is of the model {found.fingerprint}, which is none of this directory's")
    if not isinstance(found.batch_size, int):
        raise BadField("--report", f"{path} was not made at one batch size; give `reid evaluate` a --batch-size")
    return found


def as_json(lines: Sequence[Line]) -> dict[str, Any]:
    """Everything measured, with the rates; the best batch size of each device and variant."""
    rows = [
        asdict(line)
        | {
            "images_per_s": line.per_s(line.execute_ms),
            "images_per_s_copied": line.per_s(line.copied_ms),
            "images_per_s_served": line.per_s(line.served_ms),
        }
        for line in lines
    ]
    marks = [{"device": d, "variant": v, "batch_size": size} for (d, v), size in best(lines).items()]
    return {"lines": rows, "best": marks}


HEADINGS = (
    "chip",
    "variant",
    "batch size",
    "data set",
    "accuracy",
    "images/s",
    "ms",
    "with copies/s",
    "as served/s",
    "",
)


def table(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """The rows under HEADINGS, as text."""
    marks = best(lines)
    return [
        (
            line.chip,
            line.variant,
            str(line.batch_size),
            line.accuracy.data if line.accuracy else "-",
            _percent(line.accuracy),
            _rate(line.per_s(line.execute_ms)),
            f"{line.execute_ms:.2f}",
            _rate(line.per_s(line.copied_ms)),
            _rate(line.per_s(line.served_ms)),
            "best" if marks[line.device, line.variant] == line.batch_size else "",
        )
        for line in lines
    ]


def markdown(lines: Sequence[Line]) -> str:
    """The table for a README."""
    rows = [HEADINGS, tuple("---" for _ in HEADINGS), *table(lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _rate(per_s: float) -> str:
    return f"{per_s:.0f}" if per_s >= 100 else f"{per_s:.1f}"


def _percent(accuracy: Accuracy | None) -> str:
    """Rank-1 under the name of its protocol, since a number without it says nothing; the JSON has every protocol's."""
    if accuracy is None:
        return "-"
    shown = [(name, accuracy.rank1.get(name)) for name in SHOWN]
    return ", ".join(f"{name} {rank1 * 100:.1f}%" for name, rank1 in shown if rank1 is not None) or "-"
