"""The same crops through torch and through the adapter that the server runs, and how far the answers lie apart.

Torch is not needed here: its vectors lie in the model directory as golden ones, as do those of a variant that has its own.
OMs run where there is a chip for them, OpenVINO where it is installed; where not, they are skipped, and that is said.
"""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from app.adapters.ascend.npu_smi import chips
from app.adapters.model_directory import Golden, ModelDirectory
from app.adapters.onnx import OnnxEmbedder
from app.core.manifest import GOLDEN_COSINE, OPENVINO, Artefact, Verification
from app.errors import BadDevice, BadSettings, VerificationFailed
from app.ports import Embedder, Floats

# Sound exports differ by 1e-7 to 2e-5 (order of summation); a lost bias, a wrong mode or a stray ReLU by 1e-2 and more.
MAX_RELATIVE = 1e-4
DEVICES = Path("/dev")  # davinci0, davinci1, ...: one per chip

Open = Callable[[Path], Embedder]
Skip = Callable[[str], None]  # told why a variant is not verified


class Npu(Protocol):
    """The chip that OMs are verified on."""

    def absent(self, soc_version: str) -> str | None:
        """Why OMs for such a chip cannot run here; None where they can."""

    def open(self, folder: Path, artefacts: Sequence[Artefact], fingerprint: str, dim: int) -> Embedder:
        """As the server opens them. Raises BadDevice, DeviceFailed."""


@dataclass(frozen=True, slots=True)
class OneChip:
    """A chip of this machine, by its number from 0."""

    number: int = 0

    def absent(self, soc_version: str) -> str | None:
        """Looks for the library and the chip's name; what is there and does not work is a failure, and no absence."""
        if importlib.util.find_spec("aclruntime") is None:
            return "aclruntime is not installed here"
        try:
            here = sorted({chip.soc_version for chip in chips()})
        except BadDevice as error:  # in a container npu-smi may be missing where the chip is not
            return None if any(DEVICES.glob("davinci[0-9]*")) else str(error)
        return None if soc_version in here else f"it is for {soc_version}, here is {', '.join(here)}"

    def open(self, folder: Path, artefacts: Sequence[Artefact], fingerprint: str, dim: int) -> Embedder:
        """In a worker process of its own."""
        from app.adapters.ascend import open_ascend

        return open_ascend(folder, artefacts, fingerprint, dim, self.number)


@dataclass(frozen=True, slots=True)
class Row:
    """One artefact's agreement; of a dynamic-batch OM, one of its batch sizes'."""

    file: str
    batch: int | None
    verification: Verification
    half: bool = False  # computed in fewer bits than float32: near in direction, not to the digit
    cosine: float = GOLDEN_COSINE  # what is asked of such a one

    @property
    def passed(self) -> bool:
        """NaN anywhere in the vectors is no pass."""
        if self.half:
            return self.verification.cosine_min >= self.cosine
        return self.verification.relative_difference <= MAX_RELATIVE

    @property
    def bound(self) -> str:
        """What is asked of it."""
        return f"cosine at least {self.cosine:.4g}" if self.half else f"allowed {MAX_RELATIVE:g}"


def onnx_opener(fingerprint: str, dim: int) -> Open:
    """Opens a graph as the server does."""
    return lambda path: OnnxEmbedder(path, fingerprint, dim)


def verify_directory(directory: ModelDirectory, npu: Npu | None = None, skip: Skip = lambda _: None) -> Iterator[Row]:
    """One row per artefact of every variant, each when it is done. Raises BadModelDirectory, BadDevice, DeviceFailed."""
    described = directory.manifest
    for name, variant in described.variants.items():
        golden = directory.golden(name)
        artefacts = [artefact for artefact in described.artefacts if artefact.variant == name]
        if variant.runtime == OPENVINO:
            yield from _verify_openvino(directory, name, golden, skip)
        elif any(artefact.compiled for artefact in artefacts):
            yield from verify_oms(directory.path, artefacts, golden, variant.fingerprint, npu or OneChip(), skip)
        else:
            opener = onnx_opener(variant.fingerprint, described.dim)
            rows = (verify_artefact(directory.path, artefact, golden, opener) for artefact in artefacts)
            yield from (replace(row, half=variant.golden is not None, cosine=golden.cosine) for row in rows)


