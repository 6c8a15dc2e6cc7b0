"""Embedder on OpenVINO: x86 CPUs, in bfloat16 where they have it, else in float32. The only file that imports openvino.

The precision is always said: left to itself the library takes bfloat16 on one CPU and float32 on another, and vectors of
the two would meet in one gallery.
"""

import sys
import time
from collections.abc import Set
from pathlib import Path
from typing import Any

import numpy as np

from app.adapters.model_directory import ModelDirectory
from app.core.preprocess import HEIGHT, WIDTH, normalise
from app.errors import BadDevice, BadModelDirectory, BadSettings, DeviceFailed
from app.ports import Crops, Floats, RunTimes

# The package brings a module that reports uses of its converter to its maker. Nothing here converts, and without the
# module the package loads a stand-in of its own that does nothing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: an import of it fails
try:
    import openvino as ov
except ImportError as missing:
    raise BadSettings(
        "OpenVINO is not installed; install the extra `openvino`: pip install 'reid-service[openvino]'"
    ) from missing

BATCH_SIZES = (1, 2, 4, 8)  # as on ONNX Runtime: beyond eight a CPU gains nothing, and waits grow
HINTS = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16}
BF16_FLAGS = frozenset(("avx512_bf16", "amx_bf16"))  # as Linux names the two instruction sets that multiply bfloat16
CPUINFO = Path("/proc/cpuinfo")


class OpenVinoEmbedder:
    """One compiled graph and one request, called by one thread at a time."""

    def __init__(
        self,
        path: Path,
        fingerprint: str,
        dim: int,
        precision: str,
        threads: int = 0,
        batch_sizes: tuple[int, ...] = BATCH_SIZES,
        cpu: Set[str] | None = None,
    ) -> None:
        """Compile the graph. precision: one of HINTS. threads: 0 takes one per core. cpu: its flags; None: as Linux tells.

        Raises BadModelDirectory, and BadDevice where the CPU has not got the precision.
        """
        self.last_run: RunTimes | None = None
        if precision not in HINTS:
            raise BadModelDirectory(f"OpenVINO computes in {' or '.join(HINTS)} here, not in {precision!r}")
        if precision == "bf16":
            require_bf16(cpu_flags() if cpu is None else cpu)
        options = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, all threads for it
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # a thread tied to a core waits there for whoever else is on it
        }
        try:
            core = ov.Core()
            model = core.read_model(path)
            self._check(path.name, model, dim)
            compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise BadModelDirectory(f"{path.name} cannot be loaded: {_first_line(error)}") from error
        if (got := compiled.get_property("INFERENCE_PRECISION_HINT")) != HINTS[precision]:
            raise BadDevice(f"OpenVINO computes in {got.to_string()} on this CPU, not in {precision}")
        self.fingerprint, self.dim, self.batch_sizes = fingerprint, dim, batch_sizes
        self._request = compiled.create_infer_request()

    def embed(self, crops: Crops) -> Floats:
        """uint8 [n, 256, 128, 3] to raw float32 [n, dim]."""
        planes = normalise(crops)
        started = time.perf_counter()
        try:
            self._request.infer([planes], share_inputs=True)
            # A copy: the next run writes over the library's own.
            vectors = np.array(self._request.get_output_tensor(0).data, dtype=np.float32)
        except Exception as error:  # the library raises RuntimeError and ValueError; after close the request is missing
            raise DeviceFailed(f"OpenVINO: {_first_line(error)}") from error
        took_ms = (time.perf_counter() - started) * 1000
        self.last_run = RunTimes(took_ms, took_ms)  # a CPU's memory is the host's: nothing is copied
        return vectors

    @staticmethod
    def _check(file: str, model: Any, dim: int) -> None:
        """Raises BadModelDirectory for a graph that is not of the kind."""
        wanted = ([f"f32 [?,3,{HEIGHT},{WIDTH}]"], [f"f32 [?,{dim}]"])
        found = tuple(
            [f"{end.get_element_type().to_string()} {end.get_partial_shape()}" for end in ends]
            for ends in (model.inputs, model.outputs)
        )
        if found != wanted:
            raise BadModelDirectory(f"{file} maps {found[0]} to {found[1]}; {wanted[0]} to {wanted[1]} is needed")

    def close(self) -> None:
        """Free the graph and its memory."""
        del self._request


def open_variant(
    directory: ModelDirectory, variant: str, threads: int = 0, batch_sizes: tuple[int, ...] = ()
) -> OpenVinoEmbedder:
    """A variant of a model directory, in the precision that its manifest says.

    Raises BadModelDirectory, and BadDevice where the CPU has not got that precision.
    """
    fact = directory.manifest.variant(variant)
    path, dim = directory.artefact(variant), directory.manifest.dim
    return OpenVinoEmbedder(path, fact.fingerprint, dim, fact.precision, threads, batch_sizes or BATCH_SIZES)


def require_bf16(flags: Set[str]) -> None:
    """Raises BadDevice for a CPU that cannot multiply bfloat16. The library itself claims it on any, and is slow there."""
    if not flags & BF16_FLAGS:
        raise BadDevice(
            "this CPU does not compute in bfloat16 (it has neither avx512_bf16 nor amx_bf16); "
            "use onnx-fp32, or onnx-int8 where it has VNNI"
        )


def cpu_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """What the CPU can do, in Linux' words; nothing where Linux does not tell."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").partition(":")[2].split())


def _first_line(error: Exception) -> str:
    """The library's own sentence: lines before it name its source files."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]
    return lines[0] if lines else repr(error)
