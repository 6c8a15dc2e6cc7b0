"""Faster variants in a model directory: whole or not at all, found again by whoever opens it, and kept by a compilation."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from app.adapters.model_directory import ModelDirectory
from app.adapters.onnx import OnnxEmbedder
from app.core.manifest import GOLDEN_COSINE, MANIFEST_FILE, fingerprint
from app.core.metrics import unit
from app.core.preprocess import decode
from app.demo.dataset import Recipe, draw_dataset
from app.errors import BadModelDirectory, VerificationFailed
from model_build.agreement import Bounds
from model_build.compile import Workshop, compile_directory
from model_build.derive import Comparison, add_int8, add_openvino, steps
from model_build.labelled import DRAWN, drawn
from model_build.plan import CompileOptions
from model_build.quantize import FEWEST, Sample
from model_build.staging import staging
from model_build.toolkit import find_toolkit
from model_build.verify import verify_directory
from tests import standins

SMALL = Recipe(seed=3, persons=8, distractors=4, cameras=3)
CROPS = np.stack([decode(crop.jpeg, crop.name) for crop in draw_dataset(SMALL)])
SAMPLE, OTHER = Sample(CROPS[:FEWEST]), Sample(CROPS[-FEWEST:])
LENIENT = Comparison(drawn(SMALL), DRAWN, Bounds(cosine_mean=0.99, loss=1))  # made-up weights know nobody
STRICT = Comparison(drawn(SMALL), DRAWN, Bounds(cosine_mean=0.9999, loss=1))


@dataclass
class Model:
    """A copy of the tiny model directory, to add to."""

    path: Path

    @property
    def opened(self) -> ModelDirectory:
        return ModelDirectory.open(self.path)

    def files(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in self.path.iterdir()}


@pytest.fixture
def model(tiny_model_directory: Path, tmp_path: Path) -> Model:
    return Model(shutil.copytree(tiny_model_directory, tmp_path / "model"))


def test_int8_is_added_and_everything_else_stays(model: Model) -> None:
    before = model.files()
    said: list[str] = []
    agreement = add_int8(model.path, SAMPLE, "percentile", LENIENT, said.append)
    after = model.files()
    assert set(after) - set(before) == {"model_int8.onnx", "golden_int8.npz"}
    assert {name for name in before if before[name] != after[name]} == {MANIFEST_FILE}
    assert len(said) == steps(LENIENT, SAMPLE) == FEWEST + len(LENIENT.examples)
    fact = model.opened.manifest.variant("onnx-int8")
    assert (fact.precision, fact.runtime, fact.graph) == ("int8", "onnxruntime", None)
    assert fact.quantized == SAMPLE.fact("percentile")
    assert fact.agreement == agreement
    assert (agreement.data, agreement.queries) == ("drawn people", 20)
    assert 0.99 < agreement.cosine_min < agreement.cosine_mean < 0.9999


def test_no_name_of_a_calibration_crop_and_no_folder_is_in_the_manifest(fast_model_directory: Path) -> None:
    text = (fast_model_directory / MANIFEST_FILE).read_text()
    assert ".jpg" not in text
    assert str(fast_model_directory.parent) not in text


def test_its_golden_vectors_are_its_own_and_further_from_fp32_than_a_start_would_allow(
    fast_model_directory: Path,
) -> None:
    directory = ModelDirectory.open(fast_model_directory)
    own, fp32 = directory.golden("onnx-int8"), directory.golden()
    assert np.array_equal(own.crops, fp32.crops)
    cosines = (unit(own.vectors) * unit(fp32.vectors)).sum(axis=1)
    assert cosines.min() < GOLDEN_COSINE
    assert directory.manifest.verification["onnx-int8"].cosine_min == pytest.approx(cosines.min(), abs=1e-6)
    agreement = directory.manifest.variant("onnx-int8").agreement
    assert agreement is not None
    assert own.cosine == directory.manifest.golden_cosine("onnx-int8") >= GOLDEN_COSINE
    # Half the angle between it and fp32: cos(x / 2) is about 1 - (1 - cos x) / 4.
    half = np.cos(np.arccos(agreement.cosine_mean) / 2)
    assert own.cosine == pytest.approx(max(half, GOLDEN_COSINE), abs=1e-5)


def test_its_fingerprint_tells_its_calibration(model: Model) -> None:
    names = []
    for sample, method in ((SAMPLE, "percentile"), (SAMPLE, "minmax"), (OTHER, "percentile"), (SAMPLE, "percentile")):
        add_int8(model.path, sample, method, LENIENT)  # type: ignore[arg-type]  # mypy widens the tuple's text
        names.append(model.opened.manifest.variant("onnx-int8").fingerprint)
    assert len(set(names)) == 3
    assert names[0] == names[3]
    assert all(name.startswith("onnx-int8-") for name in names)
    assert [a.file for a in model.opened.manifest.artefacts if a.variant == "onnx-int8"] == ["model_int8.onnx"]


def test_openvino_runs_the_graph_that_is_there(fast_model_directory: Path) -> None:
    directory = ModelDirectory.open(fast_model_directory)
    described = directory.manifest
    fact = described.variant("openvino-fp32")
    assert (fact.precision, fact.runtime, fact.graph) == ("fp32", "openvino", "onnx-fp32")
    assert directory.artefact("openvino-fp32") == directory.artefact("onnx-fp32")
    weights = described.checkpoint.weights_sha256
    assert fact.fingerprint == fingerprint(weights, described.preprocessing, "openvino-fp32")
    assert fact.agreement is not None
    assert fact.agreement.cosine_min > 0.999999
    assert fact.golden is None
    assert directory.golden("openvino-fp32").cosine == GOLDEN_COSINE


@pytest.mark.parametrize(
    "add",
    [
        lambda path: add_int8(path, SAMPLE, "percentile", STRICT),
        lambda path: add_openvino(path, "fp32", Comparison(LENIENT.examples, DRAWN, Bounds(cosine_mean=1.01, loss=1))),
    ],
    ids=["int8", "openvino"],
)
def test_a_variant_that_is_refused_leaves_no_trace(add: Callable[[Path], object], model: Model) -> None:
    before = model.files()
    with pytest.raises(VerificationFailed, match="is not written: the mean cosine to fp32"):
        add(model.path)
    assert model.files() == before


def test_a_refusal_leaves_an_earlier_one_of_its_name(model: Model) -> None:
    add_int8(model.path, SAMPLE, "percentile", LENIENT)
    before = model.files()
    with pytest.raises(VerificationFailed):
        add_int8(model.path, OTHER, "minmax", STRICT)
    assert model.files() == before


class Stopped(BaseException):
    """The process ends here."""


def test_stopped_while_it_is_measured_it_leaves_the_directory_as_it_was(model: Model) -> None:
    before = model.files()

    def stop(what: str) -> None:
        if what == "comparing with fp32":
            raise Stopped

    with pytest.raises(Stopped):
        add_int8(model.path, SAMPLE, "percentile", LENIENT, stop)
    assert model.files() == before


def test_stopped_while_files_are_moved_the_directory_is_whole_and_without_it(model: Model) -> None:
    # A folder in the place of the graph: its move fails, after that of the golden vectors.
    (model.path / "model_int8.onnx" / "full").mkdir(parents=True)
    before = model.opened.manifest
    with pytest.raises(BadModelDirectory, match="model cannot be written"):
        add_int8(model.path, SAMPLE, "percentile", LENIENT)
    assert model.opened.manifest == before


def test_only_a_whole_directory_is_added_to_and_by_one_at_a_time(model: Model, tmp_path: Path) -> None:
    with pytest.raises(BadModelDirectory, match="nowhere is no directory"):
        add_int8(tmp_path / "nowhere", SAMPLE, "percentile", LENIENT)
    with staging(model.path), pytest.raises(BadModelDirectory, match="is being written by another process"):
        add_openvino(model.path, "fp32", LENIENT)
    (model.path / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(BadModelDirectory, match=r"model\.onnx has 7 bytes"):
        add_int8(model.path, SAMPLE, "percentile", LENIENT)


def test_a_verification_asks_each_variant_for_its_own_vectors(fast_model_directory: Path) -> None:
    rows = {row.file: row for row in verify_directory(ModelDirectory.open(fast_model_directory))}
    assert all(row.passed for row in rows.values())
    assert rows["model_int8.onnx"].verification.cosine_min > 0.9999  # to its own; fp32's are below 0.999
    assert rows["openvino-fp32"].verification.relative_difference < 1e-5


def test_a_graph_of_other_numbers_does_not_verify(model: Model) -> None:
    add_int8(model.path, SAMPLE, "percentile", LENIENT)
    directory = model.opened
    golden = directory.golden("onnx-int8")
    wrong = np.roll(golden.vectors, 1, axis=0)  # each crop's vector is another crop's
    embedder = OnnxEmbedder(directory.artefact("onnx-int8"), "f", directory.manifest.dim, threads=1)
    cosines = (unit(embedder.embed(golden.crops)) * unit(wrong)).sum(axis=1)
    embedder.close()
    assert cosines.max() < golden.cosine


def test_a_compilation_keeps_the_other_variants(fast_model_directory: Path, tmp_path: Path) -> None:
    path = shutil.copytree(fast_model_directory, tmp_path / "model")
    before = ModelDirectory.open(path).manifest.variants
    workshop = Workshop(CompileOptions("Ascend310P3", (1,)), find_toolkit(standins.environment(tmp_path)), path)
    compile_directory(path, workshop)
    after = ModelDirectory.open(path).manifest
    assert after.variants == {**before, "om-fp16": after.variants["om-fp16"]}
    assert after.variants["onnx-int8"].golden in after.files()
