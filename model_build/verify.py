"""The same crops through torch and through the adapter that the server runs, and how far the answers lie apart.

Torch is not needed here: its vectors lie in the model directory as golden ones.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.adapters.model_directory import Golden, ModelDirectory
from app.adapters.onnx import OnnxEmbedder
from app.core.manifest import ONNX_FP32, Artefact, Verification
from app.errors import VerificationFailed
from app.ports import Embedder, Floats

# Sound exports differ by 1e-7 to 2e-5 (order of summation); a lost bias, a wrong mode or a stray ReLU by 1e-2 and more.
MAX_RELATIVE = 1e-4

Open = Callable[[Path], Embedder]


@dataclass(frozen=True, slots=True)
class Row:
    """One artefact's agreement."""

    file: str
    batch: int | None
    verification: Verification

    @property
    def passed(self) -> bool:
        """NaN anywhere in the vectors is no pass."""
        return self.verification.relative_difference <= MAX_RELATIVE


def onnx_opener(fingerprint: str, dim: int) -> Open:
    """Opens a graph as the server does."""
    return lambda path: OnnxEmbedder(path, fingerprint, dim)


def verify_directory(directory: ModelDirectory, variant: str = ONNX_FP32) -> Iterable[Row]:
    """One row per artefact of the variant, each when it is done. Raises BadModelDirectory, DeviceFailed."""
    fact = directory.manifest.variant(variant)
    golden, opener = directory.golden(), onnx_opener(fact.fingerprint, directory.manifest.dim)
    for artefact in directory.manifest.artefacts:
        if artefact.variant == variant:
            yield verify_artefact(directory.path, artefact, golden, opener)


def verify_artefact(folder: Path, artefact: Artefact, golden: Golden, opener: Open) -> Row:
    """Embed the golden crops with one artefact and compare."""
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


def worst(rows: Iterable[Row]) -> Verification:
    """What all artefacts of a variant reach. Raises VerificationFailed, naming each that does not agree with torch."""
    every = list(rows)
    failed = [
        f"{row.file} by {row.verification.relative_difference:.2g} of the largest value"
        for row in every
        if not row.passed
    ]
    if failed:
        raise VerificationFailed(f"vectors differ from torch's: {', '.join(failed)}; {MAX_RELATIVE:g} is allowed")
    facts = [row.verification for row in every]
    return Verification(
        crops=sum(fact.crops for fact in facts),
        cosine_min=min(fact.cosine_min for fact in facts),
        cosine_mean=sum(fact.cosine_mean * fact.crops for fact in facts) / sum(fact.crops for fact in facts),
        largest_difference=max(fact.largest_difference for fact in facts),
        relative_difference=max(fact.relative_difference for fact in facts),
    )
