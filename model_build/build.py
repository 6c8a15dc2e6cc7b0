"""A checkpoint's weights to a model directory: export, verify, and only then publish, manifest last."""

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from onnx import ModelProto

from app.adapters.model_directory import Golden, ModelDirectory, sha256_of
from app.core import manifest
from app.core.manifest import GOLDEN_FILE, MANIFEST_FILE, ONNX_FP32, Artefact, ModelManifest, Tensor, Variant
from app.core.preprocess import HEIGHT, WIDTH
from app.errors import BadModelDirectory
from model_build.checkpoint import Weights
from model_build.compile import log_of
from model_build.export import BATCH, INPUT, OPSET, OUTPUT, export_onnx
from model_build.golden import draw_golden_crops, embed_golden, save_golden
from model_build.graph import fix_batch, save
from model_build.network import ReidNetwork
from model_build.staging import publish, staging
from model_build.verify import Row, onnx_opener, verify_artefact, worst

NO_LABEL = "your checkpoint"

Report = Callable[[str], None]  # called with what is being done now


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller chooses. label None: the checkpoint's own, else "your checkpoint"."""

    batch_sizes: tuple[int, ...] = (1, 4, 8, 16)
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A build whose ONNX files are verified and lie in `folder`, with the manifest that it will have.

    What the manifest names and `folder` has not got lies in the output directory already, and stays there.
    """

    folder: Path
    manifest: ModelManifest
    golden: Golden
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Built:
    """The finished directory and how each of its artefacts did."""

    directory: ModelDirectory
    rows: tuple[Row, ...]


Finish = Callable[[Draft], Draft]  # what is done to a build before it is published


def steps(options: Options) -> int:
    """How often `build` reports: export, torch's vectors, each artefact's, publishing."""
    return 4 + len(options.batch_sizes)


def build(
    weights: Weights,
    output: Path,
    options: Options,
    now: datetime,
    report: Report = lambda _: None,
    to_onnx: Callable[[ReidNetwork], ModelProto] = export_onnx,
    finish: Finish = lambda draft: draft,
) -> Built:
    """Write a model directory, or nothing.

    Raises VerificationFailed if a graph's vectors are not torch's, BadModelDirectory if the directory cannot be
    written. An old model in `output` is replaced; other files there are left alone.
    """
    old = _old_files(output)
    with staging(output) as scratch:
        report("exporting to ONNX")
        network = weights.network()
        artefacts = _write_graphs(to_onnx(network), scratch, options.batch_sizes)
        report("golden crops through torch")
        golden = embed_golden(network, draw_golden_crops())
        save_golden(golden, scratch / GOLDEN_FILE)
        facts = manifest.Preprocessing()
        fingerprint = manifest.fingerprint(weights.weights_sha256, facts, ONNX_FP32)
        rows = tuple(_verify(scratch, artefacts, golden, fingerprint, report))
        described = ModelManifest(
            label=options.label or weights.label or NO_LABEL,
            created_at=now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            dim=weights.architecture.dim,
            width=weights.architecture.width,
            depths=weights.architecture.depths,
            opset=OPSET,
            input=Tensor(name=INPUT, dtype="float32", shape=(BATCH, 3, HEIGHT, WIDTH)),
            output=Tensor(name=OUTPUT, dtype="float32", shape=(BATCH, weights.architecture.dim)),
            preprocessing=facts,
            checkpoint=weights.fact(),
            variants={ONNX_FP32: Variant(fingerprint=fingerprint, precision="fp32", runtime="onnxruntime")},
            artefacts=tuple(artefacts),
            golden=_artefact(scratch / GOLDEN_FILE),
            verification={ONNX_FP32: worst(rows)},
            tools=_tools(),
        )
        draft = finish(Draft(scratch, described, golden, rows))
        report("writing the model directory")
        (scratch / MANIFEST_FILE).write_text(draft.manifest.to_json(), encoding="utf-8")
        gone = old - {artefact.file for artefact in draft.manifest.files()}
        publish(scratch, output, gone | {log_of(file) for file in gone})
    return Built(ModelDirectory.open(output), draft.rows)


def _old_files(output: Path) -> set[str]:
    """The files of the model that `output` holds now, as far as its manifest can be read."""
    try:
        text = (output / MANIFEST_FILE).read_text(encoding="utf-8")
        return {artefact.file for artefact in manifest.parse_manifest(text).files()}
    except (OSError, UnicodeDecodeError, BadModelDirectory):
        return set()


def _write_graphs(model: ModelProto, scratch: Path, batch_sizes: Sequence[int]) -> list[Artefact]:
    save(model, scratch / "model.onnx")
    artefacts = [_artefact(scratch / "model.onnx", ONNX_FP32)]
    for batch in batch_sizes:
        path = scratch / f"model_bs{batch}.onnx"
        save(fix_batch(model, batch), path)
        artefacts.append(_artefact(path, ONNX_FP32, batch))
    return artefacts


def _verify(
    scratch: Path, artefacts: Sequence[Artefact], golden: Golden, fingerprint: str, report: Report
) -> Iterator[Row]:
    opener = onnx_opener(fingerprint, golden.vectors.shape[1])
    for artefact in artefacts:
        report(f"golden crops through {artefact.file}")
        yield verify_artefact(scratch, artefact, golden, opener)


def _artefact(path: Path, variant: str | None = None, batch: int | None = None) -> Artefact:
    return Artefact(
        file=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size, variant=variant, batch=batch
    )


def _tools() -> dict[str, str]:
    """Versions of what shaped the files, for whoever asks later why two builds differ."""
    versions = {name: version(name) for name in ("torch", "onnx", "onnxruntime", "numpy", "pillow")}
    return {"python": platform.python_version(), **versions}
