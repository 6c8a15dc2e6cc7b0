"""Embedder on ONNX Runtime: any CPU, float32 in, float32 out. The only file that imports onnxruntime."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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


class Sessions:
    """A graph's sessions, shared by the embedders that compute on the same cores.

    A batch that is alone has a session with all threads, which only one may call: it is over soonest. Batches side by side
    share a session of a single thread, which runs in its caller's: none waits for another's cores after each layer, so
    what else the process does costs one of them a moment and not all.
    """

    def __init__(self, path: Path, threads: int = 0, shared: bool = False) -> None:
        """Nothing is opened yet. threads: 0 takes one per physical core. shared: several embedders will use it."""
        self._path, self._threads, self._shared = path, threads, shared
        self._lock = threading.Lock()
        self._users, self._running = 0, 0
        self._alone: ort.InferenceSession | None = None
        self._beside: ort.InferenceSession | None = None

    def open(self) -> ort.InferenceSession:
        """For one more embedder: the session for a batch that is alone. Raises BadModelDirectory."""
        with self._lock:
            if self._alone is None:
                # The pair is kept when both are open: where one fails the next caller begins anew.
                beside = _session(self._path, 1) if self._shared else None
                self._alone, self._beside = _session(self._path, self._threads), beside
            self._users += 1
            return self._alone

    @contextmanager
    def one(self) -> Iterator[ort.InferenceSession]:
        """The session for a batch that begins now."""
        with self._lock:
            session = self._beside if self._running and self._beside else self._alone
            if session is None:
                raise DeviceFailed(f"{self._path.name} is closed")
            self._running += 1
        try:
            yield session
        finally:
            with self._lock:
                self._running -= 1

    def close(self) -> None:
        """One embedder less; with the last the sessions and their arenas are freed."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._alone = self._beside = None


class OnnxEmbedder:
    """Called by one thread at a time."""

    def __init__(
        self,
        path: Path,
        fingerprint: str,
        dim: int,
        threads: int = 0,
        batch_sizes: tuple[int, ...] = BATCH_SIZES,
        sessions: Sessions | None = None,
    ) -> None:
        """Open the graph. threads: 0 takes one per physical core. sessions: those of the same graph that others use too.

        Raises BadModelDirectory.
        """
        self.last_run: RunTimes | None = None
        self._sessions = sessions or Sessions(path, threads)
        session = self._sessions.open()
        self.fingerprint, self.dim, self.batch_sizes = fingerprint, dim, batch_sizes
        try:
            self._input, self._output = self._names(path.name, session)
        except BadModelDirectory:
            self._sessions.close()
            raise
        # A batch is normalised in here again and again: fresh memory of 3 MB costs as much as the arithmetic. One caller
        # at a time, and the library is done with it when `run` returns.
        self._planes = np.empty((batch_sizes[-1], 3, HEIGHT, WIDTH), dtype=np.float32)

    def embed(self, crops: Crops) -> Floats:
        """uint8 [n, 256, 128, 3] to raw float32 [n, dim]."""
        planes = normalise(crops, self._room_for(crops))
        started = time.perf_counter()
        try:
            with self._sessions.one() as session:
                (vectors,) = session.run([self._output], {self._input: planes})
        except DeviceFailed:
            raise
        except Exception as error:  # as above
            raise DeviceFailed(f"ONNX Runtime: {str(error).splitlines()[0]}") from error
        took_ms = (time.perf_counter() - started) * 1000
        self.last_run = RunTimes(took_ms, took_ms)  # a CPU's memory is the host's: nothing is copied
        return cast(Floats, vectors)

    def _room_for(self, crops: Crops) -> Floats | None:
        """The buffer's part for these crops; None where they do not fit, which the graph may refuse or not."""
        fit = len(crops) <= len(self._planes) and all(crop.shape == (HEIGHT, WIDTH, 3) for crop in crops)
        return self._planes[: len(crops)] if fit else None

    def _names(self, file: str, session: ort.InferenceSession) -> tuple[str, str]:
        """Names of input and output, once it is sure that this is a graph of the kind."""
        inputs = [(value.type, value.shape[1:]) for value in session.get_inputs()]
        outputs = [(value.type, value.shape[1:]) for value in session.get_outputs()]
        if inputs != [("tensor(float)", [3, HEIGHT, WIDTH])] or outputs != [("tensor(float)", [self.dim])]:
            raise BadModelDirectory(
                f"{file} maps {inputs} to {outputs}; float32 [b, 3, {HEIGHT}, {WIDTH}] to [b, {self.dim}] is needed"
            )
        return session.get_inputs()[0].name, session.get_outputs()[0].name

    def close(self) -> None:
        """Free the session and its arena, unless others use it too."""
        self._sessions.close()


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only: its warnings are about graph cosmetics
    # A thread that spins for 20 us after a layer is there for the next one: a lone int8 crop takes a tenth less. One that
    # spins on, as the library has it, takes the core from decoding and from neighbours, and gains nothing more.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "20")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises bare C++ errors of many types
        raise BadModelDirectory(f"{path.name} cannot be loaded: {str(error).splitlines()[0]}") from error
