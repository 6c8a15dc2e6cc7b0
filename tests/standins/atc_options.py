"""The options of `atc` and what it refuses of them. Standard library only.

Codes are those of the ATC manual's error list and of the public source of GE (`ge_error_code`); the sentences after
them are in the form of public logs, for nothing may depend on their words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.standins import aipp, onnx_wire

SOCS: tuple[str, ...] = (
    "Ascend310",
    "Ascend310B1",
    "Ascend310B4",
    "Ascend310P1",
    "Ascend310P3",
    "Ascend310P5",
    "Ascend310P7",
)
SOCS += ("Ascend910A", "Ascend910B", "Ascend910B1", "Ascend910B2", "Ascend910B3", "Ascend910B4")
# What the stand-in acts upon ...
USED = {"mode", "om", "json", "model", "framework", "output", "input_format", "input_shape", "soc_version"}
USED |= {"insert_op_conf", "dynamic_batch_size", "precision_mode", "precision_mode_v2", "output_type", "log"}
# ... what it takes and ignores, since it changes speed or accuracy alone ...
IGNORED = {"op_select_implmode", "optypelist_for_implmode", "op_precision_mode", "keep_dtype", "fusion_switch_file"}
IGNORED |= {"debug_dir", "op_debug_level", "op_compiler_cache_dir", "op_compiler_cache_mode", "buffer_optimize"}
IGNORED |= {"enable_small_channel", "disable_reuse_memory", "deterministic", "display_model_info", "check_report"}
IGNORED |= {
    "enable_single_stream",
    "save_original_model",
    "mdl_bank_path",
    "op_bank_path",
    "host_env_os",
    "host_env_cpu",
}
# ... and what the real one knows and the stand-in cannot do.
NOT_MODELLED = {"dynamic_image_size", "dynamic_dims", "input_shape_range", "input_fp16_nodes", "out_nodes", "singleop"}
NOT_MODELLED |= {"weight", "external_weight", "aicore_num", "compression_optimize_conf", "customize_dtypes"}
PRECISIONS: tuple[str, ...] = (
    "force_fp16",
    "force_fp32",
    "cube_fp16in_fp32out",
    "allow_fp32_to_fp16",
    "must_keep_origin_dtype",
)
PRECISIONS += ("allow_mix_precision", "allow_mix_precision_fp16", "allow_mix_precision_bf16", "allow_fp32_to_bf16")
PRECISIONS_V2 = ("fp16", "origin", "cube_fp16in_fp32out", "mixed_float16", "mixed_bfloat16", "cube_hif8", "mixed_hif8")
NEWEST_OPSET = 18  # a public report on E19010 names 8 to 18 for the Div of CANN 8
MOST_GEARS = 100


class Refusal(Exception):
    """An error as `atc` prints it."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")


@dataclass(frozen=True)
class Job:
    """A command line that holds together."""

    model: Path
    onnx: bytes
    graph: onnx_wire.Graph
    output: Path
    shape: list[int]
    gears: list[int]
    aipp: dict[str, str] | None
    soc_version: str
    precision_mode: str


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """`--name=value`, or `--name value` as some public guides write it. Raises Refusal."""
    options: dict[str, str] = {}
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        match = re.fullmatch(r"--([a-z0-9_]+)(?:=(.*))?", argument, re.DOTALL)
        if match is None or match.group(1) not in USED | IGNORED | NOT_MODELLED:
            # The code of the real refusal is not known; its class is.
            raise Refusal("E10001", f"Value {argument} for parameter atc is invalid. Reason: there is no such option.")
        name, value = match.group(1), match.group(2)
        if value is None:
            if not waiting or waiting[0].startswith("--"):
                raise _empty(name)
            value = waiting.pop(0)
        options[name] = value
    unmodelled = sorted(NOT_MODELLED & set(options))
    if unmodelled:
        raise Refusal("E19999", f"the stand-in cannot do what --{unmodelled[0]} asks for.")
    return options


def job(options: dict[str, str], socs: Sequence[str]) -> Job:
    """Raises Refusal, in the order in which GE checks: framework, model, soc, then the rest."""
    if options.get("framework") != "5":
        raise Refusal("E10007", "--framework is required. The value must be 5(Onnx) here.")
    for name in ("model", "output"):
        if not options.get(name):
            raise _empty(name)
    _among("soc_version", options.get("soc_version", ""), socs)
    _check_words(options)
    content, graph = _read_model(Path(options["model"]))
    shape = _shape(options, graph)
    gears = _gears(options, shape)
    return Job(
        model=Path(options["model"]),
        onnx=content,
        graph=graph,
        output=Path(options["output"] + ".om"),
        shape=shape,
        gears=gears,
        aipp=_aipp(options, shape),
        soc_version=options["soc_version"],
        precision_mode=options.get("precision_mode") or options.get("precision_mode_v2") or "force_fp16",
    )


def _check_words(options: dict[str, str]) -> None:
    if "precision_mode" in options and "precision_mode_v2" in options:
        raise Refusal("E10056", "Cannot configure both parameters --precision_mode and --precision_mode_v2.")
    _among("precision_mode", options.get("precision_mode", "force_fp16"), PRECISIONS)
    _among("precision_mode_v2", options.get("precision_mode_v2", "fp16"), PRECISIONS_V2)
    _among("input_format", options.get("input_format", "NCHW"), ("NCHW", "ND"))
    _among("output_type", options.get("output_type", "FP32"), ("FP32",))
    if options.get("log", "null") not in {"debug", "info", "warning", "error", "null"}:
        raise Refusal("E10010", f"Value {options['log']} for parameter --log is invalid.")


