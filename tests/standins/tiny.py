"""The smallest graphs and OMs that serve: one convolution, a mean, a few values; images of 8 x 4 unless asked."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests import standins

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, RGB


def graph(batch: int | str = "b", height: int = 8, width: int = 4, dim: int = 8, opset: int = 11) -> onnx.ModelProto:
    """float32 `input` [batch, 3, height, width] to `output` [batch, dim]."""
    weights = np.random.default_rng(0).standard_normal((dim, 3, 3, 3), dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["rows"], name="Conv_0", strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["rows"], ["means"], name="GlobalAveragePool_1"),
        helper.make_node("Flatten", ["means"], ["output"], name="Flatten_2"),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, height, width])]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, dim])]
    whole = helper.make_graph(nodes, "tiny", inputs, outputs, [numpy_helper.from_array(weights, "weights")])
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def aipp_text(height: int = 8, width: int = 4) -> str:
    """uint8 RGB, normalised as ImageNet's networks want it."""
    fields = ["aipp_mode: static", "related_input_rank: 0", "input_format: RGB888_U8"]
    fields += [f"src_image_size_w: {width}", f"src_image_size_h: {height}", "crop: false"]
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        fields += [f"min_chn_{channel}: {255 * mean}", f"var_reci_chn_{channel}: {1 / (255 * std)}"]
    return "aipp_op {\n" + "".join(f"  {field}\n" for field in fields) + "}\n"


def om(
    folder: Path,
    *,
    batch: int = 1,
    gears: Sequence[int] = (),
    aipp: bool = False,
    soc_version: str = "Ascend310P3",
    cann_version: str = standins.CANN_VERSION,
    height: int = 8,
    width: int = 4,
) -> Path:
    """An OM of the tiny graph, made by the `atc` stand-in; the graph lies beside it as tiny.onnx."""
    onnx.save(graph(height=height, width=width), folder / "tiny.onnx")
    target = folder / f"tiny_{'dyn' if gears else batch}{'_aipp' if aipp else ''}"
    command = ["atc", "--framework=5", f"--model={folder / 'tiny.onnx'}", f"--output={target}", "--input_format=NCHW"]
    command += [f"--input_shape=input:{-1 if gears else batch},3,{height},{width}", f"--soc_version={soc_version}"]
    if gears:
        command.append("--dynamic_batch_size=" + ",".join(map(str, gears)))
    if aipp:
        (folder / "aipp.cfg").write_text(aipp_text(height, width))
        command.append(f"--insert_op_conf={folder / 'aipp.cfg'}")
    environment = standins.environment(atc={"cann_version": cann_version})
    subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True)
    return target.with_suffix(".om")