def _verify_openvino(directory: ModelDirectory, name: str, golden: Golden, skip: Skip) -> Iterator[Row]:
    """The golden crops through the graph of another variant, in this one's precision."""
    try:
        from app.adapters.openvino import open_variant

        embedder = open_variant(directory, name)
    except (BadSettings, BadDevice) as error:
        skip(f"{name} is not verified: {error}")
        return
    try:
        figures = compare(golden.vectors, embed_in(embedder, golden.crops, len(golden.crops)))
    finally:
        embedder.close()
    yield Row(name, None, figures, half=directory.manifest.variant(name).precision != "fp32")


def verify_oms(
    folder: Path, artefacts: Sequence[Artefact], golden: Golden, fingerprint: str, npu: Npu, skip: Skip
) -> Iterator[Row]:
    """The golden crops through each of a variant's OMs in each of its batch sizes."""
    for artefact in artefacts:
        assert artefact.compiled is not None  # an OM is what has it
        reason = npu.absent(artefact.compiled.soc_version)
        if reason is not None:
            skip(f"{artefact.file} is not verified: {reason}")
            continue
        embedder = npu.open(folder, [artefact], fingerprint, golden.vectors.shape[1])
        try:
            for batch in artefact.compiled.gears or (artefact.batch or len(golden.crops),):
                actual = embed_in(embedder, golden.crops, batch)
                yield Row(artefact.file, batch, compare(golden.vectors, actual), half=True)
        finally:
            embedder.close()


def verify_artefact(folder: Path, artefact: Artefact, golden: Golden, opener: Open) -> Row:
    """Embed the golden crops with one ONNX file and compare."""
    embedder = opener(folder / artefact.file)
    try:
        actual = embed_in(embedder, golden.crops, artefact.batch or len(golden.crops))
    finally:
        embedder.close()
    return Row(artefact.file, artefact.batch, compare(golden.vectors, actual))


def embed_in(embedder: Embedder, crops: npt.NDArray[np.uint8], batch: int) -> Floats:
    """Embed crops in launches of exactly `batch`; where the last one has room the crops begin again."""
    launches = -(-len(crops) // batch)
    tiled = np.resize(crops, (launches * batch, *crops.shape[1:]))  # np.resize repeats from the start
    return np.concatenate([embedder.embed(tiled[i * batch : (i + 1) * batch]) for i in range(launches)])


def compare(golden: Floats, actual: Floats) -> Verification:
    """Compare vectors [n, dim] with golden ones [m, dim], row i with golden row i modulo m.

    Relative difference: largest absolute difference over largest absolute golden value, so one outlier counts in full.
    """
    if actual.ndim != 2 or actual.shape[1:] != golden.shape[1:]:
        raise VerificationFailed(f"vectors of shape {actual.shape} where {golden.shape} were expected")
    wanted = np.resize(golden, actual.shape).astype(np.float64)
    found = actual.astype(np.float64)
    norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a zero or infinite vector gives NaN, and NaN is no pass
        cosines = (wanted * found).sum(axis=1) / norms
    largest = float(np.abs(wanted - found).max())
    return Verification(
        crops=len(actual),
        cosine_min=float(cosines.min()),
        cosine_mean=float(cosines.mean()),
        largest_difference=largest,
        relative_difference=largest / float(np.abs(wanted).max()),
    )


def check(rows: Iterable[Row]) -> None:
    """Raises VerificationFailed, naming each row that does not agree with torch."""
    every = list(rows)
    failed = [
        f"{row.file} by {row.verification.relative_difference:.2g} of the largest value"
        for row in every
        if not (row.passed or row.half)
    ]
    turned = [
        f"{row.file}{f' at batch size {row.batch}' if row.batch else ''} "
        f"(cosine {row.verification.cosine_min:.4f}; {row.cosine:.4g} is needed)"
        for row in every
        if row.half and not row.passed
    ]
    said = [
        *([f"vectors differ from torch's: {', '.join(failed)}; {MAX_RELATIVE:g} is allowed"] if failed else []),
        *([f"vectors of fewer bits differ: {', '.join(turned)}"] if turned else []),
    ]
    if said:
        raise VerificationFailed("; ".join(said))


def worst(rows: Iterable[Row]) -> Verification:
    """What all artefacts of a variant reach. Raises VerificationFailed as `check`."""
    every = list(rows)
    check(every)
    facts = [row.verification for row in every]
    return Verification(
        crops=sum(fact.crops for fact in facts),
        cosine_min=min(fact.cosine_min for fact in facts),
        cosine_mean=sum(fact.cosine_mean * fact.crops for fact in facts) / sum(fact.crops for fact in facts),
        largest_difference=max(fact.largest_difference for fact in facts),
        relative_difference=max(fact.relative_difference for fact in facts),
    )
