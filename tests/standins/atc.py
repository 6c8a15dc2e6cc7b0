"""The `atc` stand-in: takes the command lines that ATC takes, refuses what it refuses, writes the stand-in's OM.

It runs under whatever `python3` comes first on PATH, like the real one's operator compiler, with the standard library
alone. What it prints has the form of the ATC manual, of public logs and of GE's public source (main_impl): a start line,
"...", a line of success or failure, then the errors; status 0 or 255 (main returns -1). It leaves an OM of mode 0600 and
a folder kernel_meta/ in its working directory.

STANDIN_ATC is a JSON object; every key is optional:
    mode          ok · silent-failure (status 0, nothing written, no line of success) · no-file (line of success, no OM) ·
                  empty-file · partial-file (half an OM, then failure) · hang · fail
    error         code and text of the failure, such as "EB0500: ..." (mode fail, which it implies)
    marker        a path: the mode holds only while there is no such file, and the first time makes one
    seconds       how long a compilation takes
    warning       a W11001 after the line of success
    children      compile in a child process that outlives a parent which is killed alone; its pid in kernel_meta/child.pid
    cann_version  what OMs are stamped with (8.1.RC1)
    socs          the chips it knows
    needs_driver  libascend_hal.so is missing, unless LD_LIBRARY_PATH names the toolkit's devlib
    check_numpy   fail as the operator compiler does where the first python3 on PATH imports a numpy of 2 or later
    calls         a file that gets one line of JSON a call: argv, cwd and what the environment says of Python and libraries
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.standins import atc_options, om
from tests.standins.atc_options import Job, Refusal

FAILED = 255
CANN_VERSION = "8.1.RC1"
SHOWN_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "ASCEND_OPP_PATH")


def main(arguments: Sequence[str]) -> int:
    """The exit status."""
    switches: dict[str, Any] = json.loads(os.environ.get("STANDIN_ATC", "{}"))
    _record(switches, arguments)
    library = _missing_library(switches)
    if library:
        what = "cannot open shared object file: No such file or directory"
        print(f"atc.bin: error while loading shared libraries: {library}: {what}", file=sys.stderr)
        return 127
    print("ATC start working now, please wait for a moment.", flush=True)
    try:
        _run(switches, arguments)
    except Refusal as refusal:
        print("ATC run failed, Please check the detail log, Try 'atc --help' for more information")
        print(f"{refusal}\n        Solution: N/A\n        TraceBack (most recent call last):", flush=True)
        return FAILED
    return 0


def _run(switches: dict[str, Any], arguments: Sequence[str]) -> None:
    options = atc_options.parse(arguments)
    mode = options.get("mode", "0")
    if mode == "1":
        _dump(options)
    elif mode != "0":
        raise Refusal("E10001", f"Value {mode} for parameter --mode is invalid. Reason: the stand-in knows 0 and 1.")
    else:
        job = atc_options.job(options, switches.get("socs", atc_options.SOCS))
        if not os.environ.get("ASCEND_OPP_PATH"):
            kind = job.graph.operators[0]
            cause = "Possible Cause: The environment variable ASCEND_OPP_PATH is not configured."
            raise Refusal("E10501", f"IR for Op {kind} with optype {kind} is not registered.\n        {cause}")
        if not _compile(switches, job, arguments):
            return
    print("ATC run success, welcome to the next use.")
    if switches.get("warning"):
        print("W11001: Op [made_up] does not hit the high-priority operator information library.")


def _compile(switches: dict[str, Any], job: Job, arguments: Sequence[str]) -> bool:
    """Whether the line of success is due."""
    Path("kernel_meta").mkdir(exist_ok=True)
    Path("kernel_meta", "made_up.json").write_text("{}", encoding="utf-8")
    if switches.get("children"):
        _start_child()
    if switches.get("check_numpy"):
        _check_numpy()
    for _ in range(int(switches.get("seconds", 0) * 10)):
        time.sleep(0.1)
        print(".", end="", flush=True)  # the operator compiler prints dots without a line's end
    mode = _mode(switches)
    while mode == "hang":
        time.sleep(60)
    job.output.parent.mkdir(parents=True, exist_ok=True)
    if mode in {"ok", "partial-file"}:
        om.write(job.output, _header(switches, job, arguments), job.onnx)
    if mode == "partial-file":
        os.truncate(job.output, job.output.stat().st_size // 2)
    if mode == "empty-file":
        job.output.write_bytes(b"")
    print("...")
    if mode in {"fail", "partial-file"}:
        code, _, text = switches.get("error", "EZ9999: Inner Error!").partition(":")
        raise Refusal(code, text.strip() or "made up by the stand-in.")
    return mode != "silent-failure"


def _mode(switches: dict[str, Any]) -> str:
    mode = str(switches.get("mode", "fail" if "error" in switches else "ok"))
    marker = switches.get("marker")
    if mode == "ok" or marker is None:
        return mode
    if Path(marker).exists():
        return "ok"
    Path(marker).touch()
    return mode


def _header(switches: dict[str, Any], job: Job, arguments: Sequence[str]) -> om.Header:
    graph, shape = job.graph, list(job.shape)
    tensor, layout, dtype = graph.inputs[0], "NCHW", "float32"
    if job.aipp:  # uint8 NHWC, whatever --input_format says (ATC manual, AIPP)
        shape, layout, dtype = [shape[0], shape[2], shape[3], shape[1]], "NHWC", "uint8"
    largest = job.gears[-1] if job.gears else shape[0]
    crop_values = shape[1] * shape[2] * shape[3]
    return om.Header(
        input_name=tensor.name,
        input_shape=shape,
        dtype=dtype,
        layout=layout,
        output_name=f"{graph.output_node}:0:{graph.outputs[0].name}",
        output_onnx=graph.outputs[0].name,
        output_shape=[shape[0], *graph.outputs[0].shape[1:]],
        gears=job.gears,
        soc_version=job.soc_version,
        cann_version=switches.get("cann_version", CANN_VERSION),
        precision_mode=job.precision_mode,
        atc_cmdline=" ".join(["atc.bin", *arguments]),
        weight_size=graph.weight_bytes // 2,  # fp16
        memory_size=32 * largest * crop_values,  # made up: a first layer's 64 fp16 channels at a quarter of the pixels
        aipp=job.aipp,
    )


def _dump(options: dict[str, str]) -> None:
    """--mode=1: the OM as JSON. Attributes are {"key", "value": {"s" or "i"}} (ATC manual, version of a model file)."""
    for name in ("om", "json"):
        if not options.get(name):
            raise Refusal("E10004", f"Value for --{name} is empty.")
    try:
        header, _ = om.read(Path(options["om"]))
    except OSError:
        raise Refusal("E10001", f"Value {options['om']} for parameter --om is invalid. Reason: no such file.") from None
    except om.NotAnOm:
        raise Refusal("E10041", f"Failed to load the model from {options['om']}.") from None
    strings = {
        "soc_version": header.soc_version,
        "atc_version": header.cann_version,
        "opp_version": header.cann_version,
        "atc_cmdline": header.atc_cmdline,
    }
    attributes: list[dict[str, Any]] = [{"key": key, "value": {"s": text}} for key, text in strings.items()]
    numbers = {"weight_size": header.weight_size, "memory_size": header.memory_size}
    attributes += [{"key": key, "value": {"i": number}} for key, number in numbers.items()]
    # A list of strings in ge.proto's JSON; not seen in a dump, hence a guess.
    attributes.append({"key": "attr_model_out_nodes_name", "value": {"list": {"s": [header.output_name]}}})
    data = {"name": header.input_name, "type": "Data", "output_desc": [{"shape": {"dim": header.input_shape}}]}
    graph = {"name": "stand-in", "op": [data, {"name": "Node_Output", "type": "NetOutput"}]}
    document = {"name": "stand-in", "version": 1, "attr": attributes, "graph": [graph]}
    Path(options["json"]).write_text(json.dumps(document, indent=2), encoding="utf-8")


def _missing_library(switches: dict[str, Any]) -> str:
    """The name of the library that the loader would miss."""
    if not os.environ.get("ASCEND_TOOLKIT_HOME"):  # set_env.sh sets it together with LD_LIBRARY_PATH
        return "libge_compiler.so"
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    if switches.get("needs_driver") and not any("devlib" in Path(folder).parts for folder in libraries):
        return "libascend_hal.so"
    return ""


def _check_numpy() -> None:
    command = ["python3", "-c", "import numpy; print(numpy.__version__)"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    version = re.match(r"(\d+)\.", found.stdout)
    if version and int(version.group(1)) >= 2:
        attribute = "module 'numpy' has no attribute 'float_'"
        raise Refusal(
            "EB0500", f"The operator compiler failed: AttributeError: {attribute} (numpy {found.stdout.strip()})."
        )


def _start_child() -> None:
    child = subprocess.Popen(["sleep", "600"])
    Path("kernel_meta", "child.pid").write_text(str(child.pid), encoding="utf-8")


def _record(switches: dict[str, Any], arguments: Sequence[str]) -> None:
    if "calls" in switches:
        environment = {name: os.environ[name] for name in SHOWN_ENVIRONMENT if name in os.environ}
        call = {"argv": list(arguments), "cwd": str(Path.cwd()), "environment": environment}
        with Path(switches["calls"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(call) + "\n")
