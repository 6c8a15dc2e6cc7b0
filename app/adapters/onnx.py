"""Embedder on ONNX Runtime: any CPU, float32 in, float32 out. The only file that imports onnxruntime."""

import os
import time
from pathlib import Path
from typing import cast

import numpy as np

from app.core.preprocess import HEIGHT, WIDTH, normalise
from app.errors import BadModelDirectory, BadSettings, DeviceFailed
from app.ports import Crops, Floats, RunTimes

# The official wheels report to their maker over the network, and leave an id in the home folder, unless this is set
# before they are loaded [onnxruntime, Privacy.md].
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
try:
    import onnxruntime as ort
except ImportError as missing:
    raise BadSettings(
        "ONNX Runtime is not installed; install the extra `cpu`: pip install 'reid-service[cpu]'"
    ) from missing

# At fp32 a CPU embeds no faster in a batch; up to eight at a time saves the thread hand-over and keeps waits short.
BATCH_SIZES = (1, 2, 4, 8)


class OnnxEmbedder:
    """One session, called by one thread at a time; one of several threads loses a quarter when several call it."""

    def __init__(
        self, path: Path, fingerprint: str, dim: int, threads: int = 0, batch_sizes: tuple[int, ...] = BATCH_SIZES
    ) -> None:
        """Open the graph. threads: 0 takes one per physical core. Raises BadModelDirectory."""
        self.last_run: RunTimes | None = None
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors only: its warnings are about graph cosmetics
        # Idle threads that spin take the core from decoding and from neighbours, and gain 4 % at most when alone.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library raises bare C++ errors of many types
            raise BadModelDirectory(f"{path.name} cannot be loaded: {str(error).splitlines()[0]}") from error
        self.fingerprint, self.dim, self.batch_sizes = fingerprint, dim, batch_sizes
        self._input, self._output = self._names(path.name)
        # A batch is normalised in here again and again: fresh memory of 3 MB costs as much as the arithmetic. One caller
        # at a time, and the library is done with it when `run` returns.
        self._planes = np.empty((batch_sizes[-1], 3, HEIGHT, WIDTH), dtype=np.float32)

    def embed(self, crops: Crops) -> Floats:
        """uint8 [n, 256, 128, 3] to raw float32 [n, dim]."""
        planes = normalise(crops, self._room_for(crops))
        started = time.perf_counter()
        try:
            (vectors,) = self._session.run([self._output], {self._input: planes})
        except Exception as error:  # as above
            raise DeviceFailed(f"ONNX Runtime: {str(error).splitlines()[0]}") from error
        took_ms = (time.perf_counter() - started) * 1000
        self.last_run = RunTimes(took_ms, took_ms)  # a CPU's memory is the host's: nothing is copied
        return cast(Floats, vectors)

    def _room_for(self, crops: Crops) -> Floats | None:
        """The buffer's part for these crops; None where they do not fit, which the graph may refuse or not."""
        fit = len(crops) <= len(self._planes) and all(crop.shape == (HEIGHT, WIDTH, 3) for crop in crops)
        return self._planes[: len(crops)] if fit else None

    def _names(self, file: str) -> tuple[str, str]:
        """Names of input and output, once it is sure that this is a graph of the kind."""
        inputs = [(value.type, value.shape[1:]) for value in self._session.get_inputs()]
        outputs = [(value.type, value.shape[1:]) for value in self._session.get_outputs()]
        if inputs != [("tensor(float)", [3, HEIGHT, WIDTH])] or outputs != [("tensor(float)", [self.dim])]:
            raise BadModelDirectory(
                f"{file} maps {inputs} to {outputs}; float32 [b, 3, {HEIGHT}, {WIDTH}] to [b, {self.dim}] is needed"
            )
        return self._session.get_inputs()[0].name, self._session.get_outputs()[0].name

    def close(self) -> None:
        """Free the session and its arena."""
        del self._session
