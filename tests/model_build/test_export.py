from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto

from app.adapters.onnx import OnnxEmbedder
from app.core.preprocess import normalise
from model_build.export import OPSET, check, export_onnx
from model_build.golden import draw_golden_crops, embed_golden
from model_build.graph import fix_batch, save
from model_build.made_up import made_up_network
from model_build.network import Architecture, ReidNetwork
from model_build.verify import compare


@pytest.fixture(scope="module")
def model(tiny_network: ReidNetwork) -> ModelProto:
    return export_onnx(tiny_network)


@pytest.fixture(scope="module")
def deep_network() -> ReidNetwork:
    """ResNet-50's depths at a sixteenth of its width."""
    return made_up_network(Architecture(width=4))


@pytest.fixture(scope="module")
def deep(deep_network: ReidNetwork) -> ModelProto:
    return export_onnx(deep_network)


@pytest.fixture
def path(model: ModelProto, tmp_path: Path) -> Iterator[Path]:
    save(model, tmp_path / "model.onnx")
    yield tmp_path / "model.onnx"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]  # one file: no weights beside it


def described(value: Any) -> tuple[str, int, list[int | str]]:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]


def test_input_and_output_have_the_reference_s_names_and_a_dynamic_batch(model: ModelProto) -> None:
    float32 = onnx.TensorProto.FLOAT
    assert [described(value) for value in model.graph.input] == [("input", float32, ["b", 3, 256, 128])]
    assert [described(value) for value in model.graph.output] == [("output", float32, ["b", 128])]


def test_the_opset_is_11_and_no_other_domain_is_used(model: ModelProto) -> None:
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)] == [("", 11)]


def test_a_network_of_resnet50s_depths_has_53_conv_48_relu_16_add(deep: ModelProto) -> None:
    assert Counter(node.op_type for node in deep.graph.node) == {
        "Conv": 53, "Relu": 48, "Add": 16, "MaxPool": 1, "GlobalAveragePool": 1, "Flatten": 1, "BatchNormalization": 1
    }  # fmt: skip


def test_the_max_pool_takes_its_values_straight_from_the_first_conv(deep: ModelProto) -> None:
    producers = {name: node.op_type for node in deep.graph.node for name in node.output}
    (pool,) = (node for node in deep.graph.node if node.op_type == "MaxPool")
    assert producers[pool.input[0]] == "Conv"  # its norm is folded in; a stem with ReLU would show here


@pytest.mark.parametrize("count", [1, 3, 8])
def test_one_file_takes_any_number_of_crops(
    count: int, path: Path, tiny_network: ReidNetwork, model: ModelProto
) -> None:
    crops = draw_golden_crops()[:count]
    embedder = OnnxEmbedder(path, "f", 128)
    agreement = compare(embed_golden(tiny_network, crops).vectors, embedder.embed(crops))
    assert agreement.crops == count
    assert agreement.relative_difference < 1e-5


def test_a_deep_network_s_vectors_survive_the_export(
    deep: ModelProto, deep_network: ReidNetwork, tmp_path: Path
) -> None:
    save(deep, tmp_path / "deep.onnx")
    golden = embed_golden(deep_network, draw_golden_crops())
    agreement = compare(golden.vectors, OnnxEmbedder(tmp_path / "deep.onnx", "f", 128).embed(golden.crops))
    assert agreement.relative_difference < 1e-5
    assert agreement.cosine_min > 0.9999999


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_a_fixed_batch_graph_is_static_throughout(batch: int, deep: ModelProto) -> None:
    fixed = fix_batch(deep, batch)
    onnx.checker.check_model(fixed, full_check=True)
    assert described(fixed.graph.input[0])[2] == [batch, 3, 256, 128]
    assert described(fixed.graph.output[0])[2] == [batch, 128]
    inferred = onnx.shape_inference.infer_shapes(fixed, strict_mode=True)
    shapes = {value.name: described(value)[2] for value in inferred.graph.value_info}
    assert len(shapes) == len(deep.graph.node) - 1  # all but the output, which was seen above
    assert all(isinstance(size, int) and size > 0 for shape in shapes.values() for size in shape)
    assert not {node.op_type for node in fixed.graph.node} & {"Shape", "Reshape", "Gather", "Expand", "Resize"}


def test_fixing_a_batch_leaves_the_dynamic_graph_alone(model: ModelProto) -> None:
    before = model.SerializeToString(deterministic=True)
    fix_batch(model, 4)
    assert model.SerializeToString(deterministic=True) == before


def test_a_fixed_batch_file_refuses_another_batch(model: ModelProto, tmp_path: Path) -> None:
    from app.errors import DeviceFailed

    save(fix_batch(model, 4), tmp_path / "model_bs4.onnx")
    embedder = OnnxEmbedder(tmp_path / "model_bs4.onnx", "f", 128)
    crops = np.resize(draw_golden_crops(), (4, 256, 128, 3))
    assert embedder.embed(crops).shape == (4, 128)
    with pytest.raises(DeviceFailed):
        embedder.embed(crops[:3])


def test_an_export_is_the_same_to_the_byte_and_names_no_file_of_this_machine(
    tiny_network: ReidNetwork, model: ModelProto
) -> None:
    data = model.SerializeToString(deterministic=True)
    assert export_onnx(tiny_network).SerializeToString(deterministic=True) == data
    assert str(Path(__file__).parents[2]).encode() not in data
    assert b".py" not in data


def test_equal_weights_are_shared_without_identity_nodes() -> None:
    plain = ReidNetwork(Architecture(4, (1, 1, 1, 1))).eval()  # all its norms are alike
    assert "Identity" not in {node.op_type for node in export_onnx(plain).graph.node}


def test_a_network_with_any_part_in_training_mode_is_not_exported(tiny_network: ReidNetwork) -> None:
    wrapped = ReidNetwork(tiny_network.architecture).eval()
    wrapped.bn.train()
    with pytest.raises(RuntimeError, match="eval mode"):
        export_onnx(wrapped)


def test_exporting_leaves_the_network_in_eval_mode_with_its_vectors(tiny_network: ReidNetwork) -> None:
    crops = torch.from_numpy(normalise(draw_golden_crops()[:1]))
    with torch.no_grad():
        before = tiny_network(crops)
        export_onnx(tiny_network)
        assert torch.equal(tiny_network(crops), before)
    assert not any(module.training for module in tiny_network.modules())


def test_a_stem_with_a_relu_is_noticed(deep: ModelProto) -> None:
    wrong = ModelProto()
    wrong.CopyFrom(deep)
    (pool,) = (node for node in wrong.graph.node if node.op_type == "MaxPool")
    position = list(wrong.graph.node).index(pool)
    wrong.graph.node.insert(position, onnx.helper.make_node("Relu", [pool.input[0]], ["stem"]))
    pool.input[0] = "stem"
    with pytest.raises(RuntimeError, match="'Relu': 49"):
        check(wrong, Architecture(width=4))