def _read_model(path: Path) -> tuple[bytes, onnx_wire.Graph]:
    if not path.is_file():
        raise _invalid("--model", str(path), "the file does not exist or cannot be read.")
    content = path.read_bytes()
    try:
        graph = onnx_wire.read(content)
    except onnx_wire.NotOnnx:
        raise Refusal("E10041", f"Failed to load the model from {path}.") from None
    if graph.opset > NEWEST_OPSET:
        kind = graph.operators[0]
        raise Refusal("E19010", f"No parser is registered for Op [{kind}, optype [ai.onnx::{graph.opset}::{kind}]].")
    if len(graph.inputs) != 1 or len(graph.outputs) != 1 or len(graph.inputs[0].shape) != 4:
        raise Refusal("E19999", "the stand-in compiles graphs of one image-shaped input and one output.")
    return content, graph


def _shape(options: dict[str, str], graph: onnx_wire.Graph) -> list[int]:
    tensor = graph.inputs[0]
    if "input_shape" not in options:
        if -1 in tensor.shape:
            raise Refusal("E11005", f"The shape is not defined by using --input_shape for input {tensor.name}.")
        return list(tensor.shape)
    name, shape = _parse_shape(options["input_shape"])
    if name != tensor.name and -1 in tensor.shape:  # as public logs have it, when the name is misspelt
        reason = "maybe you should set input_shape to specify its shape."
        raise Refusal("E10001", f"Value [-1] for parameter [{tensor.name}] is invalid. Reason: {reason}")
    if name != tensor.name:
        raise Refusal("E10016", f"Opname {name} specified in --input_shape is not found in the model.")
    if len(shape) != len(tensor.shape):
        raise Refusal("E10049", f"Dimension count {len(shape)} in --input_shape; the node has {len(tensor.shape)}.")
    fixed = [mine in {-1, given} for mine, given in zip(tensor.shape, shape, strict=True)]
    if not fixed[0] or not all(fits or given == -1 for fits, given in zip(fixed, shape, strict=True)):
        # Whether the real one would compile such a contradiction is not known; nobody wants it compiled.
        raise _invalid("--input_shape", options["input_shape"], f"the model fixes {tensor.name} to {tensor.shape}.")
    if "dynamic_batch_size" not in options and min(shape) < 1:
        raise Refusal("E10011", f"Value {options['input_shape']} for parameter --input_shape is invalid.")
    return shape


def _parse_shape(text: str) -> tuple[str, list[int]]:
    match = re.fullmatch(r"([^:;]+):(-?\d+(?:,-?\d+)*);?", text)
    if match is None:
        sample = "input_name1:n1,c1,h1,w1"
        reason = f"Reason: it does not parse. The value must be formatted as {sample}."
        raise Refusal("E10002", f"Value {text} for parameter --input_shape is invalid. {reason}")
    return match.group(1), [int(axis) for axis in match.group(2).split(",")]


def _gears(options: dict[str, str], shape: list[int]) -> list[int]:
    if "dynamic_batch_size" not in options:
        return []
    text = options["dynamic_batch_size"]
    if not re.fullmatch(r"-?\d+(,-?\d+)*", text):
        raise Refusal("E10014", f"Value {text} for parameter --dynamic_batch_size is invalid.")
    gears = [int(gear) for gear in text.split(",")]
    if shape[0] != -1:
        raise Refusal("E10031", "--dynamic_batch_size is included, but no node of --input_shape has a batch of -1.")
    if min(shape[1:]) < 1:
        raise Refusal("E10018", f"Value {min(shape[1:])} for shape {shape} is invalid; only the batch can be -1.")
    if len(gears) < 2:
        raise Refusal("E10035", f"--dynamic_batch_size has {len(gears)} profiles, which is less than the minimum 2.")
    if len(gears) > MOST_GEARS:
        raise Refusal("E10036", f"--dynamic_batch_size has {len(gears)} profiles; the maximum is {MOST_GEARS}.")
    if min(gears) < 1:
        raise Refusal("E10038", f"Dimension size {min(gears)} is invalid. The value must be greater than 0.")
    if len(set(gears)) < len(gears):
        raise Refusal("E10039", "The --dynamic_batch_size argument has duplicate profiles.")
    return sorted(gears)


def _aipp(options: dict[str, str], shape: list[int]) -> dict[str, str] | None:
    if "insert_op_conf" not in options:
        return None
    path = Path(options["insert_op_conf"])
    if not path.is_file():
        raise _invalid("--insert_op_conf", str(path), "the file does not exist or cannot be read.")
    try:
        fields = aipp.parse(path.read_text(encoding="utf-8"))
        aipp.check(fields, shape)
    except aipp.BadAipp as error:
        if not error.parsed:
            raise _invalid("--insert_op_conf", str(path), f"{error} does not parse.") from None
        raise Refusal("E10052", f"AIPP configuration is invalid. Reason: {error}.") from None
    return fields


def _among(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise _invalid(f"--{name}", value, f"it must be one of {', '.join(known)}.")


def _invalid(parameter: str, value: str, reason: str) -> Refusal:
    return Refusal("E10001", f"Value {value} for parameter {parameter} is invalid. Reason: {reason}")


def _empty(name: str) -> Refusal:
    return Refusal("E10054", f"The required parameter [--{name}] for ATC is empty.")
