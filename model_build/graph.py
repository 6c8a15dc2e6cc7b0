"""What is done to an ONNX graph without torch: fixing its batch size and writing it. `compile` needs no more than this."""

from pathlib import Path

import onnx
from onnx import ModelProto, shape_inference


def fix_batch(model: ModelProto, batch: int) -> ModelProto:
    """The same graph for exactly `batch` crops, every shape in it static."""
    fixed = ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    onnx.checker.check_model(fixed, full_check=True)
    inferred = shape_inference.infer_shapes(fixed, check_type=True, strict_mode=True, data_prop=True)
    static = {value.name for value in (*inferred.graph.value_info, *inferred.graph.output) if _is_static(value)}
    vague = [name for node in inferred.graph.node for name in node.output if name not in static]
    if vague:
        raise RuntimeError(f"shapes that are not static at batch {batch}: {', '.join(vague)}")
    return fixed


def save(model: ModelProto, path: Path) -> None:
    """One file, without external data."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def load(path: Path) -> ModelProto:
    """A graph with its weights."""
    return onnx.load(path)


def _is_static(value: onnx.ValueInfoProto) -> bool:
    shape = value.type.tensor_type.shape
    return len(shape.dim) > 0 and all(dim.HasField("dim_value") and dim.dim_value > 0 for dim in shape.dim)
