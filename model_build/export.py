"""A network to ONNX: one self-contained file with a dynamic batch; `graph` derives the fixed-batch files from it.

Input `input` float32 [b, 3, 256, 128], output `output` float32 [b, dim], not normalised: the names of the reference's
export, so graphs of both can stand in for each other.
"""

import tempfile
import warnings
from collections import Counter
from typing import Literal

import onnx
import torch
from onnx import ModelProto

from app.core.preprocess import HEIGHT, WIDTH
from model_build.network import Architecture, ReidNetwork

# The reference's own, which its guide compiled with CANN 6.0; users of later ATCs call it the safe one. No operator of
# this graph has gained anything since but more types.
OPSET = 11
INPUT, OUTPUT = "input", "output"
BATCH: Literal["b"] = "b"
# Whatever else turned up would be a shape computed at run time or training left in, and ATC wants neither.
OPERATORS = {"Conv", "Relu", "Add", "MaxPool", "GlobalAveragePool", "Flatten", "BatchNormalization"}


def export_onnx(network: ReidNetwork) -> ModelProto:
    """The network as a checked graph with a dynamic batch; weights inside. The network must be in eval mode."""
    if any(module.training for module in network.modules()):
        # The exporter puts the mode it found back into all children; a mixed one would leave torch and ONNX apart.
        raise RuntimeError("a network is exported in eval mode, set on the outermost module")
    model = _trace(network)
    _inline_shared(model)
    model.producer_name, model.producer_version, model.doc_string = "reid-service", "", ""
    check(model, network.architecture)
    return model


def check(model: ModelProto, architecture: Architecture) -> None:
    """The graph is valid ONNX and made of the operators, in the numbers, that the architecture calls for."""
    onnx.checker.check_model(model, full_check=True)
    counts = Counter(node.op_type for node in model.graph.node)
    blocks = sum(architecture.depths)
    wanted = {"Conv": 1 + 3 * blocks + 4, "Relu": 3 * blocks, "Add": blocks}  # no Relu in the stem: 53 and 48 in full
    if set(counts) != OPERATORS or any(counts[name] != number for name, number in wanted.items()):
        raise RuntimeError(f"the exported graph holds {dict(counts)}; wanted were {wanted} and one each of the rest")


def _trace(network: ReidNetwork) -> ModelProto:
    """torch's TorchScript exporter: the newer one writes the weights to a second file and unrolls the folded norms."""
    example = torch.zeros(2, 3, HEIGHT, WIDTH)  # two, for a batch of one may be taken for a constant
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        # torch announces that this exporter will go one day; the pinned torch has it, and the graph is checked below.
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based ONNX export", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        torch.onnx.export(
            network,
            (example,),
            f"{scratch}/traced.onnx",
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: BATCH}, OUTPUT: {0: BATCH}},
        )
        return onnx.load(f"{scratch}/traced.onnx")


def _inline_shared(model: ModelProto) -> None:
    """Equal weights are exported once, with an Identity node for each further use; make the uses name the weight."""
    weights = {tensor.name for tensor in model.graph.initializer}
    shared = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Identity" and n.input[0] in weights}
    for node in [node for node in model.graph.node if node.output[0] in shared]:
        model.graph.node.remove(node)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = shared.get(name, name)
