"""int8 graphs: which crops tell the ranges, what the graph looks like, and that the same crops make the same bytes."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from app.adapters.model_directory import ModelDirectory
from app.core.preprocess import decode
from app.demo.dataset import Recipe, draw_dataset
from app.errors import BadInput
from model_build.quantize import FEWEST, STRIDE, Sample, quantize, read_sample

JPEGS = [crop.jpeg for crop in draw_dataset(Recipe(seed=3, persons=8, distractors=4, cameras=3))]


def folder_of(path: Path, jpegs: list[bytes]) -> Path:
    path.mkdir()
    for number, jpeg in enumerate(jpegs):
        (path / f"{number}.jpg").write_bytes(jpeg)
    return path


def made(directory: Path, target: Path, sample: Sample, method: str = "percentile") -> onnx.ModelProto:
    opened = ModelDirectory.open(directory)
    assert method in ("percentile", "minmax")
    quantize(opened.artefact("onnx-fp32"), target, opened.manifest.input, sample, method)  # type: ignore[arg-type]  # mypy does not narrow
    return onnx.load(target)


@pytest.fixture(scope="module")
def sample() -> Sample:
    return Sample(np.stack([decode(jpeg, "x") for jpeg in JPEGS[:FEWEST]]))


def test_names_and_copies_do_not_tell_which_crops_are_taken(tmp_path: Path) -> None:
    one = read_sample(folder_of(tmp_path / "a", JPEGS), most=FEWEST)
    other = read_sample(folder_of(tmp_path / "b", [*JPEGS[::-1], JPEGS[0]]), most=FEWEST)
    assert one.fact("minmax") == other.fact("minmax")
    # By hand: the pictures in the order of their own hashes, as the network sees them.
    first = sorted(JPEGS, key=lambda jpeg: hashlib.sha256(jpeg).digest())[:FEWEST]
    assert np.array_equal(one.crops, np.stack([decode(jpeg, "x") for jpeg in first]))


def test_a_broken_picture_is_left_out_and_said_and_what_is_no_picture_is_not_looked_at(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", [*JPEGS[:FEWEST], b"no picture"])
    (folder / "notes.txt").write_text("x")
    said: list[str] = []
    assert len(read_sample(folder, say=said.append).crops) == FEWEST
    assert said == [f"left out: {FEWEST}.jpg: not a whole JPEG, PNG, WEBP or BMP image"]


def test_the_number_of_crops_is_a_multiple_of_what_the_tools_take_at_a_time(tmp_path: Path) -> None:
    assert len(read_sample(folder_of(tmp_path / "a", JPEGS[: FEWEST + STRIDE - 1])).crops) == FEWEST


def test_too_few_pictures_are_refused_and_one_of_them_twice_is_one(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", [*JPEGS[: FEWEST - 1], JPEGS[0]])
    with pytest.raises(BadInput, match=f"has {FEWEST - 1} different pictures; at least {FEWEST} are needed"):
        read_sample(folder)
    with pytest.raises(BadInput, match="nowhere cannot be read: No such file or directory"):
        read_sample(tmp_path / "nowhere")


def test_the_graph_is_int8_up_to_the_last_map_and_float_behind_it(
    sample: Sample, tiny_model_directory: Path, tmp_path: Path
) -> None:
    graph = made(tiny_model_directory, tmp_path / "int8.onnx", sample)
    (opset,) = graph.opset_import
    assert opset.version == 13
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    made_by = {name: node for node in graph.graph.node for name in node.output}
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 1 + 3 * 4 + 4  # the tiny network: stem, four blocks of three, four shortcuts
    for node in convolutions:
        pixels, weights = (made_by[name] for name in node.input[:2])
        assert (pixels.op_type, weights.op_type) == ("DequantizeLinear", "DequantizeLinear")
        kernel, scales = (stored[name] for name in weights.input[:2])
        assert kernel.data_type == onnx.TensorProto.INT8
        assert list(scales.dims) == [kernel.dims[0]]  # one for each channel
        assert stored[pixels.input[2]].data_type == onnx.TensorProto.UINT8
    names = [node.op_type for node in graph.graph.node]
    assert names[names.index("GlobalAveragePool") :] == ["GlobalAveragePool", "Flatten", "BatchNormalization"]
    assert Counter(names)["Relu"] == 0  # a range that begins at zero does their work


@pytest.mark.parametrize("method", ["percentile", "minmax"])
def test_the_same_crops_and_method_make_the_same_bytes(
    method: str, sample: Sample, tiny_model_directory: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made(tiny_model_directory, tmp_path / "one.onnx", sample, method)
    made(tiny_model_directory, tmp_path / "two.onnx", sample, method)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    assert capfd.readouterr() == ("", "")  # the tools' talk is for nobody
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.onnx", "two.onnx"]


def test_other_crops_or_another_method_make_another_graph(
    sample: Sample, tiny_model_directory: Path, tmp_path: Path
) -> None:
    others = Sample(np.stack([decode(jpeg, "x") for jpeg in JPEGS[-FEWEST:]]))
    graphs = {
        made(tiny_model_directory, tmp_path / "graph.onnx", crops, method).SerializeToString(deterministic=True)
        for crops, method in ((sample, "percentile"), (sample, "minmax"), (others, "percentile"))
    }
    assert len(graphs) == 3


def test_the_manifest_is_told_method_number_and_hash_and_no_names(sample: Sample) -> None:
    fact = sample.fact("percentile")
    assert (fact.method, fact.percentile, fact.crops) == ("percentile", 99.999, FEWEST)
    assert fact.crops_sha256 == hashlib.sha256(sample.crops.tobytes()).hexdigest()
    assert fact.tool.startswith("onnxruntime 1.")
    assert sample.fact("minmax").percentile is None
