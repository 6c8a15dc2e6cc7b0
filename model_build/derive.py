"""Faster variants for CPUs, added to a model directory: made aside, measured against fp32, and written only if they hold.

The directory is whole at every moment, and what it had before stays: a variant that is refused leaves no trace.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from app.adapters.model_directory import Golden, ModelDirectory, sha256_of
from app.adapters.onnx import OnnxEmbedder
from app.core.manifest import (
    MANIFEST_FILE,
    ONNX_FP32,
    ONNX_INT8,
    ONNXRUNTIME,
    OPENVINO,
    OPENVINO_BF16,
    OPENVINO_FP32,
    Agreement,
    Artefact,
    ModelManifest,
    Variant,
    fingerprint,
)
from app.errors import BadModelDirectory, VerificationFailed
from app.ports import Embedder
from model_build.agreement import Bounds, check, measure
from model_build.labelled import Example
from model_build.quantize import Method, Sample, quantize
from model_build.staging import publish, staging
from model_build.verify import compare, embed_in

INT8_FILE, INT8_GOLDEN_FILE = "model_int8.onnx", "golden_int8.npz"
Precision = Literal["bf16", "fp32"]
OPENVINO_VARIANTS: dict[Precision, str] = {"bf16": OPENVINO_BF16, "fp32": OPENVINO_FP32}
Report = Callable[[str], None]  # called with what is being done, once for each crop


@dataclass(frozen=True, slots=True)
class Comparison:
    """On what a variant is compared with fp32, and what it must reach. data: what the manifest calls the examples."""

    examples: Sequence[Example]
    data: str
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant that is made and not yet measured; its files, if it has any, lie in the scratch folder."""

    name: str
    fact: Variant
    files: tuple[Artefact, ...]
    open: Callable[[], Embedder]


Make = Callable[[ModelDirectory, Path], Candidate]  # from a directory, with a scratch folder for files


def add_int8(
    path: Path, sample: Sample, method: Method, comparison: Comparison, report: Report = lambda _: None
) -> Agreement:
    """Add onnx-int8. Raises BadModelDirectory, BadInput, and VerificationFailed where it loses too much."""

    def make(directory: ModelDirectory, scratch: Path) -> Candidate:
        described, target = directory.manifest, scratch / INT8_FILE
        source = directory.artefact(ONNX_FP32)
        quantize(source, target, described.input, sample, method, beat=lambda: report("telling ranges"))
        graph = _artefact(target, ONNX_INT8)
        name = fingerprint(described.checkpoint.weights_sha256, described.preprocessing, ONNX_INT8, graph.sha256)
        fact = Variant(fingerprint=name, precision="int8", runtime=ONNXRUNTIME, quantized=sample.fact(method))
        return Candidate(ONNX_INT8, fact, (graph,), lambda: OnnxEmbedder(target, name, described.dim))

    return _add(path, make, comparison, report)


def add_openvino(
    path: Path, precision: Precision, comparison: Comparison, report: Report = lambda _: None
) -> Agreement:
    """Add openvino-bf16 or openvino-fp32, which run the float graph that is there.

    Raises BadSettings without OpenVINO, BadDevice on a CPU without bfloat16, else as `add_int8`.
    """
    from app.adapters.openvino import OpenVinoEmbedder

    def make(directory: ModelDirectory, _scratch: Path) -> Candidate:
        described, variant = directory.manifest, OPENVINO_VARIANTS[precision]
        graph = directory.artefact(ONNX_FP32)
        name = fingerprint(described.checkpoint.weights_sha256, described.preprocessing, variant)
        fact = Variant(fingerprint=name, precision=precision, runtime=OPENVINO, graph=ONNX_FP32)
        return Candidate(variant, fact, (), lambda: OpenVinoEmbedder(graph, name, described.dim, precision))

    return _add(path, make, comparison, report)


def steps(comparison: Comparison, sample: Sample | None = None) -> int:
    """How often adding a variant reports: once for each crop."""
    return len(comparison.examples) + (len(sample.crops) if sample else 0)


def _add(path: Path, make: Make, comparison: Comparison, report: Report) -> Agreement:
    if not path.is_dir():
        raise BadModelDirectory(f"{path} is no directory")
    with staging(path) as scratch:
        directory = ModelDirectory.open(path)
        made = make(directory, scratch)
        with (
            closing(OnnxEmbedder(directory.artefact(ONNX_FP32), "", directory.manifest.dim)) as reference,
            closing(made.open()) as embedder,
        ):
            agreement = measure(
                reference, embedder, comparison.examples, comparison.data, lambda _: report("comparing with fp32")
            )
            check(made.name, agreement, comparison.bounds)
            after = _described(directory, made, agreement, embedder, scratch)
        _publish(scratch, path, made.name, directory.manifest, after)
    return agreement


def _described(
    directory: ModelDirectory, made: Candidate, agreement: Agreement, embedder: Embedder, scratch: Path
) -> ModelManifest:
    """The manifest with the variant in it, and its golden vectors where it needs its own."""
    described, golden, fact = directory.manifest, directory.golden(), made.fact
    alone = embed_in(embedder, golden.crops, 1)  # one crop at a time: nothing of a batch can leak into them
    if fact.quantized is not None:  # eight bits are too far from fp32 for its vectors to tell a fault from rounding
        with (scratch / INT8_GOLDEN_FILE).open("wb") as file:
            np.savez(file, vectors=alone)
        fact = fact.model_copy(update={"golden": _artefact(scratch / INT8_GOLDEN_FILE)})
    fact = fact.model_copy(update={"agreement": agreement})
    rest = _without(described, made.name)
    after = rest.model_copy(
        update={
            "variants": {**rest.variants, made.name: fact},
            "artefacts": (*rest.artefacts, *made.files),
            "verification": {**rest.verification, made.name: compare(golden.vectors, alone)},
        }
    )
    _require_steady(made.name, Golden(golden.crops, alone if fact.golden else golden.vectors), embedder, after)
    return after


def _require_steady(name: str, golden: Golden, embedder: Embedder, after: ModelManifest) -> None:
    """What every start of a server asks. Raises VerificationFailed."""
    needed = after.golden_cosine(name)
    reached = compare(golden.vectors, embed_in(embedder, golden.crops, len(golden.crops))).cosine_min
    if not reached >= needed:
        raise VerificationFailed(
            f"{name} is not written: its golden crops reach a cosine of {reached:.5f}; {needed:.5f} is needed"
        )


def _without(described: ModelManifest, name: str) -> ModelManifest:
    """The manifest as if there were no such variant."""
    return described.model_copy(
        update={
            "variants": {key: fact for key, fact in described.variants.items() if key != name},
            "artefacts": tuple(artefact for artefact in described.artefacts if artefact.variant != name),
            "verification": {key: fact for key, fact in described.verification.items() if key != name},
        }
    )


def _publish(scratch: Path, path: Path, name: str, before: ModelManifest, after: ModelManifest) -> None:
    """An earlier variant of the name leaves the manifest before its files do."""
    (scratch / MANIFEST_FILE).write_text(after.to_json(), encoding="utf-8")
    gone = {artefact.file for artefact in before.files()} - {artefact.file for artefact in after.files()}
    publish(scratch, path, gone, meanwhile=_without(before, name).to_json())


def _artefact(path: Path, variant: str | None = None) -> Artefact:
    return Artefact(file=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size, variant=variant)
